//! Every bound of this crate, with its reason. Nothing is parsed before it was measured against one of these.

/// The largest integer a release may carry: 2^53 − 1, the largest that every JSON reader keeps exact (RFC 8785 section 3.2.2.3,
/// I-JSON). Holds for sequences and times.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Artifacts per release. A large product build has hundreds; an AV database update thousands of small files.
pub const MAX_ARTIFACTS: usize = 5000;

/// Bytes of an artifact name: the longest file name that common file systems take.
pub const MAX_ARTIFACT_NAME_BYTES: usize = 255;

/// Bytes of a product, channel or requester name.
pub const MAX_NAME_BYTES: usize = 64;

/// Bytes of a version.
pub const MAX_VERSION_BYTES: usize = 64;

/// Bytes of a request id.
pub const MAX_REQUEST_ID_BYTES: usize = 128;

/// Bytes of a release id: product, version, twelve hex digits, two hyphens.
pub const MAX_RELEASE_ID_BYTES: usize = MAX_NAME_BYTES + MAX_VERSION_BYTES + 12 + 2;

/// The latest time a release may carry, in Unix seconds: 9999-12-30T22:00:00Z. RFC 3339 has four digits for the year, and the
/// last day is left out because it is the year 10000 already in some time zones.
pub const MAX_TIMESTAMP: u64 = 253_402_207_200;

/// Bytes of an encoded statement. The largest legal release (5000 artifacts, names of 255 quotation marks, which JSON doubles)
/// takes 3.1 MB.
pub const MAX_STATEMENT_BYTES: usize = 5 * 1024 * 1024;

/// Bytes of a `.statement` file: the statement and the DSSE frame around it.
pub const MAX_PAE_BYTES: usize = MAX_STATEMENT_BYTES + 128;

/// Bytes of a `.intoto.json` file: the statement in Base64 (four thirds), and room for the envelope and some white space.
pub const MAX_ENVELOPE_BYTES: usize = MAX_STATEMENT_BYTES / 3 * 4 + 64 * 1024;

/// Bytes of an armoured SSHSIG. Ours have at most 500.
pub const MAX_SSHSIG_BYTES: usize = 1024;

/// Bytes of a public key file in PEM. Ours have 113.
pub const MAX_KEY_FILE_BYTES: usize = 1024;

/// Bytes of the comment of an OpenSSH public key, and of the principal of an allowed-signers line.
pub const MAX_KEY_COMMENT_BYTES: usize = 255;
