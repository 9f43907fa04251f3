-- The coordinator's whole memory. A release is durable here before it is acknowledged, and its result before
-- anybody is told. Times are Unix seconds. Contents and results are protobuf messages of rutli.v1.

CREATE TABLE releases (
    -- Order of admission.
    number         INTEGER PRIMARY KEY,
    release_id     TEXT    NOT NULL UNIQUE,
    requester      TEXT    NOT NULL,
    request_id     TEXT    NOT NULL,
    -- What the client sent: the same request id with another digest is a conflict. 32 bytes.
    request_digest BLOB    NOT NULL,
    product        TEXT    NOT NULL,
    channel        TEXT    NOT NULL,
    sequence       INTEGER NOT NULL,
    -- rutli.v1.ReleaseContent
    content        BLOB    NOT NULL,
    signatures     INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    -- rutli.v1.ReleaseState: QUEUED (1) while unfinished, whatever it awaits; else its final state.
    state          INTEGER NOT NULL,
    -- rutli.v1.Release with nothing but how it ended; absent while unfinished.
    outcome        BLOB,
    UNIQUE (requester, request_id)
) STRICT;

CREATE INDEX releases_unfinished ON releases (number) WHERE state = 1;
CREATE INDEX releases_by_channel ON releases (product, channel, number);
CREATE INDEX releases_by_requester ON releases (requester, number);

-- The highest sequence ever admitted in a channel; never goes down.
CREATE TABLE channels (
    product  TEXT    NOT NULL,
    channel  TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (product, channel)
) STRICT, WITHOUT ROWID;

-- Signed files, apart from the releases so that lists do not read them.
CREATE TABLE results (
    -- Of the release.
    number INTEGER PRIMARY KEY,
    -- rutli.v1.Release with nothing but its files.
    files  BLOB NOT NULL
) STRICT;

-- Nodes left out until an operator puts them back.
CREATE TABLE culprits (
    node     TEXT    PRIMARY KEY,
    reason   TEXT    NOT NULL,
    named_at INTEGER NOT NULL
) STRICT;

CREATE TABLE ceremonies (
    number      INTEGER PRIMARY KEY,
    -- 64 hex digits
    ceremony_id TEXT    NOT NULL UNIQUE,
    -- Signed proposal, canonical JSON.
    proposal    BLOB    NOT NULL,
    started_at  INTEGER NOT NULL,
    -- rutli.v1.CeremonyState: PROPOSED (1) while unfinished, DONE (3) or ABORTED (4).
    state       INTEGER NOT NULL,
    finished_at INTEGER,
    -- Why it was aborted.
    reason      TEXT    NOT NULL DEFAULT ''
) STRICT;

-- The transcript, in the order in which it came.
CREATE TABLE ceremony_messages (
    number      INTEGER PRIMARY KEY,
    ceremony_id TEXT    NOT NULL,
    message     BLOB    NOT NULL
) STRICT;

CREATE INDEX ceremony_messages_by_ceremony ON ceremony_messages (ceremony_id, number);

-- Usable keys, in the order in which they became so: signed rosters in canonical JSON.
CREATE TABLE keys (
    number        INTEGER PRIMARY KEY,
    roster_hash   TEXT    NOT NULL UNIQUE,
    name          TEXT    NOT NULL,
    signed_roster BLOB    NOT NULL,
    usable_since  INTEGER NOT NULL
) STRICT;

-- What a closed store writes to find out whether it may open again; empty otherwise.
CREATE TABLE probes (
    number  INTEGER PRIMARY KEY,
    ballast BLOB NOT NULL
) STRICT;
