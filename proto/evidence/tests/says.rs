//! What documents say of themselves, whoever wrote them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rutli_evidence::Evidence;
use serde_json::json;
use support::*;

fn says(document: &[u8]) -> String {
    let lines = Evidence::parse(document).unwrap().says();
    lines.iter().map(|(name, text)| format!("{name}: {text}\n")).collect()
}

#[test]
fn attestations_say_what_they_claim_under_any_key() {
    let text = says(&attested(&provenance(BUILDER), 99));
    assert!(text.starts_with(&format!("builder: {BUILDER}\n")), "{text}");
    assert!(
        text.contains(&format!("source: git+https://vendor.example/suite gitCommit:{}\n", "ab".repeat(20)))
    );
    assert!(
        text.contains("finished: 2026-11-21T10:00:00Z\nabout: linux/suite-1, linux/suite-2, linux/suite-3\n")
    );
    let text = says(&attested(&with(test_result(), "/predicate/result", json!("FAILED")), 99));
    assert!(text.starts_with("result: failed\ntested: clean-set"), "{text}");
    assert!(text.contains("passed: false-positives, install\n"), "{text}");
    let text = says(&attested(&review(), 99));
    assert!(text.contains("result: passed\nlevels: AUDITED\nabout: suite-1.2.tar.gz\n"), "{text}");
}

#[test]
fn what_a_document_says_is_short_and_moves_no_cursor() {
    let mut statement = provenance(BUILDER);
    statement["subject"] = (0..40)
        .map(|number| json!({"name": format!("\u{1b}[2J{number:02}"), "digest": {"sha256": "00".repeat(32)}}))
        .collect();
    let text = says(&attested(&statement, 1));
    assert!(text.contains("\\u{1b}[2J00") && text.ends_with(" and 32 more\n"), "{text}");
    assert!(!text.contains("[2J39") && !text.contains('\u{1b}'));
}
