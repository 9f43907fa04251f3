//! What a node decides by its custodian's own rules, over evidence that it verified itself: the real heart with its real
//! journal, and the test as a coordinator that keeps documents back, swaps them, replays them, or takes them away.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use rutli_keys::NodeId;
use rutli_log::{Hash, entry::RequestTerms};
use rutli_policy::Rules;
use rutli_release::{UnverifiedRelease, VerifiedRelease};
use rutli_signer_node::{
    Locked,
    gate::LogState,
    journal::Journal,
    policy::{Change, Policy},
    sign::{JournalRecord, Signer},
};
use rutli_tests::{
    evidence::{
        ANNA, BEAT, BUILDER, REBUILDER, STRANGER, approval, provenance, rebuild, refusal, rules, signer_line,
        tests,
    },
    hearts::{self, Deployment, NOW, Nodes, STREAM, content, key, rehearse, release},
};
use rutli_wire::link::{Batch, ItemReply, Refusal, RefusalCode};
use sqlx::Connection as _;
use tempfile::TempDir;

/// The supervisor's rules: built, built again, and approved by one of its own.
const REBUILT: &str = r#"
@id("rebuilt")
permit (principal, action == Action::"sign", resource)
when {
    resource.product == "suite" && context.builders.contains("ci") &&
    context.rebuilders.contains("rebuild") && context.approvals >= 1
};
"#;

const ANYTHING: &str = r#"@id("anything") permit (principal, action == Action::"sign", resource);"#;

/// vendor-1 in roster order.
const ME: u16 = 3;
const QUORUM: [u16; 4] = [0, 1, 3, 4];

struct Story {
    deployment: Deployment,
    nodes: Nodes,
    folder: TempDir,
    journal: Journal,
    files: BTreeMap<String, Vec<u8>>,
    now: u64,
}

impl Story {
    async fn new(files: BTreeMap<String, Vec<u8>>) -> Self {
        let deployment = rehearse([1; 32], &["release"]);
        let nodes = Nodes::with(&deployment);
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
        let mut story = Self { deployment, nodes, folder, journal, files, now: NOW };
        story.restart().await;
        story
    }

    /// The node ends without a word, and comes back with its files and what its journal has.
    /// By [`REBUILT`], with a release that its documents had permitted.
    async fn permitted() -> (Self, Batch, [Vec<u8>; 3]) {
        let mut story = Self::new(rules(REBUILT)).await;
        let batch = story.batch(&release(1));
        let item = batch.items[0].clone();
        let documents = [provenance(&item.release, BUILDER), rebuild(&item.release), approval(&item, ANNA)];
        assert!(story.with(&batch, &documents).await.is_ok());
        (story, batch, documents)
    }

    async fn restart(&mut self) {
        self.journal.close().await.unwrap();
        let (journal, recovered) = Journal::open(&self.folder.path().join("node.sqlite")).await.unwrap();
        self.journal = journal;
        let kept: LogState = self.journal.log(self.nodes.log.key().origin()).await.unwrap();
        let id: NodeId = self.nodes.roster.node(ME).unwrap().id.clone();
        let gate = hearts::gate(&self.deployment, &self.nodes.log, &id, kept);
        let rules = Rules::parse(&self.files).unwrap();
        let rates = self.journal.rates(self.now).await.unwrap();
        let policy = Policy::new(rules, self.now, rates, self.journal.refusals().await.unwrap());
        let mut reborn = Signer::new(id.clone(), policy, recovered.marks, gate, recovered.paused);
        let share = &self.deployment.keys.shares[&(id, key())];
        reborn
            .install_key(self.deployment.keys.rosters[0].clone(), Locked::new(share.duplicate()).unwrap())
            .unwrap();
        self.nodes.announced[usize::from(ME)] = hearts::open(&mut reborn, STREAM, &mut self.nodes.rng);
        self.nodes.signers[usize::from(ME)] = reborn;
    }

    /// The custodian changed the files.
    fn reload(&mut self, files: BTreeMap<String, Vec<u8>>) {
        let change = match Rules::parse(&files) {
            Ok(rules) => Change::Rules(Box::new(rules)),
            Err(error) => {
                let trust = Rules::parse_trust(&files).ok();
                let files = files.clone().into_iter().map(|(name, content)| (name, Some(content))).collect();
                Change::Broken { problem: error.to_string(), trust, files }
            }
        };
        if matches!(change, Change::Rules(_)) {
            self.files = files;
        }
        let now = self.now;
        self.me().reload(change, now);
    }

    /// One of them.
    fn change(&mut self, file: &str, text: &str) {
        let mut files = self.files.clone();
        files.insert(file.to_owned(), text.as_bytes().to_vec());
        self.reload(files);
    }

    fn me(&mut self) -> &mut Signer {
        &mut self.nodes.signers[usize::from(ME)]
    }

    /// A batch of one release, logged by an honest coordinator.
    fn batch(&mut self, release: &VerifiedRelease) -> Batch {
        self.nodes.batch(&QUORUM, std::slice::from_ref(release))
    }

    /// The same release again, in a batch of its own with these documents.
    fn again(&mut self, batch: &Batch, evidence: &[Vec<u8>]) -> Batch {
        let mut again = self.batch(&batch.items[0].release);
        self.nodes.bring(&mut again.items[0], evidence);
        again
    }

    async fn ask_all(&mut self, batch: &Batch) -> Vec<ItemReply> {
        let batch = self.nodes.complete(ME, batch);
        let now = self.now;
        let pending = self.me().receive(STREAM, batch, now);
        let records: Vec<&JournalRecord> = pending.records().iter().collect();
        self.journal.record(&records, pending.log()).await.unwrap();
        self.me().release_shares(pending, Ok(())).answer.unwrap()
    }

    async fn ask(&mut self, batch: &Batch) -> ItemReply {
        self.ask_all(batch).await.pop().unwrap()
    }

    /// What a release with these documents is answered.
    async fn with(&mut self, batch: &Batch, evidence: &[Vec<u8>]) -> ItemReply {
        let again = self.again(batch, evidence);
        self.ask(&again).await
    }

    async fn refuses(
        &mut self,
        what: &str,
        batch: &Batch,
        evidence: &[Vec<u8>],
        code: RefusalCode,
    ) -> String {
        match self.with(batch, evidence).await {
            Err(Refusal { code: found, reason, .. }) if found == code => reason,
            other => panic!("{what}: wanted {code}, got {other:?}"),
        }
    }

    /// A column of all decisions in the journal, in order.
    async fn column(&self, query: &'static str) -> Vec<String> {
        let path = format!("sqlite://{}", self.folder.path().join("node.sqlite").display());
        let mut connection = sqlx::SqliteConnection::connect(&path).await.unwrap();
        sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap()
    }
}

/// An honest way: the release waits with words for whom it waits, evidence comes piece by piece, and then it is signed. The
/// journal says by which policy and documents, and nothing of the waiting.
#[tokio::test]
async fn a_release_waits_for_its_evidence_and_is_signed_when_it_is_there() {
    let mut story = Story::new(rules(REBUILT)).await;
    let batch = story.batch(&release(1));
    let reason = story.refuses("nothing", &batch, &[], RefusalCode::EvidenceMissing).await;
    for word in ["provenance", "ci", "rebuild", "approval", "anna, beat", "rebuilt"] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    let item = batch.items[0].clone();
    let mut documents = vec![provenance(&item.release, BUILDER), rebuild(&item.release)];
    let reason = story.refuses("built", &batch, &documents, RefusalCode::EvidenceMissing).await;
    assert!(reason.contains("approval") && !reason.contains("provenance"), "{reason}");
    documents.push(approval(&item, ANNA));
    assert_eq!(story.with(&batch, &documents).await.unwrap().len(), 1);

    assert_eq!(story.column("SELECT verdict FROM decisions").await, ["permitted"]);
    assert_eq!(story.column("SELECT policies FROM decisions").await, [r#"["rebuilt"]"#]);
    let evidence = story.column("SELECT evidence FROM decisions").await;
    let digests: Vec<String> = serde_json::from_str(&evidence[0]).unwrap();
    let expected: Vec<String> = documents.iter().map(|document| hex::encode(sha256(document))).collect();
    assert_eq!(digests, expected);
    let digest = Rules::parse(&story.files).unwrap().digest();
    assert_eq!(story.column("SELECT lower(hex(rules)) FROM decisions").await, [hex::encode(digest)]);
}

/// Documents that say nothing about this very release, by keys that are trusted for it: they count for nothing, and fail
/// nothing; what is answered says which were not counted and why.
#[tokio::test]
async fn stripped_swapped_replayed_and_foreign_evidence_gives_nothing() {
    let mut story = Story::new(rules(REBUILT)).await;
    let batch = story.batch(&release(1));
    let other = story.batch(&content(2, 7, None)).items[0].clone();
    let item = batch.items[0].clone();
    let good = vec![provenance(&item.release, BUILDER), rebuild(&item.release), approval(&item, ANNA)];
    // Another content, asked for under the same name.
    let mut renamed = other.clone();
    renamed.release_id = item.release_id.clone();
    let mut broken = approval(&item, ANNA);
    let place = broken.len() - 60;
    broken[place] ^= 1;
    for (what, place, document, why) in [
        ("another release's provenance", 0, provenance(&other.release, BUILDER), "contradicts the release"),
        ("a provenance by a stranger", 0, provenance(&item.release, STRANGER), "no signature of it verifies"),
        ("a provenance by the rebuilder's key", 0, provenance(&item.release, REBUILDER), "may not speak for"),
        ("another release's rebuild", 1, rebuild(&other.release), "contradicts the release"),
        ("the provenance twice", 1, good[0].clone(), ""),
        ("another release's approval", 2, approval(&other, ANNA), "it is about the release"),
        ("an approval of this name's other content", 2, approval(&renamed, ANNA), "another statement"),
        ("a stranger's approval", 2, approval(&item, STRANGER), "no custodian's"),
        ("a damaged approval", 2, broken, ""),
        ("rubbish", 2, b"{\"payload\": [[[[".to_vec(), "not counted: the document"),
        ("nothing at all", 2, Vec::new(), "not counted: the document"),
    ] {
        let mut documents = good.clone();
        documents[place] = document;
        let reason = story.refuses(what, &batch, &documents, RefusalCode::EvidenceMissing).await;
        assert!(reason.contains(why), "{what}: {reason}");
    }
    for place in 0..good.len() {
        let mut documents = good.clone();
        documents.remove(place);
        story.refuses("stripped", &batch, &documents, RefusalCode::EvidenceMissing).await;
    }
    // Rubbish beside what is needed does no harm, and one item's rubbish none to another item.
    let mut documents = good.clone();
    documents.insert(0, vec![0xff; 70_000]);
    let mut both = story.nodes.batch(&QUORUM, &[release(1), release(2)]);
    story.nodes.bring(&mut both.items[0], &documents);
    story.nodes.bring(&mut both.items[1], &good);
    let replies = story.ask_all(&both).await;
    assert!(replies[0].is_ok(), "{replies:?}");
    assert_eq!(replies[1].as_ref().unwrap_err().code, RefusalCode::EvidenceMissing);
}

/// What came with the request is named in its entry in the log: without it nothing is signed, for it may be a refusal.
#[tokio::test]
async fn evidence_that_the_log_names_cannot_be_kept_back() {
    let mut story = Story::new(rules(ANYTHING)).await;
    let wanted = release(1);
    let mut batch = story.batch(&wanted);
    let refused = refusal(&batch.items[0], STRANGER);
    let terms = RequestTerms { evidence: vec![Hash(sha256(&refused))], ..story.nodes.terms(&wanted) };
    batch.items[0].entry = Some(story.nodes.log.log_release(&wanted, &terms));
    let Err(Refusal { code, reason, .. }) = story.ask(&batch).await else { panic!("signed") };
    assert_eq!(code, RefusalCode::EvidenceMissing, "{reason}");
    assert!(reason.contains(&hex::encode(sha256(&refused))), "{reason}");
    let mut whole = story.batch(&wanted);
    whole.items[0].entry = Some(story.nodes.log.log_release(&wanted, &terms));
    whole.items[0].evidence = vec![refused.into()];
    assert!(story.ask(&whole).await.is_ok(), "that it counts for nothing does not matter");
}

/// The same answer at the hundredth time: what is remembered of documents never turns into more than they say.
#[tokio::test]
async fn what_is_remembered_of_a_document_holds_for_its_release_alone() {
    let (mut story, _, documents) = Story::permitted().await;
    // Its documents with the next release, of which only the approval is its own.
    let next = story.batch(&content(2, 9, None));
    let own = approval(&next.items[0], ANNA);
    let replayed = [documents[0].clone(), documents[1].clone(), own];
    for _ in 0..2 {
        let reason = story.refuses("replayed", &next, &replayed, RefusalCode::EvidenceMissing).await;
        assert!(reason.contains("contradicts the release"), "{reason}");
    }
}

/// The approver's key is taken out of the file between two batches of one release: the second gets no share, though the
/// release was permitted durably. The same for a key that ran out.
#[tokio::test]
async fn an_approver_who_is_revoked_between_two_batches_stops_the_second() {
    let (mut story, batch, documents) = Story::permitted().await;
    let trusted = story.files.clone();

    story.change("allowed_signers", &signer_line("beat", BEAT, ""));
    let reason = story.refuses("anna is gone", &batch, &documents, RefusalCode::EvidenceMissing).await;
    assert!(reason.contains("approval of beat") && reason.contains("no custodian's"), "{reason}");

    // 2027-01-15T08:00:00Z is now.
    story.change("allowed_signers", &signer_line("anna", ANNA, "valid-before=\"20270115083000Z\""));
    story.now += 1_800;
    assert!(story.with(&batch, &documents).await.is_ok());
    story.now += 1;
    let reason = story.refuses("it ran out", &batch, &documents, RefusalCode::EvidenceMissing).await;
    assert!(reason.contains("was valid until 2027-01-15T08:30:00Z"), "{reason}");

    story.reload(trusted);
    assert!(story.with(&batch, &documents).await.is_ok(), "and back");
    assert_eq!(
        story.column("SELECT verdict FROM decisions").await,
        ["permitted"],
        "once, and nothing of the waiting"
    );
}

/// What a document established under a key that is gone is not remembered.
#[tokio::test]
async fn an_attester_who_is_revoked_between_two_batches_stops_the_second() {
    const FROM_SOURCE: &str = r#"
        @id("from-source")
        permit (principal, action == Action::"sign", resource)
        when { context.sourceUris.contains("https://source.example/suite.tar.gz") };
    "#;
    let mut story = Story::new(rules(FROM_SOURCE)).await;
    let batch = story.batch(&release(1));
    let documents = [provenance(&batch.items[0].release, BUILDER)];
    assert!(story.with(&batch, &documents).await.is_ok());
    story.change("trust.toml", "");
    let reason = story.refuses("ci is gone", &batch, &documents, RefusalCode::NotAllowed).await;
    assert!(
        reason.contains("not counted: the build") && reason.contains("no signature of it verifies"),
        "{reason}"
    );
}

/// A custodian's refusal holds for good: without the document, beside all that would permit it, under another name, in other
/// formats, and over a restart. A stranger's refuses nothing.
#[tokio::test]
async fn a_refusal_is_remembered_when_its_document_is_taken_away() {
    let mut story = Story::new(rules(ANYTHING)).await;
    let batch = story.batch(&release(1));
    let item = batch.items[0].clone();
    assert!(story.with(&batch, &[refusal(&item, STRANGER)]).await.is_ok());
    let refused = [refusal(&item, BEAT), approval(&item, ANNA)];
    let reason = story.refuses("beat refuses", &batch, &refused, RefusalCode::CustodianRefused).await;
    assert!(reason.contains("beat") && reason.contains("the changelog is wrong"), "{reason}");
    story.refuses("taken away", &batch, &[], RefusalCode::CustodianRefused).await;
    story
        .refuses("an approval instead", &batch, &[approval(&item, ANNA)], RefusalCode::CustodianRefused)
        .await;

    story.restart().await;
    let reason = story.refuses("after a restart", &batch, &[], RefusalCode::CustodianRefused).await;
    assert!(reason.contains("beat") && reason.contains("the changelog is wrong"), "{reason}");
    let mut other_formats = UnverifiedRelease::from(&release(1));
    other_formats.formats = vec![rutli_release::Format::Dsse, rutli_release::Format::Sshsig];
    let other_formats = story.batch(&other_formats.verify().unwrap());
    story.refuses("other formats", &other_formats, &[], RefusalCode::CustodianRefused).await;
    // Whoever speaks to the custodian and asks anew asks for other files.
    let anew = story.batch(&content(2, 8, None));
    assert!(story.with(&anew, &[]).await.is_ok());
    let kept = story.column("SELECT custodian || ': ' || reason FROM custodian_refusals").await;
    assert_eq!(kept, ["beat: the changelog is wrong"], "written once");
}

/// Whatever else the release says, it is refused as long as it is of that product and has one of the refused files: a second later,
/// under the next sequence, another version, with an expiry, a file less, a file more, and over a restart.
#[tokio::test]
async fn nothing_but_other_files_evades_a_refusal() {
    let mut story = Story::new(rules(ANYTHING)).await;
    let of = |sequence: u64, files: &[u8], change: &dyn Fn(&mut UnverifiedRelease)| {
        let mut release = UnverifiedRelease::from(&content(sequence, 1, None));
        release.artifacts = files
            .iter()
            .map(|byte| rutli_release::UnverifiedArtifact {
                name: format!("{byte}.bin"),
                sha256: vec![*byte; 32],
            })
            .collect();
        change(&mut release);
        release.verify().unwrap()
    };
    let batch = story.batch(&of(1, &[1, 2], &|_| {}));
    let document = refusal(&batch.items[0], BEAT);
    story.refuses("it", &batch, std::slice::from_ref(&document), RefusalCode::CustodianRefused).await;
    for restart in [false, true] {
        if restart {
            story.restart().await;
        }
        for (what, release) in [
            ("a second later", of(1, &[1, 2], &|release| release.issued_at += 1)),
            ("the next sequence", of(2, &[1, 2], &|_| {})),
            ("another version", of(1, &[1, 2], &|release| release.version = "9".into())),
            ("another channel", of(1, &[1, 2], &|release| release.channel = "beta".into())),
            ("with an expiry", of(1, &[1, 2], &|release| release.expires_at = Some(NOW + 9_999))),
            ("a file less", of(2, &[2], &|_| {})),
            ("a file more", of(2, &[2, 3], &|_| {})),
            ("another class", of(2, &[1], &|release| release.class = rutli_release::Class::AvDatabase)),
        ] {
            let batch = story.batch(&release);
            let reason = story.refuses(what, &batch, &[], RefusalCode::CustodianRefused).await;
            assert!(reason.contains("beat") && reason.contains("suite"), "{what}: {reason}");
        }
    }
    // A document of another release with these files refuses here too, whoever brings it.
    story.change("policy.cedar", ANYTHING);
    let other = story.batch(&of(3, &[3], &|_| {}));
    assert!(story.with(&other, std::slice::from_ref(&document)).await.is_ok(), "none of the files");
    let mut product = UnverifiedRelease::from(&of(1, &[1], &|_| {}));
    product.product = "other".into();
    let product = story.batch(&product.verify().unwrap());
    assert!(story.with(&product, &[document]).await.is_ok(), "another product");
}

/// What a refused release shares with an earlier one that this node permitted is not taken back with it.
#[tokio::test]
async fn a_refusal_leaves_files_of_earlier_releases_alone() {
    let mut story = Story::new(rules(ANYTHING)).await;
    let with = |sequence: u64, files: &[u8]| {
        let mut release = UnverifiedRelease::from(&content(sequence, 1, None));
        release.artifacts.remove(0);
        release.artifacts.extend(files.iter().map(|byte| rutli_release::UnverifiedArtifact {
            name: format!("{byte}.bin"),
            sha256: vec![*byte; 32],
        }));
        release.verify().unwrap()
    };
    let first = story.batch(&with(1, &[1]));
    assert!(story.with(&first, &[]).await.is_ok());
    let second = story.batch(&with(2, &[1, 2]));
    story
        .refuses("the new file", &second, &[refusal(&second.items[0], ANNA)], RefusalCode::CustodianRefused)
        .await;
    story.restart().await;
    let third = story.batch(&with(3, &[1, 3]));
    assert!(story.with(&third, &[]).await.is_ok(), "shares only what was permitted before");
    let fourth = story.batch(&with(4, &[2, 3]));
    story.refuses("the refused file", &fourth, &[], RefusalCode::CustodianRefused).await;
    // All of it was permitted before: then all of it is refused.
    let again = story.batch(&with(5, &[1, 3]));
    story
        .refuses("old files", &again, &[refusal(&again.items[0], ANNA)], RefusalCode::CustodianRefused)
        .await;
    let later = story.batch(&with(6, &[3]));
    story.refuses("one of them", &later, &[], RefusalCode::CustodianRefused).await;
}

/// If the refusal could not be written, it is written when it comes again, with the document or without.
#[tokio::test]
async fn a_refusal_is_written_until_it_is_durable() {
    let mut story = Story::new(rules(ANYTHING)).await;
    let batch = story.batch(&release(1));
    let with = story.again(&batch, &[refusal(&batch.items[0], ANNA)]);
    let with = story.nodes.complete(ME, &with);
    let pending = story.me().receive(STREAM, with, NOW);
    assert!(!pending.records()[0].refused_by.is_empty());
    story.me().release_shares(pending, Err("disk full".into())).answer.unwrap_err();
    story.me().reopen();
    story.refuses("taken away", &batch, &[], RefusalCode::CustodianRefused).await;
    assert_eq!(story.column("SELECT custodian FROM custodian_refusals").await, ["anna"]);
    story.restart().await;
    story.refuses("after a restart", &batch, &[], RefusalCode::CustodianRefused).await;
}

/// Two releases in an hour: the third waits for a quieter one. A release that comes again is not counted again, a restart
/// frees nothing, and neither does a clock that goes back.
#[tokio::test]
async fn rates_are_the_nodes_own_and_survive_a_restart() {
    const TWO: &str = r#"
        @id("few") permit (principal, action == Action::"sign", resource)
        when { context.releasesInHour <= 2 && context.artifactsInHour <= 2 };
    "#;
    let mut story = Story::new(rules(TWO)).await;
    let (first, second) = (story.batch(&release(1)), story.batch(&release(2)));
    for batch in [&first, &first, &second, &first, &second] {
        assert!(story.with(batch, &[]).await.is_ok());
    }
    let third = story.batch(&release(3));
    let reason = story.refuses("the third", &third, &[], RefusalCode::NotYet).await;
    assert!(reason.contains("3 releases and 3 files"), "{reason}");
    story.restart().await;
    story.refuses("the third after a restart", &third, &[], RefusalCode::NotYet).await;
    assert!(story.with(&second, &[]).await.is_ok(), "the second is still one of the two");
    story.now -= 30;
    story.refuses("a clock that was set back", &third, &[], RefusalCode::NotYet).await;
    story.restart().await;
    story.refuses("and a restart under it", &third, &[], RefusalCode::NotYet).await;
    story.now = NOW + 3_599;
    story.refuses("within the hour", &third, &[], RefusalCode::NotYet).await;
    story.now = NOW + 3_660;
    assert!(story.with(&third, &[]).await.is_ok(), "afterwards");
    story.restart().await;
    let fourth = story.batch(&release(4));
    assert!(
        story.with(&fourth, &[]).await.is_ok(),
        "what is older than an hour is not counted after a restart"
    );
}

/// A node that boots with a clock that is hours ahead, before the time service sets it right, has not forgotten its rate.
#[tokio::test]
async fn a_clock_that_is_ahead_at_the_start_frees_no_rate() {
    const ONE: &str = r#"@id("one") permit (principal, action == Action::"sign", resource) when { context.releasesInHour <= 1 };"#;
    let mut story = Story::new(rules(ONE)).await;
    let (first, second) = (story.batch(&release(1)), story.batch(&release(2)));
    assert!(story.with(&first, &[]).await.is_ok());
    story.now = NOW + 10 * 3_600;
    story.restart().await;
    story.now = NOW + 60;
    story.refuses("the second", &second, &[], RefusalCode::NotYet).await;
}

/// Several releases of one batch count for each other, before anything is durable.
#[tokio::test]
async fn a_batch_does_not_outrun_the_rate() {
    const ONE: &str = r#"@id("one") permit (principal, action == Action::"sign", resource) when { context.releasesInHour <= 1 };"#;
    let mut story = Story::new(rules(ONE)).await;
    let batch = story.nodes.batch(&QUORUM, &[release(1), release(2), release(3)]);
    let codes: Vec<_> = story
        .ask_all(&batch)
        .await
        .into_iter()
        .map(|reply| reply.map_err(|refusal| refusal.code).err())
        .collect();
    assert_eq!(codes, [None, Some(RefusalCode::NotYet), Some(RefusalCode::NotYet)]);
}

#[tokio::test]
async fn time_windows_are_by_the_nodes_clock() {
    const LATE: &str = r#"
        @id("always") permit (principal, action == Action::"sign", resource);
        @id("not-early") @reason("after half past eight") forbid (principal, action, resource)
        unless { context.time.minuteOfDay >= 510 };
    "#;
    let mut story = Story::new(rules(LATE)).await;
    let batch = story.batch(&release(1));
    let reason = story.refuses("at eight", &batch, &[], RefusalCode::NotYet).await;
    assert!(reason.contains("not before 2027-01-15T08:30:00Z"), "{reason}");
    story.now += 1_800;
    assert!(story.with(&batch, &[]).await.is_ok());
}

/// The sequence that policies compare with is the node's own mark; for a release that comes again, that of before it.
#[tokio::test]
async fn policies_see_the_nodes_own_mark() {
    const NEXT: &str = r#"
        @id("the-next") permit (principal, action == Action::"sign", resource)
        when { if context has previousSequence then resource.sequence == context.previousSequence + 1 else true };
    "#;
    let mut story = Story::new(rules(NEXT)).await;
    let five = story.batch(&release(5));
    assert!(story.with(&five, &[]).await.is_ok(), "the first is any");
    let seven = story.batch(&release(7));
    story.refuses("one is left out", &seven, &[], RefusalCode::NotAllowed).await;
    let six = story.batch(&release(6));
    assert!(story.with(&six, &[]).await.is_ok());
    assert!(story.with(&six, &[]).await.is_ok(), "again");
    story.restart().await;
    assert!(story.with(&six, &[]).await.is_ok(), "again, after a restart");
    assert!(story.with(&seven, &[]).await.is_ok());
    // Whatever policies say, a sequence never goes back, and has one content.
    story.change("policy.cedar", ANYTHING);
    let behind = story.batch(&release(2));
    story.refuses("behind", &behind, &[], RefusalCode::SequenceBehind).await;
    let other = story.batch(&content(7, 9, None));
    story.refuses("other content", &other, &[], RefusalCode::SequenceConflict).await;
}

/// Every fact that comes from the request itself reaches the policies.
#[tokio::test]
async fn policies_see_the_request_as_it_is() {
    let mut story = Story::new(rules(ANYTHING)).await;
    let batch = story.batch(&release(5));
    for (condition, holds) in [
        (r#"principal == Requester::"pipeline""#, true),
        (r#"principal == Requester::"somebody""#, false),
        (r#"resource.class == Class::"product-build""#, true),
        (r#"resource.class == Class::"av-database""#, false),
        (r#"resource.product == "suite" && resource.channel == "stable" && resource.version == "1.5""#, true),
        (r#"resource.sequence == 5 && resource.artifacts == 1"#, true),
        (r#"context.embargoed"#, false),
        (r#"context.approvals == 0 && context.releasesInHour == 1 && context.artifactsInHour == 1"#, true),
        (r#"context.time.unix == 1800000000"#, true),
    ] {
        story.change(
            "policy.cedar",
            &format!(
                "@id(\"it\") permit (principal, action == Action::\"sign\", resource) when {{ {condition} }};"
            ),
        );
        let reply = story.with(&batch, &[]).await;
        assert_eq!(reply.is_ok(), holds, "{condition}: {reply:?}");
    }
}

/// Tests of the tester that passed, and by no other key.
#[tokio::test]
async fn tests_are_facts_by_the_testers_key() {
    const TESTED: &str = r#"
        @id("tested") permit (principal, action == Action::"sign", resource) when { context.testsPassedBy.contains("qa/false-positives") };
    "#;
    let mut story = Story::new(rules(TESTED)).await;
    let batch = story.batch(&release(1));
    let release = batch.items[0].release.clone();
    let reason = story
        .refuses("another test", &batch, &[tests(&release, "install")], RefusalCode::EvidenceMissing)
        .await;
    assert!(reason.contains("false-positives"), "{reason}");
    assert!(story.with(&batch, &[tests(&release, "false-positives")]).await.is_ok());
}

/// Files with a mistake leave the earlier ones in force, and the node says so in its status.
#[tokio::test]
async fn broken_files_leave_the_earlier_rules_in_force() {
    let mut story = Story::new(rules(ANYTHING)).await;
    let before = story.me().policy().report(NOW);
    story.change(
        "policy.cedar",
        "@id(\"x\") permit (principal, action == Action::\"sign\", resource)\nwhen { context.never };",
    );
    let status = story.me().status();
    assert!(status.warning.contains("policy.cedar, line"), "{}", status.warning);
    let report = story.me().policy().report(NOW);
    assert_eq!((report.digest, report.policies), (before.digest, before.policies));
    assert_eq!(report.problem.as_deref(), Some(status.warning.as_str()));
    let batch = story.batch(&release(1));
    assert!(story.with(&batch, &[]).await.is_ok());
    story.change("policy.cedar", "");
    assert_eq!((story.me().status().warning, story.me().policy().report(NOW).problem), (String::new(), None));
    let next = story.batch(&release(2));
    story.refuses("no policy", &next, &[], RefusalCode::NotAllowed).await;
}

/// A directory that does not parse keeps nobody's stolen key: who is not named any more does not count, and nobody does where that
/// cannot be read. Nothing is refused for it: the release waits.
#[tokio::test]
async fn a_broken_directory_keeps_no_trust_that_was_taken_back() {
    let (mut story, batch, documents) = Story::permitted().await;
    let good = story.files.clone();
    let broken = |changes: &[(&str, &str)]| {
        let mut files = good.clone();
        files.insert("policy.cedar".into(), b"forbid".to_vec());
        for (file, text) in changes {
            files.insert((*file).to_owned(), text.as_bytes().to_vec());
        }
        files
    };
    story.reload(broken(&[]));
    assert!(story.with(&batch, &documents).await.is_ok(), "the earlier policies decide");
    story.reload(broken(&[("allowed_signers", &signer_line("beat", BEAT, ""))]));
    let reason = story.refuses("anna's key", &batch, &documents, RefusalCode::EvidenceMissing).await;
    assert!(reason.contains("approval of beat") && reason.contains("no custodian's"), "{reason}");
    story.reload(broken(&[]));
    story.refuses("what is broken gives nothing", &batch, &documents, RefusalCode::EvidenceMissing).await;
    story.reload(good.clone());
    assert!(story.with(&batch, &documents).await.is_ok());
    story.reload(broken(&[("trust.toml", "")]));
    story.refuses("the builder's key", &batch, &documents, RefusalCode::NotAllowed).await;
    story.reload(good.clone());
    for (file, text) in [("trust.toml", "[[key]"), ("allowed_signers", "anna")] {
        story.reload(broken(&[(file, text)]));
        let reason = story.refuses(file, &batch, &documents, RefusalCode::NotYet).await;
        assert!(reason.contains("waits for this node's custodian"), "{reason}");
    }
    let change = Change::UnderWay { trust: Rules::parse_trust(&good).ok() };
    story.reload(good.clone());
    story.me().reload(change, NOW);
    story.refuses("half a change", &batch, &documents, RefusalCode::NotYet).await;
    story.reload(good);
    assert!(story.with(&batch, &documents).await.is_ok());
}

/// What was taken out of a policy file, or is forbidden by one, counts at once, though another file is wrong.
#[tokio::test]
async fn a_broken_directory_keeps_no_policy_that_was_taken_back() {
    let (mut story, batch, documents) = Story::permitted().await;
    let good = story.files.clone();
    let changed = |changes: &[(&str, Option<&str>)]| {
        let mut files = good.clone();
        files.insert("other.cedar".into(), b"permit(".to_vec());
        for (file, text) in changes {
            match text {
                Some(text) => drop(files.insert((*file).to_owned(), text.as_bytes().to_vec())),
                None => drop(files.remove(*file)),
            }
        }
        files
    };
    let forbid = "@id(\"no\") forbid (principal, action, resource);";
    let before = String::from_utf8(good["policy.cedar"].clone()).unwrap();
    for (what, changes) in [
        ("the file is gone", vec![("policy.cedar", None)]),
        ("it was renamed", vec![("policy.cedar", None), ("policy.cedar.off", Some(before.as_str()))]),
        ("it is empty", vec![("policy.cedar", Some(""))]),
        ("a new one forbids it", vec![("stop.cedar", Some(forbid))]),
    ] {
        story.reload(changed(&[]));
        assert!(story.with(&batch, &documents).await.is_ok(), "before {what}: the earlier policies decide");
        story.reload(changed(&changes));
        let reason = story.refuses(what, &batch, &documents, RefusalCode::NotYet).await;
        assert!(reason.contains("does not permit the release any more"), "{reason}");
    }
    // And what is added counts only once all of it is valid.
    story.reload(rules(""));
    story.reload(changed(&[]));
    story.refuses("added", &batch, &documents, RefusalCode::NotAllowed).await;
    story.reload(good);
    assert!(story.with(&batch, &documents).await.is_ok());
}

/// What a release waited for by the earlier rules is not what the new ones say.
#[tokio::test]
async fn other_rules_give_another_answer_at_once() {
    let mut story = Story::new(rules(REBUILT)).await;
    let batch = story.batch(&release(1));
    story.refuses("no evidence", &batch, &[], RefusalCode::EvidenceMissing).await;
    story.change("policy.cedar", "");
    story.refuses("no policy", &batch, &[], RefusalCode::NotAllowed).await;
}

/// Under one name, many documents: the answer stays short, and what is needed is found among them if there is room.
#[tokio::test]
async fn an_answer_is_short_whatever_was_sent() {
    let mut story = Story::new(rules(REBUILT)).await;
    let batch = story.batch(&release(1));
    let item = batch.items[0].clone();
    let mut documents: Vec<Vec<u8>> = (0..61_u8).map(|number| vec![number; 100]).collect();
    let reason = story.refuses("rubbish", &batch, &documents, RefusalCode::EvidenceMissing).await;
    assert!(reason.len() <= rutli_wire::limits::MAX_TEXT_BYTES && reason.contains("nor 59 more"), "{reason}");
    documents.extend([provenance(&item.release, BUILDER), rebuild(&item.release), approval(&item, ANNA)]);
    assert!(story.with(&batch, &documents).await.is_ok());
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(bytes).into()
}
