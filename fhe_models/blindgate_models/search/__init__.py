"""Nearest entries of an index under BFV. Nothing is exported here: a name above both halves would let one see the other."""
