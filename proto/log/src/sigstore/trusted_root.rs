//! The trusted root: which logs a verifier of Sigstore bundles trusts (`trustedroot+json;version=0.1`).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rutli_release::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{LogUrl, SigstoreKey, SigstoreSigner};
use crate::{checkpoint::InvalidLogKey, entry::cut, hash::Hash, limits::MAX_TRUSTED_ROOT_BYTES};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";
/// The one of RFC 6962 and of C2SP: nothing else is known here.
const HASH_ALGORITHM: &str = "SHA2_256";
const KEY_DETAILS: &str = "PKIX_ECDSA_P256_SHA_256";

/// The logs that a verifier trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedRoot(Vec<TrustedLog>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedLog {
    /// Its key, with its name.
    pub key: SigstoreKey,
    /// Unix seconds from which entries may have been integrated.
    pub valid_from: u64,
    /// Unix seconds until which they may, if it has ended.
    pub valid_until: Option<u64>,
}

/// Text that is no trusted root: the operator's mistake, or a damaged file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no trusted root for Sigstore bundles: {0}")]
pub struct InvalidTrustedRoot(String);

impl SigstoreSigner {
    /// The trusted root that has this log alone, as JSON: `valid_from` in Unix seconds is when the key was made.
    ///
    /// # Errors
    /// [`InvalidLogKey`]: never for a key of ours.
    pub fn trusted_root(&self, valid_from: u64) -> Result<String, InvalidLogKey> {
        let key = self.public()?;
        let mut root = json!({
            "mediaType": MEDIA_TYPE,
            "tlogs": [{
                "baseUrl": self.url.as_str(),
                "hashAlgorithm": HASH_ALGORITHM,
                "publicKey": {
                    "rawBytes": STANDARD.encode(&key.spki),
                    "keyDetails": KEY_DETAILS,
                    "validFor": { "start": Timestamp(valid_from).rfc3339() },
                },
                "logId": { "keyId": key.id.to_base64() },
            }],
            "certificateAuthorities": [],
            "ctlogs": [],
            "timestampAuthorities": [],
        });
        // One text for one log, whichever order `serde_json` was built to keep.
        root.sort_all_objects();
        Ok(format!("{root:#}\n"))
    }
}

impl TrustedRoot {
    /// One log, valid for ever.
    #[must_use]
    pub fn of(key: SigstoreKey) -> Self {
        Self(vec![TrustedLog { key, valid_from: 0, valid_until: None }])
    }

    /// Reads a trusted root. Logs with other keys than ECDSA over P-256 and whatever else is in it do not concern our bundles, and
    /// are passed over.
    ///
    /// # Errors
    /// [`InvalidTrustedRoot`], also if no log is left.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidTrustedRoot> {
        let invalid = |problem: String| InvalidTrustedRoot(problem);
        if json.len() > MAX_TRUSTED_ROOT_BYTES {
            return Err(invalid(format!("it has more than {MAX_TRUSTED_ROOT_BYTES} bytes")));
        }
        let root: RootJson = rutli_release::json::parse(json).map_err(|error| invalid(error.to_string()))?;
        if root.media_type != MEDIA_TYPE {
            return Err(invalid(format!("want the media type {MEDIA_TYPE}")));
        }
        let ours = root.tlogs.iter().filter(|log| log.public_key.key_details == KEY_DETAILS);
        let logs: Vec<_> =
            ours.map(TrustedLog::read).collect::<Result<_, _>>().map_err(InvalidTrustedRoot)?;
        if logs.is_empty() {
            return Err(invalid("it has no log with an ECDSA key over P-256".into()));
        }
        Ok(Self(logs))
    }

    /// Its logs.
    #[must_use]
    pub fn logs(&self) -> &[TrustedLog] {
        &self.0
    }

    /// The logs with this id: several if one has several addresses.
    pub(super) fn with_id(&self, id: &[u8]) -> impl Iterator<Item = &TrustedLog> {
        self.0.iter().filter(move |log| log.key.id.as_bytes() == id)
    }
}

impl TrustedLog {
    fn read(log: &LogJson) -> Result<Self, String> {
        // Of another algorithm's tree no proof of ours could be checked.
        if log.hash_algorithm != HASH_ALGORITHM {
            return Err(format!(
                "the hash algorithm of the log {:?} is {:?}, not {HASH_ALGORITHM}",
                cut(&log.base_url),
                cut(&log.hash_algorithm)
            ));
        }
        let url: LogUrl = log.base_url.parse().map_err(|error: InvalidLogKey| error.to_string())?;
        let spki = STANDARD.decode(&log.public_key.raw_bytes).map_err(|error| error.to_string())?;
        let key = SigstoreKey::from_spki(&url, &spki).map_err(|error| error.to_string())?;
        if Hash::from_base64(&log.log_id.key_id) != Ok(key.id) {
            return Err(format!("the id of the log {} is not that of its key", key.name));
        }
        let seconds = |text: &str| {
            let time: Result<jiff::Timestamp, _> = text.parse();
            let seconds = time.ok().and_then(|time| u64::try_from(time.as_second()).ok());
            seconds.ok_or_else(|| format!("{text:?} is no time after 1970"))
        };
        let window = &log.public_key.valid_for;
        let valid_until = window.end.as_deref().map(seconds).transpose()?;
        Ok(Self { key, valid_from: seconds(&window.start)?, valid_until })
    }

    /// Whether entries may have been integrated then.
    pub(super) fn covers(&self, time: u64) -> bool {
        self.valid_from <= time && self.valid_until.is_none_or(|end| time <= end)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RootJson {
    media_type: String,
    #[serde(deserialize_with = "rutli_release::json::objects")]
    tlogs: Vec<LogJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogJson {
    base_url: String,
    hash_algorithm: String,
    #[serde(deserialize_with = "rutli_release::json::object")]
    public_key: KeyJson,
    #[serde(deserialize_with = "rutli_release::json::object")]
    log_id: LogIdJson,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyJson {
    raw_bytes: String,
    key_details: String,
    #[serde(deserialize_with = "rutli_release::json::object")]
    valid_for: WindowJson,
}

#[derive(Deserialize)]
struct WindowJson {
    start: String,
    end: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogIdJson {
    key_id: String,
}
