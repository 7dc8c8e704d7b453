"""Intel TDX: whether a quote comes from a trust domain on a genuine, current platform that nobody debugs.

A quote says who signed it, but not whether that platform is still to be trusted. That says Intel, in signed files that come beside
it: TCB information, the quoting enclave's identity and lists of revoked certificates, together the *collateral*. It is as of a
time: a node keeps it beside its quote, and whoever judges the quote says for which time. An appraisal decides, in this order:

1. the bytes are a TDX quote of version 4 or 5, whole, with nothing behind it (`form`); a quote of an SGX enclave is told, and
   refused (`platform`): no enclave runs models here;
2. the platform's certificates lead to Intel's root, at the time (`root`, `chain`, `validity`), and its keys signed the quote
   (`signature`): see `tdx_quote`. Until here nothing that the quote says becomes a fact;
3. the trust domain is not under debug or profiling (`debug`), cannot be moved to another machine or be changed by a service domain
   (`migration`, `service-td`), is not interrupted for pages that the host took away (`sept-ve-disable`), and has no attribute that
   is not known (`attributes`); Intel's own TDX module in its production form runs it (`tdx-module`);
4. the collateral is whole, signed under the same root and current at the time (`collateral`), no certificate is revoked
   (`revocation`), the quoting enclave is Intel's (`quoting-enclave`), and the platform's versions are current ones (`tcb`). The
   collateral is as new as the older of Intel's two files in it, about the platform and about that enclave;
5. the report data is what was asked for (`report-data`, `nonce`). A quote has no other field for a nonce.

Step 4 is done by `dcap_qvl`. What it reads is hostile, and it is native code: so it gets a quote only when the platform's own
signatures hold, and collateral only with the shape that it should have. It is given the root that step 2 ended in, repeats steps 2
and 3 by itself, and must have read the same report. A certificate chain that the collateral brings for the platform is taken out:
`dcap_qvl` would use it in place of the quote's.

Without collateral steps 1 to 3 and 5 are decided, and the quote is refused by the rule `collateral`, which says what is wanted.

Sources: Intel TDX Module Base Architecture Specification, "TD Attributes" (which bits are debug, TUD); Intel TDX DCAP Quoting
Library API, appendix A; Intel's PCS API, version 4 (TCB information, identities, statuses).
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import dcap_qvl

from blindgate.attestation import tdx_quote
from blindgate.attestation.appraisal import Appraisal, Asked, Claim
from blindgate.attestation.roots import INTEL
from blindgate.attestation.tdx_quote import Quote, QuoteError

PLATFORM: Final = "intel-tdx"

_SGX_PLATFORM: Final = "intel-sgx"
_MAX_COLLATERAL_BYTES: Final = 1 << 20
_COLLATERAL: Final = frozenset(
    {
        "pck_crl_issuer_chain",
        "root_ca_crl",
        "pck_crl",
        "tcb_info_issuer_chain",
        "tcb_info",
        "tcb_info_signature",
        "qe_identity_issuer_chain",
        "qe_identity",
        "qe_identity_signature",
    }
)
_QUOTES_OWN: Final = "pck_certificate_chain"

_DEBUG_BITS: Final = 0xFF
"""The group TUD: whoever sets one of these gives up the domain's secrets to the host."""
_ATTRIBUTES: Final[Mapping[str, int]] = {
    "debug": 0,
    "hgs_plus_profiling": 4,
    "performance_profiling": 5,
    "telemetry_profiling": 6,
    "single_step_defence": 16,
    "service_td_extension": 17,
    "lass": 27,
    "sept_ve_disable": 28,
    "migratable": 29,
    "pks": 30,
    "key_locker": 31,
    "tpa": 62,
    "perfmon": 63,
}
_SERVICE: Final = ("mrservicetd", "init_servicetd_hash", "cur_servicetd_hash")
"""Which service domains are bound to the domain, and were when it began: zeros where there are none."""
_KNOWN_BITS: Final = sum(1 << bit for bit in _ATTRIBUTES.values())

_CURRENT: Final = "UpToDate"
_WARNED: Final[Mapping[str, str]] = {
    "SWHardeningNeeded": "its software has to be hardened against what the advisories name, which the quote does not show",
    "ConfigurationNeeded": "its firmware has to be configured against what the advisories name, which the quote does not show",
    "ConfigurationAndSWHardeningNeeded": "its firmware has to be configured, and its software hardened, "
    "which the quote does not show",
    "TDRelaunchAdvised": "the trust domain was started before the platform was brought up to date",
    "TDRelaunchAdvisedConfigurationNeeded": "the trust domain was started before the platform was brought up to date, "
    "whose firmware has to be configured",
}

_RULES: Final[tuple[tuple[str, str], ...]] = (
    # What `dcap_qvl` says, by a part of its message, and which rule that is. Whatever else it says is of the collateral.
    ("CertRevoked", "revocation"),
    ("Failed to decode quote", "form"),
    # The enclave's own debug mode, which is no fault of the domain's: its keys are open, and so is all that they signed.
    ("QE report validation", "quoting-enclave"),
    ("ISV enclave report signature", "signature"),
    ("qe_report in quote", "signature"),
    ("QE report hash", "signature"),
    ("QE TCB", "tcb"),
    ("QE ISVSVN", "tcb"),
    ("QE MRSIGNER", "quoting-enclave"),
    ("QE ISVPRODID", "quoting-enclave"),
    ("QE MISCSELECT", "quoting-enclave"),
    ("QE ATTRIBUTES", "quoting-enclave"),
    ("QE vendor", "quoting-enclave"),
    ("Debug mode", "debug"),
    ("TD profiling", "debug"),
    ("TD migration", "migration"),
    ("SERVTD_EXT", "service-td"),
    ("Reserved bits in TD", "attributes"),
    ("SEPT_VE_DISABLE", "sept-ve-disable"),
    ("MR service TD", "service-td"),
    ("TDX module identity", "tdx-module"),
    ("TDX module MRSIGNER", "tdx-module"),
    ("TDX module SEAMATTRIBUTES", "tdx-module"),
    ("TCB level", "tcb"),
    ("TCB status", "tcb"),
)
_MOST_SAID: Final = 300
_UNBELIEVED: Final = frozenset({"revocation", "form", "signature", "quoting-enclave"})
"""Rules without which nothing that the quote says is believed."""


def is_evidence(data: bytes) -> bool:
    """Whether these bytes begin as a quote of Intel's does, of TDX or of SGX."""
    return tdx_quote.read_header(data) is not None


def appraise(data: bytes, asked: Asked) -> Appraisal:
    """Judge a quote. Never raises for what stands in `data` or the collateral."""
    header = tdx_quote.read_header(data)
    if header is not None and header.tee_type == tdx_quote.SGX:
        return _refuse_enclave(data, asked, header.version)
    found = Appraisal(PLATFORM, asked.time)
    try:
        quote = tdx_quote.read_quote(data)  # 1.
        root, certificate = tdx_quote.check_signatures(quote, INTEL, at=asked.time)  # 2.
    except QuoteError as error:
        found.disbelieve(error.rule, str(error))
        return found
    _state(found, quote)
    found.facts["root"] = root
    found.affirm(Claim.INSTANCE_IDENTITY, "chain", f"the platform's certificates lead to the {root}")
    found.affirm(Claim.INSTANCE_IDENTITY, "signature", "the platform's keys signed the quote")
    if not _state_platform(found, quote):
        return found
    _hold_domain(found, quote)  # 3.
    if asked.collateral is None:  # 4.
        found.refuse(Claim.HARDWARE, "collateral", _wanted(found))
        found.leave_open(
            "revocation", "without collateral nothing says whether the platform's certificates are revoked"
        )
    else:
        _hold_platform(found, data, quote, certificate, asked.collateral)
    _hold_report_data(found, quote.fields()["report_data"], asked)  # 5.
    found.leave_open(
        "measurement", "no values were given that MRTD and RTMRs are held to: which program runs is not known"
    )
    found.leave_open(
        "physical-access",
        "somebody who can put a device between processor and memory can read the domain and forge quotes (TEE.fail, Battering RAM)",
    )
    return found


def _refuse_enclave(data: bytes, asked: Asked, version: int) -> Appraisal:
    found = Appraisal(_SGX_PLATFORM, asked.time)
    found.facts["quote_version"] = version
    found.refuse(
        Claim.HARDWARE, "platform", f"a quote of an SGX enclave ({len(data)} bytes), and not of a TDX trust domain"
    )
    return found


def _state(found: Appraisal, quote: Quote) -> None:
    found.facts["quote_version"] = quote.header.version
    found.facts.update({name: value.hex() for name, value in quote.fields().items()})
    bits = int.from_bytes(quote.fields()["td_attributes"], "little")
    found.facts["attributes"] = {name: bool(bits >> bit & 1) for name, bit in _ATTRIBUTES.items()}


def _state_platform(found: Appraisal, quote: Quote) -> bool:
    """What the platform's certificate says of it. Gives whether it says it."""
    try:
        platform = dcap_qvl.parse_pck_extension_from_pem(quote.chain)
    except ValueError as error:
        found.disbelieve("form", f"the platform's certificate does not say which platform it is: {error}")
        return False
    found.facts["fmspc"] = platform.fmspc.hex()
    found.facts["chip_id"] = platform.ppid.hex()
    found.facts["cpu_svn"] = platform.cpu_svn.hex()
    found.facts["pce_id"], found.facts["pce_svn"] = platform.pce_id.hex(), platform.pce_svn
    return True


def _hold_domain(found: Appraisal, quote: Quote) -> None:
    fields = quote.fields()
    bits = int.from_bytes(fields["td_attributes"], "little")
    said = ", ".join(name for name, bit in _ATTRIBUTES.items() if bits >> bit & 1) or "none"
    found.hold(
        Claim.CONFIGURATION,
        "debug",
        holds=not bits & _DEBUG_BITS,
        shows="the trust domain is not under debug or profiling",
        fails=f"the trust domain is under debug or profiling: its attributes are {bits:016x} ({said})",
    )
    found.hold(
        Claim.CONFIGURATION,
        "attributes",
        holds=not bits & ~(_KNOWN_BITS | _DEBUG_BITS),
        shows=f"the trust domain's attributes are known ones: {said}",
        fails=f"the trust domain has attributes that are not known: {bits & ~_KNOWN_BITS:016x}",
    )
    found.hold(
        Claim.CONFIGURATION,
        "sept-ve-disable",
        holds=found.facts["attributes"]["sept_ve_disable"],
        shows="the host cannot interrupt the trust domain by taking pages away",
        fails="SEPT_VE_DISABLE is off: the host can interrupt the trust domain at a place of its choice by taking a page away",
    )
    found.hold(
        Claim.CONFIGURATION,
        "migration",
        holds=not found.facts["attributes"]["migratable"],
        shows="the trust domain cannot be moved to another machine",
        fails="the trust domain can be moved to another machine, of which this quote says nothing",
    )
    service = {name: fields[name] for name in _SERVICE if name in fields}
    named = ", ".join(f"{name} {value.hex()}" for name, value in service.items() if any(value)) or "none is named"
    found.hold(
        Claim.CONFIGURATION,
        "service-td",
        holds=not any(map(any, service.values())) and not found.facts["attributes"]["service_td_extension"],
        shows="no service domain is bound to the trust domain",
        fails=f"service domains that may change the trust domain are bound to it, or may be: {named}, attributes {said}",
    )
    found.hold(
        Claim.HARDWARE,
        "tdx-module",
        holds=not any(fields["mrsignerseam"]) and not any(fields["seam_attributes"]),
        shows="Intel signed the TDX module, which is no debug module",
        fails=f"the TDX module is not Intel's production one: MRSIGNERSEAM {fields['mrsignerseam'].hex()}, "
        f"attributes {fields['seam_attributes'].hex()}; both should be zero",
    )


def _hold_platform(found: Appraisal, data: bytes, quote: Quote, root: bytes, collateral: bytes) -> None:
    parts = _read_collateral(found, collateral)
    if parts is None:
        return
    try:
        made = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(parts))
        verified = dcap_qvl.verify_with_root_ca(data, made, root, found.at // 1000)
        status, advisories, report = (
            verified.status,
            list(verified.advisory_ids),
            json.loads(verified.to_json())["report"],
        )
    except (ValueError, OverflowError) as error:
        _refuse_by(found, str(error).removeprefix("Verification failed: "))
        return
    except BaseException as error:
        # A panic in the native code is no `Exception`, and its class cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        found.disbelieve("form", "the verifier of quotes came to no end on this quote and collateral")
        return
    if _flat(report) != quote.body.hex():
        found.disbelieve("form", "the quote was read in two ways")
        return
    said = f" (advisories: {', '.join(advisories)})" if advisories else ""
    found.facts["tcb_status"], found.facts["advisories"] = status, advisories
    named = _state_collateral(found, parts)
    if named != found.facts["pce_id"]:
        text = f"the collateral is of the certifying enclave {named!r:.20}, the platform's is {found.facts['pce_id']}"
        found.refuse(Claim.HARDWARE, "collateral", text)
        return
    found.affirm(Claim.INSTANCE_IDENTITY, "revocation", "no certificate is on the collateral's lists of revoked ones")
    found.affirm(Claim.HARDWARE, "collateral", f"Intel's collateral is current until {found.facts['tcb_next_update']}")
    if status == _CURRENT:
        found.affirm(Claim.HARDWARE, "tcb", f"the platform is up to date{said}")
        found.affirm(
            Claim.RUNTIME_OPAQUE,
            "memory-encryption",
            "the domain's memory is encrypted with a key that only its processor has",
        )
    elif status in _WARNED:
        found.warn(Claim.HARDWARE, "tcb", f"the platform's status is {status}: {_WARNED[status]}{said}")
    else:
        found.refuse(Claim.HARDWARE, "tcb", f"the platform's status is {status}: {_CURRENT} is wanted{said}")
    found.leave_open(
        "tcb-policy",
        f"Intel lets older TCB information run on beside newer one: this is number {found.facts['tcb_evaluation']}, "
        "and only a policy can say which is the least",
    )


def _refuse_by(found: Appraisal, message: str) -> None:
    rule = next((rule for part, rule in _RULES if part in message), "collateral")
    # It may quote the collateral.
    message = "".join(one if one.isprintable() else "?" for one in " ".join(message.split())[:_MOST_SAID])
    if rule in _UNBELIEVED:
        found.disbelieve(rule, message)
    elif rule == "collateral":
        found.refuse(
            Claim.HARDWARE, rule, f"the collateral does not serve for {found.facts['fmspc']} at this time: {message}"
        )
    elif rule == "tcb":
        found.refuse(Claim.HARDWARE, rule, f"the platform's versions are not ones that Intel calls current: {message}")
    elif all(one.rule != rule for one in found.refusals()):
        found.refuse(Claim.HARDWARE, rule, message)


def _read_collateral(found: Appraisal, data: bytes) -> dict[str, str] | None:
    """The collateral's parts, none of which is looked into, or `None`, and it is refused."""
    shape = f"a JSON object of {len(_COLLATERAL)} texts: {', '.join(sorted(_COLLATERAL))}"
    if len(data) > _MAX_COLLATERAL_BYTES:
        found.refuse(Claim.HARDWARE, "collateral", f"collateral of {len(data)} bytes: at most {_MAX_COLLATERAL_BYTES}")
        return None
    try:
        parts: Any = json.loads(data)
    except (ValueError, RecursionError):
        found.refuse(Claim.HARDWARE, "collateral", f"the collateral is no JSON: it should be {shape}")
        return None
    if isinstance(parts, dict):
        parts.pop(_QUOTES_OWN, None)
    if (
        not isinstance(parts, dict)
        or set(parts) != _COLLATERAL
        or not all(isinstance(one, str) for one in parts.values())
    ):
        found.refuse(Claim.HARDWARE, "collateral", f"the collateral has another shape than {shape}")
        return None
    return parts


def _state_collateral(found: Appraisal, parts: Mapping[str, str]) -> str:
    """What Intel's two files say of themselves; their signatures were verified. Of what both say the older, or earlier, counts.

    Gives the certifying enclave (PCE) whose versions they are about, which `dcap_qvl` does not compare.
    """
    tcb, enclave = json.loads(parts["tcb_info"]), json.loads(parts["qe_identity"])
    found.facts["tcb_evaluation"] = min(one["tcbEvaluationDataNumber"] for one in (tcb, enclave))
    found.facts["tcb_issued"] = min(one["issueDate"] for one in (tcb, enclave))
    found.facts["tcb_next_update"] = min(one["nextUpdate"] for one in (tcb, enclave))
    return str(tcb["pceId"]).lower()


def _wanted(found: Appraisal) -> str:
    fmspc = found.facts.get("fmspc", "")
    return (
        "no collateral was given, so that nothing says whether the platform is current. Wanted is one JSON file with "
        f"{', '.join(sorted(_COLLATERAL))}, as PCCS clients write it. Intel serves the parts without an account: "
        f"https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc={fmspc}, …/tdx/certification/v4/qe/identity, "
        "…/sgx/certification/v4/pckcrl?ca=platform&encoding=der and https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
    )


def _hold_report_data(found: Appraisal, bound: bytes, asked: Asked) -> None:
    for rule, wanted in (("report-data", asked.report_data), ("nonce", asked.nonce)):
        if wanted is None:
            continue
        if not any(wanted) or len(wanted) > len(bound):
            found.refuse(
                Claim.SOURCED_DATA,
                rule,
                f"asked for {len(wanted)} bytes, {wanted.hex()!r}: 1 to 64 are wanted that are not all zero",
            )
            continue
        found.hold(
            Claim.SOURCED_DATA,
            rule,
            holds=bound == wanted.ljust(len(bound), b"\0"),
            shows="the report data is what was asked for",
            fails=f"the report data is {bound.hex()}; asked was {wanted.hex()}",
        )
    if asked.report_data is None and asked.nonce is None:
        empty = "; it is all zero and binds nothing" if not any(bound) else ""
        found.leave_open("binding", f"nobody said what the report data must be{empty}")
    if asked.nonce is None:
        found.leave_open("freshness", "no nonce was asked for: the quote may be an old one")


def _flat(report: Any) -> str:
    """The fields of a report as `dcap_qvl` writes them, one behind the other: hexadecimal, and one number of a byte."""
    if isinstance(report, dict):
        return "".join(_flat(one) for one in report.values())
    return f"{report:02x}" if isinstance(report, int) else str(report)
