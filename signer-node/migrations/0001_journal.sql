-- What a signer node must not forget. Every write is durable before anything leaves the node.

-- One row. `newest_at` is the highest time that was ever journaled: a clock behind it ran backwards.
CREATE TABLE state (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    paused    TEXT,
    newest_at INTEGER NOT NULL DEFAULT 0,
    permitted INTEGER NOT NULL DEFAULT 0,
    refused   INTEGER NOT NULL DEFAULT 0,
    probe     BLOB
) STRICT;
INSERT INTO state (id) VALUES (1);

-- Every decision, in order. Permissions stay for ever, of the refusals the newest.
CREATE TABLE decisions (
    id         INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    release_id TEXT    NOT NULL,
    requester  TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    digest     BLOB    NOT NULL CHECK (length(digest) = 32),
    class      TEXT    NOT NULL,
    product    TEXT    NOT NULL,
    channel    TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    sequence   INTEGER NOT NULL CHECK (sequence > 0),
    verdict    TEXT    NOT NULL,
    reason     TEXT    NOT NULL
) STRICT;
CREATE INDEX refusals ON decisions (id) WHERE verdict <> 'permitted';

-- The last permitted sequences of each channel.
CREATE TABLE marks (
    product  TEXT    NOT NULL,
    channel  TEXT    NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    digest   BLOB    NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (product, channel, sequence)
) STRICT, WITHOUT ROWID;

-- Whatever else goes wrong above: one sequence, one content.
CREATE TRIGGER marks_are_final BEFORE UPDATE ON marks WHEN OLD.digest <> NEW.digest
BEGIN
    SELECT RAISE(ABORT, 'this sequence was permitted before with other content');
END;

-- Key ceremonies. `seed` is there once the custodian has joined, sealed to the node's age recipient; it goes when the
-- ceremony ends, unless it was aborted after this node had certified the keys: then a peer may hold them all the same.
CREATE TABLE ceremonies (
    id          BLOB    PRIMARY KEY CHECK (length(id) = 32),
    proposal    BLOB    NOT NULL,
    seed        BLOB,
    state       TEXT    NOT NULL CHECK (state IN ('open', 'done', 'aborted')),
    reason      TEXT    NOT NULL DEFAULT '',
    culprits    TEXT    NOT NULL DEFAULT '[]',
    accepted_at INTEGER NOT NULL,
    ended_at    INTEGER,
    CHECK ((state = 'open') = (ended_at IS NULL))
) STRICT, WITHOUT ROWID;

-- What came and went in a ceremony: one message for each node and step.
CREATE TABLE ceremony_messages (
    ceremony BLOB NOT NULL REFERENCES ceremonies (id) ON DELETE CASCADE,
    sender   TEXT NOT NULL,
    step     TEXT NOT NULL,
    message  BLOB NOT NULL,
    PRIMARY KEY (ceremony, sender, step)
) STRICT, WITHOUT ROWID;
