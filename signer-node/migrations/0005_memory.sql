-- What shows that the journal is whole: see `journal/memory.rs`. Lost or old state is never read as a first start.

-- Each line carries the hash of the one before it of its kind: permissions, which stay for ever, and refusals, of which
-- the oldest are deleted. The hash of the newest line of each kind stands in `memory`.
ALTER TABLE decisions ADD COLUMN before BLOB CHECK (length(before) = 32);

-- The same lines as before, in a chain of their own. A statement may stand in more than one of them: the first counts.
DROP TABLE custodian_refusals;
CREATE TABLE custodian_refusals (
    id         INTEGER PRIMARY KEY,
    statement  BLOB    NOT NULL CHECK (length(statement) = 32),
    release_id TEXT    NOT NULL,
    custodian  TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    document   BLOB    NOT NULL CHECK (length(document) = 32),
    at         INTEGER NOT NULL,
    before     BLOB    CHECK (length(before) = 32)
) STRICT;

-- One row, from the first start on. `name` is drawn then: no other journal has it. `rest` covers the tables that are
-- small, and `changes` counts the transactions that wrote to any of these; `seal` covers all of it, and changes with every
-- transaction.
CREATE TABLE memory (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    name            BLOB    NOT NULL CHECK (length(name) = 32),
    permitted       BLOB    NOT NULL CHECK (length(permitted) = 32),
    refused         BLOB    NOT NULL CHECK (length(refused) = 32),
    custodians      BLOB    NOT NULL CHECK (length(custodians) = 32),
    custodian_count INTEGER NOT NULL CHECK (custodian_count >= 0),
    rest            BLOB    NOT NULL CHECK (length(rest) = 32),
    changes         INTEGER NOT NULL CHECK (changes >= 0),
    seal            BLOB    NOT NULL CHECK (length(seal) = 32)
) STRICT;
