//! Against a witness over real HTTP that does what c2sp.org/tlog-witness says, and against ones that do not.

use std::{
    convert::Infallible,
    net::SocketAddr,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use http::{Response, header::CONTENT_TYPE};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use rutli_keys::IdentityKey;
use rutli_log::{
    Frontier, Head, LogKey, LogSigner, NotACheckpoint, Origin, Tiles, check_consistency, leaf_hash,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::Witness as WitnessConfig;
use crate::testing::Authority;

/// By the witness's clock.
const TIME: u64 = 1_795_255_200;

fn signer() -> LogSigner {
    LogSigner::from_bytes(Origin::new("log.example/test").unwrap(), &[7; 32])
}

/// A tree of which the first `common` entries are those of every other one of the same name.
fn tree(size: u64, name: &str, common: u64) -> Tiles {
    let mut tiles = Tiles::default();
    for index in 0..size {
        let name = if index < common { "" } else { name };
        tiles.push(leaf_hash(format!("entry {name}{index}").as_bytes()));
    }
    tiles
}

fn head_of(tiles: &Tiles) -> Head {
    Frontier::of(tiles, tiles.size()).unwrap().head()
}

fn checkpoint(size: u64) -> SignedCheckpoint {
    signer().sign(head_of(&tree(size, "", 0)))
}

/// Proves to the test's tree of `size`.
fn prover(size: u64) -> impl FnMut(u64) -> Result<Vec<Hash>> {
    move |old| Ok(tree(size, "", 0).prove_consistency(old, size).unwrap())
}

/// How it answers what it should cosign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Honest,
    /// Over another text.
    Forged,
    /// With another's key.
    Stranger,
    Huge,
    HugeHeaders,
    Hanging,
    Says(u16, &'static str),
}

struct Witness {
    log: LogKey,
    key: IdentityKey,
    cosigner: Cosigner,
    seen: Mutex<Head>,
    mood: Mutex<Mood>,
    questions: AtomicU32,
    connections: AtomicU32,
}

impl Witness {
    /// One that listens, and its address.
    async fn start() -> (Arc<Self>, WitnessConfig) {
        let (witness, listener) = Self::bind().await;
        let config = witness.config(&format!("http://{}/w/", listener.local_addr().unwrap()));
        let serving = Arc::clone(&witness);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&serving).converse(socket));
            }
        });
        (witness, config)
    }

    async fn bind() -> (Arc<Self>, TcpListener) {
        let key = IdentityKey::from_bytes(&[9; 32]);
        let cosigner = Cosigner::new("witness.example/w1", &key.public().to_bytes()).unwrap();
        let witness = Self {
            log: signer().public(),
            key,
            cosigner,
            seen: Mutex::new(Head::EMPTY),
            mood: Mutex::new(Mood::Honest),
            questions: AtomicU32::new(0),
            connections: AtomicU32::new(0),
        };
        (Arc::new(witness), TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn config(&self, url: &str) -> WitnessConfig {
        WitnessConfig { url: url.to_owned(), key: self.cosigner.clone() }
    }

    async fn converse(self: Arc<Self>, socket: impl AsyncRead + AsyncWrite + Unpin) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let answer = service_fn(|request: Request<Incoming>| {
            let witness = Arc::clone(&self);
            async move { Ok::<_, Infallible>(witness.answer(request).await) }
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let right = request.method() == Method::POST && request.uri() == "/w/add-checkpoint";
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mood = *self.mood.lock().unwrap();
        let (status, text) = match mood {
            _ if !right => (404, String::new()),
            Mood::Hanging => std::future::pending().await,
            Mood::Says(status, text) => (status, text.to_owned()),
            _ => self.add_checkpoint(std::str::from_utf8(&body).unwrap(), mood),
        };
        let kind = if status == 409 { "text/x.tlog.size" } else { "text/plain" };
        let mut answer = Response::builder().status(status).header(CONTENT_TYPE, kind);
        if mood == Mood::HugeHeaders {
            answer = answer.header("x-long", "x".repeat(2 * limits::WITNESS_ANSWER_BYTES));
        }
        answer.body(Full::from(text)).unwrap()
    }

    /// The specification's add-checkpoint, in its order.
    fn add_checkpoint(&self, body: &str, mood: Mood) -> (u16, String) {
        let Some((request, note)) = body.split_once("\n\n") else { return (400, String::new()) };
        let mut lines = request.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old "));
        let Some(old) = old.and_then(|old| size_in(format!("{old}\n").as_bytes())) else {
            return (400, String::new());
        };
        let proof: Result<Vec<Hash>, _> = lines.map(Hash::from_base64).collect();
        let Some(proof) = proof.ok().filter(|proof| proof.len() <= 63) else { return (400, String::new()) };
        let checkpoint = match self.log.open(note) {
            Ok(checkpoint) => checkpoint,
            Err(NotACheckpoint::Origin { .. }) => return (404, String::new()),
            Err(NotACheckpoint::Malformed) => return (400, String::new()),
            Err(_) => return (403, String::new()),
        };
        let head = checkpoint.head();
        if old > head.size {
            return (400, String::new());
        }
        let mut seen = self.seen.lock().unwrap();
        if old != seen.size || (seen.size == head.size && seen.root != head.root) {
            return (409, format!("{}\n", seen.size));
        }
        if check_consistency(&seen, &head, &proof).is_err() {
            return (422, String::new());
        }
        *seen = head;
        (200, self.lines(&checkpoint, mood))
    }

    /// Its cosignature line, after one by somebody else, as a witness with two keys sends them.
    fn lines(&self, checkpoint: &SignedCheckpoint, mood: Mood) -> String {
        let line = |cosigner: &Cosigner, key: &IdentityKey| {
            let signature = key.cosign(TIME, &checkpoint.text());
            let mut cosigned = checkpoint.clone();
            cosigned.add_cosignature(cosigner, &Cosignature { time: TIME, signature }).unwrap();
            format!("{}\n", cosigned.to_note().lines().last().unwrap())
        };
        let other = IdentityKey::from_bytes(&[10; 32]);
        let stranger =
            line(&Cosigner::new(self.cosigner.name(), &other.public().to_bytes()).unwrap(), &other);
        let own = line(&self.cosigner, &self.key);
        match mood {
            Mood::Forged => self.lines(&signer().sign(Head::EMPTY), Mood::Honest),
            Mood::Stranger => stranger,
            Mood::Huge => stranger.repeat(100_000) + &own,
            _ => format!("{stranger}{own}"),
        }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn questions(&self) -> u32 {
        self.questions.swap(0, Ordering::SeqCst)
    }
}

async fn problem(outside: &mut OutsideWitness, size: u64) -> String {
    let error = outside.cosign(&checkpoint(size), prover(size)).await.unwrap_err();
    assert!(matches!(&error, Error::Witness { name, .. } if name == "witness.example/w1"), "{error}");
    error.to_string()
}

#[tokio::test]
async fn heads_are_cosigned_one_after_the_other() {
    let (witness, config) = Witness::start().await;
    let mut outside = OutsideWitness::new(&config).unwrap();
    for (size, questions) in [(5, 1), (5, 1), (300, 1), (301, 1), (70_000, 1)] {
        let mut checkpoint = checkpoint(size);
        let cosignature = outside.cosign(&checkpoint, prover(size)).await.unwrap();
        assert_eq!(cosignature.time, TIME);
        checkpoint.add_cosignature(outside.cosigner(), &cosignature).unwrap();
        assert_eq!(witness.seen.lock().unwrap().size, size);
        assert_eq!(witness.questions(), questions, "{size}");
    }
    assert_eq!(witness.connections.load(Ordering::SeqCst), 1, "the connection is kept");
}

#[tokio::test]
async fn a_witness_that_is_elsewhere_tells_where() {
    let (witness, config) = Witness::start().await;
    *witness.seen.lock().unwrap() = checkpoint(40).head();
    let mut outside = OutsideWitness::new(&config).unwrap();
    outside.cosign(&checkpoint(300), prover(300)).await.unwrap();
    assert_eq!(witness.questions(), 2);
    // It was handed another head meanwhile, by another process of ours.
    *witness.seen.lock().unwrap() = checkpoint(400).head();
    outside.cosign(&checkpoint(500), prover(500)).await.unwrap();
    assert_eq!(witness.questions(), 2);
    // It lost what it knew.
    *witness.seen.lock().unwrap() = Head::EMPTY;
    outside.cosign(&checkpoint(500), prover(500)).await.unwrap();
    assert_eq!(witness.questions(), 2);
}

#[tokio::test(start_paused = true)]
async fn other_histories_are_named() {
    let (witness, config) = Witness::start().await;
    let mut outside = OutsideWitness::new(&config).unwrap();
    *witness.seen.lock().unwrap() = checkpoint(400).head();
    assert!(problem(&mut outside, 300).await.contains("it has cosigned 400 entries"));
    assert_eq!(witness.questions(), 1, "nothing is sent that goes backwards");
    *witness.seen.lock().unwrap() = head_of(&tree(200, "other", 100));
    assert!(problem(&mut outside, 300).await.contains("it has seen another history"));
    *witness.seen.lock().unwrap() = head_of(&tree(300, "other", 100));
    assert!(problem(&mut outside, 300).await.contains("it has cosigned another tree of 300 entries"));
    // None of it sticks.
    *witness.seen.lock().unwrap() = checkpoint(100).head();
    outside.cosign(&checkpoint(300), prover(300)).await.unwrap();

    let mut unknown = OutsideWitness::new(&config).unwrap();
    let another_log = LogSigner::from_bytes(Origin::new("log.example/other").unwrap(), &[7; 32]);
    let another_key = LogSigner::from_bytes(Origin::new("log.example/test").unwrap(), &[8; 32]);
    for (signer, says) in [(another_log, "does not know the log"), (another_key, "knows another key")] {
        let error = unknown.cosign(&signer.sign(checkpoint(300).head()), prover(300)).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_genuine_cosignature_is_taken() {
    let (witness, config) = Witness::start().await;
    let mut outside = OutsideWitness::new(&config).unwrap();
    for mood in
        [Mood::Forged, Mood::Stranger, Mood::Says(200, ""), Mood::Says(200, "\u{1}\n— a b\n— \n\n— x AAAA\n")]
    {
        witness.set(mood);
        let problem = problem(&mut outside, 300).await;
        assert!(
            problem.contains("no cosignature by the configured key that verifies"),
            "{mood:?}: {problem}"
        );
    }
    witness.questions();
    for (mood, says) in [
        (Mood::Huge, "cannot be read: length limit exceeded"),
        (Mood::HugeHeaders, "cannot be reached"),
        (Mood::Says(503, "later"), "it answered 503"),
        (Mood::Says(302, ""), "it answered 302"),
        (Mood::Says(409, "\n"), "does not say which"),
        (Mood::Says(409, "007\n"), "does not say which"),
        (Mood::Says(409, "-1\n"), "does not say which"),
        (Mood::Says(409, "7"), "does not say which"),
        (Mood::Says(409, "18446744073709551616\n"), "does not say which"),
        (Mood::Says(409, "18446744073709551615\n"), "it has cosigned 18446744073709551615 entries"),
        (Mood::Says(409, "0\n"), "another each time"),
        (Mood::Says(409, "7\n"), "another each time"),
    ] {
        witness.set(mood);
        let problem = problem(&mut outside, 300).await;
        assert!(problem.contains(says), "{mood:?}: {problem}");
        let questions = witness.questions();
        assert!(questions <= limits::WITNESS_QUESTIONS, "{mood:?}: {questions}");
    }
    // It comes to its senses.
    witness.set(Mood::Honest);
    outside.cosign(&checkpoint(300), prover(300)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_is_left_alone_for_longer_and_longer() {
    let (witness, config) = Witness::start().await;
    let mut outside = OutsideWitness::new(&config).unwrap();
    witness.set(Mood::Hanging);
    let began = Instant::now();
    assert!(problem(&mut outside, 300).await.contains("no answer within 15 s"));
    let second = Duration::from_secs(1);
    assert!(began.elapsed() < Duration::from_secs(limits::WITNESS_SECONDS) + second);

    witness.set(Mood::Says(500, ""));
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let began = Instant::now();
        problem(&mut outside, 300).await;
        pauses.push(began.elapsed().as_secs());
    }
    assert_eq!(pauses[..4], [2, 4, 8, 16]);
    assert_eq!(pauses[10..], [600, 600]);
    witness.set(Mood::Honest);
    outside.cosign(&checkpoint(300), prover(300)).await.unwrap();
    let began = Instant::now();
    outside.cosign(&checkpoint(301), prover(301)).await.unwrap();
    assert!(began.elapsed() < second, "what is over is forgotten");
}

#[tokio::test]
async fn nobody_at_the_address_is_named() {
    let (witness, listener) = Witness::bind().await;
    let config = witness.config(&format!("http://{}/w", listener.local_addr().unwrap()));
    drop(listener);
    let mut outside = OutsideWitness::new(&config).unwrap();
    let problem = problem(&mut outside, 300).await;
    assert!(problem.contains("cannot be reached") && problem.contains("refused"), "{problem}");
    for bad in ["", "witness.example", "ftp://witness.example", "http://", "http://a b", "http://a/?b"] {
        let error = OutsideWitness::new(&witness.config(bad)).unwrap_err();
        assert!(matches!(error, Error::Witness { .. }), "{bad}: {error}");
    }
}

#[test]
fn the_configuration_is_read() {
    let key = Cosigner::new("w.example", &IdentityKey::from_bytes(&[9; 32]).public().to_bytes()).unwrap();
    let text = format!("url = \"https://w.example/\"\nkey = \"{key}\"\n");
    let config: WitnessConfig = toml::from_str(&text).unwrap();
    assert_eq!(config, WitnessConfig { url: "https://w.example/".into(), key });
    let other_type = signer().public().to_string();
    assert!(toml::from_str::<WitnessConfig>(&format!("url = \"\"\nkey = \"{other_type}\"\n")).is_err());
    assert!(toml::from_str::<WitnessConfig>(&format!("{text}more = 1\n")).is_err());
}

#[tokio::test]
#[ignore = "not by itself: a process that `over_tls_the_systems_authorities_decide` starts"]
async fn the_one_that_asks_over_tls() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let config = WitnessConfig {
        url: variable("RUTLI_TEST_WITNESS_URL"),
        key: variable("RUTLI_TEST_WITNESS_KEY").parse().unwrap(),
    };
    let mut outside = OutsideWitness::new(&config).unwrap();
    outside.cosign(&checkpoint(300), prover(300)).await.unwrap();
}

#[tokio::test]
async fn over_tls_the_systems_authorities_decide() {
    let (witness, listener) = Witness::bind().await;
    let address: SocketAddr = listener.local_addr().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let identity = authority.issue("rutli:coordinator:main");
    let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let serving = Arc::clone(&witness);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            if let Ok(socket) = acceptor.accept(socket).await {
                tokio::spawn(Arc::clone(&serving).converse(socket));
            }
        }
    });
    // The system's authorities are those of a process: one with the witness's among them, and one without.
    for (authority, trusted) in [(stranger, false), (authority, true)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authorities.pem");
        std::fs::write(&file, &authority.pem).unwrap();
        let mut asking = Command::new(std::env::current_exe().unwrap());
        asking
            .args(["--exact", "log::witness::tests::the_one_that_asks_over_tls", "--ignored", "--nocapture"])
            .env("SSL_CERT_FILE", &file)
            .env_remove("SSL_CERT_DIR")
            .env("RUTLI_TEST_WITNESS_URL", format!("https://localhost:{}/w", address.port()))
            .env("RUTLI_TEST_WITNESS_KEY", witness.cosigner.to_string());
        let asked = tokio::task::spawn_blocking(move || asking.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert_eq!(asked.status.success(), trusted, "{said}");
        assert!(trusted || said.contains("invalid peer certificate"), "{said}");
        assert_eq!(witness.questions(), u32::from(trusted));
    }
    assert_eq!(witness.seen.lock().unwrap().size, 300);
}
