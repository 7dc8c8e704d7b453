"""A kernel in C for secret products, where one was compiled. Nothing is exported here: `kernel` is the module."""
