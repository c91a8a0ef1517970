"""The commands of the command line, imported one module at a time by `leoronic.client.cli`."""
