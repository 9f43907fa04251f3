//! Releases at a coordinator: list, show, follow, take back, fetch.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rutli_release::VerifiedRelease;
use rutli_wire::{
    convert::{class_from_wire, formats_from_wire, release_from_content},
    v1::{self, ReleaseState},
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    cli, client, evidence,
    limits::MAX_PAGE_RELEASES,
    release_files,
    report::{Failure, Report},
    status, text, waits,
};

/// Every state with its stable word.
pub const STATES: [(ReleaseState, &str); 9] = [
    (ReleaseState::Queued, "queued"),
    (ReleaseState::AwaitingQuorum, "awaiting-quorum"),
    (ReleaseState::AwaitingEvidence, "awaiting-evidence"),
    (ReleaseState::Signing, "signing"),
    (ReleaseState::Signed, "signed"),
    (ReleaseState::Refused, "refused"),
    (ReleaseState::Cancelled, "cancelled"),
    (ReleaseState::Expired, "expired"),
    (ReleaseState::Overtaken, "overtaken"),
];

/// Pauses between attempts to reach a coordinator that went away: doubling from the first to the second.
const RECONNECT_DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// `rutli release list`
///
/// # Errors
/// What the coordinator answers.
pub async fn list(
    channel: Channel,
    product: Option<String>,
    of_channel: Option<String>,
    state: Option<String>,
    limit: u32,
) -> Result<Report, Failure> {
    let state = state.and_then(|word| STATES.iter().find(|(_, name)| *name == word).map(|(state, _)| *state));
    let filter =
        Filter { product: product.unwrap_or_default(), channel: of_channel.unwrap_or_default(), state };
    let releases = pages(channel, &filter, usize::try_from(limit).unwrap_or(usize::MAX), |_| true).await?;
    let json = json!({ "releases": releases.iter().map(to_json).collect::<Vec<_>>() });
    if releases.is_empty() {
        return Ok(Report::new("no releases", json));
    }
    let rows = releases.iter().map(|release| {
        let content = release.content.as_ref();
        vec![
            text::printable(&release.release_id),
            state_word(release.state).to_owned(),
            content.map_or_else(String::new, |content| text::printable(&content.channel)),
            content.map_or_else(String::new, |content| content.sequence.to_string()),
            format!("{}/{}", release.signatures_done, release.signatures_total),
            text::time(release.created_at),
            waits::whose(release),
        ]
    });
    let header = ["RELEASE", "STATE", "CHANNEL", "SEQUENCE", "SIGNATURES", "CREATED", "WAITING FOR"];
    let mut table = text::columns(&header, rows);
    if releases.iter().any(|release| !release.waiting_for.is_empty()) {
        table.push_str("\n\n`rutli pending` says what each of them wants");
    }
    Ok(Report::new(table, json))
}

/// Which releases are listed; an empty text is no restriction.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this product.
    pub product: String,
    /// Only of this channel.
    pub channel: String,
    /// Only in this state.
    pub state: Option<ReleaseState>,
}

/// Releases that are to be kept, newest first, at most `wanted`.
///
/// # Errors
/// What the coordinator answers.
pub async fn pages(
    channel: Channel,
    filter: &Filter,
    wanted: usize,
    keep: impl Fn(&v1::Release) -> bool,
) -> Result<Vec<v1::Release>, Failure> {
    let most = u32::try_from(wanted).unwrap_or(u32::MAX).min(MAX_PAGE_RELEASES);
    let mut releases = Vec::new();
    let mut page_token = String::new();
    while releases.len() < wanted {
        let (found, next) = page(channel.clone(), filter, most, page_token).await?;
        let last = next.is_empty() || found.is_empty();
        releases.extend(found.into_iter().filter(|release| keep(release)));
        page_token = next;
        if last {
            break;
        }
    }
    releases.truncate(wanted);
    Ok(releases)
}

/// One page of releases, and the token of the next one; an empty token on the last.
///
/// # Errors
/// What the coordinator answers.
pub async fn page(
    channel: Channel,
    filter: &Filter,
    most: u32,
    page_token: String,
) -> Result<(Vec<v1::Release>, String), Failure> {
    let request = v1::ListReleasesRequest {
        page_size: most,
        page_token,
        product: filter.product.clone(),
        channel: filter.channel.clone(),
        state: filter.state.unwrap_or(ReleaseState::Unspecified).into(),
    };
    let answer = client::releases(channel).list_releases(request).await;
    let page = answer.map_err(|status| status::failure(&status))?.into_inner();
    Ok((page.releases, page.next_page_token))
}

/// `rutli release show`
///
/// # Errors
/// What the coordinator answers.
pub async fn show(channel: Channel, release_id: &str) -> Result<Report, Failure> {
    let release = get(channel, release_id).await?;
    Ok(Report::new(describe(&release), to_json(&release)))
}

/// `rutli release watch`: the release once it is final; a failure if it ended unsigned.
///
/// # Errors
/// As [`follow`]; exit code 4 when time is up.
pub async fn watch(channel: Channel, release_id: &str, timeout: Option<Duration>) -> Result<Report, Failure> {
    let mut last = String::new();
    let following = follow(channel, release_id, |release| {
        let line = stage(release);
        if line != last {
            eprintln!("{line}");
            last = line;
        }
    });
    let release = within(timeout, following).await.ok_or_else(|| {
        Failure::waiting(format!("release {release_id} is not final yet"))
            .help("it goes on; watch it again later")
    })??;
    signed_or_failure(&release)?;
    Ok(Report::new(describe(&release), to_json(&release)))
}

/// `rutli cancel`
///
/// # Errors
/// What the coordinator answers.
pub async fn cancel_any(channel: Channel, args: &cli::Cancel) -> Result<Report, Failure> {
    match (&args.release, &args.requester) {
        (Some(release), _) => cancel(channel, release).await,
        (None, Some(requester)) => cancel_all(channel, requester).await,
        (None, None) => {
            Err(Failure::usage("no release is named").help("give a release id, or --requester NAME"))
        }
    }
}

async fn cancel_all(channel: Channel, requester: &str) -> Result<Report, Failure> {
    let request = v1::CancelReleasesRequest { requester: requester.to_owned() };
    let answer = client::releases(channel)
        .cancel_releases(request)
        .await
        .map_err(|status| status::failure(&status))?
        .into_inner();
    let printable = |ids: &[String]| ids.iter().map(|id| text::printable(id)).collect::<Vec<_>>();
    let (cancelled, too_late) = (printable(&answer.cancelled), printable(&answer.too_late));
    let mut lines = vec![format!("{} releases of {requester} are cancelled", cancelled.len())];
    if !too_late.is_empty() {
        let late = too_late.join(", ");
        lines.push(format!("{} may be signed already and go on: {late}", too_late.len()));
    }
    let json = json!({ "requester": requester, "cancelled": cancelled, "too_late": too_late });
    Ok(Report::new(lines.join("\n"), json))
}

/// `rutli release cancel ID`
///
/// # Errors
/// What the coordinator answers.
pub async fn cancel(channel: Channel, release_id: &str) -> Result<Report, Failure> {
    let request = v1::CancelReleaseRequest { release_id: release_id.to_owned() };
    let release = client::releases(channel)
        .cancel_release(request)
        .await
        .map_err(|status| status::failure(&status))?
        .into_inner();
    Ok(Report::new(
        format!("release {} is {}", text::printable(&release.release_id), state_word(release.state)),
        to_json(&release),
    ))
}

/// `rutli release disclose`
///
/// # Errors
/// What the coordinator answers.
pub async fn disclose(channel: Channel, release_id: &str) -> Result<Report, Failure> {
    let request = v1::DiscloseReleaseRequest { release_id: release_id.to_owned() };
    let release = client::releases(channel)
        .disclose_release(request)
        .await
        .map_err(|status| status::failure(&status))?
        .into_inner();
    Ok(Report::new(
        format!(
            "release {} is disclosed: the log shows what was asked for in its entry {}",
            text::printable(&release.release_id),
            release.log_index
        ),
        to_json(&release),
    ))
}

/// `rutli release fetch`
///
/// # Errors
/// What the coordinator answers; a release that is not signed; files that cannot be written.
pub async fn fetch(channel: Channel, release_id: &str, out: &Path) -> Result<Report, Failure> {
    let release = get(channel, release_id).await?;
    signed_or_failure(&release)?;
    let verified = content(&release)?;
    let written = release_files::write_all(&release, &verified, out, &[])?;
    let mut json = to_json(&release);
    if let Value::Object(fields) = &mut json {
        fields.insert("written".to_owned(), json!(written));
    }
    let mut text = format!("{} written to {}", text::count(written.len(), "file", "files"), out.display());
    if release.proven_at == 0 {
        text = format!("{text}\n{}", not_proven(&release, out));
    }
    Ok(Report::new(text, json))
}

/// What to do about a release whose proof is not there yet.
#[must_use]
pub fn not_proven(release: &v1::Release, out: &Path) -> String {
    format!(
        "the proof that it is in the log is not there yet: it comes once enough nodes have cosigned the log; fetch it \
         with\n  rutli release fetch {} --out {}",
        text::printable(&release.release_id),
        out.display()
    )
}

/// Follows a release until it is final, over lost connections and restarts of the coordinator.
///
/// # Errors
/// Whatever does not pass by waiting.
pub async fn follow(
    channel: Channel,
    release_id: &str,
    on_change: impl FnMut(&v1::Release),
) -> Result<v1::Release, Failure> {
    follow_until(channel, release_id, on_change, |release| is_final(release.state)).await
}

/// Follows a signed release until its proof is there.
///
/// # Errors
/// Whatever does not pass by waiting.
pub async fn follow_proof(channel: Channel, release_id: &str) -> Result<v1::Release, Failure> {
    follow_until(channel, release_id, |_| (), |release| release.proven_at != 0).await
}

async fn follow_until(
    channel: Channel,
    release_id: &str,
    mut on_change: impl FnMut(&v1::Release),
    is_enough: impl Fn(&v1::Release) -> bool,
) -> Result<v1::Release, Failure> {
    let mut client = client::releases(channel);
    let mut delay = RECONNECT_DELAYS.0;
    loop {
        let problem =
            match client.watch_release(v1::WatchReleaseRequest { release_id: release_id.to_owned() }).await {
                Err(status) => status,
                Ok(stream) => {
                    let mut stream = stream.into_inner();
                    loop {
                        match stream.message().await {
                            Ok(Some(release)) => {
                                delay = RECONNECT_DELAYS.0;
                                on_change(&release);
                                if is_enough(&release) {
                                    return Ok(release);
                                }
                            }
                            // A stream that ends early is a coordinator that shuts down.
                            Ok(None) => break tonic::Status::unavailable("the coordinator ended the stream"),
                            Err(status) => break status,
                        }
                    }
                }
            };
        if !status::is_passing(&problem) {
            return Err(status::failure(&problem));
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RECONNECT_DELAYS.1);
    }
}

/// One release with its files.
///
/// # Errors
/// What the coordinator answers.
pub async fn get(channel: Channel, release_id: &str) -> Result<v1::Release, Failure> {
    let request = v1::GetReleaseRequest { release_id: release_id.to_owned() };
    Ok(client::releases(channel)
        .get_release(request)
        .await
        .map_err(|status| status::failure(&status))?
        .into_inner())
}

/// Runs to the end, or gives `None` when time is up.
pub async fn within<T>(timeout: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match timeout {
        Some(timeout) => tokio::time::timeout(timeout, work).await.ok(),
        None => Some(work.await),
    }
}

/// A class from the wire as it is written; empty for one that is not known here.
#[must_use]
pub fn class_word(class: i32) -> &'static str {
    class_from_wire(class).map(|class| class.as_str()).unwrap_or_default()
}

/// Whether nothing changes any more.
#[must_use]
pub fn is_final(state: i32) -> bool {
    matches!(
        ReleaseState::try_from(state),
        Ok(ReleaseState::Signed
            | ReleaseState::Refused
            | ReleaseState::Cancelled
            | ReleaseState::Expired
            | ReleaseState::Overtaken)
    )
}

/// Nothing for a signed release; for another one how it stands, as a failure.
///
/// # Errors
/// Exit code 4 for one that may still be signed, 1 for one that ended otherwise.
pub fn signed_or_failure(release: &v1::Release) -> Result<(), Failure> {
    let id = text::printable(&release.release_id);
    let failure = match ReleaseState::try_from(release.state) {
        Ok(ReleaseState::Signed) => return Ok(()),
        Ok(ReleaseState::Refused) => {
            Failure::failed(format!("release {id} was refused: {}", refusals(release)))
                .help("clear the reason with the node's custodian; then ask again with a higher --sequence")
        }
        Ok(ReleaseState::Cancelled) => {
            let why = if release.refusals.is_empty() { String::new() } else { format!(": {}", refusals(release)) };
            Failure::failed(format!("release {id} was cancelled{why}")).help("ask again with a higher --sequence")
        }
        Ok(ReleaseState::Expired) => Failure::failed(format!("release {id} was not signed within its time"))
            .help("see `rutli node list` for what was missing; then ask again with a higher --sequence"),
        Ok(ReleaseState::Overtaken) => {
            Failure::failed(format!("release {id} was overtaken: {} was signed first", release.overtaken_by))
                .help("ask again with a higher --sequence, or with --sequence next")
        }
        Ok(ReleaseState::AwaitingEvidence) => {
            Failure::waiting(format!("release {id} is not signed yet: {}", stage(release))).help(format!(
                "add what is missing with `rutli evidence add {id} FILE…` or `rutli approve {id} --key KEY`; wait for it with \
                 `rutli release watch {id}`"
            ))
        }
        _ => Failure::waiting(format!("release {id} is not signed yet: {}", stage(release)))
            .help(format!("wait for it with `rutli release watch {id}`")),
    };
    Err(failure.with(to_json(release)))
}

/// The content of a release, checked.
///
/// # Errors
/// The coordinator sent rubbish.
pub fn content(release: &v1::Release) -> Result<VerifiedRelease, Failure> {
    let content = release.content.clone().ok_or_else(|| rubbish("no content"))?;
    release_from_content(content).map_err(|error| rubbish(&error.to_string()))
}

/// What a release does right now, on one line.
#[must_use]
pub fn stage(release: &v1::Release) -> String {
    match ReleaseState::try_from(release.state) {
        Ok(ReleaseState::AwaitingQuorum | ReleaseState::AwaitingEvidence) => {
            format!("waiting for {}", text::list(&release.waiting_for))
        }
        Ok(ReleaseState::Signing) => {
            format!("signing {}/{}", release.signatures_done, release.signatures_total)
        }
        Ok(ReleaseState::Refused) => format!("refused: {}", refusals(release)),
        Ok(ReleaseState::Overtaken) => format!("overtaken by sequence {}", release.overtaken_by),
        Ok(ReleaseState::Queued) if !release.waiting_for.is_empty() => {
            format!("queued, waiting for {}", text::list(&release.waiting_for))
        }
        _ => state_word(release.state).to_owned(),
    }
}

/// The stable word of a state.
#[must_use]
pub fn state_word(state: i32) -> &'static str {
    STATES.iter().find(|(known, _)| i32::from(*known) == state).map_or("unknown", |(_, word)| word)
}

/// A release for programs; the files by name only.
#[must_use]
pub fn to_json(release: &v1::Release) -> Value {
    let content = release.content.clone().unwrap_or_default();
    let artifacts: Vec<_> = content
        .artifacts
        .iter()
        .map(|artifact| {
            json!({
                "name": artifact.name,
                "sha256": hex::encode(&artifact.sha256),
            })
        })
        .collect();
    let refusals: Vec<_> = release
        .refusals
        .iter()
        .map(|refusal| json!({ "node": refusal.node, "code": refusal.code, "reason": refusal.reason }))
        .collect();
    json!({
        "release_id": release.release_id,
        "request_id": release.request_id,
        "requester": release.requester,
        "class": class_word(content.release_class),
        "product": content.product,
        "channel": content.channel,
        "version": content.version,
        "sequence": content.sequence,
        "issued_at": content.issued_at,
        "expires_at": (content.expires_at != 0).then_some(content.expires_at),
        "formats": formats(&content),
        "artifacts": artifacts,
        "state": state_word(release.state),
        "waiting_for": release.waiting_for,
        "refusals": refusals,
        "signatures": { "done": release.signatures_done, "total": release.signatures_total },
        "signed_by": release.signed_by,
        "key": (!release.key.is_empty()).then_some(&release.key),
        "created_at": release.created_at,
        "overtaken_by": (release.overtaken_by != 0).then_some(release.overtaken_by),
        "finished_at": (release.finished_at != 0).then_some(release.finished_at),
        "embargo_until": (release.embargo_until != 0).then_some(release.embargo_until),
        "disclosed_at": (release.disclosed_at != 0).then_some(release.disclosed_at),
        "evidence": release.evidence.iter().map(evidence::info_json).collect::<Vec<_>>(),
        "log_index": release.log_index,
        "proven": release.proven_at != 0,
        "proven_at": (release.proven_at != 0).then_some(release.proven_at),
        "files": release.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
    })
}

/// A release for eyes, without its files.
#[must_use]
pub fn describe(release: &v1::Release) -> String {
    let content = release.content.clone().unwrap_or_default();
    let class = class_word(content.release_class);
    let mut rows = vec![
        ("release", text::printable(&release.release_id)),
        ("state", stage(release)),
        ("class", class.to_owned()),
        ("product", format!("{} {}", text::printable(&content.product), text::printable(&content.version))),
        ("channel", format!("{}, sequence {}", text::printable(&content.channel), content.sequence)),
        ("files", text::count(content.artifacts.len(), "file", "files")),
        ("formats", text::list(&formats(&content))),
        ("signatures", format!("{} of {}", release.signatures_done, release.signatures_total)),
        ("signed by", text::list(&release.signed_by)),
        ("key", text::or_dash(&release.key)),
        (
            "requested by",
            format!("{} as {}", text::printable(&release.requester), text::printable(&release.request_id)),
        ),
        ("created", text::time(release.created_at)),
        ("finished", text::time(release.finished_at)),
        ("evidence", evidence_kinds(release)),
        ("log entry", release.log_index.to_string()),
        ("proof", proof_state(release)),
    ];
    if release.embargo_until != 0 {
        rows.push((
            "embargo",
            match release.disclosed_at {
                0 => format!("until {}, or until it is disclosed", text::time(release.embargo_until)),
                at => format!("disclosed {}", text::time(at)),
            },
        ));
    }
    if content.expires_at != 0 {
        rows.push(("expires", text::time(content.expires_at)));
    }
    text::fields(rows)
}

/// How much evidence there is of which kind, by what the coordinator says of it.
fn evidence_kinds(release: &v1::Release) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for info in &release.evidence {
        *kinds.entry(&info.kind).or_default() += 1;
    }
    text::list(&kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>())
}

/// Whether the proof that the signature is in the log is there.
fn proof_state(release: &v1::Release) -> String {
    match ReleaseState::try_from(release.state) {
        Ok(ReleaseState::Signed) if release.proven_at != 0 => {
            format!("there since {}", text::time(release.proven_at))
        }
        Ok(ReleaseState::Signed) => "not there yet: it waits for nodes to cosign the log".to_owned(),
        _ => "–".to_owned(),
    }
}

fn formats(content: &v1::ReleaseContent) -> Vec<&'static str> {
    formats_from_wire(&content.formats)
        .unwrap_or_default()
        .into_iter()
        .map(|format| format.as_str())
        .collect()
}

/// Who refused why; nodes that say the same are named together.
fn refusals(release: &v1::Release) -> String {
    let mut by_reason: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for refusal in &release.refusals {
        by_reason.entry((&refusal.code, &refusal.reason)).or_default().push(&refusal.node);
    }
    let each: Vec<_> = by_reason
        .iter()
        .map(|((code, reason), nodes)| {
            let verb = if nodes.len() == 1 { "says" } else { "say" };
            format!("{} {verb} {}: {}", text::list(nodes), text::printable(code), text::printable(reason))
        })
        .collect();
    if each.is_empty() { "no reason was given".to_owned() } else { each.join("; ") }
}

pub(crate) fn rubbish(what: &str) -> Failure {
    Failure::failed(format!("the coordinator's answer makes no sense: {what}"))
        .help("do not use it; look at the coordinator")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn signed(names: &[&str]) -> v1::Release {
        v1::Release {
            release_id: "x-1-0123456789ab".to_owned(),
            state: ReleaseState::Signed.into(),
            content: Some(v1::ReleaseContent {
                release_class: v1::ReleaseClass::ProductBuild.into(),
                product: "x".to_owned(),
                channel: "stable".to_owned(),
                version: "1".to_owned(),
                sequence: 1,
                issued_at: 1,
                expires_at: 0,
                artifacts: vec![v1::Artifact { name: "bin/x".to_owned(), sha256: vec![0; 32] }],
                formats: vec![v1::SignatureFormat::Dsse.into(), v1::SignatureFormat::Sshsig.into()],
            }),
            files: names
                .iter()
                .map(|name| v1::SignedFile {
                    name: (*name).to_owned(),
                    data: name.as_bytes().to_vec().into(),
                })
                .collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_release_says_where_it_stands_in_the_log() {
        let waiting = v1::Release { log_index: 7, embargo_until: 86_400, ..signed(&[]) };
        let text = describe(&waiting);
        assert!(text.contains("log entry     7") && text.contains("not there yet"), "{text}");
        assert!(text.contains("until 1970-01-02T00:00:00Z"), "{text}");
        let json = to_json(&waiting);
        assert_eq!((&json["log_index"], &json["proven"]), (&json!(7), &json!(false)));
        assert_eq!((&json["embargo_until"], &json["proven_at"]), (&json!(86_400), &Value::Null));
        assert_eq!(json["disclosed_at"], Value::Null);
        let disclosed = v1::Release { disclosed_at: 43_200, ..waiting.clone() };
        assert!(describe(&disclosed).contains("disclosed 1970-01-01T12:00:00Z"), "{}", describe(&disclosed));
        assert_eq!(to_json(&disclosed)["disclosed_at"], 43_200);
        let proven = v1::Release { proven_at: 86_400, ..waiting };
        assert!(describe(&proven).contains("there since 1970-01-02T00:00:00Z"));
        assert_eq!(to_json(&proven)["proven"], true);
    }

    #[test]
    fn states_end_a_command_as_documented() {
        let with = |state: ReleaseState| {
            let mut release = signed(&[]);
            release.state = state.into();
            signed_or_failure(&release).err().map(|failure| failure.exit.code())
        };
        assert_eq!(with(ReleaseState::Signed), None);
        assert_eq!(with(ReleaseState::Refused), Some(1));
        assert_eq!(with(ReleaseState::Cancelled), Some(1));
        assert_eq!(with(ReleaseState::Expired), Some(1));
        assert_eq!(with(ReleaseState::Overtaken), Some(1));
        assert_eq!(with(ReleaseState::AwaitingQuorum), Some(4));
        assert_eq!(with(ReleaseState::AwaitingEvidence), Some(4));
        assert_eq!(state_word(99), "unknown");
    }
}
