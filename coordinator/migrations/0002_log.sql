-- The transparency log. Entries are appended, and the signed checkpoint swapped, in the transaction that admits a
-- release or ends it: so nothing is acknowledged that is not in the log, and nothing is in the log twice.

-- One row. `checkpoint` is the newest head, signed: the commit point. All entries before `written_size` lie in the
-- folder, durable; the others are staged below.
CREATE TABLE log_head (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    checkpoint   TEXT    NOT NULL,
    written_size INTEGER NOT NULL DEFAULT 0,
    -- 32 bytes: root of the tree of `written_size` entries, by which the folder is checked when it is read again.
    written_root BLOB    NOT NULL
) STRICT;

-- Entries that are not in the folder yet, without a gap.
CREATE TABLE log_entries (
    -- Place in the tree.
    number  INTEGER PRIMARY KEY,
    entry   BLOB    NOT NULL,
    -- The release whose statement lies beside the tree for this entry, if any.
    release INTEGER
) STRICT;

-- Index of the request's entry. A release that was admitted by an older version gets one when it is taken up.
ALTER TABLE releases ADD COLUMN log_index INTEGER;
-- Fields of that entry: SHA-256 of the roster under which it is to be signed (hex), and when it expires.
ALTER TABLE releases ADD COLUMN roster TEXT;
ALTER TABLE releases ADD COLUMN deadline INTEGER;
-- Under embargo: 32 bytes, and the times by which it is and at which it was disclosed.
ALTER TABLE releases ADD COLUMN embargo_salt BLOB;
ALTER TABLE releases ADD COLUMN disclose_by INTEGER;
ALTER TABLE releases ADD COLUMN disclosed_at INTEGER;

CREATE INDEX releases_embargoed ON releases (disclose_by) WHERE disclose_by IS NOT NULL AND disclosed_at IS NULL;

-- The proof that a signature is in the log, which follows the signature once witnesses have cosigned a head.
CREATE TABLE proofs (
    -- Of the release.
    number    INTEGER PRIMARY KEY,
    -- The entry that is proved, and its place: the `dsse` leaf, or for SSH signatures alone the `outcome`.
    leaf      BLOB    NOT NULL,
    log_index INTEGER NOT NULL,
    -- rutli.v1.Release with nothing but its further files; absent until they are there.
    files     BLOB,
    proven_at INTEGER
) STRICT;

CREATE INDEX proofs_wanted ON proofs (log_index) WHERE files IS NULL;
