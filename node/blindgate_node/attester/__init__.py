"""What this machine proves of itself: `attesters` is the interface, `choice` which of them a node has."""
