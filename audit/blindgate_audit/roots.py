"""Whom an auditor believes: keys by the auditor's own names for them, from a policy file, from options, or from both.

The file is the TOML that a client calls its policy. Of it these are read, and nothing else is looked at:

    [publishers]                 # whose models
    [operators]                  # whose nodes
    [logs]                       # C2SP verifier keys: name+id+key
    [second_keys]                # of a log, by its name there: its key by ML-DSA-44, which must have signed as well
    [witnesses]                  # verifier keys, likewise
    [revoked]                    # from when on a signing key is believed no longer, whoever's it is
    [rules]
    cosignatures = 1             # how many of the witnesses must have cosigned; 0 by default

A role with no key in it is a role that nobody vouches for. That is no fault of what is checked, and no trust either: whoever reads
the verdict is told.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from blindgate_protocol.checkpoints import LogTrust
from blindgate_protocol.errors import MalformedError, PolicyError
from blindgate_protocol.notes import VerifierKey
from blindgate_protocol.revocations import Revocation, Revocations
from blindgate_protocol.signing import first_error, public_key
from blindgate_protocol.values import KeyId, Name

MAX_POLICY_BYTES: Final = 1 << 20
_KEY: Final = TypeAdapter[str](KeyId)


class _Rules(BaseModel):
    model_config = ConfigDict(strict=True)  # what else stands there is the client's business
    cosignatures: Annotated[int, Field(ge=0, le=64)] = 0


class _PolicyFile(BaseModel):
    model_config = ConfigDict(strict=True)
    publishers: dict[Name, KeyId] = Field(default_factory=dict)
    operators: dict[Name, KeyId] = Field(default_factory=dict)
    logs: dict[Name, str] = Field(default_factory=dict)
    second_keys: dict[Name, str] = Field(default_factory=dict)
    witnesses: dict[Name, str] = Field(default_factory=dict)
    revoked: Revocations = Field(default_factory=dict)
    rules: _Rules = _Rules()


@dataclass(frozen=True)
class Roots:
    """Keys that an auditor vouches for, by the auditor's names.

    Attributes:
        publishers: signing keys of those whose models may be used.
        operators: signing keys of those whose nodes may compute.
        clients: signing keys of data owners; empty for whatever client it was.
        logs: verifier keys of logs; a result must be in one of them.
        second_keys: second verifier keys of logs, by the names of `logs`; such a log's checkpoints must be signed by both.
        witnesses: verifier keys of witnesses.
        cosignatures: how many of the witnesses must have cosigned.
        revoked: from when on a signing key is believed no longer, by key.
    """

    publishers: Mapping[str, str] = field(default_factory=dict)
    operators: Mapping[str, str] = field(default_factory=dict)
    clients: Mapping[str, str] = field(default_factory=dict)
    logs: Mapping[str, VerifierKey] = field(default_factory=dict)
    witnesses: Mapping[str, VerifierKey] = field(default_factory=dict)
    cosignatures: int = 0
    revoked: Mapping[str, Revocation] = field(default_factory=dict)
    second_keys: Mapping[str, VerifierKey] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the roots of a policy file. Raises `PolicyError`, and `OSError` where there is no such file."""
        with path.open("rb") as file:
            data = file.read(MAX_POLICY_BYTES + 1)
        if len(data) > MAX_POLICY_BYTES:
            message = f"policy {path}: more than {MAX_POLICY_BYTES} bytes"
            raise PolicyError(message)
        try:
            parsed = _PolicyFile.model_validate(tomllib.loads(data.decode()))
        except ValidationError as error:
            message = f"policy {path}: {first_error(error)}"
            raise PolicyError(message) from error
        except ValueError as error:
            message = f"policy {path}: not TOML: {error}"
            raise PolicyError(message) from error
        logs = {name: _verifier_key(f"logs.{name}", key) for name, key in parsed.logs.items()}
        return cls(
            publishers={name: _signing_key(f"publishers.{name}", key) for name, key in parsed.publishers.items()},
            operators={name: _signing_key(f"operators.{name}", key) for name, key in parsed.operators.items()},
            logs=logs,
            second_keys={
                name: _second_key(f"second_keys.{name}", key, logs.get(name))
                for name, key in parsed.second_keys.items()
            },
            witnesses={name: _verifier_key(f"witnesses.{name}", key) for name, key in parsed.witnesses.items()},
            cosignatures=parsed.rules.cosignatures,
            revoked=parsed.revoked,
        )

    def joined(  # noqa: PLR0913  (one for each role)
        self,
        *,
        publishers: Sequence[str] = (),
        operators: Sequence[str] = (),
        clients: Sequence[str] = (),
        logs: Sequence[str] = (),
        second_keys: Sequence[str] = (),
        witnesses: Sequence[str] = (),
        cosignatures: int | None = None,
    ) -> Self:
        """These roots and those of options, each `KEY` or `NAME=KEY`. Raises `PolicyError` naming the option.

        A second key is a `KEY` alone: the log that it belongs to is the one of its name.
        """
        all_logs = {**self.logs, **dict(_named_verifier("--log", text) for text in logs)}
        seconds = dict(_second_of_log(text, all_logs) for text in second_keys)
        return replace(
            self,
            publishers={**self.publishers, **dict(_named_key("--publisher", text) for text in publishers)},
            operators={**self.operators, **dict(_named_key("--operator", text) for text in operators)},
            clients={**self.clients, **dict(_named_key("--client", text) for text in clients)},
            logs=all_logs,
            second_keys={**self.second_keys, **seconds},
            witnesses={**self.witnesses, **dict(_named_verifier("--witness", text) for text in witnesses)},
            cosignatures=self.cosignatures if cosignatures is None else cosignatures,
        )

    def trusts(self) -> dict[str, LogTrust]:
        """What is asked of each log."""
        return {
            name: LogTrust(key, self.witnesses, self.cosignatures, self.second_keys.get(name))
            for name, key in self.logs.items()
        }


def name_of(key: Any, names: Mapping[str, Any]) -> str | None:
    """The first name that `key` goes by, or `None`."""
    return next((name for name, known in names.items() if known == key), None)


def _named_key(option: str, text: str) -> tuple[str, str]:
    name, equals, key = text.partition("=")
    return (name, _signing_key(option, key)) if equals else (text, _signing_key(option, text))


def _named_verifier(option: str, text: str) -> tuple[str, VerifierKey]:
    try:
        bare = VerifierKey.parse(text)  # base64 may end in an equals sign, so this comes first
    except MalformedError:
        name, _, key = text.partition("=")
        return name, _verifier_key(option, key)
    return bare.name, bare


def _second_of_log(text: str, logs: Mapping[str, VerifierKey]) -> tuple[str, VerifierKey]:
    """An option's second key, by the name of the log that it belongs to."""
    key = _verifier_key("--second-key", text)
    name = next((name for name, log in logs.items() if log.name == key.name), None)
    return name or "", _second_key("--second-key", text, None if name is None else logs[name])


def _second_key(where: str, text: str, log: VerifierKey | None) -> VerifierKey:
    key = _verifier_key(where, text)
    if log is None:
        message = f"{where}: a second key of the log {key.name!r}, which is not among the logs that are named"
        raise PolicyError(message)
    try:
        LogTrust(log, second=key)
    except MalformedError as error:
        message = f"{where}: {error}"
        raise PolicyError(message) from error
    return key


def _signing_key(where: str, text: str) -> str:
    try:
        public_key(_KEY.validate_python(text))
    except ValueError as error:
        message = f"{where}: a signing key is ed25519: and 43 characters"
        raise PolicyError(message) from error
    return text


def _verifier_key(where: str, text: str) -> VerifierKey:
    try:
        return VerifierKey.parse(text)
    except MalformedError as error:
        message = f"{where}: {error}"
        raise PolicyError(message) from error
