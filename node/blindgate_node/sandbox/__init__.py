"""What a worker may touch."""
