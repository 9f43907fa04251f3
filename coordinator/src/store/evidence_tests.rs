//! What the store promises about evidence.

use std::sync::Mutex;

use rutli_evidence::Kind;
use rutli_log::{Entry, leaf_hash, sha256};

use super::{
    log_tests::{assert_log, entries, logged},
    tests::{admit, number, signed_message},
    *,
};
use crate::testing::{charge, copy_of, open_store};

/// No evidence by its form, which the store does not look at.
fn document(name: &str, bytes: usize) -> Document {
    let mut content = name.as_bytes().to_vec();
    content.resize(bytes, b' ');
    Document { digest: sha256(&content), kind: Kind::Approval, bytes: content.into() }
}

fn documents(names: &[&str]) -> Vec<Document> {
    names.iter().map(|name| document(name, 100)).collect()
}

fn by(submitter: &str, number: ReleaseNumber, documents: Vec<Document>) -> NewEvidence {
    NewEvidence { number, submitter: submitter.into(), at: 1_500, charge: charge(1_500), documents }
}

async fn add(store: &Store, new: NewEvidence) -> Result<Vec<v1::EvidenceInfo>> {
    store.add_evidence(new, |_| {}).await.map(|all| all.infos)
}

async fn kept(store: &Store, number: ReleaseNumber) -> Vec<String> {
    let all = store.evidence(number).await.unwrap();
    all.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).trim_end().to_owned()).collect()
}

/// What the log says of it.
fn entry(by: &str, request: u64, names: &[&str]) -> String {
    let evidence = documents(names).into_iter().map(|document| document.digest).collect();
    let kind = rutli_log::entry::kinds::Evidence::default();
    let entry = rutli_log::entry::Evidence { by: by.into(), evidence, kind, request, time: 1_500 };
    String::from_utf8(Entry::Evidence(entry).encode()).unwrap()
}

fn ending(number: ReleaseNumber) -> Arc<Ending> {
    Arc::new(Ending::new(number, &signed_message(), vec![b"outcome".to_vec()]))
}

#[tokio::test]
async fn evidence_is_kept_and_logged_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let with_it = NewRelease { evidence: documents(&["a", "b"]), ..logged("one", 1) };
    let (id, first) = (with_it.release_id.clone(), number(admit(&store, with_it.clone()).await.unwrap()));
    let second = number(admit(&store, logged("two", 2)).await.unwrap());
    // The same request with other evidence: the same release, unchanged.
    let other = NewRelease { evidence: documents(&["z"]), ..with_it };
    assert!(matches!(admit(&store, other).await.unwrap(), Admission::Known(known) if known == id));
    let (one, two, elsewhere) = tokio::join!(
        add(&store, by("custodian:clara", first, documents(&["c", "a"]))),
        add(&store, by("operator:o", first, documents(&["c", "d"]))),
        add(&store, by("custodian:clara", second, documents(&["a"]))),
    );
    assert_eq!((one.unwrap().len(), two.unwrap().len(), elsewhere.unwrap().len()), (3, 4, 1));
    assert_eq!(add(&store, by("operator:o", first, documents(&["d", "a"]))).await.unwrap().len(), 4);
    let entries = [
        "request one".into(),
        "request two".into(),
        entry("custodian:clara", 0, &["c"]),
        entry("operator:o", 0, &["d"]),
        entry("custodian:clara", 1, &["a"]),
    ];
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    assert_log(&store, folder.path(), &entries).await;
    assert_eq!(kept(&store, first).await, ["a", "b", "c", "d"]);
    assert_eq!(kept(&store, second).await, ["a"]);

    let infos = store.release(&id).await.unwrap().unwrap().message.evidence;
    let told: Vec<_> = infos
        .iter()
        .map(|info| (info.submitter.as_str(), info.added_at, info.log_index, info.size, info.kind.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("pipeline:ci", 1_000, 0, 100, "approval"),
            ("pipeline:ci", 1_000, 0, 100, "approval"),
            ("custodian:clara", 1_500, 2, 100, "approval"),
            ("operator:o", 1_500, 3, 100, "approval"),
        ]
    );
    assert_eq!(infos[2].digest, document("c", 100).digest.as_bytes());
    assert!(store.evidence(first).await.unwrap().iter().map(|(info, _)| info).eq(&infos));
    let size = store.size_of(&id).await.unwrap().unwrap();
    assert!(store.release_within(&id, size).await.unwrap().is_none());
    assert_eq!(store.release_within(&id, size + 1).await.unwrap().unwrap().message.evidence, infos);
    let page = store.list(&ReleaseFilter::default(), 10, |_| true).await.unwrap();
    assert!(page.releases.iter().all(|release| release.evidence.is_empty()), "not in lists");
}

/// Whichever comes first: no entry of evidence stands behind the outcome, and nothing that was acknowledged is lost.
#[tokio::test]
async fn no_evidence_is_taken_after_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    for round in 1..=20 {
        let number = number(admit(&store, logged(&format!("{round}"), round)).await.unwrap());
        let (added, ended) = if round % 2 == 0 {
            tokio::join!(
                add(&store, by("custodian:c", number, documents(&["a"]))),
                store.finish(ending(number))
            )
        } else {
            let (ended, added) = tokio::join!(
                store.finish(ending(number)),
                add(&store, by("custodian:c", number, documents(&["a"])))
            );
            (added, ended)
        };
        ended.unwrap();
        let late = added.as_ref().is_err_and(|error| matches!(error, Error::TooLate { .. }));
        assert!(added.is_ok() || late, "{added:?}");
        assert_eq!(kept(&store, number).await.len(), usize::from(added.is_ok()));
        let late = add(&store, by("custodian:c", number, documents(&["b"]))).await.unwrap_err();
        assert!(matches!(late, Error::TooLate { .. }), "{late}");
        // What is there was taken in time, and whoever did not hear of it asks again.
        let again = add(&store, by("custodian:c", number, documents(&["a"]))).await;
        assert_eq!(again.is_ok(), added.is_ok());
    }
    let mut ended = false;
    for entry in entries(folder.path()).await {
        match entry.as_str() {
            "outcome" => ended = true,
            request if request.starts_with("request") => ended = false,
            _ => assert!(!ended, "evidence after the outcome"),
        }
    }
}

#[tokio::test]
async fn nobody_fills_a_release_for_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let first = number(admit(&store, logged("one", 1)).await.unwrap());
    let many = |from: usize, count: usize| -> Vec<Document> {
        (from..from + count).map(|number| document(&format!("{number}"), 10)).collect()
    };
    let most = limits::MAX_EVIDENCE_OF_SUBMITTER;
    let full = |result: Result<Vec<v1::EvidenceInfo>>| match result.unwrap_err() {
        Error::EvidenceFull { problem, .. } => problem,
        other => panic!("{other}"),
    };
    let problem = full(add(&store, by("custodian:a", first, many(0, most + 1))).await);
    assert!(problem.contains("custodian:a"), "{problem}");
    assert_eq!(kept(&store, first).await.len(), 0, "all or nothing");
    add(&store, by("custodian:a", first, many(0, most))).await.unwrap();
    full(add(&store, by("custodian:a", first, many(1_000, 1))).await);
    add(&store, by("custodian:a", first, many(0, most))).await.expect("what is there takes no room");
    for (place, submitter) in ["custodian:b", "custodian:c", "custodian:d"].iter().enumerate() {
        add(&store, by(submitter, first, many((place + 1) * most, most))).await.unwrap();
    }
    assert_eq!(kept(&store, first).await.len(), rutli_wire::limits::MAX_EVIDENCE);
    let problem = full(add(&store, by("custodian:e", first, many(2_000, 1))).await);
    assert!(!problem.contains("custodian:e"), "{problem}");

    let second = number(admit(&store, logged("two", 2)).await.unwrap());
    let own = limits::MAX_EVIDENCE_BYTES_OF_SUBMITTER;
    full(add(&store, by("custodian:a", second, vec![document("a", own + 1)])).await);
    add(&store, by("custodian:a", second, vec![document("a", own)])).await.unwrap();
    full(add(&store, by("custodian:a", second, vec![document("b", 1)])).await);
    add(&store, by("custodian:b", second, vec![document("b", own - 1)])).await.unwrap();
    full(add(&store, by("custodian:c", second, vec![document("c", 2)])).await);
    add(&store, by("custodian:c", second, vec![document("c", 1)])).await.unwrap();
}

#[tokio::test]
async fn documents_and_their_entry_are_durable_together_before_anybody_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let new = NewRelease { evidence: documents(&["a"]), ..logged("one", 1) };
    let copies = Arc::new(Mutex::new(Vec::new()));
    let data_dir = folder.path().to_owned();
    let copy = |copies: &Arc<Mutex<Vec<_>>>| {
        let (copies, data_dir) = (Arc::clone(copies), data_dir.clone());
        move || copies.lock().unwrap().push(copy_of(&data_dir))
    };
    let admitted = copy(&copies);
    let first = number(store.admit(new, move |_| admitted()).await.unwrap());
    let added = copy(&copies);
    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = Arc::clone(&told);
    let all = store.add_evidence(by("custodian:c", first, documents(&["b", "a"])), move |all| {
        added();
        teller.lock().unwrap().extend(all.infos.clone());
    });
    assert_eq!(all.await.unwrap().infos, *told.lock().unwrap());
    let copies = std::mem::take(&mut *copies.lock().unwrap());
    let said = entry("custodian:c", 0, &["b"]);
    for (copy, expected, entries) in [
        (&copies[0], vec!["a"], vec!["request one"]),
        (&copies[1], vec!["a", "b"], vec!["request one", said.as_str()]),
    ] {
        let again = open_store(copy.path()).await.unwrap();
        assert_eq!(kept(&again, first).await, expected);
        assert_log(&again, copy.path(), &entries).await;
    }
}

/// The log does not say whose request it is before the embargo is over; nor does what is added to it.
#[tokio::test]
async fn under_embargo_the_log_says_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let mut new = logged("one", 1);
    new.logged.embargo = Some(Embargo { salt: Hash([3; 32]), disclose_by: 100 });
    let first = number(admit(&store, new).await.unwrap());
    let infos = add(&store, by("pipeline:ci", first, documents(&["a"]))).await.unwrap();
    assert_eq!(infos[0].submitter, "pipeline:ci");
    store.disclose(first, vec![b"disclosed".to_vec()], 7).await.unwrap();
    add(&store, by("pipeline:ci", first, documents(&["b"]))).await.unwrap();
    let said = entries(folder.path()).await;
    assert_eq!(said[1], entry("pipeline", 0, &["a"]));
    assert_eq!(said[3], entry("pipeline:ci", 0, &["b"]));
    // Nodes encode what was logged, whatever has been disclosed since.
    let leaves: Vec<Hash> =
        store.evidence_entries(first).await.unwrap().into_iter().map(|entry| entry.leaf).collect();
    assert_eq!(leaves, [&said[1], &said[3]].map(|entry| leaf_hash(entry.as_bytes())));
}
