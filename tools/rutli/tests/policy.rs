//! `rutli policy` as custodians and scripts see it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::process::{Command, Output};

use serde_json::Value;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples");

fn policy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rutli")).arg("policy").args(args).output().unwrap()
}

fn example(name: &str) -> String {
    format!("{EXAMPLES}/supervisor-node/{name}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn good_policies_pass() {
    let output = policy(&["check", &example("policy.cedar")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).starts_with("5 policies: avdb-rate, avdb-tested, "));
    // A folder is read as a node reads it.
    let output = policy(&["check", "--json", &format!("{EXAMPLES}/supervisor-node")]);
    assert_eq!(json(&output)["policies"].as_array().unwrap().len(), 5);
}

#[test]
fn examples_pass_by_their_own_trust() {
    for name in ["vendor-node", "supervisor-node", "av-database"] {
        let folder = format!("{EXAMPLES}/{name}");
        let output = policy(&["check", "--json", "--trust", &folder, &folder]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(json(&output)["warnings"], serde_json::json!([]), "{name}");
        let cases = format!("{folder}/cases.toml");
        let output = policy(&["test", "--trust", &folder, &folder, &cases]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

#[test]
fn bad_policies_are_told_with_file_line_and_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.cedar");
    std::fs::write(&path, "// mine\npermit(principal, action == Action::\"sign\", resource);\n").unwrap();
    let output = policy(&["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("mine.cedar, line 2: this policy has no usable id") && said.contains("help: "),
        "{said}"
    );
    assert_eq!(policy(&["test", path.to_str().unwrap(), &example("cases.toml")]).status.code(), Some(2));
    assert_eq!(policy(&["check", "/nonexistent.cedar"]).status.code(), Some(2));
    assert_eq!(policy(&["check", folder.path().join("x").to_str().unwrap()]).status.code(), Some(2));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(policy(&["check", folder.path().to_str().unwrap()]).status.code(), Some(2));
}

#[test]
fn whom_policies_name_must_be_trusted_where_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    std::fs::write(folder.path().join("allowed_signers"), format!("clara {key}\n")).unwrap();
    let output = policy(&["check", "--trust", folder.path().to_str().unwrap(), &example("policy.cedar")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr)
            .contains("names vendor-builder in context.builders, but you trust no such builder")
    );
}

#[test]
fn custodians_whose_keys_have_expired_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    std::fs::write(
        folder.path().join("allowed_signers"),
        format!("clara valid-before=\"20200101000000Z\" {key}\n"),
    )
    .unwrap();
    let policy_file = folder.path().join("p.cedar");
    std::fs::write(
        &policy_file,
        "@id(\"a\") permit(principal, action == Action::\"sign\", resource) when { context.approvers.contains(\"clara\") };",
    )
    .unwrap();
    let folder = folder.path().to_str().unwrap();
    let output = policy(&["check", "--json", "--trust", folder, folder]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let warnings = json(&output)["warnings"].to_string();
    assert!(
        warnings.contains("clara: every key of this name has expired (valid-before 2020-01-01T00:00:00Z)"),
        "{warnings}"
    );
}

#[test]
fn cases_name_only_people_whom_the_folder_trusts() {
    let folder = format!("{EXAMPLES}/supervisor-node");
    let copy = tempfile::tempdir().unwrap();
    let cases = copy.path().join("cases.toml");
    let changed = std::fs::read_to_string(example("cases.toml")).unwrap().replace("\"dario\"", "\"emil\"");
    std::fs::write(&cases, changed).unwrap();
    for command in ["test", "explain"] {
        let output = policy(&[command, "--trust", &folder, &folder, cases.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = text(&output.stderr);
        assert!(
            said.contains("emil, who is no custodian in allowed_signers") && said.contains("help: "),
            "{said}"
        );
        let output = policy(&[command, &folder, cases.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "without --trust nobody knows: {output:?}");
    }
}

#[test]
fn cases_go_as_expected_or_say_how_not() {
    let output = policy(&["test", &example("policy.cedar"), &example("cases.toml")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).ends_with("18 cases go as expected\n"));
    let folder = tempfile::tempdir().unwrap();
    let cases = folder.path().join("cases.toml");
    let changed =
        std::fs::read_to_string(example("cases.toml")).unwrap().replacen("\"permitted\"", "\"refused\"", 1);
    std::fs::write(&cases, changed).unwrap();
    let output = policy(&["test", "--json", &example("policy.cedar"), cases.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let document = json(&output);
    assert_eq!((&document["passed"], document["cases"].as_array().unwrap().len()), (&Value::Bool(false), 18));
    assert!(
        document["error"]["problem"].as_str().unwrap().starts_with("1 of 18 cases do not go as expected:")
    );
    // What is read or kept in a file is all of it; what went wrong stands apart.
    let output = policy(&["test", &example("policy.cedar"), cases.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let (table, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(table.lines().filter(|line| line.starts_with("ok  ")).count(), 17, "{table}");
    assert_eq!(table.lines().filter(|line| line.starts_with("NOT AS EXPECTED  ")).count(), 1, "{table}");
    assert!(said.starts_with("error: 1 of 18 cases") && said.lines().count() == 2, "{said}");
    std::fs::write(&cases, "[[case]]\nluck = 1\n").unwrap();
    assert_eq!(policy(&["test", &example("policy.cedar"), cases.to_str().unwrap()]).status.code(), Some(2));
}

#[test]
fn explanations_go_policy_by_policy() {
    let name = "the seventh database within an hour waits";
    let all = [example("policy.cedar"), example("cases.toml")];
    let output = policy(&["explain", &all[0], &all[1], "--case", name]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.starts_with(&format!("{name}: waits\n")), "{said}");
    assert!(said.contains("permit avdb-tested (") && said.contains("forbid avdb-rate ("), "{said}");
    assert!(said.contains("applies, until there is: a quieter hour"), "{said}");
    let output = policy(&["explain", "--json", &all[0], &all[1]]);
    assert_eq!(json(&output)["cases"].as_array().unwrap().len(), 18);
    let output = policy(&["explain", &all[0], &all[1], "--case", "none"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("its cases: "));
}
