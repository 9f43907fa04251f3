//! Why a place does not answer, in plain words: what the libraries below say of it is for those who wrote them.

use std::{
    fmt,
    io::{self, ErrorKind},
    path::Path,
};

use rustls::{CertificateError, Error as TlsError};

use crate::{files, report::Failure};

/// A file that was not read, and why. Says nothing about the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Where the file is: an address, or a path.
    place: String,
    /// How often it was asked for; 0 for a path.
    tries: u32,
    why: Why,
}

/// A reason, and what to do about it.
type Why = (String, &'static str);

const NO_HOST: (&str, &str) =
    ("no host has that name", "check the address, and this machine's name service (DNS)");
const CHECK_NETWORK: &str = "check the address and the network, then run the command again";
const CHECK_SERVER: &str = "check the address; if it is right, ask whoever runs the log's server";
const CHECK_PROXY: &str = "check the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY";
const CHECK_CERTIFICATE: &str =
    "check the address and this machine's clock; if both are right, ask whoever runs the log's server";

impl Unanswered {
    /// A server that was asked once, and did not answer.
    #[must_use]
    pub fn by(url: &str, error: &ureq::Error) -> Self {
        Self { place: url.to_owned(), tries: 1, why: why(error) }
    }

    /// A server that was asked once, and answers that it does not give the file.
    #[must_use]
    pub fn with_status(url: &str, status: u16) -> Self {
        let why = match status {
            300..=399 => (
                "it redirects, which is not followed".to_owned(),
                "give the log's own address; a login page may stand before it",
            ),
            401 | 403 | 407 | 511 => (
                format!("it answers with status {status}: it does not let everybody read"),
                "a log is public: check the address; a proxy or a login page may stand before it",
            ),
            _ => (
                format!("it answers with status {status}"),
                "try again later; if it stays so, ask whoever runs the log's server",
            ),
        };
        Self { place: url.to_owned(), tries: 1, why }
    }

    /// A file here that cannot be read.
    #[must_use]
    pub fn at(path: &Path, error: &io::Error) -> Self {
        let (reason, help) = files::in_words(error);
        Self { place: path.display().to_string(), tries: 0, why: (reason, help) }
    }

    /// The same after so many tries.
    #[must_use]
    pub fn after(self, tries: u32) -> Self {
        Self { tries, ..self }
    }

    /// The failure of a command that cannot go on without `what` of the source `name`.
    #[must_use]
    pub fn into_failure(self, what: &str, name: &str) -> Failure {
        let (reason, help) = self.why;
        let asked = match self.tries {
            0 => format!("it is {}", self.place),
            1 => format!("{} was asked for", self.place),
            tries => format!("{} was asked for {tries} times", self.place),
        };
        Failure::unreachable(format!("cannot read the {what} at {name}: {reason}"))
            .help(format!("{help}\n({asked})"))
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why.0)
    }
}

fn why(error: &ureq::Error) -> Why {
    use ureq::{Error, Timeout};
    let (why, help) = match error {
        Error::Io(error) => return of_io(error),
        Error::Rustls(error) => return of_tls(error),
        Error::HostNotFound => NO_HOST,
        Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            ("it cannot be connected to in time", CHECK_NETWORK)
        }
        Error::Timeout(_) => ("it does not answer in time", CHECK_NETWORK),
        Error::BadUri(_) | Error::Http(_) => ("that is no address", "give it as https://log.example.com"),
        Error::InvalidProxyUrl | Error::ConnectProxyFailed(_) => {
            ("the proxy does not let it through", CHECK_PROXY)
        }
        Error::Tls(_) | Error::TlsRequired | Error::Pem(_) => {
            ("no connection with TLS can be made", CHECK_SERVER)
        }
        Error::Protocol(_) | Error::LargeResponseHeader(..) | Error::BodyStalled => {
            ("what answers there is no web server", CHECK_SERVER)
        }
        _ => ("the connection failed", CHECK_NETWORK),
    };
    (why.to_owned(), help)
}

fn of_io(error: &io::Error) -> Why {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return of_tls(error);
    }
    let (why, help) = match error.kind() {
        ErrorKind::ConnectionRefused => ("nothing listens there", CHECK_SERVER),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => ("the connection was cut off", CHECK_NETWORK),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => ("it does not answer in time", CHECK_NETWORK),
        ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::HostUnreachable
        | ErrorKind::AddrNotAvailable => ("no network leads there", CHECK_NETWORK),
        // The resolver's errors have no kind, and neither has whoever hands them on.
        _ if error.to_string().starts_with("failed to lookup address") => NO_HOST,
        _ => return (files::in_words(error).0, CHECK_NETWORK),
    };
    (why.to_owned(), help)
}

fn of_tls(error: &TlsError) -> Why {
    let (why, help) = match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => (
            "its certificate is by an authority that is not trusted here",
            "give the authority's certificate with --ca, if the log has one of its own",
        ),
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ("its certificate is for another name", CHECK_CERTIFICATE),
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            ("its certificate has expired", CHECK_CERTIFICATE)
        }
        TlsError::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => ("its certificate is not valid yet", CHECK_CERTIFICATE),
        TlsError::InvalidCertificate(_) => ("its certificate does not hold", CHECK_CERTIFICATE),
        TlsError::InvalidMessage(_) => {
            ("what answers there does not speak TLS", "is it an address with http:// instead?")
        }
        _ => ("no connection with TLS can be made", CHECK_SERVER),
    };
    (why.to_owned(), help)
}
