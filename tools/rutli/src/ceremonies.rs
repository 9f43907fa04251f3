//! Key ceremonies: what a custodian does at the own node's socket, and how everybody follows.
//!
//! The output comes from the proposal itself, which is read and hashed here, and not from what somebody says
//! about it. The custodian's own node computes the verification phrase, from the proposal and a nonce of each
//! member.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::Path,
    time::Duration,
};

use rutli_keys::ceremony::{Proposal, SignedProposal};
use rutli_wire::v1::{self, CeremonyState};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    cli, client, files, releases,
    report::{Failure, Report},
    status, text,
};

/// How often a ceremony is looked at while one follows it: people make its steps, and a restarted node or coordinator
/// is met again without ado.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// How long to wait for a phrase: nodes that are online know it within a second.
const PHRASE_PATIENCE: Duration = Duration::from_secs(15);

/// Where one asks.
#[derive(Clone, Debug)]
pub enum Place {
    /// The coordinator.
    Coordinator(Channel),
    /// A node, at its custodian's socket.
    Node(Channel),
}

impl Place {
    /// Whether it knows who is connected: a node knows of no link but its own.
    fn knows_links(&self) -> bool {
        matches!(self, Self::Coordinator(_))
    }
}

/// The commands of `rutli ceremony`.
///
/// # Errors
/// What the other side answers; exit code 1 for a ceremony that was aborted, 4 when time is up.
pub async fn run(command: cli::Ceremony, place: &Place) -> Result<Report, Failure> {
    use cli::Ceremony::{Abort, Join, List, Propose, Reject, Show, Status, Watch};
    match command {
        Propose { proposal, lone } => propose(place, &proposal, lone).await,
        Join { ceremony, words } => join(place, ceremony, words).await,
        Reject { ceremony, reason } => end(place, ceremony, reason, End::Reject).await,
        Abort { ceremony, reason } => end(place, ceremony, reason, End::Abort).await,
        List => list(place).await,
        Show { ceremony } => {
            let ceremony = find(place, ceremony, Wanted::Any).await?;
            Ok(Report::new(describe(place, &ceremony), to_json(place, &ceremony)))
        }
        Status { ceremony } => {
            let ceremony = find(place, ceremony, Wanted::Any).await?;
            Ok(Report::new(describe_briefly(&ceremony), to_json(place, &ceremony)))
        }
        Watch { ceremony, timeout } => {
            let ceremony = find(place, ceremony, Wanted::Any).await?;
            watch(place, &ceremony.ceremony_id, timeout).await
        }
    }
}

/// Signs a proposal with the node's identity, and sends it to all. The node joins once the phrase is known.
///
/// # Errors
/// What the node answers.
pub async fn propose(place: &Place, path: &Path, lone: bool) -> Result<Report, Failure> {
    let mut proposal = files::read(path)?;
    if lone {
        // The node reports what is wrong with it.
        if let Ok(Value::Object(mut written)) = serde_json::from_slice(&proposal) {
            written.insert("lone".to_owned(), Value::Bool(true));
            proposal = Value::Object(written).to_string().into_bytes();
        }
    }
    let request = v1::ProposeCeremonyRequest { proposal };
    let ceremony =
        node(place)?.propose_ceremony(request).await.map_err(|status| status::failure(&status))?.into_inner();
    let text = format!(
        "{}\n\nProposed. This node joins by itself. The other custodians compare the verification phrase, which `rutli \
         ceremony show` prints once all nodes are online, and join with `rutli ceremony join`.",
        describe(place, &ceremony)
    );
    Ok(Report::new(text, to_json(place, &ceremony)))
}

/// The ceremony once its verification phrase is known, which takes all nodes online and unsealed.
///
/// # Errors
/// What the place answers; exit code 4 when the phrase is not known in time, 1 when the ceremony has ended.
pub async fn with_phrase(place: &Place, id: &str) -> Result<v1::Ceremony, Failure> {
    let known = async {
        loop {
            let ceremony = get(place, id).await.map_err(|status| status::failure(&status))?;
            if !ceremony.words.is_empty() {
                return Ok(ceremony);
            }
            if is_final(&ceremony) {
                return Err(Failure::failed(format!("the ceremony is over: {}", describe_state(&ceremony)))
                    .help("propose a new one")
                    .with(to_json(place, &ceremony)));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    match releases::within(Some(PHRASE_PATIENCE), known).await {
        Some(known) => known,
        None => {
            let ceremony = get(place, id).await.map_err(|status| status::failure(&status))?;
            Err(Failure::waiting(format!("no verification phrase yet: {}", describe_state(&ceremony)))
                .help("every node must be online and unsealed; then join again")
                .with(to_json(place, &ceremony)))
        }
    }
}

/// Joins a ceremony. Without `words`, asks on the terminal whether they match.
///
/// # Errors
/// What the node answers; a phrase that does not match; see [`with_phrase`].
pub async fn join(place: &Place, wanted: Option<String>, words: Option<String>) -> Result<Report, Failure> {
    let mut node = node(place)?;
    let ceremony = find(place, wanted, Wanted::UnderWay).await?;
    let ceremony = with_phrase(place, &ceremony.ceremony_id).await?;
    let proposal = read_proposal(&ceremony)?;
    // The phrase covers every node's nonce, and so it is the own node that computes it.
    let own_words = text::printable(&ceremony.words);
    let words = match words {
        Some(words) => words,
        None => {
            eprintln!("{}\n", describe(place, &ceremony));
            for warning in proposal.warnings() {
                eprintln!("warning: {}", text::printable(&warning));
            }
            confirm(&own_words, &proposal.rule())?;
            own_words.clone()
        }
    };
    if !words.split_whitespace().map(str::to_lowercase).eq(own_words.split_whitespace().map(str::to_owned)) {
        return Err(Failure::failed(format!(
            "the verification phrase does not match: this node sees {own_words:?}"
        ))
        .help("do not join: somebody sees another ceremony; find out who, and reject it")
        .with(to_json(place, &ceremony)));
    }
    let request = v1::JoinCeremonyRequest { ceremony_id: ceremony.ceremony_id, words: own_words };
    let ceremony = node.join_ceremony(request).await.map_err(|status| status::failure(&status))?.into_inner();
    Ok(Report::new(describe_state(&ceremony), to_json(place, &ceremony)))
}

/// `rutli ceremony watch`: the ceremony once it is final, with what happens meanwhile on stderr.
///
/// # Errors
/// Exit code 1 when it was aborted, 4 when time is up.
pub async fn watch(place: &Place, id: &str, timeout: Option<Duration>) -> Result<Report, Failure> {
    let following = follow(place, id, |ceremony| eprintln!("{}", describe_state(ceremony)));
    let ceremony = releases::within(timeout, following).await.ok_or_else(|| {
        Failure::waiting("time is up: the ceremony is not final yet").help("it goes on; watch it again later")
    })??;
    done_or_failure(place, &ceremony)?;
    Ok(Report::new(describe(place, &ceremony), to_json(place, &ceremony)))
}

/// Follows a ceremony until it is final, over restarts of whom one asks.
///
/// # Errors
/// Whatever does not pass by waiting.
pub async fn follow(
    place: &Place,
    id: &str,
    mut on_change: impl FnMut(&v1::Ceremony),
) -> Result<v1::Ceremony, Failure> {
    let mut last = None;
    loop {
        match get(place, id).await {
            Ok(ceremony) if is_final(&ceremony) => return Ok(ceremony),
            Ok(ceremony) if last.as_ref() != Some(&ceremony) => {
                on_change(&ceremony);
                last = Some(ceremony);
            }
            Ok(_) => {}
            // It went away for a moment.
            Err(status) if status::is_passing(&status) => {}
            Err(status) => return Err(status::failure(&status)),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Nothing for a ceremony that made its keys; else how it ended, as a failure.
///
/// # Errors
/// Exit code 1.
pub fn done_or_failure(place: &Place, ceremony: &v1::Ceremony) -> Result<(), Failure> {
    if ceremony.state == i32::from(CeremonyState::Done) {
        return Ok(());
    }
    Err(Failure::failed(format!("the ceremony ended without keys: {}", describe_state(ceremony)))
        .help("clear the reason, then propose it again")
        .with(to_json(place, ceremony)))
}

/// All ceremonies that a place knows.
///
/// # Errors
/// What it answers.
pub async fn all(place: &Place) -> Result<Vec<v1::Ceremony>, Failure> {
    let request = v1::ListCeremoniesRequest {};
    let answer = match place {
        Place::Coordinator(channel) => client::ceremonies(channel.clone()).list_ceremonies(request).await,
        Place::Node(channel) => client::custodian(channel.clone()).list_ceremonies(request).await,
    };
    Ok(answer.map_err(|status| status::failure(&status))?.into_inner().ceremonies)
}

/// A ceremony for programs. A node knows of no link but its own, so `connected` is null there.
#[must_use]
pub fn to_json(place: &Place, ceremony: &v1::Ceremony) -> Value {
    let proposal: Value = serde_json::from_slice(&ceremony.proposal).unwrap_or(Value::Null);
    json!({
        "ceremony_id": ceremony.ceremony_id,
        "words": ceremony.words,
        "state": state_word(ceremony.state),
        "proposal": proposal,
        "proposer": ceremony.proposer,
        "nodes": ceremony.nodes.iter().map(|node| json!({
            "node": node.node,
            "step": node.step,
            "connected": place.knows_links().then_some(node.connected),
        })).collect::<Vec<_>>(),
        "deadline": ceremony.deadline,
        "reason": ceremony.reason,
        "culprits": ceremony.culprits,
        "waiting_for": ceremony.waiting_for,
        "keys": ceremony.keys.iter().map(|key| json!({
            "name": key.name,
            "purpose": key.purpose,
            "public_key": hex::encode(&key.public_key),
            "roster_hash": hex::encode(&key.roster_hash),
            "words": key.words,
        })).collect::<Vec<_>>(),
    })
}

#[derive(Clone, Copy)]
enum End {
    Reject,
    Abort,
}

async fn end(place: &Place, wanted: Option<String>, reason: String, how: End) -> Result<Report, Failure> {
    let mut node = node(place)?;
    let ceremony = find(place, wanted, Wanted::UnderWay).await?;
    let request = v1::RejectCeremonyRequest { ceremony_id: ceremony.ceremony_id, reason };
    let answer = match how {
        End::Reject => node.reject_ceremony(request).await,
        End::Abort => node.abort_ceremony(request).await,
    };
    let ceremony = answer.map_err(|status| status::failure(&status))?.into_inner();
    Ok(Report::new(describe_state(&ceremony), to_json(place, &ceremony)))
}

async fn list(place: &Place) -> Result<Report, Failure> {
    let ceremonies = all(place).await?;
    let json = json!({ "ceremonies": ceremonies.iter().map(|ceremony| to_json(place, ceremony)).collect::<Vec<_>>() });
    if ceremonies.is_empty() {
        return Ok(Report::new("no ceremonies", json));
    }
    let rows = ceremonies.iter().map(|ceremony| {
        vec![
            short(&ceremony.ceremony_id),
            name_or_unknown(ceremony),
            state_word(ceremony.state).to_owned(),
            text::printable(&ceremony.proposer),
            text::time(ceremony.deadline),
            text::list(&ceremony.waiting_for),
        ]
    });
    Ok(Report::new(
        text::columns(&["CEREMONY", "NAME", "STATE", "PROPOSED BY", "UNTIL", "WAITING FOR"], rows),
        json,
    ))
}

async fn get(place: &Place, id: &str) -> Result<v1::Ceremony, tonic::Status> {
    let request = v1::GetCeremonyRequest { ceremony_id: id.to_owned() };
    let answer = match place {
        Place::Coordinator(channel) => client::ceremonies(channel.clone()).get_ceremony(request).await,
        Place::Node(channel) => client::custodian(channel.clone()).get_ceremony(request).await,
    };
    Ok(answer?.into_inner())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    UnderWay,
    Any,
}

/// The ceremony whose id begins so; without one the only one under way, or, where any will do, the newest.
async fn find(place: &Place, wanted: Option<String>, which: Wanted) -> Result<v1::Ceremony, Failure> {
    pick(all(place).await?, wanted, which)
}

fn pick(
    ceremonies: Vec<v1::Ceremony>,
    wanted: Option<String>,
    which: Wanted,
) -> Result<v1::Ceremony, Failure> {
    let matching = |ceremony: &v1::Ceremony| match &wanted {
        Some(prefix) => ceremony.ceremony_id.starts_with(&prefix.to_lowercase()),
        None => !is_final(ceremony),
    };
    let (mut found, others): (Vec<_>, Vec<_>) = ceremonies.into_iter().partition(matching);
    match (found.len(), &wanted) {
        (1, _) => {}
        (0, None) if which == Wanted::Any && !others.is_empty() => {
            // A deadline lies in a ceremony's future: the newest one has the latest.
            found = others.into_iter().max_by_key(|ceremony| ceremony.deadline).into_iter().collect();
        }
        (0, None) => {
            return Err(
                Failure::failed("no ceremony is under way").help("propose one with `rutli ceremony propose`")
            );
        }
        (0, Some(prefix)) => {
            return Err(Failure::failed(format!("no ceremony begins with {prefix:?}"))
                .help("`rutli ceremony list` shows them"));
        }
        _ => {
            return Err(Failure::usage(format!(
                "{}: {}",
                if wanted.is_some() {
                    "several ceremonies begin so"
                } else {
                    "several ceremonies are under way"
                },
                text::list(&ids(&found))
            ))
            .help(if wanted.is_some() {
                "give more of its id"
            } else {
                "give the id of the one that is meant"
            }));
        }
    }
    found.pop().ok_or_else(|| Failure::failed("no such ceremony"))
}

fn ids(ceremonies: &[v1::Ceremony]) -> Vec<String> {
    ceremonies.iter().map(|ceremony| short(&ceremony.ceremony_id)).collect()
}

fn node(place: &Place) -> Result<v1::custodian_service_client::CustodianServiceClient<Channel>, Failure> {
    match place {
        Place::Node(channel) => Ok(client::custodian(channel.clone())),
        Place::Coordinator(_) => Err(Failure::usage("this is for the custodian of a node")
            .help("give the node's socket with --socket PATH")),
    }
}

/// Asks the custodian, who alone can compare with the others.
fn confirm(words: &str, rule: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "the verification phrase must be compared before joining, and stdin is not a terminal",
        )
        .help("give the phrase that the other custodians read with --words \"…\""));
    }
    eprint!(
        "Do all other custodians see this phrase and this rule?\n\n    {words}\n    {rule}\n\nType yes to join: "
    );
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::usage(format!("cannot read the answer: {error}")))?;
    if answer.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(Failure::failed("not joined").help("if they differ, reject the ceremony: somebody sees another one"))
}

/// The proposal, whose hash must be the ceremony's id.
fn read_proposal(ceremony: &v1::Ceremony) -> Result<Proposal, Failure> {
    let proposal = SignedProposal::parse(&ceremony.proposal)
        .map(|signed| signed.proposal().clone())
        .or_else(|_| Proposal::parse(&ceremony.proposal))
        .map_err(|error| Failure::failed(format!("the ceremony's proposal does not read: {error}")))?;
    if proposal.id().to_string() != ceremony.ceremony_id {
        return Err(
            Failure::failed("the ceremony's proposal is not the one that its id says").help("do not join it")
        );
    }
    Ok(proposal)
}

fn describe(place: &Place, ceremony: &v1::Ceremony) -> String {
    describe_with(ceremony, place.knows_links())
}

fn describe_with(ceremony: &v1::Ceremony, links: bool) -> String {
    let mut rows = vec![("ceremony", text::printable(&ceremony.ceremony_id))];
    match read_proposal(ceremony) {
        Ok(proposal) => {
            let keys: Vec<_> =
                proposal.keys().iter().map(|key| format!("{} (for {})", key.name, key.purpose)).collect();
            rows.extend([
                ("name", proposal.name().to_string()),
                ("phrase", text::or_dash(&ceremony.words)),
                ("needs", proposal.rule()),
                ("keys", keys.join(", ")),
            ]);
        }
        Err(failure) => rows.push(("proposal", failure.problem)),
    }
    rows.extend([
        ("proposed by", text::printable(&ceremony.proposer)),
        ("until", text::time(ceremony.deadline)),
        ("state", describe_state(ceremony)),
    ]);
    for key in &ceremony.keys {
        rows.push(("made", format!("{}: {}", text::printable(&key.name), text::printable(&key.words))));
    }
    let identities = read_proposal(ceremony).ok();
    let members = ceremony.nodes.iter().map(|node| {
        let identity = identities
            .as_ref()
            .and_then(|proposal| proposal.members().iter().find(|member| member.id.to_string() == node.node))
            .map_or_else(String::new, |member| member.identity.to_string());
        let link = if node.connected { "connected" } else { "away" };
        let mut row = vec![text::printable(&node.node), text::or_dash(&node.step)];
        row.extend(links.then(|| link.to_owned()));
        row.push(identity);
        row
    });
    let header: &[&str] =
        if links { &["MEMBER", "STEP", "LINK", "IDENTITY"] } else { &["MEMBER", "STEP", "IDENTITY"] };
    format!("{}\n\n{}", text::fields(rows), text::columns(header, members))
}

/// Which ceremony, and how it stands.
fn describe_briefly(ceremony: &v1::Ceremony) -> String {
    format!("{} ({}): {}", name_or_unknown(ceremony), short(&ceremony.ceremony_id), describe_state(ceremony))
}

fn name_or_unknown(ceremony: &v1::Ceremony) -> String {
    read_proposal(ceremony).map_or_else(|_| "?".to_owned(), |proposal| proposal.name().to_string())
}

fn describe_state(ceremony: &v1::Ceremony) -> String {
    let state = state_word(ceremony.state);
    if ceremony.state == i32::from(CeremonyState::Aborted) {
        let culprits = if ceremony.culprits.is_empty() {
            String::new()
        } else {
            format!(", because of {}", text::list(&ceremony.culprits))
        };
        return format!("{state}: {}{culprits}", text::or_dash(&ceremony.reason));
    }
    if ceremony.waiting_for.is_empty() {
        return state.to_owned();
    }
    format!("{state}, waiting for {}", text::list(&ceremony.waiting_for))
}

fn is_final(ceremony: &v1::Ceremony) -> bool {
    matches!(CeremonyState::try_from(ceremony.state), Ok(CeremonyState::Done | CeremonyState::Aborted))
}

fn state_word(state: i32) -> &'static str {
    match CeremonyState::try_from(state) {
        Ok(CeremonyState::Proposed) => "proposed",
        Ok(CeremonyState::Running) => "running",
        Ok(CeremonyState::Done) => "done",
        Ok(CeremonyState::Aborted) => "aborted",
        _ => "unknown",
    }
}

fn short(id: &str) -> String {
    text::printable(id).chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceremony(id: &str, state: CeremonyState, deadline: u64) -> v1::Ceremony {
        v1::Ceremony { ceremony_id: id.to_owned(), state: state.into(), deadline, ..Default::default() }
    }

    #[test]
    fn the_right_ceremony_is_picked() {
        let all = || {
            vec![
                ceremony("aa11", CeremonyState::Done, 1),
                ceremony("aa22", CeremonyState::Aborted, 3),
                ceremony("bb33", CeremonyState::Running, 2),
            ]
        };
        let id = |wanted: Option<&str>, which| {
            pick(all(), wanted.map(str::to_owned), which).map(|ceremony| ceremony.ceremony_id)
        };
        assert_eq!(id(None, Wanted::UnderWay).unwrap(), "bb33");
        assert_eq!(id(Some("AA2"), Wanted::Any).unwrap(), "aa22");
        assert_eq!(id(Some("aa"), Wanted::Any).unwrap_err().exit.code(), 2);
        assert_eq!(id(Some("cc"), Wanted::Any).unwrap_err().exit.code(), 1);
        let ended = || all().into_iter().take(2).collect::<Vec<_>>();
        assert_eq!(pick(ended(), None, Wanted::Any).unwrap().ceremony_id, "aa22");
        assert!(pick(ended(), None, Wanted::UnderWay).is_err());
    }

    #[test]
    fn what_a_node_does_not_know_is_not_shown() {
        let mut shown = ceremony("aa11", CeremonyState::Proposed, 1);
        shown.nodes = vec![v1::CeremonyNode { node: "vendor/vendor-1".to_owned(), ..Default::default() }];
        assert!(describe_with(&shown, true).contains("away"));
        let at_node = describe_with(&shown, false);
        assert!(!at_node.contains("away") && !at_node.contains("LINK"), "{at_node}");
        assert_eq!(describe_briefly(&shown), "? (aa11): proposed");
    }

    #[test]
    fn a_proposal_that_is_not_the_ids_is_not_shown_as_it() {
        let mut forged = ceremony(&"ab".repeat(32), CeremonyState::Proposed, 1);
        forged.proposal = b"{}".to_vec();
        assert!(read_proposal(&forged).is_err());
    }
}
