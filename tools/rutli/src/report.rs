//! What a command ends with: a [`Report`] or a [`Failure`], each for eyes and for programs.

use std::fmt;

use serde_json::{Map, Value, json};

/// How a command ends, as the shell sees it. `rutli help exit-codes` documents them; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Not verified, refused, cancelled, expired, overtaken, or failed.
    Failed,
    /// Wrong usage, or a file that cannot be used.
    Usage,
    /// The other side cannot be reached, or does not permit it.
    Unreachable,
    /// Time is up; what was asked for still goes on.
    Waiting,
    /// Files were compared, and are not those that were expected.
    Differs,
    /// A file was changed after it was hashed: its signature is over what it was before.
    Changed,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Waiting => 4,
            Self::Differs => 5,
            Self::Changed => 6,
        }
    }
}

/// A command's success.
#[derive(Debug, Default)]
pub struct Report {
    /// For eyes, without the last line break. Empty: nothing to say.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl Report {
    /// A report in both forms.
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json }
    }
}

/// A document for programs as text: on several lines, names in order. Whether `serde_json` keeps another order depends on what else
/// a program is built with; what is printed and written must not.
#[must_use]
pub fn pretty(document: &Value) -> String {
    let sorted = sorted(document);
    // `Value` cannot fail to serialize; its compact form is JSON too.
    serde_json::to_string_pretty(&sorted).unwrap_or_else(|_| sorted.to_string())
}

/// As [`pretty`], on one line.
#[must_use]
pub fn line(document: &Value) -> String {
    sorted(document).to_string()
}

fn sorted(document: &Value) -> Value {
    let mut document = document.clone();
    document.sort_all_objects();
    document
}

/// A command's failure: the problem, then the way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What is wrong, on one line where that is possible.
    pub problem: String,
    /// What to do about it.
    pub help: Option<String>,
    /// For eyes, on stdout before the problem goes to stderr: what was found out on the way. Empty: nothing.
    pub text: String,
    /// More for programs: fields beside `error`. Boxed, since every command hands failures up.
    pub details: Box<Map<String, Value>>,
    /// Stdout has the document for programs already: this goes to stderr.
    pub shown: bool,
    /// All of it was said already: what is left is how the process ends.
    pub said: bool,
}

impl Failure {
    fn new(exit: Exit, problem: impl Into<String>) -> Self {
        Self {
            exit,
            problem: problem.into(),
            help: None,
            text: String::new(),
            details: Box::default(),
            shown: false,
            said: false,
        }
    }

    /// Not verified, refused, or failed (1).
    pub fn failed(problem: impl Into<String>) -> Self {
        Self::new(Exit::Failed, problem)
    }

    /// Wrong usage (2).
    pub fn usage(problem: impl Into<String>) -> Self {
        Self::new(Exit::Usage, problem)
    }

    /// Cannot be reached or is not permitted (3).
    pub fn unreachable(problem: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, problem)
    }

    /// Still under way (4).
    pub fn waiting(problem: impl Into<String>) -> Self {
        Self::new(Exit::Waiting, problem)
    }

    /// Compared, and not the same (5).
    pub fn differs(problem: impl Into<String>) -> Self {
        Self::new(Exit::Differs, problem)
    }

    /// Changed since it was hashed (6).
    pub fn changed(problem: impl Into<String>) -> Self {
        Self::new(Exit::Changed, problem)
    }

    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a report for eyes, which goes to stdout as that of a success would.
    #[must_use]
    pub fn after(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// Adds fields for programs, from a JSON object.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        if let Value::Object(fields) = details {
            self.details.extend(fields);
        }
        self
    }

    /// The document that `--json` prints.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut document = Map::clone(&self.details);
        document.insert(
            "error".to_owned(),
            json!({ "exit": self.exit.code(), "problem": self.problem, "help": self.help }),
        );
        Value::Object(document)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.problem)?;
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {}", help.replace('\n', "\n      "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_their_names_in_order_however_they_were_made() {
        let document = json!({ "b": [{ "z": 1, "a": 2 }], "a": null });
        assert_eq!(line(&document), r#"{"a":null,"b":[{"a":2,"z":1}]}"#);
        assert_eq!(pretty(&json!({ "b": 1, "a": 2 })), "{\n  \"a\": 2,\n  \"b\": 1\n}");
    }

    #[test]
    fn a_failure_says_problem_and_way_out_to_eyes_and_programs() {
        let failure =
            Failure::usage("no such key").help("give --key\nor --profile").with(json!({ "verified": false }));
        assert_eq!(failure.to_string(), "error: no such key\nhelp: give --key\n      or --profile");
        assert_eq!(
            failure.json(),
            json!({ "verified": false, "error": { "exit": 2, "problem": "no such key", "help": "give --key\nor --profile" } })
        );
    }
}
