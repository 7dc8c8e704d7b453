"""What an organisation's policy asks of evidence, beyond that it is genuine: `[platforms]` in the policy file.

    [platforms.amd-sev-snp]
    products = ["Genoa", "Turin"]            # which generations; these two where nothing is said: Milan has to be named
    chips = ["0f3a…"]                        # only these processors, by chip id; any where nothing is said
    vmpl = 0                                 # how little privileged the guest may be that asked for the report

    [platforms.amd-sev-snp.measurements]     # what the evidence must say, by the names of its facts; any of the values
    measurement = ["5ef1…"]

    [platforms.amd-sev-snp.minimum_tcb]      # versions of the firmware's parts, at least
    snp = 22

    [platforms.intel-tdx]
    tcb_evaluation = 17                      # the lowest number of Intel's TCB information
    advisories = ["INTEL-SA-00615"]          # somebody made sure that the node is hardened, or configured, against these

    [platforms.intel-tdx.measurements]
    mrtd = ["…"]

A platform that is not named is not used. One that is named has measurements: without any, every program would do.

    [platforms.insecure-simulated]           # for tests and demonstrations: no hardware proves anything
    keys = ["ed25519:…"]                     # who may sign such evidence

Simulated evidence has no measurements, and keys in their place. It is believed by nobody who does not name a key for it, and then
it gives a warning and never more: see `simulated`.
"""

import json
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from blindgate.attestation import simulated
from blindgate.attestation.appraisal import Appraisal, Asked, Claim, Tier
from blindgate_protocol.values import KeyId, Name, Value

Hex = Annotated[str, StringConstraints(pattern=r"^(?:[0-9a-f]{2}){1,128}$")]
"""Bytes in hexadecimal, lower case."""

AMD_SEV_SNP: Final = "amd-sev-snp"
INTEL_TDX: Final = "intel-tdx"
PRODUCTS: Final = ("Genoa", "Turin")
"""The generations of AMD's processors that are used where nothing is said."""

_DECIDED: Final = frozenset({"measurement", "milan", "vmpl"})
"""What verifiers leave to a policy, and each decides."""

_NOT_ALLOWED: Final = frozenset({"alias-check", "migration"})
"""What is open about AMD's processors and guests, and must not be, where somebody relies on them."""


_ACCEPTABLE: Final = frozenset({"SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"})
"""Statuses of a TDX platform that somebody may have seen to in a way that no quote shows."""

_BINDING: Final = ("report_data", "user_data", "nonce")
"""The facts by which evidence is bound to something: a GPU's report has its nonce alone."""


class PlatformRules(Value):
    """What is asked of one platform's evidence.

    Attributes:
        measurements: what facts must be: any of the values, by the fact's name.
        products: generations of processors, by AMD's names.
        chips: processors, by chip id.
        vmpl: the highest privilege level, 0 being the most privileged, from which a report of AMD's may have been asked for.
        minimum_tcb: parts of AMD's firmware, by the names that the fact `reported_tcb` has, and their lowest versions.
        tcb_evaluation: the lowest number (`tcb_evaluation`) of Intel's TCB information: older ones run on beside newer ones.
        advisories: of Intel's. A TDX platform that needs hardening or a configuration is affirmed where each advisory that its
            status names is among these; one that is out of date, never.
        keys: who may sign simulated evidence, in place of measurements; of no other platform.
    """

    measurements: dict[Name, Annotated[tuple[Hex, ...], Field(min_length=1)]] = Field(default_factory=dict)
    products: Annotated[tuple[Annotated[str, StringConstraints(max_length=40)], ...], Field(min_length=1)] = PRODUCTS
    chips: Annotated[tuple[Hex, ...], Field(min_length=1)] | None = None
    vmpl: Annotated[int, Field(ge=0, le=3)] = 0
    minimum_tcb: dict[Name, Annotated[int, Field(ge=0, le=255)]] = Field(default_factory=dict)
    tcb_evaluation: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    advisories: tuple[Annotated[str, StringConstraints(pattern=r"^INTEL-SA-[0-9]{5}$")], ...] = ()
    keys: Annotated[tuple[KeyId, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if bool(self.measurements) == (self.keys is not None):
            message = "measurements are wanted, or for simulated evidence keys, and not both"
            raise ValueError(message)
        return self

    def to_toml(self, platform: str) -> list[str]:
        """As lines of a policy file."""
        if self.keys is not None:
            return [f"[platforms.{platform}]", f"keys = {json.dumps(self.keys)}"]
        lines = [f"[platforms.{platform}]", f"products = {json.dumps(self.products)}", f"vmpl = {self.vmpl}"]
        if self.tcb_evaluation is not None:
            lines.append(f"tcb_evaluation = {self.tcb_evaluation}")
        if self.advisories:
            lines.append(f"advisories = {json.dumps(self.advisories)}")
        if self.chips is not None:
            lines.append(f"chips = {json.dumps(self.chips)}")
        lines += ["", f"[platforms.{platform}.measurements]"]
        lines += [f'"{name}" = {json.dumps(values)}' for name, values in self.measurements.items()]
        if self.minimum_tcb:
            lines += ["", f"[platforms.{platform}.minimum_tcb]"]
            lines += [f'"{part}" = {least}' for part, least in self.minimum_tcb.items()]
        return lines


def _check_kinds(platforms: dict[str, PlatformRules]) -> dict[str, PlatformRules]:
    for platform, rules in platforms.items():
        wanted = "keys" if platform == simulated.PLATFORM else "measurements"
        if (rules.keys is not None) != (wanted == "keys"):
            message = f"{platform} has {wanted}: measurements are of hardware, keys of {simulated.PLATFORM}"
            raise ValueError(message)
        if platform != INTEL_TDX and (rules.tcb_evaluation is not None or rules.advisories):
            message = f"{platform}: tcb_evaluation and advisories are rules about {INTEL_TDX}"
            raise ValueError(message)
    return platforms


Platforms = Annotated[dict[Name, PlatformRules], AfterValidator(_check_kinds)]
"""What a policy asks, by platform."""


def hold_to_policy(found: Appraisal, platforms: dict[str, PlatformRules], asked: Asked) -> None:
    """Hold an appraisal to what a policy asks of its platform, and say what it decided."""
    rules = platforms.get(found.platform)
    if rules is None:
        named = ", ".join(sorted(platforms)) or "none"
        found.refuse(
            Claim.CONFIGURATION,
            "platform",
            f"the policy does not name {found.platform} in [platforms]; it has: {named}",
        )
        return
    try:
        _check_kinds({found.platform: rules})
    except ValueError as error:
        found.refuse(Claim.CONFIGURATION, "platform", str(error))
        return
    if rules.keys is not None:
        simulated.allow(found, rules.keys)
        _hold_bound(found, asked)
        return
    decided = _DECIDED | ({"chip-id"} if rules.chips else set()) | ({"tcb-policy"} if rules.minimum_tcb else set())
    decided |= set() if rules.tcb_evaluation is None else {"tcb-policy"}
    decided |= _NOT_ALLOWED if found.platform == AMD_SEV_SNP else set()
    left = [one for one in found.not_proven if one.code not in decided]
    for one in found.not_proven:
        if one.code in decided & _NOT_ALLOWED:
            found.refuse(Claim.HARDWARE, one.code, one.text)
    found.not_proven = left
    if found.platform == AMD_SEV_SNP:
        _hold_processor(found, rules)
    if found.platform == INTEL_TDX:
        _hold_intel(found, rules)
    for name, values in rules.measurements.items():
        fact = found.facts.get(name)
        found.hold(
            Claim.EXECUTABLES,
            "measurement",
            holds=fact in values,
            shows=f"{name} is one that the policy names",
            fails=f"{name} is {_said(fact)}; the policy names {', '.join(values)}",
        )
    if rules.chips is not None:
        chip = found.facts.get("chip_id")
        found.hold(
            Claim.INSTANCE_IDENTITY,
            "chip",
            holds=chip in rules.chips,
            shows="the processor is one that the policy names",
            fails=f"the processor {_said(chip)} is none that the policy names",
        )
    _hold_tcb(found, rules)
    _hold_bound(found, asked)


def _hold_bound(found: Appraisal, asked: Asked) -> None:
    bound = next((found.facts[name] for name in _BINDING if found.facts.get(name)), "")
    if asked.report_data is None and not str(bound).strip("0"):
        found.refuse(Claim.SOURCED_DATA, "report-data", "the report data is empty: this evidence is bound to nothing")


def _hold_processor(found: Appraisal, rules: PlatformRules) -> None:
    vmpl = found.facts.get("vmpl")
    found.hold(
        Claim.CONFIGURATION,
        "vmpl",
        holds=isinstance(vmpl, int) and vmpl <= rules.vmpl,
        shows=f"the report was asked for from VMPL {vmpl}",
        fails=f"the report was asked for from VMPL {_said(vmpl)}; the policy allows up to {rules.vmpl}",
    )
    product = found.facts.get("product")
    weak = ", whose keys can be extracted by software" if product == "Milan" else ""
    found.hold(
        Claim.HARDWARE,
        "product",
        holds=product in rules.products,
        shows=f"the policy allows {product}",
        fails=f"the processor is of the generation {_said(product)}{weak}; the policy allows {', '.join(rules.products)}",
    )


def _hold_intel(found: Appraisal, rules: PlatformRules) -> None:
    number, named = found.facts.get("tcb_evaluation"), found.facts.get("advisories") or ()
    if rules.tcb_evaluation is not None:
        found.hold(
            Claim.HARDWARE,
            "tcb-evaluation",
            holds=isinstance(number, int) and number >= rules.tcb_evaluation,
            shows=f"Intel's TCB information is number {number}, at least {rules.tcb_evaluation}",
            fails=f"Intel's TCB information is number {_said(number)}, and the policy asks for {rules.tcb_evaluation}",
        )
    warned = [one for one in found.reasons if (one.rule, one.tier) == ("tcb", Tier.WARNING)]
    is_acceptable = found.facts.get("tcb_status") in _ACCEPTABLE
    if warned and is_acceptable and named and set(named) <= set(rules.advisories):
        found.reasons = [one for one in found.reasons if one not in warned]
        accepted = ", ".join(named)
        found.affirm(Claim.HARDWARE, "tcb", f"{warned[0].text}; the policy takes it with {accepted}")


def _hold_tcb(found: Appraisal, rules: PlatformRules) -> None:
    reported: Any = found.facts.get("reported_tcb")
    for part, least in rules.minimum_tcb.items():
        version = reported.get(part) if isinstance(reported, dict) else None
        found.hold(
            Claim.HARDWARE,
            "tcb",
            holds=isinstance(version, int) and version >= least,
            shows=f"the firmware's {part} is {version}, at least {least}",
            fails=f"the firmware's {part} is {_said(version)}, and the policy asks for {least}",
        )


def _said(fact: Any) -> str:
    return "not said" if fact is None else str(fact)
