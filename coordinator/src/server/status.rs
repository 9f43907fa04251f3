//! The only place where an error becomes a gRPC status, with details that programs read (google.rpc, AIP-193).
//!
//! Every status carries an `ErrorInfo` with the domain [`DOMAIN`] and a stable reason. Internals go to the log, not over
//! the wire.

use std::{collections::HashMap, time::Duration};

use rutli_release::InvalidRelease;
use rutli_wire::convert::Malformed;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{error::Error, share::Whose};

/// Domain of all reasons.
pub const DOMAIN: &str = "rutli";

/// Turns an error into what the caller sees.
#[must_use]
pub fn from(error: Error) -> Status {
    let (code, reason) = code_and_reason(&error);
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata(&error));
    match &error {
        Error::Malformed(malformed) => {
            let (field, problem) = violation(malformed);
            details.add_bad_request_violation(field, problem);
        }
        Error::Field { field, problem } => {
            details.add_bad_request_violation(*field, problem.clone());
        }
        Error::RequestIdReused { release_id, .. } => {
            details.set_resource_info("rutli.v1.Release", release_id, "", error.to_string());
        }
        Error::NotFound { kind, name } => {
            details.set_resource_info(*kind, name, "", error.to_string());
        }
        Error::SequenceBehind { channel, .. } => {
            details.add_precondition_failure_violation("SEQUENCE", channel.to_string(), error.to_string());
        }
        Error::NoSequence { channel } => {
            details.add_precondition_failure_violation("SEQUENCE", channel.to_string(), error.to_string());
        }
        Error::NoKey => {
            details.add_precondition_failure_violation("KEY", "release", error.to_string());
        }
        Error::TooLate { release_id, .. } => {
            details.add_precondition_failure_violation("STATE", release_id, error.to_string());
        }
        Error::EvidenceFull { release_id, .. } => {
            details.add_quota_failure_violation(release_id, error.to_string());
        }
        Error::Full(full) => {
            let subject = match full.whose {
                Whose::Name => format!("name:{}", full.holder),
                Whose::Authority => format!("authority:{}", full.holder),
                Whose::All => "all".to_owned(),
            };
            details.add_quota_failure_violation(subject, error.to_string());
            details.set_retry_info(Some(full.retry));
        }
        Error::LogBehind { .. } => {
            details.add_quota_failure_violation("all", error.to_string());
            details.set_retry_info(Some(Duration::from_secs(2)));
        }
        Error::Revoked => {
            details.set_retry_info(Some(Duration::from_secs(10)));
        }
        Error::RequestTooSlow { .. } => {
            details.set_retry_info(Some(Duration::from_secs(1)));
        }
        Error::StoreClosed { .. } | Error::NotYet { .. } | Error::Stopping => {
            details.set_retry_info(Some(Duration::from_secs(1)));
        }
        _ => {}
    }
    Status::with_error_details(code, message(error), details)
}

fn code_and_reason(error: &Error) -> (Code, &'static str) {
    match error {
        Error::Malformed(_) | Error::Field { .. } => (Code::InvalidArgument, "INVALID_REQUEST"),
        Error::Link(_) => (Code::InvalidArgument, "INVALID_LINK"),
        Error::Ceremony(_) => (Code::InvalidArgument, "INVALID_CEREMONY"),
        Error::RequestIdReused { .. } => (Code::AlreadyExists, "REQUEST_ID_REUSED"),
        Error::SequenceBehind { .. } => (Code::FailedPrecondition, "SEQUENCE_BEHIND"),
        Error::NoSequence { .. } => (Code::FailedPrecondition, "NO_SEQUENCE"),
        Error::TooLate { .. } => (Code::FailedPrecondition, "TOO_LATE"),
        Error::NoKey => (Code::FailedPrecondition, "NO_KEY"),
        Error::NotFound { .. } => (Code::NotFound, "NOT_FOUND"),
        Error::WrongRole { .. } => (Code::PermissionDenied, "WRONG_ROLE"),
        Error::Unknown(_) => (Code::Unauthenticated, "UNKNOWN_PARTY"),
        Error::EvidenceFull { .. } => (Code::ResourceExhausted, "EVIDENCE_FULL"),
        Error::NotListed { .. } => (Code::PermissionDenied, "CLIENT_NOT_LISTED"),
        Error::Full(_) => (Code::ResourceExhausted, "SHARE_FULL"),
        Error::Revoked => (Code::ResourceExhausted, "REVOKED"),
        Error::RequestTooSlow { .. } => (Code::DeadlineExceeded, "REQUEST_TOO_SLOW"),
        Error::RequestTooLarge { .. } => (Code::OutOfRange, "REQUEST_TOO_LARGE"),
        Error::LogBehind { .. } => (Code::ResourceExhausted, "LOG_BEHIND"),
        Error::StoreClosed { .. } => (Code::Unavailable, "STORE_CLOSED"),
        Error::NotYet { .. } => (Code::Unavailable, "NOT_YET"),
        Error::Stopping => (Code::Unavailable, "STOPPING"),
        Error::Replaced => (Code::Aborted, "REPLACED"),
        Error::Store { .. }
        | Error::Overtaken { .. }
        | Error::Unfit { .. }
        | Error::Config { .. }
        | Error::File { .. }
        | Error::Log(_)
        | Error::LogForked { .. }
        | Error::Witness { .. }
        | Error::Listen { .. }
        | Error::Serve(_) => (Code::Internal, "INTERNAL"),
    }
}

fn message(error: Error) -> String {
    if code_and_reason(&error).0 == Code::Internal {
        tracing::error!(%error, "an internal error");
        return "an internal error; the coordinator's log says more, and trying again is safe".into();
    }
    error.to_string()
}

fn metadata(error: &Error) -> HashMap<String, String> {
    let pairs: Vec<(&str, String)> = match error {
        Error::RequestIdReused { release_id, .. } => vec![("release_id", release_id.clone())],
        Error::SequenceBehind { sequence, highest, .. } => {
            vec![("sequence", sequence.to_string()), ("highest", highest.to_string())]
        }
        Error::WrongRole { needed, .. } => vec![("needed", needed.clone())],
        Error::NotListed { requester, class, product } => {
            vec![("requester", requester.clone()), ("class", class.to_string()), ("product", product.clone())]
        }
        Error::Full(full) => vec![
            ("bound", full.key.to_owned()),
            ("holder", full.holder.clone()),
            ("used", full.used.to_string()),
            ("most", full.most.to_string()),
        ],
        _ => Vec::new(),
    };
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The field at fault, as its path in the `.proto` file.
fn violation(malformed: &Malformed) -> (String, String) {
    match malformed {
        Malformed::Field { field, problem } => ((*field).to_owned(), problem.clone()),
        Malformed::Release(invalid) => (field(invalid), invalid.to_string()),
    }
}

fn field(invalid: &InvalidRelease) -> String {
    match invalid {
        InvalidRelease::Name { what, .. } => (*what).replace(' ', "_"),
        InvalidRelease::Artifact { number, source } => {
            format!("artifacts[{}].{}", number.saturating_sub(1), field(source))
        }
        InvalidRelease::ArtifactName { .. }
        | InvalidRelease::RepeatedArtifactName
        | InvalidRelease::RepeatedFileName
        | InvalidRelease::ReservedFileName => "name".into(),
        InvalidRelease::DigestLength { .. } => "sha256".into(),
        InvalidRelease::ArtifactCount { .. } => "artifacts".into(),
        InvalidRelease::Class => "release_class".into(),
        InvalidRelease::Format | InvalidRelease::NoFormat | InvalidRelease::RepeatedFormat(_) => {
            "formats".into()
        }
        InvalidRelease::Sequence => "sequence".into(),
        InvalidRelease::Time { .. } | InvalidRelease::ExpiresBeforeIssued => "expires_at".into(),
        // A kind of mistake that is newer than this list.
        _ => "release".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::{Held, Limit, Owner};

    #[test]
    fn a_bad_artifact_is_named_by_its_path() {
        let source = InvalidRelease::DigestLength { algorithm: "SHA-256", expected: 32, actual: 31 };
        let error = InvalidRelease::Artifact { number: 3, source: Box::new(source) };
        let status = from(Error::Malformed(error.into()));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "artifacts[2].sha256");
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_REQUEST", DOMAIN));
    }

    #[test]
    fn a_full_share_says_whose_it_is_and_when_to_come_back() {
        let limit = Limit { what: "calls", key: "max_calls", most: 100, retry: Duration::from_secs(7) };
        let held = Held { name: 25, authority: Some(25), all: 30 };
        let full = limit.check(&Owner::new("auditor:a", "CN=one"), held, 1).unwrap_err();
        let status = from(Error::Full(full));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.message(),
            "the share of auditor:a is full: it has 25 of 25 calls that one name may have (limits.max_calls); \
             try again in 7 s"
        );
        let details = status.get_error_details();
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(7)));
        assert_eq!(details.quota_failure().unwrap().violations[0].subject, "name:auditor:a");
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.metadata["bound"].as_str()), ("SHARE_FULL", "max_calls"));
    }

    #[test]
    fn internals_stay_inside() {
        let status = from(Error::Store { reason: "table releases has no column".into() });
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("column"));
    }
}
