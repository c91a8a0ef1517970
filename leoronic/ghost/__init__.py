"""Ghosts: light nodes that hold no queue, and the relay by which a node serves them."""
