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
    let envelope: EnvelopeJson<'_> = crate::json::parse(json).map_err(|_| NotVerified::NotAnEnvelope)?;
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
    #[serde(borrow, deserialize_with = "crate::json::objects")]
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

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::text;

    #[test]
    fn pae_is_that_of_the_specification() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
        // Lengths count bytes, not characters.
        assert_eq!(pae("ü", "ü ".as_bytes()), "DSSEv1 2 ü 3 ü ".as_bytes());
    }

    #[test]
    fn only_the_exact_encoding_of_our_type_is_read_back() {
        assert_eq!(statement_in(&pae(PAYLOAD_TYPE, b"body")).unwrap(), b"body");
        assert_eq!(statement_in(&pae(PAYLOAD_TYPE, b"")).unwrap(), b"");
        let good = text(pae(PAYLOAD_TYPE, b"0123456789"));
        for bad in [
            String::new(),
            good.replace("DSSEv1", "DSSEv2"),
            good.replace("28", "028"),
            good.replace("28", "27"),
            good.replace("in-toto", "in-tota"),
            good.replace(" 10 ", " 010 "),
            good.replace(" 10 ", " +10 "),
            good.replace(" 10 ", " 9 "),
            good.replace(" 10 ", " 11 "),
            good.replace(" 10 ", "  10 "),
            good.replace(" 10 ", " 10"),
            good.replace(" 10 ", " 99999999999999999999 "),
            good.clone() + "\n",
            text(pae("application/json", b"0123456789")),
        ] {
            assert_ne!(bad, good);
            assert_eq!(statement_in(bad.as_bytes()), Err(NotVerified::NotAStatementFile), "{bad}");
        }
    }

    #[test]
    fn the_envelope_is_exactly_this_and_may_be_laid_out_otherwise() {
        let sig = STANDARD.encode([9; 64]);
        let ours = text(envelope(b"body", "ab", &[9; 64]));
        assert_eq!(
            ours,
            format!(
                "{{\"payload\":\"Ym9keQ==\",\"payloadType\":\"application/vnd.in-toto+json\",\
                 \"signatures\":[{{\"keyid\":\"ab\",\"sig\":\"{sig}\"}}]}}"
            )
        );
        let value: serde_json::Value = serde_json::from_str(&ours).unwrap();
        assert_eq!(serde_json_canonicalizer::to_string(&value).unwrap(), ours);
        for layout in [ours.clone(), serde_json::to_string_pretty(&value).unwrap(), ours.replace('/', "\\/")]
        {
            let opened = open(layout.as_bytes()).unwrap();
            assert_eq!((opened.payload.as_slice(), opened.key_id.as_str()), (&b"body"[..], "ab"));
            assert_eq!(opened.signature, [9; 64]);
        }
    }

    #[test]
    fn envelopes_with_more_or_less_are_refused() {
        let good = text(envelope(b"body", "ab", &[9; 64]));
        let signature = good.split_once('[').unwrap().1.split_once(']').unwrap().0;
        for (bad, reason) in [
            (good.replace(signature, ""), NotVerified::SignatureCount { count: 0 }),
            (
                good.replace(signature, &format!("{signature},{signature}")),
                NotVerified::SignatureCount { count: 2 },
            ),
            (good.replace("in-toto", "cyclonedx"), NotVerified::PayloadType),
            (
                good.replace(&STANDARD.encode([9; 64]), &STANDARD.encode([9; 63])),
                NotVerified::SignatureLength,
            ),
            (good.replace("\"keyid\":\"ab\",", ""), NotVerified::NotAnEnvelope),
            (good.replace("\"keyid\"", "\"cert\":\"\",\"keyid\""), NotVerified::NotAnEnvelope),
            (good.replace("\"payload\"", "\"payload\":\"\",\"payload\""), NotVerified::NotAnEnvelope),
            (good.replace("Ym9keQ==", "Ym9keQ"), NotVerified::NotAnEnvelope),
            // The same bytes, with other bits where Base64 has no data.
            (good.replace("Ym9keQ==", "Ym9keR=="), NotVerified::NotAnEnvelope),
            (good.replace("Ym9keQ==", "Ym9k\\neQ=="), NotVerified::NotAnEnvelope),
            (good.clone() + "{}", NotVerified::NotAnEnvelope),
            ("null".into(), NotVerified::NotAnEnvelope),
            (String::new(), NotVerified::NotAnEnvelope),
        ] {
            assert_ne!(bad, good);
            assert_eq!(open(bad.as_bytes()).err(), Some(reason), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(body in any::<Vec<u8>>(), signature in any::<[[u8; 32]; 2]>()) {
            let encoded = pae(PAYLOAD_TYPE, &body);
            prop_assert_eq!(statement_in(&encoded).unwrap(), &body[..]);
            let signature: [u8; 64] = signature.concat().try_into().unwrap();
            let opened = open(&envelope(&body, "ab", &signature)).unwrap();
            prop_assert_eq!(opened.payload, body);
            prop_assert_eq!(opened.signature, signature);
        }

        #[test]
        fn garbage_is_refused(mut bytes in any::<Vec<u8>>()) {
            prop_assert!(statement_in(&bytes).is_err());
            prop_assert!(open(&bytes).is_err());
            let mut framed = vec![b'{'];
            framed.append(&mut bytes);
            prop_assert!(open(&framed).is_err());
        }
    }
}
