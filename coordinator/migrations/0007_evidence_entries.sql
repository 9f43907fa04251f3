-- Who brought it, as the log's entry has it: under embargo the role alone, whatever has been disclosed since. Nodes encode the entry
-- from it. Empty for what came with the request, which the request's own entry names.
ALTER TABLE evidence ADD COLUMN logged_by TEXT NOT NULL DEFAULT '';
