"""A secret matrix times an encrypted vector. Nothing is exported here: a name above both halves would let one see the other."""
