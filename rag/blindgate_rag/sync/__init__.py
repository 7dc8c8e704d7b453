"""A corpus that rests, sealed, on a machine that is not trusted, and is searched on this one: docs/adr/0032-sealed-sync.md."""
