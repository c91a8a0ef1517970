"""The process that runs bash tasks and outlives the node's core. See docs/runner.md."""
