-- The lines of permitted releases say which versions there were, and all of them are read at every start.
DROP TABLE versions;
