//! What the example policies must say, worked out by hand from what stands in them: no Cedar, no documents, no search.

use rutli_wire::link::RefusalCode;

use crate::{
    cases::{Lane, Papers, Refused, Slot, Variant},
    circumstances::{Circumstances, Sequence},
};

/// What must be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `None`: a share.
    pub code: Option<RefusalCode>,
    /// The policies that decide.
    pub policies: Vec<&'static str>,
    /// What the answer says.
    pub words: Vec<String>,
    /// What it does not say, for that is not missing.
    pub not: Vec<&'static str>,
    /// Whether the answer says which documents were not counted.
    pub notes: bool,
}

/// What can be missing, and its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Agreement,
    Provenance,
    Rebuild,
    Unit,
    Install,
    Clean,
    OneOf(&'static str),
    Approval(&'static str),
}

/// One way to a permission.
struct Way {
    policies: Vec<&'static str>,
    needs: Vec<Need>,
}

/// What the papers come to.
struct Counted {
    builder: bool,
    rebuilder: bool,
    contradiction: bool,
    /// A run by the tester failed.
    failed: bool,
    unit: bool,
    install: bool,
    clean: bool,
    first: bool,
    second: bool,
}

const EVERY_WORD: [&str; 10] = [
    "one source",
    "a provenance of the build",
    "a rebuild by",
    "`unit`",
    "`install`",
    "`false-positives`",
    "approval of",
    "approvals of",
    "a quieter hour",
    "its time",
];

pub fn expected(lane: Lane, papers: &Papers, circumstances: &Circumstances) -> Expected {
    if papers.refused == Refused::ByOwn {
        let who = if lane.is_supervisor() { "clara" } else { "beat" };
        return answer(RefusalCode::CustodianRefused, &[], [who, "the changelog is wrong"], false);
    }
    let counted = count(lane, papers);
    let never = never(lane, circumstances);
    let time = lane == Lane::VendorStable && !circumstances.when.is_working_time();
    let rate = rate(lane, circumstances);
    let way = way(lane, &counted);
    let Some(way) = way.filter(|_| never.is_empty()) else {
        let mut policies = never;
        policies.extend(time.then_some("suite-on-working-days"));
        if policies.is_empty() {
            policies.extend(rate);
        }
        policies.sort_unstable();
        let mut words: Vec<&str> = policies.iter().map(|policy| reason(policy, lane)).collect();
        words.push(if policies.is_empty() { "no policy of this node permits" } else { "forbidden by" });
        words.extend(counted.contradiction.then_some("name different sources"));
        return answer(RefusalCode::NotAllowed, &policies, words, true);
    };
    let mut words: Vec<String> = way.needs.iter().map(|need| need.words()).collect();
    let code = match (words.is_empty(), rate.is_some() || time) {
        (true, false) => return permitted(way.policies, circumstances.sequence),
        (true, true) => RefusalCode::NotYet,
        (false, _) => RefusalCode::EvidenceMissing,
    };
    if matches!(circumstances.sequence, Sequence::Behind | Sequence::Conflict) {
        // Nothing that comes makes the number right.
        return permitted(way.policies, circumstances.sequence);
    }
    words.extend(rate.is_some().then(|| {
        let (releases, files) = circumstances.rate.others(lane);
        format!(
            "a quieter hour: with this one there are {} releases and {} files of av-database avdb within an hour",
            releases + 1,
            files + 1
        )
    }));
    words.extend(time.then(|| format!("its time: not before {}", circumstances.when.next_working_time())));
    words.push(format!(", by {}", way.policies.join(", ")));
    let said = words.concat();
    let not = EVERY_WORD.into_iter().filter(|word| !said.contains(word)).collect();
    Expected { not, ..answer(code, &way.policies, words, true) }
}

/// The marks have the last word.
fn permitted(policies: Vec<&'static str>, sequence: Sequence) -> Expected {
    let marks = |code, words| answer(code, &[], [words], false);
    match sequence {
        Sequence::Behind => marks(RefusalCode::SequenceBehind, "is behind 1050"),
        Sequence::Conflict => marks(RefusalCode::SequenceConflict, "permitted before with other content"),
        _ => Expected { code: None, policies, words: Vec::new(), not: Vec::new(), notes: false },
    }
}

fn answer(
    code: RefusalCode,
    policies: &[&'static str],
    words: impl IntoIterator<Item = impl Into<String>>,
    notes: bool,
) -> Expected {
    let words = words.into_iter().map(Into::into).collect();
    Expected { code: Some(code), policies: policies.to_vec(), words, not: Vec::new(), notes }
}

fn count(lane: Lane, papers: &Papers) -> Counted {
    let variant = |wanted: Slot| {
        papers
            .slots
            .iter()
            .find(|(slot, _)| *slot == wanted)
            .map_or(Variant::Missing, |(_, variant)| *variant)
    };
    let is =
        |slot: Slot| variant(slot) == Variant::Right && !papers.revoked(lane).contains(&slot.holder(lane));
    let contradiction = variant(Slot::Provenance) == Variant::Contradicted;
    Counted {
        builder: is(Slot::Provenance) || contradiction || variant(Slot::Rebuild) == Variant::BySelf,
        // One of another source counts as soon as a provenance names that source.
        rebuilder: is(Slot::Rebuild)
            || (variant(Slot::Rebuild) == Variant::OtherSource && !is(Slot::Provenance)),
        contradiction,
        failed: [Slot::Unit, Slot::Install, Slot::Clean].into_iter().any(|slot| {
            variant(slot) == Variant::Failed && !papers.revoked(lane).contains(&slot.holder(lane))
        }),
        unit: is(Slot::Unit),
        install: is(Slot::Install),
        clean: is(Slot::Clean),
        first: is(Slot::Approval),
        second: is(Slot::Second),
    }
}

/// The way that is open, or that is the shortest. `None`: there is none, whatever comes.
fn way(lane: Lane, counted: &Counted) -> Option<Way> {
    let missing = |needs: &[(bool, Need)]| -> Vec<Need> {
        needs.iter().filter(|(is_there, _)| !is_there).map(|(_, need)| *need).collect()
    };
    // The custodian finds out which source is right: with that, it goes on as if the other had never been.
    let agreement = counted.contradiction.then_some(Need::Agreement);
    let way = |policy, needs: &[(bool, Need)]| {
        Some(Way { policies: vec![policy], needs: agreement.into_iter().chain(missing(needs)).collect() })
    };
    let builder = (counted.builder, Need::Provenance);
    match lane {
        Lane::VendorNightly | Lane::DatabasesProduct => None,
        // A run that failed is there, whatever else comes.
        Lane::VendorBeta | Lane::VendorStable | Lane::VendorDatabase | Lane::SupervisorDatabase
            if counted.failed =>
        {
            None
        }
        Lane::VendorBeta => way("suite-beta", &[builder, (counted.unit, Need::Unit)]),
        Lane::VendorStable => way(
            "suite-stable",
            &[
                builder,
                (counted.unit, Need::Unit),
                (counted.install, Need::Install),
                (counted.first, Need::OneOf("anna, beat")),
            ],
        ),
        Lane::SupervisorProduct => way(
            "suite-rebuilt-and-approved",
            &[builder, (counted.rebuilder, Need::Rebuild), (counted.first, Need::OneOf("clara, dario"))],
        ),
        Lane::VendorDatabase | Lane::SupervisorDatabase => {
            way("avdb-tested", &[builder, (counted.clean, Need::Clean)])
        }
        Lane::Databases | Lane::DatabasesLarge => {
            let both =
                [builder, (counted.first, Need::Approval("anna")), (counted.second, Need::Approval("beat"))];
            match (counted.clean, counted.first, counted.second) {
                _ if counted.failed => way("avdb-outbreak", &both),
                (true, true, true) => {
                    let tested = way("avdb-tested", &[builder]);
                    tested.map(|way| Way { policies: vec!["avdb-outbreak", "avdb-tested"], ..way })
                }
                // Two documents are missing for an outbreak, one for the other way.
                (true, ..) | (false, false, false) => {
                    way("avdb-tested", &[builder, (counted.clean, Need::Clean)])
                }
                // Of two ways with two documents missing each it is the tester's that is said …
                (false, first, second) if !counted.builder && first != second => {
                    way("avdb-tested", &[builder, (counted.clean, Need::Clean)])
                }
                // … and with one each the custodians'.
                _ => way("avdb-outbreak", &both),
            }
        }
    }
}

/// What forbids it whatever comes.
fn never(lane: Lane, circumstances: &Circumstances) -> Vec<&'static str> {
    use Sequence::{Behind, Conflict, Leap};
    let sequence = circumstances.sequence;
    let mut never = Vec::new();
    if lane.is_supervisor() {
        never.extend(matches!(sequence, Behind | Conflict).then_some("sequence-goes-up"));
        never.extend(
            (circumstances.embargoed && lane == Lane::SupervisorProduct).then_some("no-embargo-for-products"),
        );
    }
    if lane.folder() == "av-database" {
        never.extend(matches!(sequence, Behind | Conflict | Leap).then_some("avdb-sequence"));
        never.extend((lane == Lane::DatabasesLarge).then_some("avdb-size"));
    }
    never
}

/// What forbids it in this hour.
fn rate(lane: Lane, circumstances: &Circumstances) -> Option<&'static str> {
    let (releases, files) = circumstances.rate.others(lane);
    let is_over = match lane {
        Lane::SupervisorDatabase => releases + 1 > 6 || files + 1 > 2_000,
        Lane::Databases | Lane::DatabasesLarge | Lane::DatabasesProduct => releases + 1 > 12,
        _ => false,
    };
    is_over.then_some("avdb-rate")
}

/// The words that the custodian gave the policy.
fn reason(policy: &str, lane: Lane) -> &'static str {
    match (policy, lane.is_supervisor()) {
        ("suite-on-working-days", _) => {
            "suite-on-working-days (suite goes to stable Monday to Friday, 07:00 to 16:00 UTC)"
        }
        ("sequence-goes-up", _) => "sequence-goes-up (the sequence must be higher than the last one)",
        ("no-embargo-for-products", _) => {
            "no-embargo-for-products (the supervisor signs product builds only in the open)"
        }
        ("avdb-sequence", _) => "avdb-sequence (the sequence goes up, by at most 1000)",
        ("avdb-size", _) => "avdb-size (a database has at most 500 files)",
        ("avdb-rate", true) => "avdb-rate (at most six databases, with 2000 files together, within an hour)",
        ("avdb-rate", false) => "avdb-rate (at most twelve databases within an hour)",
        _ => panic!("{policy}"),
    }
}

impl Need {
    fn words(self) -> String {
        match self {
            Self::Agreement => "one source: the builders' attestations name different ones".into(),
            Self::Provenance => "a provenance of the build".into(),
            Self::Rebuild => "a rebuild by one of: supervisor-rebuilder".into(),
            Self::Unit => "`unit`".into(),
            Self::Install => "`install`".into(),
            Self::Clean => "`false-positives` by one of: vendor-tester".into(),
            Self::OneOf(names) => format!("1 more approval of: {names}"),
            Self::Approval(name) => format!("the approval of {name}"),
        }
    }
}
