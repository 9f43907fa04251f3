-- SHA-256 of what a row says, see store/seal.rs: SQLite notices damage to its own structure alone. Absent in rows of an
-- earlier version.

-- Of what was requested, with its place in the log; never changes.
ALTER TABLE releases ADD COLUMN request_seal BLOB;
-- Of how it ended.
ALTER TABLE releases ADD COLUMN outcome_seal BLOB;
ALTER TABLE results ADD COLUMN seal BLOB;
ALTER TABLE proofs ADD COLUMN seal BLOB;
ALTER TABLE evidence ADD COLUMN seal BLOB;
