-- Channels by class too, and by what was signed: what was only asked for holds up nobody.
ALTER TABLE releases ADD COLUMN class TEXT NOT NULL DEFAULT '';

DROP TABLE channels;

-- The highest sequence that was ever signed in a channel; never goes down.
CREATE TABLE channels (
    class    TEXT    NOT NULL,
    product  TEXT    NOT NULL,
    channel  TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (class, product, channel)
) STRICT, WITHOUT ROWID;

-- RELEASE_STATE_SIGNED is 4. Whatever else goes wrong above: one sequence, one content.
CREATE UNIQUE INDEX releases_signed ON releases (class, product, channel, sequence) WHERE state = 4;
