"""`blindgate trust check`: what nodes prove now, line by line, and what your policy says of it."""

import json
import sys
import time
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from blindgate.attestation import nvidia
from blindgate.attestation.appraisal import Appraisal
from blindgate.client import Client
from blindgate.commands.appraisals import STYLES, fact_text, reason_text
from blindgate.commands.options import Connect, Json, asks_gateway
from blindgate.model_makers import describe
from blindgate.output import when
from blindgate.recipients import LONGEST_SECONDS, Candidate, Candidates
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import InputError
from blindgate_protocol.manifest import Manifest, check_manifest
from blindgate_protocol.signing import Signed

ALL: Final = "all"
_MEASUREMENTS: Final = ("measurement", "mr", "rtmr", "pcr")
"""How the names of facts begin that say which program runs."""
_TCB: Final = ("product", "tcb_status", "advisories", "reported_tcb", "cpu_svn", "pce_svn", "warning")


@asks_gateway
def check(
    connect: Connect,
    node: Annotated[
        str, typer.Argument(metavar="NODE|all", help="The node's name, its key (ed25519:…), or all nodes that answer.")
    ] = ALL,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="The model that it is to run. Without it, the first by name whose publisher your policy trusts.",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, max=LONGEST_SECONDS, help="How long to wait for answers.")
    ] = 15.0,
    as_json: Json = False,
) -> None:
    """Ask nodes, through the gateway, what they prove of themselves, and judge it here, under your policy.

    Each node is asked with a fresh nonce, so evidence of yesterday, or of another question, is refused. Nothing is believed of the
    gateway. Shown are platform, firmware (TCB), measurement, weights, GPU, freshness, what is not proven, and the verdict with its
    reasons. Nothing is sent to a node but the question.

    Exits with 0 only when there is an answer, and every answer shown is affirming.
    """
    with connect() as client:
        manifest = _manifest(client, model)
        named = manifest.document.name
        found = client.recipients(named, node=None if node == ALL else node, seconds=seconds)
    if as_json:
        sys.stdout.write(json.dumps(_to_json(found, manifest), indent=2) + "\n")
    else:
        for one in found.answers:
            _print(one, found, manifest)
    if not found.answers or not (node == ALL or any(node in {one.name, one.node} for one in found.answers)):
        raise InputError(_nobody(node, named, found))
    if not all(one.affirms for one in found.answers):
        raise typer.Exit(1)


def _manifest(client: Client, name: str | None) -> Signed[Manifest]:
    if name is not None:
        return client.manifest(name)
    trusted = client.policy.publishers.values()
    for manifest in sorted(client.models(), key=lambda one: one.document.name):
        if manifest.signer in trusted:
            check_manifest(manifest, publishers=trusted, now=int(time.time() * 1000))
            return manifest
    message = (
        "the gateway offers no model whose publisher your policy trusts, and evidence is asked for a model: see "
        "`blindgate models list`, and `blindgate policy trust publisher --help`"
    )
    raise InputError(message)


def _nobody(node: str, model: str, found: Candidates) -> str:
    who = "no node" if node == ALL else f"no node {node!r}"
    if not found.taken:
        return (
            f"{who} took the question for model {model!r}: none that this gateway has runs with an attester now (its setting "
            "`attester`), or the gateway keeps the question back. Ask the nodes' operator what `blindgate node attest` shows there"
        )
    return (
        f"{who} answered for model {model!r} in a way that shows its name; {found.taken} took the question, and above are "
        f"{len(found.answers)} answers that say nothing believable of who gave them. Wait longer (--seconds), or ask for all "
        "nodes (`blindgate trust check all`): a name is the one in the certificate that its operator signed"
    )


def _print(one: Candidate, found: Candidates, manifest: Signed[Manifest]) -> None:
    console = Console(soft_wrap=True)
    who = one.node if one.name is None else f"{one.name} ({one.node})"
    console.print(Text(f"{_shown(who)}: {one.status.word}", STYLES.get(one.status, "red")))
    for name, text in _lines(one, found, manifest):
        console.print(Text(f"  {name:<11}  "), Text(_shown(text)), sep="")
    for unproven in one.not_proven:
        console.print(Text(f"  {'not proven':<11}  {_shown(unproven.code)}: {_shown(unproven.text)}"))
    for reason in one.reasons:
        console.print(Text(f"  {'verdict':<11}  {_shown(reason_text(reason))}", STYLES.get(reason.tier, "red")))
    if one.affirms:
        console.print(
            Text(f"  {'verdict':<11}  affirming: your policy's rules hold, and nothing speaks against it", "green")
        )
    elif one.admitted:
        text = (
            "your policy takes this simulated evidence knowingly: jobs may be sealed to it, and nothing protects them"
        )
        console.print(Text(f"  {'verdict':<11}  {text}", "yellow"))
    else:
        console.print(Text(f"  {'verdict':<11}  refused: nothing is sealed to this node", "red"))


def _lines(one: Candidate, found: Candidates, manifest: Signed[Manifest]) -> list[tuple[str, str]]:
    if one.recipient is None or one.certificate is None:
        return []
    keys, document = one.recipient.document.key_set, manifest.document
    lines = [("operator", one.certificate.signer)]
    gpus = [appraisal for appraisal in one.appraisals[1:] if appraisal.platform == nvidia.PLATFORM]
    machine = one.appraisals[0]
    lines.append(("platform", f"{machine.platform}: {machine.status.word}"))
    lines += [("TCB", text) for text in _facts(machine, _TCB)] or [("TCB", "not said")]
    lines += [("measurement", text) for text in _facts(machine, _MEASUREMENTS)] or [("measurement", "none")]
    lines.append(("weights", f"{document.name} {document.version}, manifest {manifest.digest}, by {manifest.signer}"))
    if document.maker is not None:
        text = f"signed by their maker before, by the publisher's word: {describe(document.maker)}"
        lines.append(("weights", text))
    lines += [("GPU", f"{gpu.platform}: {gpu.status.word}; {fact_text(gpu.facts.get('gpus'))} of them") for gpu in gpus]
    lines += [] if gpus else [("GPU", "none: the model runs on the processor")]
    lines.append(("freshness", f"binds the nonce {found.question.nonce.hex()}, drawn for this question"))
    kem = "X25519" if keys.x_wing is None else "X-Wing and X25519"
    lines.append(("keys", f"{keys.digest}, {kem}, until {when(keys.expires)}"))
    return lines


def _facts(found: Appraisal, names: tuple[str, ...]) -> list[str]:
    return [f"{name} {fact_text(value)}" for name, value in found.facts.items() if name.startswith(names) and value]


def _to_json(found: Candidates, manifest: Signed[Manifest]) -> dict[str, Any]:
    question = found.question
    return {
        "model": {"name": manifest.document.name, "manifest": question.model, "maker": _maker(manifest.document)},
        "policy": question.policy,
        "nonce": question.nonce.hex(),
        "taken": found.taken,
        "nodes": [_one_to_json(one) for one in found.answers],
    }


def _maker(document: Manifest) -> dict[str, Any] | None:
    """By the publisher's word; nodes verify it, and no client can without the files."""
    if document.maker is None:
        return None
    return document.maker.model_dump(mode="json") | {"key_digest": digest(document.maker.key)}


def _one_to_json(one: Candidate) -> dict[str, Any]:
    recipient = one.recipient
    return {
        "node": one.node,
        "name": one.name,
        "operator": None if one.certificate is None else one.certificate.signer,
        "verdict": one.status.word,
        "admitted": one.admitted,
        "key_set": None if recipient is None else recipient.document.key_set.digest,
        "evidence": None if recipient is None else recipient.document.evidence,
        "expires": None if recipient is None else recipient.document.key_set.expires,
        "reasons": [
            {"claim": reason.claim.value, "status": reason.tier.word, "rule": reason.rule, "text": reason.text}
            for reason in one.reasons
        ],
        "not_proven": [{"code": unproven.code, "text": unproven.text} for unproven in one.not_proven],
        "appraisals": [appraisal.to_ear() for appraisal in one.appraisals],
    }


def _shown(text: str) -> str:
    """Nothing that a stranger wrote steers the terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)
