"""Remembers. The journal on SQLite: entries, and the join of them that answers questions."""
