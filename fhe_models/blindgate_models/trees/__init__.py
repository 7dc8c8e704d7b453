"""Private forests, a row at a time. Nothing is exported here: a name above both halves would let one see the other."""
