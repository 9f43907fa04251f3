//! What goes wrong outside of the log: each error in plain words, with a way out.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::Command,
    thread,
};

use serde_json::Value;

use crate::{
    place::Place,
    server::{Manner, serve},
};

/// Words of the libraries and the system below.
const RAW: [&str; 9] =
    ["os error", "io:", "tcp", "protocol:", "timeout:", "uri", "InvalidCertificate", "Peer", "rustls"];

#[track_caller]
fn assert_says(what: &str, document: &Value, exit: u64, words: &[&str]) {
    let error = &document["error"];
    assert_eq!(error["exit"].as_u64(), Some(exit), "{what}: {document:#}");
    let problem = error["problem"].as_str().unwrap();
    let help = error["help"].as_str().unwrap_or_else(|| panic!("{what} has no way out: {document:#}"));
    for word in words {
        assert!(problem.contains(word) || help.contains(word), "{what} does not say {word:?}: {document:#}");
    }
    for raw in RAW {
        let raw_in = |text: &str| text.contains(raw);
        assert!(!raw_in(problem) && !raw_in(help), "{what} says {raw:?}: {document:#}");
    }
}

#[test]
fn a_log_that_does_not_answer_is_said_in_plain_words() {
    let place = Place::new(8);
    let show = |log: &str, more: &[&str]| {
        let output = place.rutli("show", log, more);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(RAW.iter().all(|raw| !stderr.contains(raw)), "{stderr}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let check = |url: &str, words: &[&str]| {
        let (url, name) = (url.trim_end_matches('/'), url);
        let asked = format!("{url}/checkpoint was asked for 2 times");
        let problem = format!("cannot read the checkpoint at {name}: ");
        assert_says(url, &show(name, &[]), 3, &[&[problem.as_str(), asked.as_str()], words].concat());
    };
    check("http://127.0.0.1:9", &["nothing listens there"]);
    check("http://no-such-host.invalid", &["no host has that name", "DNS"]);
    for (manner, words) in [
        (Manner::HangsUp, "the connection was cut off"),
        (Manner::Babbling, "what answers there is no web server"),
        (Manner::Unavailable, "it answers with status 503"),
        (Manner::Redirects, "it redirects"),
    ] {
        let (url, _guard) = serve(&place.path("honest"), manner);
        check(&url, &[words]);
    }
    // No TLS, and a certificate by nobody who is trusted.
    check(&serve_plain(), &["does not speak TLS", "http://"]);
    let (authority, url) = serve_tls(&place);
    check(&url, &["an authority that is not trusted here", "--ca"]);
    let others_name = url.replace("localhost", "127.0.0.1");
    let shown = show(&others_name, &["--ca", &authority]);
    assert_says("another name", &shown, 3, &["is for another name"]);
    // A folder.
    fs::create_dir(place.path("looped")).unwrap();
    std::os::unix::fs::symlink("checkpoint", place.path("looped/checkpoint")).unwrap();
    assert_says(
        "a loop",
        &show("looped", &[]),
        3,
        &["cannot read the checkpoint at looped", "looped/checkpoint"],
    );
}

/// Answers without TLS at an address with it, as servers do.
fn serve_plain() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    url
}

/// Accepts TLS with a certificate of its own authority, and says nothing then; gives the authority's file and the address.
fn serve_tls(place: &Place) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(place.path("ca.pem"), certificate.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![certificate.der().clone()], key)
    .unwrap();
    let config = std::sync::Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
            let _ = stream.flush();
        }
    });
    ("ca.pem".into(), format!("https://localhost:{port}"))
}

/// Every way to use a command wrongly, and every file that is of no use.
#[test]
fn every_error_has_a_way_out() {
    let place = Place::new(300);
    for (name, bytes) in [("text", &b"hello\n"[..]), ("json", b"{}"), ("binary", &[0xff; 9]), ("empty", b"")]
    {
        fs::write(place.path(name), bytes).unwrap();
    }
    fs::write(place.path("loop"), "").unwrap();
    fs::remove_file(place.path("loop")).unwrap();
    std::os::unix::fs::symlink("loop", place.path("loop")).unwrap();
    fs::write(place.path("release.pem"), place.log.key.public().to_pem()).unwrap();
    fs::write(place.path("noted.tlog-proof"), "c2sp.org/tlog-proof@v1\nindex 0\n").unwrap();
    let log = "--log honest --policy tlog-policy";
    let verify = "verify --key release.pem text --bundle";
    let lines = [
        "2 log show --log ftp://x --policy tlog-policy".to_owned(),
        "2 log show --log none --policy tlog-policy".to_owned(),
        "3 log show --log . --policy tlog-policy".to_owned(),
        "2 log show --log honest".to_owned(),
        "2 log show --log honest --key text".to_owned(),
        "2 log show --log honest --policy none".to_owned(),
        "2 log show --log honest --policy text".to_owned(),
        "2 log show --log honest --policy binary".to_owned(),
        "2 log show --log honest --policy loop".to_owned(),
        "2 log show --log https://x --policy tlog-policy --ca text".to_owned(),
        format!("2 log show {log} --since soon"),
        format!("2 log show {log} 300"),
        format!("2 log prove {log} 300"),
        format!("2 log prove {log} 3 --out .."),
        format!("2 log prove {log} 3 --out honest"),
        format!("2 log prove {log} 3 --out none/proof"),
        format!("2 log prove {log} 3 --out loop/proof"),
        format!("2 log export {log} --out none/entries"),
        format!("2 log export {log} --out loop/entries"),
        format!("2 log monitor {log} --once --state text"),
        format!("2 log monitor {log} --once --state none/state"),
        format!("2 log monitor {log} --once --state loop"),
        format!("2 log monitor {log} --once --state s --trusted-root json"),
        format!("2 log monitor {log} --once --state s --metrics .."),
        format!("2 log monitor {log} --once --state s --compare ftp://x"),
        format!("2 log monitor {log} --once --state s --interval 5s"),
        format!("2 {verify} none --trusted-root trusted_root.json"),
        format!("2 {verify} json"),
        format!("2 {verify} json --trusted-root none"),
        format!("2 {verify} json --trusted-root text"),
        format!("2 {verify} json --trusted-root json"),
        format!("1 {verify} json --trusted-root trusted_root.json"),
        format!("2 {verify} json --trusted-root trusted_root.json --policy text"),
        format!("2 {verify} noted.tlog-proof"),
        format!("1 {verify} noted.tlog-proof --policy tlog-policy"),
        format!("2 {verify} noted.tlog-proof --policy tlog-policy --trusted-root trusted_root.json"),
        format!("2 {verify} json --signature text"),
        "2 verify --key text text --bundle json".to_owned(),
    ];
    for line in lines {
        let (exit, line) = line.split_once(' ').unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_rutli"))
            .arg("--json")
            .args(line.split(' '))
            .env_remove("RUTLI_LOG")
            .current_dir(place.folder.path())
            .output()
            .unwrap();
        let document = serde_json::from_slice(&output.stdout);
        let document: Value = document.unwrap_or_else(|_| panic!("{line}: {output:?}"));
        // A round is shown before its state is written.
        let document = if document["error"].is_null() { told(&output.stderr, exit) } else { document };
        assert_says(line, &document, exit.parse().unwrap(), &[]);
    }
}

/// The same from what a person reads.
fn told(stderr: &[u8], exit: &str) -> Value {
    let text = String::from_utf8_lossy(stderr);
    let (problem, help) = text.split_once("\nhelp: ").unwrap_or_else(|| panic!("no way out: {text}"));
    serde_json::json!({ "error": { "exit": exit.parse::<u64>().unwrap(), "problem": problem, "help": help } })
}
