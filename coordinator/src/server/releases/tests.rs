//! Watchers of a release up to its proof.

use futures::StreamExt as _;
use prost::bytes::Bytes;
use rutli_log::Entry;

use super::*;
use crate::{
    bounds::Bounds,
    ceremonies::Ceremonies,
    config::Limits,
    evidence,
    log::publisher::Publisher,
    node_link::NodeLinks,
    share,
    store::Health,
    testing::{
        NOW, PATIENCE, attestation, copy_of, eventually, made,
        nodes::{Conduct, Core},
        owner, request,
    },
};

type States = BoxStream<'static, Result<v1::Release, Status>>;

async fn api(core: &Core) -> Api {
    let (sessions, stopping) = (core.sessions.clone(), tokio_util::sync::CancellationToken::new());
    let clock = core.signing.clock.clone();
    let ceremonies =
        Ceremonies::open(core.store.clone(), sessions.clone(), core.keyring.clone(), clock).await.unwrap();
    let links = NodeLinks {
        sessions,
        ceremonies: Arc::clone(&ceremonies),
        log: core.store.log().clone(),
        keyring: core.keyring.clone(),
        stopping: stopping.clone(),
        newest: std::sync::Mutex::default(),
    };
    let bounds = Bounds::new(&Limits::default());
    Api { signing: Arc::clone(&core.signing), ceremonies, links: Arc::new(links), bounds, stopping }
}

async fn watch(api: &Api, id: &str) -> States {
    let watched = api.watch(&Reader::Everything, owner("auditor:a"), id).await.unwrap();
    Box::pin(states(watched, api.stopping.clone(), Watched::next))
}

/// The next message in a state, whatever comes before it.
async fn until(states: &mut States, state: v1::ReleaseState) -> v1::Release {
    loop {
        let next = tokio::time::timeout(PATIENCE, states.next()).await.unwrap().unwrap().unwrap();
        if next.state() == state {
            return next;
        }
    }
}

/// Those of the pipeline `ci`.
async fn embargoes(core: &Core) -> u64 {
    let ci = rutli_release::Requester::new("ci").unwrap();
    core.store.embargoes(&ci, &owner("pipeline:ci")).await.unwrap().name
}

async fn is_silent(states: &mut States) -> bool {
    tokio::time::timeout(Duration::from_millis(200), states.next()).await.is_err()
}

async fn started() -> (tempfile::TempDir, Core, Publisher, Api) {
    let folder = tempfile::tempdir().unwrap();
    let (core, publisher) = Core::open(folder.path()).await.unwrap();
    let api = api(&core).await;
    (folder, core, publisher, api)
}

#[tokio::test]
async fn a_watcher_sees_the_signature_and_then_its_proof() {
    let (_folder, core, publisher, api) = started().await;
    let id = core.ask(request("job-1", 1)).await.unwrap().release_id;
    let mut early = watch(&api, &id).await;
    assert_eq!(early.next().await.unwrap().unwrap().state(), v1::ReleaseState::Queued);
    core.attach_all().await;
    let signed = until(&mut early, v1::ReleaseState::Signed).await;
    assert_eq!((signed.proven_at, signed.log_index), (0, 1));
    assert!(!signed.files.is_empty(), "the signature is there at once");
    assert!(is_silent(&mut early).await, "and the stream stays open");
    // One that comes now sees it signed, at once.
    let mut late = watch(&api, &id).await;
    let again = late.next().await.unwrap().unwrap();
    assert_eq!((again.state(), again.proven_at, &again.files), (v1::ReleaseState::Signed, 0, &signed.files));
    // A third one goes before the proof is there.
    let mut gone = watch(&api, &id).await;
    gone.next().await.unwrap().unwrap();
    drop(gone);

    let stop = tokio_util::sync::CancellationToken::new();
    let publishing = tokio::spawn(publisher.run(stop.clone()));
    for states in [&mut early, &mut late] {
        let proven = until(states, v1::ReleaseState::Signed).await;
        assert_eq!(proven.proven_at, NOW);
        assert_eq!(proven, core.stored(&id).await);
        assert_eq!(proven.files.len(), signed.files.len() + 2);
        assert!(states.next().await.is_none(), "the proof is the last word");
    }
    stop.cancel();
    publishing.await.unwrap();
    // Who comes when all is over hears it once.
    let mut last = watch(&api, &id).await;
    assert_eq!(last.next().await.unwrap().unwrap(), core.stored(&id).await);
    assert!(last.next().await.is_none());
}

#[tokio::test]
async fn a_proof_that_came_between_is_seen() {
    let (_folder, core, _publisher, api) = started().await;
    core.attach_all().await;
    let id = core.ask(request("job-1", 1)).await.unwrap().release_id;
    core.ended(&id).await;
    let stored = core.store.release(&ReleaseId::new(id.as_str()).unwrap()).await.unwrap().unwrap();
    let proof = v1::SignedFile { name: "proof".into(), data: vec![1].into() };
    // The watcher has read it signed, and the proof comes before its stream is read for the first time; nobody tells it.
    let mut between = watch(&api, &id).await;
    core.store.prove(vec![(stored.number, vec![proof.clone()])], NOW + 1).await.unwrap();
    let signed = between.next().await.unwrap().unwrap();
    assert_eq!((signed.state(), signed.proven_at), (v1::ReleaseState::Signed, 0), "at once");
    let seen = between.next().await.unwrap().unwrap();
    assert_eq!((seen.proven_at, seen.files.last()), (NOW + 1, Some(&proof)));
    assert!(between.next().await.is_none());
    // Said again, with other files: the first proof stands.
    core.store.prove(vec![(stored.number, Vec::new())], NOW + 9).await.unwrap();
    let kept = core.stored(&id).await;
    assert_eq!((kept.proven_at, kept.files.last()), (NOW + 1, Some(&proof)));
}

#[tokio::test]
async fn a_watcher_hears_of_the_end_while_it_waits_for_a_proof() {
    let (_folder, core, _publisher, api) = started().await;
    core.attach_all().await;
    let id = core.ask(request("job-1", 1)).await.unwrap().release_id;
    core.ended(&id).await;
    let mut states = watch(&api, &id).await;
    until(&mut states, v1::ReleaseState::Signed).await;
    api.stopping.cancel();
    let status = states.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(states.next().await.is_none());
}

#[tokio::test]
async fn an_embargo_ends_at_its_time_and_once() {
    let (_folder, core, _publisher, _api) = started().await;
    let hidden = |id: &str, sequence, until| v1::CreateReleaseRequest {
        embargo_until: until,
        ..request(id, sequence)
    };
    for (until, problem) in [(NOW, "later than now"), (NOW - 1, "later than now")] {
        let error = core.ask(hidden("job-0", 1, until)).await.unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let beyond = NOW + rutli_log::limits::MAX_EMBARGO_SECONDS + 1;
    assert!(core.ask(hidden("job-0", 1, beyond)).await.is_err());
    core.ask(hidden("job-1", 1, beyond - 1)).await.unwrap();
    let soon = core.ask(hidden("job-2", 2, NOW + 1)).await.unwrap();
    assert_eq!((soon.embargo_until, soon.log_index), (NOW + 1, 2));
    assert!(core.store.embargoed(NOW).await.unwrap().is_empty());
    let due = core.store.embargoed(NOW + 1).await.unwrap();
    assert_eq!((due.len(), &due[0].message.release_id), (1, &soon.release_id));
    for _ in 0..2 {
        core.signing.disclose(&ReleaseId::new(soon.release_id.as_str()).unwrap()).await.unwrap();
    }
    assert!(core.store.embargoed(NOW + 1).await.unwrap().is_empty());
    let staged = core.store.staged(0, u64::MAX).await.unwrap();
    assert_eq!(staged.entries.len(), 4, "a key, two requests, one disclosure");
    let (Entry::Embargoed(covered), Entry::Disclosure(disclosed)) =
        (Entry::parse(&staged.entries[2]).unwrap(), Entry::parse(&staged.entries[3]).unwrap())
    else {
        panic!("other entries")
    };
    assert!(disclosed.opens(&covered));
    assert_eq!(disclosed.request, 2);
    let nothing = core.signing.disclose(&ReleaseId::new("suite-9").unwrap()).await.unwrap_err();
    assert!(matches!(nothing, Error::NotFound { .. }));
}

#[tokio::test]
async fn an_embargo_is_ended_by_the_clock() {
    let (_folder, core, _publisher, api) = started().await;
    let hidden = v1::CreateReleaseRequest { embargo_until: NOW + 5, ..request("job-1", 1) };
    core.ask(hidden).await.unwrap();
    let size = core.store.log().size();
    let ending = tokio::spawn(Arc::clone(&core.signing).end_embargoes(api.stopping.clone()));
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert_eq!(*size.borrow(), 2, "not before its time");
    core.time.store(NOW + 5, std::sync::atomic::Ordering::Relaxed);
    tokio::time::timeout(PATIENCE, size.clone().wait_for(|size| *size == 3)).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert_eq!(*size.borrow(), 3, "once");
    api.stopping.cancel();
    ending.await.unwrap();
}

#[tokio::test]
async fn a_release_that_was_logged_for_another_key_ends_as_cancelled() {
    let (folder, core, _publisher, _api) = started().await;
    let ids = [request("job-1", 1), request("job-2", 2)].map(|message| core.ask(message));
    let ids = futures::future::try_join_all(ids).await.unwrap();
    let mut database = sqlx::ConnectOptions::connect(
        &sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join(crate::store::FILE_NAME)),
    )
    .await
    .unwrap();
    // As if the second had been admitted under an earlier key.
    let other = sqlx::query("UPDATE releases SET roster = $1, request_checksum = NULL WHERE release_id = $2");
    let other = other.bind("11".repeat(32)).bind(ids[1].release_id.clone());
    other.execute(&mut database).await.unwrap();
    // What kill -9 leaves behind; the releases of a process that goes on wait in it.
    let copy = copy_of(folder.path());
    let (core, _publisher) = Core::open(copy.path()).await.unwrap();
    assert_eq!(core.signing.resume().await.unwrap(), 2);
    assert_eq!(core.stored(&ids[0].release_id).await.log_index, 1, "as it was");
    core.attach_all().await;
    assert_eq!(core.ended(&ids[0].release_id).await.state(), v1::ReleaseState::Signed);
    let ended = core.ended(&ids[1].release_id).await;
    assert_eq!(
        (ended.state(), ended.log_index),
        (v1::ReleaseState::Cancelled, 2),
        "and nothing was logged anew"
    );
    assert_eq!(ended.refusals[0].code, "roster-changed");
    // Its end is in the log, and the next start finds nothing to do.
    let staged = core.store.staged(0, u64::MAX).await.unwrap();
    let cancelled = |entry: &Vec<u8>| match Entry::parse(entry).unwrap() {
        Entry::Outcome(outcome) => {
            outcome.state == rutli_log::entry::OutcomeState::Cancelled && outcome.request == 2
        }
        _ => false,
    };
    assert_eq!(staged.entries.iter().filter(|entry| cancelled(entry)).count(), 1);
    assert_eq!(core.signing.resume().await.unwrap(), 0);
}

#[tokio::test]
async fn one_pipeline_has_a_quarter_of_the_embargoes_that_monitors_keep_in_mind() {
    let (folder, core, _publisher, _api) = started().await;
    let hidden =
        |id: &str, sequence| v1::CreateReleaseRequest { embargo_until: NOW + 5, ..request(id, sequence) };
    core.ask(hidden("job-1", 1)).await.unwrap();
    let database =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join(crate::store::FILE_NAME));
    let mut database = sqlx::ConnectOptions::connect(&database).await.unwrap();
    let many = "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 2598) \
                INSERT INTO releases (release_id, requester, request_id, request_digest, product, channel, sequence, content, \
                signatures, created_at, state, log_index, roster, deadline, embargo_salt, disclose_by) \
                SELECT 'x-' || i, requester, 'x-' || i, request_digest, product, 'x', i, content, signatures, created_at, 6, i, \
                roster, deadline, embargo_salt, disclose_by FROM n, releases WHERE number = 1";
    sqlx::query(many).execute(&mut database).await.unwrap();
    assert_eq!(embargoes(&core).await, share::name_share(u64::from(limits::MAX_EMBARGOES)));
    let full = core.ask(hidden("job-2", 2)).await.unwrap_err();
    assert!(
        matches!(&full, Error::Full(full) if full.key == "max_embargoes" && full.whose == share::Whose::Name),
        "{full}"
    );
    core.ask(hidden("job-1", 1)).await.expect("what is admitted already is answered");
    core.ask(request("job-2", 2)).await.unwrap();
    sqlx::query("UPDATE releases SET disclosed_at = 1 WHERE log_index = 100")
        .execute(&mut database)
        .await
        .unwrap();
    core.ask(hidden("job-3", 3)).await.unwrap();
}

/// Also if it was closed so shortly that nobody looked.
#[tokio::test]
async fn what_a_failed_commit_left_behind_is_taken_up_when_the_store_is_open_again() {
    for looks in [true, false] {
        left_behind(looks).await;
    }
}

async fn left_behind(looks: bool) {
    let (folder, core, _publisher, _api) = started().await;
    let id = core.ask(request("job-1", 1)).await.unwrap().release_id;
    let copy = copy_of(folder.path());
    // Durable, and carried by nobody: as after a commit that happened, and of which the writer heard that it failed.
    let (core, _publisher) = Core::open(copy.path()).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let mut resuming = Box::pin(Arc::clone(&core.signing).resume_when_reopened(stop.clone()));
    let moment = Duration::from_millis(50);
    assert!(tokio::time::timeout(moment, &mut resuming).await.is_err(), "it waits");
    let mut health = core.store.health();
    let resuming = tokio::spawn(async move {
        if !looks {
            health.wait_for(|health| *health != Health::Open).await.unwrap();
            health.wait_for(|health| *health == Health::Open).await.unwrap();
        }
        resuming.await;
    });
    let database =
        sqlx::sqlite::SqliteConnectOptions::new().filename(copy.path().join(crate::store::FILE_NAME));
    let mut database = sqlx::ConnectOptions::connect(&database).await.unwrap();
    let head = core.store.log().newest();
    let moved = "UPDATE log_head SET checkpoint = $1";
    sqlx::query(moved).bind("elsewhere").execute(&mut database).await.unwrap();
    let refused = core.ask(request("job-2", 2)).await.unwrap_err();
    assert!(matches!(refused, Error::StoreClosed { .. }), "{refused}");
    assert!(core.waiting.follow(&ReleaseId::new(id.as_str()).unwrap()).is_none());
    sqlx::query(moved).bind(head.to_note()).execute(&mut database).await.unwrap();
    core.attach_all().await;
    assert_eq!(core.ended(&id).await.state(), v1::ReleaseState::Signed);
    let held = core.signing.admitting.write().await;
    let early = core.ask(request("job-3", 3)).await.unwrap_err();
    assert!(matches!(early, Error::NotYet { .. }), "a retry would find its release and carry it nowhere");
    drop(held);
    let next = core.ask(request("job-3", 3)).await.unwrap();
    assert_eq!(core.signing.resume().await.unwrap(), 0, "{} has its task", next.release_id);
    stop.cancel();
    resuming.await.unwrap();
}

/// A release with one piece of evidence, of which the supervisor's node wants so many; it has been asked.
async fn awaits_evidence(core: &Core, wants: usize) -> v1::Release {
    let first = vec![attestation("first")];
    let asked = core.ask(v1::CreateReleaseRequest { evidence: first, ..request("job-1", 1) }).await.unwrap();
    for name in ["vendor-1", "vendor-2"] {
        core.attach(name, Conduct::Honest).await;
    }
    let supervisor = core.attach("supervisor-1", Conduct::Wants(wants)).await;
    eventually("it is asked", async || !supervisor.offered.lock().unwrap().is_empty()).await;
    asked
}

async fn add(core: &Core, id: &str, name: &str) -> Result<()> {
    add_as(core, "custodian:clara", id, name).await
}

async fn add_as(core: &Core, submitter: &str, id: &str, name: &str) -> Result<()> {
    let stored = core.store.release(&ReleaseId::new(id).unwrap()).await.unwrap().unwrap();
    let documents = evidence::read(vec![attestation(name)], 1).await.unwrap();
    core.signing.add_evidence(stored, owner(submitter), documents).await
}

#[tokio::test]
async fn what_awaits_evidence_is_signed_once_it_has_come() {
    let (_folder, core, _publisher, _api) = started().await;
    let asked = awaits_evidence(&core, 2).await;
    add(&core, &asked.release_id, "first").await.unwrap();
    add(&core, &asked.release_id, "second").await.unwrap();
    let ended = core.ended(&asked.release_id).await;
    assert_eq!((ended.state(), ended.evidence.len()), (v1::ReleaseState::Signed, 2));
    let late = add(&core, &asked.release_id, "third").await.unwrap_err();
    assert!(matches!(late, Error::TooLate { .. }), "{late}");
    // An honest log, whose nodes check that the request's entry names what came with it.
    let mut auditor = rutli_log::Auditor::default();
    for entry in core.store.staged(0, u64::MAX).await.unwrap().entries {
        assert!(auditor.read(&Entry::parse(&entry).unwrap()).is_empty());
    }
    assert_eq!(auditor.open_requests(), 0);
}

#[tokio::test]
async fn evidence_is_taken_up_after_a_restart() {
    let (folder, core, _publisher, _api) = started().await;
    let asked = awaits_evidence(&core, 9).await;
    let before = copy_of(folder.path());
    add(&core, &asked.release_id, "second").await.unwrap();
    // At the one moment without it, at the other with it; nobody had to bring it again.
    let after = copy_of(folder.path());
    for (copy, pieces) in [(before, 1), (after, 2)] {
        let (core, _publisher) = Core::open(copy.path()).await.unwrap();
        assert_eq!(core.signing.resume().await.unwrap(), 1);
        assert_eq!(core.stored(&asked.release_id).await.evidence.len(), pieces);
        for name in ["vendor-1", "vendor-2"] {
            core.attach(name, Conduct::Honest).await;
        }
        core.attach("supervisor-1", Conduct::Wants(2)).await;
        if pieces == 1 {
            add(&core, &asked.release_id, "second").await.unwrap();
        }
        assert_eq!(core.ended(&asked.release_id).await.state(), v1::ReleaseState::Signed);
    }
}

/// A commit of which the writer heard that it failed, and that had happened: whoever brings it again has it taken to the nodes.
#[tokio::test]
async fn evidence_that_no_node_was_given_goes_to_them_when_it_is_brought_again() {
    let (_folder, core, _publisher, _api) = started().await;
    let asked = awaits_evidence(&core, 2).await;
    let stored =
        core.store.release(&ReleaseId::new(asked.release_id.as_str()).unwrap()).await.unwrap().unwrap();
    let documents = evidence::read(vec![attestation("second")], 1).await.unwrap();
    let new = crate::store::NewEvidence {
        number: stored.number,
        submitter: "custodian:clara".into(),
        at: NOW,
        charge: crate::testing::charge(NOW),
        documents,
    };
    core.store.add_evidence(new, |_| {}).await.unwrap();
    assert_eq!(core.stored(&asked.release_id).await.state(), v1::ReleaseState::Queued);
    add(&core, &asked.release_id, "second").await.unwrap();
    assert_eq!(core.ended(&asked.release_id).await.state(), v1::ReleaseState::Signed);
}

#[tokio::test]
async fn evidence_needs_room_and_an_open_store_as_releases_do() {
    let (_folder, core, _publisher, _api) = started().await;
    let id = core.ask(request("job-1", 1)).await.unwrap().release_id;
    let most = usize::try_from(Limits::default().waiting_bytes()).unwrap();
    let others = core.waiting.restore(&owner("pipeline:other"), most);
    let full = add_as(&core, "pipeline:ci", &id, "a").await.unwrap_err();
    assert!(matches!(full, Error::Full(_)), "{full}");
    // It may be a refusal of what fills the room.
    add(&core, &id, "b").await.unwrap();
    let with_it = v1::CreateReleaseRequest { evidence: vec![attestation("a")], ..request("job-2", 2) };
    assert!(matches!(core.ask(with_it).await, Err(Error::Full(_))));
    drop(others);
    let held = core.signing.admitting.write().await;
    let closed = add(&core, &id, "a").await.unwrap_err();
    assert!(matches!(closed, Error::NotYet { .. }), "{closed}");
    drop(held);
    assert_eq!(core.stored(&id).await.evidence.len(), 1);
    add(&core, &id, "a").await.unwrap();
    assert_eq!(core.stored(&id).await.evidence.len(), 2);
}

/// Megabytes of JSON: nobody has them read for a request that is refused anyway, and nobody takes all the turns.
#[tokio::test]
async fn documents_are_read_once_there_is_room_and_by_turns() {
    let (_folder, core, _publisher, _api) = started().await;
    let ask = async |documents: Vec<Bytes>| {
        core.ask(v1::CreateReleaseRequest { evidence: documents, ..request("job-1", 1) }).await
    };
    let rubbish = || vec![Bytes::from_static(b"no evidence")];
    assert!(matches!(ask(rubbish()).await, Err(Error::Field { field: "evidence", .. })), "it is read");
    let most = usize::try_from(Limits::default().waiting_bytes()).unwrap();
    let others = core.waiting.restore(&owner("pipeline:other"), most);
    assert!(matches!(ask(rubbish()).await, Err(Error::Full(_))), "no room in the queue");
    drop(others);

    let ci = owner("pipeline:ci");
    let turn = core.signing.reading.take(&ci, 1).unwrap();
    {
        let mut own = None;
        let first = core.signing.read_evidence(&ci, vec![attestation("a")], 1, &mut own);
        let mut first = std::pin::pin!(first);
        let wait = std::time::Duration::from_millis(100);
        assert!(
            tokio::time::timeout(wait, first.as_mut()).await.is_err(),
            "another of its requests is being read"
        );
        let other =
            core.signing.read_evidence(&owner("custodian:clara"), vec![attestation("b")], 1, &mut None).await;
        assert_eq!(other.unwrap().len(), 1);
        drop(turn);
        assert_eq!(first.await.unwrap().len(), 1);
    }

    let known = ask(vec![attestation("a")]).await.unwrap();
    let turn = core.signing.reading.take(&ci, 1).unwrap();
    let moment = std::time::Duration::from_secs(limits::TURN_SECONDS / 2);
    let again = tokio::time::timeout(moment, ask(vec![attestation("a")])).await;
    assert_eq!(again.unwrap().unwrap().release_id, known.release_id, "without waiting for a turn to read");
    drop(turn);
    let stored =
        core.store.release(&ReleaseId::new(known.release_id.as_str()).unwrap()).await.unwrap().unwrap();
    let bytes = Limits::default().bytes_per_hour() / 4 - (1 << 20);
    let charge = crate::store::Charge { owner: owner("pipeline:ci"), bytes, ..crate::testing::charge(NOW) };
    let documents = evidence::read(vec![attestation("c")], 1).await.unwrap();
    let new = crate::store::NewEvidence {
        number: stored.number,
        submitter: "pipeline:ci".into(),
        at: NOW,
        charge,
        documents,
    };
    core.store.add_evidence(new, |_| {}).await.unwrap();
    let large = || vec![Bytes::from(vec![b' '; 1 << 20])];
    let next = v1::CreateReleaseRequest { evidence: large(), ..request("job-2", 2) };
    assert!(matches!(core.ask(next).await, Err(Error::Full(_))), "nothing is left of the hour's budget");
    assert_eq!(ask(large()).await.unwrap().release_id, known.release_id, "what is admitted keeps its answer");
}

/// Many files take a while to check and to log: large requests of one name are admitted one after the other; small ones need not
/// wait.
#[tokio::test]
async fn large_requests_are_admitted_by_turns() {
    let (_folder, core, _publisher, _api) = started().await;
    let file = |number: u32| v1::Artifact { name: format!("{number}.bin"), sha256: vec![1; 32] };
    let large = || v1::CreateReleaseRequest {
        artifacts: (0..64).map(file).collect(),
        evidence: vec![attestation("a")],
        ..request("large", 1)
    };
    let moment = std::time::Duration::from_millis(300);
    for what in ["new", "known"] {
        let turn = core.signing.reading.take(&owner("pipeline:ci"), 1).unwrap();
        let mut waits = std::pin::pin!(core.ask(large()));
        assert!(tokio::time::timeout(moment, waits.as_mut()).await.is_err(), "{what}: another has its turn");
        core.ask(request(&format!("small-{what}"), 2)).await.unwrap();
        let too_large = v1::CreateReleaseRequest { artifacts: (0..5_001).map(file).collect(), ..large() };
        for wrong in [too_large, v1::CreateReleaseRequest { formats: vec![1; 4], ..large() }] {
            let refused = tokio::time::timeout(moment, core.ask(wrong)).await.unwrap().unwrap_err();
            assert!(matches!(refused, Error::Malformed(_)), "{refused}");
        }
        drop(turn);
        waits.await.unwrap();
    }
    // What waits for a turn keeps nobody from resuming what a failed commit left, and is not admitted meanwhile.
    let turn = core.signing.reading.take(&owner("pipeline:ci"), 1).unwrap();
    let next =
        v1::CreateReleaseRequest { request_id: "next".into(), sequence: 3, version: "1.3".into(), ..large() };
    let mut waits = std::pin::pin!(core.ask(next));
    assert!(tokio::time::timeout(moment, waits.as_mut()).await.is_err());
    let resuming = tokio::time::timeout(moment, core.signing.admitting.write()).await.unwrap();
    drop(turn);
    let refused = waits.await.unwrap_err();
    assert!(matches!(refused, Error::NotYet { .. }), "{refused}");
    drop(resuming);
    let other = v1::CreateReleaseRequest { version: "other".into(), ..large() };
    let reused = core.ask(other).await.unwrap_err();
    assert!(matches!(reused, Error::RequestIdReused { .. }), "{reused}");
}

/// The pipeline lost the answer, and asks again when what it asked for has expired, or its embargo is over.
#[tokio::test]
async fn a_retry_after_the_expiry_finds_its_release() {
    let (_folder, core, _publisher, _api) = started().await;
    let asked = |request_id: &str, sequence| v1::CreateReleaseRequest {
        expires_at: NOW + 5,
        embargo_until: NOW + 3,
        ..request(request_id, sequence)
    };
    let known = core.ask(asked("job-1", 1)).await.unwrap();
    core.time.store(NOW + 5, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(core.ask(asked("job-1", 1)).await.unwrap().release_id, known.release_id);
    let other = v1::CreateReleaseRequest { version: "other".into(), ..asked("job-1", 1) };
    assert!(matches!(core.ask(other).await, Err(Error::RequestIdReused { .. })));
    assert!(matches!(core.ask(asked("job-2", 2)).await, Err(Error::Malformed(_))), "what is new has expired");
}

/// A commitment is opened with the evidence that came with its request, although the request was logged long
/// before.
#[tokio::test]
async fn an_embargo_with_evidence_is_opened_whole() {
    let (folder, core, _publisher, _api) = started().await;
    let hidden = v1::CreateReleaseRequest {
        embargo_until: NOW + 5,
        evidence: vec![attestation("a"), attestation("b")],
        ..request("job-1", 1)
    };
    let asked = core.ask(hidden).await.unwrap();
    add(&core, &asked.release_id, "c").await.unwrap();
    let copy = copy_of(folder.path());
    let (core, _publisher) = Core::open(copy.path()).await.unwrap();
    let other = crate::testing::key();
    core.store.ceremony(made(&other)).await.unwrap();
    core.keyring.add(other);
    assert_eq!(core.signing.resume().await.unwrap(), 1);
    let due = core.store.embargoed(NOW + 5).await.unwrap();
    core.signing.disclose_stored(&due[0]).await.unwrap();
    let staged = core.store.staged(0, u64::MAX).await.unwrap();
    let entries: Vec<Entry> = staged.entries.iter().map(|entry| Entry::parse(entry).unwrap()).collect();
    let opened = entries
        .iter()
        .filter(|entry| matches!(entry, Entry::Disclosure(it) if it.opened.evidence.len() == 2));
    assert_eq!(opened.count(), 1);
    let evidence =
        entries.iter().filter(|entry| matches!(entry, Entry::Evidence(it) if it.evidence.len() == 1));
    assert_eq!(evidence.count(), 1, "what was added later, once");
    let mut auditor = rutli_log::Auditor::default();
    let codes = entries.iter().flat_map(|entry| auditor.read(entry)).map(|finding| finding.code);
    assert_eq!(codes.collect::<Vec<_>>(), [rutli_log::Code::KeyReused], "the test's own two ceremonies");
    assert_eq!(auditor.embargoes(), 0);
}
