-- The journal of the agent that claimed a command, by the name that it has given itself: what one was given, no other runs.
ALTER TABLE commands ADD COLUMN claimed_by TEXT;
