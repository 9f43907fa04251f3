//! The policies that are shipped as examples: loaded, and tried on the cases beside them.

use rutli_policy::{Cases, PolicySet, run_cases};

const EXAMPLES: [(&str, &str, &str); 3] = [
    (
        "vendor-node",
        include_str!("../../../deploy/examples/vendor-node/policy.cedar"),
        include_str!("../../../deploy/examples/vendor-node/cases.toml"),
    ),
    (
        "supervisor-node",
        include_str!("../../../deploy/examples/supervisor-node/policy.cedar"),
        include_str!("../../../deploy/examples/supervisor-node/cases.toml"),
    ),
    (
        "av-database",
        include_str!("../../../deploy/examples/av-database/policy.cedar"),
        include_str!("../../../deploy/examples/av-database/cases.toml"),
    ),
];

#[test]
fn all_cases_go_as_expected() {
    for (name, policy, cases) in EXAMPLES {
        let set = PolicySet::parse(&[(format!("{name}/policy.cedar"), policy.to_owned())], None).unwrap();
        assert_eq!(set.warnings(), [""; 0]);
        let report = run_cases(&set, &Cases::parse(cases).unwrap());
        let problems: Vec<_> = report.cases.iter().filter(|case| !case.passed).collect();
        assert!(report.passed, "{name}: {problems:#?}");
        assert!(report.cases.len() >= 8);
    }
}
