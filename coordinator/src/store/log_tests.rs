//! The store and its log: what is appended, what is not, and what closes it.

use rutli_log::leaf_hash;
use sqlx::{Row as _, SqliteConnection};

use super::{
    tests::{admit, number, release, reopen, signed_message},
    *,
};
use crate::testing::{PATIENCE, copy_of, log_signer, open_store, request};

/// A release whose entry says which it is.
pub(super) fn logged(request_id: &str, sequence: u64) -> NewRelease {
    let mut new = release(request_id, sequence);
    new.logged.entry = format!("request {request_id}").into_bytes();
    new
}

/// How a release ends, with what the log says of it.
fn ending(number: ReleaseNumber, state: v1::ReleaseState, entries: &[&str]) -> Arc<Ending> {
    let mut message = signed_message();
    message.set_state(state);
    if state != v1::ReleaseState::Signed {
        message.files.clear();
    }
    let entries = entries.iter().map(|entry| entry.as_bytes().to_vec()).collect();
    Arc::new(Ending::new(number, &message, entries))
}

fn node(name: &str) -> NodeId {
    NodeId::new("vendor", name).unwrap()
}

/// Adds one entry.
pub(super) async fn grow(store: &Store, entry: &str) -> Result<()> {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    store.culprit(&node(&format!("n{next}")), Some(("x".into(), 5)), entry.as_bytes().to_vec()).await
}

/// The database beside its writer.
pub(super) async fn beside(data_dir: &Path) -> SqliteConnection {
    options(&data_dir.join(FILE_NAME)).connect().await.unwrap()
}

pub(super) async fn execute(connection: &mut SqliteConnection, sql: &'static str) {
    sqlx::query(sql).execute(connection).await.unwrap();
}

/// What is staged, with the release whose statement lies beside it.
async fn staged(data_dir: &Path) -> Vec<(u64, String, Option<i64>)> {
    let rows = sqlx::query("SELECT number, entry, release FROM log_entries ORDER BY number");
    let rows = rows.fetch_all(&mut beside(data_dir).await).await.unwrap();
    rows.iter()
        .map(|row| {
            let number: i64 = row.get(0);
            (number as u64, String::from_utf8(row.get(1)).unwrap(), row.get(2))
        })
        .collect()
}

pub(super) async fn entries(data_dir: &Path) -> Vec<String> {
    staged(data_dir).await.into_iter().map(|(_, entry, _)| entry).collect()
}

/// The head that the store has, opened with the log's key.
async fn stored_head(data_dir: &Path) -> Head {
    let note: String = sqlx::query_scalar("SELECT checkpoint FROM log_head")
        .fetch_one(&mut beside(data_dir).await)
        .await
        .unwrap();
    log_signer().public().open(&note).unwrap().head()
}

pub(super) fn head_of(entries: &[String]) -> Head {
    let mut frontier = rutli_log::Frontier::default();
    entries.iter().for_each(|entry| frontier.push(leaf_hash(entry.as_bytes())));
    frontier.head()
}

/// Staging, signed head and the head in memory say the same, of these entries.
pub(super) async fn assert_log(store: &Store, data_dir: &Path, expected: &[&str]) {
    let found = entries(data_dir).await;
    assert_eq!(found, expected);
    assert_eq!(stored_head(data_dir).await, head_of(&found));
    assert_eq!(store.log().newest().head(), head_of(&found));
    assert_eq!(*store.log().size().borrow(), u64::try_from(found.len()).unwrap());
}

pub(super) async fn open_with(data_dir: &Path, signer: LogSigner) -> Result<(Store, Appender)> {
    Store::open(data_dir, signer, &data_dir.join("log")).await
}

/// As the publisher does it, but for what lies beside the tree.
pub(super) async fn write(store: &Store, appender: &mut Appender, data_dir: &Path) {
    let found = staged(data_dir).await;
    let new: Vec<Vec<u8>> = found
        .into_iter()
        .filter(|(number, ..)| *number >= appender.head().size)
        .map(|(_, entry, _)| entry.into_bytes())
        .collect();
    appender.append(&new, &[], store.log().newest().head()).unwrap();
}

#[tokio::test]
async fn a_group_is_logged_in_its_order_with_one_head() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let first = number(admit(&store, logged("a", 1)).await.unwrap());
    let heads = store.log().size();
    let end = ending(first, v1::ReleaseState::Signed, &["outcome a", "dsse a"]);
    let bad = node("vendor-1");
    let (culprit, finished, b, c) = tokio::join!(
        store.culprit(&bad, Some(("x".into(), 5)), b"node".to_vec()),
        store.finish(end),
        store.admit(logged("b", 2), |_| {}),
        store.admit(logged("c", 3), |_| {}),
    );
    culprit.unwrap();
    finished.unwrap();
    assert!(matches!(b.unwrap(), Admission::New(_, 1)));
    assert!(matches!(c.unwrap(), Admission::New(_, 2)));
    assert!(heads.has_changed().unwrap());
    let all = ["request a", "request b", "request c", "outcome a", "dsse a", "node"];
    assert_log(&store, folder.path(), &all).await;
    let beside: Vec<_> = staged(folder.path()).await.into_iter().map(|(.., release)| release).collect();
    assert_eq!(beside, [Some(1), Some(2), Some(3), None, None, None]);
}

#[tokio::test]
async fn request_index_and_head_are_durable_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    grow(&store, "before").await.unwrap();
    let told = Arc::new(std::sync::Mutex::new(None));
    let teller = Arc::clone(&told);
    let data_dir = folder.path().to_owned();
    // Copied at the very moment at which somebody is told for the first time.
    let kill = move |index| *teller.lock().unwrap() = Some((index, copy_of(&data_dir)));
    store.admit(logged("a", 1), kill).await.unwrap();
    let (index, copy) = told.lock().unwrap().take().unwrap();
    assert_eq!(index, 1);
    let again = open_store(copy.path()).await.unwrap();
    assert_log(&again, copy.path(), &["before", "request a"]).await;
    let terms = again.unfinished().await.unwrap().remove(0).logged.unwrap();
    let new = logged("a", 1).logged;
    assert_eq!(
        (terms.index, terms.roster, terms.deadline, terms.embargo),
        (1, new.roster, new.deadline, None)
    );
}

#[tokio::test]
async fn an_ending_is_logged_once_and_is_the_one_that_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let first = number(admit(&store, logged("a", 1)).await.unwrap());
    let signed = ending(first, v1::ReleaseState::Signed, &["outcome a", "dsse a"]);
    let refused = ending(first, v1::ReleaseState::Refused, &["refused a"]);
    let (one, two) = tokio::join!(store.finish(Arc::clone(&signed)), store.finish(Arc::clone(&refused)));
    one.unwrap();
    two.unwrap();
    store.finish(signed).await.unwrap();
    store.finish(refused).await.unwrap();
    assert_log(&store, folder.path(), &["request a", "outcome a", "dsse a"]).await;
    let kept = store.release(&logged("a", 1).release_id).await.unwrap().unwrap().message;
    assert_eq!(kept.state(), v1::ReleaseState::Signed, "what the log says is what the store says");
    assert_eq!(kept.files, signed_message().files);
    let proofs: Vec<(Vec<u8>, i64)> = sqlx::query("SELECT leaf, log_index FROM proofs")
        .fetch_all(&mut beside(folder.path()).await)
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert!(
        store.unproven(0, 2).await.unwrap().is_empty(),
        "an entry that is not below the head is not proved"
    );
    store.unproven(0, 3).await.unwrap_err();
    assert_eq!(proofs, [(b"dsse a".to_vec(), 2)], "the last entry of an ending is the one that is proved");
}

#[tokio::test]
async fn an_unsigned_end_wants_no_proof() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let first = number(admit(&store, logged("a", 1)).await.unwrap());
    store.finish(ending(first, v1::ReleaseState::Expired, &["expired a"])).await.unwrap();
    assert_log(&store, folder.path(), &["request a", "expired a"]).await;
    assert!(store.unproven(0, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_changes_nothing_is_not_logged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let first = number(admit(&store, logged("a", 5)).await.unwrap());
    let bad = node("vendor-1");
    store.culprit(&bad, Some(("x".into(), 5)), b"named".to_vec()).await.unwrap();
    let key = NewKey {
        roster_hash: "ab".into(),
        name: "release".into(),
        signed_roster: b"{}".to_vec(),
        entry: b"key".to_vec(),
    };
    let made = |id: &str| {
        let end = CeremonyEnd {
            state: v1::CeremonyState::Done,
            at: 9,
            reason: String::new(),
            keys: vec![key.clone()],
        };
        CeremonyChange { ceremony_id: id.into(), ended: Some(end), ..Default::default() }
    };
    store.ceremony(made("c1")).await.unwrap();
    store.disclose(first, vec![b"disclosed".to_vec()], 7).await.unwrap();
    let all = ["request a", "named", "key", "disclosed"];
    assert_log(&store, folder.path(), &all).await;

    assert!(matches!(admit(&store, logged("a", 5)).await.unwrap(), Admission::Known(_)));
    let other = NewRelease { request_digest: [8; 32], ..logged("a", 6) };
    assert!(matches!(admit(&store, other).await, Err(Error::RequestIdReused { .. })));
    store.culprit(&bad, Some(("y".into(), 6)), b"named".to_vec()).await.unwrap();
    store.culprit(&node("nobody"), None, b"reinstated".to_vec()).await.unwrap();
    store.ceremony(made("c1")).await.unwrap();
    store.ceremony(made("c2")).await.unwrap();
    let (one, two) = tokio::join!(
        store.disclose(first, vec![b"disclosed".to_vec()], 8),
        store.disclose(first, vec![b"disclosed".to_vec()], 8),
    );
    one.unwrap();
    two.unwrap();
    store.finish(ending(ReleaseNumber(99), v1::ReleaseState::Signed, &["of nobody"])).await.unwrap();
    assert_log(&store, folder.path(), &all).await;

    store.culprit(&bad, None, b"reinstated".to_vec()).await.unwrap();
    store.culprit(&bad, Some(("again".into(), 6)), b"named again".to_vec()).await.unwrap();
    let all = [&all[..], &["reinstated", "named again"]].concat();
    assert_log(&store, folder.path(), &all).await;
}

#[tokio::test]
async fn a_refused_one_in_a_group_leaves_no_gap() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let (a, reused, c) = tokio::join!(
        admit(&store, logged("a", 5)),
        admit(&store, NewRelease { request_digest: [8; 32], ..logged("a", 5) }),
        admit(&store, logged("c", 6)),
    );
    assert!(matches!(a.unwrap(), Admission::New(_, 0)));
    assert!(reused.is_err());
    assert!(matches!(c.unwrap(), Admission::New(_, 1)));
    assert_log(&store, folder.path(), &["request a", "request c"]).await;
}

#[tokio::test]
async fn staging_is_emptied_only_forwards() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut appender) = open_with(folder.path(), log_signer()).await.unwrap();
    grow(&store, "a").await.unwrap();
    grow(&store, "b").await.unwrap();
    let two = store.log().newest().head();
    write(&store, &mut appender, folder.path()).await;
    grow(&store, "c").await.unwrap();
    store.unstage(two).await.unwrap();
    store.unstage(store.log().head_at(1).unwrap()).await.unwrap();
    // The same size again, and with a root that is none: nothing changes.
    store.unstage(Head { root: Hash([9; 32]), ..two }).await.unwrap();
    assert_eq!(entries(folder.path()).await, ["c"]);
    drop((store, appender));
    let store = reopen(folder.path()).await;
    assert_eq!(store.log().newest().head().size, 3);
    assert_eq!(store.log().backlog(), 1);
    assert_eq!(store.log().inclusion(0, leaf_hash(b"a"), &store.log().newest().head()).unwrap().len(), 2);
}

/// Another process (or a store that was swapped underneath) has moved the head.
async fn moved(with_entry: bool) {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    grow(&store, "a").await.unwrap();
    let before = store.log().newest();
    let mut other = beside(folder.path()).await;
    let foreign = log_signer().sign(head_of(&["a".into(), "theirs".into(), "theirs".into()]));
    sqlx::query("UPDATE log_head SET checkpoint = $1")
        .bind(foreign.to_note())
        .execute(&mut other)
        .await
        .unwrap();
    if with_entry {
        execute(&mut other, "INSERT INTO log_entries (number, entry) VALUES (1, x'00')").await;
    }
    let error = admit(&store, logged("b", 1)).await.unwrap_err();
    assert!(matches!(error, Error::StoreClosed { .. }), "{error}");
    assert!(store.unfinished().await.unwrap().is_empty(), "nothing of the group is there");
    assert_eq!(store.log().newest(), before, "the head in memory did not move");
    let mut health = store.health();
    let closed =
        health.wait_for(|health| matches!(health, Health::Closed(why) if why.contains("another process")));
    tokio::time::timeout(PATIENCE, closed).await.unwrap().unwrap();
    assert_eq!(store.log().newest(), before);
    // Put right by hand, it opens by itself.
    if with_entry {
        execute(&mut other, "DELETE FROM log_entries WHERE number = 1").await;
    }
    sqlx::query("UPDATE log_head SET checkpoint = $1")
        .bind(before.to_note())
        .execute(&mut other)
        .await
        .unwrap();
    store.opened().await;
    number(admit(&store, logged("b", 1)).await.unwrap());
    assert_log(&store, folder.path(), &["a", "request b"]).await;
}

#[tokio::test]
async fn a_head_that_somebody_else_moved_closes_the_store() {
    moved(false).await;
}

#[tokio::test]
async fn entries_that_somebody_else_wrote_close_the_store() {
    moved(true).await;
}

#[tokio::test]
async fn a_commit_that_failed_and_happened_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    grow(&store, "a").await.unwrap();
    // What the writer wrote in a commit of which it was told that it failed.
    let all = ["a".to_owned(), "lost".to_owned()];
    let mut other = beside(folder.path()).await;
    execute(&mut other, "INSERT INTO log_entries (number, entry) VALUES (1, CAST('lost' AS BLOB))").await;
    sqlx::query("UPDATE log_head SET checkpoint = $1")
        .bind(log_signer().sign(head_of(&all)).to_note())
        .execute(&mut other)
        .await
        .unwrap();
    let error = admit(&store, logged("b", 1)).await.unwrap_err();
    assert!(matches!(error, Error::StoreClosed { .. }), "{error}");
    tokio::time::timeout(PATIENCE, store.opened()).await.unwrap();
    assert_log(&store, folder.path(), &["a", "lost"]).await;
    assert!(matches!(admit(&store, logged("b", 1)).await.unwrap(), Admission::New(_, 2)));
    assert_log(&store, folder.path(), &["a", "lost", "request b"]).await;
    let head = store.log().newest().head();
    for (index, entry) in entries(folder.path()).await.iter().enumerate() {
        let index = u64::try_from(index).unwrap();
        let proof = store.log().inclusion(index, leaf_hash(entry.as_bytes()), &head).unwrap();
        rutli_log::check_inclusion(&head, index, leaf_hash(entry.as_bytes()), &proof).unwrap();
    }
}

#[tokio::test]
async fn staging_is_handed_out_in_bounded_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let mut other = beside(folder.path()).await;
    execute(
        &mut other,
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
         INSERT INTO log_entries (number, entry) SELECT i + 7, x'7b7d' FROM n",
    )
    .await;
    let staged = store.staged(0, u64::MAX).await.unwrap();
    assert_eq!((staged.from, staged.entries.len()), (7, 4_096));
    let staged = store.staged(0, 9).await.unwrap();
    assert_eq!((staged.from, staged.entries.len()), (7, 2));

    // Statements of the largest releases beside each entry: bounded by their bytes.
    let mut message = request("job-1", 1);
    let artifact = message.artifacts.remove(0);
    let name = |number| format!("{}{number:04}", "f".repeat(200));
    message.artifacts =
        (0..5_000).map(|number| v1::Artifact { name: name(number), ..artifact.clone() }).collect();
    let largest = rutli_wire::convert::release_from_request(message, 1).unwrap();
    let new = NewRelease {
        content: rutli_wire::convert::release_to_content(&largest).encode_to_vec(),
        ..logged("a", 1)
    };
    let first = number(admit(&store, new).await.unwrap());
    sqlx::query("UPDATE log_entries SET release = $1").bind(first.0).execute(&mut other).await.unwrap();
    let staged = store.staged(0, u64::MAX).await.unwrap();
    let bytes: usize = staged.documents.iter().map(|(_, document)| document.len()).sum();
    assert_eq!(staged.entries.len(), staged.documents.len());
    assert!(staged.documents.len() > 1 && bytes <= limits::LOG_WRITE_BYTES, "{bytes}");
    assert!(bytes + largest.statement().len() > limits::LOG_WRITE_BYTES);
}
