//! `rutli pending`: the releases that wait, and whom they wait for.

use std::collections::BTreeSet;

use rutli_keys::NodeId;
use rutli_wire::v1::{self, ReleaseState};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    cli, client,
    clock::unix_now,
    releases::{self, Filter},
    report::{Failure, Report},
    text, waits,
};

/// The states in which a release waits for somebody, in the order in which a custodian wants them.
const WAITING: [ReleaseState; 3] =
    [ReleaseState::AwaitingEvidence, ReleaseState::AwaitingQuorum, ReleaseState::Queued];

/// `rutli pending`
///
/// # Errors
/// What the coordinator answers.
pub async fn run(channel: Channel, args: cli::Pending) -> Result<Report, Failure> {
    let organisation = args.organisation.as_ref().map(|name| name.as_str());
    let wanted = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut waiting = Vec::new();
    for state in WAITING {
        let filter = Filter { state: Some(state), ..Filter::default() };
        // Its state may have changed since it was asked for.
        let waits = |release: &v1::Release| {
            release.state() == state && organisation.is_none_or(|name| waits_for(release, name))
        };
        let room = wanted.saturating_sub(waiting.len());
        waiting.extend(releases::pages(channel.clone(), &filter, room, waits).await?);
    }
    let nobody = match (organisation, waiting.is_empty()) {
        (Some(name), true) => nothing_for(name, &organisations(channel).await),
        _ => "nothing waits".to_owned(),
    };
    Ok(report(&waiting, unix_now(), nobody))
}

/// The organisations whose nodes the coordinator knows. Nothing where it does not say: not each role may ask.
async fn organisations(channel: Channel) -> BTreeSet<String> {
    let answer = client::nodes(channel).list_nodes(v1::ListNodesRequest {}).await;
    let nodes = answer.map(|answer| answer.into_inner().nodes).unwrap_or_default();
    nodes
        .iter()
        .filter_map(|node| node.node.parse::<NodeId>().ok())
        .map(|node| node.organisation.to_string())
        .collect()
}

/// For whom nothing waits may be a name with a mistake in it, and then something does.
fn nothing_for(organisation: &str, known: &BTreeSet<String>) -> String {
    let nothing = format!("nothing waits for an organisation of the name {organisation}");
    if known.is_empty() || known.contains(organisation) {
        return nothing;
    }
    let known: Vec<&String> = known.iter().collect();
    format!("{nothing}; no node of one is known here, but nodes of: {}", text::list(&known))
}

fn waits_for(release: &v1::Release, organisation: &str) -> bool {
    waits::wants(release).iter().any(|want| want.organisation.as_deref() == Some(organisation))
}

/// `nothing` is what is said where nothing waits.
fn report(waiting: &[v1::Release], now: u64, nothing: impl Into<String>) -> Report {
    let json = json!({ "releases": waiting.iter().map(|release| entry(release, now)).collect::<Vec<_>>() });
    if waiting.is_empty() {
        return Report::new(nothing, json);
    }
    let each: Vec<_> = waiting.iter().map(|release| describe(release, now)).collect();
    Report::new(each.join("\n\n"), json)
}

fn describe(release: &v1::Release, now: u64) -> String {
    let content = release.content.clone().unwrap_or_default();
    let wants: Vec<_> = waits::wants(release).iter().map(waits::line).collect();
    let expires = match content.expires_at {
        0 => "never, unless the coordinator gives it up".to_owned(),
        time => text::time(time),
    };
    text::fields([
        ("release", text::printable(&release.release_id)),
        ("state", releases::state_word(release.state).to_owned()),
        (
            "product",
            format!(
                "{} {}, channel {}, sequence {}",
                text::printable(&content.product),
                text::printable(&content.version),
                text::printable(&content.channel),
                content.sequence
            ),
        ),
        ("age", text::duration(now.saturating_sub(release.created_at))),
        ("expires", expires),
        ("waits for", if wants.is_empty() { "its turn".to_owned() } else { wants.join("\n") }),
    ])
}

fn entry(release: &v1::Release, now: u64) -> Value {
    let mut json = releases::to_json(release);
    if let Value::Object(fields) = &mut json {
        // Nobody wants a list of thousands of files here; `review` has it.
        fields.remove("artifacts");
        fields.insert("age".to_owned(), json!(now.saturating_sub(release.created_at)));
        fields.insert("wants".to_owned(), waits::to_json(&waits::wants(release)));
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{releases::tests::signed, waits::tests::waiting};

    #[test]
    fn what_waits_is_told_with_its_age_and_from_whom() {
        let release = v1::Release { created_at: 1_000, content: signed(&[]).content, ..waiting() };
        let told = report(std::slice::from_ref(&release), 1_000 + 3 * 3_600 + 125, "nothing waits");
        for said in [
            "awaiting-evidence",
            "x 1, channel stable, sequence 1",
            "3 h 2 min",
            "organisation supervisor, node supervisor-1",
        ] {
            assert!(told.text.contains(said), "{}", told.text);
        }
        let json = &told.json["releases"][0];
        assert_eq!(
            (json["age"].as_u64(), json["wants"][0]["organisation"].as_str()),
            (Some(10_925), Some("supervisor"))
        );
        assert!(json.get("artifacts").is_none());
        assert!(waits_for(&release, "supervisor") && !waits_for(&release, "vendor"));
        assert_eq!(report(&[], 0, "nothing waits").text, "nothing waits");
    }

    #[test]
    fn an_organisation_that_nobody_knows_is_told_with_those_that_are_known() {
        let known = BTreeSet::from(["supervisor".to_owned(), "vendor".to_owned()]);
        let nothing = "nothing waits for an organisation of the name";
        assert_eq!(nothing_for("vendor", &known), format!("{nothing} vendor"));
        assert_eq!(nothing_for("superviser", &BTreeSet::new()), format!("{nothing} superviser"));
        assert!(nothing_for("superviser", &known).ends_with("but nodes of: supervisor, vendor"));
    }
}
