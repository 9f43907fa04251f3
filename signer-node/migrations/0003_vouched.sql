-- A head that the custodian vouched for by name: what the next head must extend, until the log has shown one that does.
-- The head that the log signed stays beside it. Both are NULL, or neither.
ALTER TABLE log_heads ADD COLUMN vouched_size INTEGER CHECK (vouched_size > 0);
ALTER TABLE log_heads ADD COLUMN vouched_root BLOB CHECK (length(vouched_root) = 32);

-- Every such word, for ever: what was vouched for, and what the node itself knew then.
CREATE TABLE log_vouches (
    id          INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    origin      TEXT    NOT NULL,
    size        INTEGER NOT NULL CHECK (size >= 0),
    root        BLOB    NOT NULL CHECK (length(root) = 32),
    own_size    INTEGER NOT NULL CHECK (own_size >= 0),
    own_root    BLOB    NOT NULL CHECK (length(own_root) = 32),
    catching_up INTEGER
) STRICT;
