"""The node's actors, one file each."""
