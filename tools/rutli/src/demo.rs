//! `rutli demo`: a whole deployment on this machine, from the first ceremony to verified files.
//!
//! One coordinator, `vendor-1` to `vendor-3` (2 of 3) and `supervisor-1` (1 of 1), each a process of its own on loopback.
//! The demo plays all the people: it proposes and joins the ceremony at the nodes' sockets, asks for two releases as the
//! pipeline, and verifies what comes with every verifier it finds. Any step that fails fails the demo. Whatever
//! happens, it stops what it started.

mod checks;
mod people;
mod processes;
mod workplace;

use std::{path::Path, time::Duration};

use rutli_release::{Channel, Class, InvalidRelease, Product, ReleaseKey, Sequence, Version};
use rutli_wire::v1;
use serde_json::{Value, json};
use tonic::transport::Channel as Connection;

use self::{
    checks::{Check, Verifiers},
    people::People,
    processes::Processes,
    workplace::Workplace,
};
use crate::{
    ceremonies::{self, Place},
    cli, client,
    client::Profile,
    evidence,
    files::{self, Access},
    init::{NodeFiles, deployment::ClientRole},
    interruption::Interruption,
    keys, releases,
    report::{Failure, Report},
    run,
    sign::{self, Signed},
    text, waits,
};

/// How long any one step may take on a slow machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// How often something is looked at while one waits for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

const CHANNEL: &str = "stable";

/// What the demo's key signs, for ssh-keygen.
const SIGNED_PRODUCTS: [&str; 4] =
    ["product-build/sandbox", "product-build/suite", "av-database/sandbox", "av-database/avdb"];

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
    let people = People::new(workplace)?;
    let deployment = processes.start(workplace, &people).await?;
    let rehearsal = async {
        let stage = Stage::set(&deployment).await?;
        stage.make_keys(&deployment).await?;
        let key = stage.export_keys(workplace, &deployment).await?;
        let (signed, notices) = stage.sign_all(workplace, &deployment, &people, &key).await?;
        let verifiers = Verifiers::find(args).await;
        step("verifying");
        let mut checks = Vec::new();
        for (files, release) in &signed {
            checks.extend(verifiers.check(workplace, files, release, &key).await?);
        }
        Ok((signed, notices, checks, verifiers, key))
    };
    let (signed, notices, checks, verifiers, key) = tokio::select! {
        result = rehearsal => result?,
        failure = processes.next_death() => return Err(failure),
    };
    if let Some(failed) = checks.iter().find(|check| !check.ok) {
        return Err(Failure::failed(format!("{} failed: {}", failed.by, failed.what)));
    }
    let description = describe_processes(workplace, &deployment, processes)?;
    workplace.write_description(&description)?;
    Ok(report(workplace, args.keep, &description, (&signed, &notices), &checks, &verifiers, &key))
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

    /// The ceremony, at the nodes' sockets: one custodian proposes, the others compare the phrase and join.
    async fn make_keys(&self, deployment: &processes::Deployment) -> Result<(), Failure> {
        let mut custodians = self.custodians.iter();
        let (first, connection) =
            custodians.next().ok_or_else(|| Failure::failed("the deployment has no nodes"))?;
        let proposed =
            ceremonies::propose(&Place::Node(connection.clone()), &deployment.written.proposal, false)
                .await?;
        let field =
            |name: &str| proposed.json.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = field("ceremony_id");
        step(&format!("{} proposed the ceremony", first.id));
        let words = ceremonies::with_phrase(&Place::Node(connection.clone()), &id).await?.words;
        step(&format!("all nodes added their nonces; the phrase is: {words}"));
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
            step(&format!("{} joined, seeing the same phrase", node.id));
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
        let namespaces = SIGNED_PRODUCTS.map(|named| named.parse());
        let namespaces: Result<Vec<_>, _> = namespaces.into_iter().collect();
        let namespaces = namespaces.map_err(|error: InvalidRelease| Failure::failed(error.to_string()))?;
        keys::export(self.pipeline.clone(), &workplace.keys, &namespaces).await?;
        let (trust, log) = (workplace.log_trust(), &deployment.written.log);
        for (from, to) in
            [(&log.key, trust.key), (&log.policy, trust.policy), (&log.trusted_root, trust.trusted_root)]
        {
            files::write_atomically(&to, &files::read(from)?, Access::Public)?;
        }
        sign::read_key(&workplace.release_key())
    }

    /// Signs the given files, which are free; the AV database with its provenance and test result; and the suite with its provenance, a rebuild
    /// and an approval. Gives each with its files, and what could not be shown.
    async fn sign_all(
        &self,
        workplace: &Workplace,
        deployment: &processes::Deployment,
        people: &People<'_>,
        key: &ReleaseKey,
    ) -> Result<(Vec<SignedFiles>, Vec<String>), Failure> {
        let mut signed = vec![self.sign(workplace, build_request(workplace.files.clone())?, key).await?];
        let files = workplace.write_av_database()?;
        let attested = people.attest_av_database(&files).await?;
        step(
            "the vendor's builder attests the build of the AV database, and its tester that it passed the false-positive test",
        );
        let database = request(Class::AvDatabase, "avdb", CHANNEL, "1", files)?;
        let database = sign::Request { evidence: evidence::read(&attested)?, ..database };
        signed.push(self.sign(workplace, database, key).await?);
        let notices = match self.sign_suite(workplace, deployment, people, key).await? {
            Ok(suite) => {
                signed.push(suite);
                Vec::new()
            }
            Err(notice) => vec![notice],
        };
        Ok((signed, notices))
    }

    /// The whole way of a product: built, asked for, built again by the third party, approved, signed. `Err` says why this machine
    /// cannot show it.
    async fn sign_suite(
        &self,
        workplace: &Workplace,
        deployment: &processes::Deployment,
        people: &People<'_>,
        key: &ReleaseKey,
    ) -> Result<Result<SignedFiles, String>, Failure> {
        let built = people.build_suite().await?;
        step("the vendor built suite from its source, and attests that and its tests");
        // `beta`: the vendor's example policy lets `stable` go out on working days alone.
        let suite = request(Class::ProductBuild, "suite", "beta", "1.0.0", vec![built.file.clone()])?;
        let suite = sign::Request { evidence: evidence::read(&built.evidence)?, ..suite };
        let (wire, _) = sign::prepare(&suite)?;
        let release = sign::create(self.pipeline.clone(), &wire).await?;
        let id = release.release_id.clone();
        let waiting = eventually("suite waits for evidence", async || {
            let release = releases::get(self.pipeline.clone(), &id).await.ok()?;
            (release.state() == v1::ReleaseState::AwaitingEvidence).then_some(release)
        })
        .await?;
        for want in waits::wants(&waiting) {
            step(&format!("{} waits: {}", text::printable(&id), waits::line(&want)));
        }
        let rebuild = match people.rebuild(&built).await? {
            Ok(rebuild) => rebuild,
            Err(failure) => {
                releases::cancel(self.pipeline.clone(), &id).await?;
                let help = failure.help.map(|help| format!(" ({help})")).unwrap_or_default();
                return Ok(Err(format!(
                    "suite was not signed, for nobody can build it again here: {}{help}",
                    failure.problem
                )));
            }
        };
        step("the supervisor built suite again from the source, without network: every byte is the same");
        people.approve(&deployment.profile_path(ClientRole::Custodian)?, &id, &rebuild).await?;
        step("the supervisor's custodian clara approved it");
        self.sign(workplace, suite, key).await.map(Ok)
    }

    /// Signs one release, or takes up one that was asked for already, and waits until it is proved to be in the log.
    async fn sign(
        &self,
        workplace: &Workplace,
        request: sign::Request,
        key: &ReleaseKey,
    ) -> Result<SignedFiles, Failure> {
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
        Ok((request.files, release))
    }
}

/// A signed release with its files.
type SignedFiles = (Vec<std::path::PathBuf>, Signed);

/// What the demo asks for, in all formats.
fn request(
    class: Class,
    product: &str,
    channel: &str,
    version: &str,
    files: Vec<std::path::PathBuf>,
) -> Result<sign::Request, Failure> {
    Ok(sign::Request {
        class,
        product: named(Product::new(product))?,
        channel: named(Channel::new(channel))?,
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
    request(Class::ProductBuild, "sandbox", CHANNEL, "1.0.0", files)
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
    (signed, notices): (&[SignedFiles], &[String]),
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
        notices.join("\n"),
        format!("The public key is {}, its id {}.", workplace.release_key().display(), key.key_id()),
        "Verify it yourself:".to_owned(),
        checks::commands(workplace, signed).join("\n"),
        workplace.next_steps(up, description.pointer("/log/url").and_then(Value::as_str).unwrap_or_default()),
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect::<Vec<_>>()
    .join("\n\n");
    let mut json = description.clone();
    if let Value::Object(fields) = &mut json {
        fields.insert("dir".to_owned(), json!(workplace.dir));
        fields.insert(
            "releases".to_owned(),
            signed.iter().map(|(_, signed)| releases::to_json(&signed.release)).collect(),
        );
        fields.insert("notices".to_owned(), json!(notices));
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
