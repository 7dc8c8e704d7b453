"""A secret matrix times an encrypted vector, exact modulo t, without an evaluation key: parameters, packing, and bounds.

Additive models, private forests and search are the same thing to a node: y = W·x + k modulo t, with x, `(inputs,)`, the
asker's and W, `(outputs, inputs)`, the node's. Under BFV, in coefficients:

- x is cut into J = ⌈inputs/g⌉ groups of g; group j travels as q_j(X) = Σ_a x[jg+a] X^a;
- M = ⌊N/g⌋ outputs share a *block*; block b's multiplier for group j is B_j(X) = Σ_m Σ_a W[bM+m, jg+a] X^(mg+g-1-a);
- coefficient mg+g-1 of Σ_j q_j·B_j is the exact (W·x)[bM+m]: no other product of a row and a weight falls there, as q_j has
  no more than g coefficients.

The other coefficients hold sums across outputs, and are not sent. Work does not depend on g; g trades upload for download.

**model_private.** A reply that says nothing of W beyond y needs three more things:

1. *c1 drawn anew.* Σ a_j·B_j would give W to whoever sees enough of it. The asker also sends a seeded encryption of zero (z0, z1),
   which the node multiplies by a fresh ternary u and adds fresh noise e1 to: a public-key encryption of zero, so that c1 looks
   uniform (RLWE). Seeds are all that is taken, so no asker chooses an a_j or z1.
2. *flooding* of every word of c0 that is sent (`blindgate_models.flooding`), before anything is dropped.
3. *nothing else*: one switch to the first prime, which is a public function; the words of c0 at the outputs and all of c1, without
   the low bits that noise covers; always as many bytes.

**model_public.** W may be known to the asker: one prime, no zero, no flooding. The manifest says so.

Bounds are computed here from what is known of W at build time, and refused when short (`Parameters.distinguishing_bits`,
`Parameters.margin`): `PRIVATE_BITS` over `QUERIES` queries, and `MARGIN` standard deviations of room when decrypting.
"""

import hashlib
import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias

import rfc8785
from pydantic import Field, ValidationInfo, field_validator

from blindgate_models.bitpacking import packed_bytes
from blindgate_models.flooding import TERMS, distinguishing_bits
from blindgate_models.halves import Part
from blindgate_models.parts import Strict
from blindgate_models.primes import is_prime
from blindgate_models.security import NOISE_BOUND, SEED_BYTES, require_128_bits
from blindgate_protocol.errors import PackageError

Privacy: TypeAlias = Literal["model_private", "model_public"]

QUERIES: Final = 1_000_000
PRIVATE_BITS: Final = 40
"""Over `QUERIES` queries, nobody tells replies from ones made of the scores alone with an advantage over 2^-40."""
MARGIN: Final = 8.0
"""Standard deviations of noise between a right result and a wrong one."""

_NOISE_VARIANCE: Final = NOISE_BOUND / 2 + 1 / 12
"""Of a fresh coefficient: centred binomial over 21 bits, and the rounding of the scaled message."""
_TERNARY_VARIANCE: Final = 2 / 3
_MOST_PIECES: Final = 512
_BLOCK_PRODUCTS, _OPENING_PRODUCTS = 6, 4
_PRODUCT_WORDS: Final = 2 * 4096
"""What a block takes besides its products, and opening a polynomial, in products: measured, and only as good as that."""
_FLOOD_SHARE: Final = 4  # the flood's hard maximum is a quarter of what a coefficient of the message is scaled by
_RINGS: Final[dict[Privacy, tuple[tuple[int, tuple[int, ...]], ...]]] = {
    "model_private": ((4096, (38, 54)), (4096, (50, 54)), (8192, (50, 54)), (8192, (54, 55, 55))),
    "model_public": ((2048, (54,)), (4096, (38, 54)), (8192, (54, 54))),
}


class Parameters(Strict):
    """The ring, the packing, and what of a reply is sent.

    Attributes:
        degree: N.
        data_bits: lengths of the primes; the first is the one that replies are modulo.
        plain_modulus: t.
        group: g.
        privacy: whether replies hide W.
        flood_bits: b; the flood's half-width is 2^b. 0 where nothing is flooded.
        dropped_c1: low bits of c1's words that are not sent.
        dropped_c0: likewise of c0's.
    """

    scheme: Literal["bfv"]
    degree: Literal[2048, 4096, 8192]
    data_bits: Annotated[list[Annotated[int, Field(ge=30, le=55)]], Field(min_length=1, max_length=3)]
    plain_modulus: Annotated[int, Field(ge=2, lt=1 << 40)]
    group: Annotated[int, Field(ge=1, le=8192)]
    privacy: Privacy
    flood_bits: Annotated[int, Field(ge=0, le=160)]
    dropped_c1: Annotated[int, Field(ge=0, le=54)]
    dropped_c0: Annotated[int, Field(ge=0, le=54)]

    @field_validator("group")
    @classmethod
    def _fits(cls, group: int, info: ValidationInfo) -> int:
        if group > info.data.get("degree", group):
            msg = f"got {group}, expected at most {info.data['degree']}"
            raise ValueError(msg)
        return group

    def check(self) -> None:
        """Refuse parameters that make no sense. Raises `PackageError`."""
        require_128_bits(self.degree, self.data_bits)
        if max(self.dropped_c0, self.dropped_c1) >= self.data_bits[0]:
            msg = f"parameters: {max(self.dropped_c0, self.dropped_c1)} dropped bits of words of {self.data_bits[0]}"
            raise PackageError(msg)

    @property
    def key_parameters(self) -> Part:
        """What determines a key: every product over the same ring may use one."""
        return {"scheme": self.scheme, "degree": self.degree, "data_bits": self.data_bits}

    @property
    def block(self) -> int:
        """M: the outputs that share a block."""
        return self.degree // self.group

    def distinguishing_bits(self, row_square: float, outputs: int, queries: int = QUERIES) -> float:
        """-log2 of the advantage over `queries` queries; `row_square`: the mean over rows of Σ W², centred, at most."""
        if self.privacy == "model_public":
            return 0.0
        shift = math.sqrt(_NOISE_VARIANCE * self.block * row_square)
        return distinguishing_bits(shift, self.flood_bits, outputs * queries)

    def margin(self, row_square: float) -> float:
        """How many standard deviations of noise fit between the flood's maximum and a wrong result."""
        product = _NOISE_VARIANCE * self.block * row_square
        if self.privacy == "model_private":  # u times the zero's noise, and the secret times e1
            product += 2 * NOISE_BOUND / 2 * self.degree * _TERNARY_VARIANCE
        behind = float(sum(self.data_bits[1:]))  # what the switch divides by
        secret = self.degree * _TERNARY_VARIANCE
        variance = product / 4.0**behind
        variance += (1 + secret) / 12 if behind else 0.0
        variance += (4.0**self.dropped_c1 * secret + 4.0**self.dropped_c0) / 12
        scale = 2.0 ** self.data_bits[0] / self.plain_modulus
        flood = TERMS * 2.0 ** (self.flood_bits - behind) if self.privacy == "model_private" else 0.0
        return (scale * (1 / 2 - 2.0**-20) - flood) / math.sqrt(variance)

    def require_bounds(self, row_square: float, outputs: int) -> None:
        """Refuse a matrix that these parameters do not hide, or whose products they do not hold. Raises `PackageError`."""
        if self.margin(row_square) < MARGIN:
            msg = f"parameters: {self.margin(row_square):.1f} standard deviations to decrypt by, expected {MARGIN:g} or more"
            raise PackageError(msg)
        bits = self.distinguishing_bits(row_square, outputs)
        if self.privacy == "model_private" and bits < PRIVATE_BITS:
            msg = (
                f"parameters: an advantage of 2^-{bits:.1f} over {QUERIES} queries, expected 2^-{PRIVATE_BITS} or less"
            )
            raise PackageError(msg)


class Shape(NamedTuple):
    """The shape of W, and the sizes that follow from it.

    Attributes:
        parameters: the ring and the packing.
        inputs: columns of W.
        outputs: rows of W.
        purpose: what the numbers are for: a blob for one family is none for another.
    """

    parameters: Parameters
    inputs: int
    outputs: int
    purpose: str

    @property
    def groups(self) -> int:
        """J: polynomials that carry x."""
        return -(-self.inputs // self.parameters.group)

    @property
    def blocks(self) -> int:
        """Polynomials that carry y."""
        return -(-self.outputs // self.parameters.block)

    @property
    def zeros(self) -> int:
        """Encryptions of zero in an input blob."""
        return int(self.parameters.privacy == "model_private")

    @property
    def encoded_bytes(self) -> int:
        """Bytes of W ready to multiply with: a polynomial for each block and group, eight bytes a word."""
        return 8 * self.blocks * self.groups * self.parameters.degree * len(self.parameters.data_bits)

    def polynomials(self, vectors: int) -> int:
        """Polynomials of an input blob: an encryption of zero, if any, and each vector's groups."""
        return self.zeros + vectors * self.groups

    @property
    def reply_bytes(self) -> int:
        """Bytes of the reply to one vector: c1 of every block, then the words of c0 at the outputs."""
        parameters = self.parameters
        c1 = packed_bytes(self.blocks * parameters.degree, parameters.data_bits[0] - parameters.dropped_c1)
        return c1 + packed_bytes(self.blocks * parameters.block, parameters.data_bits[0] - parameters.dropped_c0)

    def input_bytes(self, vectors: int) -> int:
        """The exact length of an input blob: all seeds, then c0 of all polynomials, prime by prime."""
        count = self.polynomials(vectors)
        words = sum(packed_bytes(count * self.parameters.degree, bits) for bits in self.parameters.data_bits)
        return HEADER_BYTES + count * SEED_BYTES + words

    def result_bytes(self, vectors: int) -> int:
        """The exact length of a result blob."""
        return HEADER_BYTES + vectors * self.reply_bytes

    @property
    def vectors_per_blob(self) -> int:
        """The most vectors that keep an input blob, and a result blob, under `MAX_BLOB_BYTES`; 1 where not even one does."""
        vector = max(self.input_bytes(2) - self.input_bytes(1), self.reply_bytes)
        return max(1, (MAX_BLOB_BYTES - self.input_bytes(1)) // vector)

    def vectors_together(self, most: int) -> int:
        """The most vectors, `most` at most, whose input and result blob stay within `MAX_BLOB_BYTES` together; below 1 for none."""
        one = self.input_bytes(2) - self.input_bytes(1) + self.reply_bytes
        fixed = self.input_bytes(1) + self.result_bytes(1)
        return min(most, (MAX_BLOB_BYTES - fixed) // (one + 1024) + 1)  # packing rounds up, by less than 1 KiB a vector

    @property
    def digest(self) -> bytes:
        """What ties a blob to this shape: 32 bytes."""
        members = {
            **self.parameters.model_dump(),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "purpose": self.purpose,
        }
        return hashlib.sha256(rfc8785.dumps(members)).digest()


HEADER_BYTES: Final = 44  # magic (4), version (2), zero (2), vectors (4), digest (32): see `header`
MAX_BLOB_BYTES: Final = 64 << 20
_VERSION: Final = 1


def header(magic: bytes, shape: Shape, vectors: int) -> bytes:
    """The header of a blob about `vectors` vectors."""
    return magic + _VERSION.to_bytes(4, "little") + vectors.to_bytes(4, "little") + shape.digest


def open_blob(magic: bytes, shape: Shape, blob: bytes, most: int) -> tuple[int, memoryview]:
    """Check a blob's header and exact length: how many vectors, and the bytes behind the header.

    Raises `ValueError` naming the field, got and expected.
    """
    if len(blob) < HEADER_BYTES:
        msg = f"length: got {len(blob)} bytes, expected at least {HEADER_BYTES}"
        raise ValueError(msg)
    if blob[:4] != magic:
        msg = f"magic: expected {magic!r}"
        raise ValueError(msg)
    version, vectors = int.from_bytes(blob[4:8], "little"), int.from_bytes(blob[8:12], "little")
    if version != _VERSION:
        msg = f"version: got {version}, expected {_VERSION}"
        raise ValueError(msg)
    if blob[12:HEADER_BYTES] != shape.digest:
        msg = "digest: made for other parameters or another shape"
        raise ValueError(msg)
    if not 1 <= vectors <= most:
        msg = f"rows: got {vectors}, expected 1 to {most}"
        raise ValueError(msg)
    expected = shape.input_bytes(vectors) if magic == INPUT else shape.result_bytes(vectors)
    if len(blob) != expected:
        msg = f"length: got {len(blob)} bytes, expected {expected} for {vectors} rows"
        raise ValueError(msg)
    return vectors, memoryview(blob)[HEADER_BYTES:]


INPUT: Final = b"BGPI"
RESULT: Final = b"BGPR"


class Need(NamedTuple):
    """What parameters are chosen for.

    Attributes:
        inputs: columns of W.
        outputs: rows of W.
        plain_modulus: t.
        row_square: the mean over rows of Σ W², centred, at most.
        privacy: whether replies hide W.
    """

    inputs: int
    outputs: int
    plain_modulus: int
    row_square: float
    privacy: Privacy


def choose(need: Need, *, download_weight: float = 1.0, product_weight: float = 0.0) -> Parameters:
    """The parameters that cost least and keep the bounds.

    What counts are bytes up and down, a byte down as `download_weight`, and the node's work, a product of polynomials of 4096
    coefficients modulo two primes as `product_weight` bytes.

    Raises `PackageError` when there are none, saying which bound is short.
    """
    found: list[tuple[float, Parameters]] = []
    short = "no room to decrypt"
    for degree, data_bits in _RINGS[need.privacy]:
        # Of all groups that cut x into as many pieces, the smallest leaves most outputs to a block.
        for group in sorted({-(-need.inputs // pieces) for pieces in range(1, min(need.inputs, _MOST_PIECES) + 1)}):
            if group > degree:
                continue
            parameters = _with_most_dropped(need, degree, data_bits, group)
            if parameters is None:
                continue
            try:
                parameters.require_bounds(need.row_square, need.outputs)
            except PackageError as error:
                short = str(error)
                continue
            shape = Shape(parameters, need.inputs, need.outputs, "")
            products = shape.blocks * (shape.groups + shape.zeros + _BLOCK_PRODUCTS) + _OPENING_PRODUCTS * shape.groups
            work = product_weight * products * degree * len(data_bits) / _PRODUCT_WORDS
            cost = shape.input_bytes(1) + download_weight * shape.result_bytes(1) + work
            found.append((cost, parameters))
    if not found:
        msg = f"no parameters hold a plain modulus of {need.plain_modulus.bit_length()} bits: {short}"
        raise PackageError(msg)
    return min(found, key=lambda pair: pair[0])[1]


def _with_most_dropped(need: Need, degree: int, data_bits: Sequence[int], group: int) -> Parameters | None:
    """These parameters with as many bits dropped as the margin allows, or `None` where there is no margin at all."""
    room = math.floor(sum(data_bits) - math.log2(need.plain_modulus) - math.log2(TERMS * _FLOOD_SHARE))
    # The secret multiplies what is dropped of c1; of c0 that much more can go for the same noise.
    more = max(0, math.floor(math.log2(degree * _TERNARY_VARIANCE) / 2) - 1)

    def dropping(bits: int) -> Parameters:
        return Parameters.model_validate(
            {
                "scheme": "bfv",
                "degree": degree,
                "data_bits": list(data_bits),
                "plain_modulus": need.plain_modulus,
                "group": group,
                "privacy": need.privacy,
                "flood_bits": max(0, room) if need.privacy == "model_private" else 0,
                "dropped_c1": bits,
                "dropped_c0": min(bits + more if bits else 0, data_bits[0] - 2),
            }
        )

    most = bisect_left(
        range(data_bits[0] - 1), 1, key=lambda bits: int(dropping(bits).margin(need.row_square) < MARGIN)
    )
    return dropping(most - 1) if most else None


def prime_below(bits: int) -> int:
    """The largest prime below 2^bits, 2 ≤ bits ≤ 40. Prime, so that a product of two masks is 0 only where one is."""
    return next(number for number in range((1 << bits) - 1, 1, -1) if is_prime(number))
