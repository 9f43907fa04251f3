//! The store's promises, one test each.

use std::sync::Arc;

use rutli_release::{Channel, Class, Product};

use super::*;
use crate::testing::{charge, copy_of, eventually_some, new_logged, open_store};

const DIGEST: [u8; 32] = [7; 32];

pub(super) fn release(request_id: &str, sequence: u64) -> NewRelease {
    let requester = Requester::new("ci").unwrap();
    let request_id = RequestId::new(request_id).unwrap();
    let product = Product::new("suite").unwrap();
    let version = rutli_release::Version::new(format!("1.{sequence}")).unwrap();
    NewRelease {
        release_id: ReleaseId::for_request(&requester, &request_id, &product, &version),
        requester,
        request_id,
        request_digest: DIGEST,
        channel: ChannelKey { class: Class::ProductBuild, product, channel: Channel::new("stable").unwrap() },
        sequence: Sequence::new(sequence).unwrap(),
        content: v1::ReleaseContent { product: "suite".into(), sequence, ..Default::default() }
            .encode_to_vec(),
        evidence: Vec::new(),
        signatures: 2,
        created_at: 1_000,
        logged: new_logged(),
        charge: charge(1_000),
    }
}

pub(super) async fn admit(store: &Store, release: NewRelease) -> Result<Admission> {
    store.admit(release, |_| {}).await
}

pub(super) fn in_channel(channel: &str, mut release: NewRelease) -> NewRelease {
    release.channel.channel = Channel::new(channel).unwrap();
    release
}

pub(super) fn number(admission: Admission) -> ReleaseNumber {
    match admission {
        Admission::New(number, _) => number,
        Admission::Known(id) => panic!("{id} was known"),
    }
}

pub(super) fn signed_message() -> v1::Release {
    v1::Release {
        state: v1::ReleaseState::Signed.into(),
        signed_by: vec!["vendor/vendor-1".into()],
        key: "release".into(),
        signatures_done: 2,
        finished_at: 2_000,
        files: vec![v1::SignedFile { name: "a.sig".into(), data: vec![1, 2, 3].into() }],
        ..Default::default()
    }
}

#[tokio::test]
async fn the_same_request_is_the_same_release() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let first = release("job-1", 1);
    let id = first.release_id.clone();
    number(admit(&store, first.clone()).await.unwrap());
    assert_eq!(admit(&store, first.clone()).await.unwrap(), Admission::Known(id.clone()));
    let other = NewRelease { request_digest: [8; 32], ..first.clone() };
    assert!(
        matches!(admit(&store, other).await, Err(Error::RequestIdReused { release_id, .. }) if release_id == id.as_str())
    );
    // Another requester's id is another's.
    let mut theirs = in_channel("beta", release("job-1", 1));
    theirs.requester = Requester::new("other-ci").unwrap();
    theirs.release_id = ReleaseId::new("suite-1.1-ffffffffffff").unwrap();
    number(admit(&store, theirs).await.unwrap());
    let found = store.release_of_request(&first.requester, &first.request_id).await.unwrap();
    assert_eq!(found, Some((id, first.created_at)));
}

#[tokio::test]
async fn one_group_keeps_the_same_promises() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let twice = release("job-1", 5);
    let other = NewRelease { request_digest: [8; 32], ..twice.clone() };
    let rival = release("job-2", 5);
    let colliding = NewRelease { release_id: twice.release_id.clone(), ..release("job-3", 9) };
    let higher = release("job-4", 6);
    let (a, b, c, d, e, f) = tokio::join!(
        admit(&store, twice.clone()),
        admit(&store, twice.clone()),
        admit(&store, other),
        admit(&store, rival),
        admit(&store, colliding),
        admit(&store, higher),
    );
    number(a.unwrap());
    assert_eq!(b.unwrap(), Admission::Known(twice.release_id));
    assert!(matches!(c, Err(Error::RequestIdReused { .. })));
    number(d.unwrap());
    assert!(matches!(e, Err(Error::RequestIdReused { .. })), "a colliding id is refused, not a broken store");
    number(f.unwrap());
    assert_eq!(*store.health().borrow(), Health::Open);
}

/// What was charged in an hour is kept for that hour, also if one of its requests is refused first.
#[tokio::test]
async fn earlier_hours_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let hours = async || -> Vec<(i64, i64)> {
        sqlx::query_as("SELECT hour, requests FROM budgets ORDER BY hour")
            .fetch_all(&store.reads)
            .await
            .unwrap()
    };
    let at = |hour: u64, request: &str, sequence| NewRelease {
        charge: charge(hour * 3_600),
        ..release(request, sequence)
    };
    for (request, sequence) in [("job-1", 1), ("job-2", 2)] {
        number(admit(&store, at(5, request, sequence)).await.unwrap());
    }
    assert_eq!(hours().await, [(5, 2)]);
    let reused = NewRelease { request_digest: [8; 32], ..at(6, "job-1", 1) };
    assert!(admit(&store, reused).await.is_err());
    number(admit(&store, at(6, "job-3", 3)).await.unwrap());
    assert_eq!(hours().await, [(6, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_of_admissions_is_told_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let (told, mut order) = mpsc::unbounded_channel();
    let admissions = (1..=50).map(|sequence| {
        let told = told.clone();
        store.admit(release(&format!("job-{sequence}"), sequence), move |number| told.send(number).unwrap())
    });
    for admission in futures::future::join_all(admissions).await {
        number(admission.unwrap());
    }
    let again = store.admit(release("job-1", 1), move |_| panic!("not new")).await.unwrap();
    assert!(matches!(again, Admission::Known(_)));
    let mut heard = Vec::new();
    while let Ok(number) = order.try_recv() {
        heard.push(number);
    }
    assert_eq!(heard, (0..50).collect::<Vec<u64>>());
}

async fn ended(store: &Store, number: ReleaseNumber, state: v1::ReleaseState) -> Result<()> {
    let message = match state {
        v1::ReleaseState::Signed => signed_message(),
        _ => v1::Release { state: state.into(), ..Default::default() },
    };
    store.finish(Arc::new(Ending::new(number, &message, vec![b"{}".to_vec()]))).await
}

/// Only what was signed closes anything, in its class, product and channel alone.
#[tokio::test]
async fn sequences_go_up_above_what_was_signed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let highest = number(admit(&store, release("thief", (1 << 53) - 1)).await.unwrap());
    let states = [v1::ReleaseState::Refused, v1::ReleaseState::Cancelled, v1::ReleaseState::Expired];
    for (sequence, state) in (20..).zip(states) {
        let other = number(admit(&store, release(&format!("a{sequence}"), sequence)).await.unwrap());
        ended(&store, other, state).await.unwrap();
    }
    ended(&store, highest, v1::ReleaseState::Refused).await.unwrap();
    let first = number(admit(&store, release("b", 10)).await.unwrap());
    let same = number(admit(&store, release("c", 10)).await.unwrap());
    let lower = number(admit(&store, release("d", 9)).await.unwrap());
    ended(&store, first, v1::ReleaseState::Signed).await.unwrap();
    ended(&store, first, v1::ReleaseState::Signed).await.unwrap();
    for sequence in [9, 10] {
        let error = admit(&store, release(&format!("e{sequence}"), sequence)).await.unwrap_err();
        assert!(matches!(error, Error::SequenceBehind { highest: 10, .. }), "{error}");
    }
    number(admit(&store, in_channel("beta", release("f", 1))).await.unwrap());
    let mut database = release("g", 1);
    database.channel.class = Class::AvDatabase;
    number(admit(&store, database.clone()).await.unwrap());
    // One number, one content: the second one ends in another way.
    let twice = ended(&store, same, v1::ReleaseState::Signed).await.unwrap_err();
    assert!(matches!(twice, Error::Overtaken { .. }), "{twice}");
    ended(&store, same, v1::ReleaseState::Overtaken).await.unwrap();
    // It was at the nodes together with the higher one.
    ended(&store, lower, v1::ReleaseState::Signed).await.unwrap();
    assert_eq!(store.signed_sequence(&database.channel).await.unwrap(), None);
    drop(store);
    let store = reopen(folder.path()).await;
    assert!(admit(&store, release("h", 10)).await.is_err(), "a restart does not forget the highest");
    number(admit(&store, release("i", 11)).await.unwrap());
}

/// Both in one transaction.
#[tokio::test]
async fn of_two_signed_under_one_number_the_first_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let first = number(admit(&store, release("a", 7)).await.unwrap());
    let second = number(admit(&store, release("b", 7)).await.unwrap());
    let signed = v1::ReleaseState::Signed;
    let (a, b) = tokio::join!(ended(&store, first, signed), ended(&store, second, signed));
    a.unwrap();
    assert!(matches!(b, Err(Error::Overtaken { sequence: 7, .. })));
    let stored = store.release(&release("b", 7).release_id).await.unwrap().unwrap();
    assert!(stored.is_unfinished());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_a_time_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let tasks: Vec<_> = (0..200)
        .map(|index| {
            let store = store.clone();
            tokio::spawn(async move {
                let new = in_channel(&format!("c{index}"), release(&format!("job-{index}"), 1));
                let number = number(admit(&store, new).await.unwrap());
                store
                    .finish(Arc::new(Ending::new(number, &signed_message(), vec![b"{}".to_vec()])))
                    .await
                    .unwrap();
                number
            })
        })
        .collect();
    let mut numbers = Vec::new();
    for task in tasks {
        numbers.push(task.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=200).map(ReleaseNumber).collect::<Vec<_>>());
    let page = store.list(&ReleaseFilter::default(), 200, |_| true).await.unwrap();
    assert_eq!(page.releases.len(), 200);
    assert!(page.releases.iter().all(|release| release.state() == v1::ReleaseState::Signed));
    assert!(store.unfinished().await.unwrap().is_empty());
}

#[tokio::test]
async fn all_is_there_after_the_process_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let first = number(admit(&store, release("a", 1)).await.unwrap());
    number(admit(&store, release("b", 2)).await.unwrap());
    store.finish(Arc::new(Ending::new(first, &signed_message(), vec![b"{}".to_vec()]))).await.unwrap();
    let node = NodeId::new("vendor", "vendor-1").unwrap();
    store.culprit(&node, Some(("sent a wrong share".into(), 5)), b"{}".to_vec()).await.unwrap();
    store
        .culprit(&NodeId::new("vendor", "vendor-2").unwrap(), Some(("x".into(), 5)), b"{}".to_vec())
        .await
        .unwrap();
    store.culprit(&NodeId::new("vendor", "vendor-2").unwrap(), None, b"{}".to_vec()).await.unwrap();
    let key = NewKey {
        roster_hash: "ab".into(),
        name: "release".into(),
        signed_roster: b"{}".to_vec(),
        entry: b"{}".to_vec(),
    };
    let change =
        CeremonyChange { ceremony_id: "c1".into(), begun: Some((b"p".to_vec(), 1)), ..Default::default() };
    store.ceremony(change).await.unwrap();
    let messages = CeremonyChange {
        ceremony_id: "c1".into(),
        messages: vec![b"m1".to_vec(), b"m2".to_vec()],
        ..Default::default()
    };
    store.ceremony(messages).await.unwrap();
    let end = CeremonyEnd { state: v1::CeremonyState::Done, at: 9, reason: String::new(), keys: vec![key] };
    store
        .ceremony(CeremonyChange { ceremony_id: "c1".into(), ended: Some(end), ..Default::default() })
        .await
        .unwrap();

    let copy = copy_of(folder.path());
    let again = open_store(copy.path()).await.unwrap();
    let unfinished = again.unfinished().await.unwrap();
    assert_eq!(
        unfinished.iter().map(|release| release.message.request_id.as_str()).collect::<Vec<_>>(),
        ["b"]
    );
    let signed = again.release(&release("a", 1).release_id).await.unwrap().unwrap().message;
    assert_eq!(signed.files, signed_message().files);
    assert_eq!((signed.key.as_str(), signed.finished_at, signed.signatures_total), ("release", 2_000, 2));
    assert_eq!(signed.content.unwrap().sequence, 1);
    assert_eq!(
        again.culprits().await.unwrap(),
        [("vendor/vendor-1".to_owned(), "sent a wrong share".to_owned())]
    );
    assert_eq!(again.keys().await.unwrap(), [b"{}".to_vec()]);
    let ceremonies = again.ceremonies(10).await.unwrap();
    assert_eq!(ceremonies[0].messages, [b"m1".to_vec(), b"m2".to_vec()]);
    assert_eq!((ceremonies[0].state, ceremonies[0].finished_at), (v1::CeremonyState::Done, Some(9)));
}

#[tokio::test]
async fn the_first_ending_stands() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let number = number(admit(&store, release("a", 1)).await.unwrap());
    store.finish(Arc::new(Ending::new(number, &signed_message(), vec![b"{}".to_vec()]))).await.unwrap();
    let other = v1::Release { state: v1::ReleaseState::Cancelled.into(), ..Default::default() };
    store.finish(Arc::new(Ending::new(number, &other, vec![b"{}".to_vec()]))).await.unwrap();
    let stored = store.release(&release("a", 1).release_id).await.unwrap().unwrap().message;
    assert_eq!((stored.state(), stored.files.len()), (v1::ReleaseState::Signed, 1));
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    for sequence in 1..=5 {
        number(admit(&store, release(&format!("job-{sequence}"), sequence)).await.unwrap());
    }
    number(admit(&store, in_channel("beta", release("beta", 1))).await.unwrap());
    let stable = ReleaseFilter { channel: Some("stable".into()), ..Default::default() };
    let sequences = |page: &Page| -> Vec<u64> {
        page.releases.iter().map(|release| release.content.as_ref().unwrap().sequence).collect()
    };
    let first = store.list(&stable, 2, |_| true).await.unwrap();
    assert_eq!(sequences(&first), [5, 4]);
    let second =
        store.list(&ReleaseFilter { before: first.next, ..stable.clone() }, 2, |_| true).await.unwrap();
    assert_eq!(sequences(&second), [3, 2]);
    let last =
        store.list(&ReleaseFilter { before: second.next, ..stable.clone() }, 2, |_| true).await.unwrap();
    assert_eq!((sequences(&last), last.next), (vec![1], None));
    let odd = |release: &mut v1::Release| release.content.as_ref().unwrap().sequence % 2 == 1;
    assert_eq!(sequences(&store.list(&stable, 2, odd).await.unwrap()), [5, 3]);
    let nobody = ReleaseFilter { requester: Some("nobody".into()), ..Default::default() };
    assert!(store.list(&nobody, 2, |_| true).await.unwrap().releases.is_empty());
    let signed = ReleaseFilter { state: Some(v1::ReleaseState::Signed), ..Default::default() };
    assert!(store.list(&signed, 2, |_| true).await.unwrap().releases.is_empty());
}

#[tokio::test]
async fn one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open_store(folder.path()).await.unwrap();
    let error = open_store(folder.path()).await.err().unwrap().to_string();
    assert!(error.contains("another coordinator"), "{error}");
}

#[tokio::test]
async fn a_backup_is_whole_and_restores() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    number(admit(&store, release("a", 1)).await.unwrap());
    let restored = tempfile::tempdir().unwrap();
    let copy = restored.path().join(FILE_NAME);
    backup(folder.path(), &copy).await.unwrap();
    assert!(backup(folder.path(), &copy).await.unwrap_err().to_string().contains("exists already"));
    number(admit(&store, release("b", 2)).await.unwrap());
    let restored = open_store(restored.path()).await.unwrap();
    assert_eq!(restored.unfinished().await.unwrap().len(), 1);
    assert!(matches!(admit(&restored, release("a", 1)).await.unwrap(), Admission::Known(_)));
    let nothing = tempfile::tempdir().unwrap();
    assert!(backup(nothing.path(), &nothing.path().join("copy")).await.is_err());
}

#[tokio::test]
async fn a_store_that_cannot_write_is_closed_and_opens_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path()).await.unwrap();
    let first = number(admit(&store, release("a", 1)).await.unwrap());
    let path = folder.path().join(FILE_NAME);
    let mut other = options(&path).connect().await.unwrap();
    sqlx::query("ALTER TABLE releases RENAME TO releases_aside").execute(&mut other).await.unwrap();
    let error = admit(&store, release("b", 2)).await.unwrap_err();
    assert!(
        matches!(error, Error::Store { .. }),
        "a statement that the database refuses closes nothing: {error}"
    );
    sqlx::query("ALTER TABLE releases_aside RENAME TO releases").execute(&mut other).await.unwrap();
    number(admit(&store, release("b", 2)).await.unwrap());

    // A lock that somebody holds for longer than the writer's patience stands for a disk that fails.
    let mut health = store.health();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let error = store
        .finish(Arc::new(Ending::new(first, &signed_message(), vec![b"{}".to_vec()])))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::StoreClosed { .. }), "{error}");
    assert!(matches!(&*health.borrow_and_update(), Health::Closed(_)));
    let error = admit(&store, release("c", 3)).await.unwrap_err();
    assert!(matches!(error, Error::StoreClosed { .. }), "{error}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    store.opened().await;
    store.finish(Arc::new(Ending::new(first, &signed_message(), vec![b"{}".to_vec()]))).await.unwrap();
    number(admit(&store, release("c", 3)).await.unwrap());
}

pub(super) async fn reopen(path: &Path) -> Store {
    // The writer lets go of the lock shortly after the last handle is gone.
    eventually_some("the store is free", async || open_store(path).await.ok()).await
}

/// The cost of one admission must not grow with what was admitted before.
#[tokio::test]
async fn statements_on_the_way_of_a_release_search_and_never_scan() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open_store(folder.path()).await.unwrap();
    let mut connection = options(&folder.path().join(FILE_NAME)).connect().await.unwrap();
    let (first, second) = (release("a", 1), release("b", 2));
    let endings =
        [1, 2].map(|number| Ending::new(ReleaseNumber(number), &signed_message(), vec![b"{}".to_vec()]));
    for sql in writer::statements(&[&first, &second], &[&endings[0], &endings[1]]) {
        let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        for step in plan.fetch_all(&mut connection).await.unwrap() {
            let step: String = sqlx::Row::get(&step, "detail");
            for table in ["releases", "known", "channels", "results", "own", "rival"] {
                assert!(!step.starts_with(&format!("SCAN {table}")), "{step} in {sql}");
            }
        }
    }
}
