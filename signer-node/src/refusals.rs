//! Releases that a trusted custodian refused. Whoever takes the refusal away afterwards gets nothing all the same.
//!
//! What was refused is a statement: the same one is refused whatever it is called and in whichever formats it is asked for. Who asks
//! anew, after the custodian was spoken to, asks with another `issuedAt`, and so for another statement.

use std::collections::{HashMap, VecDeque};

use rutli_wire::link::{Refusal, RefusalCode};

use crate::limits;

/// A custodian's refusal that this node verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodianRefusal {
    /// SHA-256 of the statement that was refused.
    pub statement: [u8; 32],
    /// Whose refusal: the name in the allowed-signers file.
    pub custodian: String,
    /// Why, in one printable line.
    pub reason: String,
    /// SHA-256 of the document.
    pub document: [u8; 32],
}

/// What custodians refused: of the newest [`limits::MAX_CUSTODIAN_REFUSALS`] statements the first refusal.
#[derive(Debug, Default)]
pub struct Refusals {
    kept: HashMap<[u8; 32], Kept>,
    /// Oldest first.
    order: VecDeque<[u8; 32]>,
}

#[derive(Debug)]
struct Kept {
    refusal: CustodianRefusal,
    durable: bool,
}

impl Refusals {
    /// From the journal, oldest first.
    pub fn from_rows(rows: impl IntoIterator<Item = CustodianRefusal>) -> Self {
        let mut refusals = Self::default();
        rows.into_iter().for_each(|refusal| refusals.insert(refusal, true));
        refusals
    }

    /// Whether a statement was refused, and by whom; and whether the journal has that. As long as it has not, it must be
    /// written again.
    #[must_use]
    pub fn get(&self, statement: &[u8; 32]) -> Option<(&CustodianRefusal, bool)> {
        self.kept.get(statement).map(|kept| (&kept.refusal, kept.durable))
    }

    /// From now on it is refused. It is durable once [`Refusals::settle`] says so.
    pub fn remember(&mut self, refusal: CustodianRefusal) {
        self.insert(refusal, false);
    }

    /// The journal has it.
    pub fn settle(&mut self, statement: &[u8; 32]) {
        if let Some(kept) = self.kept.get_mut(statement) {
            kept.durable = true;
        }
    }

    fn insert(&mut self, refusal: CustodianRefusal, durable: bool) {
        let statement = refusal.statement;
        if self.kept.contains_key(&statement) {
            return;
        }
        self.kept.insert(statement, Kept { refusal, durable });
        self.order.push_back(statement);
        if self.order.len() > limits::MAX_CUSTODIAN_REFUSALS
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
        }
    }
}

impl CustodianRefusal {
    /// What is answered from then on.
    #[must_use]
    pub fn answer(&self) -> Refusal {
        let Self { custodian, reason, .. } = self;
        Refusal::new(
            RefusalCode::CustodianRefused,
            format!(
                "the custodian {custodian} refused it for good: {reason}; speak to {custodian}, and ask for a new release"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(number: u32) -> CustodianRefusal {
        let mut statement = [0; 32];
        statement[..4].copy_from_slice(&number.to_be_bytes());
        CustodianRefusal { statement, custodian: "anna".into(), reason: "no".into(), document: [1; 32] }
    }

    #[test]
    fn the_first_refusal_stays_and_is_written_until_it_is_durable() {
        let mut refusals = Refusals::default();
        refusals.remember(refusal(1));
        refusals.remember(CustodianRefusal { custodian: "beat".into(), ..refusal(1) });
        let statement = refusal(1).statement;
        assert_eq!(refusals.get(&statement), Some((&refusal(1), false)));
        refusals.settle(&statement);
        assert_eq!(refusals.get(&statement), Some((&refusal(1), true)));
        assert_eq!(refusals.get(&refusal(2).statement), None);
    }

    #[test]
    fn the_newest_are_kept() {
        let most = u32::try_from(limits::MAX_CUSTODIAN_REFUSALS).unwrap();
        let refusals = Refusals::from_rows((0..most + 2).map(refusal));
        assert_eq!(refusals.kept.len(), limits::MAX_CUSTODIAN_REFUSALS);
        assert!(refusals.get(&refusal(1).statement).is_none());
        assert!(refusals.get(&refusal(2).statement).is_some_and(|(_, durable)| durable));
    }
}
