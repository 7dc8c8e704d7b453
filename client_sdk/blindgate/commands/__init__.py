"""The SDK on the command line: each module is one command, named in the entry-point group `blindgate.commands`."""
