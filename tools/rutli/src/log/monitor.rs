//! `rutli log monitor`: follows a log and says what is wrong with it.
//!
//! One round: checkpoint → signature and cosignatures → all new entries, against all tiles of all levels → the root, which is
//! the head's → entries joined → what is overdue → the head for
//! Sigstore's tools and the heads of other sources → state. What lies in entries is reported once;
//! what is wrong with the head is reported in every round while it is so, and the last verified head stays what it was.

use std::{collections::BTreeMap, path::PathBuf};

use rutli_log::{
    Auditor, Code, Entry, Finding, Head, NotACheckpoint, NotWitnessed, Origin, limits::MAX_CLOCK_SKEW_SECONDS,
};

use super::{
    compare::{Compared, Other},
    documents::{self, Checked, Documents, NotCompared},
    findings::Findings,
    limits::MAX_COMPARED,
    metrics,
    round::{Round, Subject},
    sigstore::SigstoreHeads,
    source::{Source, Unread},
    state::State,
    trust::{Opened, Trust},
    walk::{Read, walk},
};
use crate::{
    cli::{DocumentsChecked, LogMonitor},
    clock,
    report::{Exit, Failure, Report},
    run, text,
};

/// `rutli log monitor --once`
///
/// # Errors
/// Exit code 1 when there is an alarm; 2 for files that cannot be used; 3 when a source does not answer.
pub fn once(args: &LogMonitor, json: bool) -> Result<Report, Failure> {
    Monitor::open(args)?.once(json)
}

/// Follows one log.
pub struct Monitor {
    trust: Trust,
    source: Source,
    others: Vec<Other>,
    state: State,
    state_file: PathBuf,
    metrics_file: Option<PathBuf>,
    documents: Option<Documents>,
    sigstore: Option<SigstoreHeads>,
    grace: u64,
    /// 0: heads of any age will do.
    max_age: u64,
}

impl Monitor {
    /// With what the command line names.
    ///
    /// # Errors
    /// Exit code 2.
    pub fn open(args: &LogMonitor) -> Result<Self, Failure> {
        if args.compare.len() > MAX_COMPARED {
            return Err(Failure::usage(format!(
                "there are more than {MAX_COMPARED} sources to compare with"
            ))
            .help("compare with fewer in each monitor"));
        }
        let trust = Trust::read(&args.place)?;
        // Who follows asks again all the time, and tells what lasts.
        let open = |place: &str| {
            let source = Source::open(place, args.place.ca.as_deref())?;
            Ok(if args.once { source } else { source.silent() })
        };
        let others = args.compare.iter().map(|place| Other::open(place, open)).collect::<Result<_, _>>()?;
        let documents = (args.documents == DocumentsChecked::All).then(Documents::default);
        Ok(Self {
            source: open(&args.place.log)?,
            others,
            state: State::read(&args.state, trust.origin())?,
            trust,
            state_file: args.state.clone(),
            metrics_file: args.metrics.clone(),
            documents,
            sigstore: args.trusted_root.as_deref().map(SigstoreHeads::read).transpose()?,
            grace: args.grace.as_secs(),
            max_age: args.max_age.as_secs(),
        })
    }

    /// One round, shown before it is kept: what could not be shown is found again.
    fn once(&mut self, json: bool) -> Result<Report, Failure> {
        let round = self.round(clock::unix_now()).inspect_err(|_| {
            self.measure(false).unwrap_or_else(|problem| eprintln!("{problem}"));
        })?;
        let up = round.read_the_log();
        let Report { text, json: mut document } = round.report();
        let (failure, besides) = round.into_failure();
        besides.iter().for_each(|problem| eprintln!("{problem}"));
        if let Some(failure) = &failure {
            document = failure.clone().with(document).json();
        }
        run::show(&Report::new(text, document), json)?;
        let mut failure = match (failure, self.keep().and_then(|()| self.measure(up))) {
            (None, Ok(())) => return Ok(Report::default()),
            (None, Err(problem)) => problem,
            (Some(failure), Ok(())) => failure,
            // An alarm weighs more than a file, and a file of ours more than a source that may answer next time.
            (Some(alarm), Err(problem)) if alarm.exit == Exit::Failed => {
                eprintln!("{problem}");
                alarm
            }
            (Some(failure), Err(problem)) => {
                eprintln!("{failure}");
                problem
            }
        };
        failure.shown = true;
        Err(failure)
    }

    /// Makes what the last round found out durable.
    ///
    /// # Errors
    /// Exit code 2, with the file.
    pub fn keep(&self) -> Result<(), Failure> {
        self.state.write(&self.state_file)
    }

    /// Writes metrics, if they are asked for.
    ///
    /// # Errors
    /// Exit code 2, with the file.
    pub fn measure(&self, up: bool) -> Result<(), Failure> {
        self.metrics_file.as_ref().map_or(Ok(()), |path| metrics::write(path, &self.state, up))
    }

    /// Which log.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        self.trust.origin()
    }

    /// Reads what is new and verifies it. Nothing is kept by this.
    ///
    /// # Errors
    /// Exit code 3 for a log that does not answer; 2 for the first round of another log than was meant.
    pub fn round(&mut self, now: u64) -> Result<Round, Failure> {
        // First: the head for Sigstore's tools is published after the native one, and so is never ahead of it.
        let sigstore_note = self.sigstore.as_ref().map(|_| self.source.sigstore_checkpoint());
        let note =
            self.source.checkpoint().map_err(|error| error.into_failure("checkpoint", &self.source))?;
        let before = self.state.head();
        let mut findings = Vec::new();
        let mut cosigned_by = Vec::new();
        let mut quorum = None;
        let mut problems = BTreeMap::new();
        match self.trust.open(&note) {
            Ok(opened) => {
                quorum = Some(opened.lacks.is_none());
                self.check_cosignatures(&opened, now, &mut findings);
                self.check_age(&opened, now, &mut findings);
                let head = opened.checkpoint.head();
                cosigned_by = opened.cosigned_by;
                match self.follow(head, &mut findings) {
                    Ok(true) => {
                        if head.size > before.size || self.state.note.is_none() {
                            self.state.head_seen = now;
                        }
                        self.state.note = Some(note);
                        self.state.verified = now;
                    }
                    Ok(false) => {}
                    // A log that keeps back one file must not hide what is known without it.
                    Err(problem) if problem.exit != Exit::Usage => {
                        problems.insert(Subject::Log, problem);
                    }
                    Err(problem) => return Err(problem),
                }
            }
            // Nothing was ever verified here: more likely the wrong file than a wrong log.
            Err(error @ NotACheckpoint::Origin { .. }) if self.state.note.is_none() => {
                return Err(Failure::usage(format!(
                    "the checkpoint at {} is not what you trust: {}",
                    self.source.name(),
                    text::printable(&error.to_string())
                ))
                .help("give the policy or key of the log that is there, or the address of the log that you mean"));
            }
            Err(error) => findings.push(Finding::of_log(Code::CheckpointInvalid, error.to_string())),
        }
        // In what could not be read may stand what is missed.
        if !problems.contains_key(&Subject::Log) {
            findings.extend(self.state.auditor.overdue(now, self.grace));
        }
        self.compare_others(&mut findings, &mut problems);
        let sigstore_size =
            self.compare_sigstore(sigstore_note, now, &mut findings).unwrap_or_else(|problem| {
                problems.insert(Subject::Sigstore, problem);
                None
            });
        let mut bounded = Findings::default();
        bounded.extend(findings);
        let findings = bounded.into_vec();
        self.state.count(&findings);
        let head = self.state.head();
        Ok(Round {
            origin: self.trust.origin().to_string(),
            head,
            new: head.size.saturating_sub(before.size),
            open: self.state.auditor.open_requests(),
            embargoes: self.state.auditor.embargoes(),
            cosigned_by,
            sigstore_size,
            time: now,
            findings,
            quorum,
            grace: self.grace,
            problems,
        })
    }

    fn check_cosignatures(&mut self, opened: &Opened, now: u64, findings: &mut Vec<Finding>) {
        match &opened.lacks {
            None => self.state.uncosigned_since = None,
            Some(NotWitnessed::Checkpoint(error)) => {
                findings.push(Finding::of_log(Code::CosignatureInvalid, error.to_string()));
            }
            Some(lacks @ NotWitnessed::Quorum { .. }) => {
                let since = *self.state.uncosigned_since.get_or_insert(now);
                if now.saturating_sub(since) > self.grace {
                    let text = format!("since {}: {lacks}", text::time(since));
                    findings.push(Finding::of_log(Code::CosignaturesMissing, text));
                }
            }
        }
    }

    /// How old the head is, by those who cosigned it: a log that runs publishes one with fresh cosignatures every minute, and
    /// an old one can be shown for ever.
    fn check_age(&self, opened: &Opened, now: u64, findings: &mut Vec<Finding>) {
        let latest = now.saturating_add(MAX_CLOCK_SKEW_SECONDS);
        let ahead = self.trust.cosigned_after(&opened.checkpoint, latest);
        if !ahead.is_empty() {
            let text = format!(
                "it is {} here, and cosigned later than {}: {}",
                text::time(now),
                text::time(latest),
                ahead.join(", ")
            );
            findings.push(Finding::of_log(Code::CosignatureFuture, text));
        }
        // What lacks cosignatures is another finding.
        if self.max_age == 0 || !self.trust.has_quorum() || opened.lacks.is_some() {
            return;
        }
        let cosigned = self.trust.cosigned_at(&opened.checkpoint, latest);
        if cosigned.is_some_and(|cosigned| cosigned.saturating_add(self.max_age) >= now) {
            return;
        }
        let last = cosigned.map_or_else(
            || "at a time that is yet to come".to_owned(),
            |cosigned| format!("on {}", text::time(cosigned)),
        );
        let text = format!(
            "a quorum cosigned it last {last}, and a log that runs has that done every minute; if this one was stopped, \
             say --max-age 0"
        );
        findings.push(Finding::of_log(Code::HeadStale, text));
    }

    /// Takes over a published head, if it is one and extends the last; says whether it did.
    fn follow(&mut self, head: Head, findings: &mut Vec<Finding>) -> Result<bool, Failure> {
        let last = self.state.head();
        if head.size < last.size {
            let text = format!("{} entries are published, but {} were before", head.size, last.size);
            findings.push(Finding::of_log(Code::HeadBackwards, text));
            return Ok(false);
        }
        if head.size == last.size {
            if head.root != last.root {
                let text =
                    format!("two roots for {} entries: {} before, {} now", head.size, last.root, head.root);
                findings.push(Finding::of_log(Code::HeadForked, text));
            }
            return Ok(head.root == last.root);
        }
        // Entries count only once their tree is the head's: until then on a copy.
        let mut auditor = self.state.auditor.clone();
        let mut in_entries = Findings::default();
        let mut unread = None;
        let (from, documents) = (self.state.tiles.clone(), self.documents.as_ref());
        let walked = walk(&self.source, from, &head, documents, |read| {
            if let Err(error) = self.read_entry(&mut auditor, read, &mut in_entries) {
                unread.get_or_insert(error);
            }
        })?;
        if let Some(error) = unread {
            return Err(error);
        }
        findings.extend(walked.findings);
        if walked.holds {
            findings.extend(in_entries.into_vec());
            self.state.tiles = walked.tiles;
            self.state.root = head.root;
            self.state.auditor = auditor;
        }
        Ok(walked.holds)
    }

    /// Compares the head for Sigstore's tools; gives its entries, if there is one.
    fn compare_sigstore(
        &mut self,
        note: Option<Result<String, Unread>>,
        now: u64,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<u64>, Failure> {
        let (Some(heads), Some(note)) = (&self.sigstore, note) else { return Ok(None) };
        let published = match note {
            Ok(note) => Some(note),
            // Not before nodes have cosigned a head.
            Err(Unread::Missing) => None,
            Err(Unread::Damaged) => {
                let text = "the file is too long or no text";
                findings.push(Finding::of_log(Code::SigstoreHeadDiffers, text));
                None
            }
            Err(error @ Unread::Failed(_)) => {
                return Err(error.into_failure("head for Sigstore's tools", &self.source));
            }
        };
        heads.compare(published, &self.source, &mut self.state, now, self.grace, findings)
    }

    fn read_entry(&self, auditor: &mut Auditor, read: Read, findings: &mut Findings) -> Result<(), Failure> {
        let Read { index, entry, document, .. } = read;
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                auditor.skip();
                findings.push(Finding::at(Code::EntryMalformed, index, error.to_string()));
                return Ok(());
            }
        };
        let hidden = match (&entry, &document) {
            (Entry::Dsse(dsse), Checked::Absent) => {
                auditor.keep_leaf(dsse);
                None
            }
            (Entry::Disclosure(disclosure), _) if self.documents.is_some() => {
                let leaf = auditor.kept_leaf(disclosure.request).cloned();
                leaf.map(|leaf| (leaf, disclosure.opened.statement))
            }
            _ => None,
        };
        findings.extend(auditor.read(&entry));
        match (document, &entry) {
            (Checked::Wrong(finding), _) => findings.push(finding),
            (Checked::Roster(organisations), Entry::Key(key)) => {
                findings.extend(auditor.learn_roster(&key.roster, organisations));
            }
            _ => {}
        }
        if let Some((leaf, statement)) = hidden {
            let finding = documents::disclosed(&self.source, &leaf, &statement);
            findings.extend(finding.map_err(|NotCompared(unread)| unread.into_failure("log", &self.source))?);
        }
        Ok(())
    }

    /// Compares with all other sources; gives those that do not answer, which must not hide what was found.
    fn compare_others(&mut self, findings: &mut Vec<Finding>, problems: &mut BTreeMap<Subject, Failure>) {
        let ours = self.state.head();
        let mut ahead = BTreeMap::new();
        for other in &self.others {
            let waiting = self.state.ahead.get(other.name()).cloned();
            let mut failed = |problem| problems.insert(Subject::Other(other.name().to_owned()), problem);
            let published = match other.note(&self.trust) {
                Ok(note) => Some(note).filter(|note| waiting.as_ref() != Some(note)),
                Err(problem) => {
                    failed(problem);
                    None
                }
            };
            // The one that waits comes last and stays: it must be reached before any later one.
            for note in published.into_iter().chain(waiting) {
                match other.compare(&note, &self.trust, &ours, &self.source) {
                    Ok(Compared::Same) => {}
                    Ok(Compared::Different(finding)) => findings.push(finding),
                    Ok(Compared::Ahead) => drop(ahead.insert(other.name().to_owned(), note)),
                    Err(problem) => {
                        failed(problem);
                        ahead.insert(other.name().to_owned(), note);
                    }
                }
            }
        }
        self.state.ahead = ahead;
    }
}
