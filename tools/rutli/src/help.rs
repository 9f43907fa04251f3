//! `rutli help`: commands as clap explains them, and the topics that are no command.

use clap::CommandFactory;
use rutli_log::{Code, Severity};
use serde_json::json;

use crate::{
    cli::Cli,
    init::deployment::EXAMPLE,
    report::{Failure, Report},
};

const EXIT_CODES: &str = "\
Exit codes of all commands:

  0  Done: signed, verified, written.
  1  Not verified; refused, cancelled, expired or overtaken; something failed; `log monitor` found a new alarm;
     `policy check` found what no node would load, `policy test` a case that goes otherwise, `policy replay` a release
     that was signed and would not have been.
     Trying the same again does not help.
  2  Wrong usage: flags, a file that cannot be read or used, a field that the coordinator does not take.
  3  The coordinator, the node or the log cannot be reached, or does not permit it to this certificate.
  4  Time is up, or Ctrl-C: what was asked for still goes on. Run the command again to wait for it.
  5  Files are not those that were expected: `attest rebuild` built others, and nothing is attested; `review` was given
     others than the release has.
  6  `sign` had a release signed of which a file was changed after it was hashed: that file's signature is not written.

`approve` and `refuse` end with 1 if the answer was not yes, if the signature does not hold, if the release is final already, or if
`ssh-keygen` did not sign; nothing was sent then. That nodes still wait for something else is no failure: they end with 0.

`log monitor` without --once runs until Ctrl-C or SIGTERM. Its state is saved then, and it ends with 1 if it found an
alarm since it was started, else with 3 if it could not read a source in the end, else with 0.

Every error says the problem, and on a line `help:` the way out.";

const JSON: &str = "\
With --json every command prints one JSON document on stdout and nothing else there; progress and warnings stay on
stderr. Fields are added, never renamed. Times are Unix seconds, digests and public keys hexadecimal.

  every error     {\"error\":{\"exit\":N,\"problem\":TEXT,\"help\":TEXT or null}, …}; and what is known beside it, as the
                  release that was refused, or {\"verified\":false,\"reason\":TEXT,…}
  sign, release   {\"release_id\",\"request_id\",\"requester\",\"class\",\"product\",\"channel\",\"version\",\"sequence\",
   show|watch|    \"issued_at\",\"expires_at\",\"formats\":[…],\"artifacts\":[{\"name\",\"sha256\"}],
   cancel|fetch|  \"state\",\"waiting_for\":[…],\"refusals\":[{\"node\",\"code\",\"reason\"}],\"signatures\":{\"done\",\"total\"},
   disclose       \"signed_by\":[…],\"key\",\"created_at\",\"finished_at\",\"overtaken_by\",\"embargo_until\",\"disclosed_at\",\"log_index\",
                  \"proven\",\"proven_at\",\"files\":[NAME…],\"written\":[PATH…]}
                  key: null until it is signed; log_index: the request's entry in the log, counted from 0; proven: the
                  proof that the signature is in the log is among the files
                  state: queued, awaiting-quorum, awaiting-evidence, signing, signed, refused, cancelled, expired,
                  overtaken
                  \"evidence\":[{\"digest\",\"kind\",\"submitter\",\"added_at\",\"size\",\"log_index\"}]; not in lists.
                  kind, by its form alone: build, tests, review, approval, refusal
  release list    {\"releases\":[as above…]}
  cancel          as release cancel; with --requester {\"requester\",\"cancelled\":[ID…],\"too_late\":[ID…]}
  pending         {\"releases\":[as above, without \"artifacts\"; \"age\" in seconds,
                  \"wants\":[{\"node\",\"organisation\",\"code\",\"what\"}]]}; code: evidence-missing, not-yet, or null
  show            as release show, and \"statement_sha256\", \"wants\", and each piece of evidence with \"says\":{…},
                  \"established\",\"by\",\"not_established\" (all null without --trust); \"difference\", null for the
                  first release: {\"release_id\",\"sequence_before\",\"version_before\",\"added\":[{\"name\",\"size\"}],
                  \"removed\":[…],\"changed\":[{\"name\",\"size_before\",\"size\"}],\"unchanged\",
                  \"less_evidence\":[{\"kind\",\"before\",\"now\"}]}
                  established: provenance, rebuild, tests, review, approval, refusal; null if it establishes nothing
  approve,refuse  as release show, and \"word\",\"statement_sha256\",\"digest\",\"added\":[DIGEST…], empty if it was there
                  already; with --print-text as show, and \"word\",\"namespace\",\"written\":[PATH]
  evidence add    as release show, and \"added\":[DIGEST…]
  evidence list|  {\"release_id\",\"evidence\":[as above…],\"written\":[PATH…]}
   export
  verify          {\"verified\":true,\"format\",\"class\",\"key_id\",\"files\":[{\"path\",\"name\"}]}; statements also
                  \"product\",\"channel\",\"version\",\"sequence\",\"issued_at\",\"expires_at\"; with --bundle also
                  \"log\":{\"name\",\"index\",\"size\",\"root\",\"integrated_at\",\"witnesses\":[…]}; of a proof of
                  SSH signatures \"statement\",\"signed_by\" instead of \"class\"
  ceremony …      {\"ceremony_id\",\"words\",\"state\",\"proposal\",\"proposer\",\"nodes\":[{\"node\",\"step\",\"connected\"}],
                  \"deadline\",\"reason\",\"culprits\":[…],\"waiting_for\":[…],\"keys\":[{\"name\",\"purpose\",\"public_key\",
                  \"roster_hash\",\"words\"}]}; state: proposed, running, done, aborted; connected is null at a
                  node's socket: a node knows no link but its own
  ceremony list   {\"ceremonies\":[as above…]}
  node status|…   {\"node\",\"state\",\"reason\",\"version\",\"identity\",\"keys\":[…],\"coordinators\":[{\"url\",\"connected\",
                  \"error\"}],\"permitted\",\"refused\",\"shares\",\"marks\":[{\"class\",\"product\",\"channel\",\"sequence\"}],
                  \"policy\":{\"digest\",\"policies\":[ID…],\"trusts\":[TEXT…],\"loaded_at\",\"problem\",\"warnings\":[TEXT…]},
                  \"log\":{\"origin\",\"size\",\"root\",\"state\"}}; log state: following, catching-up, forked;
                  problem: why the files as they are now are not in force, or null
  node list       {\"nodes\":[{\"node\",\"connected\",\"state\",\"reason\",\"version\",\"culprit\",\"warning\",\"keys\":[…],\"commitments\"}]}
  keys …          {\"keys\":[{\"name\",\"purpose\",\"key_id\",\"public_key\",\"epoch\",\"roster_hash\",\"words\",
                  \"organisations\":[{\"name\",\"threshold\",\"nodes\":[…]}]}],\"written\":[PATH…]}
  init            {\"ca\",\"proposal\",\"coordinator\":{\"config\"},\"log\":{\"url\",\"key\",\"policy\",\"trusted_root\",
                  \"kept\"},\"nodes\":[{\"node\",\"config\",\"socket\"}],
                  \"clients\":[{\"name\",\"role\",\"profile\"}]}
  log monitor     {\"log\",\"time\",\"size\",\"root\",\"new_entries\",\"open_requests\",\"embargoes\",\"cosigned_by\":[…],
                  \"quorum\",\"sigstore_size\",\"alarms\",\"notices\",\"findings\":[{\"code\",\"severity\",\"index\",\"text\",
                  \"help\"}]}. severity: alarm, notice; index: null for the log as a whole; quorum: whether it is cosigned
                  as the policy asks, null for no head of the log; sigstore_size: entries of the head for Sigstore's
                  tools, null where it was not compared.
                  Without --once one such object on a line for each round; and, on a line of its own, what kept it
                  from looking, once: {\"log\",\"time\",\"error\":{\"exit\",\"problem\",\"help\"}}, and
                  {\"log\",\"time\",\"over\":{\"problem\"}} when that is over. An error is also the last line, if it ends
                  with another exit code than 0 and this was not told yet; log: null before it is known
  log show        {\"log\",\"size\",\"releases\":[{\"index\",\"time\",\"class\",\"product\",\"channel\",\"version\",\"sequence\",
                  \"requester\",\"release\",\"statement\",\"state\",\"outcome\",\"dsse\",\"key\",\"signed_by\":[…],
                  \"refusals\":[{\"node\",\"code\",\"reason\"}]}]}; under embargo what is not known is null, and reasons are
                  empty; state: open, signed, refused, expired, cancelled, overtaken; release: its id at the coordinator;
                  outcome, dsse: indexes of the entries that say how it ended and hold the signature of its statement,
                  null where there is none
  log show INDEX  {\"log\",\"size\",\"index\",\"leaf\",\"entry\":{…},\"document\":TEXT or null}
  log prove       {\"log\",\"size\",\"index\",\"leaf\",\"cosigned_by\":[…],\"proof\":TEXT,\"written\":PATH or null}
  log export      {\"log\",\"size\",\"entries\",\"written\"}; in the file one {\"index\",\"leaf\",\"entry\":{…}} on each line
  policy check    {\"policies\":[ID…],\"digest\",\"warnings\":[TEXT…]}
  policy test     {\"passed\",\"cases\":[{\"name\",\"passed\",\"expected\",\"decision\":{…},\"words\",\"problem\"}]}; expected and
                  decision.decision: permitted, waits, refused; decision also has \"policies\":[ID…], and \"missing\":[
                  {\"kind\",\"words\",\"count\",\"of\":[NAME…],\"saying\":[TEXT…],\"not_before\"}] or \"reason\"; kind:
                  provenance, rebuild, tests, review, approval, rate, time
  policy explain  {\"cases\":[{\"name\",\"explanation\":{\"decision\",\"words\",\"facts\":{…},\"policies\":[{\"id\",\"file\",\"line\",
                  \"effect\",\"reason\",\"applies\",\"error\",\"missing\":[as above…],\"for_good\"}]}}]}
  policy replay   {\"releases\":[{\"release_id\",\"state\",\"at\",\"explanation\":{as above…},\"not_counted\":[TEXT…],
                  \"differs\"}],\"whole_history\"}; at: by which time it was decided here; differs: signed, and not permitted
  attest rebuild  {\"reproduced\":true,\"builder_id\",\"source\",\"source_digest\",\"isolation\",\"limits\":{\"by\",\"memory\",
                  \"disk\",\"processes\"},\"files\":[{\"name\",\"sha256\"}],\"extra\":[PATH…],\"written\"}; exit code 5: {\"reproduced\":false,\"differences\":[{\"name\",\"kind\",
                  \"text\",\"expected\":{\"sha256\",\"size\"},\"rebuilt\":{\"sha256\",\"size\"} or null,\"offset\"}],
                  \"extra\":[PATH…],\"error\":{…}}; kind: missing, ambiguous, differs; size, offset: null where the
                  expected file is not at hand; a build that fails: {\"reproduced\":false,\"bound\",\"output\":TEXT,
                  \"error\":{…}}; by: cgroup, rlimits; bound: memory, machine, processes, disk, files, or null
  attest          {\"builder_id\",\"source_digest\",\"files\":[{\"name\",\"sha256\"}],\"written\"}
   provenance
  attest          {\"result\",\"files\":[{\"name\",\"sha256\"}],\"written\"}; result: PASSED, WARNED, FAILED
   test-result
  demo            what is in DIR/demo.json, and \"dir\",\"releases\":[…],\"checks\":[{\"what\",\"by\",\"ok\"}]";

const ROLES: &str = "\
A certificate names its party by one URI in its subject alternative names; the coordinator decides by it alone:

  rutli:pipeline:NAME            asks for releases, sees, cancels and discloses its own, adds evidence to them, lists keys
  rutli:operator:NAME            sees, cancels and discloses all releases, also all of a requester, adds evidence, sees
                                 ceremonies and nodes, reinstates nodes
  rutli:custodian:NAME           sees all releases, ceremonies and nodes, adds evidence: approvals, refusals, attestations.
                                 What nodes think of those depends on who signed them, not on who brought them
  rutli:auditor:NAME             sees all releases, ceremonies and nodes
  rutli:node:ORGANISATION:NAME   a signer node
  rutli:coordinator:NAME         the coordinator, to all others

`rutli init` makes a profile for each client; choose one with --profile or RUTLI_PROFILE.";

/// Cases of every kind, which a test of `rutli-policy` tries.
const CASES: &str = include_str!("../../../deploy/examples/supervisor-node/cases.toml");

/// `rutli help [COMMAND… | TOPIC]`
///
/// # Errors
/// Exit code 2 for a topic that is none.
pub fn run(topic: &[String]) -> Result<Report, Failure> {
    let words: Vec<&str> = topic.iter().map(String::as_str).collect();
    let text = match words.as_slice() {
        ["exit-codes"] => EXIT_CODES.to_owned(),
        ["json"] => JSON.to_owned(),
        ["roles"] => ROLES.to_owned(),
        ["log-alarms"] => log_alarms(),
        ["deployment"] => EXAMPLE.trim_end().to_owned(),
        ["policy-facts"] => rutli_policy::SCHEMA.trim_end().to_owned(),
        ["policy-cases"] => CASES.trim_end().to_owned(),
        path => command_help(path)?,
    };
    Ok(Report::new(text.clone(), json!({ "help": text })))
}

/// All that `rutli log monitor` may find.
fn log_alarms() -> String {
    let lines = Code::ALL.iter().map(|code| {
        let severity = match code.severity() {
            Severity::Alarm => "alarm",
            Severity::Notice => "notice",
        };
        format!("{code} ({severity})\n  {}\n  do: {}", code.meaning(), code.advice())
    });
    lines.collect::<Vec<_>>().join("\n\n")
}

fn command_help(path: &[&str]) -> Result<String, Failure> {
    let mut command = Cli::command();
    command.build();
    for name in path {
        command = command.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::usage(format!("no command or topic {name:?}"))
                .help("topics: exit-codes, json, deployment, roles, log-alarms, policy-facts, policy-cases; commands: see `rutli --help`")
        })?;
    }
    Ok(command.render_long_help().to_string().trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_commands_have_help() {
        for topic in [
            "exit-codes",
            "json",
            "deployment",
            "roles",
            "log-alarms",
            "policy-facts",
            "policy-cases",
            "sign",
        ] {
            assert!(!run(&[topic.to_owned()]).unwrap().text.is_empty());
        }
        assert!(run(&["ceremony".to_owned(), "join".to_owned()]).unwrap().text.contains("--words"));
        assert_eq!(run(&["nothing".to_owned()]).unwrap_err().exit.code(), 2);
        assert!(run(&[]).unwrap().text.contains("Exit codes"));
    }

    #[test]
    fn the_page_for_custodians_has_the_commands_and_the_errors() {
        let page = include_str!("../../../docs/operating/approvals.md");
        for word in [
            "rutli pending",
            "rutli review",
            "rutli approve",
            "rutli refuse",
            "rutli evidence add",
            "--print-text",
            "`evidence-missing`",
            "`not-yet`",
            "`custodian-refused`",
            rutli_evidence::APPROVAL_NAMESPACE,
            rutli_evidence::REFUSAL_NAMESPACE,
        ] {
            assert!(page.contains(word), "docs/operating/approvals.md does not say {word}");
        }
    }

    #[test]
    fn every_refusal_about_the_log_is_on_the_operators_page() {
        let page = include_str!("../../../docs/operating/log.md");
        let refusals = rutli_wire::link::RefusalCode::ALL.iter().map(|(_, word)| *word);
        for word in refusals.filter(|word| word.contains("log")) {
            assert!(
                page.contains(&format!("`{word}`")),
                "docs/operating/log.md does not say what {word} means"
            );
        }
    }

    #[test]
    fn the_handbook_has_every_alarm_as_the_program_has_it() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating");
        let pages = std::fs::read_dir(folder).unwrap().map(|page| page.unwrap().path());
        let text: String = pages.filter_map(|page| std::fs::read_to_string(page).ok()).collect();
        for code in Code::ALL {
            let row = text.lines().find(|line| line.starts_with(&format!("| `{code}` |")));
            let row = row.unwrap_or_else(|| panic!("{code} is not in docs/operating"));
            let severity = if code.severity() == Severity::Alarm { "alarm" } else { "notice" };
            assert!(
                row.contains(&format!("| {severity} | {}", code.meaning().trim_end_matches('.'))),
                "{row}"
            );
            assert!(row.to_lowercase().contains(&code.advice().to_lowercase()), "{row}");
        }
    }
}
