-- Marks by class too: a database's number raises no build's. From the permissions, which stay for ever.
DROP TRIGGER marks_are_final;
DROP TABLE marks;

-- The last permitted sequences of each channel.
CREATE TABLE marks (
    class    TEXT    NOT NULL,
    product  TEXT    NOT NULL,
    channel  TEXT    NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    digest   BLOB    NOT NULL CHECK (length(digest) = 32),
    version  TEXT    NOT NULL,
    -- When it was first permitted.
    at       INTEGER NOT NULL,
    PRIMARY KEY (class, product, channel, sequence)
) STRICT, WITHOUT ROWID;

INSERT INTO marks (class, product, channel, sequence, digest, version, at)
SELECT class, product, channel, sequence, digest, version, min(at) FROM decisions
WHERE verdict = 'permitted' GROUP BY class, product, channel, sequence;

-- Whatever else goes wrong above: one sequence, one content.
CREATE TRIGGER marks_are_final BEFORE UPDATE ON marks WHEN OLD.digest <> NEW.digest
BEGIN
    SELECT RAISE(ABORT, 'this sequence was permitted before with other content');
END;

-- The versions of what was permitted, each with the first content that had it.
CREATE TABLE versions (
    class   TEXT NOT NULL,
    product TEXT NOT NULL,
    channel TEXT NOT NULL,
    version TEXT NOT NULL,
    digest  BLOB NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (class, product, channel, version)
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO versions (class, product, channel, version, digest)
SELECT class, product, channel, version, digest FROM decisions WHERE verdict = 'permitted' ORDER BY id;
