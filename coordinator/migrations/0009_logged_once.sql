-- A request is logged once: one that waits when the coordinator starts with another roster ends as cancelled.
DROP TABLE superseded;
