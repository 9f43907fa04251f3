//! Who a peer is: read once per connection from its certificate, never from a message.
//!
//! A certificate names one party by exactly one URI subject alternative name (RFC 5280, section 4.2.1.6):
//! `rutli:pipeline:NAME`, `rutli:node:ORGANISATION:NAME`, `rutli:operator:NAME`, `rutli:custodian:NAME`,
//! `rutli:auditor:NAME` or `rutli:coordinator:NAME`. Whether the certificate is genuine is the TLS layer's business.

use std::{fmt, str::FromStr};

use rutli_keys::{NodeId, NodeName, OrgName};
use rutli_release::Requester;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A party, as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// Asks for releases.
    Pipeline(Requester),
    /// Holds shares.
    Node(NodeId),
    /// Runs the coordinator.
    Operator(Requester),
    /// Looks at everything, and adds evidence: approvals, refusals, attestations. What those are worth their own signatures say.
    Custodian(Requester),
    /// Looks at everything, changes nothing.
    Auditor(Requester),
    /// Serves.
    Coordinator(Requester),
}

/// The certificate does not name a party of this deployment. Whoever issued it erred.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnknownParty {
    /// Not X.509.
    #[error("the certificate does not parse")]
    NotACertificate,
    /// No SAN of ours, or more than one.
    #[error(
        "the certificate has {0} subject alternative names of the form rutli:ROLE:NAME; it must have exactly one"
    )]
    NotOne(usize),
    /// A SAN of ours that does not read.
    #[error(
        "the certificate's name {0:?} is none of rutli:pipeline:NAME, rutli:node:ORGANISATION:NAME, rutli:operator:NAME, rutli:custodian:NAME, rutli:auditor:NAME, rutli:coordinator:NAME"
    )]
    NotAName(String),
}

impl Party {
    /// Reads the party out of a DER certificate.
    pub fn from_certificate(der: &[u8]) -> Result<Self, UnknownParty> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| UnknownParty::NotACertificate)?;
        let names = certificate.subject_alternative_name().map_err(|_| UnknownParty::NotACertificate)?;
        let ours: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with("rutli:") => Some(*uri),
                _ => None,
            })
            .collect();
        match ours.as_slice() {
            [uri] => uri.parse(),
            _ => Err(UnknownParty::NotOne(ours.len())),
        }
    }

    /// The role's word, for messages.
    #[must_use]
    pub fn role(&self) -> &'static str {
        match self {
            Self::Pipeline(_) => "pipeline",
            Self::Node(_) => "node",
            Self::Operator(_) => "operator",
            Self::Custodian(_) => "custodian",
            Self::Auditor(_) => "auditor",
            Self::Coordinator(_) => "coordinator",
        }
    }
}

impl FromStr for Party {
    type Err = UnknownParty;

    fn from_str(uri: &str) -> Result<Self, UnknownParty> {
        let unreadable = || UnknownParty::NotAName(uri.chars().take(128).collect());
        let name = |name: &str| Requester::new(name).map_err(|_| unreadable());
        match uri.split(':').collect::<Vec<_>>().as_slice() {
            ["rutli", "pipeline", pipeline] => Ok(Self::Pipeline(name(pipeline)?)),
            ["rutli", "operator", operator] => Ok(Self::Operator(name(operator)?)),
            ["rutli", "custodian", custodian] => Ok(Self::Custodian(name(custodian)?)),
            ["rutli", "auditor", auditor] => Ok(Self::Auditor(name(auditor)?)),
            ["rutli", "coordinator", coordinator] => Ok(Self::Coordinator(name(coordinator)?)),
            ["rutli", "node", organisation, node] => Ok(Self::Node(NodeId {
                organisation: OrgName::new(*organisation).map_err(|_| unreadable())?,
                node: NodeName::new(*node).map_err(|_| unreadable())?,
            })),
            _ => Err(unreadable()),
        }
    }
}

/// The URI that a certificate carries.
impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "rutli:node:{}:{}", id.organisation, id.node),
            Self::Pipeline(name)
            | Self::Operator(name)
            | Self::Custodian(name)
            | Self::Auditor(name)
            | Self::Coordinator(name) => {
                write!(f, "rutli:{}:{name}", self.role())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(uris: &[&str]) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.subject_alt_names =
            uris.iter().map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap())).collect();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn every_role_reads_back() {
        for uri in [
            "rutli:pipeline:ci",
            "rutli:node:vendor:vendor-1",
            "rutli:operator:o",
            "rutli:custodian:c",
            "rutli:auditor:a",
            "rutli:coordinator:c",
        ] {
            assert_eq!(Party::from_certificate(&certificate(&[uri])).unwrap().to_string(), uri);
        }
    }

    #[test]
    fn one_name_only_and_a_known_one() {
        let two = certificate(&["rutli:pipeline:ci", "rutli:operator:o"]);
        assert_eq!(Party::from_certificate(&two), Err(UnknownParty::NotOne(2)));
        assert_eq!(
            Party::from_certificate(&certificate(&["https://example.org"])),
            Err(UnknownParty::NotOne(0))
        );
        assert_eq!(Party::from_certificate(b"rubbish"), Err(UnknownParty::NotACertificate));
        for uri in [
            "rutli:root:x",
            "rutli:node:vendor",
            "rutli:pipeline:",
            "rutli:pipeline:UPPER",
            "rutli:pipeline:a:b",
        ] {
            assert!(
                matches!(Party::from_certificate(&certificate(&[uri])), Err(UnknownParty::NotAName(_))),
                "{uri}"
            );
        }
    }
}
