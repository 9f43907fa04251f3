//! What Rütli is built from: one copy of each curve, and, where cargo-deny is installed, everything that `deny.toml` asks.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{cargo, run};

/// Crates of which there is one copy: a second one has types that do not fit, and arithmetic that nobody looked at.
const ONE_COPY: [&str; 8] = [
    "curve25519-dalek",
    "ed25519-dalek",
    "x25519-dalek",
    "frost-core",
    "frost-ed25519",
    "p256",
    "elliptic-curve",
    "zeroize",
];

/// Checks `Cargo.lock` in `workspace`, then runs cargo-deny if it is there.
pub fn check(workspace: &Path) -> Result<()> {
    let lock = workspace.join("Cargo.lock");
    let text = fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    check_copies(&text)?;
    if !cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success()) {
        eprintln!(
            "SKIPPED: licences, sources, bans and advisories of dependencies, for cargo-deny is not installed \
             (`cargo install --locked cargo-deny`)"
        );
        return Ok(());
    }
    run(cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]))?;
    if !has_advisories() {
        eprintln!(
            "SKIPPED: advisories, for there is no copy of the database (`cargo deny fetch` where there is a network)"
        );
        return Ok(());
    }
    run(cargo().args(["deny", "--offline", "check", "advisories"]))
}

/// Whether cargo-deny has fetched the advisory database once.
fn has_advisories() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let copies = home.map(|home| fs::read_dir(home.join("advisory-dbs")));
    copies.is_some_and(|copies| copies.is_ok_and(|mut copies| copies.next().is_some()))
}

fn check_copies(lock: &str) -> Result<()> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"'))
        };
        let (Some(name), Some(version)) = (field("name"), field("version")) else {
            bail!("a package in Cargo.lock has no name or version");
        };
        let source = field("source").unwrap_or("the workspace");
        if source.starts_with("git+") {
            bail!("{name} {version} comes from {source}: use a version from the registry");
        }
        versions.entry(name).or_default().push(version);
    }
    for name in ONE_COPY {
        match versions.get(name).map(Vec::as_slice) {
            Some([_]) => {}
            Some(several) => bail!("{name} is there in versions {}: have one", several.join(" and ")),
            None => bail!("{name} is not in Cargo.lock: correct the list in xtask, if that is meant"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    fn lock() -> String {
        fs::read_to_string(workspace().join("Cargo.lock")).unwrap()
    }

    #[test]
    fn there_is_one_copy_of_each_curve() {
        check_copies(&lock()).unwrap();
    }

    #[test]
    fn a_second_copy_and_a_foreign_source_are_found() {
        let second = format!("{}\n[[package]]\nname = \"curve25519-dalek\"\nversion = \"5.0.0\"\n", lock());
        assert!(check_copies(&second).unwrap_err().to_string().contains("versions 4.1.3 and 5.0.0"));
        let git =
            "\n[[package]]\nname = \"x\"\nversion = \"1.0.0\"\nsource = \"git+https://example.org/x\"\n";
        assert!(
            check_copies(&(lock() + git))
                .unwrap_err()
                .to_string()
                .contains("use a version from the registry")
        );
        assert!(check_copies("").is_err());
    }
}
