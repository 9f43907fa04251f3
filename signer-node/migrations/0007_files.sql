-- What is remembered of files.

-- Of a permission: the statement, and the first 16 bytes of the SHA-256 of each file.
ALTER TABLE decisions ADD COLUMN statement BLOB CHECK (length(statement) = 32);
ALTER TABLE decisions ADD COLUMN files BLOB CHECK (length(files) % 16 = 0);

-- Refusals of trusted custodians, in a chain as before: of a product and of the files in question, 32 bytes each: those of the
-- refusal that this node had permitted in no earlier release, or all of them.
DROP TABLE custodian_refusals;
CREATE TABLE custodian_refusals (
    id         INTEGER PRIMARY KEY,
    statement  BLOB    NOT NULL CHECK (length(statement) = 32),
    release_id TEXT    NOT NULL,
    product    TEXT    NOT NULL,
    files      BLOB    NOT NULL CHECK (length(files) > 0 AND length(files) % 32 = 0),
    custodian  TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    document   BLOB    NOT NULL CHECK (length(document) = 32),
    at         INTEGER NOT NULL,
    before     BLOB    CHECK (length(before) = 32)
) STRICT;
