//! The first policies of a node, from the `allow` entries of a description: files that its custodian then
//! extends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use rutli_policy::{Rules, TRUST_FILE};
use serde::Serialize;

use super::deployment::{Allow, Builder};
use crate::report::Failure;

/// What begins the file, for the person who will own it.
const HEAD: &str = r#"// What this node signs: policies in Cedar (cedarpolicy.com). Nothing is permitted that no permit below permits, and nothing
// that a forbid forbids. They are this node's custodian's own: `rutli init` wrote them once, and nobody else changes them.
//
// All files *.cedar in this folder count. A change is in force some seconds later, or at once with `rutli node reload`; files
// with a mistake are not, and `rutli node status` says why. Each policy has an @id, and may have a @reason for those whom it refuses.
//
// To ask for more evidence, add whom you trust next to this file and ask for it in a policy:
//   trust.toml         [[key]] name = "builder-1", role = "builder", file = "builder-1.pem", ids = ["https://ci.example/builder"]
//   allowed_signers    custodians, as ssh-keygen(1) has it: anna ssh-ed25519 AAAA…
// and then in a condition, for example:
//   context.builders.contains("builder-1") && context.approvers.contains("anna")
"#;

/// What begins the file of trusted keys.
const TRUST_HEAD: &str =
    "# The keys whose attestations this node counts: of builders, testers, rebuilders and reviewers.\n\n";

/// Comes before a permit that no builder restricts.
const UNATTESTED: &str = "// Unattested, for a trial: only the pipeline says that the files are this product, and nothing verifies it.\n";

#[derive(Serialize)]
struct TrustFile<'a> {
    key: Vec<Key<'a>>,
}

#[derive(Serialize)]
struct Key<'a> {
    name: &'a str,
    role: &'static str,
    public_key: &'a str,
    ids: BTreeSet<&'a str>,
}

/// A node's policy directory: policies that permit what is allowed, and nothing else, and the keys of the builders that they
/// name. Files by name.
///
/// # Errors
/// Exit code 2: a node would not load them, because a builder's key, name or id is wrong.
pub fn files(allow: &[Allow], builders: &[Builder]) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut files = BTreeMap::from([("policy.cedar".to_owned(), cedar(allow).into_bytes())]);
    let ids_of = |name: &str| -> BTreeSet<&str> {
        let built = allow.iter().filter(|allow| allow.builder.as_deref() == Some(name));
        built.filter_map(|allow| allow.builder_id.as_deref()).collect()
    };
    let key: Vec<Key<'_>> = builders
        .iter()
        .map(|Builder { name, public_key }| Key { name, role: "builder", public_key, ids: ids_of(name) })
        .filter(|key| !key.ids.is_empty())
        .collect();
    if !key.is_empty() {
        let trust =
            toml::to_string_pretty(&TrustFile { key }).map_err(|error| Failure::failed(error.to_string()))?;
        files.insert(TRUST_FILE.to_owned(), format!("{TRUST_HEAD}{trust}").into_bytes());
    }
    match Rules::parse(&files) {
        Ok(_) => Ok(files),
        Err(problem) => {
            Err(Failure::usage(format!("a node would not load the policies of this description: {problem}"))
                .help("correct [[builder]] or [[allow]]"))
        }
    }
}

fn cedar(allow: &[Allow]) -> String {
    let mut text = HEAD.to_owned();
    for (number, rule) in (1..).zip(allow) {
        // Writing to a string does not fail.
        _ = write!(
            text,
            "\n{}@id(\"allow-{number}\")\npermit (principal, action == Action::\"sign\", resource)\nwhen {{\n    {}\n}};\n",
            if rule.unattested { UNATTESTED } else { "" },
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
    if let (Some(name), Some(id)) = (&rule.builder, &rule.builder_id) {
        conditions.push(format!("context.builders.contains({name:?})"));
        conditions.push(format!("context.builderIds.contains({id:?})"));
    }
    conditions
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use rutli_policy::{Decision, Facts, FileNames, Rates, ReleaseFacts};
    use rutli_release::{Channel, Class, Product, Requester, Sequence, Timestamp, Version};

    use super::*;

    fn permits(allow: &[Allow], channel: &str, artifacts: u64, embargoed: bool) -> bool {
        decides(&Rules::parse(&files(allow, &[]).unwrap()).unwrap(), channel, artifacts, embargoed)
    }

    fn decides(rules: &Rules, channel: &str, artifacts: u64, embargoed: bool) -> bool {
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
            builder: None,
            builder_id: None,
            unattested: true,
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
        let builder = Builder {
            name: "ci".into(),
            public_key: include_str!("../../../../deploy/examples/vendor-node/vendor-builder.pem").into(),
        };
        let id = Some("https://ci.example/suite".into());
        let built = Allow { builder: Some("ci".into()), builder_id: id, unattested: false, ..suite.clone() };
        let written = files(from_ref(&built), from_ref(&builder)).unwrap();
        assert!(Rules::parse(&written).unwrap().warnings().is_empty() && written.contains_key(TRUST_FILE));
        let without = BTreeMap::from([("policy.cedar".to_owned(), written["policy.cedar"].clone())]);
        assert!(!decides(&Rules::parse(&without).unwrap(), "stable", 1, false), "nobody attests it");
        let wrong = Allow { builder_id: Some(String::new()), ..built.clone() };
        let problem = files(&[wrong], from_ref(&builder)).unwrap_err().problem;
        assert!(problem.contains("a node would not load"), "{problem}");
        let second = Allow {
            product: Product::new("tools").unwrap(),
            builder_id: Some("https://ci.example/tools".into()),
            ..built
        };
        let two = files(
            &[second.clone(), Allow { builder_id: Some("https://ci.example/suite".into()), ..second }],
            from_ref(&builder),
        );
        let trust = String::from_utf8(two.unwrap()[TRUST_FILE].clone()).unwrap();
        assert_eq!(trust.matches("[[key]]").count(), 1, "{trust}");
        assert!(trust.contains("ci.example/suite") && trust.contains("ci.example/tools"), "{trust}");
        let few = Allow { max_artifacts: Some(3), ..suite };
        assert!(permits(from_ref(&few), "stable", 3, false) && !permits(from_ref(&few), "stable", 4, false));
    }
}
