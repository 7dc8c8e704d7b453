"""Plaintext models: `choice` opens one, `interface` says what it can do. Nothing here knows of jobs, gateways or seals."""
