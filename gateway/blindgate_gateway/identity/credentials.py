"""Credentials that are secrets, in one shape, `<kind>_<id>.<secret>`, with 256 random bits of secret.

- `bg` an API key of a tenant;
- `bs` an API key of somebody of the gateway's own staff;
- `be` an enrolment token: good for one enrolment, for a limited time.

The gateway keeps SHA-256 of the secret. A slow hash would add nothing: the secret is not a password that somebody could guess.
Comparisons take the same time whatever differs, and an unknown id costs the same as a wrong secret.

The log and auditors are told the digest of that hash (`shown`): it tells one secret from another, and nobody can be let in by it.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Literal

from blindgate_protocol.canonical import digest

Kind = Literal["bg", "bs", "be"]
_KINDS: dict[str, Kind] = {"bg": "bg", "bs": "bs", "be": "be"}
_NOBODY = "0" * 64


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A credential in full, which exists only when it is made and when it is shown."""

    kind: Kind
    id: str
    secret: str

    @classmethod
    def generate(cls, kind: Kind) -> "Credential":
        """Make a fresh one."""
        return cls(kind, secrets.token_hex(8), secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "Credential | None":
        """Read one, or give `None` for what has another shape."""
        head, dot, secret = text.partition(".")
        kind, underscore, name = head.partition("_")
        if not (dot and underscore and name and secret):
            return None
        return cls(_KINDS[kind], name, secret) if kind in _KINDS else None

    def hashed(self) -> str:
        """What is stored of the secret."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def matches(self, stored: str | None) -> bool:
        """Whether `stored` is this secret's hash. `None` stands for an id that nobody has, and costs the same."""
        return hmac.compare_digest(self.hashed(), _NOBODY if stored is None else stored)

    def shown(self) -> str:
        """What the log and auditors are told of the secret."""
        return digest(self.hashed().encode())

    def __str__(self) -> str:
        return f"{self.kind}_{self.id}.{self.secret}"
