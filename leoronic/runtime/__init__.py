"""The actor runtime: actors with bounded mailboxes, supervised, in this process or their own."""
