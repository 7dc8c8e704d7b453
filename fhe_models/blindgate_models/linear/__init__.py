"""Linear and logistic models under CKKS. Empty, like every `__init__` above two halves."""
