"""A corpus in other people's frameworks. Each module needs its framework, and is imported by whoever has it."""
