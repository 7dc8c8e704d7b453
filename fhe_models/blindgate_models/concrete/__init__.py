"""Concrete ML models on TFHE: exact, and seconds a row."""
