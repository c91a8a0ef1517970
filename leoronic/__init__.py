"""Leoronic: a few machines, one fault-tolerant computer, no head node."""

__version__ = "0.1.0"
