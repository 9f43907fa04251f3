-- How far each log was, as this node itself saw it: one line an hour for a year. A request whose entry is at `size` or beyond was
-- not in the log at `at` (Unix seconds), and so was not issued before, but for the difference of the clocks.
CREATE TABLE log_reached (
    origin TEXT    NOT NULL,
    at     INTEGER NOT NULL CHECK (at >= 0),
    size   INTEGER NOT NULL CHECK (size >= 0),
    PRIMARY KEY (origin, at)
) STRICT, WITHOUT ROWID;
