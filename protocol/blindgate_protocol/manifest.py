"""What a model is, as its publisher states and signs it.

A manifest names everything that a prediction depends on: the columns and their ranges, what the answers mean, both parts of
the package by digest, the limits that bound every blob, how exactly a second evaluation must agree, and what each side learns
of the other. Its digest is the model's name in orders and receipts.

Lane `fhe`: the model computes on ciphertexts, and both parts of its package are named by digest. Lane `tee`: it computes in the
clear, inside a machine that its asker has checked. Then there is no client part and nothing about encryption; the server part is
the list of the model's files (`weights`), and `api` says what may be asked.

A signature alone does not make a manifest usable. `check_manifest` establishes:

1. the signer is a publisher that the reader trusts;
2. its time has come and has not passed;
3. its version is not below one that the reader has seen of this model.

Section 4 of docs/protocol.md.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from blindgate_protocol.errors import (
    ExpiredManifestError,
    ManifestError,
    RolledBackManifestError,
    UntrustedSignerError,
)
from blindgate_protocol.makers import Maker
from blindgate_protocol.signing import Document, Signed
from blindgate_protocol.values import BlobRef, Digest, Millis, Name, Size, Text, Value

MAX_COLUMNS = 8192
MAX_LABELS = 4096
MAX_SCORES = 1 << 20
MAX_CATEGORIES = 1000

Lane = Literal["fhe", "tee"]
"""Where a model computes: on ciphertexts, or in the clear inside a trusted execution environment."""

Api = Literal["chat", "embeddings", "table", "corpus"]
"""What a model of lane `tee` may be asked: OpenAI's chats, OpenAI's embeddings, rows of numbers, or to search their corpus."""

Unstated = Field(exclude_if=lambda value: value is None)
"""A field that a document leaves out where it has nothing to say, so that documents of before keep their bytes."""


class Column(Value):
    """One column of the table that the model reads.

    Attributes:
        type: `number` for any finite number, `integer` for whole ones, `category` for one of a list.
        minimum: the least value that the model was calibrated for; none for a category.
        maximum: the greatest.
        categories: the values that a category may have.
        out_of_range: what the client does with a value outside: refuse the table, clip the number, or let the model treat it as a
            category of its own.
        missing: what it does with a missing value: refuse the table, put in `fill`, or let the model treat it as missing.
        fill: the value for a missing one, of a category its position; given exactly when `missing` is `fill`.
        data_class: what kind of data this is, by the name that policies use; none where the publisher says nothing.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    type: Literal["number", "integer", "category"] = "number"
    minimum: float | None = None
    maximum: float | None = None
    categories: Annotated[tuple[str | bool | int | float, ...], Field(max_length=MAX_CATEGORIES)] = ()
    out_of_range: Literal["refuse", "clip", "other"] = "refuse"
    missing: Literal["refuse", "fill", "model"] = "refuse"
    fill: float | None = None
    data_class: Annotated[Name | None, Unstated] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.type == "category":
            if not self.categories or self.minimum is not None or self.maximum is not None:
                message = "a category has a list of categories, and neither minimum nor maximum"
                raise ValueError(message)
            if len(set(self.categories)) != len(self.categories):
                message = "a category occurs twice"
                raise ValueError(message)
        elif self.categories or self.minimum is None or self.maximum is None or self.minimum >= self.maximum:
            message = "a number has a minimum below a maximum, and no categories"
            raise ValueError(message)
        if self.out_of_range == ("clip" if self.type == "category" else "other"):
            message = "numbers are clipped; a category may be another"
            raise ValueError(message)
        if (self.fill is not None) != (self.missing == "fill"):
            message = "fill goes with missing = fill"
            raise ValueError(message)
        if self.fill is not None and not self._holds(self.fill):
            message = "fill is a number within the range, or the position of a category"
            raise ValueError(message)
        return self

    def _holds(self, number: float) -> bool:
        if self.minimum is None or self.maximum is None:
            return number.is_integer() and 0 <= number < len(self.categories)
        return self.minimum <= number <= self.maximum


_LINKS = {"classification": ("sigmoid", "softmax", "probability"), "regression": ("exp",), "search": (), "lookup": ()}


class Output(Value):
    """What the model's scores mean.

    Attributes:
        task: `search` gives the entries of an index that are nearest to a row, `lookup` the record at a position.
        labels: the classes, in the order of the scores; none for a regression. Two classes may share one score.
        scores: how many numbers the model gives a row; for `search`, how many entries it scores; for `lookup`, how many digits
            a record is cut into.
        link: what turns scores into probabilities on the client; `probability` when they are some already, `identity` when
            nothing does. `exp` turns the score of a regression with a log link into its number.
        decimals: how many decimals of a number leave the SDK; below 0, how many digits before the point are rounded away. More
            would give away the noise of the ciphertext.
    """

    task: Literal["classification", "regression", "search", "lookup"]
    labels: Annotated[tuple[str | bool | int | float, ...], Field(max_length=MAX_LABELS)] = ()
    scores: Annotated[int, Field(ge=1, le=MAX_SCORES)]
    link: Literal["identity", "sigmoid", "softmax", "probability", "exp"]
    decimals: Annotated[int, Field(ge=-12, le=12)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.task != "classification" and self.labels:
            message = f"a {self.task} has no labels"
            raise ValueError(message)
        if self.link not in {"identity", *_LINKS[self.task]}:
            message = "the link exp goes with a regression, every other but identity with a classification"
            raise ValueError(message)
        if self.task == "classification" and len(self.labels) != (self.scores if self.scores > 1 else 2):
            message = "one score a label, or one for two labels"
            raise ValueError(message)
        return self


class Limits(Value):
    """What bounds the blobs of one job, whatever their content. The gateway and the node refuse more."""

    rows_per_job: Annotated[int, Field(ge=1)]
    input_bytes: Size
    result_bytes: Size
    evaluation_key_bytes: Size


class Disclosure(Value):
    """What each side can learn of the other's secret, in plain words."""

    to_client: tuple[Text, ...]
    to_node: tuple[Text, ...]


class Encryption(Value):
    """How the rows are encrypted, and how exact that leaves the scores.

    Attributes:
        scheme: the scheme of the ciphertexts.
        security: bits of security of the parameters, by the table of the Homomorphic Encryption Standard.
        degree: the ring's degree; 0 for TFHE, whose circuits use several.
        modulus_bits: the most bits that anything encrypted is modulo; 0 for TFHE.
        levels: products with one another that ciphertexts go through one after the other.
        error_bound: how far an honest node's score may be from that of the compiled model in the clear.
    """

    scheme: Literal["ckks", "bfv", "bgv", "tfhe"]
    security: Literal[128]
    degree: Annotated[int, Field(ge=0, le=32768)]
    modulus_bits: Annotated[int, Field(ge=0, le=881)]
    levels: Annotated[int, Field(ge=0, le=64)]
    error_bound: Annotated[float, Field(ge=0)]


class Privacy(Value):
    """How far the model is hidden from those who ask it.

    Attributes:
        mode: `model_public` when one reply may give the model away; `model_private` when replies say nothing of it beyond their
            scores, to clients that run Blindgate unmodified.
        bits: in that case, -log2 of the advantage, over a million rows, of telling replies from ones that were made of the
            scores alone; of telling two models apart, at most twice that advantage.
        rows_per_tenant: how many rows a tenant may ask for in all, since scores alone give a model away in the end; none for as
            many as it likes.
    """

    mode: Literal["model_public", "model_private"]
    bits: Annotated[float, Field(ge=40)] | None = None
    rows_per_tenant: Annotated[int, Field(ge=1, lt=2**53)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.bits is None) != (self.mode == "model_public"):
            message = "bits go with model_private"
            raise ValueError(message)
        return self


class Accuracy(Value):
    """How well the encrypted model did.

    Attributes:
        rows: how many rows were compared.
        held_out: whether they are, by the publisher's word, rows that neither the model nor its ranges were made from.
        plain: the plaintext model's accuracy on rows that it was not trained on (R² for a regression); none when the
            publisher gave no answers to compare with.
        agreement: the share of the rows on which both models give the same label (or a number within 1%).
        max_error: the largest difference between the two models' scores.
    """

    rows: Annotated[int, Field(ge=0)]
    held_out: bool = False
    plain: float | None
    agreement: Annotated[float, Field(ge=0, le=1)]
    max_error: Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Encrypted:
    """What the manifest of a model that computes on ciphertexts states beside. See `Manifest`."""

    client: BlobRef
    key_parameters: Digest
    encryption: Encryption
    accuracy: Accuracy


class Manifest(Document):
    """One version of one model.

    Attributes:
        version: grows with every publication under this name.
        family: what computes it: a node has it or not.
        api: what may be asked; in lane `tee`, and there alone.
        columns: of the table that the model reads; none where it reads no table.
        output: what its scores mean; likewise.
        client: the package's client part; in lane `fhe`, and there alone.
        server: its server part; in lane `tee` the list of its files (`weights`).
        key_parameters: the digest of what determines a key set. Models with the same value share keys. Lane `fhe`.
        evaluation_key: whether the node needs one.
        encryption: lane `fhe`.
        determinism: `bit-exact` when the same input and key give the same bytes in any process, `varies` when they need
            not. An auditor who recomputes needs to know.
        accuracy: how well the encrypted model did; lane `fhe`.
        data_class: what kind of data its requests are, by the name that policies use; none where the publisher says nothing.
        maker: who signed its files before the publisher did; in lane `tee` alone, and none where the publisher says nothing.
    """

    media_type: ClassVar[str] = "application/vnd.blindgate.manifest.v1+json"

    name: Name
    version: Annotated[int, Field(ge=1)]
    summary: Text
    family: Name
    lane: Lane
    api: Annotated[Api | None, Unstated] = None
    issued: Millis
    expires: Millis
    columns: Annotated[tuple[Column, ...], Field(max_length=MAX_COLUMNS)]
    output: Annotated[Output | None, Unstated] = None
    client: Annotated[BlobRef | None, Unstated] = None
    server: BlobRef
    key_parameters: Annotated[Digest | None, Unstated] = None
    evaluation_key: bool
    encryption: Annotated[Encryption | None, Unstated] = None
    determinism: Literal["bit-exact", "varies"]
    limits: Limits
    privacy: Privacy
    discloses: Disclosure
    accuracy: Annotated[Accuracy | None, Unstated] = None
    data_class: Annotated[Name | None, Unstated] = None
    maker: Annotated[Maker | None, Unstated] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            message = "a column's name occurs twice"
            raise ValueError(message)
        if self.issued >= self.expires:
            message = "expires must come after issued"
            raise ValueError(message)
        self._check_lane()
        return self

    def _check_lane(self) -> None:
        fhe = self.lane == "fhe"
        if fhe == (self.api is not None):
            message = "api goes with lane tee, and with no other"
            raise ValueError(message)
        for name in ("client", "key_parameters", "encryption", "accuracy"):
            if fhe != (getattr(self, name) is not None):
                message = f"{name} goes with lane fhe, and with no other"
                raise ValueError(message)
        if fhe and self.maker is not None:
            message = "maker goes with lane tee, and with no other"
            raise ValueError(message)
        reads_table = fhe or self.api == "table"
        if reads_table != bool(self.columns) or reads_table != (self.output is not None):
            message = "columns and output go with a model that reads a table, and with no other"
            raise ValueError(message)
        if not fhe and (self.evaluation_key or self.limits.evaluation_key_bytes):
            message = "a model of lane tee needs no evaluation key"
            raise ValueError(message)

    def encrypted(self) -> Encrypted:
        """What only lane `fhe` has. Raises `ManifestError` for a model of the other."""
        if self.client is None or self.key_parameters is None or self.encryption is None or self.accuracy is None:
            message = f"model {self.name!r} runs in lane {self.lane!r}: it computes on no ciphertexts"
            raise ManifestError(message)
        return Encrypted(self.client, self.key_parameters, self.encryption, self.accuracy)

    def scores(self) -> Output:
        """What the scores of a model that reads a table mean. Raises `ManifestError` for another model."""
        if self.output is None:
            message = f"model {self.name!r} reads no table: it is asked by {self.api}"
            raise ManifestError(message)
        return self.output


class ModelRef(Value):
    """One version of a model, as orders and receipts name it."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    manifest: Digest


def model_ref(manifest: Signed[Manifest]) -> ModelRef:
    """Name the model that `manifest` describes."""
    return ModelRef(name=manifest.document.name, version=manifest.document.version, manifest=manifest.digest)


def check_manifest(
    manifest: Signed[Manifest], *, publishers: Container[str], now: Millis, seen_version: int = 0
) -> None:
    """Decide whether a verified manifest may be used (steps 1 to 3 above).

    Raises `UntrustedSignerError`, `ExpiredManifestError` or `RolledBackManifestError`.
    """
    document = manifest.document
    what = f"model {document.name!r} version {document.version}"
    # 1.
    if manifest.signer not in publishers:
        message = f"{what} is signed by {manifest.signer}, who is not among the trusted publishers"
        raise UntrustedSignerError(message)
    # 2.
    if now < document.issued:
        message = f"{what} is not valid yet: it is dated {document.issued - now} ms ahead of this machine's clock"
        raise ExpiredManifestError(message)
    if now >= document.expires:
        message = (
            f"{what} expired {(now - document.expires) // 86_400_000} days ago; its publisher must sign a new version"
        )
        raise ExpiredManifestError(message)
    # 3.
    if document.version < seen_version:
        message = f"{what} is older than version {seen_version}, which was served before: refused as a rollback"
        raise RolledBackManifestError(message)
