"""What a manifest says of a model that is one secret product and exact: how it is encrypted, and how far replies hide it."""

import math

from blindgate_models.compilers.compiled import PUBLIC
from blindgate_models.product.spec import Parameters
from blindgate_protocol.manifest import Encryption, Privacy


def exact_encryption(parameters: Parameters) -> Encryption:
    """Of scores that are decrypted as they are."""
    return Encryption(
        scheme="bfv",
        security=128,
        degree=parameters.degree,
        modulus_bits=sum(parameters.data_bits),
        levels=0,
        error_bound=0.0,
    )


def hiding(parameters: Parameters, row_square: float, outputs: int) -> Privacy:
    """Of a matrix of so many rows, none of which has a larger Σ W²."""
    if parameters.privacy == "model_public":
        return PUBLIC
    return Privacy(mode="model_private", bits=math.floor(parameters.distinguishing_bits(row_square, outputs)))
