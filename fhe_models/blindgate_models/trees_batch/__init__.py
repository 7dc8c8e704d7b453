"""Forests over encrypted bits, a slot a row. Empty, like every `__init__` above two halves."""
