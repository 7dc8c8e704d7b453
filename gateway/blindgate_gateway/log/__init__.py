"""The log: what the gateway tells of every change of state, in one tree that nobody can alter without being seen.

`telling` writes an event in the transaction that it tells of; `sequencer` gives it its place and signs; `tree` reads the tree,
`files` writes it out; `keeper` is what a process needs of all that, and `rooms` answers who asks.
"""
