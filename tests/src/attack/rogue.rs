//! A compromised coordinator: the attacker has its TLS key, the log's key, its store and the log, and talks
//! to a real node that dials in as always. Whatever it sends, no share comes back for a release that is not
//! in the log, not permitted, or not new.

use prost::bytes::Bytes;
use rutli_log::{Hash, sha256};
use rutli_release::{ReleaseId, Requester, VerifiedRelease};
use rutli_wire::{
    link::{Batch, BatchItem, BatchReply, LogHead, RefusalCode},
    v1,
};

use super::{Row, Scale, starve::take_policy};
use crate::{
    cluster::{Cluster, PATIENCE, Setup},
    evidence,
    liar::Liar,
    log::ScriptedLog,
    releases::{build, sign},
};

/// The node that is lied to: its organisation signs with it alone.
const NODE: &str = "supervisor-1";

const POLICY: &str = r#"
@id("suite") permit (principal, action == Action::"sign", resource) when { resource.product == "suite" };
@id("tested") permit (principal, action == Action::"sign", resource)
when { resource.product == "tested" && context.testsPassed.contains("unit") };
"#;

/// In seconds.
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// The attacker in the coordinator's place, and the sequence of its last release.
struct Rogue {
    cluster: Cluster,
    liar: Liar,
    last: u64,
}

/// Every lie, one after the other, to one real node; and the same without a lie, which is signed.
pub async fn lies(_scale: Scale) -> Vec<Row> {
    let mut cluster = Cluster::start(Setup { log: "warn", ..Setup::default() }).await;
    take_policy(&cluster, POLICY).await;
    // Nothing has the second number: it is behind, and in conflict with nothing.
    for sequence in [1, 3] {
        sign(&cluster, build("stable", sequence, 1), PATIENCE).await;
    }
    let liar = Liar::before(&mut cluster, NODE).await;
    let mut rogue = Rogue { cluster, liar, last: 3 };
    let mut rows = vec![rogue.tells_the_truth().await];
    rows.extend(rogue.about_the_log().await);
    rows.extend(rogue.about_entries().await);
    rows.extend(rogue.about_time().await);
    rows.extend(rogue.about_evidence().await);
    rows.extend(rogue.about_quorums().await);
    rows.extend(rogue.sets_back().await);
    rows.push(rogue.tells_the_truth().await);
    // Last, for the node stays closed.
    rows.push(rogue.forks().await);
    rows
}

impl Rogue {
    /// A build of `product` that is new to the node, issued so many seconds from now.
    fn fresh(&mut self, product: &str, issued_in: i64) -> VerifiedRelease {
        self.last += 1;
        let request = v1::CreateReleaseRequest { product: product.into(), ..build("stable", self.last, 1) };
        self.liar.release(request, issued_in)
    }

    /// The batch for a new release as an honest coordinator sends it.
    async fn honest(&mut self) -> Batch {
        let release = self.fresh("suite", 0);
        self.liar.batch(&release).await
    }

    /// The control: without a lie, all of this is signed.
    async fn tells_the_truth(&mut self) -> Row {
        let batch = self.honest().await;
        let reply = self.liar.ask(&batch).await;
        let mut row = row("a release as it should be", &reply);
        row.holes =
            if has_shares(&reply) { Vec::new() } else { vec![format!("it is not signed: {reply:?}")] };
        row
    }

    /// Asks with a lie, which is refused as what it is.
    async fn tries(&mut self, what: &str, batch: &Batch, code: RefusalCode) -> Row {
        let reply = self.liar.ask(batch).await;
        refused(what, &reply, code)
    }

    async fn about_the_log(&mut self) -> Vec<Row> {
        type Change = fn(&mut Batch, &ScriptedLog);
        let lies: [(&str, RefusalCode, Change); 6] = [
            ("no head at all", RefusalCode::LogHeadMissing, |batch, _| batch.head = None),
            ("a head that the log did not sign", RefusalCode::LogHeadUnsigned, |batch, log| {
                let mut other = ScriptedLog::new(log.key().origin().as_str(), [7; 32]);
                log.leaves().iter().for_each(|leaf| _ = other.append_leaf(*leaf));
                batch.head = Some(other.head_for(0));
            }),
            ("a head of another log", RefusalCode::LogOrigin, |batch, _| {
                let mut other = ScriptedLog::new("other.log/1", [7; 32]);
                (0..50).for_each(|leaf| _ = other.append_leaf(Hash([leaf; 32])));
                batch.head = Some(other.head_for(0));
            }),
            ("an older head", RefusalCode::LogBehind, |batch, log| batch.head = Some(log.head_between(1, 2))),
            ("a consistency proof of something else", RefusalCode::LogInconsistent, |batch, _| {
                let head = batch.head.as_mut().unwrap();
                head.consistency.iter_mut().for_each(|hash| hash.0[0] ^= 1);
                head.consistency.push(Hash([1; 32]));
            }),
            ("an inclusion proof of something else", RefusalCode::LogInclusion, |batch, _| {
                batch.items[0].entry.as_mut().unwrap().proof.push(Hash([1; 32]));
            }),
        ];
        let mut rows = Vec::new();
        for (what, code, change) in lies {
            let mut batch = self.honest().await;
            change(&mut batch, &self.liar.log);
            rows.push(self.tries(what, &batch, code).await);
        }
        rows
    }

    async fn about_entries(&mut self) -> Vec<Row> {
        type Change = fn(&mut BatchItem);
        let lies: [(&str, RefusalCode, Change); 6] = [
            ("a release that is not in the log", RefusalCode::NotLogged, |item| item.entry = None),
            ("another requester than the log has", RefusalCode::LogOtherEntry, |item| {
                item.requester = Requester::new("pipeline-2").unwrap()
            }),
            ("another release id than the log has", RefusalCode::LogOtherEntry, |item| {
                item.release_id = ReleaseId::new("other").unwrap()
            }),
            ("another deadline than the log has", RefusalCode::LogOtherEntry, |item| {
                item.entry.as_mut().unwrap().deadline += 1;
            }),
            ("evidence of which the log has nothing", RefusalCode::LogOtherEntry, |item| {
                item.entry.as_mut().unwrap().evidence = vec![Hash([5; 32])];
            }),
            ("another index", RefusalCode::LogInclusion, |item| item.entry.as_mut().unwrap().index -= 1),
        ];
        let mut rows = Vec::new();
        for (what, code, change) in lies {
            let mut batch = self.honest().await;
            change(&mut batch.items[0]);
            rows.push(self.tries(what, &batch, code).await);
        }
        let first = self.honest().await;
        let mut batch = self.honest().await;
        batch.items[0].entry.clone_from(&first.items[0].entry);
        // Its proof is right: the entry alone is the lie.
        self.liar.log.complete(&mut batch, self.liar.size);
        let what = "another release under an entry of the log";
        rows.push(self.tries(what, &batch, RefusalCode::LogOtherEntry).await);
        rows
    }

    async fn about_time(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        // Up to a day may be a clock that is wrong: the release waits.
        for (what, issued_in, code) in [
            ("a release issued two days ago", -2 * DAY, RefusalCode::OutOfTime),
            ("a release issued a year ago", -365 * DAY, RefusalCode::OutOfTime),
            ("a release issued tomorrow", DAY, RefusalCode::ClockDiffers),
        ] {
            let release = self.fresh("suite", issued_in);
            let batch = self.liar.batch(&release).await;
            rows.push(self.tries(what, &batch, code).await);
        }
        for (what, deadline_in, code) in [
            ("a deadline that is over", -HOUR, RefusalCode::ClockDiffers),
            ("a deadline in ten years", 3_650 * DAY, RefusalCode::LogTerms),
        ] {
            let release = self.fresh("suite", 0);
            let terms = self.liar.terms(&release, deadline_in);
            let batch = self.liar.batch_under(&release, &terms).await;
            rows.push(self.tries(what, &batch, code).await);
        }
        rows
    }

    /// The node has to see what its policy asks for, whatever the log says of it.
    async fn about_evidence(&mut self) -> Vec<Row> {
        let forbidden = self.fresh("forbidden", 0);
        let batch = self.liar.batch(&forbidden).await;
        let mut rows =
            vec![self.tries("a product that no policy permits", &batch, RefusalCode::NotAllowed).await];
        // What is not there, or does not count, may yet come.
        let code = RefusalCode::EvidenceMissing;
        let stripped = self.fresh("tested", 0);
        let batch = self.liar.batch(&stripped).await;
        rows.push(self.tries("a release without its evidence", &batch, code).await);
        let (other, release) = (self.fresh("tested", 0), self.fresh("tested", 0));
        for (what, document) in [
            ("evidence by a stranger", evidence::tested(&release, evidence::STRANGER, &["unit"], &[])),
            ("evidence of another release", evidence::tests(&other, "unit")),
        ] {
            let mut terms = self.liar.terms(&release, HOUR);
            terms.evidence = vec![sha256(&document)];
            let mut batch = self.liar.batch_under(&release, &terms).await;
            batch.items[0].evidence = vec![Bytes::from(document)];
            rows.push(self.tries(what, &batch, code).await);
        }
        let mut batch = self.liar.batch(&release).await;
        batch.items[0].evidence = vec![Bytes::from(evidence::tests(&release, "unit"))];
        rows.push(self.tries("genuine evidence that the log does not name", &batch, code).await);
        rows
    }

    async fn about_quorums(&mut self) -> Vec<Row> {
        let mut few = self.honest().await;
        few.signers.pop();
        let wanted = few.items[0].slots.len() * few.signers.len();
        few.items[0].commitments.truncate(wanted);
        let mut twice = self.honest().await;
        twice.signers[1] = twice.signers[0];
        let code = RefusalCode::WrongQuorum;
        vec![
            self.tries("a quorum of too few", &few, code).await,
            self.tries("a quorum twice", &twice, code).await,
        ]
    }

    /// What was signed before the coordinator was taken over, or a moment ago, once more.
    async fn sets_back(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (what, sequence, files, code) in [
            ("a sequence that was signed, with other files", 3, 2, RefusalCode::SequenceConflict),
            ("a sequence before that", 2, 3, RefusalCode::SequenceBehind),
        ] {
            let release = self.liar.release(build("stable", sequence, files), 0);
            let batch = self.liar.batch(&release).await;
            rows.push(self.tries(what, &batch, code).await);
        }
        let batch = self.honest().await;
        let [first, again] = self.liar.ask_twice(&batch).await;
        assert!(has_shares(&first), "{first:?}");
        let what = "the same batch once more, with the same commitments";
        rows.push(refused(what, &again, RefusalCode::UnknownCommitment));
        rows
    }

    /// Two heads of one size: no cosignature, no share, and the node stays closed.
    async fn forks(&mut self) -> Row {
        let size = self.liar.size;
        let mut fork = self.liar.log.fork(size - 1);
        fork.append_leaf(Hash([99; 32]));
        let head = LogHead { consistency: Vec::new(), ..fork.head_between(size, size) };
        let (witnessed, refusal) = self.liar.show(&head).await;
        let state = self.cluster.status(NODE).await;
        let mut holes = Vec::new();
        if witnessed.cosignature.is_some() || refusal.is_none() {
            holes.push(format!("the node cosigned a fork: {witnessed:?}"));
        }
        if state.state == "ready" {
            holes.push("it goes on".into());
        }
        let code = refusal.map_or_else(String::new, |refusal| refusal.code.to_string());
        Row {
            attack: "the coordinator".into(),
            tried: "two heads of one size".into(),
            came: format!("{code}; the node is {}", state.log_state),
            figures: String::new(),
            holes,
        }
    }
}

fn has_shares(reply: &BatchReply) -> bool {
    reply.answer.as_ref().is_ok_and(|items| items.iter().any(Result::is_ok))
}

fn row(tried: &str, reply: &BatchReply) -> Row {
    let came = match &reply.answer {
        Err(refusal) => refusal.code.to_string(),
        Ok(items) => items
            .iter()
            .map(|item| item.as_ref().map_or_else(|refusal| refusal.code.to_string(), |_| "shares".into()))
            .collect::<Vec<_>>()
            .join(", "),
    };
    Row {
        attack: "the coordinator".into(),
        tried: tried.into(),
        came,
        figures: String::new(),
        holes: Vec::new(),
    }
}

/// What came of a lie. Refused with another code it was perhaps not even looked at.
fn refused(tried: &str, reply: &BatchReply, code: RefusalCode) -> Row {
    let mut row = row(tried, reply);
    if has_shares(reply) {
        row.holes.push(format!("the node gave shares for {tried}"));
    } else if row.came != code.as_str() {
        row.holes.push(format!("{tried}: refused with {}, and not with {code}", row.came));
    }
    row
}
