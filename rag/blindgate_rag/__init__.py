"""Retrieval from documents of one's own: local by default, and nothing in it opens a socket."""
