//! What a release waits for, and from whom.

use std::{collections::BTreeSet, path::Path};

use rutli_keys::NodeId;
use rutli_wire::{
    link::RefusalCode,
    v1::{self, ReleaseState},
};
use serde_json::{Value, json};

use crate::text;

/// One thing that a release waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// `organisation/node` that wants it; `None` where nobody in particular does.
    pub node: Option<NodeId>,
    /// The organisation, where it is known.
    pub organisation: Option<String>,
    /// `evidence-missing` or `not-yet`; `None` for nodes that are not at hand.
    pub code: Option<RefusalCode>,
    /// For a person, printable.
    pub what: String,
}

/// What a release waits for. For evidence the nodes' typed answers say it, for a quorum the coordinator's words.
#[must_use]
pub fn wants(release: &v1::Release) -> Vec<Want> {
    let answers = release.refusals.iter().filter_map(|refusal| {
        let code = RefusalCode::parse(&refusal.code).filter(|code| code.waits())?;
        let node: Option<NodeId> = refusal.node.parse().ok();
        let organisation = node.as_ref().map(|node| node.organisation.to_string());
        Some(Want { node, organisation, code: Some(code), what: text::printable(&refusal.reason) })
    });
    let wants: Vec<_> = match release.state() {
        ReleaseState::AwaitingEvidence => answers.collect(),
        _ => Vec::new(),
    };
    if wants.is_empty() { release.waiting_for.iter().map(|line| in_words(line)).collect() } else { wants }
}

/// What is missing, by whom it is wanted, and how it goes on, by the folder of rules that was given; `None` for a release that does not wait for evidence.
#[must_use]
pub fn advice(release: &v1::Release, trust: Option<&Path>) -> Option<String> {
    if release.state() != ReleaseState::AwaitingEvidence {
        return None;
    }
    let id = text::printable(&release.release_id);
    let wants = wants(release);
    let lines: String = wants.iter().map(|want| format!("  {}\n", line(want))).collect();
    let evidence = wants.iter().any(|want| want.code != Some(RefusalCode::NotYet));
    let way_out = if evidence {
        format!(
            "it goes on by itself once that is there:\n  \
             rutli evidence add {id} FILE…    adds an attestation\n  \
             rutli approve {id} --key KEY{trust}     adds a custodian's approval",
            trust = with_trust(trust)
        )
    } else {
        "it goes on by itself; nothing is to be done".to_owned()
    };
    Some(format!("release {id} waits for\n{lines}{way_out}"))
}

/// How a command goes on by the folder of rules that was given.
#[must_use]
pub fn with_trust(folder: Option<&Path>) -> String {
    folder.map(|folder| format!(" --trust {}", folder.display())).unwrap_or_default()
}

/// One line about one want.
#[must_use]
pub fn line(want: &Want) -> String {
    match (&want.node, want.code) {
        (Some(node), Some(code)) => {
            format!("organisation {}, node {} ({code}): {}", node.organisation, node.node, want.what)
        }
        _ => want.what.clone(),
    }
}

/// For a column: the organisations that want something, and for what is no organisation's own word the words.
#[must_use]
pub fn whose(release: &v1::Release) -> String {
    let all = wants(release).into_iter().map(|want| want.organisation.unwrap_or(want.what));
    let each: BTreeSet<String> = all.collect();
    text::list(&Vec::from_iter(each))
}

/// For programs.
#[must_use]
pub fn to_json(wants: &[Want]) -> Value {
    let each = wants.iter().map(|want| {
        json!({
            "node": want.node.as_ref().map(ToString::to_string),
            "organisation": want.organisation,
            "code": want.code.map(RefusalCode::as_str),
            "what": want.what,
        })
    });
    each.collect()
}

/// `organisation X: 0 of 1 nodes at hand …`, or `X/node: …`.
fn in_words(line: &str) -> Want {
    let subject = line.split_once(": ").map(|(subject, _)| subject);
    let node: Option<NodeId> = subject.and_then(|subject| subject.parse().ok());
    let organisation = match &node {
        Some(node) => Some(node.organisation.to_string()),
        None => subject.and_then(|subject| subject.strip_prefix("organisation ")).map(text::printable),
    };
    Want { node, organisation, code: None, what: text::printable(line) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn waiting() -> v1::Release {
        let refusal = |node: &str, code: &str, reason: &str| v1::Refusal {
            node: node.to_owned(),
            code: code.to_owned(),
            reason: reason.to_owned(),
        };
        v1::Release {
            release_id: "suite-1.2-0123456789ab".to_owned(),
            state: ReleaseState::AwaitingEvidence.into(),
            waiting_for: vec!["supervisor/supervisor-1: a rebuild by one of: sup\u{1b}[2J".to_owned()],
            refusals: vec![
                refusal("supervisor/supervisor-1", "evidence-missing", "a rebuild by one of: sup\u{1b}[2J"),
                refusal("vendor/vendor-1", "not-allowed", "no rule"),
            ],
            ..v1::Release::default()
        }
    }

    #[test]
    fn a_column_names_organisations_once() {
        let mut release = waiting();
        assert_eq!(whose(&release), "supervisor");
        release.state = ReleaseState::AwaitingQuorum.into();
        release.waiting_for =
            ["a", "b"].map(|org| format!("organisation {org}: 0 of 1 nodes at hand")).to_vec();
        assert_eq!(whose(&release), "a, b");
        assert_eq!(whose(&v1::Release::default()), "–");
    }

    #[test]
    fn the_nodes_answers_say_what_is_missing_from_whom_and_how_it_goes_on() {
        let release = waiting();
        let wants = wants(&release);
        assert_eq!(wants.len(), 1, "a node that refused does not wait");
        assert_eq!(wants[0].organisation.as_deref(), Some("supervisor"));
        let text = advice(&release, None).unwrap();
        assert!(text.contains("organisation supervisor, node supervisor-1 (evidence-missing): a rebuild by one of: sup\u{fffd}"), "{text}");
        assert!(text.contains("rutli evidence add suite-1.2-0123456789ab FILE"), "{text}");
        assert!(text.contains("rutli approve suite-1.2-0123456789ab --key KEY  "), "{text}");
        let text = advice(&release, Some(Path::new("/etc/rutli/policy"))).unwrap();
        assert!(text.contains("--key KEY --trust /etc/rutli/policy  "), "{text}");
        let mut later = release.clone();
        later.refusals[0].code = "not-yet".to_owned();
        assert!(!advice(&later, None).unwrap().contains("evidence add"));
        let signing = v1::Release { state: ReleaseState::Signing.into(), ..release };
        assert_eq!(advice(&signing, None), None);
    }

    #[test]
    fn a_quorum_is_of_an_organisation() {
        let release = v1::Release {
            state: ReleaseState::AwaitingQuorum.into(),
            waiting_for: vec!["organisation supervisor: 0 of 1 nodes at hand".to_owned(), "a key".to_owned()],
            ..v1::Release::default()
        };
        let wants = wants(&release);
        assert_eq!(wants[0].organisation.as_deref(), Some("supervisor"));
        assert_eq!((wants[1].organisation.as_deref(), wants[1].what.as_str()), (None, "a key"));
        assert_eq!(to_json(&wants)[0]["organisation"], "supervisor");
    }
}
