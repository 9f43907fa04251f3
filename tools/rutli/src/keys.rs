//! Public keys of a deployment: listed, and exported in the forms that stock verifiers read.
//!
//! A coordinator is not trusted with the truth about keys: what it lists is checked against the rosters that all nodes
//! signed. Whose nodes those are, only the words tell, compared with the custodians'.

use std::path::Path;

use rutli_keys::SignedRoster;
use rutli_release::{PRINCIPAL, ReleaseKey, SshNamespaces};
use rutli_wire::v1;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    client,
    files::{self, Access},
    report::{Failure, Report},
    status, text,
};

/// A key as its signed roster says it.
pub struct Key {
    /// Its name.
    pub name: String,
    /// What releases are verified with.
    pub public: ReleaseKey,
    /// Who holds what, signed by all of them.
    pub roster: SignedRoster,
}

/// `rutli keys list`
///
/// # Errors
/// What the coordinator answers; rosters that do not hold.
pub async fn list(channel: Channel) -> Result<Report, Failure> {
    let keys = fetch(channel).await?;
    if keys.is_empty() {
        return Ok(Report::new(
            "no keys yet: make them with `rutli ceremony propose`",
            json!({ "keys": [] }),
        ));
    }
    let text: Vec<_> = keys.iter().map(describe).collect();
    Ok(Report::new(text.join("\n\n"), json!({ "keys": keys.iter().map(to_json).collect::<Vec<_>>() })))
}

/// `rutli keys export`
///
/// # Errors
/// As [`list`]; files that cannot be written.
pub async fn export(channel: Channel, out: &Path, namespaces: &[SshNamespaces]) -> Result<Report, Failure> {
    let keys = fetch(channel).await?;
    if keys.is_empty() {
        return Err(Failure::failed("the coordinator has no keys yet")
            .help("make them with `rutli ceremony propose`"));
    }
    files::create_folder(out, Access::Public)?;
    let mut written = Vec::new();
    let mut allowed_signers = String::new();
    for key in &keys {
        let path = out.join(format!("{}.pem", key.name));
        files::write_atomically(&path, key.public.to_pem().as_bytes(), Access::Public)?;
        written.push(path);
        if !namespaces.is_empty() {
            let line = key.public.allowed_signers(PRINCIPAL, namespaces);
            allowed_signers.push_str(&line.map_err(|error| Failure::failed(error.to_string()))?);
            allowed_signers.push('\n');
        }
    }
    if !namespaces.is_empty() {
        let path = out.join("allowed_signers");
        files::write_atomically(&path, allowed_signers.as_bytes(), Access::Public)?;
        written.push(path);
    }
    files::sync_folder(out)?;
    let names: Vec<_> = written.iter().map(|path| path.display().to_string()).collect();
    let text: Vec<_> = keys.iter().map(describe).collect();
    let mut text = format!(
        "{}\n\nCompare the words with the custodians'.\nwritten: {}",
        text.join("\n\n"),
        names.join(", ")
    );
    if namespaces.is_empty() {
        text.push_str(
            "\nno allowed_signers for ssh-keygen: it must name the products that the key signs; add --allow CLASS/PRODUCT for each",
        );
    }
    Ok(Report::new(text, json!({ "keys": keys.iter().map(to_json).collect::<Vec<_>>(), "written": written })))
}

/// The keys that a coordinator lists, each checked against its signed roster.
///
/// # Errors
/// What the coordinator answers; rosters that do not hold.
pub async fn fetch(channel: Channel) -> Result<Vec<Key>, Failure> {
    let listed = client::ceremonies(channel)
        .list_keys(v1::ListKeysRequest {})
        .await
        .map_err(|status| status::failure(&status))?
        .into_inner();
    listed.keys.iter().map(check).collect()
}

/// For programs.
#[must_use]
pub fn to_json(key: &Key) -> Value {
    let roster = key.roster.roster();
    let organisations: Vec<_> = roster
        .organisations()
        .iter()
        .map(|organisation| {
            json!({
                "name": organisation.name.as_str(),
                "threshold": organisation.threshold,
                "nodes": organisation.nodes.iter().map(|node| node.id.node.as_str()).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "name": key.name,
        "purpose": roster.purpose().as_str(),
        "key_id": key.public.key_id(),
        "public_key": hex::encode(key.public.as_bytes()),
        "epoch": roster.epoch(),
        "roster_hash": roster.hash().to_string(),
        "words": roster.words(),
        "organisations": organisations,
    })
}

fn check(listed: &v1::Key) -> Result<Key, Failure> {
    let wrong = |why: String| {
        Failure::failed(format!(
            "the coordinator lists the key {:?} wrongly: {why}",
            text::printable(&listed.name)
        ))
        .help("do not use it; look at the coordinator")
    };
    let roster = SignedRoster::parse(&listed.signed_roster).map_err(|error| wrong(error.to_string()))?;
    let public =
        ReleaseKey::from_bytes(roster.roster().group_key()).map_err(|error| wrong(error.to_string()))?;
    if roster.roster().key().as_str() != listed.name || public.as_bytes().as_slice() != listed.public_key {
        return Err(wrong("its roster is of another key".to_owned()));
    }
    Ok(Key { name: listed.name.clone(), public, roster })
}

fn describe(key: &Key) -> String {
    let roster = key.roster.roster();
    let rule: Vec<_> = roster
        .organisations()
        .iter()
        .map(|organisation| {
            format!("{} of {} of {}", organisation.threshold, organisation.nodes.len(), organisation.name)
        })
        .collect();
    text::fields([
        ("key", format!("{} ({}, epoch {})", key.name, roster.purpose(), roster.epoch())),
        ("needs", rule.join(" and ")),
        ("key id", key.public.key_id()),
        ("words", roster.words()),
    ])
}
