"""What crosses the wire, as values: no I/O. Each module is one noun; docs/protocol.md is the specification."""
