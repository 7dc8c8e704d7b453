"""What a plaintext model is made of: the list of its files, which is the server part of its package.

The manifest of a model of lane `tee` names this list by digest, as it names every server part, and the evidence binds the
manifest. So the publisher's signature, the client's policy and the node's evidence all speak of the same files. The files
themselves lie on the node, whose operator put them there: they may be hundreds of gigabytes, and no gateway carries them.

`resources` has the form of OpenSSF Model Signing's list (model signing 1.0: name, algorithm, digest of each file), with the size
beside. A name is a plain relative path of few parts, of a kind of file that holds data: no pickle, no archive, no code.

Section 4 of docs/protocol.md.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Final, Literal, Never, Self

from pydantic import Field, StringConstraints, model_validator

from blindgate_protocol.canonical_values import CanonicalValue
from blindgate_protocol.errors import PackageError
from blindgate_protocol.manifest import Api
from blindgate_protocol.values import Size, Value

MAX_FILES: Final = 2000
MAX_FILE_BYTES: Final = 16 << 30
MAX_FOLDER_BYTES: Final = 512 << 30
MAX_JSON_BYTES: Final = 64 << 20

_MAX_DEPTH: Final = 4
_SUFFIXES: Final = frozenset({".safetensors", ".json", ".txt", ".jinja", ".md"})
_NAME: Final = r"^[A-Za-z0-9._][A-Za-z0-9._/ -]{0,254}$"
_NAMES: Final = frozenset({".gitattributes", "LICENSE", "NOTICE"})

Kind = Literal["causal-lm", "sentence-transformers", "torch-table", "upstream"]
"""What opens the files; it is the manifest's `family`, too. `upstream`: a server of OpenAI's API, inside the same environment."""

APIS: Final[dict[str, tuple[Api, ...]]] = {
    "causal-lm": ("chat",),
    "sentence-transformers": ("embeddings", "corpus"),
    "torch-table": ("table",),
    "upstream": ("chat", "embeddings"),
}
"""What a model of each kind may be asked."""


class Resource(Value):
    """One file of a model.

    Attributes:
        name: its path in the folder, with `/` between its parts.
        algorithm: SHA-256 is the one that is read.
        digest: 64 hexadecimal digits.
        size: its length in bytes, where the list says it; OpenSSF's does not.
    """

    name: Annotated[str, StringConstraints(pattern=_NAME)]
    algorithm: Literal["sha256"] = "sha256"
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size: Size | None = None


class Weights(CanonicalValue):
    """The server part of a model that computes in the clear.

    Attributes:
        served_as: by which name the server knows the model, where `kind` is `upstream`, and there alone.
        resources: its files, sorted by name.
    """

    most_bytes: ClassVar[int] = 4 << 20

    purpose: Literal["blindgate weights v1"] = "blindgate weights v1"
    kind: Kind
    served_as: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    resources: Annotated[tuple[Resource, ...], Field(max_length=MAX_FILES)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.served_as is not None) != (self.kind == "upstream"):
            message = "served_as goes with the kind upstream, and with no other"
            raise ValueError(message)
        if not self.resources and self.kind != "upstream":
            message = "a model has at least one file"
            raise ValueError(message)
        names = [resource.name for resource in self.resources]
        if names != sorted(names):
            message = "resources are sorted by name"
            raise ValueError(message)
        return self


def check_name(name: str) -> None:
    """Refuse a file's name that no list can have, in words. Raises `PackageError`."""
    if not re.fullmatch(_NAME, name):
        _refuse(
            f"{name!a:.300}: expected a name of at most 255 of A to Z, a to z, 0 to 9, '.', '_', '-', '/' and blanks"
        )


def check_resources(resources: Sequence[Resource]) -> None:
    """Refuse a list that names a file twice, outside of its folder, or of a kind that may hold code. Raises `PackageError`."""
    names = [resource.name for resource in resources]
    if len(set(names)) != len(names):
        _refuse("resources: a file is listed twice")
    total = 0
    for resource in resources:
        path = PurePosixPath(resource.name)
        if str(path) != resource.name or ".." in path.parts or len(path.parts) > _MAX_DEPTH:
            _refuse(f"{resource.name}: expected a path inside the folder, of at most {_MAX_DEPTH} parts, without '..'")
        if path.suffix not in _SUFFIXES and path.name not in _NAMES:
            _refuse(
                f"{resource.name}: expected one of {', '.join(sorted(_SUFFIXES))}: weights as safetensors, no pickle and no code"
            )
        total += resource.size or 0
        if (resource.size or 0) > bound_of(resource.name):
            _refuse(f"{resource.name}: listed with {resource.size} bytes, expected at most {bound_of(resource.name)}")
    if total > MAX_FOLDER_BYTES:
        _refuse(f"resources: {total} bytes in all, expected at most {MAX_FOLDER_BYTES}")


def bound_of(name: str) -> int:
    """The most bytes that a file of this name may have."""
    return MAX_FILE_BYTES if name.endswith(".safetensors") else MAX_JSON_BYTES


def _refuse(message: str) -> Never:
    raise PackageError(message)
