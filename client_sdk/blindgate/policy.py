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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, ValidationError

from blindgate.attestation.rules import PlatformRules, Platforms
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.canonical import canonical, digest
from blindgate_protocol.checkpoints import LogTrust
from blindgate_protocol.errors import MalformedError, PolicyError, UntrustedSignerError
from blindgate_protocol.manifest import Lane, Manifest
from blindgate_protocol.notes import KeyKind, Note, VerifierKey
from blindgate_protocol.order import MOST_NODES
from blindgate_protocol.padding import Padding
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

LONGEST_LOG_WITHIN: Final = 86_400.0
LONGEST_EVIDENCE_WITHIN: Final = 86_400.0


class Rules(Value):
    """What is allowed.

    Attributes:
        lanes: the lanes that a job may take.
        cosignatures: how many of the policy's witnesses must have cosigned the tree that a result stands in.
        log_within: for how many seconds a result may be missing in the log before it is refused; up to a day.
        recipients: to how many nodes that were believed a request is sealed: any of them may answer, and each could read it.
        evidence_within: for how many seconds a node's evidence may be relied on again; 0 asks for fresh evidence for each request.
        padding: to which sizes the chunks of sealed requests and answers are padded.
        buffered: whether answers are sealed in one piece, so that neither the number nor the times of their chunks tell anything.
    """

    lanes: Annotated[tuple[Lane, ...], Field(min_length=1)] = ("fhe",)
    cosignatures: Annotated[int, Field(ge=0)] = 0
    log_within: Annotated[float, Field(gt=0, le=LONGEST_LOG_WITHIN)] = 30.0
    recipients: Annotated[int, Field(ge=1, le=MOST_NODES)] = 2
    evidence_within: Annotated[float, Field(ge=0, le=LONGEST_EVIDENCE_WITHIN)] = 600.0
    padding: Padding = Padding(rule="powers")
    buffered: bool = False


def _verifier_key(*kinds: KeyKind) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            key = VerifierKey.parse(text)
        except MalformedError as error:
            raise ValueError(str(error)) from error
        if key.kind not in kinds:
            message = f"this key's kind is {key.kind.name}, expected {' or '.join(kind.name for kind in kinds)}"
            raise ValueError(message)
        return text

    return check


LogKey = Annotated[str, AfterValidator(_verifier_key(KeyKind.ED25519))]
"""A log's verifier key, C2SP's `name+id+key`; the name is the log's origin."""

SecondKey = Annotated[str, AfterValidator(_verifier_key(KeyKind.ML_DSA_44))]
"""A log's second verifier key; its name is the log's origin, too."""

WitnessKey = Annotated[str, AfterValidator(_verifier_key(KeyKind.COSIGNATURE, KeyKind.ML_DSA_44))]
"""A witness's verifier key."""


class _PolicyFile(Value):
    publishers: dict[Name, KeyId] = Field(default_factory=dict)
    operators: dict[Name, KeyId] = Field(default_factory=dict)
    logs: dict[Name, LogKey] = Field(default_factory=dict)
    second_keys: dict[Name, SecondKey] = Field(default_factory=dict)
    witnesses: dict[Name, WitnessKey] = Field(default_factory=dict)
    revoked: Revocations = Field(default_factory=dict)
    platforms: Platforms = Field(default_factory=dict)
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

    Raises `PolicyError` when its rules ask for more than it names, or a second key is of no log that it names.
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
        return cls(*roots, parsed.revoked, parsed.second_keys, parsed.platforms)

    @property
    def digest(self) -> str:
        """By which digest this policy is called: of what it says, whatever its file looks like."""
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
        return digest(canonical(said))

    def save(self) -> None:
        """Write the policy to its file, whole or not at all. Raises `PolicyError` rather than write what `load` would refuse."""
        if self.path is None:
            message = "this policy has no file"
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
        lanes = ", ".join(f'"{lane}"' for lane in self.rules.lanes)
        lines += ["", "[rules]", f"lanes = [{lanes}]"]
        lines += [f"cosignatures = {self.rules.cosignatures}", f"log_within = {self.rules.log_within}"]
        lines += [*self._sealing(), ""]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.write_text("\n".join(lines))
        temporary.replace(self.path)

    def _sealing(self) -> list[str]:
        """The rules about sealed requests that are not the usual ones: a release that does not know them refuses them."""
        usual, rules = Rules(), self.rules
        lines = [
            f"{name} = {str(getattr(rules, name)).lower()}"
            for name in ("recipients", "evidence_within", "buffered")
            if getattr(rules, name) != getattr(usual, name)
        ]
        if rules.padding != usual.padding:
            buckets = f", buckets = {list(rules.padding.buckets)}" if rules.padding.buckets else ""
            lines.append(f'padding = {{ rule = "{rules.padding.rule}"{buckets} }}')
        return lines

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
        """The operators whose nodes may run a new job. Raises `UntrustedSignerError` when there is none."""
        named, now = self.named_operators(), _now()
        allowed = tuple(key for key in named if key not in self.revoked or now < self.revoked[key].at)
        if not allowed:
            for key in named:  # the first of them is told of
                self.require_believed("operator", key)
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

    def require_believed(self, role: Role, key: str) -> None:
        """Refuse a key that is revoked by now, for what is begun now. Raises `RevokedSignerError`."""
        require_unrevoked(DatedSignature(role, key, _now(), "asked for"), self.revoked)

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

    def require_lane(self, lane: str) -> None:
        """Refuse a lane that the rules do not allow. Raises `PolicyError`."""
        if lane not in self.rules.lanes:
            message = (
                f"the model runs in lane {lane!r}; the policy's rule rules.lanes allows {', '.join(self.rules.lanes)}"
            )
            raise PolicyError(message)

    def _require_enough(self) -> None:
        """A rule that nobody can meet refuses every result, and one without a log is silently off: neither is a policy."""
        wanted = self.rules.cosignatures
        different = len({VerifierKey.parse(key).key for key in self.witnesses.values()})
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

    def _trusted(self, kind: str, roots: dict[str, str]) -> str:
        where = "this policy" if self.path is None else str(self.path)
        if not roots:
            return f"{where} has no {kind}."
        names = ", ".join(f"{name} ({key})" for name, key in roots.items())
        return f"{where} has these {kind}: {names}."


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
