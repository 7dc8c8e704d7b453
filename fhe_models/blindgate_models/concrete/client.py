"""The client half of a Concrete model: quantise, encrypt, decrypt, add up.

The part holds the circuit's parameters, how a row becomes integers, and how the circuit's integers become scores:

0. **read** features: the columns, and where some hold categories, whether a row holds each (`blindgate_models.features`);
1. **quantise**: `bins` for trees, where feature j becomes the number of its sorted edges below it, so that a comparison
   with a split's threshold is a comparison of small integers and nothing is rounded; `uniform` for linear models and
   networks, where q = clip(rint(x / scale + zero_point)), Jacob et al. 2018, §2.1, as Concrete ML computes it;
2. **encrypt** with the secret keys of the circuit's input: seeded, so a row takes a few hundred bytes;
3. **decrypt**, and dequantise: y = scale · (q - zero_point);
4. **add up** the trees' outputs where the model has trees, and the bias that the circuit does not hold.

What is left to the SDK is the link (sigmoid, softmax) and the labels, which the manifest names. Results are a node's
bytes: their size and frame are checked before native code reads them. The secret key exists as bytes in this process
only.
"""

import json
import secrets
import struct
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Never, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from blindgate_models.concrete.runtime import check_version, load_runtime
from blindgate_models.concrete.spec import (
    CIPHERTEXT_MAGIC,
    EVALUATION_MAGIC,
    FAMILY,
    HEADER_BYTES,
    RESULT_MAGIC,
    SECRET_MAGIC,
    Frame,
    Specs,
    StrictModel,
    pack_header,
    read_model,
    read_specs,
    split_rows,
    unpack_header,
)
from blindgate_models.features import MAX_COLUMNS, Feature, expand
from blindgate_models.halves import KeySet, Part, Progress
from blindgate_protocol.errors import InputError, KeyStoreError, PackageError, ResultError

_KEY_HEADER: Final = struct.Struct("<II")
_MAX_SECRET_KEYS: Final = 64

Number: TypeAlias = float | int


class Bins(StrictModel):
    """Feature j becomes the number of its sorted `edges[j]` that it reaches: that are below it or equal to it."""

    kind: Literal["bins"]
    edges: list[Annotated[list[Number], Field(max_length=1 << 16)]] = Field(min_length=1, max_length=1 << 14)

    @property
    def features(self) -> int:
        """How many columns a row has."""
        return len(self.edges)

    @property
    def reach(self) -> tuple[int, int]:
        """The smallest and the largest integer that it gives."""
        return 0, max(map(len, self.edges))

    def apply(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """The codes of `rows`, `(n, features)`."""
        codes = [np.searchsorted(np.asarray(edges, float), rows[:, j], "right") for j, edges in enumerate(self.edges)]
        return np.stack(codes, axis=1).astype(np.int64)


class Uniform(StrictModel):
    """q = clip(rint(x' / scale + zero_point), minimum, maximum) with x' = (x - centre) / spread, feature by feature."""

    kind: Literal["uniform"]
    centre: list[Number] = Field(min_length=1, max_length=1 << 14)
    spread: list[Annotated[Number, Field(gt=0)]] = Field(min_length=1, max_length=1 << 14)
    scale: Number = Field(gt=0)
    zero_point: Number
    minimum: int
    maximum: int

    @property
    def features(self) -> int:
        """How many columns a row has."""
        return len(self.centre) if len(self.centre) == len(self.spread) else 0

    @property
    def reach(self) -> tuple[int, int]:
        """The smallest and the largest integer that it gives."""
        return self.minimum, self.maximum

    def apply(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """The integers of `rows`, `(n, features)`."""
        even = (rows - np.asarray(self.centre, dtype=np.float64)) / np.asarray(self.spread, dtype=np.float64)
        codes: NDArray[np.int64] = np.rint(even / self.scale + self.zero_point).clip(*self.reach).astype(np.int64)
        return codes


class Scores(StrictModel):
    """How the circuit's integers become scores: scale · (q - zero_point), summed over the last axis if `trees`, plus `bias`."""

    scale: Number
    zero_point: list[Number] = Field(min_length=1, max_length=1 << 12)
    trees: bool
    bias: list[Number] = Field(min_length=1, max_length=1 << 12)

    def apply(self, values: NDArray[np.int64]) -> NDArray[np.float64]:
        """One row's scores, `(outputs,)`, of what its circuit gave."""
        numbers = self.scale * (values - np.asarray(self.zero_point, dtype=np.float64))
        summed = np.asarray(numbers.sum(axis=-1) if self.trees else numbers, dtype=np.float64)
        return summed.reshape(-1) + np.asarray(self.bias, dtype=np.float64)


class Reads(StrictModel):
    """The features of a row of so many columns."""

    columns: int = Field(ge=1, le=MAX_COLUMNS)
    features: list[Feature] = Field(min_length=1, max_length=1 << 14)


class ClientPart(StrictModel):
    """The client part, `client.json`. Without `reads`, the features are the columns."""

    concrete_python: str = Field(max_length=40)
    specs: Part
    features: int = Field(ge=1, le=1 << 14)
    reads: Reads | None = None
    quantiser: Annotated[Bins | Uniform, Field(discriminator="kind")]
    scores: Scores
    ciphertext_bytes: int = Field(ge=1, le=1 << 31)
    result: Frame
    rows_per_job: int = Field(ge=1, le=256)


class ConcreteClient:
    """`ClientHalf` for the family `concrete`."""

    def __init__(self, part: ClientPart, specs: Specs) -> None:
        """Use `from_part`, which checks what stands in the part."""
        self._part = part
        self._specs = specs

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the client part. Raises `PackageError` naming the member that is wrong."""
        parsed = read_model(ClientPart, part)
        check_version(parsed.concrete_python)
        specs = read_specs(parsed.specs)
        if specs.takes.elements != parsed.features:
            _refuse(f"features: got {parsed.features}, the circuit takes {specs.takes.elements}")
        reads = parsed.reads
        if reads is not None and len(reads.features) != parsed.features:
            _refuse(f"reads: got {len(reads.features)} features, expected {parsed.features}")
        if reads is not None and max(feature.column for feature in reads.features) >= reads.columns:
            _refuse(f"reads: a feature of a column past the {reads.columns} that there are")
        quantiser = parsed.quantiser
        if quantiser.features != parsed.features:
            _refuse(f"quantiser: got {quantiser.features} features, expected {parsed.features}")
        if isinstance(quantiser, Bins) and any(
            low >= high for edges in quantiser.edges for low, high in pairwise(edges)
        ):
            _refuse("quantiser.edges: not in increasing order")
        reach = quantiser.reach
        if not specs.takes.minimum <= reach[0] <= reach[1] <= specs.takes.maximum:
            _refuse(f"quantiser: reaches {reach}, the circuit takes {specs.takes.minimum} to {specs.takes.maximum}")
        outputs = specs.gives.shape[:-1] if parsed.scores.trees else specs.gives.shape
        if int(np.prod(outputs)) != len(parsed.scores.bias):
            _refuse(f"scores.bias: got {len(parsed.scores.bias)} outputs, the circuit gives {int(np.prod(outputs))}")
        if len(parsed.scores.zero_point) not in {1, specs.gives.shape[-1]}:
            _refuse(f"scores.zero_point: got {len(parsed.scores.zero_point)}, expected 1 or {specs.gives.shape[-1]}")
        return cls(parsed, specs)

    @property
    def key_parameters(self) -> Part:
        """The family, its release and the key set: models whose value here is equal share keys."""
        return {"family": FAMILY, "concrete_python": self._part.concrete_python, "keyset": self._specs.keyset}

    @property
    def rows_per_job(self) -> int:
        """The most rows that one job takes."""
        return self._part.rows_per_job

    @property
    def rows_at_once(self) -> int:
        """One: a row takes seconds, and the nodes share a table job by job."""
        return 1

    @property
    def error_bound(self) -> float:
        """0: decryption gives the very integers that were computed."""
        return 0.0

    @property
    def outputs(self) -> int:
        """How many scores a row has."""
        return len(self._part.scores.bias)

    def input_bytes(self, rows: int) -> int:
        """The length of the input blob of `rows` rows."""
        return HEADER_BYTES + rows * self._part.ciphertext_bytes

    def result_bytes(self, rows: int) -> int:
        """The length of the result blob of `rows` rows."""
        return HEADER_BYTES + rows * self._part.result.size

    def make_keys(self) -> KeySet:
        """Make a fresh key set, in seconds. The secret seed is 128 bits of the system's randomness."""
        runtime = load_runtime()
        keyset = runtime.Keyset(_program(runtime, self._specs.document), None, *_seed(), *_seed(), None)
        keys = keyset.get_client_keys().get_secret_keys()
        # The other secret keys only join bootstraps together: nothing that crosses the wire is encrypted with them.
        kept = [(key_id, keys[self._position(key_id)].serialize()) for key_id in self._specs.secret_ids]
        secret = pack_header(SECRET_MAGIC, self._specs.keyset_digest, len(kept)) + b"".join(
            _KEY_HEADER.pack(key_id, len(data)) + data for key_id, data in kept
        )
        if self._specs.evaluation_keys == 0:
            return KeySet(secret, None)
        evaluation = pack_header(EVALUATION_MAGIC, self._specs.keyset_digest, 1) + keyset.get_server_keys().serialize()
        return KeySet(secret, evaluation)

    def quantise(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """The integers that are encrypted for `rows`, `(n, columns)`: `(n, features)`.

        Raises `InputError` on another width, or on no finite number.
        """
        reads = self._part.reads
        columns = self._part.features if reads is None else reads.columns
        if rows.ndim != 2 or rows.shape[1] != columns:  # noqa: PLR2004
            msg = f"rows: got the shape {rows.shape}, expected (n, {columns})"
            raise InputError(msg)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            msg = f"row {row}: a number that is not finite"
            raise InputError(msg, row=row)
        return self._part.quantiser.apply(rows if reads is None else expand(reads.features, rows))

    def scores(self, values: NDArray[np.int64]) -> NDArray[np.float64]:
        """The raw scores, `(outputs,)`, of what the circuit gave for one row."""
        return self._part.scores.apply(values)

    def encrypt(self, secret: bytes, rows: NDArray[np.float64], progress: Progress | None = None) -> bytes:
        """Encrypt `rows`, `(n, columns)` float64 with n at most `rows_per_job`, into one blob.

        Raises `InputError` on rows that the model does not take, `KeyStoreError` on a secret key of other parameters.
        """
        codes = self.quantise(rows)
        if not 1 <= len(rows) <= self.rows_per_job:
            msg = f"rows: got {len(rows)}, expected 1 to {self.rows_per_job}"
            raise InputError(msg)
        runtime, circuit = self._circuit(secret)
        blob = [pack_header(CIPHERTEXT_MAGIC, self._specs.digest, len(rows))]
        for done, row in enumerate(codes, start=1):
            value = runtime.Value(np.ascontiguousarray(row.reshape(self._specs.takes.shape)))
            blob.append(circuit.prepare_input(value, 0).serialize())
            if progress is not None:
                progress(done, len(codes))
        return b"".join(blob)

    def decrypt(self, secret: bytes, result: bytes, rows: int) -> NDArray[np.float64]:
        """Decrypt a result into raw scores, `(rows, outputs)` float64.

        Raises `ResultError` on a blob that is not a result of this circuit for that many rows.
        """
        messages = split_rows(result, RESULT_MAGIC, self._specs, self._part.result, ResultError)
        if len(messages) != rows:
            msg = f"rows: got {len(messages)}, expected {rows}"
            raise ResultError(msg)
        runtime, circuit = self._circuit(secret)
        scores = []
        for message in messages:
            try:
                values = circuit.process_output(runtime.TransportValue.deserialize(message), 0).to_py_val()
            except RuntimeError as error:
                msg = "result: not a value of this circuit"
                raise ResultError(msg) from error
            scores.append(self.scores(np.asarray(values).astype(np.int64).reshape(self._specs.gives.shape)))
        return np.stack(scores)

    def _circuit(self, secret: bytes) -> tuple[Any, Any]:
        """The native client circuit for the secret key, made without the keys that only a node needs."""
        runtime = load_runtime()
        program = _program(runtime, self._keyless)
        parameters = program.get_keyset_info().secret_keys()
        keys = {
            key_id: runtime.LweSecretKey.deserialize(data, parameters[self._position(key_id)])
            for key_id, data in _read_secret(secret, self._specs).items()
        }
        keyset = runtime.Keyset(program, None, *_seed(), *_seed(), keys)
        return runtime, runtime.ClientProgram.create_encrypted(program, keyset).get_client_circuit(self._specs.function)

    def _position(self, key_id: int) -> int:
        return [key["id"] for key in self._specs.keyset["lweSecretKeys"]].index(key_id)

    @cached_property
    def _keyless(self) -> Part:
        keyset = {**self._specs.keyset, "lweBootstrapKeys": [], "lweKeyswitchKeys": [], "packingKeyswitchKeys": []}
        return {**self._specs.document, "keyset": keyset}


def _read_secret(secret: bytes, specs: Specs) -> dict[int, bytes]:
    count, body = unpack_header(secret, SECRET_MAGIC, specs.keyset_digest, KeyStoreError, _MAX_SECRET_KEYS)
    keys: dict[int, bytes] = {}
    for _ in range(count):
        if len(body) < _KEY_HEADER.size:
            _bad_secret()
        key_id, length = _KEY_HEADER.unpack_from(body)
        body = body[_KEY_HEADER.size :]
        if len(body) < length:
            _bad_secret()
        keys[key_id], body = bytes(body[:length]), body[length:]
    if len(body) or tuple(sorted(keys)) != specs.secret_ids:
        _bad_secret()
    return keys


def _program(runtime: Any, document: Part) -> Any:
    return runtime.ProgramInfo.deserialize(json.dumps(document).encode())


def _seed() -> tuple[int, int]:
    """128 bits of the system's randomness, as the two halves that Concrete takes."""
    return secrets.randbits(64), secrets.randbits(64)


def _bad_secret() -> Never:
    msg = "secret key: not the keys of this model's parameters"
    raise KeyStoreError(msg)


def _refuse(why: str) -> Never:
    raise PackageError(why)
