//! `rutli demo`: a whole deployment on this machine, from the first ceremony to verified files.
//!
//! One coordinator, `vendor-1` to `vendor-3` (2 of 3) and `supervisor-1` (1 of 1), each a process of its own on loopback.
//! The demo plays all the people: it proposes and joins the ceremony at the nodes' sockets, asks for two releases as the
//! pipeline, and verifies what comes with every verifier it finds. Any step that fails fails the demo. Whatever
//! happens, it stops what it started.

mod checks;
mod processes;
mod workplace;

use std::{path::Path, time::Duration};

use rutli_release::{Channel, Class, Product, ReleaseKey, Sequence, Version};
use rutli_wire::v1;
use serde_json::{Value, json};
use tonic::transport::Channel as Connection;

use self::{
    checks::{Check, Verifiers},
    processes::Processes,
    workplace::Workplace,
};
use crate::{
    ceremonies::{self, Place},
    cli, client,
    client::Profile,
    files::{self, Access},
    init::{NodeFiles, deployment::ClientRole},
    interruption::Interruption,
    keys, releases,
    report::{Failure, Report},
    run,
    sign::{self, Signed},
    text,
};

/// How long any one step may take on a slow machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// How often something is looked at while one waits for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

const CHANNEL: &str = "stable";

/// `rutli demo`. With `--keep` it prints its report when all is up, and returns after Ctrl-C.
///
/// # Errors
/// The step that failed, after everything was stopped.
pub async fn run(args: cli::Demo, json: bool) -> Result<Report, Failure> {
    let mut interruption = Interruption::listen()?.or_hang_up()?;
    let workplace = Workplace::prepare(&args)?;
    let mut processes = Processes::default();
    let mut outcome = tokio::select! {
        outcome = play(&args, &workplace, &mut processes) => outcome,
        name = interruption.wait() => Err(Failure::failed(format!("the demo was interrupted by {name}"))),
    };
    if args.keep
        && let Ok(report) = &outcome
    {
        run::show(report, json)?;
        step("up until Ctrl-C");
        outcome = Ok(Report::default());
        // Whoever tries out what happens without a node may end one: that is said, and the rest stays up.
        loop {
            tokio::select! {
                failure = processes.next_death() => step(&failure.problem),
                _ = interruption.wait() => break,
            }
        }
    }
    processes.stop().await;
    outcome.map_err(|failure| {
        let help = format!("the logs are in {}", workplace.logs.display());
        if failure.help.is_none() { failure.help(help) } else { failure }
    })
}

/// Everything up to the report.
async fn play(args: &cli::Demo, workplace: &Workplace, processes: &mut Processes) -> Result<Report, Failure> {
    step(&format!("working in {}", workplace.dir.display()));
    let deployment = processes.start(workplace).await?;
    let rehearsal = async {
        let stage = Stage::set(&deployment).await?;
        stage.make_keys(&deployment).await?;
        let key = stage.export_keys(workplace, &deployment).await?;
        let signed = stage.sign_all(workplace, &key).await?;
        let verifiers = Verifiers::find(args).await;
        step("verifying");
        let mut checks = Vec::new();
        for (files, release) in &signed {
            checks.extend(verifiers.check(workplace, files, release, &key).await?);
        }
        Ok((signed, checks, verifiers, key))
    };
    let (signed, checks, verifiers, key) = tokio::select! {
        result = rehearsal => result?,
        failure = processes.next_death() => return Err(failure),
    };
    if let Some(failed) = checks.iter().find(|check| !check.ok) {
        return Err(Failure::failed(format!("{} failed: {}", failed.by, failed.what)));
    }
    let description = describe_processes(workplace, &deployment, processes)?;
    workplace.write_description(&description)?;
    Ok(report(workplace, args.keep, &description, &signed, &checks, &verifiers, &key))
}

/// Whom the demo plays: all custodians, an operator, a pipeline.
struct Stage {
    custodians: Vec<(NodeFiles, Connection)>,
    operator: Connection,
    pipeline: Connection,
}

impl Stage {
    /// Waits until every process answers and every node is connected.
    async fn set(deployment: &processes::Deployment) -> Result<Self, Failure> {
        let pipeline = connected(deployment.profile(ClientRole::Pipeline)?).await?;
        let operator = connected(deployment.profile(ClientRole::Operator)?).await?;
        let mut custodians = Vec::new();
        for node in &deployment.written.nodes {
            let connection = eventually(&format!("{} connects", node.id), async || {
                let connection = client::connect_socket(&node.socket).await.ok()?;
                let status = node_status(&connection).await?;
                status.coordinators.iter().any(|link| link.connected).then_some(connection)
            })
            .await?;
            custodians.push((node.clone(), connection));
        }
        step(&format!("{} connected to the coordinator", text::count(custodians.len(), "node", "nodes")));
        Ok(Self { custodians, operator, pipeline })
    }

    /// The ceremony, at the nodes' sockets: one custodian proposes, the others compare the words and join.
    async fn make_keys(&self, deployment: &processes::Deployment) -> Result<(), Failure> {
        let mut custodians = self.custodians.iter();
        let (first, connection) =
            custodians.next().ok_or_else(|| Failure::failed("the deployment has no nodes"))?;
        let proposed =
            ceremonies::propose(&Place::Node(connection.clone()), &deployment.written.proposal).await?;
        let field =
            |name: &str| proposed.json.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (id, words) = (field("ceremony_id"), field("words"));
        step(&format!("{} proposed the ceremony with the words: {words}", first.id));
        for (node, connection) in custodians {
            let place = Place::Node(connection.clone());
            eventually(&format!("the proposal reaches {}", node.id), async || {
                ceremonies::all(&place)
                    .await
                    .ok()?
                    .iter()
                    .any(|ceremony| ceremony.ceremony_id == id)
                    .then_some(())
            })
            .await?;
            ceremonies::join(&place, Some(id.clone()), Some(words.clone())).await?;
            step(&format!("{} joined, seeing the same words", node.id));
        }
        let coordinator = Place::Coordinator(self.operator.clone());
        let ceremony = releases::within(Some(STEP_TIMEOUT), ceremonies::follow(&coordinator, &id, |_| ()))
            .await
            .ok_or_else(|| Failure::failed("the ceremony did not end in time"))??;
        ceremonies::done_or_failure(&coordinator, &ceremony)?;
        for (node, connection) in &self.custodians {
            eventually(&format!("{} holds its share", node.id), async || {
                let status = node_status(connection).await?;
                (status.state == "ready" && !status.keys.is_empty()).then_some(())
            })
            .await?;
        }
        step("the ceremony is done: every node holds a share, nobody ever held the key");
        Ok(())
    }

    /// Public keys, and what readers of the log need: as a vendor gives them to endpoints.
    async fn export_keys(
        &self,
        workplace: &Workplace,
        deployment: &processes::Deployment,
    ) -> Result<ReleaseKey, Failure> {
        keys::export(self.pipeline.clone(), &workplace.keys).await?;
        let (trust, log) = (workplace.log_trust(), &deployment.written.log);
        for (from, to) in
            [(&log.key, trust.key), (&log.policy, trust.policy), (&log.trusted_root, trust.trusted_root)]
        {
            files::write_atomically(&to, &files::read(from)?, Access::Public)?;
        }
        sign::read_key(&workplace.release_key())
    }

    /// Signs the product build and the AV database; gives each with its files.
    async fn sign_all(
        &self,
        workplace: &Workplace,
        key: &ReleaseKey,
    ) -> Result<Vec<(Vec<std::path::PathBuf>, Signed)>, Failure> {
        let mut signed = Vec::new();
        for request in [
            build_request(workplace.files.clone())?,
            request(Class::AvDatabase, "avdb", "1", workplace.write_av_database()?)?,
        ] {
            let count = text::count(request.files.len(), "file", "files");
            step(&format!("signing {count} as {} of {}", request.class, request.product));
            let release = sign::sign(
                self.pipeline.clone(),
                &request,
                Some(key),
                &workplace.out,
                Some(STEP_TIMEOUT),
                STEP_TIMEOUT,
            )
            .await?;
            if release.release.proven_at == 0 {
                return Err(Failure::failed(format!(
                    "release {} is signed, but the proof that it is in the log did not come",
                    text::printable(&release.release.release_id)
                )));
            }
            signed.push((request.files, release));
        }
        Ok(signed)
    }
}

/// What the demo asks for, in all formats.
fn request(
    class: Class,
    product: &str,
    version: &str,
    files: Vec<std::path::PathBuf>,
) -> Result<sign::Request, Failure> {
    Ok(sign::Request {
        class,
        product: named(Product::new(product))?,
        channel: named(Channel::new(CHANNEL))?,
        version: named(Version::new(version))?,
        sequence: named(Sequence::new(1))?,
        expires_at: None,
        embargo_until: None,
        formats: Vec::new(),
        request_id: None,
        files,
        base: None,
        evidence: Vec::new(),
    })
}

/// The release of the files that are given to the demo.
fn build_request(files: Vec<std::path::PathBuf>) -> Result<sign::Request, Failure> {
    request(Class::ProductBuild, "sandbox", "1.0.0", files)
}

/// What `demo.json` holds.
fn describe_processes(
    workplace: &Workplace,
    deployment: &processes::Deployment,
    processes: &Processes,
) -> Result<Value, Failure> {
    let profile = deployment.profile(ClientRole::Pipeline)?;
    let copy = toml::to_string(&profile).map_err(|error| Failure::failed(error.to_string()))?;
    files::write_atomically(&workplace.client_toml(), copy.as_bytes(), Access::Public)?;
    let nodes: Vec<_> = deployment
        .written
        .nodes
        .iter()
        .map(|node| {
            json!({
                "name": node.id.node.as_str(),
                "organisation": node.id.organisation.as_str(),
                "pid": processes.pid(&node.id.to_string()),
                "socket": node.socket,
            })
        })
        .collect();
    Ok(json!({
        "coordinator": { "grpc": deployment.address.to_string(), "pid": processes.pid(processes::COORDINATOR) },
        "nodes": nodes,
        "log": { "url": deployment.written.log.url },
        "client": { "certificate": profile.tls.certificate, "key": profile.tls.key, "ca": profile.tls.ca },
    }))
}

fn report(
    workplace: &Workplace,
    up: bool,
    description: &Value,
    signed: &[(Vec<std::path::PathBuf>, Signed)],
    checks: &[Check],
    verifiers: &Verifiers,
    key: &ReleaseKey,
) -> Report {
    let releases = signed.iter().map(|(files, signed)| {
        let content = signed.release.content.clone().unwrap_or_default();
        vec![
            text::printable(&signed.release.release_id),
            format!("{} {}", text::printable(&content.product), text::printable(&content.version)),
            text::count(files.len(), "file", "files"),
            signed.release.signatures_total.to_string(),
            text::list(&signed.release.signed_by).replace(", ", "\n"),
        ]
    });
    let verified = verifiers.names().into_iter().map(|(name, found)| {
        let count = checks.iter().filter(|check| check.by == name && !check.tampered).count();
        let tampered = checks.iter().filter(|check| check.by == name && check.tampered).count();
        match found {
            Ok(version) => vec![
                name.to_owned(),
                version,
                format!("{count} accepted"),
                format!("{tampered} changed by one bit refused"),
            ],
            Err(missing) => vec![name.to_owned(), missing, "–".to_owned(), "–".to_owned()],
        }
    });
    let text = [
        text::framed(&["release", "product", "files", "signatures", "signed by"], releases),
        text::framed(&["verifier", "version", "signatures", "tampering"], verified),
        format!("The public key is {}, its id {}.", workplace.release_key().display(), key.key_id()),
        "Verify it yourself:".to_owned(),
        checks::commands(workplace, signed).join("\n"),
        workplace.next_steps(up, description.pointer("/log/url").and_then(Value::as_str).unwrap_or_default()),
    ]
    .join("\n\n");
    let mut json = description.clone();
    if let Value::Object(fields) = &mut json {
        fields.insert("dir".to_owned(), json!(workplace.dir));
        fields.insert(
            "releases".to_owned(),
            signed.iter().map(|(_, signed)| releases::to_json(&signed.release)).collect(),
        );
        fields.insert("checks".to_owned(), checks.iter().map(Check::to_json).collect());
    }
    Report::new(text, json)
}

async fn connected(profile: Profile) -> Result<Connection, Failure> {
    eventually("the coordinator answers", async || {
        let connection = profile.connect().await.ok()?;
        client::ceremonies(connection.clone()).list_keys(v1::ListKeysRequest {}).await.ok()?;
        Some(connection)
    })
    .await
}

async fn node_status(connection: &Connection) -> Option<v1::StatusResponse> {
    let answer = client::custodian(connection.clone()).status(v1::StatusRequest {}).await;
    Some(answer.ok()?.into_inner())
}

/// Looks again and again until there is something.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T, Failure> {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let seconds = STEP_TIMEOUT.as_secs();
    tokio::time::timeout(STEP_TIMEOUT, looking)
        .await
        .map_err(|_| Failure::failed(format!("waited {seconds} s until {what}, in vain")))
}

fn named<T, E: std::fmt::Display>(name: Result<T, E>) -> Result<T, Failure> {
    name.map_err(|error| Failure::failed(error.to_string()))
}

/// What happens, for eyes, on stderr.
fn step(what: &str) {
    eprintln!("• {what}");
}

/// A path for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=~".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/tmp/a-1/b.sig")), "/tmp/a-1/b.sig");
        assert_eq!(quoted(Path::new("/tmp/it's a $x")), "'/tmp/it'\\''s a $x'");
    }
}
