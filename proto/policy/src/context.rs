//! From what is established to what policies see.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
};
use rutli_evidence::{Established, SourceDigest};
use rutli_release::Class;
use serde::Serialize;

use crate::facts::{Facts, Rates, Time};

/// What counts of all that is established, under the names that policies use.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counted<'a> {
    pub(crate) builders: BTreeSet<&'a str>,
    pub(crate) builder_ids: BTreeSet<&'a str>,
    pub(crate) build_types: BTreeSet<&'a str>,
    pub(crate) sources: BTreeSet<String>,
    pub(crate) source_uris: BTreeSet<&'a str>,
    pub(crate) rebuilders: BTreeSet<&'a str>,
    pub(crate) reviewers: BTreeSet<&'a str>,
    pub(crate) review_levels: BTreeSet<&'a str>,
    pub(crate) testers: BTreeSet<&'a str>,
    pub(crate) tests_passed: BTreeSet<&'a str>,
    pub(crate) tests_passed_by: BTreeSet<String>,
    pub(crate) approvers: BTreeSet<&'a str>,
    pub(crate) tests_failed: BTreeSet<&'a str>,
    pub(crate) builders_contradict: bool,
    /// When the oldest of the builds that count was done, in Unix seconds; `None` if there is none, or one does not say it.
    #[serde(skip)]
    pub(crate) oldest_build: Option<u64>,
}

/// The sources that builders attested. More than one: nothing that was built counts.
pub(crate) fn sources<'a>(established: &[&'a Established]) -> BTreeSet<&'a SourceDigest> {
    let source = |established: &&'a Established| match established {
        Established::Provenance(build) => Some(&build.source_digest),
        _ => None,
    };
    established.iter().filter_map(source).collect()
}

impl<'a> Counted<'a> {
    pub(crate) fn of(established: &[&'a Established]) -> Self {
        let sources = sources(established);
        let source = match sources.len() {
            1 => sources.first().copied(),
            _ => None,
        };
        let is_source = |digest: &SourceDigest| source == Some(digest);
        let mut counted = Self { builders_contradict: sources.len() > 1, ..Self::default() };
        let mut finished = Vec::new();
        counted.sources.extend(source.map(ToString::to_string));
        for &established in established {
            match established {
                Established::Provenance(build) if is_source(&build.source_digest) => {
                    counted.builders.insert(&build.by);
                    counted.builder_ids.insert(&build.builder_id);
                    counted.build_types.insert(&build.build_type);
                    counted.source_uris.extend(build.source_uri.as_deref());
                    finished.push(build.finished_at);
                }
                Established::Rebuild(build) if is_source(&build.source_digest) => {
                    counted.rebuilders.insert(&build.by);
                }
                Established::Review { by, source_digest, levels, .. } if is_source(source_digest) => {
                    counted.reviewers.insert(by);
                    counted.review_levels.extend(levels.iter().map(String::as_str));
                }
                Established::Tests { by, passed, .. } => {
                    counted.testers.insert(by);
                    counted.tests_passed.extend(passed.iter().map(String::as_str));
                    counted.tests_passed_by.extend(passed.iter().map(|test| format!("{by}/{test}")));
                }
                Established::TestsFailed { by } => {
                    counted.tests_failed.insert(by);
                }
                Established::Approval { custodian } => {
                    counted.approvers.insert(custodian);
                }
                // Of another source than the one that was built, or of none; a refusal is looked at before any policy.
                Established::Provenance(_)
                | Established::Rebuild(_)
                | Established::Review { .. }
                | Established::Refusal { .. } => {}
            }
        }
        let finished: Option<Vec<u64>> = finished.into_iter().collect();
        counted.oldest_build = finished.and_then(|finished| finished.into_iter().min());
        counted
    }

    /// Full hours since the oldest build that counts; 0 if a builder's clock is ahead.
    fn age_hours(&self, now_unix: u64) -> Option<u64> {
        self.oldest_build.map(|finished| now_unix.saturating_sub(finished) / 3_600)
    }
}

/// What is asked of Cedar, with its parts that never change.
#[derive(Debug)]
pub(crate) struct Asker {
    requester: EntityTypeName,
    class: EntityTypeName,
    action: EntityUid,
    release: EntityUid,
}

impl Asker {
    /// `None`: these are no names in Cedar, which a test rules out.
    pub(crate) fn new() -> Option<Self> {
        let uid =
            |name: &str, id| Some(EntityUid::from_type_name_and_id(name.parse().ok()?, EntityId::new(id)));
        Some(Self {
            requester: "Requester".parse().ok()?,
            class: "Class".parse().ok()?,
            action: uid("Action", "sign")?,
            release: uid("Release", "release")?,
        })
    }

    /// The release as policies see it. `None` never comes about: only repeated names and unknown functions make it.
    pub(crate) fn entities(&self, facts: &Facts) -> Option<Entities> {
        let release = &facts.release;
        let class = self.class(release.class);
        let attributes = HashMap::from([
            ("class".to_owned(), RestrictedExpression::new_entity_uid(class)),
            ("product".to_owned(), text(release.product.as_str())),
            ("channel".to_owned(), text(release.channel.as_str())),
            ("version".to_owned(), text(release.version.as_str())),
            ("sequence".to_owned(), long(release.sequence.get())),
            ("artifacts".to_owned(), long(release.artifacts)),
            ("issuedAt".to_owned(), long(release.issued_at.0)),
            ("formats".to_owned(), texts(release.formats.iter().map(|format| format.as_str()))),
            ("fileNames".to_owned(), texts(release.file_names.texts())),
        ]);
        let expires_at = release.expires_at.map(|time| ("expiresAt".to_owned(), long(time.0)));
        let attributes = attributes.into_iter().chain(expires_at).collect();
        let entity = Entity::new(self.release.clone(), attributes, HashSet::new()).ok()?;
        Entities::from_entities([entity], None).ok()
    }

    /// The request with its context: what `facts` say, but for what is established, the rates and the time.
    pub(crate) fn request(
        &self,
        facts: &Facts,
        counted: &Counted,
        rates: Rates,
        now_unix: u64,
    ) -> Option<Request> {
        let time = Time::at(now_unix);
        let time = RestrictedExpression::new_record([
            ("weekday".to_owned(), long(time.weekday)),
            ("hour".to_owned(), long(time.hour)),
            ("minuteOfDay".to_owned(), long(time.minute_of_day)),
            ("unix".to_owned(), long(time.unix)),
        ])
        .ok()?;
        let releases = rates.releases_in_hour.saturating_add(1);
        let artifacts = rates.artifacts_in_hour.saturating_add(facts.release.artifacts);
        let approvals = u64::try_from(counted.approvers.len()).unwrap_or(0);
        let mut context = vec![
            ("builders", set(&counted.builders)),
            ("builderIds", set(&counted.builder_ids)),
            ("buildTypes", set(&counted.build_types)),
            ("sources", set(&counted.sources)),
            ("sourceUris", set(&counted.source_uris)),
            ("rebuilders", set(&counted.rebuilders)),
            ("reviewers", set(&counted.reviewers)),
            ("reviewLevels", set(&counted.review_levels)),
            ("testers", set(&counted.testers)),
            ("testsPassed", set(&counted.tests_passed)),
            ("testsPassedBy", set(&counted.tests_passed_by)),
            ("testsFailed", set(&counted.tests_failed)),
            ("buildersContradict", RestrictedExpression::new_bool(counted.builders_contradict)),
            ("filesPermittedBefore", long(facts.files_permitted_before)),
            ("approvers", set(&counted.approvers)),
            ("approvals", long(approvals)),
            ("embargoed", RestrictedExpression::new_bool(facts.embargoed)),
            ("versionIsNew", RestrictedExpression::new_bool(facts.version_is_new)),
            ("releasesInHour", long(releases)),
            ("artifactsInHour", long(artifacts)),
            ("time", time),
        ];
        context.extend(counted.age_hours(now_unix).map(|hours| ("evidenceAgeHours", long(hours))));
        context.extend(facts.previous_sequence.map(|sequence| ("previousSequence", long(sequence.get()))));
        context.extend(facts.previous_version.map(|version| ("previousVersion", text(version.as_str()))));
        let context = context.into_iter().map(|(name, value)| (name.to_owned(), value));
        let requester =
            EntityUid::from_type_name_and_id(self.requester.clone(), EntityId::new(facts.requester.as_str()));
        let context = Context::from_pairs(context).ok()?;
        // No schema: what is made here has its types by construction, and a test holds it against the schema.
        Request::new(requester, self.action.clone(), self.release.clone(), context, None).ok()
    }

    fn class(&self, class: Class) -> EntityUid {
        EntityUid::from_type_name_and_id(self.class.clone(), EntityId::new(class.as_str()))
    }
}

/// What policies see, for a person and for programs.
pub(crate) fn shown(facts: &Facts) -> BTreeMap<&'static str, serde_json::Value> {
    let established: Vec<&Established> = facts.established.iter().collect();
    let counted = Counted::of(&established);
    let release = &facts.release;
    BTreeMap::from([
        ("requester", facts.requester.as_str().into()),
        ("class", release.class.as_str().into()),
        ("product", release.product.as_str().into()),
        ("channel", release.channel.as_str().into()),
        ("version", release.version.as_str().into()),
        ("sequence", release.sequence.get().into()),
        ("artifacts", release.artifacts.into()),
        ("issuedAt", release.issued_at.0.into()),
        ("expiresAt", release.expires_at.map(|time| time.0).into()),
        ("formats", release.formats.iter().map(|format| format.as_str()).collect()),
        ("fileNames", release.file_names.texts().collect()),
        ("embargoed", facts.embargoed.into()),
        ("previousSequence", facts.previous_sequence.map(|sequence| sequence.get()).into()),
        ("previousVersion", facts.previous_version.map(|version| version.as_str()).into()),
        ("versionIsNew", facts.version_is_new.into()),
        ("filesPermittedBefore", facts.files_permitted_before.into()),
        ("evidenceAgeHours", counted.age_hours(facts.now_unix).into()),
        ("releasesInHour", facts.rates.releases_in_hour.saturating_add(1).into()),
        ("artifactsInHour", facts.rates.artifacts_in_hour.saturating_add(release.artifacts).into()),
        ("approvals", counted.approvers.len().into()),
        ("time", serde_json::to_value(Time::at(facts.now_unix)).unwrap_or_default()),
        ("established", serde_json::to_value(&counted).unwrap_or_default()),
    ])
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

/// Cedar's integers end at 2^63 − 1, above everything that a release may carry; what is larger counts as that.
fn long(number: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(number).unwrap_or(i64::MAX))
}

fn set(all: &BTreeSet<impl AsRef<str>>) -> RestrictedExpression {
    texts(all.iter().map(AsRef::as_ref))
}

fn texts<'a>(all: impl Iterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(all.map(text))
}
