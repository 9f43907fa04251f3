-- What each party had stored and logged, hour by hour: checked before anything is, and kept over restarts.
CREATE TABLE budgets (
    -- Unix seconds / 3600.
    hour      INTEGER NOT NULL,
    -- Who, by its certificate: ROLE:NAME.
    name      TEXT    NOT NULL,
    -- The authority that issued the certificate, by what that says.
    authority TEXT    NOT NULL,
    -- Releases and documents of evidence.
    requests  INTEGER NOT NULL,
    -- By which store and log may grow by these.
    bytes     INTEGER NOT NULL,
    PRIMARY KEY (hour, name, authority)
) STRICT, WITHOUT ROWID;

-- The authority that issued the requester's certificate: whose share a release uses while it waits, also after a restart.
ALTER TABLE releases ADD COLUMN authority TEXT NOT NULL DEFAULT '';
