"""What this client allows, and whom it trusts: one TOML file that its owner writes.

    [publishers]                 # whose models may be used
    acme-health = "ed25519:…"

    [operators]                  # whose nodes may run jobs
    north-compute = "ed25519:…"

    [rules]
    lanes = ["fhe"]              # never falls back to another

Nothing is trusted that is not in it. A missing or unknown signer is an error that first shows what would be trusted and then
says how to add it; adding is the owner's act, never the SDK's.

The names are for people. What counts is the key.
"""

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from blindgate_protocol.errors import PolicyError, UntrustedSignerError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.signing import Signed, first_error
from blindgate_protocol.values import KeyId, Name, Value


class Rules(Value):
    """What is allowed.

    Attributes:
        lanes: the lanes that a job may take.
    """

    lanes: Annotated[tuple[Literal["fhe"], ...], Field(min_length=1)] = ("fhe",)


class _PolicyFile(Value):
    publishers: dict[Name, KeyId] = Field(default_factory=dict)
    operators: dict[Name, KeyId] = Field(default_factory=dict)
    rules: Rules = Rules()


@dataclass(frozen=True)
class Policy:
    """Roots of trust and rules.

    Attributes:
        publishers: signing keys by the owner's name for them.
        operators: likewise.
        path: the file it came from, or would be written to.
    """

    publishers: dict[str, str]
    operators: dict[str, str]
    rules: Rules = field(default_factory=Rules)
    path: Path | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Policy":
        """Read a policy file. A file that is not there is a policy that trusts nobody. Raises `PolicyError`."""
        path = Path(path)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return cls({}, {}, path=path)
        except OSError as error:
            message = f"policy {path}: {error.strerror}"
            raise PolicyError(message) from error
        try:
            parsed = _PolicyFile.model_validate(_tuples(tomllib.loads(text.decode())))
        except ValidationError as error:
            message = f"policy {path}: {first_error(error)}"
            raise PolicyError(message) from error
        except ValueError as error:
            message = f"policy {path}: not TOML: {error}"
            raise PolicyError(message) from error
        return cls(parsed.publishers, parsed.operators, parsed.rules, path)

    def save(self) -> None:
        """Write the policy to its file, whole or not at all."""
        if self.path is None:
            message = "this policy has no file"
            raise PolicyError(message)
        lines = ["# What this Blindgate client allows, and whom it trusts.", "", "[publishers]"]
        lines += [f'"{name}" = "{key}"' for name, key in self.publishers.items()]  # a bare key's dot is a table
        lines += ["", "[operators]"]
        lines += [f'"{name}" = "{key}"' for name, key in self.operators.items()]
        lanes = ", ".join(f'"{lane}"' for lane in self.rules.lanes)
        lines += ["", "[rules]", f"lanes = [{lanes}]", ""]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.write_text("\n".join(lines))
        temporary.replace(self.path)

    def require_publisher(self, manifest: Signed[Manifest]) -> None:
        """Refuse a manifest whose signer is no trusted publisher. Raises `UntrustedSignerError`."""
        if manifest.signer in self.publishers.values():
            return
        document = manifest.document
        message = (
            f"model {document.name!r} version {document.version} is signed by {manifest.signer}, whom the policy does not "
            f"name as a publisher. {self._trusted('publishers', self.publishers)} If its owner confirmed this key to you "
            f"outside of this gateway, trust it with: blindgate policy trust publisher NAME {manifest.signer}"
        )
        raise UntrustedSignerError(message)

    def allowed_operators(self) -> tuple[str, ...]:
        """The operators whose nodes may run a job. Raises `UntrustedSignerError` when there is none."""
        if self.operators:
            return tuple(sorted(set(self.operators.values())))
        message = (
            f"the policy names no operator, so no node may run a job. {self._trusted('operators', self.operators)} "
            "Ask the operator of the nodes for their key (they see it with: blindgate operator key) and trust it with: "
            "blindgate policy trust operator NAME ed25519:…"
        )
        raise UntrustedSignerError(message)

    def require_lane(self, lane: str) -> None:
        """Refuse a lane that the rules do not allow. Raises `PolicyError`."""
        if lane not in self.rules.lanes:
            message = (
                f"the model runs in lane {lane!r}; the policy's rule rules.lanes allows {', '.join(self.rules.lanes)}"
            )
            raise PolicyError(message)

    def _trusted(self, kind: str, roots: dict[str, str]) -> str:
        where = "this policy" if self.path is None else str(self.path)
        if not roots:
            return f"{where} has no {kind}."
        names = ", ".join(f"{name} ({key})" for name, key in roots.items())
        return f"{where} has these {kind}: {names}."


def _tuples(value: object) -> object:
    """TOML's arrays as tuples, which is what strict values are made of."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value
