"""A policy with classes of data, and a table's model of lane tee whose columns have some: what decisions are tried on."""

from typing import Any

from blindgate.attestation.rules import PlatformRules
from blindgate.policy import ClassRules, Policy, Rules
from blindgate_protocol.manifest import Column, Manifest
from blindgate_protocol.notes import KeyKind, VerifierKey
from blindgate_protocol.signing import Signed, SigningKey
from brokerage import make_manifest

ACME, OTHER, NORTH, SOUTH, CLIENT = (SigningKey.from_seed(bytes([n]) * 32) for n in range(1, 6))
GENOA, SECOND = "aa" * 48, "bb" * 48
PLATFORMS = {
    "amd-sev-snp": PlatformRules(measurements={"measurement": (GENOA, SECOND)}),
    "intel-tdx": PlatformRules(measurements={"mrtd": (GENOA,)}),
}
WITNESSES = {
    name: str(VerifierKey(f"witness.example/{name}", KeyKind.COSIGNATURE, SigningKey.from_seed(bytes([n]) * 32).seed()))
    for n, name in enumerate(("archive", "library"), 11)
}
LOGS = {"ours": str(VerifierKey("gateway.example/log", KeyKind.ED25519, bytes(32)))}
NAMES = {"publishers": {"acme": ACME.id, "other": OTHER.id}, "operators": {"north": NORTH.id, "south": SOUTH.id}}


def policy(classes: dict[str, ClassRules] | None = None, *, rules: Rules | None = None, **changes: Any) -> Policy:
    """One that allows both lanes, two platforms, two publishers and two operators, but for these classes."""
    given: dict[str, Any] = {"platforms": PLATFORMS, "classes": classes or {}, **NAMES}
    return Policy(**(given | {"rules": rules or Rules(lanes=("fhe", "tee"))} | changes))


def column(name: str, data_class: str | None = None) -> Column:
    """A number."""
    return Column(name=name, minimum=0.0, maximum=1.0, data_class=data_class)


def manifest(*columns: Column, by: SigningKey = ACME, lane: str = "tee", **changes: Any) -> Signed[Manifest]:
    """A table's model."""
    usual = make_manifest()
    given: dict[str, Any] = {name: getattr(usual, name) for name in Manifest.model_fields}
    given |= {"name": "triage", "columns": columns or (column("age"),), "lane": lane}
    if lane == "tee":
        given |= {"api": "table", "client": None, "key_parameters": None, "encryption": None, "accuracy": None}
        given["limits"] = usual.limits.model_copy(update={"evaluation_key_bytes": 0})
    return by.sign(Manifest(**(given | changes)))
