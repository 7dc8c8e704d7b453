"""Records by position under BFV. Nothing is exported here: a name above both halves would let one see the other."""
