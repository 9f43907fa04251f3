//! Where a log is read from: a folder, or a server of static files. Nothing that comes from there is trusted.
//!
//! Every file has a bound before it is read. Redirects are not followed: a log is where its address says. A partial tile may
//! be gone when the full one is there (c2sp.org/tlog-tiles); then that one is read, as far as it was asked for.

use std::{
    fmt,
    fs::File,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rutli_log::{
    EntryBundle, Hash, MissingTile, TileHashes, TileId, Tiles, limits::MAX_CHECKPOINT_BYTES,
    tile::document_path,
};
use ureq::{
    Agent,
    tls::{Certificate, PemItem, RootCerts, TlsConfig},
};

use super::limits::{
    ANSWER_TIMEOUT, CHECKPOINT_TIMEOUT, CHECKPOINT_TRIES, CONNECT_TIMEOUT, FIRST_WAIT, MAX_TILES_OF_A_PROOF,
    REQUESTS_AT_ONCE, TRIES,
};
use super::unanswered::Unanswered;
use crate::{files, report::Failure};

/// A place that a log is read from.
pub struct Source {
    name: String,
    place: Place,
}

enum Place {
    Folder(PathBuf),
    Server {
        base: String,
        agent: Agent,
        /// Since the last checkpoint was asked for it was said that the server does not answer at once.
        told: AtomicBool,
        /// Never say so.
        silent: bool,
    },
}

/// How long a server is waited for.
#[derive(Clone, Copy)]
struct Patience {
    /// For each answer.
    timeout: Duration,
    tries: u32,
}

const FOR_CHECKPOINTS: Patience = Patience { timeout: CHECKPOINT_TIMEOUT, tries: CHECKPOINT_TRIES };
const FOR_OTHERS: Patience = Patience { timeout: ANSWER_TIMEOUT, tries: TRIES };

/// Why a file was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The place answers that there is none.
    Missing,
    /// It is longer than it may be, or not of its form.
    Damaged,
    /// The place does not answer: says nothing about the log.
    Failed(Unanswered),
}

/// An entry bundle, as it lies there.
pub struct Bundle {
    bytes: Vec<u8>,
    /// Entries in it.
    width: u16,
    /// Entries that were asked for.
    wanted: u16,
}

impl Source {
    /// Takes a folder or an address. `ca`: PEM of the authorities for an `https` address; default: those that browsers trust.
    ///
    /// # Errors
    /// Exit code 2: an address that is none, a folder that is not there.
    pub fn open(place: &str, ca: Option<&Path>) -> Result<Self, Failure> {
        let name = place.to_owned();
        if place.starts_with("https://") || place.starts_with("http://") {
            let base = place.trim_end_matches('/').to_owned();
            let place =
                Place::Server { base, agent: agent(ca)?, silent: false, told: AtomicBool::new(false) };
            return Ok(Self { name, place });
        }
        if place.contains("://") {
            return Err(Failure::usage(format!("{place} is no address of a log"))
                .help("give https://…, http://…, or a folder"));
        }
        let folder = PathBuf::from(place);
        if !folder.is_dir() {
            return Err(Failure::usage(format!("{place} is no folder"))
                .help("give the folder with the log's `checkpoint`, or its address as https://…"));
        }
        Ok(Self { name, place: Place::Folder(folder) })
    }

    /// The same, and nobody is told that it is asked again.
    #[must_use]
    pub fn silent(mut self) -> Self {
        if let Place::Server { silent, .. } = &mut self.place {
            *silent = true;
        }
        self
    }

    /// As it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many files are worth reading at a time.
    #[must_use]
    pub fn side_by_side(&self) -> usize {
        match self.place {
            Place::Folder(_) => 0,
            Place::Server { .. } => REQUESTS_AT_ONCE,
        }
    }

    /// The published checkpoint.
    ///
    /// # Errors
    /// [`Unread`]
    pub fn checkpoint(&self) -> Result<String, Unread> {
        self.note("checkpoint")
    }

    /// The published head for Sigstore's tools.
    ///
    /// # Errors
    /// [`Unread`]
    pub fn sigstore_checkpoint(&self) -> Result<String, Unread> {
        self.note("checkpoint-sigstore")
    }

    /// A tile of hashes, exactly as wide as asked for.
    ///
    /// # Errors
    /// [`Unread`]
    pub fn tile(&self, id: TileId) -> Result<Vec<Hash>, Unread> {
        let (bytes, found) = self.partial_or_full(id, |id| usize::from(id.width) * 32)?;
        let mut hashes = found.hashes(&bytes).ok_or(Unread::Damaged)?;
        hashes.truncate(usize::from(id.width));
        Ok(hashes)
    }

    /// A bundle of entries.
    ///
    /// # Errors
    /// [`Unread`]
    pub fn bundle(&self, id: TileId) -> Result<Bundle, Unread> {
        self.bundle_within(id, usize::MAX)
    }

    /// The same, [`Unread::Damaged`] if it has more bytes than this.
    ///
    /// # Errors
    /// [`Unread`]
    pub fn bundle_within(&self, id: TileId, max_bytes: usize) -> Result<Bundle, Unread> {
        let (bytes, found) =
            self.partial_or_full(id, |id| EntryBundle::max_bytes(id.width).min(max_bytes))?;
        Ok(Bundle { bytes, width: found.width, wanted: id.width })
    }

    /// A document that an entry names.
    ///
    /// # Errors
    /// [`Unread`]
    pub fn document(&self, sha256: &Hash, max_bytes: usize) -> Result<Vec<u8>, Unread> {
        self.read(&document_path(sha256), max_bytes, FOR_OTHERS)
    }

    /// The proof that the tree of `new` entries begins with that of `old`, from the tiles that lie here. Only checking it
    /// shows whether they were right.
    ///
    /// # Errors
    /// [`Unread`]
    pub fn prove_consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, Unread> {
        self.prove(new, |tiles| tiles.prove_consistency(old, new))
    }

    /// The proof that entry `index` is in the tree of `size` entries, likewise.
    ///
    /// # Errors
    /// [`Unread`]
    pub fn prove_inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, Unread> {
        self.prove(size, |tiles| tiles.prove_inclusion(index, size))
    }

    fn note(&self, path: &str) -> Result<String, Unread> {
        if let Place::Server { told, .. } = &self.place {
            told.store(false, Ordering::Relaxed);
        }
        let bytes = self.read(path, MAX_CHECKPOINT_BYTES, FOR_CHECKPOINTS)?;
        String::from_utf8(bytes).map_err(|_| Unread::Damaged)
    }

    fn prove(
        &self,
        size: u64,
        draw: impl Fn(&Tiles) -> Result<Vec<Hash>, MissingTile>,
    ) -> Result<Vec<Hash>, Unread> {
        let mut tiles = Tiles::of_size(size);
        for _ in 0..MAX_TILES_OF_A_PROOF {
            let missing = match draw(&tiles) {
                Ok(proof) => return Ok(proof),
                Err(missing) => missing,
            };
            let id = TileId::in_tree(Some(missing.level), missing.index, size).ok_or(Unread::Damaged)?;
            tiles.insert(missing, TileHashes::new(self.tile(id)?));
        }
        Err(Unread::Damaged)
    }

    fn partial_or_full(
        &self,
        id: TileId,
        max_bytes: impl Fn(TileId) -> usize,
    ) -> Result<(Vec<u8>, TileId), Unread> {
        match self.read(&id.path(), max_bytes(id), FOR_OTHERS) {
            Err(Unread::Missing) if !id.is_full() => {
                let full = id.full();
                Ok((self.read(&full.path(), max_bytes(full), FOR_OTHERS)?, full))
            }
            result => Ok((result?, id)),
        }
    }

    fn read(&self, path: &str, max_bytes: usize, patience: Patience) -> Result<Vec<u8>, Unread> {
        let (base, agent, silent, told) = match &self.place {
            Place::Folder(folder) => return read_file(&folder.join(path), max_bytes),
            Place::Server { base, agent, silent, told } => (base, agent, *silent, told),
        };
        let url = format!("{base}/{path}");
        let mut wait = FIRST_WAIT;
        for _ in 1..patience.tries {
            match try_download(agent, &url, max_bytes, patience.timeout) {
                Err(Unread::Failed(why)) => {
                    // Once for all files of a round.
                    if !told.swap(true, Ordering::Relaxed) && !silent {
                        eprintln!("{url} is asked for again: {why}");
                    }
                    thread::sleep(wait);
                }
                result => return result,
            }
            wait = wait.saturating_mul(2);
        }
        try_download(agent, &url, max_bytes, patience.timeout).map_err(|error| match error {
            Unread::Failed(why) => Unread::Failed(why.after(patience.tries)),
            error => error,
        })
    }
}

impl Bundle {
    /// The entries that were asked for.
    ///
    /// # Errors
    /// [`Unread::Damaged`]
    pub fn entries(&self) -> Result<Vec<&[u8]>, Unread> {
        let mut entries = EntryBundle::parse(&self.bytes, self.width).ok_or(Unread::Damaged)?;
        entries.truncate(usize::from(self.wanted));
        Ok(entries)
    }
}

impl Unread {
    /// The failure of a command that cannot go on without this.
    #[must_use]
    pub fn into_failure(self, what: &str, source: &Source) -> Failure {
        let name = source.name();
        match self {
            Self::Missing => Failure::unreachable(format!("there is no {what} at {name}"))
                .help("is it the folder or address of a log? It has a file `checkpoint`"),
            Self::Damaged => Failure::failed(format!("the {what} at {name} is not of its form"))
                .help("compare with another mirror of the log; keep a copy as evidence"),
            Self::Failed(unanswered) => unanswered.into_failure(what, name),
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is not there"),
            Self::Damaged => f.write_str("it is not of its form"),
            Self::Failed(unanswered) => unanswered.fmt(f),
        }
    }
}

fn read_file(path: &Path, max_bytes: usize) -> Result<Vec<u8>, Unread> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Unread::Missing,
        _ => Unread::Failed(Unanswered::at(path, &error)),
    };
    let file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Unread::Damaged);
    }
    let mut bytes = Vec::new();
    file.take(bound(max_bytes)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max_bytes { Err(Unread::Damaged) } else { Ok(bytes) }
}

/// One byte more than allowed, so that what is too long is seen to be.
fn bound(max_bytes: usize) -> u64 {
    u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1)
}

fn agent(ca: Option<&Path>) -> Result<Agent, Failure> {
    let roots = match ca {
        None => RootCerts::WebPki,
        Some(path) => RootCerts::new_with_certs(&authorities(path)?),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .max_idle_connections(REQUESTS_AT_ONCE)
        .max_idle_connections_per_host(REQUESTS_AT_ONCE)
        .user_agent(concat!("rutli/", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(config.into())
}

fn authorities(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let pem = files::read(path)?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let Ok(PemItem::Certificate(certificate)) = item {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(Failure::usage(format!("{} has no certificate", path.display()))
            .help("give the authority's certificate in PEM"));
    }
    Ok(certificates)
}

fn try_download(agent: &Agent, url: &str, max_bytes: usize, timeout: Duration) -> Result<Vec<u8>, Unread> {
    let request = agent.get(url).config().timeout_global(Some(timeout)).build();
    let failed = |error| Unread::Failed(Unanswered::by(url, &error));
    let mut response = request.call().map_err(failed)?;
    match response.status().as_u16() {
        200 => {}
        404 | 410 => return Err(Unread::Missing),
        status => return Err(Unread::Failed(Unanswered::with_status(url, status))),
    }
    let result = response.body_mut().with_config().limit(bound(max_bytes)).read_to_vec();
    match result {
        Ok(bytes) if bytes.len() <= max_bytes => Ok(bytes),
        Ok(_) | Err(ureq::Error::BodyExceedsLimit(_)) => Err(Unread::Damaged),
        Err(error) => Err(failed(error)),
    }
}
