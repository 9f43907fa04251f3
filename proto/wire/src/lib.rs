//! The gRPC face of Rütli.
//!
//! In scope: the generated messages and services ([`v1`]), the only conversion between them and domain types
//! ([`convert`], [`link`]), how servers read them ([`codec`]), who a peer is ([`role`]) and how a TLS session between two parties must look ([`tls`]).
//! Out of scope: sockets, files, clocks.

pub mod codec;
pub mod convert;
pub mod limits;
pub mod link;
pub mod role;
pub mod tls;

/// Generated from `proto/rutli/v1/*.proto`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::cast_possible_truncation,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("rutli.v1");
    include!(concat!(env!("OUT_DIR"), "/servers/rutli.v1.rs"));

    /// The encoded file descriptors, for gRPC reflection and for generating clients.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rutli.bin"));
}
