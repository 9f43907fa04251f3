//! The search for what is missing: the same policies, asked again with more than there is.

use std::collections::BTreeSet;

use cedar_policy::Entities;
use rutli_evidence::{Established, SourceDigest};

use crate::{
    documents::{self, ANY, ANY_SOURCE},
    facts::{Facts, Rates},
    limits::{MAX_CHOICES, MAX_TIMES, MAX_TRIALS},
    missing::{Missing, MissingKind, given_by, giver, sort},
    set::{Effect, Outcome, PolicyId, PolicySet},
};

/// What would have the release permitted.
pub(crate) struct Found {
    pub(crate) missing: Vec<Missing>,
    /// The permits that would apply then.
    pub(crate) policies: Vec<PolicyId>,
}

/// One search. All of it is bounded by [`MAX_TRIALS`].
pub(crate) struct Search<'a> {
    set: &'a PolicySet,
    /// All policies of the set, or some.
    policies: &'a cedar_policy::PolicySet,
    facts: &'a Facts<'a>,
    entities: &'a Entities,
    established: Vec<&'a Established>,
    trials: u32,
}

/// A time, and how much was permitted in the hour before.
type When = (Rates, u64);

impl<'a> Search<'a> {
    pub(crate) fn new(
        set: &'a PolicySet,
        policies: &'a cedar_policy::PolicySet,
        facts: &'a Facts<'a>,
        entities: &'a Entities,
    ) -> Self {
        Self::after(0, set, policies, facts, entities)
    }

    /// A search after others that used up so many trials.
    pub(crate) fn after(
        trials: u32,
        set: &'a PolicySet,
        policies: &'a cedar_policy::PolicySet,
        facts: &'a Facts<'a>,
        entities: &'a Entities,
    ) -> Self {
        Self { set, policies, facts, entities, established: facts.established.iter().collect(), trials }
    }

    /// How many were used up.
    pub(crate) fn trials(&self) -> u32 {
        self.trials
    }

    /// What the policies say to what is there.
    pub(crate) fn outcome_now(&self) -> Outcome {
        self.outcome(&[], (self.facts.rates, self.facts.now_unix))
    }

    /// What they say with everything that could yet come, in a quiet hour.
    pub(crate) fn outcome_at_best(&self) -> Outcome {
        let source = documents::possible_sources(&self.established, &self.set.literals);
        let all = self.possible(source.first());
        self.outcome(&all, (Rates::default(), self.facts.now_unix))
    }

    /// The least that would have the release permitted; `None` if nothing would.
    pub(crate) fn run(&mut self) -> Option<Found> {
        let sources = documents::possible_sources(&self.established, &self.set.literals);
        let mut sources: Vec<Option<SourceDigest>> = sources.into_iter().map(Some).collect();
        if sources.is_empty() {
            sources.push(None);
        }
        let whens = self.whens();
        let mut worlds = Vec::new();
        for source in &sources {
            worlds.push(self.possible(source.as_ref()));
        }
        // First all documents at once: whoever asks for more never minds too many.
        for when in whens.iter().copied() {
            for world in &worlds {
                if self.permits(world, when) {
                    return Some(self.least(world.clone(), world, when));
                }
            }
        }
        // Then without those that policies forbid, or few: a policy may ask that something is not there.
        for when in whens.into_iter().take(2) {
            for world in &worlds {
                let unforbidden = self.unforbidden(world, when);
                if self.permits(&unforbidden, when) {
                    return Some(self.least(unforbidden.clone(), &unforbidden, when));
                }
                if let Some(few) = self.few(world, when) {
                    return Some(self.least(few, world, when));
                }
            }
        }
        None
    }

    fn possible(&self, source: Option<&SourceDigest>) -> Vec<Established> {
        documents::possible(&self.set.names, &self.set.literals, &self.established, source)
    }

    fn outcome(&self, more: &[Established], when: When) -> Outcome {
        let established: Vec<&Established> = self.established.iter().copied().chain(more).collect();
        self.set.outcome(self.policies, (self.facts, self.entities), &established, when)
    }

    /// Whether it is permitted with more. When the trials are used up nothing is.
    fn permits(&mut self, more: &[Established], when: When) -> bool {
        if self.trials >= MAX_TRIALS {
            return false;
        }
        self.trials = self.trials.saturating_add(1);
        self.outcome(more, when).permitted
    }

    /// The times to try: now, a quiet hour, and later ones, earliest first; only what policies ask about.
    fn whens(&self) -> Vec<When> {
        let (rates, now) = (self.facts.rates, self.facts.now_unix);
        let literals = &self.set.literals;
        let asks = |prefix: &str| literals.asked.iter().any(|attribute| attribute.starts_with(prefix));
        let mut all = vec![(rates, now)];
        let quiet =
            rates != Rates::default() && (asks("context.releasesInHour") || asks("context.artifactsInHour"));
        if quiet {
            all.push((Rates::default(), now));
        }
        if asks("context.time") {
            // In an hour nothing will have been permitted within an hour.
            let rates_at =
                |time: u64| if time.saturating_sub(now) < 3_600 { rates } else { Rates::default() };
            all.extend(self.later_times().into_iter().map(|time| (rates_at(time), time)));
        }
        all
    }

    /// Each full hour within a week, and the minutes and times that policies name.
    fn later_times(&self) -> Vec<u64> {
        let now = self.facts.now_unix;
        let hour = now - now % 3_600;
        let day = now - now % 86_400;
        let mut times: BTreeSet<u64> = (1..=24 * 7).map(|hours| hour.saturating_add(hours * 3_600)).collect();
        let numbers = |name: &str| self.set.literals.numbers.get(name).into_iter().flatten().copied();
        for minute in
            numbers("context.time.minuteOfDay").flat_map(|minute| [minute, minute.saturating_add(1)])
        {
            let of_day = minute.saturating_mul(60);
            times.extend((0..=7).map(|days| day.saturating_add(days * 86_400).saturating_add(of_day)));
        }
        times.extend(numbers("context.time.unix").flat_map(|unix| [unix, unix.saturating_add(1)]));
        times.into_iter().filter(|time| *time > now).take(MAX_TIMES).collect()
    }

    /// The documents that, each alone, have no policy forbid the release that does not forbid it as it is. None where there are not so many
    /// trials left.
    fn unforbidden(&mut self, world: &[Established], when: When) -> Vec<Established> {
        let wanted = u32::try_from(world.len()).unwrap_or(u32::MAX).saturating_add(1);
        if self.trials.saturating_add(wanted) > MAX_TRIALS {
            return Vec::new();
        }
        let already = self.forbidding(&[], when);
        let is_harmless = |document: &&Established| {
            self.forbidding(std::slice::from_ref(*document), when).is_subset(&already)
        };
        world.iter().filter(is_harmless).cloned().collect()
    }

    fn forbidding(&mut self, more: &[Established], when: When) -> BTreeSet<PolicyId> {
        self.trials = self.trials.saturating_add(1);
        let forbids =
            |id: &PolicyId| self.set.rules.get(id).is_some_and(|rule| rule.effect == Effect::Forbid);
        self.outcome(more, when).by.into_iter().filter(forbids).collect()
    }

    /// One or two documents that are enough.
    fn few(&mut self, world: &[Established], when: When) -> Option<Vec<Established>> {
        for (position, one) in world.iter().enumerate() {
            let one = vec![one.clone()];
            if self.permits(&one, when) {
                return Some(one);
            }
            for other in world.iter().skip(position.saturating_add(1)) {
                let two = [one.as_slice(), std::slice::from_ref(other)].concat();
                if self.permits(&two, when) {
                    return Some(two);
                }
            }
            if self.trials >= MAX_TRIALS {
                return None;
            }
        }
        None
    }

    /// Takes away what is not needed of documents that are enough, and says who else could give the rest.
    fn least(&mut self, enough: Vec<Established>, world: &[Established], when: When) -> Found {
        let mut least = enough;
        let mut step = least.len().div_ceil(2).max(1);
        while !least.is_empty() {
            let mut start = 0;
            while start < least.len() {
                let without: Vec<Established> = least
                    .iter()
                    .take(start)
                    .chain(least.iter().skip(start.saturating_add(step)))
                    .cloned()
                    .collect();
                if self.permits(&without, when) {
                    least = without;
                } else {
                    start = start.saturating_add(step);
                }
            }
            if step == 1 {
                break;
            }
            step = step.div_ceil(2);
        }
        let least = self.plain(least, when);
        let policies = self.outcome(&least, when).by;
        let mut missing = self.choices(&least, world, when);
        let (rates, now_unix) = when;
        if rates != self.facts.rates && now_unix == self.facts.now_unix {
            missing.push(Missing::rate(self.facts));
        }
        if now_unix != self.facts.now_unix {
            missing.push(Missing::time(now_unix));
        }
        Found { missing, policies }
    }

    /// Takes away what documents need not say.
    fn plain(&mut self, mut documents: Vec<Established>, when: When) -> Vec<Established> {
        let anything: Vec<Established> =
            documents.iter().map(|document| documents::of_source(document, &ANY_SOURCE)).collect();
        if anything != documents && self.permits(&anything, when) {
            documents = anything;
        }
        for position in 0..documents.len() {
            let sayings = documents.get(position).map(Said::all).unwrap_or_default();
            for said in sayings {
                let mut plainer = documents.clone();
                if let Some(document) = plainer.get_mut(position) {
                    *document = said.unsaid(document);
                }
                if plainer != documents && self.permits(&plainer, when) {
                    documents = plainer;
                }
            }
        }
        documents
    }

    /// What is missing, sort by sort, each with all who could give it.
    fn choices(&mut self, least: &[Established], world: &[Established], when: When) -> Vec<Missing> {
        let sorts: BTreeSet<(MissingKind, Vec<String>)> = least.iter().map(sort).collect();
        let mut missing = Vec::new();
        for wanted in sorts {
            let (members, others): (Vec<Established>, Vec<Established>) =
                least.iter().cloned().partition(|document| sort(document) == wanted);
            let givers: BTreeSet<&str> = members.iter().map(giver).collect();
            let candidates: BTreeSet<&str> = world
                .iter()
                .filter(|document| sort(document).0 == wanted.0 && !givers.contains(giver(document)))
                .map(giver)
                .collect();
            let mut alternatives: Vec<BTreeSet<&str>> = Vec::with_capacity(members.len());
            for position in 0..members.len() {
                let stands_in = |name: &&str| self.permits_instead((&members, &others), position, name, when);
                alternatives.push(candidates.iter().copied().filter(stands_in).collect());
            }
            missing.extend(self.grouped(&wanted, (&members, &others), &alternatives, when));
        }
        missing
    }

    /// Whether `name` can give one of the documents instead of who would.
    fn permits_instead(
        &mut self,
        (members, others): (&[Established], &[Established]),
        position: usize,
        name: &str,
        when: When,
    ) -> bool {
        let mut changed = [members, others].concat();
        if let Some(document) = changed.get_mut(position) {
            *document = given_by(document, name);
        }
        self.permits(&changed, when)
    }

    /// Documents of one sort: so many of these people, if it does not matter who of them; else one by one.
    fn grouped(
        &mut self,
        wanted: &(MissingKind, Vec<String>),
        (members, others): (&[Established], &[Established]),
        alternatives: &[BTreeSet<&str>],
        when: When,
    ) -> Vec<Missing> {
        let count = members.len();
        let facts = self.facts;
        let names = |chosen: &[&str]| chosen.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        if let (Some(first), true) =
            (alternatives.first(), alternatives.windows(2).all(|pair| pair.first() == pair.last()))
        {
            let all: Vec<&str> = members.iter().map(giver).chain(first.iter().copied()).collect();
            let any_will_do = first.is_empty()
                || choose(&all, count).is_some_and(|choices| {
                    choices.into_iter().all(|chosen| {
                        let given =
                            members.iter().zip(chosen).map(|(document, name)| given_by(document, name));
                        let documents: Vec<Established> = given.chain(others.iter().cloned()).collect();
                        self.permits(&documents, when)
                    })
                });
            if any_will_do {
                return vec![Missing::evidence(wanted.clone(), count, names(&all), facts)];
            }
        }
        let one_by_one = members.iter().zip(alternatives);
        one_by_one
            .map(|(member, others)| {
                let all: Vec<&str> = std::iter::once(giver(member)).chain(others.iter().copied()).collect();
                Missing::evidence(wanted.clone(), 1, names(&all), facts)
            })
            .collect()
    }
}

/// Something that a document need not say, if no policy asks for it.
enum Said {
    BuilderId,
    BuildType,
    SourceUri,
    Tests,
    Level(String),
}

impl Said {
    fn all(document: &Established) -> Vec<Self> {
        match document {
            Established::Provenance(_) => vec![Self::BuilderId, Self::BuildType, Self::SourceUri],
            Established::Tests { .. } => vec![Self::Tests],
            Established::Review { levels, .. } => levels.iter().cloned().map(Self::Level).collect(),
            _ => Vec::new(),
        }
    }

    fn unsaid(&self, document: &Established) -> Established {
        let mut document = document.clone();
        match (self, &mut document) {
            (Self::BuilderId, Established::Provenance(build)) => build.builder_id = ANY.to_owned(),
            (Self::BuildType, Established::Provenance(build)) => build.build_type = ANY.to_owned(),
            (Self::SourceUri, Established::Provenance(build)) => build.source_uri = None,
            (Self::Tests, Established::Tests { passed, .. }) => *passed = BTreeSet::from([ANY.to_owned()]),
            (Self::Level(level), Established::Review { levels, .. }) => drop(levels.remove(level)),
            _ => {}
        }
        document
    }
}

/// All ways to choose `count` of them; `None` if they are too many to try.
fn choose<'n>(names: &[&'n str], count: usize) -> Option<Vec<Vec<&'n str>>> {
    let mut choices: Vec<Vec<&str>> = vec![Vec::new()];
    // Each name is added to those choices that have room for it; what stays short is left out at the end.
    for (position, name) in names.iter().enumerate() {
        let left = names.len().saturating_sub(position);
        let longer: Vec<Vec<&str>> = choices
            .iter()
            .filter(|choice| choice.len() < count)
            .map(|choice| choice.iter().copied().chain([*name]).collect())
            .collect();
        choices.retain(|choice| choice.len() + left > count || choice.len() == count);
        choices.extend(longer);
        if choices.len() > MAX_CHOICES * 4 {
            return None;
        }
    }
    choices.retain(|choice| choice.len() == count);
    (choices.len() <= MAX_CHOICES).then_some(choices)
}

#[cfg(test)]
mod tests {
    use rutli_release::{Channel, Class, Product, Requester, Sequence, Version};

    use super::*;
    use crate::facts::ReleaseFacts;

    #[test]
    fn a_search_ends_at_its_bound() {
        let names: Vec<String> = (0..100).map(|number| format!("\"t{number}\"")).collect();
        let names = names.join(", ");
        let text = format!(
            "@id(\"a\") permit(principal, action == Action::\"sign\", resource) when {{ context.testsPassed.containsAll([{names}]) &&
                !context.testsPassed.contains(\"t0\") && context.time.hour < 12 }};"
        );
        let set = PolicySet::parse(&[("a".to_owned(), text)], None).unwrap();
        let (requester, product, channel, version) = (
            Requester::new("pipeline").unwrap(),
            Product::new("suite").unwrap(),
            Channel::new("stable").unwrap(),
            Version::new("1").unwrap(),
        );
        let sequence = Sequence::new(1).unwrap();
        let (class, artifacts) = (Class::ProductBuild, 1);
        let facts = Facts {
            requester: &requester,
            release: ReleaseFacts {
                class,
                product: &product,
                channel: &channel,
                version: &version,
                sequence,
                artifacts,
                file_names: crate::facts::FileNames::Names(&[]),
                issued_at: rutli_release::Timestamp(1_795_428_000),
                expires_at: None,
                formats: &[],
            },
            embargoed: false,
            established: &[],
            previous_sequence: None,
            previous_version: None,
            version_is_new: true,
            files_permitted_before: 0,
            rates: Rates::default(),
            now_unix: 1_795_428_000,
        };
        let entities = set.asker.entities(&facts).unwrap();
        let mut search = Search::new(&set, &set.cedar, &facts, &entities);
        assert!(search.run().is_none());
        assert_eq!(search.trials, MAX_TRIALS);
    }

    #[test]
    fn all_choices_are_found_once() {
        assert_eq!(choose(&["a", "b", "c"], 2).unwrap().len(), 3);
        let distinct: BTreeSet<Vec<&str>> =
            choose(&["a", "b", "c", "d", "e"], 3).unwrap().into_iter().collect();
        assert_eq!(distinct.len(), 10);
        assert_eq!(choose(&["a"], 1).unwrap(), [["a"]]);
        assert_eq!(choose(&["a"; 40], 20), None);
        assert_eq!(choose(&["a"; 12], 2), None, "66 of them");
    }
}
