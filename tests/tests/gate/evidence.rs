//! Evidence that comes after the request: it counts only if the log says so, in the entry that the node encodes itself.

use rutli_policy::Rules;
use rutli_signer_node::policy::Change;
use rutli_tests::evidence::{ANNA, BEAT, approval, refusal as refused_by, rules};
use rutli_wire::link::LoggedEvidence;

use super::*;

const APPROVED: &str = r#"@id("approved") permit (principal, action == Action::"sign", resource) when { context.approvals >= 1 };"#;

impl Story {
    /// A node that wants an approval of each release.
    async fn approving() -> Self {
        let mut story = Self::new().await;
        let rules = Rules::parse(&rules(APPROVED)).unwrap();
        story.me().reload(Change::Rules(Box::new(rules)), NOW);
        story
    }

    /// A release, and its approval in the log as an honest coordinator has it. Not completed yet.
    fn approved(&mut self, sequence: u64) -> Batch {
        let mut batch = self.nodes.batch(&QUORUM, &[release(sequence)]);
        let document = approval(&batch.items[0], ANNA);
        self.nodes.bring(&mut batch.items[0], &[document]);
        batch
    }

    async fn wants(&mut self, what: &str, batch: Batch, words: &str) {
        let reply = self.ask(batch).await;
        let Ok(items) = &reply.answer else { panic!("{what}: {reply:?}") };
        let Err(Refusal { code, reason, .. }) = &items[0] else { panic!("{what}: signed") };
        assert_eq!(*code, RefusalCode::EvidenceMissing, "{what}: {reason}");
        assert!(reason.contains(words), "{what}: {reason}");
    }
}

fn added(batch: &mut Batch) -> &mut Vec<LoggedEvidence> {
    &mut batch.items[0].entry.as_mut().unwrap().added
}

#[tokio::test]
async fn an_approval_that_no_entry_names_does_not_count() {
    let mut story = Story::approving().await;
    let mut batch = story.approved(1);
    added(&mut batch).clear();
    let batch = story.nodes.complete(ME, &batch);
    story.wants("unlogged", batch, "the log does not name it").await;
    // Beside one that is named, another that is not.
    let mut batch = story.nodes.batch(&QUORUM, &[release(2)]);
    story.nodes.bring(&mut batch.items[0], &[b"something else".to_vec()]);
    let document = approval(&batch.items[0], ANNA);
    batch.items[0].evidence.push(document.into());
    let batch = story.nodes.complete(ME, &batch);
    story.wants("named is another", batch, "the log does not name it").await;
    let batch = story.approved(3);
    let batch = story.nodes.complete(ME, &batch);
    story.signs(batch).await;
}

/// Each lie about one entry costs the share and the cosignature, as for the request's own.
#[tokio::test]
async fn an_entry_of_evidence_that_is_not_so_in_the_log_is_refused() {
    let mut story = Story::approving().await;
    for (sequence, what, code) in [
        (1, "an index outside of the tree", RefusalCode::LogInclusion),
        (2, "another's place", RefusalCode::LogInclusion),
        (3, "no proof", RefusalCode::LogInclusion),
        (4, "a proof under another head", RefusalCode::LogInclusion),
        (5, "a leaf that is not there", RefusalCode::LogInclusion),
        (6, "brought by somebody else", RefusalCode::LogOtherEntry),
        (7, "at another time", RefusalCode::LogOtherEntry),
        (8, "another document", RefusalCode::LogOtherEntry),
        (9, "a document more", RefusalCode::LogOtherEntry),
        (10, "the request's own entry", RefusalCode::LogOtherEntry),
    ] {
        let batch = story.approved(sequence);
        let mut batch = story.nodes.complete(ME, &batch);
        let size = story.nodes.log.size();
        let request = batch.items[0].entry.clone().unwrap();
        let entry = &mut added(&mut batch)[0];
        match sequence {
            1 => entry.index = size,
            2 => entry.index = 0,
            3 => entry.proof = Vec::new(),
            4 => {
                _ = story.nodes.log.append_leaf(Hash([60; 32]));
                entry.proof = story.nodes.log.prove(entry.index, size + 1);
            }
            5 => entry.leaf = Hash([61; 32]),
            6 => entry.by = "custodian:beat".into(),
            7 => entry.time += 1,
            8 => entry.evidence = vec![Hash([62; 32])],
            9 => entry.evidence.push(Hash([63; 32])),
            _ => (entry.index, entry.leaf, entry.proof) = (request.index, request.leaf, request.proof),
        }
        story.refuses(what, batch, code).await;
    }
    let batch = story.approved(20);
    let batch = story.nodes.complete(ME, &batch);
    story.signs(batch).await;
}

/// The entry names the request, so that an approval of one is not shown as public for another.
#[tokio::test]
async fn an_entry_of_another_request_names_nothing_here() {
    let mut story = Story::approving().await;
    let mut first = story.approved(1);
    let mut second = story.nodes.batch(&QUORUM, &[release(2)]);
    second.items[0].evidence = vec![approval(&second.items[0], ANNA).into()];
    let digest = rutli_log::sha256(&second.items[0].evidence[0]);
    // What is approved is the second; what the log says is that it was added to the first.
    let request = first.items[0].entry.as_ref().unwrap().index;
    let wrong = story.nodes.log.log_evidence(request, "custodian:anna", vec![digest], NOW);
    added(&mut first).push(wrong.clone());
    added(&mut second).push(wrong);
    let second = story.nodes.complete(ME, &second);
    story.refuses("another request's evidence", second, RefusalCode::LogOtherEntry).await;
}

/// What the log names must be there, as for what came with the request: it may be a refusal.
#[tokio::test]
async fn a_document_that_the_log_names_cannot_be_kept_back() {
    let mut story = Story::approving().await;
    let mut batch = story.approved(1);
    let request = batch.items[0].entry.as_ref().unwrap().index;
    let refused = rutli_log::sha256(&refused_by(&batch.items[0], BEAT));
    let entry = story.nodes.log.log_evidence(request, "custodian:beat", vec![refused], NOW);
    added(&mut batch).push(entry);
    let batch = story.nodes.complete(ME, &batch);
    story.wants("kept back", batch, &refused.to_string()).await;
}

/// Taking trust back waits for nobody.
#[tokio::test]
async fn a_refusal_counts_before_it_is_in_the_log() {
    let mut story = Story::approving().await;
    let mut batch = story.approved(1);
    let refused = refused_by(&batch.items[0], BEAT);
    batch.items[0].evidence.push(refused.into());
    let batch = story.nodes.complete(ME, &batch);
    let reply = story.ask(batch).await;
    assert_eq!(refusal(&reply), RefusalCode::CustodianRefused, "{reply:?}");
}
