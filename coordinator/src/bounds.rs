//! The bounds of a running coordinator: one [`Bound`] for each thing that peers hold at the same time.
//!
//! Nodes have a separate [`Pool`], so that no client can keep a node out.

use std::{sync::Arc, time::Duration};

use rutli_wire::role::{Party, UnknownParty};

use crate::{
    config::Limits,
    limits,
    share::{Bound, Full, Limit, Owner, Turn},
};

/// See the module. One per process.
#[derive(Debug)]
pub struct Bounds {
    /// What clients hold.
    pub clients: Pool,
    /// What nodes hold.
    pub nodes: Pool,
    /// Handshakes under way, by block of addresses.
    pub handshakes: Arc<Bound>,
    /// Connections that read the store for callers.
    pub reads: Arc<Bound>,
    /// Bytes of releases that watchers' streams keep.
    pub watched: Arc<Bound>,
    /// How long a request may take to arrive.
    pub body_time: Duration,
    /// How long an answer may go without being read.
    pub answer_time: Duration,
}

/// What the peers of one kind hold.
#[derive(Debug)]
pub struct Pool {
    /// Connections.
    pub connections: Arc<Bound>,
    /// Unary calls, from their beginning until the answer is sent.
    pub calls: Arc<Bound>,
    /// Calls that are being processed. Others wait for their turn.
    pub turns: Arc<Bound>,
    /// Calls with a stream of answers.
    pub streams: Arc<Bound>,
    /// Bytes of requests that are being received and processed.
    pub bodies: Arc<Bound>,
    /// Bytes of requests that were received within the last second.
    pub received: Arc<Bound>,
    /// Bytes of answers, from before they are made until they are sent.
    pub answers: Arc<Bound>,
    /// Errors of the last second, and those not yet sent.
    pub errors: Arc<Bound>,
}

/// The retry time that a full bound reports.
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(10);

impl Bounds {
    /// Bounds of which nothing is held.
    #[must_use]
    pub fn new(configured: &Limits) -> Arc<Self> {
        let bound = |what, key, most| Bound::new(Limit { what, key, most, retry: SOON });
        let pool = |connections: Arc<Bound>, streams: Arc<Bound>| Pool {
            connections,
            calls: bound("calls", "max_calls", u64::from(configured.max_calls)),
            turns: bound("calls being worked on", "max_calls", limits::MAX_TURNS),
            streams,
            bodies: bound("bytes of requests", "max_request_mebibytes", configured.request_bytes()),
            received: bound(
                "bytes of requests in a second",
                "max_request_mebibytes",
                configured.request_bytes(),
            ),
            answers: bound("bytes of unread answers", "max_answer_mebibytes", configured.answer_bytes()),
            errors: bound("errors in a second", "max_calls", limits::MAX_ERRORS),
        };
        let long =
            |what, key, most: u32| Bound::new(Limit { what, key, most: u64::from(most), retry: LATER });
        let nodes = configured.max_node_connections;
        Arc::new(Self {
            clients: pool(
                long("connections", "max_connections", configured.max_connections),
                long("watchers", "max_watchers", configured.max_watchers),
            ),
            nodes: pool(
                long("connections of nodes", "max_node_connections", nodes),
                long("links of nodes", "max_node_connections", nodes),
            ),
            handshakes: long("handshakes", "max_handshakes", configured.max_handshakes),
            reads: bound("reads of the store", "max_calls", u64::from(limits::STORE_READERS)),
            watched: bound("bytes of watched releases", "max_answer_mebibytes", configured.answer_bytes()),
            body_time: Duration::from_secs(u64::from(configured.request_seconds)),
            answer_time: Duration::from_secs(u64::from(configured.answer_seconds)),
        })
    }

    /// The pool of a party. Certificates that name no party count as clients.
    #[must_use]
    pub fn pool(&self, party: Result<&Party, UnknownParty>) -> &Pool {
        match party {
            Ok(Party::Node(_)) => &self.nodes,
            _ => &self.clients,
        }
    }

    /// A turn at reading about `bytes` of the store.
    ///
    /// # Errors
    /// [`Full`] if the name's earlier calls take too long.
    pub async fn read(&self, owner: &Owner, bytes: u64) -> Result<Turn, Full> {
        let share = self.reads.wait(owner, 1, Duration::from_secs(limits::TURN_SECONDS)).await?;
        Ok(Turn::begin(share, bytes))
    }
}

#[cfg(test)]
mod tests {
    use rutli_keys::NodeId;

    use super::*;

    /// As many names as it takes, of several authorities, take all that clients may have: a node still gets all of its own.
    #[test]
    fn what_clients_hold_keeps_no_node_out() {
        let bounds = Bounds::new(&Limits::default());
        let node = Party::Node(NodeId::new("vendor", "vendor-1").unwrap());
        let of_node = Owner::new("node:vendor:vendor-1", "ca");
        let client = Party::Auditor("a".parse().unwrap());
        let mut held = Vec::new();
        for name in 0..10_000 {
            let owner = Owner::new(&format!("auditor:{name}"), &format!("ca-{}", name % 5));
            match bounds.pool(Ok(&client)).calls.take(&owner, 1) {
                Ok(share) => held.push(share),
                Err(_) => break,
            }
        }
        let most = usize::try_from(bounds.clients.calls.most()).unwrap();
        assert_eq!(held.len(), most);
        assert!(bounds.pool(Ok(&client)).calls.take(&of_node, 1).is_err());
        assert!(bounds.pool(Ok(&node)).calls.take(&of_node, 1).is_ok());
    }
}
