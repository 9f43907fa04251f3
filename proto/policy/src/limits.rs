//! Every bound of this crate, with its reason. Nothing is parsed before it was measured against one of these.

/// Files of one set: a file for each class or product, and some more.
pub const MAX_FILES: usize = 32;

/// Bytes of all files of a set: some hundred commented policies. Cedar's parser takes about 1 ms for 4 KiB.
pub const MAX_BYTES: usize = 128 * 1024;

/// Policies of a set: each is evaluated for each decision, in about 1 µs.
pub const MAX_POLICIES: usize = 128;

/// Words and signs of one policy: Cedar reads and evaluates them recursively, also where they only stand in a row (`a && b && …`).
pub const MAX_POLICY_TOKENS: usize = 600;

/// Signs `&`, `|`, `+` and `*` in one policy, two for each `&&`: what they join is evaluated recursively, and Cedar gives up where the stack
/// gets short. People join fewer than twenty.
pub const MAX_OPERATORS: usize = 64;

/// Brackets that may be open at once, and operators before one value: what reads and evaluates policies is recursive, and people
/// write fewer than ten.
pub const MAX_DEPTH: usize = 12;

/// Bytes of a policy's id.
pub const MAX_ID_BYTES: usize = 64;

/// Bytes of a policy's `@reason`: one or two sentences, which go into each refusal.
pub const MAX_REASON_BYTES: usize = 300;

/// Bytes of a text within a policy: the longest text that evidence may have (`rutli_evidence::limits::MAX_TEXT_BYTES`).
pub const MAX_LITERAL_BYTES: usize = 2_048;

/// Different texts and numbers within the policies of a set.
pub const MAX_LITERALS: usize = 512;

/// Documents that could yet come, by the names in policies and the keys that are trusted: 32 keys, each with a few tests, and
/// 128 custodians. What is missing is searched among them.
pub const MAX_DOCUMENTS: usize = 256;

/// Combinations of builder id, build type and address that are thought up for one builder.
pub const MAX_BUILDS_PER_KEY: usize = 16;

/// Sources that are thought up where no build is attested yet.
pub const MAX_SOURCES: usize = 4;

/// Evaluations of all policies in search of what is missing, some 20 µs each: bounds a decision that permits nothing to some 50 ms. All
/// sources at all times, and as many again to find the least of what is enough. Beyond it more may be called missing than is,
/// never less.
pub const MAX_TRIALS: u32 = 2_048;

/// Later times that are tried: each hour of a week, and what policies name.
pub const MAX_TIMES: usize = 256;

/// Choices among those who could give what is missing that are tried, before one of them is named alone.
pub const MAX_CHOICES: usize = 64;

/// Bytes of a file of cases: a few hundred cases.
pub const MAX_CASES_BYTES: usize = 512 * 1024;

/// Cases of one file.
pub const MAX_CASES: usize = 1_000;

/// Evidence of one case: as many as a node would keep for one release.
pub const MAX_EVIDENCE_PER_CASE: usize = 64;

/// Characters of foreign text that an error repeats.
pub const MAX_QUOTED_CHARACTERS: usize = 200;

/// Files of a folder of rules: its policies, a file for each key, and room.
pub const MAX_RULES_FILES: usize = 128;

/// Bytes of a folder of rules: the most that policies, allowed signers, keys and cases may have together.
pub const MAX_RULES_BYTES: usize = 1024 * 1024;

/// Bytes of `trust.toml`: its most keys with some ids and comments.
pub const MAX_TRUST_BYTES: usize = 64 * 1024;
