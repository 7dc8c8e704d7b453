"""Networks with squares for activations under CKKS. Empty, like every `__init__` above two halves."""
