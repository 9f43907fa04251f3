//! When a release was issued: the coordinator's word, within bounds that the node keeps to its own clock and log.

use rutli_release::Timestamp;

use super::*;

/// As the node's own check has it.
const SKEW: u64 = 300;

fn issued(sequence: u64, at: u64) -> VerifiedRelease {
    UnverifiedRelease { issued_at: at, ..UnverifiedRelease::from(&release(sequence)) }.verify().unwrap()
}

impl Story {
    /// The answer to an honest batch of a release that was issued at a time.
    async fn ask_issued(&mut self, sequence: u64, at: u64) -> Result<(), Refusal> {
        let batch = self.nodes.batch(&QUORUM, &[issued(sequence, at)]);
        let batch = self.nodes.complete(ME, &batch);
        self.ask(batch).await.answer.unwrap().remove(0).map(drop)
    }
}

#[tokio::test]
async fn a_release_is_not_dated_back_before_the_log_had_not_its_entry() {
    let mut story = Story::new().await;
    // A node that has seen one head knows nothing of the time before.
    story.ask_issued(1, NOW - 86_400).await.unwrap();
    // The log had no more entries than these when this node was last shown its head, at NOW.
    let head = story.nodes.log.head_for(story.nodes.size(ME));
    assert_eq!(story.show_at(&head, NOW + 1).await.1, None);
    for (sequence, at, code) in [
        (2, NOW - SKEW, None),
        (3, NOW - SKEW - 1, Some(RefusalCode::ClockDiffers)),
        (4, NOW - 86_401, Some(RefusalCode::OutOfTime)),
        (5, 1, Some(RefusalCode::OutOfTime)),
        (6, NOW + SKEW, None),
        (7, NOW + SKEW + 1, Some(RefusalCode::ClockDiffers)),
    ] {
        let answer = story.ask_issued(sequence, at).await;
        assert_eq!(answer.as_ref().err().map(|refusal| refusal.code), code, "{sequence}: {answer:?}");
        if code.is_some() && at < NOW {
            let reason = answer.unwrap_err().reason;
            assert!(reason.contains(&Timestamp(NOW).rfc3339()), "{reason}");
        }
    }
    // The journal has it: a restart changes nothing.
    story.restart().await;
    let again = story.ask_issued(8, NOW - SKEW - 1).await.unwrap_err();
    assert_eq!(again.code, RefusalCode::ClockDiffers, "{again:?}");
    story.ask_issued(9, NOW - SKEW).await.unwrap();
}

/// What was logged before the node looked is as old as it says: a release that waited for its evidence is signed.
#[tokio::test]
async fn a_release_that_waited_is_signed_under_the_date_that_it_has() {
    let mut story = Story::new().await;
    let batch = story.nodes.batch(&QUORUM, &[issued(1, NOW - 100)]);
    for later in [1, 3_601] {
        let head = story.nodes.log.head_for(story.nodes.size(ME));
        assert_eq!(story.show_at(&head, NOW + later).await.1, None);
    }
    let reached: Vec<_> =
        story.me().gate().state().reached.iter().map(|reached| (reached.at, reached.size)).collect();
    assert_eq!(reached, [(NOW, 4), (NOW + 1, 4)], "one an hour, each of the time before");
    assert_eq!(story.me().gate().not_logged_at(3), None, "it was in every head that was noted");
    assert_eq!(story.me().gate().not_logged_at(4), Some(NOW + 1));
    let batch = story.nodes.complete(ME, &batch);
    let pending = story.me().receive(STREAM, batch, NOW + 3_601);
    let items = story.me().release_shares(pending, Ok(())).answer.unwrap();
    assert!(items[0].is_ok(), "{items:?}");
}

/// A node that was suspended finds a head in its queue that is as old as that, and does not take it for one of now.
#[tokio::test]
async fn a_head_that_lay_in_the_queue_for_hours_dates_nothing() {
    let mut story = Story::new().await;
    let old = story.nodes.log.head_for(story.nodes.size(ME));
    let asleep = NOW + 3_700;
    assert_eq!(story.show_at(&old, asleep).await.1, None);
    // Logged while it slept, at an index that the old head does not have.
    let batch = story.nodes.batch(&QUORUM, &[issued(1, NOW + 600)]);
    let batch = story.nodes.complete(ME, &batch);
    let pending = story.me().receive(STREAM, batch, asleep);
    let items = story.me().release_shares(pending, Ok(())).answer.unwrap();
    assert!(items[0].is_ok(), "{items:?}");
}
