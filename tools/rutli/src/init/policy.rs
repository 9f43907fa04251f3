//! The first policies of a node, from the `allow` entries of a description: a file that its custodian then
//! extends.

use std::fmt::Write as _;

use super::deployment::Allow;

/// What begins the file, for the person who will own it.
const HEAD: &str = r#"// What this node signs: policies in Cedar (cedarpolicy.com). Nothing is permitted that no permit below permits, and nothing
// that a forbid forbids. They are this node's custodian's own: `rutli init` wrote them once, and nobody else changes them.
//
// All files *.cedar in this folder count. A change is in force some seconds later, or at once with `rutli node reload`; files
// with a mistake are not, and `rutli node status` says why. Each policy has an @id, and may have a @reason for those whom it refuses.
//
// To ask for evidence, name whom you trust beside this file and ask for it in a policy:
//   trust.toml         [[key]] name = "builder-1", role = "builder", file = "builder-1.pem", ids = ["https://ci.example/builder"]
//   allowed_signers    custodians, as ssh-keygen(1) has it: anna ssh-ed25519 AAAA…
// and then in a condition, for example:
//   context.builders.contains("builder-1") && context.approvers.contains("anna")
"#;

/// Policies that permit what is allowed, and nothing else.
#[must_use]
pub fn cedar(allow: &[Allow]) -> String {
    let mut text = HEAD.to_owned();
    for (number, rule) in (1..).zip(allow) {
        // Writing to a string does not fail.
        _ = write!(
            text,
            "\n@id(\"allow-{number}\")\npermit (principal, action == Action::\"sign\", resource)\nwhen {{\n    {}\n}};\n",
            conditions(rule).join(" &&\n    ")
        );
    }
    if allow.is_empty() {
        text.push_str("\n// Nothing yet.\n");
    }
    text
}

fn conditions(rule: &Allow) -> Vec<String> {
    let mut conditions = vec![
        format!("resource.class == Class::\"{}\"", rule.class),
        format!("resource.product == \"{}\"", rule.product),
    ];
    if let Some(channels) = &rule.channels {
        let names: Vec<_> = channels.iter().map(|channel| format!("\"{channel}\"")).collect();
        conditions.push(format!("[{}].contains(resource.channel)", names.join(", ")));
    }
    if let Some(most) = rule.max_artifacts {
        conditions.push(format!("resource.artifacts <= {most}"));
    }
    if !rule.embargo {
        conditions.push("!context.embargoed".to_owned());
    }
    conditions
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use rutli_policy::{Decision, Facts, FileNames, Rates, ReleaseFacts, Rules};
    use rutli_release::{Channel, Class, Product, Requester, Sequence, Timestamp, Version};

    use super::*;

    fn permits(allow: &[Allow], channel: &str, artifacts: u64, embargoed: bool) -> bool {
        let files = [("policy.cedar".to_owned(), cedar(allow).into_bytes())].into();
        let rules = Rules::parse(&files).unwrap();
        let facts = Facts {
            requester: &Requester::new("pipeline").unwrap(),
            release: ReleaseFacts {
                class: Class::ProductBuild,
                product: &Product::new("suite").unwrap(),
                channel: &Channel::new(channel).unwrap(),
                version: &Version::new("1").unwrap(),
                sequence: Sequence::try_from(1).unwrap(),
                artifacts,
                file_names: FileNames::Names(&[]),
                issued_at: Timestamp(1_800_000_000),
                expires_at: None,
                formats: &[],
            },
            embargoed,
            established: &[],
            files_permitted_before: 0,
            previous_sequence: None,
            previous_version: None,
            version_is_new: true,
            rates: Rates::default(),
            now_unix: 1_800_000_000,
        };
        matches!(rules.policies.decide(&facts), Decision::Permitted { .. })
    }

    #[test]
    fn policies_permit_what_the_description_allows() {
        let rule = |class: Class, product: &str| Allow {
            class,
            product: Product::new(product).unwrap(),
            channels: None,
            max_artifacts: None,
            embargo: false,
        };
        let suite = rule(Class::ProductBuild, "suite");
        assert!(!permits(&[], "stable", 1, false));
        assert!(permits(&[rule(Class::AvDatabase, "avdb"), suite.clone()], "stable", 5_000, false));
        assert!(!permits(from_ref(&suite), "stable", 1, true));
        assert!(permits(&[Allow { embargo: true, ..suite.clone() }], "stable", 1, true));
        for other in [rule(Class::AvDatabase, "suite"), rule(Class::ProductBuild, "other")] {
            assert!(!permits(&[other], "stable", 1, false));
        }
        let stable = Allow { channels: Some(vec![Channel::new("stable").unwrap()]), ..suite.clone() };
        assert!(
            permits(from_ref(&stable), "stable", 1, false) && !permits(from_ref(&stable), "beta", 1, false)
        );
        let few = Allow { max_artifacts: Some(3), ..suite };
        assert!(permits(from_ref(&few), "stable", 3, false) && !permits(from_ref(&few), "stable", 4, false));
    }
}
