//! The proof that an entry is in the log, as a file that is checked offline (c2sp.org/tlog-proof).
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>                       only where there is something
//! index <of the entry>
//! <base64 of each hash of the inclusion proof, from the leaf's sibling up>
//!
//! <the checkpoint, with its cosignatures>
//! ```
//!
//! The entry itself is not in it: whoever verifies brings the bytes, made from what the entry is about. For releases whose
//! entry cannot be made again from their files, `extra` carries it; what is in `extra` counts only once the proof holds for it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    checkpoint::SignedCheckpoint,
    hash::{Hash, leaf_hash},
    limits::{MAX_PROOF_FILE_BYTES, MAX_PROOF_HASHES},
    policy::{NotWitnessed, Policy},
    proof::{NotProved, check_inclusion},
};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A `.tlog-proof` file. As text ([`Display`](fmt::Display)) its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofFile {
    /// Whatever the application put there. Nobody signed it.
    pub extra: Option<Vec<u8>>,
    /// Of the entry, counted from 0.
    pub index: u64,
    /// The inclusion proof.
    pub hashes: Vec<Hash>,
    /// The note, with cosignatures, as the log published it.
    pub checkpoint: String,
}

/// Text that is no proof file, or is spelt otherwise than C2SP says: a damaged or another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is no proof file: want {HEADER} in its first line, and no more than {MAX_PROOF_FILE_BYTES} bytes"
)]
pub struct NotAProofFile;

/// Why a proof file does not show that an entry is in a witnessed log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLogged {
    /// Its checkpoint is not what the policy asks for.
    #[error("the log's checkpoint is not accepted: {0}")]
    Checkpoint(#[from] NotWitnessed),
    /// The entry is not in the tree at this index.
    #[error("the entry is not in the log: {0}")]
    Proof(#[from] NotProved),
}

impl ProofFile {
    /// Reads a file, strictly: one spelling. Nothing about it is verified.
    ///
    /// # Errors
    /// [`NotAProofFile`]
    pub fn parse(text: &str) -> Result<Self, NotAProofFile> {
        if text.len() > MAX_PROOF_FILE_BYTES {
            return Err(NotAProofFile);
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(NotAProofFile)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(NotAProofFile);
        }
        let extra =
            lines.next_if(|line| line.starts_with("extra ")).and_then(|line| line.strip_prefix("extra "));
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(NotAProofFile)?;
        let hashes: Result<Vec<_>, _> = lines.take(MAX_PROOF_HASHES + 1).map(Hash::from_base64).collect();
        let file = Self {
            extra: extra.map(|extra| STANDARD.decode(extra)).transpose().map_err(|_| NotAProofFile)?,
            index: index.parse().map_err(|_| NotAProofFile)?,
            hashes: hashes.map_err(|_| NotAProofFile)?,
            checkpoint: checkpoint.to_owned(),
        };
        // Whatever was spelt otherwise, or left over, is another file.
        if file.hashes.len() > MAX_PROOF_HASHES || file.to_string() != text {
            return Err(NotAProofFile);
        }
        Ok(file)
    }

    /// Checks that `entry` is in the log at [`ProofFile::index`], under a checkpoint that the policy accepts. Gives the
    /// checkpoint, and the names of the policy's witnesses that cosigned it.
    ///
    /// # Errors
    /// [`NotLogged`]
    pub fn verify(
        &self,
        entry: &[u8],
        policy: &Policy,
    ) -> Result<(SignedCheckpoint, Vec<String>), NotLogged> {
        let (checkpoint, witnesses) = policy.check(&self.checkpoint)?;
        check_inclusion(&checkpoint.head(), self.index, leaf_hash(entry), &self.hashes)?;
        Ok((checkpoint, witnesses))
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", hash.to_base64()))?;
        write!(f, "\n{}", self.checkpoint)
    }
}
