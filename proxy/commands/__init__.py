"""The commands of the command line; ``proxy.cli.COMMANDS`` is the table."""
