"""The database's history, one file a step in `versions`. Run by `opening.migrate`, never by hand."""
