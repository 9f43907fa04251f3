//! The gRPC services: who may ask what, and how answers and errors look on the wire.
//!
//! | file | holds |
//! | --- | --- |
//! | [`calls`] | what every call takes and gives back, around all services |
//! | [`releases`] | `ReleaseService` |
//! | [`ceremonies`] | `CeremonyService` |
//! | [`nodes`] | `NodeService` |
//! | [`status`] | the only place where an error becomes a gRPC status |

pub mod calls;
pub mod ceremonies;
pub mod nodes;
pub mod releases;
pub mod status;

use std::{sync::Arc, time::Duration};

use futures::{Stream, stream};
use rutli_wire::role::Party;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use crate::{
    bounds::Bounds,
    ceremonies::Ceremonies,
    error::{Error, Result},
    limits,
    listener::Peer,
    node_link::NodeLinks,
    sign_release::SignRelease,
};

/// What the services stand on. One per process; clones share it.
#[derive(Clone)]
pub struct Api {
    /// The way of a release.
    pub signing: Arc<SignRelease>,
    /// The relay of key ceremonies.
    pub ceremonies: Arc<Ceremonies>,
    /// The streams of nodes.
    pub links: Arc<NodeLinks>,
    /// What callers hold.
    pub bounds: Arc<Bounds>,
    /// Ends every stream.
    pub stopping: CancellationToken,
}

/// Who called, from the certificate of the connection.
///
/// # Errors
/// [`Error::Unknown`] if the certificate names nobody.
fn party<T>(request: &Request<T>) -> Result<Party> {
    peer(request)?.party().cloned().map_err(Error::Unknown)
}

/// The connection that a call came on.
fn peer<T>(request: &Request<T>) -> Result<&Peer> {
    let peer = request.extensions().get::<Peer>();
    // Only a connection of our own listener comes here; this is a bug, and nobody gets in by it.
    peer.ok_or_else(|| Error::Serve("a call without a connection".into()))
}

/// Lets only some roles near a service. What each call asks for beyond that, the call itself checks.
pub(crate) fn only(
    roles: &'static [&'static str],
) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone {
    move |request| match party(&request) {
        Ok(party) if roles.contains(&party.role()) => Ok(request),
        Ok(party) => Err(status::from(wrong_role(&party, &any_of(roles)))),
        Err(error) => Err(status::from(error)),
    }
}

/// `a, b or c`
fn any_of(roles: &[&str]) -> String {
    match roles.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn wrong_role(party: &Party, needed: &str) -> Error {
    Error::WrongRole { needed: needed.to_owned(), actual: party.to_string() }
}

/// What a stream of states does next.
enum Step<S, T> {
    /// Send this, and go on with the state.
    Next(T, S),
    /// Send this, and end.
    Last(T),
    /// End without a word.
    End,
}

/// A stream of messages made one by one, each only when the one before was taken, so that a slow reader skips
/// what is out of date. Ended by `stopping` and by age, both as `UNAVAILABLE`: the client watches again.
fn states<S, T, F, W>(first: S, stopping: CancellationToken, next: F) -> impl Stream<Item = Result<T, Status>>
where
    F: Fn(S) -> W + Clone,
    W: Future<Output = Result<Step<S, T>>>,
{
    let too_old = tokio::time::Instant::now() + Duration::from_secs(limits::CONNECTION_AGE_SECONDS);
    stream::unfold(Some(first), move |state| {
        let (stopping, next) = (stopping.clone(), next.clone());
        async move {
            let state = state?;
            let step = tokio::select! {
                biased;
                step = next(state) => step,
                () = stopping.cancelled() => Err(Error::Stopping),
                () = tokio::time::sleep_until(too_old) => Err(Error::Stopping),
            };
            match step {
                Ok(Step::Next(message, state)) => Some((Ok(message), Some(state))),
                Ok(Step::Last(message)) => Some((Ok(message), None)),
                Ok(Step::End) => None,
                Err(error) => Some((Err(status::from(error)), None)),
            }
        }
    })
}

#[cfg(test)]
mod evidence_tests;
#[cfg(test)]
mod tests;
