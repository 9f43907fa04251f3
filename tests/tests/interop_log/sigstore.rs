//! Sigstore bundles, and the verifiers that endpoints have already.

use rutli_tests::stock::sigstore::{Evidence, accept, accept_and_refuse_tampering};

use crate::made::{HINT, MadeLog};

/// Every verifier accepts the bundle with its defaults, and refuses every tampering that it can see; ours sees all.
#[test]
fn stock_verifiers_accept_bundles_and_refuse_tampering() {
    let log = MadeLog::new("https://log.example.com", 1000);
    let (bundle, other) = (log.write_bundle(517, 1000), log.write_bundle(300, 999));
    let evidence = Evidence {
        bundle: &bundle,
        other: &other,
        trusted_root: &log.path("trusted_root.json"),
        key: &log.path("release.pem"),
        hint: HINT,
    };
    let refused = accept_and_refuse_tampering(&evidence);
    println!("{refused} refusals");
    assert!(refused >= 150, "too few to mean anything");
}

/// A deployment may have no name of its own, and an entry any place in the tree.
#[test]
fn addresses_with_ports_and_all_shapes_of_trees_are_accepted() {
    for (url, size) in [
        ("http://127.0.0.1:7412", 1),
        ("http://127.0.0.1:7412", 2),
        ("http://signing-log:7412", 3),
        ("https://log.example.com:8443/logs/2026", 256),
        ("http://localhost:7412", 257),
    ] {
        let log = MadeLog::new(url, size);
        for index in [0, size - 1] {
            let bundle = log.write_bundle(index, size);
            accept(&Evidence {
                bundle: &bundle,
                other: &bundle,
                trusted_root: &log.path("trusted_root.json"),
                key: &log.path("release.pem"),
                hint: HINT,
            });
        }
    }
}
