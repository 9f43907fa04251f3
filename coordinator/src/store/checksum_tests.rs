//! A row that changed on the disk is not given out, whichever column changed.

use std::sync::Arc;

use super::{
    tests::{admit, number, release, signed_message},
    *,
};
use crate::testing::{copy_of, open_store};

/// A document that comes with a request.
fn document() -> Document {
    let bytes: prost::bytes::Bytes = b"a document".as_slice().into();
    Document { digest: rutli_log::sha256(&bytes), kind: rutli_evidence::Kind::Tests, bytes }
}

/// A copy of a store in which one row was changed.
async fn changed(data_dir: &Path, change: &'static str) -> tempfile::TempDir {
    let copy = copy_of(data_dir);
    let options = SqliteConnectOptions::new().filename(copy.path().join(FILE_NAME));
    let mut connection = options.connect().await.unwrap();
    let rows = sqlx::query(change).execute(&mut connection).await.unwrap().rows_affected();
    assert_eq!(rows, 1, "{change}");
    connection.close().await.unwrap();
    copy
}

#[tokio::test]
async fn a_changed_row_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let asked = NewRelease { evidence: vec![document()], ..release("job-1", 1) };
    let id = asked.release_id.clone();
    let first = number(admit(&store, asked).await.unwrap());
    let ending = Ending::new(first, &signed_message(), vec![b"{}".to_vec(); 2]);
    store.finish(Arc::new(ending)).await.unwrap();
    store.prove(vec![(first, signed_message().files)], 3_000).await.unwrap();
    let waiting = number(admit(&store, release("job-2", 2)).await.unwrap());
    let waits = release("job-2", 2).release_id;
    assert!(store.release(&id).await.unwrap().is_some() && store.release(&waits).await.unwrap().is_some());
    assert_eq!(store.evidence(first).await.unwrap().len(), 1);
    drop(store);

    for change in [
        "UPDATE releases SET requester = 'cj' WHERE number = 1",
        "UPDATE releases SET request_id = 'job-9' WHERE number = 1",
        "UPDATE releases SET content = x'' WHERE number = 1",
        "UPDATE releases SET signatures = 3 WHERE number = 1",
        "UPDATE releases SET created_at = created_at + 1 WHERE number = 1",
        "UPDATE releases SET log_index = log_index + 1 WHERE number = 1",
        "UPDATE releases SET log_index = NULL WHERE number = 1",
        "UPDATE releases SET roster = printf('%064d', 1) WHERE number = 1",
        "UPDATE releases SET deadline = deadline + 1 WHERE number = 1",
        "UPDATE releases SET embargo_salt = zeroblob(32), disclose_by = 9 WHERE number = 1",
        "UPDATE releases SET authority = 'another' WHERE number = 1",
        "UPDATE releases SET state = 5 WHERE number = 1",
        "UPDATE releases SET state = 1 WHERE number = 1",
        "UPDATE releases SET outcome = x'' WHERE number = 1",
        "UPDATE releases SET outcome = NULL WHERE number = 1",
        "UPDATE releases SET outcome_checksum = NULL WHERE number = 1",
        "UPDATE releases SET request_digest = zeroblob(32) WHERE number = 1",
        "UPDATE releases SET product = 'other' WHERE number = 2",
        "UPDATE results SET files = x''",
        "UPDATE results SET files = x'', checksum = NULL",
        "DELETE FROM results",
        "UPDATE evidence SET submitter = 'custodian:anna', checksum = NULL",
        "UPDATE proofs SET files = x''",
        "UPDATE proofs SET proven_at = proven_at + 1",
        "UPDATE evidence SET kind = 'build'",
        "UPDATE evidence SET submitter = 'custodian:anna'",
        "UPDATE evidence SET logged_by = 'custodian:anna'",
        "UPDATE evidence SET added_at = added_at + 1",
        "UPDATE evidence SET log_index = log_index + 1",
        "UPDATE evidence SET digest = zeroblob(32)",
        "UPDATE evidence SET document = x'00'",
        "UPDATE releases SET state = 4 WHERE number = 2",
        "UPDATE releases SET content = x'' WHERE number = 2",
    ] {
        let copy = changed(folder.path(), change).await;
        let problems: Vec<String> = match open_store(copy.path()).await {
            Ok(store) => {
                let read = [
                    store.release(&id).await.map(drop),
                    store.release(&waits).await.map(drop),
                    store.evidence(first).await.map(drop),
                    store.evidence(waiting).await.map(drop),
                ];
                read.into_iter().filter_map(|read| Some(read.err()?.to_string())).collect()
            }
            Err(error) => vec![error.to_string()],
        };
        assert!(problems.iter().any(|problem| problem.contains("is damaged")), "{change}: {problems:?}");
    }
}

#[tokio::test]
async fn a_damaged_release_keeps_no_other_from_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    for (name, sequence) in [("job-1", 1), ("job-2", 2), ("job-3", 3)] {
        number(admit(&store, release(name, sequence)).await.unwrap());
    }
    drop(store);
    let copy = changed(folder.path(), "UPDATE releases SET content = x'' WHERE number = 2").await;
    let store = open_store(copy.path()).await.unwrap();
    assert_eq!(store.unfinished().await.unwrap().len(), 2);
    assert_eq!(store.list(&ReleaseFilter::default(), 10, |_| true).await.unwrap().releases.len(), 2);
    assert!(store.release(&release("job-2", 2).release_id).await.is_err());
}

#[tokio::test]
async fn a_channel_that_says_more_than_its_releases_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let first = number(admit(&store, release("job-1", 1)).await.unwrap());
    store.finish(Arc::new(Ending::new(first, &signed_message(), vec![b"{}".to_vec(); 2]))).await.unwrap();
    drop(store);
    let copy = changed(folder.path(), "UPDATE channels SET sequence = 9000").await;
    let problem = open_store(copy.path()).await.map(drop).unwrap_err().to_string();
    assert!(problem.contains("the sequence of channel product-build/suite/stable"), "{problem}");
}

/// A release whose index entry is gone would be unknown, and asked for again.
#[tokio::test]
async fn a_store_whose_index_contradicts_its_table_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    number(admit(&store, release("job-1", 1)).await.unwrap());
    drop(store);
    let copy = copy_of(folder.path());
    let path = copy.path().join(FILE_NAME);
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    // The index of release ids has the name, too, and comes after the table.
    let mut bytes = std::fs::read(&path).unwrap();
    let name = release("job-1", 1).release_id.to_string();
    let places: Vec<usize> = bytes
        .windows(name.len())
        .enumerate()
        .filter(|(_, at)| *at == name.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(places.len() > 1, "{places:?}");
    bytes[places[1]] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let problem = open_store(copy.path()).await.map(drop).unwrap_err().to_string();
    assert!(problem.contains("the database is damaged") && problem.contains("Recover"), "{problem}");
}
