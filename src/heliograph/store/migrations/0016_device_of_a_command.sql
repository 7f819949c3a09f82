-- Google's name of the device that a command is for: the one that was meant, then the one that its last attempt went to.
ALTER TABLE commands ADD COLUMN device_name TEXT;
