//! What a reader of the log can find wrong with it: one stable word each, how grave it is, and what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_FINDING_BYTES;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// The log, or somebody who writes it, did what no honest one does, or promised and did not.
    Alarm,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which kind.
    pub code: Code,
    /// The entry that it is about, if it is about one.
    pub index: Option<u64>,
    /// What was found, for people, at most [`MAX_FINDING_BYTES`] long. May hold text from entries: make it printable
    /// before it is shown.
    pub text: String,
    /// How many it stands for: more than 1 where only the first of a kind are told one by one.
    pub count: u64,
}

impl Finding {
    /// About an entry.
    pub fn at(code: Code, index: u64, text: impl Into<String>) -> Self {
        Self { code, index: Some(index), text: shortened(text.into()), count: 1 }
    }

    /// About the log as a whole.
    pub fn of_log(code: Code, text: impl Into<String>) -> Self {
        Self { code, index: None, text: shortened(text.into()), count: 1 }
    }

    /// In place of so many of one kind.
    #[must_use]
    pub fn more(code: Code, count: u64) -> Self {
        Self { code, index: None, text: format!("and {count} more of this kind"), count }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_FINDING_BYTES {
        text.truncate(text.floor_char_boundary(MAX_FINDING_BYTES.saturating_sub('…'.len_utf8())));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

/// Defines the codes with their words, so that no table can miss one.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal, $severity:ident, $advice:expr;)+) => {
        /// Kinds of findings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $name,)+
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The stable word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }

            /// What it means, for people.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// How grave it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity),+ }
            }

            /// What to do, for people.
            #[must_use]
            pub fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice),+ }
            }
        }
    };
}

const KEEP_BOTH: &str = "keep both heads as evidence, stop trusting new releases, and compare with the heads that the \
    nodes keep (`rutli node status`)";
const STOP: &str = "stop trusting the release until both organisations have looked at it";
const ASK_OPERATOR: &str = "ask the operator of the coordinator; compare with another mirror (--compare)";
const KEY_HOLDERS: &str = "ask the custodians of every organisation whether this ceremony took place, and compare the roster's words";

codes! {
    /// The published checkpoint does not open under the log's key.
    CheckpointInvalid = "checkpoint-invalid", Alarm, "check the key that you gave; if it is right, keep the checkpoint as evidence and compare with another mirror";
    /// The published head is smaller than one that was published before.
    HeadBackwards = "head-backwards", Alarm, "a stale mirror or a log that was rolled back: compare with another mirror, and with the heads that the nodes keep (`rutli node status`)";
    /// Two heads of one size.
    HeadForked = "head-forked", Alarm, KEEP_BOTH;
    /// The head is no extension of what was verified before.
    HeadInconsistent = "head-inconsistent", Alarm, KEEP_BOTH;
    /// A cosignature by a known witness does not verify.
    CosignatureInvalid = "cosignature-invalid", Alarm, "ask the witness's operator; compare with the checkpoint of another mirror";
    /// Heads have been published without the witnesses that the policy asks for, for too long.
    CosignaturesMissing = "cosignatures-missing", Alarm, "see which witnesses are down (`rutli node list`); endpoints that ask for this policy refuse new proofs meanwhile";
    /// The head for Sigstore's tools does not verify, or is not of this log's tree.
    SigstoreHeadDiffers = "sigstore-head-differs", Alarm, "keep both heads as evidence, and accept no Sigstore bundle of this log without its tlog-proof (`rutli verify --policy`)";
    /// The published head was last cosigned by a quorum longer ago than `--max-age` says.
    HeadStale = "head-stale", Alarm, "a stale mirror, a log that stands still, or somebody who keeps newer heads from you: compare with another mirror, and with the heads that the nodes keep (`rutli node status`)";
    /// A cosignature's time is yet to come.
    CosignatureFuture = "cosignature-future", Notice, "compare the clock here with the witness's: it does not count for how old the head is";
    /// A hash tile does not hold what the entries give.
    TileForged = "tile-forged", Alarm, "proofs made from this tile are worthless: keep a copy of it as evidence, and compare with another mirror";
    /// A hash tile that the head implies cannot be read.
    TileMissing = "tile-missing", Alarm, ASK_OPERATOR;
    /// An entry bundle that the head implies cannot be read.
    BundleMissing = "bundle-missing", Alarm, ASK_OPERATOR;
    /// An entry bundle is not of the form.
    BundleDamaged = "bundle-damaged", Alarm, ASK_OPERATOR;
    /// A bundle holds other entries than those that the head commits to.
    EntryForged = "entry-forged", Alarm, "the bundle was changed after it was logged: keep a copy of it as evidence, and compare with another mirror";
    /// An entry is none of a Rütli log.
    EntryMalformed = "entry-malformed", Alarm, "this monitor may be older than the log: update it; else somebody wrote to the log past the coordinator";
    /// An outcome names a request that is not open.
    OutcomeWithoutRequest = "outcome-without-request", Alarm, "something may have been signed that nobody asked for in the log: stop trusting the release until both organisations have looked at it";
    /// A request has a second outcome.
    OutcomeTwice = "outcome-twice", Alarm, STOP;
    /// An outcome says other things than its request, or than its state allows.
    OutcomeMismatch = "outcome-mismatch", Alarm, STOP;
    /// The nodes that signed are no quorum of the roster that the outcome names.
    QuorumMissing = "quorum-missing", Alarm, STOP;
    /// A request is past its deadline, and nothing says how it ended.
    RequestWithoutOutcome = "request-without-outcome", Alarm, "it may have been signed in secret: ask the operator of the coordinator, and the nodes' journals, how it ended";
    /// A deadline or the end of an embargo lies before its request, or more than 366 days after it.
    TermsExcessive = "terms-excessive", Alarm, "nodes sign nothing under such terms: ask the operator of the coordinator, and the nodes' journals, what was asked for and how it ended";
    /// Evidence was added to what is no open request.
    EvidenceWithoutRequest = "evidence-without-request", Alarm, "an honest coordinator takes none for what has ended, or was never asked for: ask its operator; compare with another mirror (--compare)";
    /// A signature's leaf that no outcome announced.
    DsseWithoutOutcome = "dsse-without-outcome", Alarm, "a signature is in the log that no request led to: stop trusting the release until both organisations have looked at it";
    /// A signature's leaf is not by the key of its outcome, does not verify, or is not of the form.
    DsseMismatch = "dsse-mismatch", Alarm, STOP;
    /// A release was signed whose sequence is not above those that had been signed in its channel when it was asked for.
    SequenceBackwards = "sequence-backwards", Alarm, "an older release may be on offer as a new one: do not install it, ask who asked for it";
    /// The version of a signed release is lower than that of the one signed before it in its channel.
    VersionBackwards = "version-backwards", Alarm, "ask who asked for the release whether it was meant; endpoints take it for an update";
    /// Two releases of a channel were signed under one version.
    VersionRepeated = "version-repeated", Alarm, "ask who asked for them which one is meant: endpoints and people cannot tell them apart by their version";
    /// Signed with a key, or under a roster of a key, that no entry named before.
    KeyUnknown = "key-unknown", Alarm, KEY_HOLDERS;
    /// A request under a roster that no entry named before.
    RosterUnknown = "roster-unknown", Alarm, KEY_HOLDERS;
    /// A key's name came again with an epoch that does not follow.
    KeyReused = "key-reused", Alarm, KEY_HOLDERS;
    /// A refresh changed the public key or the purpose.
    KeyChanged = "key-changed", Alarm, KEY_HOLDERS;
    /// A disclosure of what is not under embargo.
    DisclosureWithoutRequest = "disclosure-without-request", Alarm, ASK_OPERATOR;
    /// A disclosure that does not open its entry, or that its outcome contradicts.
    DisclosureMismatch = "disclosure-mismatch", Alarm, "what was signed under embargo is not what is said now: stop trusting the release until both organisations have looked at it";
    /// An embargo was not disclosed in time.
    EmbargoOverdue = "embargo-overdue", Alarm, "ask the operator of the coordinator what was signed under this embargo";
    /// An entry says why something under embargo was refused.
    EmbargoLeak = "embargo-leak", Notice, "the reason may tell what the embargo hides: tell the requester";
    /// A document that an entry names is not there.
    DocumentMissing = "document-missing", Alarm, ASK_OPERATOR;
    /// A document has another digest than its name.
    DocumentForged = "document-forged", Alarm, "keep a copy of it as evidence, and compare with another mirror";
    /// A statement says other things than its request.
    StatementMismatch = "statement-mismatch", Alarm, STOP;
    /// The signed roster of a key is none, or not signed by all its nodes.
    RosterInvalid = "roster-invalid", Alarm, KEY_HOLDERS;
    /// The signed roster of a key says other things than its entry.
    RosterMismatch = "roster-mismatch", Alarm, KEY_HOLDERS;
    /// More is open than a reader keeps.
    TooMuchOpen = "too-much-open", Alarm, "somebody floods the log, or its coordinator ends nothing any more: ask its operator";
    /// A node was named as a culprit.
    NodeCulprit = "node-culprit", Notice, "ask the organisation that runs it to look after it";
    /// A node was put back.
    NodeReinstated = "node-reinstated", Notice, "check that its organisation knows";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
