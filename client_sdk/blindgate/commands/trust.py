"""`blindgate trust appraise`: what a piece of evidence shows, and what it does not."""

import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from blindgate.attestation.appraisal import Asked
from blindgate.attestation.certificate_files import read_certificates
from blindgate.attestation.platforms import appraise as appraise_evidence
from blindgate.attestation.rules import hold_to_policy
from blindgate.commands.appraisals import show_appraisal
from blindgate.commands.options import Json, path
from blindgate.commands.trust_check import check
from blindgate.policy import Policy
from blindgate_protocol.errors import InputError, MalformedError
from blindgate_protocol.values import Millis

app = typer.Typer(help="Whether a machine is to be believed.", no_args_is_help=True)
app.command("check")(check)

MOST_BYTES: Final = 16 << 20
"""Of one file."""

_HEX: Final = re.compile(r"(?:0x)?((?:[0-9a-fA-F]{2}){0,128})")


@app.callback()
def trust() -> None:
    """Whether a machine is to be believed."""


@app.command()
def appraise(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The evidence: a report, a quote or a document, as its platform made it, or that in hexadecimal or base64.",
        ),
    ],
    chain: Annotated[
        list[Path] | None,
        typer.Option(
            "--chain",
            help="Certificates that came beside it, in PEM, in DER, or in the host's table of them (auxblob); may be given several "
            "times, in any order.",
        ),
    ] = None,
    collateral: Annotated[
        Path | None,
        typer.Option(
            "--collateral",
            help="What the platform's maker signed about it: Intel's TCB information and lists, as JSON; a reference manifest of "
            "NVIDIA's, or an answer of its responder.",
        ),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            "--reference",
            help="A signed reference manifest (RIM) of measurements, or an answer (OCSP) whether a certificate is revoked; may be "
            "given several times.",
        ),
    ] = None,
    nonce: Annotated[
        str | None, typer.Option("--nonce", help="The challenge that it must answer, in hexadecimal.")
    ] = None,
    report_data: Annotated[
        str | None,
        typer.Option("--report-data", help="What it must bind, in hexadecimal; zeros are added up to 64 bytes."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            help="For which time to judge it: 2026-11-20T10:00:00Z, a date, or seconds since 1970. Without it, now; a document "
            "that names its own time (Nitro) is judged for that.",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            help="A policy file: its \\[platforms] says which platforms and measurements will do.",
            parser=path,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge a piece of evidence, offline: what holds, what speaks against it, and what it does not prove.

    The platform is told by the bytes. Without a policy the evidence alone is judged: genuine, whole, not of a debug guest, current
    at the time. Exits with 0 only when the verdict is affirming.
    """
    asked = Asked(
        now=time.time_ns() // 1_000_000,
        at=None if at is None else _time(at),
        report_data=None if report_data is None else _bytes("--report-data", report_data),
        nonce=None if nonce is None else _bytes("--nonce", nonce),
        chain=tuple(one for path in chain or () for one in _certificates(path)),
        collateral=None if collateral is None else _read("--collateral", collateral),
        references=tuple(_read("--reference", path) for path in reference or ()),
    )
    platforms = None if policy is None else _policy(policy).platforms
    found = appraise_evidence(_read("FILE", file), asked)
    if platforms is not None:
        hold_to_policy(found, platforms, asked)
    if as_json:
        sys.stdout.write(json.dumps(found.to_ear(), indent=2) + "\n")
    else:
        show_appraisal(found)
    if not found.affirms:
        raise typer.Exit(1)


def _policy(path: Path) -> Policy:
    if not path.exists():
        message = f"--policy: there is no file {path}"
        raise InputError(message)
    return Policy.load(path)


def _read(option: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # Not by the size that the file states: a device or a pipe states none.
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        message = f"{option}: {path}: {error.strerror}"
        raise InputError(message) from error
    if len(data) > MOST_BYTES:
        message = f"{option}: {path} has more than {MOST_BYTES:,} bytes, which is the most that is read"
        raise InputError(message)
    return data


def _certificates(path: Path) -> tuple[bytes, ...]:
    try:
        return read_certificates(_read("--chain", path))
    except MalformedError as error:
        message = f"--chain: {path}: {error}"
        raise InputError(message) from error


def _bytes(option: str, text: str) -> bytes:
    match = _HEX.fullmatch(text)
    if match is None:
        message = f"{option}: got {text[:80]!r}, expected bytes in hexadecimal, at most 128"
        raise InputError(message)
    return bytes.fromhex(match.group(1))


def _time(text: str) -> Millis:
    if re.fullmatch(r"[0-9]{1,11}", text):  # up to the year 5138
        return int(text) * 1000
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        message = f"--at: got {text!r}, expected a time such as 2026-11-20T10:00:00Z, a date, or seconds since 1970"
        raise InputError(message) from error
