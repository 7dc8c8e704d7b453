"""The two halves of an encrypted model, as interfaces.

A family (`linear`, `concrete`, …) is three modules: `spec`, values that both sides know; `client`, which holds secrets;
`server`, which never sees one. The SDK speaks to a client half and the node to a server half through the protocols below,
so neither knows a family by name, and no server half ever imports a client half (an import contract checks it).

A half is built from its *part*: the JSON document that the model's manifest names by digest. A part is data. Building a
half parses and checks it, and raises `PackageError` naming the field that is wrong; it never executes anything it carries.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from blindgate_protocol.errors import EvaluationKeyError

if TYPE_CHECKING:
    from blindgate_models.search.hosted import HostedCorpus

Part: TypeAlias = dict[str, Any]
"""A model's client or server part: parsed JSON."""

Progress: TypeAlias = Callable[[int, int], None]
"""Told `(done, total)` as long work advances."""


class KeySet(NamedTuple):
    """The keys of one client for one set of parameters.

    Attributes:
        secret: the secret key, serialised. It stays in the client's key store.
        evaluation: what a node needs to compute, serialised, or `None` where the scheme needs nothing.
    """

    secret: bytes
    evaluation: bytes | None

    def __repr__(self) -> str:
        size = "none" if self.evaluation is None else f"{len(self.evaluation)} bytes"
        return f"KeySet(secret=<hidden>, evaluation=<{size}>)"


class ClientHalf(Protocol):
    """What a family does on the data owner's machine."""

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build from the client part. Raises `PackageError`."""

    @property
    def key_parameters(self) -> Part:
        """What determines a key set: models whose value here is equal share keys."""

    @property
    def outputs(self) -> int:
        """How many scores a row has."""

    @property
    def error_bound(self) -> float:
        """How far an honest node's score may be from the exact one: 0 where decryption is exact, else it carries noise."""

    @property
    def rows_per_job(self) -> int:
        """The most rows that one call of `encrypt` takes."""

    @property
    def rows_at_once(self) -> int:
        """How many rows a long table is best cut into: jobs overlap, and nodes share them."""

    def input_bytes(self, rows: int) -> int:
        """The most bytes that the input blob of up to `rows` rows has."""

    def result_bytes(self, rows: int) -> int:
        """The most bytes that the result blob of up to `rows` rows has."""

    def make_keys(self) -> KeySet:
        """Make a fresh key set. May take seconds; releases nothing and writes nothing."""

    def encrypt(self, secret: bytes, rows: NDArray[np.float64], progress: Progress | None = None) -> bytes:
        """Encrypt `rows`, `(n, features)` float64 in the schema's column order, into one blob."""

    def decrypt(self, secret: bytes, result: bytes, rows: int) -> NDArray[np.float64]:
        """Decrypt a result into raw scores, `(rows, outputs)` float64. Raises `ResultError` on a malformed blob."""


@runtime_checkable
class IndexHalf(ClientHalf, Protocol):
    """A client half whose scores are of the entries of an index.

    Attributes:
        corpus: what makes the index somebody's corpus; `None` where it is none.
    """

    corpus: "HostedCorpus | None"

    @property
    def ids(self) -> NDArray[Any]:
        """What the entries are called, `(outputs,)`: whole numbers or texts."""

    def units(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a score of each of these rows is to be multiplied by for the inner product itself, `(n,)`."""

    def score_ranges(
        self, rows: NDArray[np.float64], entries: NDArray[np.float64], within: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the largest inner product, `(n, m)` each, that an honest node gives of each row with each of `m` entries.

        Of entries of the index whose numbers, before they became eight bits, were each within `within` of these, `(m, features)`.
        """


@runtime_checkable
class RecordHalf(ClientHalf, Protocol):
    """A client half whose rows are positions, and whose scores are the digits of the records that lie there."""

    def records(self, scores: NDArray[np.float64]) -> list[bytes]:
        """The records that decrypted scores, `(rows, outputs)`, are."""


class ServerHalf(Protocol):
    """What a family does on the node. One instance serves one model; it holds no key between calls."""

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Build (and compile) from the server part. Raises `PackageError`. Runs in a process that holds no secret."""

    def prepare(self) -> None:
        """Do what the next job needs and can be done without a query, such as drawing masks.

        Called in the process that will serve that job and no other, while it waits. What is drawn there must serve once.
        """

    def rows(self, ciphertexts: bytes) -> int:
        """How many rows an input blob holds: its header and length are checked. Raises `CiphertextError`."""

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Compute on one input blob. Every length is checked before a byte is parsed.

        Raises `CiphertextError` or `EvaluationKeyError` on bytes that are not what the parameters ask for.
        """


def require_no_key(evaluation_key: bytes | None) -> None:
    """Refuse an evaluation key, without a look at it, where a family has none. Raises `EvaluationKeyError`."""
    if evaluation_key is not None:
        msg = f"evaluation key: got {len(evaluation_key)} bytes, expected none"
        raise EvaluationKeyError(msg)
