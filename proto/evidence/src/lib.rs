//! What a custodian's node verifies about a release beyond the request itself.
//!
//! ```ignore
//! // Evidence: one opaque document of at most 64 KiB.
//! impl Evidence {
//!     pub fn parse(bytes: &[u8]) -> Result<Evidence, NotEvidence>;
//!     pub fn as_bytes(&self) -> &[u8];
//!     pub fn digest(&self) -> [u8; 32];
//!     pub fn kind(&self) -> Kind; // Build, Tests, Review, Approval, Refusal; Display
//! }
//! pub fn approval_text(release: &ReleaseId, statement_sha256: &[u8; 32]) -> String;
//! pub fn refusal_text(release: &ReleaseId, statement_sha256: &[u8; 32], reason: &str) -> Result<String, InvalidReason>;
//! pub const APPROVAL_NAMESPACE: &str = "approval@rutli";
//! pub const REFUSAL_NAMESPACE: &str = "refusal@rutli";
//!
//! // Trust: whom one custodian trusts.
//! pub enum Role { Builder, Rebuilder, Tester, Reviewer }
//! pub struct AttestationKey { pub name: String, pub role: Role, pub public_key: String, pub ids: Vec<String> }
//! impl Trust {
//!     pub fn new(keys: Vec<AttestationKey>, allowed_signers: &str) -> Result<Trust, InvalidTrust>;
//!     pub fn custodians(&self) -> BTreeSet<&str>;
//!     pub fn keys(&self) -> impl Iterator<Item = (Role, &str)>;
//! }
//! pub fn verify(evidence: &Evidence, trust: &Trust, release: &VerifiedRelease, id: &ReleaseId, now_unix: u64)
//!     -> Result<Established, NotEstablished>;
//!
//! // Making evidence.
//! pub struct Subject { pub name: String, pub sha256: [u8; 32] }
//! pub struct Build { pub builder_id: String, pub build_type: String, pub parameters: BTreeMap<String, String>,
//!     pub source_uri: Option<String>, pub source_digest: SourceDigest, pub invocation_id: Option<String>,
//!     pub started_at: Option<u64>, pub finished_at: Option<u64> }
//! pub struct TestRun { pub configurations: BTreeSet<String>, pub passed: BTreeSet<String>, pub warned: BTreeSet<String>,
//!     pub failed: BTreeSet<String>, pub url: Option<String> }
//! pub fn provenance_statement(subjects: &[Subject], build: &Build) -> Result<Vec<u8>, NotMade>;
//! pub fn test_statement(subjects: &[Subject], run: &TestRun) -> Result<Vec<u8>, NotMade>;
//! impl AttestationSigner {
//!     pub fn from_private_key(text: &str) -> Result<AttestationSigner, InvalidSigner>;
//!     pub fn public_pem(&self) -> String;
//! }
//! pub fn sign_dsse(statement: &[u8], signer: &AttestationSigner) -> Result<Vec<u8>, NotMade>;
//! ```

mod fact;
pub mod limits;

pub use fact::{BuildFact, Established, NotADigest, SourceDigest};
