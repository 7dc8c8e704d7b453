"""The log: every event in one tree, signed as it grows, and shown to witnesses."""
