use std::{collections::BTreeMap, fs, net::SocketAddr, time::Duration};

use rutli_log::{
    Frontier, Head, LogSigner, Origin, Tiles, leaf_hash,
    sigstore::{SigstoreHead, SigstoreSigner},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
    time::Instant,
};

use super::*;
use crate::{log::folder::Appender, testing::StillClock};

struct Site {
    _temporary: tempfile::TempDir,
    appender: Appender,
    address: SocketAddr,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
}

fn signer() -> LogSigner {
    LogSigner::from_bytes(Origin::new("log.example/test").unwrap(), &[7; 32])
}

fn entries(from: u64, to: u64) -> Vec<Vec<u8>> {
    (from..to).map(|index| format!("entry {index}").into_bytes()).collect()
}

fn head(size: u64) -> Head {
    let mut tiles = Tiles::default();
    entries(0, size).iter().for_each(|entry| tiles.push(leaf_hash(entry)));
    Frontier::of(&tiles, size).unwrap().head()
}

fn sigstore(size: u64) -> SigstoreHead {
    let signer = SigstoreSigner::from_bytes("https://log.example".parse().unwrap(), &[7; 32]).unwrap();
    signer.sign_head(head(size)).unwrap()
}

const STATEMENT: &[u8] = br#"{"statement":1}"#;

impl Site {
    /// A log of 300 entries and a document, published.
    async fn start() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = LogFolder::open(&temporary.path().join("log")).unwrap();
        let mut appender = folder.resume(Head::EMPTY).unwrap();
        let documents = [(sha256(STATEMENT), STATEMENT.to_vec())];
        appender.append(&entries(0, 300), &documents, head(300)).unwrap();
        appender.publish(&signer().sign(head(300)), Some(&sigstore(300))).unwrap();
        // What a web server must not give away, beside the folder and in it.
        fs::write(temporary.path().join("secret"), "secret").unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        fs::write(folder.path().join("tile/0/.001.tmp"), "half").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let stop = stopping.clone();
        let serving = tokio::spawn(async move { serve(listener, folder, &signer().public(), stop).await });
        Self { _temporary: temporary, appender, address, stopping, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes as they are, and reads to the end of the connection.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut socket = self.connect().await;
        // The server may refuse before it has read all.
        let _ = socket.write_all(bytes.as_ref()).await;
        to_end(&mut socket).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: log\r\nConnection: close\r\n{headers}\r\n");
        Reply::parse(&self.raw(request).await)
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[]).await
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.appender.folder().path().join(name)).unwrap()
    }
}

async fn to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut reply = Vec::new();
    let _ = socket.read_to_end(&mut reply).await;
    reply
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("headers");
        let mut lines = std::str::from_utf8(&bytes[..end]).unwrap().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

#[tokio::test]
async fn everything_is_served_as_it_lies_there() {
    let site = Site::start().await;
    let document = document_path(&sha256(STATEMENT));
    let (bytes, text) = ("application/octet-stream", "text/plain; charset=utf-8");
    for (name, kind, caching) in [
        ("tile/0/000", bytes, FOR_EVER),
        ("tile/entries/000", bytes, FOR_EVER),
        ("tile/0/001.p/44", bytes, A_WHILE),
        ("tile/1/000.p/1", bytes, A_WHILE),
        ("tile/entries/001.p/44", bytes, A_WHILE),
        (&document, bytes, FOR_EVER),
        ("checkpoint", text, ASK_AGAIN),
        ("checkpoint-sigstore", text, ASK_AGAIN),
    ] {
        let reply = site.get(&format!("/{name}")).await;
        assert_eq!((reply.status, &reply.body), (200, &site.file(name)), "{name}");
        assert_eq!((reply.header("content-type"), reply.header("cache-control")), (kind, caching), "{name}");
        assert_eq!(reply.header("content-length"), reply.body.len().to_string(), "{name}");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");

        let head = site.ask("HEAD", &format!("/{name}"), &[("Range", "bytes=0-1")]).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{name}");
        for same in ["content-length", "etag", "content-type", "cache-control"] {
            assert_eq!(head.header(same), reply.header(same), "{name}");
        }

        let tag = reply.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.len() > 4, "{tag}");
        for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let reply = site.ask("GET", &format!("/{name}"), &[("If-None-Match", &known)]).await;
            assert_eq!(
                (reply.status, reply.body.len(), reply.header("etag")),
                (304, 0, tag.as_str()),
                "{name}"
            );
            assert_eq!(reply.header("cache-control"), caching);
        }
        let reply = site.ask("GET", &format!("/{name}?a=b"), &[("If-None-Match", "\"other\"")]).await;
        assert_eq!((reply.status, reply.body), (200, site.file(name)), "{name}");
    }
    let index = String::from_utf8(site.get("/").await.body).unwrap();
    assert!(index.contains("log.example/test") && index.contains(&signer().public().to_string()), "{index}");
}

#[tokio::test]
async fn a_new_checkpoint_has_a_new_tag_at_once() {
    let mut site = Site::start().await;
    for size in 301..310 {
        let before = [site.get("/checkpoint").await, site.get("/checkpoint-sigstore").await];
        site.appender.append(&entries(size - 1, size), &[], head(size)).unwrap();
        site.appender.publish(&signer().sign(head(size)), Some(&sigstore(size))).unwrap();
        let notes = [signer().sign(head(size)).to_note(), sigstore(size).note().to_owned()];
        for ((name, before), note) in ["/checkpoint", "/checkpoint-sigstore"].iter().zip(before).zip(notes) {
            let after = site.ask("GET", name, &[("If-None-Match", before.header("etag"))]).await;
            assert_eq!((after.status, after.body), (200, note.into_bytes()), "{name}");
        }
    }
}

#[tokio::test]
async fn ranges_are_served_one_at_a_time() {
    let site = Site::start().await;
    let whole = site.file("tile/0/000");
    let tag = site.get("/tile/0/000").await.header("etag").to_owned();
    for (range, from, to) in [
        ("bytes=0-31", 0, 32),
        ("bytes=32-32", 32, 33),
        ("bytes=8000-", 8000, 8192),
        ("bytes=-32", 8160, 8192),
        ("bytes=8191-9999", 8191, 8192),
    ] {
        for more in [("If-Range", tag.as_str()), ("Accept", "*/*")] {
            let reply = site.ask("GET", "/tile/0/000", &[("Range", range), more]).await;
            assert_eq!((reply.status, &reply.body[..]), (206, &whole[from..to]), "{range}");
            assert_eq!(reply.header("content-range"), format!("bytes {from}-{}/8192", to - 1));
            assert_eq!((reply.header("etag"), reply.header("cache-control")), (tag.as_str(), FOR_EVER));
        }
    }
    for range in ["bytes=8192-", "bytes=0-1,4-5", "bytes=5-4", "bytes=-0", "bytes=x", "bytes="] {
        let reply = site.ask("GET", "/tile/0/000", &[("Range", range)]).await;
        assert_eq!((reply.status, reply.header("content-range")), (416, "bytes */8192"), "{range}");
        assert_eq!(reply.header("cache-control"), NEVER);
    }
    // Another unit, or a part of what is not there any more: the whole.
    for headers in [&[("Range", "hashes=0-1")][..], &[("Range", "bytes=0-1"), ("If-Range", "\"other\"")]] {
        let reply = site.ask("GET", "/tile/0/000", headers).await;
        assert_eq!((reply.status, reply.body.len()), (200, 8192));
    }
}

#[tokio::test]
async fn nothing_else_is_served() {
    let site = Site::start().await;
    let digest = sha256(STATEMENT).to_string();
    for path in [
        "/secret",
        "/../secret",
        "/tile/../secret",
        "/tile/0/../../../secret",
        "/%2e%2e/secret",
        "/tile/0/.001.tmp",
        "//checkpoint",
        "/checkpoint/",
        "/Checkpoint",
        "/.checkpoint.tmp",
        "/checkpoint-sigstore/",
        "/.checkpoint-sigstore.tmp",
        "/check%70oint",
        "/tile",
        "/tile/",
        "/tile/0",
        "/tile/0/0",
        "/tile/0/0000",
        "/tile/0/002",
        "/tile/0/000.p/256",
        "/tile/0/001.p/044",
        "/tile/0/001.p/43",
        "/tile/00/000",
        "/tile/7/000",
        "/tile/0/x000/000",
        "/tile/0/000%00",
        "/sha256",
        &format!("/sha256/{digest}"),
        &format!("/sha256/00/{digest}"),
        &format!("/sha256/{}/{}", &digest[..2], digest.to_uppercase()),
        &format!("/sha256/{}/{}", "00", "0".repeat(64)),
        "/index.html",
    ] {
        let reply = site.get(path).await;
        assert_eq!((reply.status, reply.header("cache-control")), (404, NEVER), "{path}");
        assert!(!String::from_utf8_lossy(&reply.body).contains("half"), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"] {
        let reply = site.ask(method, "/checkpoint", &[]).await;
        assert_eq!((reply.status, reply.header("allow")), (405, "GET, HEAD"), "{method}");
    }
    for length in ["Content-Length: 3", "Transfer-Encoding: chunked"] {
        let request =
            format!("GET /checkpoint HTTP/1.1\r\nHost: log\r\nConnection: close\r\n{length}\r\n\r\nabc");
        assert_eq!(Reply::parse(&site.raw(request).await).status, 400, "{length}");
    }
}

#[tokio::test]
async fn rubbish_is_refused_and_bounded() {
    let site = Site::start().await;
    let long = "x".repeat(limits::WEB_BUFFER_BYTES);
    let many: String = (0..=limits::WEB_HEADERS).map(|number| format!("x{number}: y\r\n")).collect();
    for (rubbish, status) in [
        ("\r\n\r\n\r\nhello\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned(), 400),
        ("GET checkpoint\r\n\r\n".to_owned(), 400),
        (format!("GET /{long} HTTP/1.1\r\nHost: log\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: log\r\nx: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: log\r\n{many}\r\n"), 431),
    ] {
        let reply = site.raw(&rubbish).await;
        let start: String = rubbish.chars().take(40).collect();
        if status == 414 && Reply::parse(&reply).status == 431 {
            continue;
        }
        assert_eq!(Reply::parse(&reply).status, status, "{start:?}");
    }
    assert_eq!(site.get("/checkpoint").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_silent_and_the_slow_are_ended() {
    let site = Site::start().await;
    let (second, began) = (Duration::from_secs(1), Instant::now());
    // Says nothing, says half of it, says nothing more after an answer.
    for start in ["", "GET /checkpoint HTTP/1.1\r\nHost:", "GET /checkpoint HTTP/1.1\r\nHost: log\r\n\r\n"] {
        let mut socket = site.connect().await;
        socket.write_all(start.as_bytes()).await.unwrap();
        to_end(&mut socket).await;
    }
    let silent = Duration::from_secs(limits::WEB_HEADER_SECONDS);
    assert!(
        began.elapsed() >= 3 * silent && began.elapsed() < 3 * (silent + second),
        "{:?}",
        began.elapsed()
    );
    // Asks again and again.
    let (mut socket, began) = (site.connect().await, Instant::now());
    let mut buffer = vec![0; 4096];
    loop {
        let asked = socket.write_all(b"GET /checkpoint HTTP/1.1\r\nHost: log\r\n\r\n").await;
        if asked.is_err() || socket.read(&mut buffer).await.is_ok_and(|read| read == 0) {
            break;
        }
        assert!(
            began.elapsed() <= Duration::from_secs(limits::WEB_CONNECTION_SECONDS),
            "it goes on for ever"
        );
        tokio::time::sleep(second).await;
    }
}

/// Asks for more than fits on the way, and reads none of it.
#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_cut_off() {
    let site = Site::start().await;
    let large = vec![b'x'; 32 << 20];
    let name = document_path(&sha256(&large));
    let path = site.appender.folder().path().join(&name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &large).unwrap();
    let mut socket = site.connect().await;
    let request = format!("GET /{name} HTTP/1.1\r\nHost: log\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let most = limits::WEB_CONNECTION_SECONDS + limits::WEB_GRACE_SECONDS;
    tokio::time::sleep(Duration::from_secs(most + 1)).await;
    assert!(to_end(&mut socket).await.len() < large.len(), "it was served to its end");
}

#[tokio::test]
async fn a_crowd_ends_the_oldest() {
    let site = Site::start().await;
    let _still = StillClock::new();
    let mut oldest = site.connect().await;
    let mut crowd = Vec::new();
    for _ in 0..crate::share::name_share(limits::WEB_CONNECTIONS) {
        crowd.push(site.connect().await);
    }
    // Not for its silence: no time has passed.
    assert!(to_end(&mut oldest).await.is_empty());
    assert_eq!(site.get("/checkpoint").await.status, 200);
}

#[tokio::test]
async fn it_stops_when_told_and_finishes_its_answers() {
    let site = Site::start().await;
    let mut idle = site.connect().await;
    idle.write_all(b"GET /checkpoint HTTP/1.1\r\nHost: log\r\n\r\n").await.unwrap();
    let mut buffer = vec![0; 4096];
    assert!(idle.read(&mut buffer).await.unwrap() > 0);
    site.stopping.cancel();
    let _idle_connections_do_not_hold_it = StillClock::new();
    site.serving.await.unwrap();
    assert!(to_end(&mut idle).await.is_empty());
    assert!(TcpStream::connect(site.address).await.is_err(), "nobody listens any more");
}
