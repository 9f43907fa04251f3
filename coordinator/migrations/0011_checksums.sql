-- SHA-256 of what a row says, see store/checksum.rs: SQLite detects damage only to its own structure, not to stored values.
-- Absent in rows of an earlier version.

-- Of what was requested, with its place in the log; never changes.
ALTER TABLE releases ADD COLUMN request_checksum BLOB;
-- Of how it ended.
ALTER TABLE releases ADD COLUMN outcome_checksum BLOB;
ALTER TABLE results ADD COLUMN checksum BLOB;
ALTER TABLE proofs ADD COLUMN checksum BLOB;
ALTER TABLE evidence ADD COLUMN checksum BLOB;
