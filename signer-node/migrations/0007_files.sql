-- What is remembered of files.

-- Refusals of trusted custodians, in order, by document: of a product and of the files in question, 32 bytes each: those of
-- the refusal that this node had permitted in no earlier release, or all of them.
DROP TABLE custodian_refusals;
CREATE TABLE custodian_refusals (
    id         INTEGER PRIMARY KEY,
    document   BLOB    NOT NULL UNIQUE CHECK (length(document) = 32),
    statement  BLOB    NOT NULL CHECK (length(statement) = 32),
    release_id TEXT    NOT NULL,
    product    TEXT    NOT NULL,
    files      BLOB    NOT NULL CHECK (length(files) > 0 AND length(files) % 32 = 0),
    custodian  TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    at         INTEGER NOT NULL
) STRICT;

-- Files that this node permitted, the newest by when they came first, each with the first statement that had it.
CREATE TABLE permitted_files (
    id        INTEGER PRIMARY KEY,
    file      BLOB    NOT NULL UNIQUE CHECK (length(file) = 32),
    statement BLOB    NOT NULL CHECK (length(statement) = 32)
) STRICT;
