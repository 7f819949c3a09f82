"""The agent line: messages that the server and a device agent share. Imports nothing of ours."""
