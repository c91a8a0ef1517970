"""Every figure of the node beside its rivals, in the same run: `python -m integration.bench`."""
