-- The newest published head that each node cosigned. A node that comes back with an older one runs on an old copy of its
-- data, and is shown this one first: its own cosignature tells it.
CREATE TABLE cosigned_heads (
    -- ORGANISATION/NAME.
    node TEXT    PRIMARY KEY,
    -- Entries under it.
    size INTEGER NOT NULL,
    -- The signed note, with all its cosignatures.
    note TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
