//! How old a checkpoint is, by the clocks of those who cosigned it: without that a reader could be shown an old one for ever.

use super::{Policy, Quorum, Rule};
use crate::checkpoint::SignedCheckpoint;

impl Policy {
    /// The newest time at or after which a whole quorum cosigned, in Unix seconds; `None` if none did, or none is asked for.
    /// What was cosigned after `latest` does not count: a clock that is wrong must not make a checkpoint young.
    #[must_use]
    pub fn cosigned_at(&self, checkpoint: &SignedCheckpoint, latest: u64) -> Option<u64> {
        let Quorum::Member(quorum) = self.quorum else { return None };
        let mut times: Vec<Option<u64>> = Vec::with_capacity(self.members.len());
        for member in &self.members {
            times.push(match &member.rule {
                Rule::Witness { cosigner, .. } => {
                    let cosignature = checkpoint.cosignature(cosigner).ok().flatten();
                    cosignature.map(|cosignature| cosignature.time).filter(|time| *time <= latest)
                }
                Rule::Group { threshold, members } => {
                    let mut of: Vec<u64> =
                        members.iter().filter_map(|place| times.get(*place).copied().flatten()).collect();
                    of.sort_unstable_by(|a, b| b.cmp(a));
                    threshold.checked_sub(1).and_then(|last| of.get(last)).copied()
                }
            });
        }
        times.get(quorum).copied().flatten()
    }

    /// Whether it asks for cosignatures at all.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.quorum != Quorum::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::{Head, LogSigner, Origin},
        cosignature::{Cosignature, Cosigner, cosigned_message},
        hash::sha256,
    };
    use ed25519_dalek::{Signer as _, SigningKey};

    fn secret(name: &str) -> SigningKey {
        SigningKey::from_bytes(&sha256(name.as_bytes()).0)
    }

    fn cosigner(name: &str) -> Cosigner {
        Cosigner::new(name, secret(name).verifying_key().as_bytes()).unwrap()
    }

    #[test]
    fn a_checkpoint_is_as_old_as_the_newest_quorum_for_it() {
        let log = LogSigner::from_bytes(Origin::new("log.example/2026").unwrap(), &[1; 32]);
        let group = |name: &str, threshold, nodes: &[&str]| {
            (name.to_owned(), threshold, nodes.iter().map(|node| cosigner(node)).collect())
        };
        let policy =
            Policy::of(log.public(), [group("v", 2, &["a", "b", "c"]), group("r", 1, &["x", "y"])]).unwrap();
        let at = |times: &[(&str, u64)]| {
            let mut checkpoint = log.sign(Head { size: 7, root: sha256(b"root") });
            for (name, time) in times {
                let signature = secret(name).sign(&cosigned_message(*time, &checkpoint.text())).to_bytes();
                let cosignature = Cosignature { time: *time, signature };
                checkpoint.add_cosignature(&cosigner(name), &cosignature).unwrap();
            }
            checkpoint
        };
        for (times, expected) in [
            (&[("a", 5), ("b", 7), ("c", 9), ("x", 8)][..], Some(7)),
            (&[("a", 5), ("b", 7), ("c", 9), ("x", 6), ("y", 4)], Some(6)),
            (&[("a", 5), ("b", 7), ("x", 50)], Some(5)),
            // Those of the future do not count.
            (&[("a", 5), ("b", 200), ("c", 300), ("x", 50)], None),
            (&[("a", 5), ("b", 7), ("c", 101), ("x", 100)], Some(5)),
            (&[("a", 5), ("b", 7), ("c", 9)], None),
        ] {
            assert_eq!(policy.cosigned_at(&at(times), 100), expected, "{times:?}");
        }
        assert!(policy.has_quorum());
        let none: Policy = format!("log {}\nquorum none\n", log.public()).parse().unwrap();
        assert!(!none.has_quorum());
        assert_eq!(none.cosigned_at(&at(&[("a", 5)]), 100), None);
    }
}
