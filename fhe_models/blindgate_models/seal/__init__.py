"""SEAL through `tenseal.sealapi`: rings, their secrets, and ciphertexts as arrays of words. Each scheme is a module."""
