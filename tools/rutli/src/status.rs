//! What the other side answered, in people's words.
//!
//! gRPC's codes become one of our exit codes, its `google.rpc` details the way out. Nothing of it is trusted: texts are
//! made printable.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{client::NotACoordinator, report::Failure, text::printable};

/// A call's error → how the command ends.
#[must_use]
pub fn failure(status: &Status) -> Failure {
    if let Some(tls) = find::<rustls::Error>(status) {
        return tls_failure(tls, "the coordinator");
    }
    let message = printable(status.message());
    let failure = match status.code() {
        Code::InvalidArgument | Code::OutOfRange => invalid(status, &message),
        Code::AlreadyExists => already_exists(status, message),
        Code::FailedPrecondition | Code::Aborted => {
            let problem = precondition(status, message);
            let help = precondition_help(status, &problem);
            Failure::failed(problem).help(help)
        }
        Code::NotFound => Failure::failed(message).help("check the name; `rutli release list`, `rutli ceremony list` and `rutli node list` show what there is"),
        // For good: more of the same fails again.
        Code::ResourceExhausted if reason_of(status) == "EVIDENCE_FULL" => Failure::failed(message)
            .help("give fewer documents, or have another party bring them; `rutli evidence list` shows what is there"),
        Code::ResourceExhausted => {
            let after = status
                .get_details_retry_info()
                .and_then(|info| info.retry_delay)
                .map_or_else(|| "later".to_owned(), |delay| format!("in {} s", delay.as_secs().max(1)));
            Failure::failed(message).help(format!("try again {after}: what was accepted before goes on"))
        }
        Code::PermissionDenied if reason_of(status) == "CLIENT_NOT_LISTED" => Failure::unreachable(message)
            .help("have the operator add the entry and start the coordinator again, or ask as a pipeline that has one"),
        Code::PermissionDenied => Failure::unreachable(message)
            .help("use a profile whose certificate has the right role; `rutli help roles` lists them"),
        Code::Unauthenticated => Failure::unreachable(message)
            .help("use a profile with a certificate of this deployment that names exactly one party"),
        Code::Unavailable if ["STORE_CLOSED", "NOT_YET"].contains(&reason_of(status).as_str()) => {
            Failure::unreachable(message).help("send it again when that is over: under its request id it is signed once")
        }
        Code::Unavailable => Failure::unreachable(unavailable(status, message))
            .help("check that the other side runs and can be reached, then try again"),
        Code::DeadlineExceeded => {
            Failure::unreachable(format!("no answer in time: {message}")).help("try again")
        }
        Code::Unimplemented => {
            Failure::unreachable(format!("the other side does not know this call: {message}"))
                .help("check that both sides have the same version")
        }
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            connection_lost(status).unwrap_or_else(|| {
                Failure::failed(format!("the other side failed: {message}")).help("its log says more")
            })
        }
    };
    let failure = match help_of(status) {
        Some(help) => failure.help(help),
        None => failure,
    };
    failure.with(json!({ "grpc_code": format!("{:?}", status.code()) }))
}

/// Whether a call that only asks may be tried again: the other side went away or is not ready.
#[must_use]
pub fn is_passing(status: &Status) -> bool {
    if find::<rustls::Error>(status).is_some() {
        return false;
    }
    matches!(status.code(), Code::Unavailable) || connection_lost(status).is_some()
}

/// A connection that did not come about → how the command ends.
#[must_use]
pub fn unreachable_by(error: &(dyn Error + 'static), whom: &str) -> Failure {
    if let Some(tls) = find::<rustls::Error>(error) {
        return tls_failure(tls, whom);
    }
    if let Some(not) = find::<NotACoordinator>(error) {
        return Failure::unreachable(format!("cannot talk to {whom}: {}", printable(&not.to_string()))).help(
            "check the profile's coordinator; its certificate must have the name rutli:coordinator:NAME",
        );
    }
    let Some(io) = find::<io::Error>(error) else {
        return Failure::unreachable(format!("cannot reach {whom}: {}", innermost(error)));
    };
    let (reason, help) = match io.kind() {
        io::ErrorKind::ConnectionRefused => ("nobody listens there", "start it, or check the address"),
        io::ErrorKind::NotFound => ("it does not exist", "start the node, or check the path"),
        io::ErrorKind::PermissionDenied => ("permission denied", "run the command as the node's custodian"),
        io::ErrorKind::UnexpectedEof => {
            ("it closed the connection", "check that it is a coordinator; its log says more")
        }
        io::ErrorKind::TimedOut => ("no answer", "check the address and the firewall between"),
        _ => return Failure::unreachable(format!("cannot reach {whom}: {}", innermost(error))),
    };
    Failure::unreachable(format!("cannot reach {whom}: {reason}")).help(help)
}

fn tls_failure(error: &rustls::Error, whom: &str) -> Failure {
    let (problem, help) = match error {
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => {
                ("it refused this certificate: expired".to_owned(), "get a new certificate")
            }
            AlertDescription::UnknownCA | AlertDescription::DecryptError => (
                "it refused this certificate: not of an authority that it knows".to_owned(),
                "use the profile that belongs to this deployment",
            ),
            AlertDescription::CertificateRequired => {
                ("it wants a client certificate".to_owned(), "use a profile with certificate and key")
            }
            other => (format!("it refused this certificate ({other:?})"), "check the profile's certificate"),
        },
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                "its certificate has expired".to_owned(),
                "renew the coordinator's certificate; check this machine's clock",
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ("its certificate is not valid yet".to_owned(), "check this machine's clock")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                "its certificate is for another name".to_owned(),
                "set server_name in the profile to a name in the coordinator's certificate",
            ),
            CertificateError::UnknownIssuer => (
                "its certificate is not of the authority in the profile".to_owned(),
                "check the profile's ca and coordinator: they belong to different deployments",
            ),
            other => (
                format!("its certificate cannot be accepted: {other}"),
                "check the coordinator's certificate",
            ),
        },
        other => (format!("no TLS session: {other}"), "check that the address is that of a coordinator"),
    };
    Failure::unreachable(format!("cannot talk to {whom}: {problem}")).help(help)
}

fn invalid(status: &Status, message: &str) -> Failure {
    let fields: Vec<_> = status
        .get_details_bad_request()
        .map(|request| request.field_violations)
        .unwrap_or_default()
        .into_iter()
        .map(|violation| (printable(&violation.field), printable(&violation.description)))
        .collect();
    let listed: Vec<_> = fields.iter().map(|(field, problem)| format!("{field}: {problem}")).collect();
    let problem = match listed.as_slice() {
        [] => message.to_owned(),
        _ => listed.join("; "),
    };
    let help = fields.iter().find_map(|(field, _)| field_help(field));
    let fields: Vec<_> =
        fields.into_iter().map(|(field, problem)| json!({ "field": field, "problem": problem })).collect();
    let failure = Failure::usage(problem);
    let failure = match help {
        Some(help) => failure.help(help),
        None => failure,
    };
    failure.with(json!({ "fields": fields }))
}

/// Only a release has a request id; a node's answers say the way out themselves, after a semicolon.
fn already_exists(status: &Status, message: String) -> Failure {
    if reason_of(status) == "REQUEST_ID_REUSED" {
        let problem = message.strip_suffix(": use a new request id").unwrap_or(&message);
        return Failure::failed(problem).help("give another --request-id, or none");
    }
    Failure::failed(message).help("change the name in the proposal, then propose it again")
}

/// The stable word for a status, if it has one.
#[must_use]
pub fn reason_of(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The way out where the state of the other side forbids something. A node gives no reason but its words.
fn precondition_help(status: &Status, problem: &str) -> &'static str {
    match reason_of(status).as_str() {
        "SEQUENCE_BEHIND" => {
            "give a higher --sequence, or --sequence next; `rutli release list` shows what was used"
        }
        "NO_SEQUENCE" => "use another channel, or ask the nodes' custodians which numbers they permitted",
        "TOO_LATE" => {
            "follow it with `rutli release watch`; to replace it, sign again with a higher --sequence"
        }
        _ if problem.contains("not sealed") => {
            "nothing is to be done; `rutli node status` shows how it stands"
        }
        _ if problem.contains("is sealed") => "open it with `rutli node unseal`, then run the command again",
        _ if problem.contains("already joined: end") => "end it with `rutli ceremony abort`",
        _ if problem.contains("already joined") => {
            "nothing is to be done; `rutli ceremony watch` shows how it goes on"
        }
        _ if problem.starts_with("the ceremony") => "`rutli ceremony show` says how it stands",
        _ => "look at how things stand with `release show`, `ceremony show` or `node status`",
    }
}

/// The way out for a field that has a flag of its own.
fn field_help(field: &str) -> Option<&'static str> {
    match field {
        "expires_at" => Some("give an --expires-at in the future, or none"),
        "evidence" => Some(
            "give attestations, or signed approvals and refusals, that this version of the coordinator knows",
        ),
        _ => None,
    }
}

fn precondition(status: &Status, message: String) -> String {
    let violations: Vec<_> = status
        .get_details_precondition_failure()
        .map(|failure| failure.violations)
        .unwrap_or_default()
        .iter()
        .map(|violation| printable(&violation.description))
        .filter(|description| !description.is_empty() && !message.contains(description.as_str()))
        .collect();
    if violations.is_empty() { message } else { format!("{message}: {}", violations.join("; ")) }
}

fn help_of(status: &Status) -> Option<String> {
    let help = status.get_details_help()?;
    let lines: Vec<_> =
        help.links.iter().map(|link| printable(&link.description)).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// hyper reports a connection that broke in the middle of a call as an unknown or internal error with a source.
fn connection_lost(status: &Status) -> Option<Failure> {
    status.source()?;
    Some(Failure::unreachable(format!("the connection was lost: {}", innermost(status))).help("try again"))
}

fn unavailable(status: &Status, message: String) -> String {
    if status.source().is_some() {
        format!("the connection was lost: {}", innermost(status))
    } else {
        message
    }
}

/// An error of a type somewhere in the chain; rustls's and hyper's hide inside `io::Error`, whose `source` skips them.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = inside(error);
    }
    None
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = inside(last) {
        last = next;
    }
    printable(&last.to_string())
}

fn inside<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn codes_become_exit_codes() {
        let expected = [
            (Code::InvalidArgument, 2),
            (Code::AlreadyExists, 1),
            (Code::FailedPrecondition, 1),
            (Code::NotFound, 1),
            (Code::ResourceExhausted, 1),
            (Code::Internal, 1),
            (Code::PermissionDenied, 3),
            (Code::Unauthenticated, 3),
            (Code::Unavailable, 3),
        ];
        for (code, exit) in expected {
            assert_eq!(failure(&Status::new(code, "x")).exit.code(), exit, "{code:?}");
        }
        assert!(is_passing(&Status::unavailable("x")));
        assert!(!is_passing(&Status::permission_denied("x")));
        assert!(!is_passing(&Status::internal("x")));
    }

    #[test]
    fn details_name_the_field_and_the_way_out() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("version", "must not be empty");
        details.add_help_link("write it as 1.2.3", "");
        let status = Status::with_error_details(Code::InvalidArgument, "bad", details);
        let failure = failure(&status);
        assert_eq!(failure.problem, "version: must not be empty");
        assert_eq!(failure.help.as_deref(), Some("write it as 1.2.3"));
        assert_eq!(failure.json()["fields"][0]["field"], "version");
    }

    #[test]
    fn what_the_state_forbids_has_a_way_out() {
        let with_reason = |code, message: &str, reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "rutli", std::collections::HashMap::new());
            failure(&Status::with_error_details(code, message, details)).to_string()
        };
        let reused = with_reason(
            Code::AlreadyExists,
            "request id \"a\" was used before for other content (x): use a new request id",
            "REQUEST_ID_REUSED",
        );
        assert!(reused.contains("give another --request-id") && !reused.contains("use a new"), "{reused}");
        let behind = with_reason(Code::FailedPrecondition, "sequence 1 does not go up", "SEQUENCE_BEHIND");
        assert!(behind.contains("help: give a higher --sequence"), "{behind}");
        let full = with_reason(Code::ResourceExhausted, "x has no room for more evidence", "EVIDENCE_FULL");
        assert!(full.contains("fewer documents") && !full.contains("try again"), "{full}");
        let late = with_reason(Code::FailedPrecondition, "x cannot be cancelled any more", "TOO_LATE");
        assert!(late.contains("\nhelp: "), "{late}");
        let key = failure(&Status::already_exists("this node holds a key k already")).to_string();
        assert!(!key.contains("--request-id"), "{key}");
        for (message, help) in [
            ("this node is sealed; its custodian opens it with `unseal` first", "node unseal"),
            ("this node is not sealed", "nothing is to be done"),
            ("the ceremony: this node has already joined", "ceremony watch"),
            (
                "the ceremony: this node has already joined: end the ceremony by abort instead",
                "ceremony abort",
            ),
            ("something else", "node status"),
        ] {
            let failure = failure(&Status::failed_precondition(message));
            assert!(failure.help.as_ref().unwrap().contains(help), "{failure}");
        }
    }

    #[test]
    fn errors_are_found_through_io_errors() {
        let tls = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let io = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        let failure = unreachable_by(&io, "the coordinator");
        assert_eq!(failure.problem, "cannot talk to the coordinator: it refused this certificate: expired");
        let refused = unreachable_by(&io::Error::from(io::ErrorKind::ConnectionRefused), "X");
        assert_eq!(refused.problem, "cannot reach X: nobody listens there");
    }
}
