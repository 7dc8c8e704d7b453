"""A witness: a host beside the gateway's that remembers the largest tree it saw of a log, and cosigns only what continues it.

C2SP's tlog-witness. Stands on `blindgate_protocol` alone.
"""
