//! From the texts of files to policies that may be loaded.

use std::{collections::BTreeMap, str::FromStr};

use cedar_policy::{ActionConstraint, Policy, Schema, ValidationMode, Validator};
use miette::Diagnostic;
use rutli_evidence::{Role, SourceDigest, Trust};
use rutli_release::{Channel, Product, Requester, Version};

use crate::{
    documents,
    invalid::{InvalidPolicy, cut, line_at},
    limits::{
        MAX_BYTES, MAX_DEPTH, MAX_DOCUMENTS, MAX_FILES, MAX_ID_BYTES, MAX_LITERAL_BYTES, MAX_LITERALS,
        MAX_OPERATORS, MAX_POLICIES, MAX_POLICY_TOKENS, MAX_REASON_BYTES,
    },
    literals::Literals,
    schema::SCHEMA,
    set::{Effect, Names, PolicyId, Rule},
};

/// What is left of files that hold.
pub(crate) struct Checked {
    pub(crate) cedar: cedar_policy::PolicySet,
    pub(crate) rules: BTreeMap<PolicyId, Rule>,
    pub(crate) literals: Literals,
    pub(crate) names: Names,
    pub(crate) warnings: Vec<String>,
    pub(crate) strangers: Vec<String>,
}

/// Checks everything that can be wrong, cheapest first.
pub(crate) fn check(files: &[(String, String)], trust: Option<&Trust>) -> Result<Checked, InvalidPolicy> {
    if files.len() > MAX_FILES {
        return Err(InvalidPolicy::TooManyFiles { count: files.len() });
    }
    let mut bytes = 0_usize;
    let mut checked = Checked {
        cedar: cedar_policy::PolicySet::new(),
        rules: BTreeMap::new(),
        literals: Literals::default(),
        names: Names::default(),
        warnings: Vec::new(),
        strangers: Vec::new(),
    };
    for (file, text) in files {
        let file = &cut(file);
        bytes = bytes.saturating_add(text.len());
        if bytes > MAX_BYTES {
            return Err(InvalidPolicy::TooLarge { file: file.clone() });
        }
        measure(file, text)?;
        add_file(&mut checked, file, text, trust)?;
    }
    let texts: BTreeMap<String, &str> = files.iter().map(|(file, text)| (cut(file), text.as_str())).collect();
    validate(&mut checked, &texts)?;
    checked.names = Names::of(trust, &checked.literals);
    let count = documents::count(&checked.names, &checked.literals);
    if count > MAX_DOCUMENTS {
        return Err(InvalidPolicy::TooManyDocuments { count });
    }
    Ok(checked)
}

/// Bounds what Cedar's parser, validator and evaluator, which are recursive, are given. Knows of Cedar only its strings, comments and
/// brackets; what is no Cedar at all is the parser's to refuse.
fn measure(file: &str, text: &str) -> Result<(), InvalidPolicy> {
    let too_complex =
        |offset| InvalidPolicy::TooComplex { file: file.to_owned(), line: line_at(text, offset) };
    let (mut depth, mut tokens, mut signs, mut operators) = (0_usize, 0_usize, 0_usize, 0_usize);
    let mut in_word = false;
    let mut rest = text.char_indices().peekable();
    while let Some((offset, character)) = rest.next() {
        let word = character.is_alphanumeric() || character == '_';
        if word && in_word {
            continue;
        }
        in_word = word;
        match character {
            _ if character.is_whitespace() => continue,
            '/' if rest.next_if(|(_, next)| *next == '/').is_some() => {
                while rest.next_if(|(_, next)| *next != '\n').is_some() {}
                continue;
            }
            '"' => {
                while let Some((_, character)) = rest.next() {
                    match character {
                        '\\' => drop(rest.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '(' | '[' | '{' => depth = depth.saturating_add(1),
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ';' => (tokens, operators) = (0, 0),
            '&' | '|' | '+' | '*' => operators = operators.saturating_add(1),
            _ => {}
        }
        signs = if matches!(character, '!' | '-') { signs.saturating_add(1) } else { 0 };
        tokens = tokens.saturating_add(1);
        if depth > MAX_DEPTH || signs > MAX_DEPTH || tokens > MAX_POLICY_TOKENS || operators > MAX_OPERATORS {
            return Err(too_complex(offset));
        }
    }
    Ok(())
}

fn add_file(
    checked: &mut Checked,
    file: &str,
    text: &str,
    trust: Option<&Trust>,
) -> Result<(), InvalidPolicy> {
    let parsed = cedar_policy::PolicySet::from_str(text).map_err(|errors| InvalidPolicy::Syntax {
        file: file.to_owned(),
        line: line_of(&errors, text).unwrap_or(1),
        problem: words(&errors),
    })?;
    if parsed.num_of_templates() > 0 {
        return Err(InvalidPolicy::Template { file: file.to_owned() });
    }
    if parsed.is_empty() {
        checked.warnings.push(format!("{file} has no policies"));
    }
    if checked.rules.len().saturating_add(parsed.num_of_policies()) > MAX_POLICIES {
        return Err(InvalidPolicy::TooManyPolicies { file: file.to_owned() });
    }
    for policy in parsed.policies() {
        add_policy(checked, policy, file, text, trust)?;
    }
    Ok(())
}

fn add_policy(
    checked: &mut Checked,
    policy: &Policy,
    file: &str,
    text: &str,
    trust: Option<&Trust>,
) -> Result<(), InvalidPolicy> {
    let source = policy.to_cedar().unwrap_or_default();
    let line = line_at(text, text.find(&source).unwrap_or(0));
    let file = file.to_owned();
    let id = match policy.annotation("id").filter(|id| is_id(id)) {
        Some(id) => PolicyId::new(id),
        None => return Err(InvalidPolicy::Id { file, line }),
    };
    if let Some(rule) = checked.rules.get(&id) {
        return Err(InvalidPolicy::RepeatedId { file, line, id, other: rule.file.clone() });
    }
    let reason = policy.annotation("reason");
    let unusable = |(name, value): &(&str, &str)| match *name {
        "id" => false,
        "reason" => value.is_empty() || value.len() > MAX_REASON_BYTES || value.contains(char::is_control),
        _ => true,
    };
    if let Some((name, _)) = policy.annotations().find(unusable) {
        return Err(InvalidPolicy::Annotation { file, line, id: id.clone(), name: cut(name) });
    }
    let effect = match policy.effect() {
        cedar_policy::Effect::Permit => Effect::Permit,
        cedar_policy::Effect::Forbid => Effect::Forbid,
    };
    if effect == Effect::Permit && policy.action_constraint() == ActionConstraint::Any {
        return Err(InvalidPolicy::AnyAction { file, line, id });
    }
    let rule = Rule { file, line, effect, reason: reason.map(cut) };
    let json = policy.to_json().map_err(|error| InvalidPolicy::Syntax {
        file: rule.file.clone(),
        line,
        problem: cut(&error.to_string()),
    })?;
    let literals = Literals::of(&json);
    check_texts(&id, &rule, &literals)?;
    checked.strangers.extend(strangers(&id, &rule, &literals, trust));
    checked.warnings.extend(warnings(&id, &rule, &literals));
    checked.literals.extend(&literals);
    let longest = literals.all.iter().map(String::len).max().unwrap_or(0);
    if checked.literals.all.len() > MAX_LITERALS || longest > MAX_LITERAL_BYTES {
        return Err(InvalidPolicy::Literals { file: rule.file });
    }
    let added = checked.cedar.add(policy.new_id(cedar_policy::PolicyId::new(id.as_str())));
    added.map_err(|_| InvalidPolicy::RepeatedId {
        file: rule.file.clone(),
        line,
        id: id.clone(),
        other: rule.file.clone(),
    })?;
    checked.rules.insert(id, rule);
    Ok(())
}

/// Strictly, against the schema, with the first problem in the order of files and lines.
fn validate(checked: &mut Checked, texts: &BTreeMap<String, &str>) -> Result<(), InvalidPolicy> {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA)
        .map_err(|error| InvalidPolicy::OwnSchema { problem: cut(&error.to_string()) })?;
    let result = Validator::new(schema).validate(&checked.cedar, ValidationMode::Strict);
    let place = |id: &cedar_policy::PolicyId, diagnostic: &dyn Diagnostic| {
        let id = PolicyId::new(id.as_ref());
        let rule = checked.rules.get(&id);
        let (file, first) = rule.map_or_else(Default::default, |rule| (rule.file.clone(), rule.line));
        let text = texts.get(&file).copied().unwrap_or_default();
        let line = line_of(diagnostic, text).unwrap_or(first).max(first);
        (file, line, id, words(diagnostic))
    };
    let error = result.validation_errors().map(|error| place(error.policy_id(), error)).min();
    if let Some((file, line, id, problem)) = error {
        return Err(InvalidPolicy::Schema { file, line, id, problem });
    }
    let mut warnings: Vec<_> =
        result.validation_warnings().map(|warning| place(warning.policy_id(), warning)).collect();
    warnings.sort();
    checked.warnings.extend(
        warnings.into_iter().map(|(file, line, id, problem)| format!("{file}, line {line}: {id}: {problem}")),
    );
    Ok(())
}

/// Texts that no fact can ever be equal to: a `forbid` with one would never forbid.
fn check_texts(id: &PolicyId, rule: &Rule, literals: &Literals) -> Result<(), InvalidPolicy> {
    let never = |text: &str, problem: String| InvalidPolicy::NeverThere {
        file: rule.file.clone(),
        line: rule.line,
        id: id.clone(),
        text: format!("\"{}\"", cut(text)),
        problem,
    };
    for (kind, name) in &literals.entities {
        match kind.as_str() {
            "Requester" => {
                Requester::new(name.as_str()).map_err(|error| never(name, error.to_string()))?;
            }
            "Release" => {
                let problem = "releases have no names; compare resource.product, .channel or .version";
                return Err(never(name, problem.to_owned()));
            }
            // Of a class and an action the validator knows all there are.
            _ => {}
        }
    }
    let check = |attribute: &str, is_legal: &dyn Fn(&str) -> Result<(), String>| {
        literals.texts(attribute).try_for_each(|text| is_legal(text).map_err(|problem| never(text, problem)))
    };
    check("resource.product", &|text| Product::new(text).map(drop).map_err(|error| error.to_string()))?;
    check("resource.channel", &|text| Channel::new(text).map(drop).map_err(|error| error.to_string()))?;
    check("resource.version", &|text| Version::new(text).map(drop).map_err(|error| error.to_string()))?;
    check("context.sources", &|text| {
        text.parse::<SourceDigest>().map(drop).map_err(|error| error.to_string())
    })?;
    check("context.testsPassedBy", &|text| match text.split_once('/') {
        Some(_) => Ok(()),
        None => Err("want the tester's key, a slash, and the test, as vendor-tester/unit".to_owned()),
    })
}

/// Everybody whom a policy names and who is not trusted for what it asks of him. No mistake that keeps rules from being taken: a
/// key that was revoked must count no more, also where a policy still names it.
fn strangers(id: &PolicyId, rule: &Rule, literals: &Literals, trust: Option<&Trust>) -> Vec<String> {
    let Some(trust) = trust else { return Vec::new() };
    let keys = trust.keys();
    let of = |role| keys.get(&role).cloned().unwrap_or_default();
    let attributes = [
        ("context.builders", "builder", of(Role::Builder)),
        ("context.rebuilders", "rebuilder", of(Role::Rebuilder)),
        ("context.reviewers", "reviewer", of(Role::Reviewer)),
        ("context.testers", "tester", of(Role::Tester)),
        ("context.testsPassedBy", "tester", of(Role::Tester)),
        ("context.builderIds", "builder id", trust.builder_ids()),
        ("context.approvers", "custodian", trust.custodians()),
    ];
    let mut warnings = Vec::new();
    for (attribute, role, trusted) in attributes {
        let names = literals.texts(attribute).map(|text| match attribute {
            "context.testsPassedBy" => text.split_once('/').map_or(text, |(tester, _)| tester),
            _ => text,
        });
        let known = match trusted.is_empty() {
            true => "nobody".to_owned(),
            false => trusted.iter().copied().collect::<Vec<_>>().join(", "),
        };
        warnings.extend(names.into_iter().filter(|name| !trusted.contains(name)).map(|name| {
            format!(
                "{}, line {}: the policy {id} names {} in {attribute}, but you trust no such {role} (you trust: {known}), so that it is \
                 never there: correct the name, or add the key to those that you trust",
                rule.file,
                rule.line,
                cut(name)
            )
        }));
    }
    warnings
}

/// Sets whose members are compared in a way that cannot be followed here: what is missing may not be found, and a misspelt
/// name not seen. And permits that leave the product or the class to the pipeline, or do not tie the files to the product.
fn warnings(id: &PolicyId, rule: &Rule, literals: &Literals) -> Vec<String> {
    let sets = documents::ATTRIBUTES.iter().filter(|attribute| literals.indirect.contains(**attribute));
    let free = [("resource.product", "product"), ("resource.class", "class")]
        .into_iter()
        .filter(|(attribute, _)| rule.effect == Effect::Permit && !literals.asked.contains(*attribute));
    let free = free.map(|(attribute, what)| {
        format!(
            "{}, line {}: the permit {id} applies to every {what}, which is what the pipeline says it is: compare {attribute}",
            rule.file, rule.line
        )
    });
    let indirect = sets.map(|attribute| {
        format!(
            "{}, line {}: {id}: {attribute} is compared with something that is not written out, so that its names are not checked; \
             write {attribute}.contains(\"…\")",
            rule.file, rule.line
        )
    });
    let is_tied =
        ["context.builderIds", "context.sourceUris"].iter().any(|tie| literals.asked.contains(*tie));
    let untied = (rule.effect == Effect::Permit && !is_tied).then(|| {
        format!(
            "{}, line {}: the permit {id} does not tie the files to the product, which is what the pipeline says it is: require \
             context.builderIds.contains(\"…\") or context.sourceUris.contains(\"…\")",
            rule.file, rule.line
        )
    });
    indirect.chain(free).chain(untied).collect()
}

fn is_id(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// What Cedar says, with its way out, where it has one.
fn words(diagnostic: &dyn Diagnostic) -> String {
    let help = diagnostic.help().map_or_else(String::new, |help| format!("; {help}"));
    cut(&format!("{diagnostic}{help}"))
}

fn line_of(diagnostic: &dyn Diagnostic, text: &str) -> Option<usize> {
    let first = diagnostic.labels()?.map(|label| label.offset()).min()?;
    Some(line_at(text, first))
}
