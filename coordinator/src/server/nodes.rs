//! `NodeService`: the streams of signer nodes, and what operators and auditors see of them.

use futures::{StreamExt as _, stream::BoxStream};
use rutli_keys::NodeId;
use rutli_log::entry::NodeEvent;
use rutli_wire::{link::held_key, role::Party, v1};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Api, party, status, wrong_role};
use crate::{
    error::{Error, Result},
    log::node_entry,
    session::NodeSnapshot,
};

#[tonic::async_trait]
impl v1::node_service_server::NodeService for Api {
    type AttachStream = BoxStream<'static, Result<v1::CoordinatorMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let node = match party(&request).map_err(status::from)? {
            Party::Node(node) => node,
            other => return Err(status::from(wrong_role(&other, "node"))),
        };
        if self.stopping.is_cancelled() {
            return Err(status::from(Error::Stopping));
        }
        let down = self.links.serve(node, request.into_inner());
        let stream = ReceiverStream::new(down).map(|message| message.map_err(status::from));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        match party(&request).map_err(status::from)? {
            Party::Operator(_) | Party::Custodian(_) | Party::Auditor(_) => {}
            other => return Err(status::from(wrong_role(&other, "operator, custodian or auditor"))),
        }
        let nodes = self.signing.sessions.nodes().await.iter().map(node_info).collect();
        Ok(Response::new(v1::ListNodesResponse { nodes }))
    }

    async fn reinstate_node(
        &self,
        request: Request<v1::ReinstateNodeRequest>,
    ) -> Result<Response<v1::ReinstateNodeResponse>, Status> {
        match party(&request).map_err(status::from)? {
            Party::Operator(operator) => {
                let node = self.reinstate(&request.get_ref().node).await.map_err(status::from)?;
                tracing::warn!(%operator, node = node.node, "a node was reinstated");
                Ok(Response::new(v1::ReinstateNodeResponse { node: Some(node) }))
            }
            other => Err(status::from(wrong_role(&other, "operator"))),
        }
    }
}

impl Api {
    async fn reinstate(&self, node: &str) -> Result<v1::NodeInfo> {
        let node: NodeId = node.parse().map_err(|error: rutli_keys::InvalidName| Error::Field {
            field: "node",
            problem: error.to_string(),
        })?;
        let known = |nodes: Vec<NodeSnapshot>| nodes.into_iter().find(|known| known.node == node);
        let missing = || Error::NotFound { kind: "node", name: node.to_string() };
        known(self.signing.sessions.nodes().await).ok_or_else(missing)?;
        // Crash boundary: durable first, so that a restart does not leave it out again.
        let entry = node_entry(&node, NodeEvent::Reinstated, "by an operator", self.signing.clock.now());
        self.signing.store.culprit(&node, None, entry).await?;
        self.signing.sessions.reinstate(&node).await;
        known(self.signing.sessions.nodes().await).map(|node| node_info(&node)).ok_or_else(missing)
    }
}

fn node_info(node: &NodeSnapshot) -> v1::NodeInfo {
    let status = node.status.as_ref();
    v1::NodeInfo {
        node: node.node.to_string(),
        connected: node.connected,
        state: status.map_or("", |status| status.condition.as_str()).to_owned(),
        reason: status.map(|status| status.reason.clone()).unwrap_or_default(),
        warning: warning(node),
        version: node.version.clone(),
        culprit: node.culprit.clone().unwrap_or_default(),
        keys: status.map(|status| status.keys.iter().map(held_key).collect()).unwrap_or_default(),
        commitments: u32::try_from(node.commitments).unwrap_or(u32::MAX),
        log_size: node.log.size,
        log_size_before: node.log.fell_from.unwrap_or_default(),
    }
}

/// What the node says itself, and what is seen of its clock.
fn warning(node: &NodeSnapshot) -> String {
    let own = node.status.as_ref().map(|status| status.warning.clone()).filter(|warning| !warning.is_empty());
    let clock = node.clock_ahead_s.map(|ahead_s| {
        let side = if ahead_s > 0 { "ahead of" } else { "behind" };
        format!(
            "its clock is {} seconds {side} the coordinator's; set the one that is wrong",
            ahead_s.unsigned_abs()
        )
    });
    own.into_iter().chain(clock).collect::<Vec<_>>().join("; ")
}
