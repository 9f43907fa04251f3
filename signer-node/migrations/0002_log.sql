-- What a signer node keeps of the transparency log, written in the transaction of the decisions that rest on it.

-- The newest head of each log that it took. It follows one at a time, the one of its configuration; another origin is
-- another log, and begins with nothing. `note` is empty as long as no head was taken; `catching_up` are the Unix seconds
-- at which the node was restored, until it has caught up.
CREATE TABLE log_heads (
    origin      TEXT    PRIMARY KEY,
    size        INTEGER NOT NULL CHECK (size >= 0),
    root        BLOB    NOT NULL CHECK (length(root) = 32),
    note        TEXT    NOT NULL,
    catching_up INTEGER
) STRICT, WITHOUT ROWID;

-- Whatever else goes wrong above: a log never gets shorter, and has one root for each size.
CREATE TRIGGER heads_go_up BEFORE UPDATE ON log_heads
WHEN NEW.size < OLD.size OR (NEW.size = OLD.size AND NEW.root <> OLD.root)
BEGIN
    SELECT RAISE(ABORT, 'this node took a newer or another head of this log before');
END;

-- Evidence: two heads of one size, both signed by the log. The node is closed until its custodian vouches; the notes stay.
CREATE TABLE log_forks (
    origin     TEXT    NOT NULL,
    size       INTEGER NOT NULL CHECK (size >= 0),
    root       BLOB    NOT NULL CHECK (length(root) = 32),
    other_root BLOB    NOT NULL CHECK (length(other_root) = 32),
    note       TEXT    NOT NULL,
    other_note TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    vouched_at INTEGER,
    PRIMARY KEY (origin, size, other_root)
) STRICT, WITHOUT ROWID;
