-- Attestations, approvals and refusals as they came: for the nodes while a release is unfinished, for auditors ever after.
CREATE TABLE evidence (
    -- Order in which it came.
    number    INTEGER PRIMARY KEY,
    -- Number of the release.
    release   INTEGER NOT NULL,
    -- SHA-256 of the document, 32 bytes.
    digest    BLOB    NOT NULL,
    -- What it is by its form: build, tests, review, approval, refusal.
    kind      TEXT    NOT NULL,
    -- Who brought it, by its certificate: ROLE:NAME.
    submitter TEXT    NOT NULL,
    added_at  INTEGER NOT NULL,
    -- The log's entry that names it. That of the request itself for what came with the request.
    log_index INTEGER NOT NULL,
    -- Last, so that what stands before it is read without it.
    document  BLOB    NOT NULL,
    UNIQUE (release, digest)
) STRICT;
