//! What policies may speak about.

/// The schema in Cedar's own language. A policy that does not fit it is refused when it is loaded.
///
/// A policy decides whether `principal` (who asked) may have `Action::"sign"` done to `resource` (the release), and may look at
/// `context` (what this node established itself). There is nothing else: no entity has parents, no release has a name.
///
/// | in a policy | type | what it is |
/// | --- | --- | --- |
/// | `principal` | `Requester` | who asked, as `Requester::"pipeline"`: the name in the client certificate |
/// | `resource.class` | `Class` | `Class::"product-build"` or `Class::"av-database"` |
/// | `resource.product`, `.channel`, `.version` | String | as in the request |
/// | `resource.sequence` | Long | as in the request, 1 to 2^53 − 1 |
/// | `resource.artifacts` | Long | how many files |
/// | `resource.fileNames` | set of String | what they are called in the release |
/// | `resource.formats` | set of String | `dsse`, `sshsig`, `statement` |
/// | `resource.issuedAt` | Long | when the coordinator admitted it, in seconds since 1970; the node bounds it on both sides |
/// | `resource.expiresAt` | Long, may be absent | from when on endpoints refuse it; ask `resource has expiresAt` first |
/// | `context.builders` | set of String | keys, trusted as builder, that attested how the files were built |
/// | `context.builderIds`, `.buildTypes`, `.sourceUris` | set of String | `builder.id`, `buildType`, address of the source in those attestations |
/// | `context.sources` | set of String | digest of their source, `sha256:…` or `gitCommit:…`: at most one |
/// | `context.buildersContradict` | Bool | whether attestations of builders name different sources, so that none counts |
/// | `context.evidenceAgeHours` | Long, may be absent | full hours since the oldest of these builds was done; absent if one of them does not say when, or there is none: ask `context has evidenceAgeHours` first |
/// | `context.rebuilders` | set of String | keys, trusted as rebuilder, that built the same files again from **that very source** |
/// | `context.reviewers`, `.reviewLevels` | set of String | keys, trusted as reviewer, that found **that very source** in order, and the levels they gave |
/// | `context.testers` | set of String | keys, trusted as tester, with a passed run over the files |
/// | `context.testsPassed` | set of String | names of the tests that passed, whoever ran them |
/// | `context.testsPassedBy` | set of String | the same with the key before it: `vendor-tester/false-positives` |
/// | `context.testsFailed` | set of String | keys, trusted as tester, with a run over some of the files that failed |
/// | `context.approvers` | set of String | custodians who approved this release |
/// | `context.approvals` | Long | how many they are: each trusted custodian counts once, however often he approved |
/// | `context.embargoed` | Bool | whether the log shows only a commitment until some day |
/// | `context.previousSequence` | Long, may be absent | the highest sequence permitted before, in this class, product and channel; ask `context has previousSequence` first |
/// | `context.previousVersion` | String, may be absent | the version of that release; ask `context has previousVersion` first |
/// | `context.versionIsNew` | Bool | whether no other content was permitted under this version, in this class, product and channel |
/// | `context.filesPermittedBefore` | Long | how many of the files, by SHA-256, this node permitted in an earlier release |
/// | `context.releasesInHour`, `.artifactsInHour` | Long | of this class and product in the last hour, **this release included**: `<= 4` means at most four |
/// | `context.time.weekday` | Long | 1 Monday to 7 Sunday, in UTC |
/// | `context.time.hour`, `.minuteOfDay`, `.unix` | Long | 0 to 23, 0 to 1439, seconds since 1970, in UTC |
///
/// If attestations of builders name different sources, none of the builds counts, nor any rebuild or review: all of
/// their sets are empty then, and the release waits until the custodian has found out which one is right. A custodian's refusal is no fact: it refuses the release whatever the policies say.
pub const SCHEMA: &str = include_str!("rutli.cedarschema");
