//! Signer nodes: one through its custodian's socket, all as the coordinator sees them.

use std::io::{BufRead, IsTerminal};

use rutli_keys::NodeId;
use rutli_log::{Hash, Head, limits::MAX_TREE_SIZE};
use rutli_release::Timestamp;
use rutli_wire::v1;
use serde_json::{Value, json};
use tonic::{Code, Response, Status, transport::Channel};

use crate::{
    cli, client, releases,
    report::{Failure, Report},
    status, text,
};

/// The commands that go to a node's socket.
///
/// # Errors
/// What the node answers.
pub async fn at_node(command: cli::Node, channel: Channel) -> Result<Report, Failure> {
    let mut client = client::custodian(channel);
    let answer = match command {
        cli::Node::Pause { reason } => client.pause(v1::PauseRequest { reason }).await,
        cli::Node::Resume { log_head } => client.resume(resume_request(log_head)).await,
        cli::Node::Reload => return reloaded(client.reload(v1::ReloadRequest {}).await),
        cli::Node::Unseal => {
            let answer = client.unseal(v1::UnsealRequest { passphrase: passphrase()? }).await;
            return match answer {
                Err(status) => Err(unseal_failure(&status)),
                answer => report(answer),
            };
        }
        cli::Node::Status | cli::Node::List | cli::Node::Reinstate { .. } => {
            client.status(v1::StatusRequest {}).await
        }
    };
    report(answer)
}

/// A head of the log as people name it: `SIZE:ROOT`, the root in hexadecimal or, as a checkpoint has it, in base64.
///
/// # Errors
/// What is wrong with it.
pub fn parse_head(text: &str) -> Result<Head, String> {
    let wrong = || "want SIZE:ROOT, as `rutli node status` or a checkpoint has them".to_owned();
    let (size, root) = text.split_once(':').ok_or_else(wrong)?;
    let size = size.parse().ok().filter(|size| *size <= MAX_TREE_SIZE).ok_or_else(wrong)?;
    let root = root.parse().or_else(|_| Hash::from_base64(root)).map_err(|error| error.to_string())?;
    Ok(Head { size, root })
}

fn resume_request(log_head: Option<Head>) -> v1::ResumeRequest {
    log_head.map_or_else(v1::ResumeRequest::default, |head| v1::ResumeRequest {
        log_size: head.size,
        log_root: head.root.as_bytes().to_vec(),
    })
}

/// `rutli node list`
///
/// # Errors
/// What the coordinator answers.
pub async fn list(channel: Channel) -> Result<Report, Failure> {
    let nodes = client::nodes(channel)
        .list_nodes(v1::ListNodesRequest {})
        .await
        .map_err(|status| status::failure(&status))?
        .into_inner()
        .nodes;
    let json = json!({ "nodes": nodes.iter().map(info_json).collect::<Vec<_>>() });
    Ok(Report::new(table(&nodes), json))
}

/// What wants a custodian's attention although his node goes on stands below: it is too long for a column.
fn table(nodes: &[v1::NodeInfo]) -> String {
    if nodes.is_empty() {
        return "no node was ever here".to_owned();
    }
    let rows = nodes.iter().map(|node| {
        let state = match (node.connected, node.culprit.is_empty()) {
            (_, false) => "left out".to_owned(),
            (false, true) => "away".to_owned(),
            (true, true) => text::printable(&node.state),
        };
        let reason = if node.culprit.is_empty() { &node.reason } else { &node.culprit };
        let keys: Vec<_> = node.keys.iter().map(|key| key.name.as_str()).collect();
        vec![
            text::printable(&node.node),
            state,
            text::or_dash(&node.version),
            text::list(&keys),
            node.commitments.to_string(),
            text::or_dash(reason),
        ]
    });
    let columns = text::columns(&["NODE", "STATE", "VERSION", "KEYS", "COMMITMENTS", "REASON"], rows);
    let warned = nodes.iter().filter(|node| !node.warning.is_empty());
    let warnings = warned
        .map(|node| format!("warning: {}: {}", text::printable(&node.node), text::printable(&node.warning)));
    let fallen = nodes.iter().filter(|node| node.log_size_before > 0).map(|node| {
        format!(
            "warning: {}: it came back with an older head of the log than the one of {} entries that it had before: its data \
             are an old copy; its custodian restores the newest backup",
            text::printable(&node.node),
            node.log_size_before
        )
    });
    std::iter::once(columns).chain(warnings).chain(fallen).collect::<Vec<_>>().join("\n")
}

/// `rutli node reinstate`
///
/// # Errors
/// What the coordinator answers; a name that is none.
pub async fn reinstate(channel: Channel, node: &str) -> Result<Report, Failure> {
    let node: NodeId = node.parse().map_err(|error| {
        Failure::usage(format!("{error}")).help("write it as ORGANISATION/NODE, as `rutli node list` does")
    })?;
    let request = v1::ReinstateNodeRequest { node: node.to_string() };
    let info = client::nodes(channel)
        .reinstate_node(request)
        .await
        .map_err(|status| status::failure(&status))?
        .into_inner()
        .node
        .unwrap_or_default();
    Ok(Report::new(format!("{node} takes part again"), info_json(&info)))
}

/// A node's own word about itself, for programs.
#[must_use]
pub fn status_json(node: &v1::StatusResponse) -> Value {
    json!({
        "node": node.node,
        "state": node.state,
        "reason": node.reason,
        "version": node.version,
        "identity": node.identity,
        "keys": node.keys.iter().map(|key| json!({
            "name": key.name,
            "purpose": key.purpose,
            "public_key": hex::encode(&key.public_key),
            "roster_hash": hex::encode(&key.roster_hash),
            "words": key.words,
        })).collect::<Vec<_>>(),
        "coordinators": node.coordinators.iter().map(|link| json!({
            "url": link.url,
            "connected": link.connected,
            "error": link.error,
        })).collect::<Vec<_>>(),
        "permitted": node.permitted,
        "refused": node.refused,
        "shares": node.shares,
        "marks": node.marks.iter().map(|mark| json!({
            "class": releases::class_word(mark.release_class),
            "product": mark.product,
            "channel": mark.channel,
            "sequence": mark.sequence,
        })).collect::<Vec<_>>(),
        "policy": node.policy.as_ref().map(policy_json),
        "log": {
            "origin": node.log_origin,
            "size": node.log_size,
            "root": hex::encode(&node.log_root),
            "state": node.log_state,
        },
    })
}

fn report(answer: Result<Response<v1::StatusResponse>, Status>) -> Result<Report, Failure> {
    let node = answer.map_err(|status| status::failure(&status))?.into_inner();
    Ok(Report::new(describe(&node), status_json(&node)))
}

fn describe(node: &v1::StatusResponse) -> String {
    let state = state_line(&node.state, &node.reason);
    let lines = |lines: Vec<String>| if lines.is_empty() { "–".to_owned() } else { lines.join("\n") };
    text::fields([
        ("node", text::printable(&node.node)),
        ("state", state),
        ("version", text::printable(&node.version)),
        ("identity", text::printable(&node.identity)),
        (
            "keys",
            lines(
                node.keys
                    .iter()
                    .map(|key| {
                        format!(
                            "{} ({}): {}",
                            text::printable(&key.name),
                            text::printable(&key.purpose),
                            text::printable(&key.words)
                        )
                    })
                    .collect(),
            ),
        ),
        (
            "coordinators",
            lines(
                node.coordinators
                    .iter()
                    .map(|link| match (link.connected, link.error.is_empty()) {
                        (true, _) => format!("{} connected", text::printable(&link.url)),
                        (false, true) => format!("{} not connected", text::printable(&link.url)),
                        (false, false) => format!(
                            "{} not connected: {}",
                            text::printable(&link.url),
                            text::printable(&link.error)
                        ),
                    })
                    .collect(),
            ),
        ),
        (
            "decisions",
            format!(
                "{} permitted, {} refused; {} shares since start",
                node.permitted, node.refused, node.shares
            ),
        ),
        (
            "marks",
            lines(
                node.marks
                    .iter()
                    .map(|mark| {
                        format!(
                            "{} {} {} {}",
                            releases::class_word(mark.release_class),
                            text::printable(&mark.product),
                            text::printable(&mark.channel),
                            mark.sequence
                        )
                    })
                    .collect(),
            ),
        ),
        (
            "log",
            format!(
                "{}: {} seen, {}; head {}:{}",
                text::or_dash(&node.log_origin),
                text::count(usize::try_from(node.log_size).unwrap_or(usize::MAX), "entry", "entries"),
                text::or_dash(&node.log_state),
                node.log_size,
                hex::encode(&node.log_root)
            ),
        ),
        ("policies", policies(node.policy.as_ref())),
        ("trusts", lines(printable(node.policy.as_ref().map(|policy| &policy.trusts)))),
        ("warnings", lines(printable(node.policy.as_ref().map(|policy| &policy.warnings)))),
    ])
}

fn printable(lines: Option<&Vec<String>>) -> Vec<String> {
    lines.into_iter().flatten().map(|line| text::printable(line)).collect()
}

/// What is wrong comes first, for what follows is from before.
fn policies(policy: Option<&v1::PolicyStatus>) -> String {
    let Some(policy) = policy else { return "–".to_owned() };
    let ids: Vec<&str> = policy.policies.iter().map(String::as_str).collect();
    let since = Timestamp(policy.loaded_at).rfc3339();
    let in_force = format!("{}; since {since}, sha256:{}", text::list(&ids), hex::encode(&policy.digest));
    if policy.problem.is_empty() {
        return in_force;
    }
    format!("{}\n{in_force}", text::printable(&policy.problem))
}

fn policy_json(policy: &v1::PolicyStatus) -> Value {
    json!({
        "digest": hex::encode(&policy.digest),
        "policies": policy.policies,
        "trusts": policy.trusts,
        "loaded_at": policy.loaded_at,
        "problem": (!policy.problem.is_empty()).then_some(&policy.problem),
        "warnings": policy.warnings,
    })
}

/// The answer to a reload: rules that do not hold are a failure, with what is known beside it.
fn reloaded(answer: Result<Response<v1::StatusResponse>, Status>) -> Result<Report, Failure> {
    let node = answer.map_err(|status| status::failure(&status))?.into_inner();
    let problem = node.policy.as_ref().map(|policy| policy.problem.as_str()).unwrap_or_default();
    if !problem.is_empty() {
        return Err(Failure::failed(text::printable(problem))
            .help("correct that file; until then the earlier rules are in force"));
    }
    Ok(Report::new(describe(&node), status_json(&node)))
}

/// At a socket nobody shows a certificate: what does not hold there is the passphrase.
fn unseal_failure(status: &Status) -> Failure {
    if status.code() == Code::Unauthenticated {
        return Failure::failed(text::printable(status.message()))
            .help("try again with the right passphrase");
    }
    status::failure(status)
}

/// A state with its reason, which may begin with the same word.
fn state_line(state: &str, reason: &str) -> String {
    let (state, reason) = (text::printable(state), text::printable(reason));
    if reason.is_empty() {
        state
    } else if reason.strip_prefix(&state).is_some_and(|rest| rest.starts_with([' ', ':'])) {
        reason
    } else {
        format!("{state}: {reason}")
    }
}

fn info_json(node: &v1::NodeInfo) -> Value {
    json!({
        "node": node.node,
        "connected": node.connected,
        "state": node.state,
        "reason": node.reason,
        "version": node.version,
        "culprit": (!node.culprit.is_empty()).then_some(&node.culprit),
        "warning": (!node.warning.is_empty()).then_some(&node.warning),
        "log_size": node.log_size,
        "log_size_before": (node.log_size_before > 0).then_some(node.log_size_before),
        "keys": node.keys.iter().map(|key| json!({
            "name": key.name,
            "roster_hash": hex::encode(&key.roster_hash),
        })).collect::<Vec<_>>(),
        "commitments": node.commitments,
    })
}

/// From a terminal without echo, else one line of stdin; never from the command line, where others see it.
fn passphrase() -> Result<String, Failure> {
    let cannot = |error: std::io::Error| Failure::usage(format!("cannot read the passphrase: {error}"));
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password("Passphrase of the node's age identity: ").map_err(cannot);
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(cannot)?;
    let passphrase = line.trim_end_matches(['\r', '\n']).to_owned();
    if passphrase.is_empty() {
        return Err(Failure::usage("no passphrase on stdin").help("give it as one line"));
    }
    Ok(passphrase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_passphrase_is_no_matter_of_certificates() {
        let failure = unseal_failure(&Status::unauthenticated("the passphrase does not open seal.age"));
        assert_eq!(failure.exit.code(), 1);
        assert_eq!(failure.help.as_deref(), Some("try again with the right passphrase"));
        assert_eq!(unseal_failure(&Status::unavailable("x")).exit.code(), 3);
    }

    #[test]
    fn a_node_says_how_far_it_follows_the_log() {
        let node = v1::StatusResponse {
            log_origin: "log.example/1".to_owned(),
            log_size: 7,
            log_root: vec![0xab; 32],
            log_state: "catching-up".to_owned(),
            ..Default::default()
        };
        let root = "ab".repeat(32);
        let text = describe(&node);
        assert!(
            text.contains(&format!("log.example/1: 7 entries seen, catching-up; head 7:{root}")),
            "{text}"
        );
        assert_eq!(
            status_json(&node)["log"],
            json!({ "origin": "log.example/1", "size": 7, "root": root, "state": "catching-up" })
        );
    }

    #[test]
    fn a_node_says_by_which_rules_it_decides_and_what_is_wrong_with_them() {
        let policy = v1::PolicyStatus {
            digest: vec![0xab; 32],
            policies: vec!["suite".to_owned(), "avdb".to_owned()],
            trusts: vec!["builder ci".to_owned()],
            loaded_at: 1_800_000_000,
            problem: String::new(),
            warnings: vec!["notes.txt is passed over".to_owned()],
        };
        let node = |policy| v1::StatusResponse { policy: Some(policy), ..Default::default() };
        let text = describe(&node(policy.clone()));
        let line = format!("suite, avdb; since 2027-01-15T08:00:00Z, sha256:{}", "ab".repeat(32));
        assert!(text.contains(&line) && text.contains("builder ci") && text.contains("notes.txt"), "{text}");
        assert_eq!(status_json(&node(policy.clone()))["policy"]["problem"], Value::Null);
        assert!(reloaded(Ok(Response::new(node(policy.clone())))).is_ok());

        let broken = v1::PolicyStatus { problem: "x.cedar, line 3: this is not Cedar".to_owned(), ..policy };
        let text = describe(&node(broken.clone()));
        assert!(text.contains("line 3") && text.contains(&line), "{text}");
        assert_eq!(
            status_json(&node(broken.clone()))["policy"]["problem"],
            "x.cedar, line 3: this is not Cedar"
        );
        let failure = reloaded(Ok(Response::new(node(broken)))).unwrap_err();
        assert_eq!((failure.exit.code(), failure.problem.contains("line 3")), (1, true));
    }

    #[test]
    fn what_wants_attention_at_a_node_stands_below_the_list() {
        let warning =
            "the rules in /p are not in force, those of before are: x.cedar, line 3: this is not Cedar";
        let node = |name: &str, warning: &str| v1::NodeInfo {
            node: name.to_owned(),
            connected: true,
            state: "ready".to_owned(),
            warning: warning.to_owned(),
            ..Default::default()
        };
        let nodes = [node("vendor/vendor-1", warning), node("vendor/vendor-2", "")];
        let text = table(&nodes);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(lines.last().unwrap(), &format!("warning: vendor/vendor-1: {warning}"));
        assert_eq!(info_json(&nodes[0])["warning"], warning);
        assert_eq!(info_json(&nodes[1])["warning"], Value::Null);
    }

    #[test]
    fn a_node_is_vouched_for_only_if_a_head_is_named() {
        assert_eq!(resume_request(None), v1::ResumeRequest::default());
        for root in ["ab".repeat(32), Hash([0xab; 32]).to_base64()] {
            let request = resume_request(Some(parse_head(&format!("7:{root}")).unwrap()));
            assert_eq!((request.log_size, request.log_root), (7, vec![0xab; 32]));
        }
        for wrong in
            ["7", "7:", "7:abab", &format!("x:{}", "ab".repeat(32)), &format!("-1:{}", "ab".repeat(32))]
        {
            assert!(parse_head(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reason_does_not_say_the_state_twice() {
        assert_eq!(state_line("ready", ""), "ready");
        assert_eq!(state_line("paused", "paused by its custodian: lunch"), "paused by its custodian: lunch");
        assert_eq!(state_line("sealed", "its shares are sealed"), "sealed: its shares are sealed");
    }
}
