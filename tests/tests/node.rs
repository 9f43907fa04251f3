//! The node's own defences, on the real heart of the node and with nothing else in the way: every batch that an honest
//! coordinator never sends is refused with its own word, and the same batch without the one change is signed. What it
//! defends of the log is in `gate.rs`.
//!
//! Invariants 1 (a quorum by the node's own roster), 4 (no nonce twice) and 11 (no roster from the coordinator).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rutli_keys::{KeyName, Roster};
use rutli_release::{Class, Timestamp, UnverifiedRelease, VerifiedRelease};
use rutli_signer_node::{
    Locked,
    clock::Reading,
    limits::{MAX_CLOCK_ERROR_S, MAX_OPEN_BATCHES},
    sign::{Signer, StreamId, Verdict},
};
use rutli_tests::hearts::{NOW, Nodes, STREAM, content, open, refusal, rehearse, release, shares_of};
use rutli_wire::link::{BatchId, CommitmentBytes, RefusalCode};

/// The honest batch is signed, and the signature is an ordinary one: without this no refusal below means anything.
#[test]
fn an_honest_batch_is_signed() {
    let mut nodes = Nodes::new();
    let batch = nodes.batch(&[0, 1, 3, 5], &[release(1)]);
    nodes.sign(&batch);
}

/// Invariant 4: a commitment that was used once is unknown afterwards, also under another message, another batch id and
/// another quorum. The share that leaked twice would give the key away.
#[test]
fn a_used_commitment_is_refused() {
    let mut nodes = Nodes::new();
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    assert_eq!(shares_of(&nodes.ask(3, &batch)).len(), 1);
    let used = batch.items.first().unwrap().commitments.clone();
    for (what, signers, content) in [
        ("the same message", [0, 1, 3, 4], release(1)),
        ("another message", [0, 1, 3, 4], release(2)),
        ("another quorum", [0, 2, 3, 4], release(3)),
    ] {
        let mut again = nodes.batch(&signers, &[content]);
        again.id = BatchId(99);
        let item = again.items.first_mut().unwrap();
        *item.commitments.get_mut(2).unwrap() = *used.get(2).unwrap();
        let reply = nodes.ask(3, &again);
        assert_eq!(refusal(&reply), RefusalCode::UnknownCommitment, "{what}");
        println!("a used commitment under {what}: {reply:?}");
    }
}

/// Invariant 4: one commitment for two signatures of one batch: at most one of them is computed, and nothing leaves.
#[test]
fn one_commitment_for_two_slots_is_refused() {
    let mut nodes = Nodes::new();
    let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1), release(2)]);
    let own = *batch.items.first().unwrap().commitments.get(2).unwrap();
    *batch.items.get_mut(1).unwrap().commitments.get_mut(2).unwrap() = own;
    let reply = nodes.ask(3, &batch);
    let items = reply.answer.unwrap();
    assert!(items.first().unwrap().is_ok());
    assert_eq!(items.get(1).unwrap().as_ref().unwrap_err().code, RefusalCode::UnknownCommitment);
}

/// A commitment that nobody announced, another node's, one of this node on another stream, one of an earlier stream, and
/// one of a node that forgot all of them: refused.
#[test]
fn unknown_and_foreign_commitments_are_refused() {
    let mut nodes = Nodes::new();
    let unknown = CommitmentBytes([9; 64]);
    let foreign = nodes.draw(5);
    let other_stream = StreamId(2);
    let mut rng = nodes.rng.clone();
    let elsewhere = open(nodes.signers.get_mut(3).unwrap(), other_stream, &mut rng).pop().unwrap();
    for (what, commitment) in
        [("unknown", unknown), ("another node's", foreign), ("another stream's", elsewhere)]
    {
        let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
        *batch.items.first_mut().unwrap().commitments.get_mut(2).unwrap() = commitment;
        assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::UnknownCommitment, "{what}");
    }
    // The stream ends and begins anew: its pool is gone.
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    let signer = nodes.signers.get_mut(3).unwrap();
    signer.stream_closed(STREAM);
    signer.stream_opened(STREAM);
    assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::UnknownCommitment);
    // A process that may have been copied forgets all.
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    nodes.signers.get_mut(4).unwrap().forget_nonces();
    assert_eq!(refusal(&nodes.ask(4, &batch)), RefusalCode::UnknownCommitment);
    // The others were asked for nothing wrong.
    let batch = nodes.batch(&[0, 1, 5, 4].map(|index| if index == 4 { 0 } else { index }), &[release(1)]);
    assert_eq!(refusal(&nodes.ask(5, &batch)), RefusalCode::WrongQuorum);
}

/// A batch that is sent again, word for word: no second share, whatever became of the first.
#[test]
fn a_replayed_batch_is_refused() {
    let mut nodes = Nodes::new();
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1), release(2)]);
    let first = nodes.ask(3, &batch).answer.unwrap();
    assert!(first.iter().all(Result::is_ok));
    let second = nodes.ask(3, &batch).answer.unwrap();
    assert!(second.iter().all(|item| item.as_ref().unwrap_err().code == RefusalCode::UnknownCommitment));
    // Nor on another stream.
    nodes.signers.get_mut(3).unwrap().stream_opened(StreamId(5));
    assert_eq!(refusal(&nodes.ask_on(3, StreamId(5), &batch)), RefusalCode::UnknownCommitment);
}

/// Also a batch that was refused for another reason costs its nonces: it cannot be asked for until it is permitted.
#[test]
fn a_refused_batch_uses_up_its_commitments() {
    let mut nodes = Nodes::new();
    let refused = nodes.batch(&[0, 1, 3, 4], &[content(1, 1, Some(NOW + 10))]);
    let refused = nodes.complete(3, &refused);
    let late = NOW + 11;
    let signer = nodes.signers.get_mut(3).unwrap();
    let pending = signer.receive(STREAM, refused.clone(), late);
    assert_eq!(refusal(&signer.release_shares(pending, Ok(()))), RefusalCode::ClockDiffers);
    // The very same batch, in time: policy would permit it, but its nonces are gone.
    assert_eq!(refusal(&nodes.ask(3, &refused)), RefusalCode::UnknownCommitment);
}

/// Invariant 11: the roster is the node's own. Another epoch, another key's, another deployment's and an invented one:
/// refused. (A roster's hash covers key, ceremony, epoch, thresholds and every share.)
#[test]
fn another_roster_is_refused() {
    let rehearsed = rehearse([1; 32], &["release", "release-2"]);
    let mut nodes = Nodes::with(&rehearsed);
    let next_epoch = next_epoch(&nodes.roster);
    let other_key = rehearsed.keys.rosters.get(1).unwrap().roster().hash();
    let other_deployment = rehearse([2; 32], &["release"]).keys.rosters.first().unwrap().roster().hash();
    let invented = rutli_keys::RosterHash::from_bytes([7; 32]);
    for (what, hash) in [
        ("the next epoch", next_epoch),
        ("another key", other_key),
        ("another deployment", other_deployment),
        ("invented", invented),
    ] {
        let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
        batch.roster = hash;
        assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::WrongRoster, "{what}");
    }
    let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    batch.key = KeyName::new("other").unwrap();
    assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::UnknownKey);
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    nodes.sign(&batch);
}

/// The roster is looked at again when shares leave: a key exchanged while the journal was written signs nothing that was
/// decided before.
#[test]
fn a_roster_exchanged_while_the_journal_is_written_is_refused() {
    let mut nodes = Nodes::new();
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    let batch = nodes.complete(3, &batch);
    let other = rehearse([2; 32], &["release"]);
    let signer = nodes.signers.get_mut(3).unwrap();
    let pending = signer.receive(STREAM, batch, NOW);
    let signed = other.keys.rosters.first().unwrap();
    let share = other.keys.shares.get(&(signer.me().clone(), signed.roster().key().clone())).unwrap();
    signer.install_key(signed.clone(), Locked::new(share.duplicate()).unwrap()).unwrap();
    assert_eq!(refusal(&signer.release_shares(pending, Ok(()))), RefusalCode::WrongRoster);
}

/// The hash of the same roster, one epoch later.
fn next_epoch(roster: &Roster) -> rutli_keys::RosterHash {
    let mut json: serde_json::Value = serde_json::from_slice(roster.encode()).unwrap();
    let epoch = json.get("epoch").and_then(serde_json::Value::as_u64).unwrap();
    *json.get_mut("epoch").unwrap() = (epoch + 1).into();
    // serde_json sorts keys as canonical JSON does.
    Roster::parse(json.to_string().as_bytes()).unwrap().hash()
}

/// Invariant 1: exactly a threshold of every organisation, in the roster's order, with this node among them. Everything
/// else is refused by every node that is asked, honest or not the others.
#[test]
fn a_wrong_quorum_is_refused() {
    let mut nodes = Nodes::new();
    let wrong: [(&str, &[u16]); 9] = [
        ("one vendor only", &[0, 1, 3]),
        ("one supervisor only", &[0, 3, 4]),
        ("no supervisor", &[3, 4]),
        ("all vendors and no supervisor", &[3, 4, 5]),
        ("no vendor", &[0, 1]),
        ("too many vendors", &[0, 1, 3, 4, 5]),
        ("too many supervisors", &[0, 1, 2, 3, 4]),
        ("this node alone", &[3]),
        ("nobody that exists", &[0, 1, 3, 17]),
    ];
    for (what, signers) in wrong {
        let own = *signers.iter().find(|index| **index < 6).unwrap();
        let existing: Vec<u16> = signers.iter().copied().filter(|index| *index < 6).collect();
        let mut batch = nodes.batch(&existing, &[release(1)]);
        batch.signers = signers.to_vec();
        if existing.len() < signers.len() {
            batch.items.first_mut().unwrap().commitments.push(CommitmentBytes([1; 64]));
        }
        let reply = nodes.ask(own, &batch);
        assert_eq!(refusal(&reply), RefusalCode::WrongQuorum, "{what}");
        println!("{what}: {:?}", reply.answer.unwrap_err().reason);
    }
    for (what, signers) in [("twice the same", [0, 1, 3, 3]), ("out of order", [1, 0, 4, 3])] {
        let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
        batch.signers = signers.to_vec();
        assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::WrongQuorum, "{what}");
    }
    let without_me = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    assert_eq!(refusal(&nodes.ask(5, &without_me)), RefusalCode::WrongQuorum);
    nodes.sign(&without_me);
}

/// What is signed follows from the typed request alone: time, allow-list, marks.
#[test]
fn what_policy_forbids_is_refused_and_journaled() {
    let mut nodes = Nodes::new();
    let other_product = |sequence| {
        let mut other = UnverifiedRelease::from(&release(sequence));
        other.product = "other".into();
        other.verify().unwrap()
    };
    let from_the_future = {
        let mut early = UnverifiedRelease::from(&release(9));
        early.issued_at = NOW + MAX_CLOCK_ERROR_S + 1;
        early.verify().unwrap()
    };
    let long_expired = {
        let mut expired = UnverifiedRelease::from(&content(7, 1, Some(NOW)));
        expired.issued_at = 1;
        expired.expires_at = Some(NOW - MAX_CLOCK_ERROR_S - 1);
        expired.verify().unwrap()
    };
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(5)]);
    nodes.sign(&batch);
    for (content, code) in [
        (other_product(6), RefusalCode::NotAllowed),
        (from_the_future, RefusalCode::OutOfTime),
        (long_expired, RefusalCode::OutOfTime),
        (release(4), RefusalCode::SequenceBehind),
        (content(5, 2, None), RefusalCode::SequenceConflict),
    ] {
        let batch = nodes.batch(&[0, 1, 3, 4], &[content]);
        let batch = nodes.complete(3, &batch);
        let signer = nodes.signers.get_mut(3).unwrap();
        let pending = signer.receive(STREAM, batch, NOW);
        let verdicts: Vec<_> = pending.records().iter().map(|record| record.verdict.clone()).collect();
        assert!(
            matches!(verdicts.as_slice(), [Verdict::Refused(refusal)] if refusal.code == code),
            "{verdicts:?}"
        );
        assert_eq!(refusal(&signer.release_shares(pending, Ok(()))), code);
    }
}

/// A clock that is ten minutes wrong is no reason to refuse anything for good: it waits, leaves no line, and is signed once
/// the clock is right. The answer says which time this node has.
#[test]
fn what_is_out_of_time_by_little_waits() {
    let mut nodes = Nodes::new();
    let minutes = 600;
    let early = {
        let mut early = UnverifiedRelease::from(&release(1));
        early.issued_at = NOW + minutes;
        early.verify().unwrap()
    };
    for (what, content) in [("issued later", early.clone()), ("expired just now", content(2, 1, Some(NOW)))] {
        let batch = nodes.batch(&[0, 1, 3, 4], &[content]);
        let batch = nodes.complete(3, &batch);
        let signer = nodes.signers.get_mut(3).unwrap();
        let pending = signer.receive(STREAM, batch, NOW);
        assert!(pending.records().is_empty(), "{what}: nothing is decided");
        let items = signer.release_shares(pending, Ok(())).answer.unwrap();
        let refusal = items.first().unwrap().as_ref().unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ClockDiffers, "{what}");
        assert!(
            refusal.code.waits() && refusal.reason.contains(&Timestamp(NOW).to_string()),
            "{what}: {refusal:?}"
        );
    }
    let batch = nodes.batch(&[0, 1, 3, 4], &[early]);
    let batch = nodes.complete(3, &batch);
    let signer = nodes.signers.get_mut(3).unwrap();
    let pending = signer.receive(STREAM, batch, NOW + minutes);
    assert_eq!(shares_of(&signer.release_shares(pending, Ok(()))).len(), 1);
}

/// Invariant 5: no share without its journal. If the record could not be made durable the batch is refused, its nonces
/// are gone, and the node stays closed until a write succeeds.
#[test]
fn without_a_journal_there_is_no_share() {
    let mut nodes = Nodes::new();
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    let batch = nodes.complete(3, &batch);
    let signer = nodes.signers.get_mut(3).unwrap();
    let pending = signer.receive(STREAM, batch.clone(), NOW);
    assert_eq!(pending.records().len(), 1);
    assert_eq!(refusal(&signer.release_shares(pending, Err("disk full".into()))), RefusalCode::Closed);
    assert_eq!(signer.status().condition.as_str(), "closed");
    assert!(signer.status().reason.contains("disk full"));
    let next = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    assert_eq!(refusal(&nodes.ask(3, &next)), RefusalCode::Closed);
    nodes.signers.get_mut(3).unwrap().reopen();
    // It was never durable, so it is journaled now.
    let again = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    let again = nodes.complete(3, &again);
    let signer = nodes.signers.get_mut(3).unwrap();
    let pending = signer.receive(STREAM, again, NOW);
    assert_eq!(pending.records().len(), 1);
    assert_eq!(shares_of(&signer.release_shares(pending, Ok(()))).len(), 1);
    assert_eq!(
        refusal(&nodes.ask(3, &batch)),
        RefusalCode::UnknownCommitment,
        "the nonces of the first are gone"
    );
}

/// What is no point of the group, or the identity, or of small order is refused in a foreign commitment (RFC 9591,
/// section 6.1); a share over it is never computed.
#[test]
fn bad_points_are_refused() {
    let mut nodes = Nodes::new();
    let mut identity = [0; 32];
    identity[0] = 1;
    // y = -1: a point of order 2.
    let mut order_two = [0xff; 32];
    order_two[0] = 0xec;
    order_two[31] = 0x7f;
    for (what, point) in [("no point", [2; 32]), ("identity", identity), ("order two", order_two)] {
        for half in [0, 32] {
            let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
            let foreign = batch.items.first_mut().unwrap().commitments.first_mut().unwrap();
            foreign.0.get_mut(half..half + 32).unwrap().copy_from_slice(&point);
            assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::Malformed, "{what}");
        }
    }
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    nodes.sign(&batch);
}

/// A paused or sealed node gives no share, and says which it is. What it refused is used up: the coordinator has thrown
/// those commitments away, and a pool that still held them would run dry on one side and look full on the other.
#[test]
fn paused_and_sealed_nodes_refuse() {
    let rehearsed = rehearse([1; 32], &["release"]);
    let mut nodes = Nodes::with(&rehearsed);
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    nodes.signers.get_mut(3).unwrap().pause("audit".into());
    assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::Paused);
    let signer = nodes.signers.get_mut(3).unwrap();
    let vouched = signer.gate().vouched(None, NOW).unwrap();
    signer.resume(vouched);
    assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::UnknownCommitment);
    let again = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    assert_eq!(shares_of(&nodes.ask(3, &again)).len(), 1);
    let signed = rehearsed.keys.rosters.first().unwrap();
    nodes.signers.get_mut(4).unwrap().install_sealed(signed.clone()).unwrap();
    assert_eq!(refusal(&nodes.ask(4, &batch)), RefusalCode::Sealed);
}

/// The time of every node here, so many milliseconds later.
fn later(ms: i64) -> Reading {
    let now = Reading::at(NOW);
    Reading { wall_ms: now.wall_ms + ms, monotonic_ms: now.monotonic_ms + ms, boot_ms: now.boot_ms + ms }
}

/// A release of another class or product, which no policy here permits.
fn other(class: Class, product: &str, sequence: u64) -> VerifiedRelease {
    let mut other = UnverifiedRelease::from(&release(sequence));
    (other.class, other.product) = (class, product.to_owned());
    other.verify().unwrap()
}

/// A batch has its time. What was decided by then is answered, the rest as undecided: no line is written for it, and its nonces
/// are used up like all others.
#[test]
fn what_is_not_decided_in_time_is_answered_so() {
    let mut nodes = Nodes::new();
    let releases: Vec<_> = (1..=20).map(release).collect();
    let batch = nodes.batch(&[0, 1, 3, 4], &releases);
    let batch = nodes.complete(3, &batch);
    let signer = nodes.signers.get_mut(3).unwrap();
    signer.open(STREAM, batch.clone(), later(0));
    let mut now = 0;
    let pending = loop {
        assert!(signer.decide_next(later(now)).is_some());
        now += 100;
        if let Some(pending) = signer.take_decided(later(now)).pop() {
            break pending;
        }
    };
    assert_eq!((now, pending.records().len()), (500, 5));
    assert!(!signer.is_deciding());
    let reply = signer.release_shares(pending, Ok(()));
    let items = reply.answer.unwrap();
    assert!(items.iter().take(5).all(Result::is_ok), "{items:?}");
    assert!(items.iter().skip(5).all(|item| item.as_ref().unwrap_err().code == RefusalCode::Undecided));
    assert_eq!((items.len(), reply.decision_ms), (20, vec![100; 5]));
    assert!(reply.witnessed.unwrap().cosignature.is_some());
    // The same batch word for word: each of its commitments is gone.
    let again = nodes.ask(3, &batch).answer.unwrap();
    assert!(again.iter().all(|item| item.as_ref().unwrap_err().code == RefusalCode::UnknownCommitment));
    // With fresh ones the rest is signed, as if it had never been asked for.
    let rest = nodes.batch(&[0, 1, 3, 4], releases.get(5..20).unwrap());
    assert!(nodes.ask(3, &rest).answer.unwrap().iter().all(Result::is_ok));
}

/// However long a decision takes, each answer has one.
#[test]
fn a_batch_is_never_answered_without_a_decision() {
    let mut nodes = Nodes::new();
    let (first, second) =
        (nodes.batch(&[0, 1, 3, 4], &[release(1)]), nodes.batch(&[0, 1, 3, 4], &[release(2), release(3)]));
    let (first, second) = (nodes.complete(3, &first), nodes.complete(3, &second));
    let signer = nodes.signers.get_mut(3).unwrap();
    signer.open(STREAM, first, later(0));
    signer.open(STREAM, second, later(0));
    signer.decide_next(later(0));
    assert!(signer.take_decided(later(9_000)).is_empty(), "another may share its write to the journal");
    signer.decide_next(later(9_000));
    let mut both = signer.take_decided(later(9_001));
    assert_eq!(both.len(), 2, "the first one is decided, though late");
    let pending = both.pop().unwrap();
    let items = signer.release_shares(pending, Ok(())).answer.unwrap();
    assert!(items.first().unwrap().is_ok() && items.get(1).unwrap().is_err(), "{items:?}");
}

/// Between two releases of a batch of product builds an AV database has its turn, and its answer; and another batch of builds has its
/// own before one that has taken long.
#[test]
fn an_av_database_is_decided_between_two_product_builds() {
    let mut nodes = Nodes::new();
    let slow: Vec<_> = (1..=8).map(|number| other(Class::ProductBuild, "slow", number)).collect();
    let database = |number| vec![other(Class::AvDatabase, "avdb", number)];
    let [slow, urgent, builds, more] = [slow, database(21), vec![release(31)], database(22)]
        .map(|releases| nodes.batch(&[0, 1, 3, 4], &releases))
        .each_ref()
        .map(|batch| nodes.complete(3, batch));
    let signer = nodes.signers.get_mut(3).unwrap();
    let mut now = 0;
    let mut decide = |signer: &mut Signer, takes: i64| {
        let decided = signer.decide_next(later(now)).unwrap().to_string();
        now += takes;
        (decided, signer.take_decided(later(now)).len())
    };
    signer.open(STREAM, slow, later(0));
    assert_eq!(decide(signer, 60), ("r-1".to_owned(), 0));
    signer.open(STREAM, builds, later(60));
    signer.open(STREAM, urgent, later(60));
    assert_eq!(decide(signer, 10), ("r-21".to_owned(), 1), "the database, and its answer at once");
    assert_eq!(decide(signer, 10), ("r-31".to_owned(), 1), "who has used less time");
    assert_eq!(decide(signer, 60), ("r-2".to_owned(), 0));
    signer.open(STREAM, more, later(140));
    assert_eq!(decide(signer, 10), ("r-22".to_owned(), 1));
    assert_eq!(decide(signer, 60), ("r-3".to_owned(), 0));
}

/// A stream that ends takes the open batches with it; a process that may have been copied forgets all; and more batches than a node takes
/// are answered at once.
#[test]
fn open_batches_end_with_their_nonces_and_are_bounded() {
    let mut nodes = Nodes::new();
    let open = |nodes: &mut Nodes, sequence| {
        let batch = nodes.batch(&[0, 1, 3, 4], &[release(sequence), release(sequence + 1)]);
        let batch = nodes.complete(3, &batch);
        nodes.signers.get_mut(3).unwrap().open(STREAM, batch, later(0));
    };
    open(&mut nodes, 1);
    let signer = nodes.signers.get_mut(3).unwrap();
    signer.decide_next(later(0));
    signer.stream_closed(STREAM);
    assert!(signer.take_decided(later(900)).is_empty() && !signer.is_deciding());

    let mut nodes = Nodes::new();
    open(&mut nodes, 1);
    let signer = nodes.signers.get_mut(3).unwrap();
    signer.forget_nonces();
    assert!(signer.take_all(later(900)).is_empty());

    let mut nodes = Nodes::new();
    let most = u64::try_from(MAX_OPEN_BATCHES).unwrap();
    (0..most).for_each(|number| open(&mut nodes, 1 + 2 * number));
    assert!(!nodes.signers.get(3).unwrap().has_room());
    open(&mut nodes, 1_000);
    let signer = nodes.signers.get_mut(3).unwrap();
    let all = signer.take_all(later(1));
    assert_eq!(all.len(), MAX_OPEN_BATCHES + 1);
    let answers: Vec<_> =
        all.into_iter().map(|pending| signer.release_shares(pending, Ok(())).answer).collect();
    assert_eq!(answers.last().unwrap().as_ref().unwrap_err().code, RefusalCode::Undecided);
    assert!(answers.iter().take(MAX_OPEN_BATCHES).all(Result::is_ok));
}
