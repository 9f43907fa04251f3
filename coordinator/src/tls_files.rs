//! The PEM files behind TLS, read at the start and again whenever their content changes.

use std::{os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Duration};

use rustls::ServerConfig;
use rutli_wire::tls::{Authorities, BadMaterial, Pem, server_config};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::AsyncReadExt as _,
    sync::{Notify, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::TlsFiles,
    error::{Error, Result},
    limits,
};

/// What handshakes need.
#[derive(Debug)]
pub struct ServerTls {
    /// How they go.
    pub config: Arc<ServerConfig>,
    /// Who vouches for clients.
    pub authorities: Authorities,
}

/// A configuration and a digest of the files it was made from.
pub struct Loaded {
    /// For new handshakes.
    pub tls: Arc<ServerTls>,
    digest: [u8; 32],
}

/// Reads the files.
///
/// # Errors
/// [`Error::File`] names the file, or the key file if they do not fit together.
pub async fn load(files: &TlsFiles) -> Result<Loaded> {
    let material = Material::read(files).await?;
    material.configure(files)
}

/// Keeps `current` up to date until `stopping`: looks every few seconds, and at once when `reload` asks for it. Files
/// that do not fit together (an update may be half done) change nothing; that is said once per content.
pub async fn follow(
    files: TlsFiles,
    first: Loaded,
    current: watch::Sender<Arc<ServerTls>>,
    reload: Arc<Notify>,
    stopping: CancellationToken,
) {
    let mut seen = first.digest;
    let mut unreadable = false;
    loop {
        let asked = tokio::select! {
            () = stopping.cancelled() => return,
            () = reload.notified() => true,
            () = tokio::time::sleep(Duration::from_secs(limits::TLS_POLL_SECONDS)) => false,
        };
        let material = match Material::read(&files).await {
            Ok(material) => material,
            Err(error) => {
                if !unreadable || asked {
                    tracing::error!(%error, "keeping the certificates in use");
                }
                unreadable = true;
                continue;
            }
        };
        unreadable = false;
        if material.digest == seen && !asked {
            continue;
        }
        seen = material.digest;
        match material.configure(&files) {
            Ok(loaded) => {
                current.send_replace(loaded.tls);
                tracing::info!("new connections get the certificates as they are now");
            }
            Err(error) => tracing::error!(%error, "keeping the certificates in use"),
        }
    }
}

struct Material {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    digest: [u8; 32],
}

impl Material {
    async fn read(files: &TlsFiles) -> Result<Self> {
        let ca = read(&files.ca).await?;
        let certificate = read(&files.certificate).await?;
        let key = zeroize::Zeroizing::new(read(&files.key).await?);
        let digest = Sha256::new()
            .chain_update(Sha256::digest(&ca))
            .chain_update(Sha256::digest(&certificate))
            .chain_update(Sha256::digest(&key))
            .finalize()
            .into();
        Ok(Self { ca, certificate, key, digest })
    }

    fn configure(&self, files: &TlsFiles) -> Result<Loaded> {
        warn_if_exposed(&files.key);
        let pem = Pem { ca: &self.ca, certificate: &self.certificate, key: &self.key };
        let wrong = |error: BadMaterial| Error::File {
            path: files.certificate.clone(),
            problem: format!("{error} (with {} and {})", files.ca.display(), files.key.display()),
        };
        let config = Arc::new(server_config(pem).map_err(wrong)?);
        let authorities = Authorities::new(&self.ca).map_err(wrong)?;
        Ok(Loaded { tls: Arc::new(ServerTls { config, authorities }), digest: self.digest })
    }
}

/// Reads a secret key's PEM, as the log's; the text wipes itself.
///
/// # Errors
/// [`Error::File`]
pub async fn secret(path: &Path) -> Result<zeroize::Zeroizing<String>> {
    let pem = zeroize::Zeroizing::new(read(path).await?);
    warn_if_exposed(path);
    std::str::from_utf8(&pem)
        .map(|pem| zeroize::Zeroizing::new(pem.to_owned()))
        .map_err(|_| Error::File { path: path.to_owned(), problem: "is no PEM".into() })
}

async fn read(path: &Path) -> Result<Vec<u8>> {
    let wrong = |problem: String| Error::File { path: path.to_owned(), problem };
    let file =
        tokio::fs::File::open(path).await.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    file.take(limits::MAX_TLS_FILE_BYTES)
        .read_to_end(&mut bytes)
        .await
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    Ok(bytes)
}

fn warn_if_exposed(key: &Path) {
    if std::fs::metadata(key).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
        tracing::warn!(path = %key.display(), "every user of this machine may read this key: chmod 0600 it");
    }
}
