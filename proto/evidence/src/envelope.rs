//! DSSE envelopes (secure-systems-lab/dsse, "protocol.md" and "envelope.md", v1).
//!
//! ```text
//! {"payload": <Base64>, "payloadType": "application/vnd.in-toto+json", "signatures": [{"keyid": …, "sig": <Base64>}, …]}
//! ```
//!
//! Base64 in the standard or the URL-safe alphabet, of which the specification says that verifiers must take both, with padding.
//! Other fields are passed over, and `keyid` with them: it is not signed, so nothing follows from it.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use rutli_release::PAYLOAD_TYPE;
use serde::Deserialize;

use crate::{
    document::NotEvidence,
    json,
    limits::{MAX_SIGNATURES, MAX_SIGNED_BYTES},
    statement::{self, Statement},
    words::quoted,
};

/// An envelope whose form is right. No signature of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) statement: Statement,
    /// The bytes that are signed.
    pub(crate) signed: Vec<u8>,
    /// 1 to 8, of any length.
    pub(crate) signatures: Vec<Vec<u8>>,
}

impl Envelope {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NotEvidence> {
        let envelope: EnvelopeJson = json::parse(bytes).map_err(NotEvidence::Envelope)?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(NotEvidence::PayloadType { found: quoted(&envelope.payload_type) });
        }
        let count = envelope.signatures.len();
        if !(1..=MAX_SIGNATURES).contains(&count) {
            return Err(NotEvidence::Signatures { count });
        }
        let payload = decode(&envelope.payload, "payload")?;
        let bytes = payload.len();
        if bytes.saturating_mul(count) > MAX_SIGNED_BYTES {
            return Err(NotEvidence::Signed { count, bytes });
        }
        let signatures = envelope
            .signatures
            .iter()
            .map(|signature| decode(&signature.sig, "signature"))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            statement: statement::parse(&payload)?,
            signed: rutli_release::pae(PAYLOAD_TYPE, &payload),
            signatures,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeJson {
    payload: String,
    payload_type: String,
    #[serde(deserialize_with = "rutli_release::json::objects")]
    signatures: Vec<SignatureJson>,
}

#[derive(Deserialize)]
struct SignatureJson {
    sig: String,
}

fn decode(text: &str, what: &'static str) -> Result<Vec<u8>, NotEvidence> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| NotEvidence::Base64 { what })
}
