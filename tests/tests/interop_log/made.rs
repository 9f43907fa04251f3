//! A log made here, of the parts that the coordinator makes its own of: every entry is the DSSE signature of a release, by a
//! real key.

use std::{fs, path::PathBuf};

use ed25519_dalek::{Signer as _, SigningKey};
use rutli_log::{
    Entry, EntryBundle, Frontier, Head, LogSigner, Origin, TileId, Tiles,
    sigstore::{LogUrl, LoggedSignature, SigstoreSigner, bundle::entry_of_envelope},
};
use rutli_release::{
    Class, Format, ReleaseId, ReleaseKey, UnverifiedArtifact, UnverifiedRelease, signed_files,
};
use sha2::{Digest as _, Sha256};

/// The name of the release key.
pub const HINT: &str = "release";

const ORIGIN: &str = "log.example.com/2026";

const TIME: u64 = 1_795_255_300;

/// A log with its keys in a folder of its own.
pub struct MadeLog {
    folder: tempfile::TempDir,
    sigstore: SigstoreSigner,
    log: LogSigner,
    envelopes: Vec<Vec<u8>>,
    entries: Vec<Vec<u8>>,
    tiles: Tiles,
}

impl MadeLog {
    /// A log of `size` releases, with `trusted_root.json` and `release.pem` in its folder.
    pub fn new(url: &str, size: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url: LogUrl = url.parse().unwrap();
        let sigstore = SigstoreSigner::from_bytes(url, &[0x55; 32]).unwrap();
        let log = LogSigner::from_bytes(Origin::new(ORIGIN).unwrap(), &[0x66; 32]);
        let envelopes: Vec<_> = (0..size).map(|number| envelope(number + 1)).collect();
        let entries: Vec<_> =
            envelopes.iter().map(|envelope| entry_of_envelope(envelope, &release_key()).unwrap()).collect();
        let mut tiles = Tiles::default();
        entries.iter().for_each(|entry| tiles.push(rutli_log::leaf_hash(entry)));
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("trusted_root.json", &sigstore.trusted_root(1_700_000_000).unwrap());
        write("release.pem", &release_key().to_pem());
        Self { folder, sigstore, log, envelopes, entries, tiles }
    }

    /// Below its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn head(&self, size: u64) -> Head {
        Frontier::of(&self.tiles, size).unwrap().head()
    }

    /// The log's verifier key.
    pub fn vkey(&self) -> String {
        self.log.public().to_string()
    }

    /// That of a log of the same name with another key.
    pub fn other_vkey() -> String {
        LogSigner::from_bytes(Origin::new(ORIGIN).unwrap(), &[0x67; 32]).public().to_string()
    }

    /// Writes checkpoint, tiles and entry bundles anew.
    pub fn write_folder(&self) -> PathBuf {
        let (folder, size) = (self.path("log"), self.tiles.size());
        let write = |path: String, bytes: &[u8]| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let _ = fs::remove_dir_all(&folder);
        for level in 0..=1 {
            for id in (0..).map_while(|index| TileId::in_tree(Some(level), index, size)) {
                let tile = self.tiles.get(level, id.index).unwrap();
                write(id.path(), &tile.hashes().iter().flat_map(|hash| hash.0).collect::<Vec<u8>>());
            }
        }
        for (index, entries) in (0..).zip(self.entries.chunks(256)) {
            let mut bundle = EntryBundle::default();
            entries.iter().for_each(|entry| assert!(bundle.push(entry)));
            write(TileId::in_tree(None, index, size).unwrap().path(), &bundle.into_bytes());
        }
        write("checkpoint".into(), self.log.sign(self.head(size)).to_note().as_bytes());
        folder
    }

    /// The bundle of an entry under the head of this size.
    pub fn write_bundle(&self, index: u64, size: u64) -> PathBuf {
        let place = usize::try_from(index).unwrap();
        let Entry::Dsse(entry) = Entry::parse(&self.entries[place]).unwrap() else { panic!() };
        let bundle = self.sigstore.bundle(&LoggedSignature {
            envelope: &self.envelopes[place],
            hint: HINT,
            key: &entry.key().unwrap(),
            entry: &entry,
            index,
            head: &self.sigstore.sign_head(self.head(size)).unwrap(),
            proof: &self.tiles.prove_inclusion(index, size).unwrap(),
            time: TIME + index,
        });
        let path = self.path(&format!("{index}.sigstore.json"));
        fs::write(&path, bundle.unwrap()).unwrap();
        path
    }
}

fn secret() -> SigningKey {
    SigningKey::from_bytes(&[0x77; 32])
}

fn release_key() -> ReleaseKey {
    ReleaseKey::from_bytes(secret().verifying_key().as_bytes()).unwrap()
}

fn envelope(sequence: u64) -> Vec<u8> {
    let content = sequence.to_be_bytes();
    let artifact = UnverifiedArtifact { name: "suite.bin".into(), sha256: Sha256::digest(content).to_vec() };
    let release = UnverifiedRelease {
        class: Class::ProductBuild,
        product: "suite".into(),
        channel: "stable".into(),
        version: format!("1.{sequence}"),
        sequence,
        issued_at: 1_795_255_200,
        expires_at: None,
        artifacts: vec![artifact],
        formats: vec![Format::Dsse],
    };
    let release = release.verify().unwrap();
    let signatures: Vec<_> =
        release.signables().iter().map(|signable| secret().sign(&signable.bytes).to_bytes()).collect();
    let id = ReleaseId::new("suite-1").unwrap();
    signed_files(&release, &id, &release_key(), &signatures).unwrap().remove(0).bytes
}
