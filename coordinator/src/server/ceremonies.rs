//! `CeremonyService`: operators and auditors look at key ceremonies and keys; pipelines fetch the keys.

use futures::stream::BoxStream;
use rutli_keys::CeremonyId;
use rutli_wire::{role::Party, v1};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{Api, Step, party, states, status, wrong_role};
use crate::error::{Error, Result};

#[tonic::async_trait]
impl v1::ceremony_service_server::CeremonyService for Api {
    type WatchCeremonyStream = BoxStream<'static, Result<v1::Ceremony, Status>>;

    async fn list_ceremonies(
        &self,
        request: Request<v1::ListCeremoniesRequest>,
    ) -> Result<Response<v1::ListCeremoniesResponse>, Status> {
        may_look(&request).map_err(status::from)?;
        Ok(Response::new(v1::ListCeremoniesResponse { ceremonies: self.ceremonies.list().await }))
    }

    async fn get_ceremony(
        &self,
        request: Request<v1::GetCeremonyRequest>,
    ) -> Result<Response<v1::Ceremony>, Status> {
        may_look(&request).map_err(status::from)?;
        let id = ceremony_id(&request).map_err(status::from)?;
        self.ceremonies.get(&id).await.map(Response::new).map_err(status::from)
    }

    async fn watch_ceremony(
        &self,
        request: Request<v1::GetCeremonyRequest>,
    ) -> Result<Response<Self::WatchCeremonyStream>, Status> {
        let watched = self.watch_one(&request).await.map_err(status::from)?;
        let stream = states(watched, self.stopping.clone(), Watched::next);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        match party(&request).map_err(status::from)? {
            Party::Operator(_) | Party::Custodian(_) | Party::Auditor(_) | Party::Pipeline(_) => {
                Ok(Response::new(v1::ListKeysResponse { keys: self.signing.keyring.messages() }))
            }
            other => Err(status::from(wrong_role(&other, "pipeline, operator, custodian or auditor"))),
        }
    }
}

impl Api {
    async fn watch_one(&self, request: &Request<v1::GetCeremonyRequest>) -> Result<Watched> {
        may_look(request)?;
        let id = ceremony_id(request)?;
        // Counted from before the first look.
        let changes = self.ceremonies.changes();
        let _exists = self.ceremonies.get(&id).await?;
        Ok(Watched { api: self.clone(), id, changes, sent: None })
    }
}

/// A ceremony that somebody watches.
struct Watched {
    api: Api,
    id: CeremonyId,
    changes: watch::Receiver<u64>,
    sent: Option<v1::Ceremony>,
}

impl Watched {
    async fn next(mut self) -> Result<Step<Self, v1::Ceremony>> {
        loop {
            if self.sent.is_some() && self.changes.changed().await.is_err() {
                return Ok(Step::End);
            }
            self.changes.borrow_and_update();
            let now = self.api.ceremonies.get(&self.id).await?;
            if matches!(now.state(), v1::CeremonyState::Done | v1::CeremonyState::Aborted) {
                return Ok(Step::Last(now));
            }
            if self.sent.as_ref() != Some(&now) {
                self.sent = Some(now.clone());
                return Ok(Step::Next(now, self));
            }
        }
    }
}

fn may_look<T>(request: &Request<T>) -> Result<()> {
    match party(request)? {
        Party::Operator(_) | Party::Custodian(_) | Party::Auditor(_) => Ok(()),
        other => Err(wrong_role(&other, "operator, custodian or auditor")),
    }
}

fn ceremony_id(request: &Request<v1::GetCeremonyRequest>) -> Result<CeremonyId> {
    request.get_ref().ceremony_id.parse().map_err(|_| Error::Field {
        field: "ceremony_id",
        problem: "give the 64 hex digits of a ceremony".into(),
    })
}
