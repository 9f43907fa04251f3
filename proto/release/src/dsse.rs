//! DSSE v1: the pre-authentication encoding that is signed, and the JSON envelope around it.
//!
//! Encoded: `DSSEv1 SP len(type) SP type SP len(body) SP body`, lengths in ASCII decimal bytes. The type and the lengths are
//! signed with the body, so neither can be exchanged. See the "protocol.md" of secure-systems-lab/dsse.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::canonical;
use crate::verify::NotVerified;

/// The type of the payload in every envelope of ours: an in-toto Statement in JSON.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The pre-authentication encoding of `body`: the bytes that are signed for a DSSE envelope.
#[must_use]
pub fn pae(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let type_length = payload_type.len().to_string();
    let body_length = body.len().to_string();
    let parts: [&[u8]; 5] =
        [b"DSSEv1", type_length.as_bytes(), payload_type.as_bytes(), body_length.as_bytes(), body];
    parts.join(&b' ')
}

/// The statement inside the pre-authentication encoding, if it is one of our payload type, byte for byte.
pub(crate) fn statement_in(encoded: &[u8]) -> Result<&[u8], NotVerified> {
    let head = pae_head();
    let (length, body) = encoded
        .strip_prefix(head.as_bytes())
        .and_then(|rest| {
            let space = rest.iter().position(|byte| *byte == b' ')?;
            rest.split_at_checked(space)
        })
        .ok_or(NotVerified::NotAStatementFile)?;
    let body = body.strip_prefix(b" ").ok_or(NotVerified::NotAStatementFile)?;
    // Compared as text: a decimal number has one spelling here, without sign or leading zeros.
    if length != body.len().to_string().as_bytes() {
        return Err(NotVerified::NotAStatementFile);
    }
    Ok(body)
}

/// The DSSE envelope, in the one encoding that we write: canonical JSON.
pub(crate) fn envelope(payload: &[u8], key_id: &str, signature: &[u8; 64]) -> Vec<u8> {
    let mut out = String::with_capacity(payload.len() / 3 * 4 + 512);
    out.push_str("{\"payload\":\"");
    STANDARD.encode_string(payload, &mut out);
    out.push_str("\",\"payloadType\":");
    canonical::string(&mut out, PAYLOAD_TYPE);
    out.push_str(",\"signatures\":[{\"keyid\":");
    canonical::string(&mut out, key_id);
    out.push_str(",\"sig\":\"");
    STANDARD.encode_string(signature, &mut out);
    out.push_str("\"}]}");
    out.into_bytes()
}

/// What an envelope holds. Nothing about it is verified.
pub(crate) struct OpenEnvelope {
    pub(crate) payload: Vec<u8>,
    pub(crate) key_id: String,
    pub(crate) signature: [u8; 64],
}

/// Opens an envelope of our payload type with exactly one signature. The JSON may be laid out otherwise than we do, since its
/// layout is not signed, but may have no other fields than ours.
pub(crate) fn open(json: &[u8]) -> Result<OpenEnvelope, NotVerified> {
    let envelope: EnvelopeJson<'_> = serde_json::from_slice(json).map_err(|_| NotVerified::NotAnEnvelope)?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(NotVerified::PayloadType);
    }
    let [signature] = envelope.signatures.as_slice() else {
        return Err(NotVerified::SignatureCount { count: envelope.signatures.len() });
    };
    let payload = STANDARD.decode(envelope.payload.as_bytes()).map_err(|_| NotVerified::NotAnEnvelope)?;
    let bytes = STANDARD.decode(signature.sig.as_bytes()).map_err(|_| NotVerified::NotAnEnvelope)?;
    Ok(OpenEnvelope {
        payload,
        key_id: signature.keyid.as_ref().into(),
        signature: bytes.try_into().map_err(|_| NotVerified::SignatureLength)?,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeJson<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
    #[serde(borrow, rename = "payloadType")]
    payload_type: Cow<'a, str>,
    #[serde(borrow)]
    signatures: Vec<SignatureJson<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureJson<'a> {
    #[serde(borrow)]
    keyid: Cow<'a, str>,
    #[serde(borrow)]
    sig: Cow<'a, str>,
}

fn pae_head() -> String {
    alloc::format!("DSSEv1 {} {PAYLOAD_TYPE} ", PAYLOAD_TYPE.len())
}
