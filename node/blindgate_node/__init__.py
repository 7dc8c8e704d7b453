"""The compute node: it pulls jobs, computes on ciphertexts in a sandbox, and signs what it did."""
