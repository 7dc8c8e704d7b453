"""What both halves of a Concrete model know: its parameters, its blobs, and how bytes are told from something else.

**Parameters.** `specs` is the circuit's description as Concrete writes it: the key set (which keys of which sizes) and
one circuit with one encrypted tensor in and one out. Two models whose `keyset` is equal share keys.

**Blobs.** Each starts with a header: magic, format, the SHA-256 of the parameters it belongs to, and a count.

| blob | magic | parameters | count | then |
|---|---|---|---|---|
| secret key | `BGCS` | key set | keys | each: id, length, bytes |
| evaluation key | `BGCE` | key set | 1 | Concrete's server key set |
| ciphertexts | `BGCC` | specs | rows | a Concrete value for each row |
| result | `BGCR` | specs | rows | a Concrete value for each row |

**Frames.** Concrete's native parsers trust what they read: a well-formed key set of another model ends the process. All
these messages are fixed but for their random words, so the compiler records each message's *frame* (its size, where the
random words lie, and a digest of all other bytes) and both halves compare it before native code sees a byte. Whatever
an attacker can still choose lies in the random words, where any value is a valid one: it changes the result, not the
parser's way.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple, Never, Self, TypeVar

import numpy as np
import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from blindgate_models.halves import Part
from blindgate_protocol.errors import BlindgateError, PackageError

FAMILY: Final = "concrete"
FORMAT: Final = 1
MAX_ROWS: Final = 4096
MAX_ELEMENTS: Final = 1 << 20

SECRET_MAGIC: Final = b"BGCS"
EVALUATION_MAGIC: Final = b"BGCE"
CIPHERTEXT_MAGIC: Final = b"BGCC"
RESULT_MAGIC: Final = b"BGCR"

_HEADER: Final = struct.Struct("<4sI32sI")
_WORD: Final = 8

HEADER_BYTES: Final = _HEADER.size

_ModelT = TypeVar("_ModelT", bound=BaseModel)
Hole = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]


class StrictModel(BaseModel):
    """A member of a part: exact types, no unknown member."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Frame(StrictModel):
    """What a serialised message of Concrete must look like.

    Attributes:
        size: in bytes, a multiple of 8.
        holes: `[start, length]` of each run of random words, in order.
        sha256: of the bytes outside the holes, in order.
    """

    size: int = Field(gt=0, le=1 << 31, multiple_of=_WORD)
    holes: list[Hole] = Field(max_length=64)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _holes_in_order(self) -> Self:
        position = 0
        for start, length in self.holes:
            if start < position or length <= 0 or start + length > self.size:
                msg = "holes that overlap, are empty or end past the size"
                raise ValueError(msg)
            position = start + length
        return self

    @classmethod
    def of(cls, samples: Sequence[bytes], holes: int) -> Self:
        """The frame of `samples`: messages of the same parameters, each with randomness of its own.

        `holes` is how many runs of random words they have: one a key, one for a value. Raises `ValueError` otherwise.
        """
        words = [np.frombuffer(sample, dtype="<u8") for sample in samples]
        differs = np.logical_or.reduce([words[0] != other for other in words[1:]])
        found = np.flatnonzero(differs)
        gaps = np.diff(found)
        # A word that is equal in every sample by chance, or an output that is constant, must not split a hole: the
        # widest gaps are the fixed bytes between the keys.
        cuts = np.sort(np.argsort(gaps)[len(gaps) - (holes - 1) :]) if holes > 1 else np.array([], dtype=int)
        if found.size < holes or np.any(gaps[cuts] < 2):  # noqa: PLR2004 - neighbours are one apart
            msg = f"expected {holes} runs of random words"
            raise ValueError(msg)
        starts = [int(found[0]), *(int(found[cut + 1]) for cut in cuts)]
        ends = [*(int(found[cut]) for cut in cuts), int(found[-1])]
        runs = [[start * _WORD, (end - start + 1) * _WORD] for start, end in zip(starts, ends, strict=True)]
        digest = _digest_outside(memoryview(samples[0]), runs)
        return cls(size=len(samples[0]), holes=runs, sha256=digest)

    def fits(self, message: memoryview) -> bool:
        """Whether `message` differs from what the compiler saw in random words only."""
        return len(message) == self.size and _digest_outside(message, self.holes) == self.sha256


class Tensor(NamedTuple):
    """One encrypted tensor of the circuit: its shape, and the range of its elements."""

    shape: tuple[int, ...]
    minimum: int
    maximum: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape))


class Specs(NamedTuple):
    """A circuit's parameters, read and bounded.

    Attributes:
        document: as Concrete writes them, for Concrete to read.
        function: the circuit's name.
        takes: the tensor that goes in.
        gives: the tensor that comes out.
        secret_ids: the secret keys that these two are encrypted with.
    """

    document: Part
    function: str
    takes: Tensor
    gives: Tensor
    secret_ids: tuple[int, ...]

    @property
    def keyset(self) -> Part:
        """What determines a key set."""
        keyset: Part = self.document["keyset"]
        return keyset

    @property
    def evaluation_keys(self) -> int:
        """How many keys a node needs: none for a circuit without bootstraps."""
        return sum(len(self.keyset[name]) for name in ("lweBootstrapKeys", "lweKeyswitchKeys", "packingKeyswitchKeys"))

    @property
    def digest(self) -> bytes:
        """SHA-256 of the parameters, which ciphertexts and results carry."""
        return parameters_digest(self.document)

    @property
    def keyset_digest(self) -> bytes:
        """SHA-256 of the key set's parameters, which keys carry."""
        return parameters_digest(self.keyset)


def read_model(model: type[_ModelT], part: Part) -> _ModelT:
    """Check a part against its model. Raises `PackageError` naming the member and the rule, never the value."""
    try:
        return model.model_validate(part)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "part"
        msg = f"{where}: {first['msg']}"
        raise PackageError(msg) from None


def read_specs(document: Part) -> Specs:
    """Read a circuit's parameters: one circuit, one encrypted integer tensor in, one out. Raises `PackageError`."""
    try:
        if set(document) != {"keyset", "circuits"}:
            _refuse("specs: expected the members keyset and circuits")
        if len(document["circuits"]) != 1:
            _refuse("specs.circuits: expected one circuit")
        (circuit,) = document["circuits"]
        if len(circuit["inputs"]) != 1 or len(circuit["outputs"]) != 1:
            _refuse("specs.circuits: expected one input and one output")
        takes, input_key = _read_tensor(circuit["inputs"][0])
        gives, output_key = _read_tensor(circuit["outputs"][0])
        known = {key["id"] for key in document["keyset"]["lweSecretKeys"]}
        if not {input_key, output_key} <= known:
            _refuse("specs.keyset: does not hold the keys of the input and the output")
        specs = Specs(document, circuit["name"], takes, gives, tuple(sorted({input_key, output_key})))
        if not isinstance(specs.function, str) or specs.evaluation_keys < 0:
            _refuse("specs.circuits: a name that is not a text")
    except (KeyError, TypeError, ValueError) as error:
        msg = "specs: not a circuit's parameters as Concrete writes them"
        raise PackageError(msg) from error
    return specs


def parameters_digest(parameters: Part) -> bytes:
    """SHA-256 of the canonical JSON of `parameters`."""
    return hashlib.sha256(rfc8785.dumps(parameters)).digest()


def pack_header(magic: bytes, digest: bytes, count: int) -> bytes:
    """The header of a blob that holds `count` messages of the parameters `digest`."""
    return _HEADER.pack(magic, FORMAT, digest, count)


def unpack_header(
    blob: bytes, magic: bytes, digest: bytes, error: type[BlindgateError], most: int
) -> tuple[int, memoryview]:
    """The count, 1 to `most`, and the bytes after the header. Raises `error` naming what does not fit."""
    if len(blob) < HEADER_BYTES:
        msg = f"size: got {len(blob)} bytes, expected at least {HEADER_BYTES}"
        raise error(msg)
    got_magic, got_format, got_digest, count = _HEADER.unpack_from(blob)
    if got_magic != magic or got_format != FORMAT:
        msg = f"magic: not a blob of the kind {magic.decode()!r}, format {FORMAT}"
        raise error(msg)
    if got_digest != digest:
        msg = f"parameters: got {got_digest.hex()[:16]}…, expected {digest.hex()[:16]}…"
        raise error(msg)
    if not 1 <= count <= most:
        msg = f"count: got {count}, expected 1 to {most}"
        raise error(msg)
    return count, memoryview(blob)[HEADER_BYTES:]


def split_rows(blob: bytes, magic: bytes, specs: Specs, frame: Frame, error: type[BlindgateError]) -> list[bytes]:
    """The message of each row of a ciphertext or result blob, its frame checked. Raises `error`."""
    rows, body = unpack_header(blob, magic, specs.digest, error, MAX_ROWS)
    if len(body) != rows * frame.size:
        msg = f"size: got {len(body)} bytes for {rows} rows, expected {rows * frame.size}"
        raise error(msg)
    messages = [body[row * frame.size : (row + 1) * frame.size] for row in range(rows)]
    for row, message in enumerate(messages):
        if not frame.fits(message):
            msg = f"frame: row {row} is not a value of this circuit's parameters"
            raise error(msg)
    return [bytes(message) for message in messages]


def _read_tensor(gate: dict[str, Any]) -> tuple[Tensor, int]:
    value = gate["typeInfo"]["lweCiphertext"]
    encoding = value["encoding"]["integer"]
    width, signed = encoding["width"], encoding["isSigned"]
    shape = tuple(value["abstractShape"].get("dimensions", ()))
    if not all(isinstance(size, int) and size > 0 for size in shape) or not isinstance(width, int):
        raise TypeError
    low = -(1 << (width - 1)) if signed else 0
    tensor = Tensor(shape, low, low + (1 << width) - 1)
    if not 1 <= tensor.elements <= MAX_ELEMENTS:
        raise ValueError
    return tensor, value["encryption"]["keyId"]


def _digest_outside(message: memoryview, holes: Sequence[Sequence[int]]) -> str:
    digest = hashlib.sha256()
    position = 0
    for start, length in holes:
        digest.update(message[position:start])
        position = start + length
    digest.update(message[position:])
    return digest.hexdigest()


def _refuse(why: str) -> Never:
    raise PackageError(why)
