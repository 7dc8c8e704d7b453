"""The statement inside a model's signature: which files its maker signed.

It is in-toto's form with Model Signing's predicate. Its signature was verified before (`model_signatures`). In this order:

1. the statement's type is in-toto's 1, and its predicate's is Model Signing's 1.0;
2. it lists whole files by SHA-256, sorted, each once, of kinds that hold data;
3. its subject is one, and names the digest over the files' digests in the list's order;
4. the files at hand are exactly the listed ones: no other, none missing, each with its digest.

A field of the predicate that 1.0 does not know is passed over, as 1.0 asks; anywhere else it is refused. Links are not a matter of
the signature: its files are whole, and a folder with links is refused whatever its signer did with them.

OpenSSF Model Signing 1.0; in-toto Statement 1.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Final, Never, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from blindgate_models.weights import read_resources
from blindgate_protocol.errors import PackageDigestError, PackageError
from blindgate_protocol.signing import first_error
from blindgate_protocol.weights import MAX_FILES, Resource

SIGNATURE: Final = "model.sig"
"""The signature's file, as Model Signing calls it, and as packages do."""

_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://model_signing/signature/v1.0"
_ALWAYS_IGNORED: Final = (".git", ".gitattributes", ".github", ".gitignore")
"""What Model Signing leaves out of every list, unless told otherwise."""

Short = Annotated[str, StringConstraints(max_length=1000)]
"""A text of a format that is not ours."""


class Foreign(BaseModel):
    """A part of a format that is not ours. A field that it does not name is refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Subject(Foreign):
    name: str = ""
    digest: dict[str, str]


class _Serialization(Foreign):
    method: Short
    hash_type: Short
    allow_symlinks: bool = False
    ignore_paths: Annotated[tuple[str, ...], Field(max_length=MAX_FILES)] = ()
    shard_size: int | None = None


class _Predicate(Foreign):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore", strict=True)

    serialization: _Serialization
    resources: tuple[dict[str, Any], ...]


class _TypedStatement(BaseModel):
    """What is read of a statement before its predicate's type is known."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore", strict=True)

    type_: Annotated[str, Field(alias="_type")]
    predicateType: str  # noqa: N815


class _Statement(Foreign):
    type_: Annotated[str, Field(alias="_type")]
    subject: Annotated[tuple[_Subject, ...], Field(min_length=1, max_length=1)]
    predicateType: str  # noqa: N815
    predicate: _Predicate


ForeignT = TypeVar("ForeignT", bound=BaseModel)


@dataclass(frozen=True)
class Statement:
    """What a maker signed.

    Attributes:
        resources: the files, as the statement has them: without sizes.
        ignored: which paths the signer left out.
    """

    resources: tuple[Resource, ...]
    ignored: tuple[str, ...]

    def check(self, files: Sequence[Resource]) -> None:
        """Hold files at hand against the listed ones (step 4). Raises `PackageError`, or `PackageDigestError` for other bytes."""
        listed = {one.name: one.digest for one in self.resources}
        found = {one.name: one.digest for one in files}
        if more := sorted(found.keys() - listed.keys()):
            why = "whose signer left it out" if self._leaves_out(more[0]) else "which does not list it"
            refuse(
                f"{more[0]}: is there, and not signed by {SIGNATURE}, {why}: take it away, or have the folder signed again"
            )
        if fewer := sorted(listed.keys() - found.keys()):
            refuse(f"{fewer[0]}: is listed, and not there")
        for name, value in listed.items():
            if found[name] != value:
                message = f"{name}: its SHA-256 is {found[name]}, {SIGNATURE} says {value}"
                raise PackageDigestError(message)

    def unsigned(self, folder: Path, signature: bytes) -> tuple[str, ...]:
        """What lies at the top of `folder` and is on no list by Model Signing's own rules, sorted.

        It is git's files, where the signer left them out, and the signature itself, known by its bytes. Raises `PackageError`.
        """
        git = (name for name in _ALWAYS_IGNORED if name in self.ignored and (folder / name).exists())
        try:
            own = (
                entry.name
                for entry in folder.iterdir()
                if entry.suffix == ".sig"
                and entry.is_file()
                and not entry.is_symlink()
                and entry.stat().st_size == len(signature)
                and entry.read_bytes() == signature
            )
            return tuple(sorted({*git, *own}))
        except OSError as error:
            message = f"{folder}: cannot be read ({error.strerror})"
            raise PackageError(message) from error

    def _leaves_out(self, name: str) -> bool:
        return any(PurePosixPath(name).is_relative_to(path) for path in self.ignored)


def read_statement(payload: bytes) -> Statement:
    """Read a statement whose signature was verified (steps 1 to 3). Raises `PackageError`."""
    # 1.
    typed = read_foreign(_TypedStatement, payload, "the statement")
    if (typed.type_, typed.predicateType) != (_STATEMENT, _PREDICATE):
        refuse(
            f"a statement {typed.type_[:200]!r} with predicate {typed.predicateType[:200]!r}, expected {_STATEMENT!r} with "
            f"{_PREDICATE!r}: what was signed before Model Signing 1.0, or for another purpose, is to be signed again"
        )
    read = read_foreign(_Statement, payload, "the statement")
    # 2.
    how = read.predicate.serialization
    if how.method != "files" or how.shard_size is not None:
        refuse(
            f"serialization: method {how.method!r}, expected 'files': have the folder signed by whole files, not by shards"
        )
    if how.hash_type != "sha256":
        refuse(f"serialization: hash_type {how.hash_type!r}, expected 'sha256': have the folder signed with SHA-256")
    try:
        resources = read_resources(read.predicate.resources)
    except PackageError as error:
        message = f"{SIGNATURE}: {error}"
        raise PackageError(message) from error
    names = [one.name for one in resources]
    # Model Signing sorts by the paths' parts. By the texts it is another order where a name goes on with what comes before a slash.
    if names not in (sorted(names), sorted(names, key=lambda name: PurePosixPath(name).parts)):
        refuse("resources: expected them sorted by name")
    # 3.
    root = hashlib.sha256(b"".join(bytes.fromhex(one.digest) for one in resources)).hexdigest()
    if read.subject[0].digest != {"sha256": root}:
        refuse("subject: its digest is not the one over the listed files' digests")
    return Statement(resources, tuple(path.rstrip("/") for path in how.ignore_paths))


def read_foreign(kind: type[ForeignT], data: bytes, what: str) -> ForeignT:
    """JSON that says nothing twice. A second reader might take the other one."""
    try:
        json.loads(data.decode(), object_pairs_hook=_once_each)
        return kind.model_validate_json(data)
    except ValidationError as error:
        message = f"{SIGNATURE}: {what}: {first_error(error)}"
        raise PackageError(message) from error
    except (ValueError, RecursionError) as error:
        message = f"{SIGNATURE}: {what} is not JSON, or has a member twice"
        raise PackageError(message) from error


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        message = "a member occurs twice"
        raise ValueError(message)
    return made


def refuse(message: str) -> Never:
    """Raise `PackageError` in the name of the signature's file."""
    message = message if message.startswith(SIGNATURE) else f"{SIGNATURE}: {message}"
    raise PackageError(message)
