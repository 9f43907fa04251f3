-- Requests under embargo that were logged anew, for another roster: the commitments of their first entries, which are
-- opened together with the newest.
CREATE TABLE superseded (
    -- Index of the entry.
    log_index INTEGER PRIMARY KEY,
    -- Number of the release.
    release   INTEGER NOT NULL,
    -- SHA-256 of the roster that the entry names (hex). All else of it is as in the newest entry.
    roster    TEXT    NOT NULL
) STRICT;
