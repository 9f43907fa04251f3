//! gRPC health (`grpc.health.v1`): serving while the store takes writes, and no longer than that.

use rutli_wire::v1::release_service_server::ReleaseServiceServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{server::Api, store::Health};

/// Tells the health service how the store is, until `stopping`.
pub async fn report(
    reporter: HealthReporter,
    mut store: watch::Receiver<Health>,
    stopping: CancellationToken,
) {
    loop {
        let open = *store.borrow_and_update() == Health::Open;
        set(&reporter, if open { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
        let goes_on = tokio::select! {
            changed = store.changed() => changed.is_ok(),
            () = stopping.cancelled() => false,
        };
        if !goes_on {
            break;
        }
    }
    set(&reporter, ServingStatus::NotServing).await;
}

async fn set(reporter: &HealthReporter, status: ServingStatus) {
    // "" is the process as a whole (gRPC health checking protocol).
    for service in ["", ReleaseServiceServer::<Api>::NAME] {
        reporter.set_service_status(service, status).await;
    }
}
