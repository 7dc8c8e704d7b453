"""What both sides know of a batch of rows under a forest: parts, parameters, bounds, blobs.

The client answers public questions about each row with bits (`blindgate_models.bits`) and encrypts all of them, bit by bit: one
ciphertext a bit, one slot a row. The node computes the forest as a polynomial in those ciphertexts (`trees_batch.circuit`) under
BGV without any evaluation key (`seal.bgv`), for all rows at once. A score is an integer s, |s| < t/2, which is the forest's with
leaves rounded to multiples of 2^-scale_bits; decryption is exact.

**What hides the forest.** A reply (c_0 … c_k) has the phase Σ c_i s^i = s + t·E, and E depends on forest and rows. So:

1. *c_1 … c_k drawn anew.* The asker sends a seeded encryption of zero (z0, z1). For each i < k the node draws a fresh ternary u_i
   and fresh noise e_(i+1), and adds z0·u_i to c_i and z1·u_i + t·e_(i+1) to c_(i+1). So each of c_1 … c_k has an RLWE sample of its
   own added, and looks uniform; c_0 is then what the phase leaves.
2. *flooding*: t·F is added to c_0, in every coefficient, F a sum of four uniforms (`blindgate_models.flooding`).
3. *slots that are no rows* get random numbers added, so that a reply has as many scores as its header says, whatever was encrypted.
4. then nothing but a switch to fewer primes, which is a public function of what is sent. All words of all polynomials go: every
   slot depends on every coefficient, and with the message in the low bits of the phase there is nothing to drop at either end.

Bounds are computed from the circuit and refused when short (`Parameters.require_bounds`): an advantage of at most 2^-`PRIVATE_BITS`
over `REPLIES` **replies** of N words each, however few of their slots are rows, and `MARGIN` standard deviations to decrypt by.

What a client that does not run this software can do: put numbers that are no bits into its slots, or more noise than an
encryption has into its ciphertexts, and so evaluate the polynomial anywhere. A few replies give such a client the polynomial.
Nothing here prevents that: what is hidden is hidden from clients that run Blindgate unmodified.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple, Self

import rfc8785
from pydantic import Field, model_validator

from blindgate_models.bitpacking import packed_bytes
from blindgate_models.bits import MAX_BITS, MAX_GROUPS, Groups, Questions, check_groups, count
from blindgate_models.flooding import TERMS, distinguishing_bits
from blindgate_models.halves import Part
from blindgate_models.parts import Padded, Strict, parse
from blindgate_models.primes import slot_primes
from blindgate_models.security import NOISE_BOUND, SEED_BYTES, require_128_bits
from blindgate_models.trees_batch.circuit import MAX_COMPONENTS, Circuit, Product, Sum
from blindgate_protocol.errors import PackageError

FAMILY: Final = "trees-batch"
VERSION: Final = 1
MAX_OUTPUTS: Final = 64
MAX_COLUMNS: Final = 4096
MAX_PRODUCTS: Final = 1 << 15
MAX_PLAIN_MODULUS: Final = 1 << 30

REPLIES: Final = 1_000_000
PRIVATE_BITS: Final = 40
"""Over `REPLIES` replies, nobody tells them from ones made of the scores alone with an advantage over 2^-40."""
MARGIN: Final = 8.0
"""Standard deviations of noise between a right result and a wrong one."""

DETERMINISM: Final = "varies"
DISCLOSES_TO_CLIENT: Final = (
    "the raw scores",
    "how many bits the longest path of the forest multiplies, and about how much work its polynomial is",
    "how large scores can get, within a factor of two",
    "the forest as a polynomial, to a client that encrypts other numbers than bits, or with other noise",
)
DISCLOSES_TO_NODE: Final = ("the forest", "the number of rows")

_TERNARY_VARIANCE: Final = 2 / 3
_FLOOD_SHARE: Final = 4  # the flood's hard maximum is a quarter of Q/t


class Parameters(Strict):
    """The ring, the flood, and what of a reply is sent. Both parts of a model hold the same.

    Attributes:
        degree: N, the slots of a ciphertext.
        data_bits: lengths of the primes of Q.
        plain_modulus: t, a prime that is 1 modulo 2N.
        components: polynomials of a reply.
        kept: how many primes a reply is modulo.
        flood_bits: b; the flood's half-width is 2^b, times t.
    """

    scheme: Literal["bgv"]
    degree: Literal[4096, 8192, 16384]
    data_bits: Annotated[list[Annotated[int, Field(ge=40, le=56)]], Field(min_length=1, max_length=8)]
    plain_modulus: Annotated[int, Field(ge=3, lt=MAX_PLAIN_MODULUS)]
    components: Annotated[int, Field(ge=2, le=MAX_COMPONENTS)]
    kept: Annotated[int, Field(ge=1, le=8)]
    flood_bits: Annotated[int, Field(ge=1, le=400)]

    def check(self) -> None:
        """Refuse parameters that make no sense. Raises `PackageError`; the ring refuses primes that do not exist."""
        require_128_bits(self.degree, self.data_bits)
        if self.kept > len(self.data_bits):
            msg = f"parameters.kept: got {self.kept} primes, expected at most {len(self.data_bits)}"
            raise PackageError(msg)

    @property
    def primes(self) -> tuple[int, ...]:
        """Of Q. Raises `PackageError` where there are none."""
        return slot_primes(self.degree, tuple(self.data_bits), self.plain_modulus)

    @property
    def key_parameters(self) -> Part:
        """What determines a key: forests of any shape over the same ring may use one."""
        return {
            "scheme": self.scheme,
            "degree": self.degree,
            "data_bits": self.data_bits,
            "plain_modulus": self.plain_modulus,
        }

    def distinguishing_bits(self, deviation: float, outputs: int, replies: int = REPLIES) -> float:
        """-log2 of the advantage over `replies` replies; `deviation` as in `circuit.deviation`."""
        return distinguishing_bits(deviation, self.flood_bits, float(self.degree) * outputs * replies)

    def margin(self, deviation: float) -> float:
        """How many standard deviations of noise fit between the flood's maximum and a wrong result, in units of t."""
        power = self.degree * _TERNARY_VARIANCE  # the mean square of the secret's spectrum; of s^i, i!·power^i
        powers = [math.factorial(i) * power**i for i in range(self.components)]
        fresh = NOISE_BOUND / 2
        zero = sum(fresh * power * powers[i] for i in range(self.components - 1)) + fresh * sum(powers[1:])
        dropped = 1 / float(math.prod(self.primes[self.kept :]))
        switch = sum(powers) / 12 if self.kept < len(self.data_bits) else 0.0
        variance = (deviation**2 + zero) * dropped**2 + switch
        room = float(math.prod(self.primes[: self.kept])) / (2 * self.plain_modulus)
        flood = TERMS * 2.0**self.flood_bits * dropped
        return (room - flood - 1) / math.sqrt(variance)

    def require_bounds(self, deviation: float, outputs: int) -> None:
        """Refuse a forest that these parameters do not hide, or whose scores they do not hold. Raises `PackageError`."""
        if self.margin(deviation) < MARGIN:
            msg = f"parameters: {self.margin(deviation):.1f} standard deviations to decrypt by, expected {MARGIN:g} or more"
            raise PackageError(msg)
        bits = self.distinguishing_bits(deviation, outputs)
        if bits < PRIVATE_BITS:
            msg = (
                f"parameters: an advantage of 2^-{bits:.1f} over {REPLIES} replies, expected 2^-{PRIVATE_BITS} or less"
            )
            raise PackageError(msg)


class ClientPart(Strict):
    """What the data owner's half is built from.

    Attributes:
        columns: of a row.
        questions: what is asked of them; every answer is sent, whatever the forest asks.
        outputs: how many scores a row has.
        scale_bits: a decrypted integer is divided by 2^scale_bits.
        error_bound: for each output, how far the rounded forest's score can be from the forest's.
    """

    family: Literal["trees-batch"]
    version: Literal[1]
    parameters: Parameters
    columns: Annotated[int, Field(ge=1, le=MAX_COLUMNS)]
    questions: Annotated[list[Questions], Field(min_length=1, max_length=2 * MAX_COLUMNS)]
    outputs: Annotated[int, Field(ge=1, le=MAX_OUTPUTS)]
    scale_bits: Annotated[int, Field(ge=-1000, le=1000)]
    error_bound: Annotated[
        list[Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=1, max_length=MAX_OUTPUTS)
    ]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for number, asked in enumerate(self.questions):
            if asked.column >= self.columns:
                msg = f"questions.{number}.column: got {asked.column}, expected below {self.columns}"
                raise ValueError(msg)
        if not 1 <= self.bits <= MAX_BITS:
            msg = f"questions: got {self.bits} bits, expected 1 to {MAX_BITS}"
            raise ValueError(msg)
        if len(self.error_bound) != self.outputs:
            msg = f"error_bound: got {len(self.error_bound)} bounds, expected {self.outputs}"
            raise ValueError(msg)
        return self

    @property
    def bits(self) -> int:
        """How many bits a row has."""
        return count(self.questions)


_Number = Annotated[int, Field(ge=0, lt=MAX_PRODUCTS)]
_Bit = Annotated[int, Field(ge=0, lt=MAX_BITS + MAX_GROUPS)]


class SumPart(Strict):
    """A `circuit.Sum`; weight i goes with bit i. A bit past the last one is a group."""

    constant: int = 0
    bits: Annotated[list[_Bit], Field(max_length=MAX_BITS)]
    weights: Annotated[list[int], Field(max_length=MAX_BITS)]
    added: Annotated[list[_Number], Field(max_length=MAX_PRODUCTS)]
    subtracted: Annotated[list[_Number], Field(max_length=MAX_PRODUCTS)]


class ProductPart(SumPart):
    """A `circuit.Product`: a bit, and the sum that it multiplies."""

    bit: _Bit


class ServerPart(Padded):
    """What the node's half is built from.

    Attributes:
        bits: how many bits a row has.
        groups: bits that are added up, and then stand for one bit, which has the number after the last, and so on.
        products: in an order in which they can be computed.
        outputs: a sum for each score.
    """

    family: Literal["trees-batch"]
    version: Literal[1]
    parameters: Parameters
    bits: Annotated[int, Field(ge=1, le=MAX_BITS)]
    groups: Groups = Field(default_factory=list)
    products: Annotated[list[ProductPart], Field(max_length=MAX_PRODUCTS)]
    outputs: Annotated[list[SumPart], Field(min_length=1, max_length=MAX_OUTPUTS)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        half = self.parameters.plain_modulus / 2
        check_groups(self.groups, self.bits, self.bits)
        bits = self.bits + len(self.groups)
        for number, product in enumerate(self.products):
            where = f"products.{number}"
            _check_sum(product, where, bits, number, half)
            if product.constant or not (product.bits or product.added or product.subtracted):
                msg = f"{where}: expected no constant, and something to multiply"
                raise ValueError(msg)
            if product.bit >= bits:
                msg = f"{where}.bit: got {product.bit}, expected below {bits}"
                raise ValueError(msg)
        for number, output in enumerate(self.outputs):
            _check_sum(output, f"outputs.{number}", bits, len(self.products), half)
        return self

    @property
    def circuit(self) -> Circuit:
        """The circuit that it holds."""
        products = [Product(product.bit, _sum_of(product)) for product in self.products]
        groups = {self.bits + place: frozenset(group) for place, group in enumerate(self.groups)}
        return Circuit(products, [_sum_of(output) for output in self.outputs], groups)


class Shape(NamedTuple):
    """How many ciphertexts go there and back, and the sizes that follow.

    Attributes:
        bits: of a row.
        outputs: scores of a row.
    """

    parameters: Parameters
    bits: int
    outputs: int

    @property
    def polynomials(self) -> int:
        """Seeded ciphertexts of an input blob: one of zero, and one a bit."""
        return 1 + self.bits

    @property
    def polynomial_bytes(self) -> int:
        """Of c0 of one of them, prime by prime."""
        return sum(packed_bytes(self.parameters.degree, bits) for bits in self.parameters.data_bits)

    @property
    def reply_bytes(self) -> int:
        """Of one output's polynomials."""
        kept = self.parameters.data_bits[: self.parameters.kept]
        return self.parameters.components * sum(packed_bytes(self.parameters.degree, bits) for bits in kept)

    @property
    def input_bytes(self) -> int:
        """The length of an input blob, whatever the number of rows: all seeds, then all c0."""
        return HEADER_BYTES + self.polynomials * (SEED_BYTES + self.polynomial_bytes)

    @property
    def result_bytes(self) -> int:
        """The length of a result blob, whatever the number of rows."""
        return HEADER_BYTES + self.outputs * self.reply_bytes

    @property
    def digest(self) -> bytes:
        """What ties a blob to this shape: 32 bytes."""
        members = {**self.parameters.model_dump(), "bits": self.bits, "outputs": self.outputs, "family": FAMILY}
        return hashlib.sha256(rfc8785.dumps(members)).digest()


INPUT: Final = b"BGBI"
RESULT: Final = b"BGBR"
HEADER_BYTES: Final = 44  # magic (4), version (4), rows (4), digest (32)


def header(magic: bytes, shape: Shape, rows: int) -> bytes:
    """The header of a blob about `rows` rows."""
    return magic + VERSION.to_bytes(4, "little") + rows.to_bytes(4, "little") + shape.digest


def open_blob(magic: bytes, shape: Shape, blob: bytes) -> tuple[int, memoryview]:
    """Check a blob's header and exact length: how many rows, and the bytes behind the header.

    Raises `ValueError` naming the field, got and expected.
    """
    expected = shape.input_bytes if magic == INPUT else shape.result_bytes
    if len(blob) != expected:
        msg = f"length: got {len(blob)} bytes, expected {expected}"
        raise ValueError(msg)
    if blob[:4] != magic:
        msg = f"magic: expected {magic!r}"
        raise ValueError(msg)
    version, rows = int.from_bytes(blob[4:8], "little"), int.from_bytes(blob[8:12], "little")
    if version != VERSION:
        msg = f"version: got {version}, expected {VERSION}"
        raise ValueError(msg)
    if blob[12:HEADER_BYTES] != shape.digest:
        msg = "digest: made for other parameters or another shape"
        raise ValueError(msg)
    if not 1 <= rows <= shape.parameters.degree:
        msg = f"rows: got {rows}, expected 1 to {shape.parameters.degree}"
        raise ValueError(msg)
    return rows, memoryview(blob)[HEADER_BYTES:]


def client_part(part: Part) -> ClientPart:
    """Parse a client part. Raises `PackageError` naming the field."""
    return parse(ClientPart, part, FAMILY)


def server_part(part: Part) -> ServerPart:
    """Parse a server part. Raises `PackageError` naming the field."""
    return parse(ServerPart, part, FAMILY)


def flood_bits(primes: Sequence[int], plain_modulus: int) -> int:
    """The widest flood whose hard maximum is at most a quarter of Q/t."""
    return (math.prod(primes) // (plain_modulus * TERMS * _FLOOD_SHARE)).bit_length() - 1


def _sum_of(part: SumPart) -> Sum:
    return Sum(part.constant, dict(zip(part.bits, part.weights, strict=True)), part.added, part.subtracted)


def _check_sum(part: SumPart, where: str, bits: int, made: int, half: float) -> None:
    """Refuse what cannot be computed from `bits` bits and the first `made` products."""
    if len(part.bits) != len(part.weights):
        msg = f"{where}.weights: got {len(part.weights)} weights, expected {len(part.bits)}"
        raise ValueError(msg)
    numbers = [*part.added, *part.subtracted]
    if len(set(part.bits)) != len(part.bits) or len(set(numbers)) != len(numbers):
        msg = f"{where}: a bit or a product occurs twice"
        raise ValueError(msg)
    if max(part.bits, default=0) >= bits:
        msg = f"{where}.bits: got {max(part.bits)}, expected below {bits}"
        raise ValueError(msg)
    if max(numbers, default=-1) >= made:
        msg = f"{where}: got product {max(numbers)}, expected one of the {made} before it"
        raise ValueError(msg)
    if any(weight == 0 or abs(weight) >= half for weight in part.weights) or abs(part.constant) >= half:
        msg = f"{where}: a weight is 0, or not between -t/2 and t/2"
        raise ValueError(msg)
