"""The broker under a scheduler that a seed decides completely: `python -m simulation --help`."""
