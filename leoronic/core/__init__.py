"""Decides. Pure: no clock, chance, files or sockets; machines take (event, now), return effects."""
