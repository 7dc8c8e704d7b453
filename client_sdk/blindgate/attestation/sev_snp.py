"""What an AMD SEV-SNP attestation report shows, version 2 to 5, of Milan, Genoa (with Bergamo and Siena) and Turin.

The processor's firmware signs what it knows of one guest: what it was started with, what its owner allows, on which machine, and 64
bytes of the guest's own. Whoever reads it decides, in this order:

1. **form**: size, version, algorithm, signing key, and zeros where that version has nothing;
2. **chain**: AMD certified the signing key, by a root that is pinned, and all certificates are valid at the time (`snp_keys`);
3. **signature**: that key signed the report. Until here nothing that the report says is believed, and nothing of it becomes a fact;
4. **product**: the report's processor, the key's certificate and the root are of one generation;
5. **chip**: a VCEK's certificate is for the chip that the report names. A VLEK is for many chips, and names its owner instead;
6. **TCB**: the certificate is for the TCB that the report says it was signed at, which is not above the one that runs;
7. **guest policy**: no debugger, and nothing allowed that nobody here knows;
8. **VMPL**: the guest asked, and not the host. What asks at level 1 to 3 may be overruled by what runs at a lower number;
9. **binding**: the guest's 64 bytes are what they must be.

What the host gives beside a report (an extended report: the report, and behind it the host's table of certificates) is read as if
its certificates had come along in the chain.

What it cannot show is said as well. Milan is the case that matters: its chips' keys can be extracted in software, for whatever
firmware ("Insecure Despite Proven Updated", arXiv 2605.12990: the root seed of the VCEK, by BadFuse). A Milan report that passes
all of the above may have been written by anyone who ever had such a machine; a policy refuses it unless it says otherwise.

Sources: AMD, SEV Secure Nested Paging Firmware ABI Specification (56860), sections 2.2, 4.3, 7.3; AMD, VCEK Certificate and KDS
Interface Specification (57230); AMD-SB-3015 (BadRAM, CVE-2024-21944: the alias check); arXiv 2605.12990.
"""

from typing import Final

from blindgate.attestation.appraisal import Appraisal, Asked, Claim
from blindgate.attestation.certificate_files import is_table, read_table
from blindgate.attestation.chains import ChainError, fingerprint
from blindgate.attestation.snp_keys import SERVICE, Endorsement, find_key
from blindgate.attestation.snp_report import (
    ECDSA_P384_SHA384,
    HOST_REQUESTED,
    REPORT_BYTES,
    REPORT_DATA_BYTES,
    Product,
    Report,
    ReportError,
    Tcb,
    read_report,
)

PLATFORM: Final = "amd-sev-snp"
_LEAST_PRIVILEGED: Final = 3
_TCBS: Final = (("current", 0x38), ("reported", 0x180), ("committed", 0x1E0), ("launch", 0x1F0))


def is_evidence(data: bytes) -> bool:
    """Whether this is a report, or is meant as one: of its size, or with its algorithm's number where that stands."""
    version, algorithm = int.from_bytes(data[:4], "little"), int.from_bytes(data[0x34:0x38], "little")
    return 0 < version < 1 << 8 and (len(data) == REPORT_BYTES or algorithm == ECDSA_P384_SHA384)


def appraise(data: bytes, asked: Asked) -> Appraisal:
    """What a report shows, with its certificates in `asked.chain`. Never raises for what came from outside."""
    appraisal = Appraisal(PLATFORM, asked.time)
    try:
        beside = data[REPORT_BYTES:]
        extended = is_table(beside)
        # 1.
        report = read_report(data[:REPORT_BYTES] if extended else data)
        # 2.
        key = find_key(report, asked.chain + (read_table(beside) if extended else ()), asked.time)
    except (ReportError, ChainError) as error:
        appraisal.disbelieve(error.rule, str(error))
        return appraisal
    # 3.
    if not key.signed(report):
        appraisal.disbelieve(
            "signature", f"the report's signature does not verify under the {key.kind.name} that came along"
        )
        return appraisal
    appraisal.affirm(
        Claim.INSTANCE_IDENTITY, "chain", f"AMD certified the {key.kind.name}, by its root for {key.product}"
    )
    appraisal.affirm(
        Claim.INSTANCE_IDENTITY, "signature", f"the {key.kind.name} signed the report, by ECDSA on P-384 with SHA-384"
    )
    appraisal.facts.update(_facts(report, key))
    _judge_product(appraisal, report, key)
    _judge_chip(appraisal, report, key)
    _judge_tcb(appraisal, report, key)
    _judge_guest(appraisal, report)
    _judge_platform(appraisal, report)
    _judge_binding(appraisal, report, asked)
    _say_what_is_open(appraisal, key)
    return appraisal


def _judge_product(appraisal: Appraisal, report: Report, key: Endorsement) -> None:
    # 4.
    said = {f"the certificate ({key.named})": key.product_named, f"the root ({key.product})": key.product}
    if report.processor is not None:
        family, model, stepping = report.processor
        said[f"the processor (family {family:#x}, model {model:#x}, stepping {stepping:#x})"] = report.product
    appraisal.hold(
        Claim.HARDWARE,
        "product",
        holds=set(said.values()) == {key.product},
        shows=f"the processor is of AMD's generation {key.product}: {', '.join(said)} agree",
        fails="of different generations: "
        + ", ".join(f"{what} is of {name or 'none that is known'}" for what, name in said.items()),
    )


def _judge_chip(appraisal: Appraisal, report: Report, key: Endorsement) -> None:
    # 5.
    if key.hardware_id is None:
        appraisal.leave_open(
            "chip-id", f"a VLEK signs on any machine of its owner ({key.cloud}): which one is not shown"
        )
    elif not any(report.chip_id):
        appraisal.leave_open(
            "chip-id", f"the report masks its chip's id; the VCEK that signed it is of chip {key.hardware_id.hex()}"
        )
    else:
        appraisal.hold(
            Claim.INSTANCE_IDENTITY,
            "chip-id",
            holds=report.chip_id == key.hardware_id.ljust(len(report.chip_id), b"\0"),
            shows="the VCEK's certificate is for the chip that the report names",
            fails=f"the report is of chip {report.chip_id.hex()}, the VCEK's certificate of {key.hardware_id.hex()}",
        )


def _judge_tcb(appraisal: Appraisal, report: Report, key: Endorsement) -> None:
    # 6.
    tcbs = {name: report.tcb(place, key.product) for name, place in _TCBS}
    reported, current = tcbs["reported"], tcbs["current"]
    certified = ", ".join(f"{name} {level}" for name, level in key.levels.items())
    appraisal.hold(
        Claim.HARDWARE,
        "certified-tcb",
        holds=reported.parts == key.levels and not any(reported.reserved),
        shows=f"the key is certified for the reported TCB: {reported}",
        fails=f"the report was signed at TCB {reported} ({reported.raw.hex()}), and the key is certified for {certified}",
    )
    above = [
        f"{name} TCB: {', '.join(tcb.exceeds(current))}"
        for name, tcb in tcbs.items()
        if name in _BELOW and tcb.exceeds(current)
    ]
    appraisal.hold(
        Claim.HARDWARE,
        "tcb",
        holds=not above,
        shows=f"what is reported is not above what runs: {current}",
        fails=f"a TCB is above the current one ({current}), which no firmware reports: {'; '.join(above)}",
    )
    appraisal.leave_open("tcb-policy", f"whether the reported TCB ({reported}) is new enough is for a policy to say")


_BELOW: Final = ("reported", "committed")
"""TCBs that are never above the current one. That of the launch may be, after firmware was rolled back to what is committed."""


def _judge_guest(appraisal: Appraisal, report: Report) -> None:
    # 7.
    faults = report.policy_faults
    appraisal.hold(
        Claim.CONFIGURATION,
        "guest-policy",
        holds=not faults,
        shows=f"the guest's policy (0x{report.integer(8, 8):x}) is one that is known",
        fails=f"the guest's policy is 0x{report.integer(8, 8):x}: {', '.join(faults)}",
    )
    appraisal.hold(
        Claim.CONFIGURATION,
        "debug",
        holds=not report.policy["debug"],
        shows="the guest's policy forbids debugging",
        fails="the guest's policy allows debugging: the host reads and writes its memory",
    )
    if report.policy["migration_agent"]:
        appraisal.leave_open(
            "migration", "the guest's policy allows a migration agent, which can move it to another machine"
        )
    # 8.
    if report.vmpl == 0:
        appraisal.affirm(Claim.CONFIGURATION, "vmpl", "asked for at the guest's most privileged level, VMPL 0")
    elif report.vmpl <= _LEAST_PRIVILEGED:
        appraisal.leave_open(
            "vmpl",
            f"asked for at VMPL {report.vmpl}: what runs below that number, such as a paravisor at 0, can overrule it",
        )
    else:
        who = "the host asked for it, and not the guest" if report.vmpl == HOST_REQUESTED else "there are 0 to 3"
        appraisal.refuse(Claim.CONFIGURATION, "vmpl", f"a report for VMPL 0x{report.vmpl:x}: {who}")


def _judge_platform(appraisal: Appraisal, report: Report) -> None:
    appraisal.affirm(
        Claim.RUNTIME_OPAQUE,
        "memory-encryption",
        "the processor encrypts the guest's memory and keeps the host from writing it",
    )
    if report.alias_check_complete:
        appraisal.affirm(
            Claim.HARDWARE,
            "alias-check",
            "the firmware found no memory that answers to two addresses, since it started",
        )
    else:
        silent = "a report of version 2 cannot say" if report.processor is None else "the report does not say"
        appraisal.leave_open(
            "alias-check",
            f"{silent} that the firmware looked for memory that answers to two addresses (BadRAM, CVE-2024-21944)",
        )


def _judge_binding(appraisal: Appraisal, report: Report, asked: Asked) -> None:
    # 9.
    found = report.report_data
    for rule, what, wanted in (("report-data", "report data", asked.report_data), ("nonce", "nonce", asked.nonce)):
        if wanted is None:
            continue
        if not any(wanted) or len(wanted) > REPORT_DATA_BYTES:
            appraisal.refuse(
                Claim.SOURCED_DATA,
                rule,
                f"the {what} asked for has {len(wanted)} bytes{'' if any(wanted) else ', all zero'}: 1 to {REPORT_DATA_BYTES} that "
                "say something",
            )
        else:
            appraisal.hold(
                Claim.SOURCED_DATA,
                rule,
                holds=found == wanted.ljust(REPORT_DATA_BYTES, b"\0"),
                shows=f"the report's data are the {what} asked for",
                fails=f"the report's data are {found.hex()}, and the {what} asked for {wanted.hex()}",
            )
    if asked.report_data is None and asked.nonce is None:
        zero = (
            "the report's data are all zero: it binds nothing"
            if not any(found)
            else "nobody said what the report's data must be"
        )
        appraisal.leave_open("binding", zero)
    if asked.nonce is None:
        appraisal.leave_open(
            "freshness",
            "no nonce was asked for: a report has no time, and only a nonce that its data answer shows that it is new",
        )


def _say_what_is_open(appraisal: Appraisal, key: Endorsement) -> None:
    appraisal.leave_open(
        "measurement", "there is no reference to hold the measurement against: what runs in the guest is not shown"
    )
    appraisal.leave_open(
        "revocation",
        f"nobody looked up whether AMD revoked a key ({SERVICE}/{key.kind.name.lower()}/v1/{key.product}/crl)",
    )
    appraisal.leave_open(
        "physical-access",
        "who holds the machine in hands can come between processor and memory (Battering RAM, TEE.fail): no report excludes that",
    )
    if key.product is Product.MILAN:
        appraisal.leave_open(
            "milan",
            "keys of Milan's chips can be extracted in software, for whatever firmware (BadFuse, arXiv 2605.12990): anyone who "
            "ever had such a machine may have signed this",
        )


def _facts(report: Report, key: Endorsement) -> dict[str, object]:
    def text(begin: int, length: int) -> str:
        return report.field(begin, length).hex()

    return {
        "version": report.version,
        "product": str(key.product),
        "product_name": key.named,
        "processor": None
        if report.processor is None
        else dict(zip(("family", "model", "stepping"), report.processor, strict=True)),
        "signing_key": key.kind.name,
        "signing_key_certificate": fingerprint(key.leaf),
        "certificate_ends": f"{key.leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "cloud": key.cloud,
        "chip_id": (key.hardware_id or b"").hex() or None,
        "mask_chip_key": bool(report.integer(0x48, 4) & 2),
        "measurement": text(0x90, 48),
        "report_data": report.report_data.hex(),
        "host_data": text(0xC0, 32),
        "family_id": text(0x10, 16),
        "image_id": text(0x20, 16),
        "guest_svn": report.integer(4, 4),
        "id_key_digest": text(0xE0, 48),
        "author_key_digest": text(0x110, 48) if report.integer(0x48, 4) & 1 else None,
        "report_id": text(0x140, 32),
        "migration_agent_report_id": text(0x160, 32),
        "vmpl": report.vmpl,
        "guest_policy": {"abi": report.policy_abi, **report.policy},
        "platform": {**report.platform, "unknown_bits": report.platform_unknown},
        **{f"{name}_tcb": _tcb_facts(report.tcb(place, key.product)) for name, place in _TCBS},
        "firmware": {"current": report.firmware(0x1E8), "committed": report.firmware(0x1EC)},
        "mitigations": (
            None
            if report.mitigations is None
            else dict(zip(("launch", "current"), (one[::-1].hex() for one in report.mitigations), strict=True))
        ),
    }


def _tcb_facts(tcb: Tcb) -> dict[str, object]:
    return {"raw": tcb.raw[::-1].hex(), **tcb.parts}
