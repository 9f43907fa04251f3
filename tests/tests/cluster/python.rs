//! A pipeline in another language.

use std::ffi::OsStr;

use rutli::client::Profile;
use rutli_release::PRINCIPAL;
use rutli_tests::{
    cluster::{Cluster, Setup},
    stock::{generate_python_client, openssl_accepts, python, ssh_keygen_accepts},
};

/// Point 7: a Python client, generated from `proto/` with grpcio-tools, signs a release; stock verifiers accept what it
/// wrote. What the nodes do not allow, and a wrong role, it hears as any client does.
#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_signs_a_release() {
    let cluster = Cluster::start(Setup::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let stubs = folder.path().join("stubs");
    let out = folder.path().join("out");
    std::fs::create_dir_all(&stubs).unwrap();
    std::fs::create_dir_all(&out).unwrap();
    let file = folder.path().join("suite.tar");
    std::fs::write(&file, b"built by a pipeline that speaks Python").unwrap();
    generate_python_client(&stubs);
    let run = |client: &str, sequence: &str| {
        let profile = Profile::read(&cluster.profile(client)).unwrap();
        let name = profile.server_name.clone().unwrap();
        let arguments: [(&str, &OsStr); 9] = [
            ("--stubs", stubs.as_os_str()),
            ("--target", cluster.address().as_ref()),
            ("--server-name", name.as_ref()),
            ("--ca", profile.tls.ca.as_os_str()),
            ("--certificate", profile.tls.certificate.as_os_str()),
            ("--key", profile.tls.key.as_os_str()),
            ("--product", "suite".as_ref()),
            ("--sequence", sequence.as_ref()),
            ("--out", out.as_os_str()),
        ];
        let mut arguments: Vec<&OsStr> =
            arguments.iter().flat_map(|(flag, value)| [OsStr::new(flag), *value]).collect();
        arguments.push(file.as_os_str());
        python("python_client.py", &arguments)
    };

    let said = run("pipeline", "1");
    println!("{said}");
    let last = said.lines().last().unwrap();
    let id = last.strip_prefix("RELEASE_STATE_SIGNED ").unwrap();

    let key = cluster.release_key().await;
    let pem = folder.path().join("release.pem");
    let signers = folder.path().join("allowed_signers");
    std::fs::write(&pem, key.to_pem()).unwrap();
    let allowed = ["product-build/suite/python".parse().unwrap()];
    std::fs::write(&signers, key.allowed_signers(PRINCIPAL, &allowed).unwrap()).unwrap();
    let namespace = "product-build/suite/python@rutli";
    assert!(ssh_keygen_accepts(&signers, namespace, &out.join("suite.tar.sig"), &file));
    let statement = out.join(format!("{id}.statement"));
    assert!(openssl_accepts(&pem, &out.join(format!("{id}.statement.sig")), &statement));
    let dsse = out.join(format!("{id}.intoto.json"));
    println!("{} changes refused", python("verify_dsse.py", &[pem.as_os_str(), dsse.as_os_str()]).trim());

    assert!(run("pipeline", "1").contains(last), "the same request gives the same release");
    let refused = run("auditor", "2");
    assert!(refused.starts_with("PERMISSION_DENIED"), "{refused}");
}
