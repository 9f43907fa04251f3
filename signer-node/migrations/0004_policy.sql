-- What the node's own policy needs and leaves behind.

-- What a decision rests on: ids of the policies and digests (hexadecimal) of the documents that counted, as JSON arrays; the
-- digest of all rules. NULL where policies were not asked, and in lines from before.
ALTER TABLE decisions ADD COLUMN artifacts INTEGER CHECK (artifacts > 0);
ALTER TABLE decisions ADD COLUMN policies TEXT;
ALTER TABLE decisions ADD COLUMN evidence TEXT;
ALTER TABLE decisions ADD COLUMN rules BLOB CHECK (length(rules) = 32);

-- Rates: what was permitted in the last hour.
CREATE INDEX permitted_at ON decisions (at) WHERE verdict = 'permitted';

-- When a sequence was first permitted; 0 in lines from before.
ALTER TABLE marks ADD COLUMN at INTEGER NOT NULL DEFAULT 0;

-- Statements that a trusted custodian refused, in order: refused for good, whether the document comes again or not.
CREATE TABLE custodian_refusals (
    id         INTEGER PRIMARY KEY,
    statement  BLOB    NOT NULL UNIQUE CHECK (length(statement) = 32),
    release_id TEXT    NOT NULL,
    custodian  TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    document   BLOB    NOT NULL CHECK (length(document) = 32),
    at         INTEGER NOT NULL
) STRICT;
