"""The command line: a dispatcher and one file per command."""
