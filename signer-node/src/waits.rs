//! What releases that wait were answered, for a while.
//!
//! A release that waits is asked about again every minute, and there may be thousands. Whether it is permitted now is quickly said;
//! what is missing has to be searched for, which takes a hundred times as long, and is the same as long as nothing new came.

use std::collections::{HashMap, VecDeque};

use rutli_wire::link::BatchItem;
use sha2::{Digest, Sha256};

use crate::{evidence::Examined, limits, marks::History, policy::Denied};

/// All that an answer depends on but the rules, the time and the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question([u8; 32]);

/// Answers to releases that wait. Replace it when the policies change.
#[derive(Debug, Default)]
pub struct Waits {
    answers: HashMap<Question, Denied>,
    /// Oldest first, with the Unix seconds of each.
    order: VecDeque<(u64, Question)>,
}

impl Question {
    /// Of a release of this digest, with what its documents came to.
    #[must_use]
    pub fn new(item: &BatchItem, release_digest: [u8; 32], examined: &Examined, history: &History) -> Self {
        let mut hash = Sha256::new();
        hash.update(release_digest);
        hash.update([u8::from(item.entry.as_ref().is_some_and(|entry| entry.embargo.is_some()))]);
        let previous = history.previous.as_ref();
        hash.update(previous.map_or(0, |(sequence, _)| sequence.get()).to_be_bytes());
        hash.update(Sha256::digest(previous.map_or("", |(_, version)| version.as_str())));
        hash.update([u8::from(history.version_is_new)]);
        for (document, _) in &examined.established {
            hash.update([1]);
            hash.update(document);
        }
        for note in &examined.not_counted {
            hash.update([2]);
            hash.update(note.digest);
            hash.update(Sha256::digest(&note.why));
        }
        // The only part without a length of its own: last.
        hash.update([3]);
        hash.update(item.requester.as_str());
        Self(hash.finalize().into())
    }
}

impl Waits {
    /// What was answered lately, if anything. `now` in Unix seconds.
    pub fn get(&mut self, question: &Question, now: u64) -> Option<Denied> {
        // A clock that was set back makes answers older than they are, never younger.
        let is_old = |at: u64| at > now || at.saturating_add(limits::WAIT_KEPT_S) <= now;
        while let Some((_, oldest)) = self.order.pop_front_if(|(at, _)| is_old(*at)) {
            self.answers.remove(&oldest);
        }
        self.answers.get(question).cloned()
    }

    /// Keeps an answer, if there is room: what is there is asked about as soon as what is not.
    pub fn keep(&mut self, question: Question, denied: &Denied, now: u64) {
        if self.answers.len() < limits::MAX_KNOWN_WAITS
            && self.answers.insert(question, denied.clone()).is_none()
        {
            self.order.push_back((now, question));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use rutli_evidence::Established;
    use rutli_log::{Hash, entry::Embargo};
    use rutli_release::{ReleaseId, Requester, Sequence, Version};
    use rutli_wire::link::{LoggedEntry, Refusal, RefusalCode};

    use super::*;
    use crate::{
        evidence::NotCounted,
        testing::{entry, logged, release},
    };

    fn denied() -> Denied {
        let refusal = Refusal::new(RefusalCode::EvidenceMissing, "waits");
        Denied { refusal, basis: None, refused_by: Vec::new() }
    }

    fn question(number: usize) -> Question {
        Question(Sha256::digest(number.to_be_bytes()).into())
    }

    /// What was answered to one must not be answered to another.
    #[test]
    fn all_that_an_answer_depends_on_makes_another_question() {
        let item = |requester: &str, entry| BatchItem {
            release_id: ReleaseId::new("suite-1.0-0123456789ab").unwrap(),
            requester: Requester::new(requester).unwrap(),
            release: Arc::new(release("suite", 1, 1)),
            slots: vec![0],
            commitments: Vec::new(),
            entry: Some(entry),
            evidence: Vec::new(),
        };
        let open = logged(&[entry(1)], 0);
        let embargo = Some(Embargo { salt: Hash([1; 32]), disclose_by: 9_000 });
        let hidden = item("ci", LoggedEntry { embargo, ..open.clone() });
        let (ci, other) = (item("ci", open.clone()), item("other", open));
        let after_version = |previous: u64, version: &str, version_is_new| History {
            previous: Some((Sequence::new(previous).unwrap(), Version::new(version).unwrap())),
            version_is_new,
            permitted_at: None,
        };
        let after = |previous: u64| after_version(previous, "1.0", true);
        let counted = |documents: &[u8]| Examined {
            not_seen: 0,
            established: documents
                .iter()
                .map(|number| ([*number; 32], Established::Approval { custodian: "anna".into() }))
                .collect(),
            not_counted: Vec::new(),
        };
        let not_counted = |number: u8, why: &str| Examined {
            not_seen: 0,
            established: Vec::new(),
            not_counted: vec![NotCounted { digest: [number; 32], kind: None, why: why.into() }],
        };
        let none = counted(&[]);
        let questions = [
            Question::new(&ci, [1; 32], &none, &after(1)),
            Question::new(&ci, [2; 32], &none, &after(1)),
            Question::new(&hidden, [1; 32], &none, &after(1)),
            Question::new(&other, [1; 32], &none, &after(1)),
            Question::new(&ci, [1; 32], &none, &after(2)),
            Question::new(&ci, [1; 32], &none, &after_version(1, "1.1", true)),
            Question::new(&ci, [1; 32], &none, &after_version(1, "1.0", false)),
            Question::new(&ci, [1; 32], &counted(&[7]), &after(1)),
            Question::new(&ci, [1; 32], &counted(&[8]), &after(1)),
            Question::new(&ci, [1; 32], &counted(&[7, 8]), &after(1)),
            Question::new(&ci, [1; 32], &not_counted(7, "revoked"), &after(1)),
            Question::new(&ci, [1; 32], &not_counted(8, "revoked"), &after(1)),
            Question::new(&ci, [1; 32], &not_counted(7, "expired"), &after(1)),
        ];
        assert_eq!(questions.iter().collect::<HashSet<_>>().len(), questions.len());
    }

    #[test]
    fn an_answer_holds_for_a_while() {
        let mut waits = Waits::default();
        assert_eq!(waits.get(&question(1), 1_000), None);
        waits.keep(question(1), &denied(), 1_000);
        assert_eq!(waits.get(&question(1), 1_000 + limits::WAIT_KEPT_S - 1), Some(denied()));
        assert_eq!(waits.get(&question(2), 1_000), None);
        assert_eq!(waits.get(&question(1), 1_000 + limits::WAIT_KEPT_S), None);
        waits.keep(question(1), &denied(), 2_000);
        assert_eq!(waits.get(&question(1), 1_999), None, "the clock went back");
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut waits = Waits::default();
        (0..=limits::MAX_KNOWN_WAITS).for_each(|number| waits.keep(question(number), &denied(), 1_000));
        assert_eq!(
            (waits.answers.len(), waits.order.len()),
            (limits::MAX_KNOWN_WAITS, limits::MAX_KNOWN_WAITS)
        );
        assert_eq!(waits.get(&question(limits::MAX_KNOWN_WAITS), 1_000), None);
        waits.get(&question(0), 1_000 + limits::WAIT_KEPT_S);
        assert_eq!((waits.answers.len(), waits.order.len()), (0, 0));
    }
}
