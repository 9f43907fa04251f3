//! Entries that are not what is to be signed.

use super::*;

#[tokio::test]
async fn a_request_that_names_no_entry_is_refused() {
    let mut story = Story::new().await;
    let mut batch = story.honest(1);
    batch.items[0].entry = None;
    story.refuses("no entry", batch, RefusalCode::NotLogged).await;
    let batch = story.honest(2);
    story.signs(batch).await;
}

#[tokio::test]
async fn an_entry_that_is_not_shown_to_be_in_the_log_is_refused() {
    let mut story = Story::new().await;
    let logged = |story: &mut Story, sequence| {
        let batch = story.honest(sequence);
        let entry = batch.items[0].entry.clone().unwrap();
        (batch, entry)
    };
    let terms = story.nodes.terms(&release(9));
    let unlogged = Entry::request(&release(9), &terms).leaf_hash();
    for sequence in 1..=6 {
        let (mut batch, mut entry) = logged(&mut story, sequence);
        let size = story.nodes.log.size();
        let what = match sequence {
            1 => {
                entry.index = size;
                "an index outside of the tree"
            }
            2 => {
                entry.index = 0;
                "another's place"
            }
            3 => {
                entry.proof = story.nodes.log.prove(0, size);
                "another's proof"
            }
            4 => {
                _ = story.nodes.log.append_leaf(Hash([60; 32]));
                batch.head = Some(story.nodes.log.head_for(story.nodes.size(ME)));
                "a proof under another head"
            }
            5 => {
                entry.proof = Vec::new();
                "no proof"
            }
            _ => {
                // The request for sequence 9 under the proof of the one for sequence 6.
                let wanted = story.nodes.batch(&QUORUM, &[release(9)]).items.remove(0);
                batch.items[0].release = wanted.release;
                batch.items[0].release_id = wanted.release_id;
                entry.leaf = unlogged;
                "a leaf that is not there"
            }
        };
        batch.items[0].entry = Some(entry);
        story.refuses(what, batch, RefusalCode::LogInclusion).await;
    }
    let batch = story.honest(20);
    story.signs(batch).await;
}

/// What is in the log is the request itself: this release, by this requester, under this roster and deadline, with its
/// evidence, plain or under its embargo. Each differs once.
#[tokio::test]
async fn an_entry_of_another_request_is_refused() {
    let mut story = Story::new().await;
    let embargo = Embargo { salt: Hash([70; 32]), disclose_by: DEADLINE };
    let other_salt = Embargo { salt: Hash([71; 32]), ..embargo };
    for (sequence, what) in [
        (1, "another release"),
        (2, "another requester"),
        (3, "another roster"),
        (4, "another deadline"),
        (5, "another name"),
        (6, "other evidence"),
        (7, "an embargo that is not named"),
        (8, "another salt"),
    ] {
        let mut batch = story.nodes.batch(&QUORUM, &[release(sequence)]);
        let mut wanted = release(sequence);
        let mut terms = story.nodes.terms(&wanted);
        match sequence {
            1 => wanted = release(99),
            2 => terms.requester = Requester::new("somebody-else").unwrap(),
            3 => terms.roster = Hash([72; 32]),
            4 => terms.deadline += 1,
            5 => terms.release_id = ReleaseId::new("r-99").unwrap(),
            6 => terms.evidence = vec![Hash([73; 32])],
            _ => terms.embargo = Some(embargo),
        }
        let mut entry = story.nodes.log.log_release(&wanted, &terms);
        entry.deadline = DEADLINE;
        entry.evidence = Vec::new();
        entry.embargo = (sequence == 8).then_some(other_salt);
        batch.items[0].entry = Some(entry);
        let batch = story.nodes.complete(ME, &batch);
        story.refuses(what, batch, RefusalCode::LogOtherEntry).await;
    }
    // A leaf that is no request at all.
    let index = story.nodes.log.append_leaf(Hash([74; 32]));
    let mut batch = story.nodes.batch(&QUORUM, &[release(9)]);
    let entry = batch.items[0].entry.as_mut().unwrap();
    (entry.index, entry.leaf) = (index, Hash([74; 32]));
    let batch = story.nodes.complete(ME, &batch);
    story.refuses("no request", batch, RefusalCode::LogOtherEntry).await;
    // Under its own embargo it is signed.
    let mut batch = story.nodes.batch(&QUORUM, &[release(10)]);
    let terms = rutli_log::entry::RequestTerms { embargo: Some(embargo), ..story.nodes.terms(&release(10)) };
    batch.items[0].entry = Some(story.nodes.log.log_release(&release(10), &terms));
    let batch = story.nodes.complete(ME, &batch);
    story.signs(batch).await;
}

impl Story {
    /// A batch whose entry, in the log as it should be, has these terms.
    fn under(&mut self, release: VerifiedRelease, deadline: u64, disclose_by: Option<u64>) -> Batch {
        let embargo = disclose_by.map(|disclose_by| Embargo { salt: Hash([70; 32]), disclose_by });
        let terms = RequestTerms { deadline, embargo, ..self.nodes.terms(&release) };
        let mut batch = self.nodes.batch(&QUORUM, std::slice::from_ref(&release));
        batch.items[0].entry = Some(self.nodes.log.log_release(&release, &terms));
        self.nodes.complete(ME, &batch)
    }
}

/// A deadline that never comes, or an embargo without an end: no monitor would ever ask what became of it.
#[tokio::test]
async fn an_entry_that_comes_due_in_nobodys_time_is_refused() {
    let mut story = Story::new().await;
    let skew = rutli_signer_node::limits::MAX_CLOCK_SKEW_S;
    let latest = |most: u64| NOW + most + skew;
    let long_ago = NOW - rutli_signer_node::limits::MAX_CLOCK_ERROR_S - 1;
    let (deadline, embargo) = (latest(MAX_DEADLINE_SECONDS), latest(MAX_EMBARGO_SECONDS));
    for (sequence, (what, deadline, disclose_by)) in (1..).zip([
        ("a deadline that is past", long_ago, None),
        ("a deadline at the beginning of time", 0, None),
        ("a deadline that is too far away", deadline + 1, None),
        ("a deadline at the end of numbers", MAX_TREE_SIZE, None),
        ("an embargo that is over", DEADLINE, Some(long_ago)),
        ("an embargo that is too long", DEADLINE, Some(embargo + 1)),
        ("an embargo for ever", DEADLINE, Some(MAX_TREE_SIZE)),
        ("both for ever", MAX_TREE_SIZE, Some(MAX_TREE_SIZE)),
    ]) {
        let batch = story.under(release(sequence), deadline, disclose_by);
        let refusal = story.refuses(what, batch, RefusalCode::LogTerms).await;
        assert!(refusal.reason.contains("compare the clocks"), "{}", refusal.reason);
    }
    // What is over by little may be over by this node's clock alone.
    for (sequence, (what, deadline, disclose_by)) in (10..).zip([
        ("a deadline that is just past", NOW - skew - 1, None),
        ("an embargo that is just over", DEADLINE, Some(NOW - skew - 1)),
    ]) {
        let batch = story.under(release(sequence), deadline, disclose_by);
        let (lines, reply) = (story.verdicts().await.len(), story.ask(batch).await);
        assert_eq!(refusal(&reply), RefusalCode::ClockDiffers, "{what}");
        assert_eq!(story.verdicts().await.len(), lines, "{what}: it waits, and leaves no line");
    }
    for (sequence, (deadline, disclose_by)) in (20..).zip([
        (NOW - skew, None),
        (deadline, None),
        (DEADLINE, Some(NOW - skew)),
        (deadline, Some(embargo)),
    ]) {
        let batch = story.under(release(sequence), deadline, disclose_by);
        story.signs(batch).await;
    }
}

/// What the log hides is signed only where a rule says so; the same release in the open is another matter.
#[tokio::test]
async fn an_embargo_that_no_rule_allows_is_refused() {
    let mut story = Story::new().await;
    let beta = |sequence| {
        let mut beta = UnverifiedRelease::from(&release(sequence));
        beta.channel = "beta".into();
        beta.verify().unwrap()
    };
    let batch = story.under(beta(1), DEADLINE, Some(DEADLINE));
    let reply = story.ask(batch).await;
    assert_eq!(refusal(&reply), RefusalCode::NotAllowed);
    assert_eq!(story.verdicts().await, ["not-allowed"]);
    let batch = story.under(beta(1), DEADLINE, None);
    story.signs(batch).await;
    let batch = story.under(release(1), DEADLINE, Some(DEADLINE));
    story.signs(batch).await;
}

/// The log comes before the node's own opinion: what is not logged is not even looked at.
#[tokio::test]
async fn what_is_not_logged_leaves_no_mark() {
    let mut story = Story::new().await;
    let mut batch = story.honest(50);
    batch.items[0].entry = None;
    story.refuses("unlogged", batch, RefusalCode::NotLogged).await;
    // A mark at 50 would put 49 behind it.
    let batch = story.honest(49);
    story.signs(batch).await;
}

/// In one batch each request stands for itself, but no cosignature goes with what the log does not have.
#[tokio::test]
async fn one_unlogged_request_costs_the_others_nothing_but_the_cosignature() {
    let mut story = Story::new().await;
    let mut batch = story.nodes.batch(&QUORUM, &[release(1), release(2)]);
    batch.items[0].entry = None;
    let batch = story.nodes.complete(ME, &batch);
    let reply = story.ask(batch).await;
    let items = reply.answer.unwrap();
    assert_eq!(items[0].as_ref().unwrap_err().code, RefusalCode::NotLogged);
    assert_eq!(items[1].as_ref().unwrap().len(), 1);
    assert_eq!(reply.witnessed.unwrap().cosignature, None);
    assert_eq!(story.verdicts().await, ["not-logged", "permitted"]);
}
