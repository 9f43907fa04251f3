//! Compiles the `.proto` files with protox, so that no protoc is needed.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 4] =
    ["rutli/v1/release.proto", "rutli/v1/ceremony.proto", "rutli/v1/node.proto", "rutli/v1/custodian.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // For gRPC reflection, without the custodian's service, which no coordinator serves.
    fs::write(out.join("rutli.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Signed files and digests are shared between the store and many watchers without copies.
        .bytes(".rutli.v1.SignedFile.data")
        // Nor is evidence copied on its way from one connection into the store and to every node.
        .bytes(".rutli.v1.CreateReleaseRequest.evidence")
        .bytes(".rutli.v1.AddEvidenceRequest.evidence")
        .bytes(".rutli.v1.EvidenceDocument.document")
        .bytes(".rutli.v1.BatchItem.evidence")
        .build_server(false)
        .compile_fds(descriptors.clone())?;
    // Servers alone have a codec of their own.
    let servers = out.join("servers");
    fs::create_dir_all(&servers)?;
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::codec::ServerCodec")
        .extern_path(".rutli.v1", "crate::v1")
        .out_dir(servers)
        .compile_fds(descriptors)?;
    Ok(())
}
