//! Why files are no policies.

use crate::{
    limits::{
        MAX_BYTES, MAX_DEPTH, MAX_DOCUMENTS, MAX_FILES, MAX_ID_BYTES, MAX_LITERAL_BYTES, MAX_LITERALS,
        MAX_OPERATORS, MAX_POLICIES, MAX_POLICY_TOKENS, MAX_QUOTED_CHARACTERS, MAX_REASON_BYTES,
    },
    set::PolicyId,
};

/// Why files are no policies. The custodian's mistake: correct the file and load it again; until then what was loaded before stays in
/// force. Lines are counted from 1. For the first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicy {
    /// More files than a set may have.
    #[error("there are {count} policy files: at most {MAX_FILES} may be loaded; put their policies together")]
    TooManyFiles {
        /// How many.
        count: usize,
    },
    /// Larger than policies for people are.
    #[error(
        "{file}: with it the policies have more than {MAX_BYTES} bytes: remove policies that are not used"
    )]
    TooLarge {
        /// Which file.
        file: String,
    },
    /// More policies than are evaluated in bearable time.
    #[error("{file}: with it there are more than {MAX_POLICIES} policies: put some together")]
    TooManyPolicies {
        /// Which file.
        file: String,
    },
    /// A policy that is nested too deep or too long to be read safely.
    #[error(
        "{file}, line {line}: this policy is nested more than {MAX_DEPTH} deep, has more than {MAX_POLICY_TOKENS} words and \
         signs, or joins more than {} conditions: split it in two",
        MAX_OPERATORS / 2
    )]
    TooComplex {
        /// Which file.
        file: String,
        /// Where the bound is passed.
        line: usize,
    },
    /// Not Cedar.
    #[error("{file}, line {line}: this is not Cedar: {problem}")]
    Syntax {
        /// Which file.
        file: String,
        /// Where.
        line: usize,
        /// What Cedar's parser says.
        problem: String,
    },
    /// A template, which nothing would ever fill in.
    #[error(
        "{file}: it has a template (`?principal` or `?resource`): write the policy out, nothing fills templates in here"
    )]
    Template {
        /// Which file.
        file: String,
    },
    /// A policy without an id, or with one that cannot be used.
    #[error(
        "{file}, line {line}: this policy has no usable id: write @id(\"…\") before it, with 1 to {MAX_ID_BYTES} of A-Z a-z 0-9 . _ -"
    )]
    Id {
        /// Which file.
        file: String,
        /// Where.
        line: usize,
    },
    /// A permit for any action, including future ones.
    #[error(
        "{file}, line {line}: the permit {id} is for every action, also those of later versions: write `action == Action::\"sign\"`"
    )]
    AnyAction {
        /// Which file.
        file: String,
        /// Where.
        line: usize,
        /// The policy.
        id: PolicyId,
    },
    /// Two policies with one id.
    #[error("{file}, line {line}: the id {id} is used before, in {other}: give each policy its own")]
    RepeatedId {
        /// Which file.
        file: String,
        /// Where.
        line: usize,
        /// The id.
        id: PolicyId,
        /// In which file it is used before.
        other: String,
    },
    /// An annotation that means nothing here, or a reason that is too long.
    #[error(
        "{file}, line {line}: the policy {id} has @{name}, and only @id and @reason (one line, at most {MAX_REASON_BYTES} bytes) \
         mean something: correct or remove it"
    )]
    Annotation {
        /// Which file.
        file: String,
        /// Where.
        line: usize,
        /// The policy.
        id: PolicyId,
        /// The annotation.
        name: String,
    },
    /// It does not fit the schema: it asks for what no release has, or compares what cannot be equal.
    #[error("{file}, line {line}: the policy {id} does not fit what can be asked: {problem}")]
    Schema {
        /// Which file.
        file: String,
        /// Where.
        line: usize,
        /// The policy.
        id: PolicyId,
        /// What Cedar's validator says.
        problem: String,
    },
    /// A policy compares with a text that can never be there: it would never apply.
    #[error("{file}, line {line}: the policy {id} compares with {text}, which never is there: {problem}")]
    NeverThere {
        /// Which file.
        file: String,
        /// Where.
        line: usize,
        /// The policy.
        id: PolicyId,
        /// What it compares with, cut and escaped.
        text: String,
        /// Why not, and what is.
        problem: String,
    },
    /// Too many or too long texts and numbers within policies.
    #[error(
        "{file}: with it the policies have more than {MAX_LITERALS} texts and numbers, or one of more than {MAX_LITERAL_BYTES} bytes: remove some"
    )]
    Literals {
        /// Which file.
        file: String,
    },
    /// Policies and keys together leave too much to think of.
    #[error(
        "the names in the policies and the keys that you trust allow for {count} documents, and at most {MAX_DOCUMENTS} can be thought \
         through to say what is missing: name fewer tests or sources, or trust fewer keys"
    )]
    TooManyDocuments {
        /// How many.
        count: usize,
    },
    /// The program's own schema is broken. Not the custodian's mistake: report it.
    #[error("this program's own schema is broken ({problem}): report it to whoever gave you the program")]
    OwnSchema {
        /// What is wrong with it.
        problem: String,
    },
}

/// Foreign text for an error: on one line, escaped, and cut.
pub(crate) fn cut(text: &str) -> String {
    let mut shown = String::new();
    for (number, character) in text.chars().enumerate() {
        if number >= MAX_QUOTED_CHARACTERS {
            shown.push('…');
            break;
        }
        match character {
            '\'' | '"' => shown.push(character),
            '\n' | '\t' => shown.push(' '),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}

/// The line, counted from 1, of a byte of `text`.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count().saturating_add(1)
}
