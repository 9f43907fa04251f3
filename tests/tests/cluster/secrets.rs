//! Nothing secret in logs, databases and error messages.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use memchr::memmem;
use rutli_keys::SignedRoster;
use rutli_tests::{
    cluster::{Cluster, Setup, seal},
    releases::{build, sign},
};
use rutli_wire::v1;
use sqlx::{ConnectOptions as _, Row as _, sqlite::SqliteConnectOptions};

use super::SOON;

const PASSPHRASE: &str = "Grossmutters-Alpenrosen-1291";

/// Invariant 7 and point 8: a deployment makes a key, is unsealed with a passphrase and signs, all of it logged at the
/// most talkative level. Then every log, every database, everything the coordinator holds, and everything a node holds
/// but its own key files, is searched for the shares, the seeds of the ceremony, identities, age keys, TLS keys and the
/// passphrase: as bytes, in hex, in base64 at each offset, and as Rust prints lists. Identities are in no file whatever, not
/// even a node's own. Public material is found by the same search, so that it is known to work.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_written_anywhere() {
    let sealed = vec![("supervisor-1", PASSPHRASE)];
    let mut cluster = Cluster::without_key(Setup { log: "trace", sealed, ..Setup::default() }).await;
    let mut secrets = standing_secrets(&cluster);

    unseal(&cluster, "wrong-passphrase-of-somebody").await.unwrap_err();
    unseal(&cluster, PASSPHRASE).await.unwrap();
    let ceremony = cluster.propose().await;
    cluster.join("vendor-2", &ceremony).await;
    cluster.join("supervisor-1", &ceremony).await;
    // While it waits for vendor-3, the seeds are in the journals, sealed.
    for node in ["vendor-1", "vendor-2"] {
        secrets.push((format!("the ceremony's seed of {node}"), seed(&cluster, node).await));
    }
    cluster.join("vendor-3", &ceremony).await;
    cluster.key_everywhere().await;
    cluster.ready().await;
    sign(&cluster, build("stable", 1, 2), SOON).await;
    cluster.kill("supervisor-1");
    cluster.start_party("supervisor-1");
    unseal(&cluster, PASSPHRASE).await.unwrap();
    cluster.ready().await;
    let release = sign(&cluster, build("stable", 2, 2), SOON).await;

    let rosters = rosters(&cluster);
    secrets.extend(shares(&cluster));
    secrets.push(("the passphrase".into(), PASSPHRASE.into()));
    secrets.push(("a wrong passphrase".into(), b"wrong-passphrase-of-somebody".to_vec()));
    for party in cluster.nodes().iter().chain(&["coordinator".to_owned()]) {
        assert!(cluster.log(party).contains("TRACE"), "{party} does not log at the most talkative level");
    }

    let parties: Vec<_> = cluster.nodes().into_iter().chain(["coordinator".to_owned()]).collect();
    let identities = identities(&cluster);
    let lie_in = cluster.while_frozen(&parties, |cluster| {
        let find = |(what, secret): &(String, Vec<u8>)| (what.clone(), find_in(cluster.folder(), secret));
        identities.iter().map(find).filter(|(_, places)| !places.is_empty()).collect::<Vec<_>>()
    });
    assert!(lie_in.is_empty(), "{lie_in:?}");
    let everything = cluster.while_frozen(&parties, |cluster| {
        let places = places(cluster).into_iter();
        places.map(|place| (fs::read(&place).unwrap(), place)).collect::<Vec<_>>()
    });
    for (content, place) in &everything {
        for (what, secret) in &secrets {
            if let Some(form) = find(content, secret) {
                panic!("{what} lies in {} {form}", place.display());
            }
        }
    }
    let searched: usize = everything.iter().map(|(content, _)| content.len()).sum();
    println!("{} secrets are in none of {} files, {searched} bytes", secrets.len(), everything.len());

    // The search works: public material is found, each kind in its form.
    let hash = rosters.first().unwrap().roster().hash();
    for (what, public) in [
        ("the release's id", release.release_id.as_bytes()),
        ("the ceremony's id, in hex", &hex::decode(&ceremony.ceremony_id).unwrap()),
        ("the roster's hash", hash.as_bytes()),
        ("the group key", rosters.first().unwrap().roster().group_key()),
    ] {
        let is_there = everything.iter().any(|(content, _)| find(content, public).is_some());
        assert!(is_there, "{what} must be found, or the search finds nothing");
    }
    let public = seal::identity(&cluster.node_folder("vendor-1"), "").public().to_bytes();
    let lies_in = cluster.while_frozen(&parties, |cluster| find_in(cluster.folder(), &public));
    assert!(lies_in.contains(&cluster.config("vendor-2")), "{lies_in:?}");
    let listed = format!("{:?}", [1_u8, 20, 200, 7, 9]);
    assert_eq!(find(listed.as_bytes(), &[1, 20, 200, 7, 9]), Some("as a list of numbers"));
    assert_eq!(find(STANDARD.encode(b"xyMeadow flowers!").as_bytes(), b"Meadow flowers"), Some("in base64"));
}

/// Identities, age keys and TLS keys of all parties.
fn standing_secrets(cluster: &Cluster) -> Vec<(String, Vec<u8>)> {
    let mut secrets = identities(cluster);
    for node in cluster.nodes() {
        let folder = cluster.node_folder(&node);
        if let Some(identity) = plain_identity(&folder) {
            let (_, key) = bech32::decode(&identity.to_lowercase()).unwrap();
            secrets.push((format!("the age key of {node}, as text"), identity.into_bytes()));
            secrets.push((format!("the age key of {node}"), key));
        }
        secrets.push((format!("the TLS key of {node}"), private_scalar(&folder.join("tls.key"))));
    }
    secrets.push((
        "the coordinator's TLS key".into(),
        private_scalar(&cluster.config("coordinator").with_file_name("tls.key")),
    ));
    secrets
}

fn plain_identity(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("seal.txt")).ok()?;
    text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).map(str::to_owned)
}

/// The 32 bytes of a P-256 key (RFC 5915 inside of PKCS#8).
fn private_scalar(path: &Path) -> Vec<u8> {
    let der = der(&fs::read_to_string(path).unwrap());
    der.windows(37).find(|window| window.starts_with(&[2, 1, 1, 4, 32])).unwrap()[5..].to_vec()
}

fn der(pem: &str) -> Vec<u8> {
    let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(lines.concat()).unwrap()
}

async fn unseal(cluster: &Cluster, passphrase: &str) -> Result<(), tonic::Status> {
    let request = v1::UnsealRequest { passphrase: passphrase.into() };
    cluster.custodian("supervisor-1").await.unseal(request).await.map(drop)
}

/// The seed of the one ceremony in a node's journal, opened with the node's age identity.
async fn seed(cluster: &Cluster, node: &str) -> Vec<u8> {
    let path = cluster.data(node).join("node.sqlite");
    let mut connection = SqliteConnectOptions::new().filename(path).read_only(true).connect().await.unwrap();
    let row = sqlx::query("SELECT seed FROM ceremonies WHERE state = 'open'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let sealed: Vec<u8> = row.get(0);
    open(cluster, node, &sealed)
}

/// Each node's share of the key. The sealed supervisor's are opened with its passphrase, as its custodian would.
pub(super) fn shares(cluster: &Cluster) -> Vec<(String, Vec<u8>)> {
    cluster
        .nodes()
        .iter()
        .map(|node| {
            let sealed = fs::read(cluster.data(node).join("keys/release.share.age")).unwrap();
            (format!("the share of {node}"), open(cluster, node, &sealed))
        })
        .collect()
}

/// The 32 bytes of each node's identity key.
pub(super) fn identities(cluster: &Cluster) -> Vec<(String, Vec<u8>)> {
    let identity = |node: &String| {
        let key = seal::identity(&cluster.node_folder(node), PASSPHRASE);
        (format!("the identity of {node}"), key.expose().to_vec())
    };
    cluster.nodes().iter().map(identity).collect()
}

/// The last 32 bytes of what was sealed: the secret itself.
fn open(cluster: &Cluster, node: &str, sealed: &[u8]) -> Vec<u8> {
    let plain = seal::open(&cluster.node_folder(node), PASSPHRASE, sealed);
    plain[plain.len() - 32..].to_vec()
}

/// The files in a folder that a secret lies in, in whatever form.
pub(super) fn find_in(folder: &Path, secret: &[u8]) -> Vec<PathBuf> {
    let mut places = Vec::new();
    collect(folder, &mut places);
    places.retain(|place| place.is_file() && find(&fs::read(place).unwrap(), secret).is_some());
    places
}

fn rosters(cluster: &Cluster) -> Vec<SignedRoster> {
    let read = |node: &String| fs::read(cluster.data(node).join("keys/release.roster.json")).unwrap();
    cluster.nodes().iter().map(|node| SignedRoster::parse(&read(node)).unwrap()).collect()
}

/// Every log and database, everything of the coordinator but its TLS key, everything in the nodes' data folders.
fn places(cluster: &Cluster) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for party in cluster.nodes().iter().chain(&["coordinator".to_owned()]) {
        places.push(cluster.folder().join(format!("{party}.log")));
        collect(&cluster.data(party), &mut places);
    }
    places.push(cluster.config("coordinator"));
    assert!(places.iter().any(|place| place.ends_with("node.sqlite-wal")), "{places:?}");
    assert!(places.iter().any(|place| place.ends_with("coordinator.sqlite")), "{places:?}");
    places
}

fn collect(folder: &Path, places: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, places) } else { places.push(path) }
    }
}

/// In which form bytes lie in a text, if they do.
fn find(content: &[u8], secret: &[u8]) -> Option<&'static str> {
    forms(secret).into_iter().find(|(_, form)| memmem::find(content, form).is_some()).map(|(name, _)| name)
}

/// All forms in which bytes are usually written.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let numbers = |separator: &str| secret.iter().map(u8::to_string).collect::<Vec<_>>().join(separator);
    let mut forms = vec![
        ("as it is", secret.to_vec()),
        ("in hex", hex::encode(secret).into_bytes()),
        ("in hex", hex::encode_upper(secret).into_bytes()),
        ("as a list of numbers", numbers(", ").into_bytes()),
        ("as a list of numbers", numbers(",").into_bytes()),
    ];
    // Within a longer text, base64 depends on the offset by three, and its ends on the neighbours.
    for (offset, borrowed) in [(0, 0), (1, 2), (2, 3)] {
        let shifted = [&[0; 2][..offset], secret].concat();
        for alphabet in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = alphabet.encode(&shifted);
            forms.push(("in base64", text.as_bytes()[borrowed..text.len() - 1].to_vec()));
        }
    }
    forms
}
