"""What this client allows, and whom it trusts: one TOML file that its owner writes.

    [publishers]                 # whose models may be used
    acme-health = "ed25519:…"

    [operators]                  # whose nodes may run jobs
    north-compute = "ed25519:…"

    [logs]                       # in which of these logs a result must stand; without any, none is asked for
    our-gateway = "gateway.example/log+1a2b3c4d+…"

    [second_keys]                # a log's second key, by ML-DSA-44, under the log's name: its signature must be there as well
    our-gateway = "gateway.example/log+9e8f7a6b+…"

    [witnesses]                  # who may vouch that a log shows everybody the same tree
    somebody-else = "witness.example+5e6f7a8b+…"

    [revoked]                    # from when on which of those, or which node or client, is believed no longer
    "ed25519:…" = 2026-11-20T10:00:00Z

    [platforms.amd-sev-snp]      # whose evidence of a trusted execution environment will do (`attestation.rules`)
    products = ["Genoa"]
    measurements = { measurement = ["5ef1…"] }

    [classes.phi]                # what a class of data may use, narrower than the rest (`rules`)
    lanes = ["fhe"]

    [models.note-triage]         # which classes a model's data has, whatever its publisher says (`rules`)
    data_class = "phi"

    [redaction]                  # what is taken out of a question and its passages before they are sealed: `Client.ask`
    dates = true

    [rules]
    lanes = ["fhe"]              # never falls back to another
    cosignatures = 1             # how many of the witnesses must have vouched; 0 by default
    log_within = 30.0            # seconds after which a result that does not stand in a log is refused

Nothing is trusted that is not in it. A missing or unknown signer is an error that first shows what would be trusted and then
says how to add it; adding is the owner's act, never the SDK's.

The names are for people. What counts is the key.

**To revoke is not to distrust.** A revoked key stays named: no new job uses it, and what it signed before its time stays
verifiable. A key that is taken out is a stranger's, and its receipts of ten years ago are, too. Which time counts: `revocations`.
"""

import json
import os
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from blindgate.attestation.rules import PlatformRules, Platforms
from blindgate.redaction_table import RedactionTable
from blindgate.rules import ClassRules, LogKey, ModelRules, Rules, SecondKey, WitnessKey, names_of, strictest
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.canonical import canonical, digest
from blindgate_protocol.checkpoints import LogTrust
from blindgate_protocol.errors import PolicyError, UntrustedSignerError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.notes import Note, VerifierKey
from blindgate_protocol.revocations import (
    DatedSignature,
    Revocation,
    Revocations,
    Role,
    require_unrevoked,
    signatures,
    toml_time,
)
from blindgate_protocol.signing import Signed, first_error
from blindgate_protocol.values import KeyId, Millis, Name, Value

if TYPE_CHECKING:
    from blindgate_rag.redaction import Rules as RedactionRules

__all__ = ["ClassRules", "LogKey", "ModelRules", "Policy", "Rules", "SecondKey", "WitnessKey"]


class _PolicyFile(Value):
    publishers: dict[Name, KeyId] = Field(default_factory=dict)
    operators: dict[Name, KeyId] = Field(default_factory=dict)
    logs: dict[Name, LogKey] = Field(default_factory=dict)
    second_keys: dict[Name, SecondKey] = Field(default_factory=dict)
    witnesses: dict[Name, WitnessKey] = Field(default_factory=dict)
    revoked: Revocations = Field(default_factory=dict)
    platforms: Platforms = Field(default_factory=dict)
    classes: dict[Name, ClassRules] = Field(default_factory=dict)
    models: dict[Name, ModelRules] = Field(default_factory=dict)
    redaction: RedactionTable | None = None
    rules: Rules = Rules()


@dataclass(frozen=True)
class Policy:
    """Roots of trust and rules.

    Attributes:
        publishers: signing keys by the owner's name for them.
        operators: likewise.
        path: the file it came from, or would be written to.
        logs: verifier keys of logs, by the owner's name for them: a result must stand in one of them.
        witnesses: verifier keys of those who cosign a log's trees.
        revoked: from when on a signing key is believed no longer, by key, whoever's it is.
        second_keys: the logs' second verifier keys, by the names of `logs`: every checkpoint of such a log must have a signature
            of it as well.
        platforms: what evidence of a trusted execution environment must say, by platform; one that is not named is not used.
        classes: what each class of data may use (`rules`); without any, what is said of classes decides nothing.
        models: what this policy says of models' data, by the models' names.
        redaction: what is taken out of questions and passages before they are sealed; `None` where it says nothing of it.
        whole: where this is a policy narrowed for some classes: the digest of the one that it was.
        met: the classes that it was narrowed for.

    Raises `PolicyError` when its rules ask for more than it names, a second key is of no log that it names, or a class or a model
    names what it does not.
    """

    publishers: dict[str, str]
    operators: dict[str, str]
    rules: Rules = field(default_factory=Rules)
    path: Path | None = None
    logs: dict[str, str] = field(default_factory=dict)
    witnesses: dict[str, str] = field(default_factory=dict)
    revoked: dict[str, Revocation] = field(default_factory=dict)
    second_keys: dict[str, str] = field(default_factory=dict)
    platforms: dict[str, PlatformRules] = field(default_factory=dict)
    classes: dict[str, ClassRules] = field(default_factory=dict)
    models: dict[str, ModelRules] = field(default_factory=dict)
    redaction: RedactionTable | None = None
    whole: str | None = None
    met: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._require_enough()

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
        roots = (parsed.publishers, parsed.operators, parsed.rules, path, parsed.logs, parsed.witnesses)
        more = (parsed.revoked, parsed.second_keys, parsed.platforms, parsed.classes, parsed.models, parsed.redaction)
        return cls(*roots, *more)

    @property
    def digest(self) -> str:
        """By which digest this policy is called: of what it says, whatever its file looks like.

        A narrowed one is called as the whole: nodes and auditors know that one, and not which classes a request has.
        """
        if self.whole is not None:
            return self.whole
        said = {
            "publishers": self.publishers,
            "operators": self.operators,
            "logs": self.logs,
            "second_keys": self.second_keys,
            "witnesses": self.witnesses,
            "revoked": {key: found.model_dump(mode="json") for key, found in self.revoked.items()},
            "platforms": {name: rules.model_dump(mode="json") for name, rules in self.platforms.items()},
            "rules": self.rules.model_dump(mode="json"),
        }
        for section, found in (("classes", self.classes), ("models", self.models)):
            if found:  # policies of before keep their digests
                said[section] = {name: rules.model_dump(mode="json") for name, rules in found.items()}
        if self.redaction is not None:
            said["redaction"] = self.redaction.model_dump(mode="json")
        return digest(canonical(said))

    def redaction_rules(self) -> "RedactionRules | None":
        """What is to be redacted; `None` where this policy says nothing of it."""
        return None if self.redaction is None else self.redaction.rules()

    def narrowed(self, classes: Iterable[str]) -> "Policy":
        """This policy as data of all these classes has it, each of which it names: it allows what all of them do (`rules`).

        Lanes, platforms, operators and publishers may be none: then nothing is sent. `decisions` says why.
        """
        policy = self
        for name in classes:
            of = self.classes[name]
            rules = policy.rules.model_copy(
                update={
                    "lanes": tuple(lane for lane in policy.rules.lanes if of.lanes is None or lane in of.lanes),
                    "cosignatures": max(policy.rules.cosignatures, of.cosignatures or 0),
                    "padding": strictest([policy.rules.padding, *([] if of.padding is None else [of.padding])]),
                    "buffered": policy.rules.buffered or bool(of.buffered),
                }
            )
            policy = replace(
                policy,
                publishers=_named(policy.publishers, of.publishers),
                operators=_named(policy.operators, of.operators),
                platforms=of.narrow_platforms(policy.platforms),
                witnesses=_named(policy.witnesses, of.witnesses),
                rules=rules,
                whole=self.digest,
                met=(*policy.met, name),
            )
        return policy

    def of_classes(self, classes: Iterable[str]) -> "Policy":
        """This policy, narrowed for what was sent as these classes. Raises `PolicyError` where one is gone from it since."""
        for name in classes:
            if name not in self.classes:
                message = (
                    f"this was sent as data of class {name!r}, which the policy's [classes] does not name any more: "
                    f"put [classes.{name}] back, so that what comes back is held against its rules"
                )
                raise PolicyError(message)
        return self.narrowed(classes)

    def save(self) -> None:
        """Write the policy to its file, whole or not at all. Raises `PolicyError` rather than write what `load` would refuse."""
        if self.path is None:
            message = "this policy has no file"
            raise PolicyError(message)
        if self.whole is not None:
            message = "this policy is narrowed for some classes of data: written, it would take the place of the whole"
            raise PolicyError(message)
        self._require_enough()
        lines = ["# What this Blindgate client allows, and whom it trusts."]
        for kind, roots in (
            ("publishers", self.publishers),
            ("operators", self.operators),
            ("logs", self.logs),
            ("second_keys", self.second_keys),
            ("witnesses", self.witnesses),
        ):
            if kind == "second_keys" and not roots:  # a release that does not know the section refuses it, empty or not
                continue
            lines += ["", f"[{kind}]"]
            lines += [f'"{name}" = "{key}"' for name, key in roots.items()]  # a bare key's dot is a table
        if self.revoked:
            lines += ["", "[revoked]", *(f'"{key}" = {_toml(found)}' for key, found in self.revoked.items())]
        for name, rules in self.platforms.items():
            lines += ["", *rules.to_toml(name)]
        for each, of in self.classes.items():
            lines += ["", *of.to_toml(each)]
        for each, said in self.models.items():
            lines += ["", *said.to_toml(each)]
        if self.redaction is not None:
            lines += ["", *self.redaction.to_toml()]
        lines += ["", *self.rules.to_toml(), ""]
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

    def allowed_operators(self, *, now: Millis | None = None) -> tuple[str, ...]:
        """The operators whose nodes may run a new job, now or at another time. Raises `UntrustedSignerError` when there is none."""
        named, now = self.named_operators(), _now() if now is None else now
        allowed = tuple(key for key in named if key not in self.revoked or now < self.revoked[key].at)
        if not allowed:
            for key in named:  # the first of them is told of
                self.require_believed("operator", key, now=now)
        return allowed

    def named_operators(self) -> tuple[str, ...]:
        """The operators whose receipts may be verified: the revoked ones, too. Raises `UntrustedSignerError` when there is none."""
        if self.operators:
            return tuple(sorted(set(self.operators.values())))
        message = (
            f"the policy names no operator, so no node may run a job. {self._trusted('operators', self.operators)} "
            "Ask the operator of the nodes for their key (they see it with: blindgate operator key) and trust it with: "
            "blindgate policy trust operator NAME ed25519:…"
        )
        raise UntrustedSignerError(message)

    def require_believed(self, role: Role, key: str, *, now: Millis | None = None) -> None:
        """Refuse a key that is revoked by now, or by another time, for what is begun then. Raises `RevokedSignerError`."""
        require_unrevoked(DatedSignature(role, key, _now() if now is None else now, "asked for"), self.revoked)

    def require_unrevoked(self, bundle: Bundle, *, logged: Millis | None) -> None:
        """Refuse a bundle in which a signature counts as made when its key was revoked already. Raises `RevokedSignerError`.

        `logged`: when a log of this policy says that the receipt was accepted; `None` where none does.
        """
        if not self.revoked:
            return
        for signature in signatures(bundle, logged=logged):
            require_unrevoked(signature, self.revoked)

    def log_trusts(self) -> dict[str, LogTrust]:
        """The logs, each with its second key, the witnesses and how many of them are wanted, by the owner's names."""
        witnesses = {name: VerifierKey.parse(key) for name, key in self.witnesses.items()}
        seconds = {name: VerifierKey.parse(key) for name, key in self.second_keys.items()}
        wanted = self.rules.cosignatures
        return {
            name: LogTrust(VerifierKey.parse(key), witnesses, wanted, seconds.get(name))
            for name, key in self.logs.items()
        }

    def require_log(self, checkpoint: Note, shown: str = "the result is shown in the log") -> None:
        """Refuse a checkpoint that no log of the policy signed, by the names of its lines. Raises `UntrustedSignerError`.

        `shown` says in the error what the log has to do with this client.

        Verifies nothing: that is `inclusion.check_logged`'s.
        """
        keys = [trust.log for trust in self.log_trusts().values()]
        if any((line.name, line.id) == (key.name, key.id) for line in checkpoint.lines for key in keys):
            return
        origin = checkpoint.text.partition("\n")[0]
        ids = ", ".join(line.id.hex() for line in checkpoint.lines if line.name == origin) or "none"
        message = (
            f"{shown} {origin!r} (signed with key {ids}), which the policy does not name. "
            f"{self._trusted('logs', self.logs)} Ask the gateway's operator for the log's key (they see it with: blindgate "
            "gateway log key) outside of this gateway, and trust it with: blindgate policy trust log NAME ORIGIN+ID+KEY"
        )
        raise UntrustedSignerError(message)

    def _require_enough(self) -> None:
        """A rule that nobody can meet refuses every result, and one without a log is silently off: neither is a policy."""
        if self.whole is not None:
            return  # `decisions` says which class wants more than is left
        wanted = self.rules.cosignatures
        different = different_witnesses(self.witnesses)
        where = "policy" if self.path is None else f"policy {self.path}"
        if wanted > different:
            message = (
                f"{where}: rules.cosignatures asks for {wanted} witnesses, and [witnesses] names {different}. Trust another "
                "with: blindgate policy trust witness NAME NAME+ID+KEY"
            )
            raise PolicyError(message)
        if wanted and not self.logs:
            message = (
                f"{where}: rules.cosignatures asks for cosignatures, and [logs] names no log. Trust one with: "
                "blindgate policy trust log NAME ORIGIN+ID+KEY"
            )
            raise PolicyError(message)
        for name, text in self.second_keys.items():
            log = self.logs.get(name)
            origin = None if log is None else VerifierKey.parse(log).name
            if VerifierKey.parse(text).name != origin:
                expected = f"[logs] names no {name!r}" if log is None else f"the log {name!r} is {origin!r}"
                message = f"{where}: second_keys.{name} is a key of {VerifierKey.parse(text).name!r}, and {expected}"
                raise PolicyError(message)

        self._require_named(where)

    def _require_named(self, where: str) -> None:
        """A class or a model that names what the policy does not was misspelt, or is of a policy of before: it is not guessed."""
        if self.whole is not None:
            return  # what is left of it names less
        sections: dict[str, Mapping[str, object]] = {
            "platforms": self.platforms,
            "publishers": self.publishers,
            "operators": self.operators,
            "classes": self.classes,
            "witnesses": self.witnesses,
        }
        for key, section, name in names_of(self.rules, self.classes, self.models):
            if name not in sections[section]:
                named = ", ".join(sorted(sections[section])) or "none"
                message = f"{where}: {key} names {name!r}, and [{section}] has: {named}"
                raise PolicyError(message)

    def _trusted(self, kind: str, roots: dict[str, str]) -> str:
        where = "this policy" if self.path is None else str(self.path)
        if not roots:
            return f"{where} has no {kind}."
        names = ", ".join(f"{name} ({key})" for name, key in roots.items())
        return f"{where} has these {kind}: {names}."


def different_witnesses(witnesses: Mapping[str, str]) -> int:
    """How many there are, whatever they are called: one key is one witness."""
    return len({VerifierKey.parse(key).key for key in witnesses.values()})


def _named(roots: dict[str, str], names: tuple[str, ...] | None) -> dict[str, str]:
    """Those of `roots` that are named; all of them where nothing is said."""
    return {name: key for name, key in roots.items() if names is None or name in names}


def _toml(found: Revocation) -> str:
    at = toml_time(found.at)
    return at if found.reason is None else f"{{ at = {at}, reason = {json.dumps(found.reason, ensure_ascii=False)} }}"


def _now() -> Millis:
    return time.time_ns() // 1_000_000


def _tuples(value: object) -> object:
    """TOML's arrays as tuples, which is what strict values are made of."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value
