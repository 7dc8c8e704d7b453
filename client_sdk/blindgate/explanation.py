"""What would happen to a request, and why, told without sending anything.

The decision is the one that sending makes (`decisions`), over the same manifest, and the table is checked by the same code
(`frames`). So what is told here is what happens, but for what can only be asked: `not_asked` lists that. Nodes are not asked what
they prove, and a request for which this says yes may still find none that is believed.

Sizes are exact for sealed tables. What an encrypted table becomes is the client part's to say, which is not fetched: there the
manifest's limits are told. A chat's size is known once it is written.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from blindgate import frames
from blindgate.attestation.rules import AMD_SEV_SNP, PlatformRules
from blindgate.decisions import Decision, Finding, FoundClass, decide
from blindgate.frames import Table
from blindgate.policy import Policy
from blindgate.rules import lengths
from blindgate.table_model import row_bytes, rows_at_once
from blindgate_protocol.chunks import HEADER_BYTES, STREAM_NONCE_BYTES, TAG_BYTES
from blindgate_protocol.errors import BlindgateError, InputError, ManifestError
from blindgate_protocol.manifest import Manifest, check_manifest
from blindgate_protocol.padding import LENGTH_BYTES, Padding
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import Millis

_METADATA: Final = "that this tenant asks this model, when, how many rows, and the sizes of what is sent and answered"


@dataclass(frozen=True)
class Leaving:
    """What would leave this machine, beside the signed order.

    Attributes:
        rows: of the table; `None` where none was given.
        jobs: how many jobs; in lane fhe at least. `None` where nothing was given.
        bytes: sealed, of all of them; `None` where it is not known.
        text: the same in words.
    """

    rows: int | None
    jobs: int | None
    bytes: int | None
    text: str


@dataclass(frozen=True)
class Explanation:
    """What would happen.

    Attributes:
        manifest: of the model.
        decision: of the policy.
        findings: of everything that decides whether it is sent: manifest, policy, table.
        leaving: what would leave.
        seen_by: who could learn what, by who; of node and asker, by the publisher's word.
        asked_of_nodes: what a node has to prove before anything is sealed to it; empty in lane fhe.
        not_asked: what only sending can tell.
    """

    manifest: Signed[Manifest]
    decision: Decision
    findings: tuple[Finding, ...]
    leaving: Leaving
    seen_by: dict[str, tuple[str, ...]]
    asked_of_nodes: tuple[str, ...]
    not_asked: tuple[str, ...]

    @property
    def sent(self) -> bool:
        """Whether it would be sent."""
        return all(finding.holds for finding in self.findings)

    @property
    def refusal(self) -> BlindgateError | None:
        """The first error, in the order of `findings`; `None` where it would be sent."""
        return next((finding.refusal for finding in self.findings if finding.refusal is not None), None)

    @property
    def classes(self) -> tuple[FoundClass, ...]:
        """The classes of the request, and where each comes from."""
        return self.decision.classes

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        document, policy = self.manifest.document, self.decision.policy
        return {
            "sent": self.sent,
            "refusal": None if self.refusal is None else {"code": self.refusal.code, "text": str(self.refusal)},
            "model": {
                "name": document.name,
                "version": document.version,
                "manifest": self.manifest.digest,
                "publisher": self.manifest.signer,
            },
            "lane": document.lane,
            "policy": policy.digest,
            "classes": [{"name": one.name, "of": one.of} for one in self.classes],
            "rules": [
                {
                    "rule": one.rule,
                    "holds": one.holds,
                    "asked": one.asked,
                    "found": one.found,
                    "why": None if one.refusal is None else str(one.refusal),
                }
                for one in self.findings
            ],
            "allowed": {
                "lanes": list(policy.rules.lanes),
                "publishers": list(policy.publishers),
                "operators": list(policy.operators),
                "platforms": list(policy.platforms),
                "padding": policy.rules.padding.model_dump(mode="json"),
                "buffered": policy.rules.buffered,
            },
            "leaves": {
                "rows": self.leaving.rows,
                "jobs": self.leaving.jobs,
                "bytes": self.leaving.bytes,
                "text": self.leaving.text,
            },
            "seen_by": {who: list(what) for who, what in self.seen_by.items()},
            "asked_of_nodes": list(self.asked_of_nodes),
            "not_asked": list(self.not_asked),
        }

    def __str__(self) -> str:
        """As people read it, a line each."""
        return "\n".join(f"{name:<11} {text}" for name, text in self.lines())

    def lines(self) -> Iterator[tuple[str, str]]:
        """A name and a text for each line."""
        document, rules = self.manifest.document, self.decision.policy.rules
        yield "verdict", "it would be sent" if self.sent else "nothing would be encrypted, sealed or sent"
        yield "model", f"{document.name} version {document.version}, lane {document.lane}"
        for one in self.classes:
            yield "class", f"{one.name}: {one.of}"
        for finding in self.findings:
            yes = "yes" if finding.refusal is None else "NO "
            why = f"asked {finding.asked}; found {finding.found}" if finding.holds else str(finding.refusal)
            yield "rule", f"{yes} {finding.rule}: {why}"
        if document.lane == "tee":
            yield "sealed", f"padded: {_padding(rules.padding)}; answers {_answers(buffered=rules.buffered)}"
        yield "leaves", self.leaving.text if self.sent else f"nothing; where it was allowed: {self.leaving.text}"
        for who, what in self.seen_by.items():
            for each in what:
                yield "seen by", f"{who}: {each}"
        for each in self.asked_of_nodes:
            yield "nodes prove", each
        for each in self.not_asked:
            yield "not asked", each


def explain(  # noqa: PLR0913  (a request, and what is known of who asks)
    policy: Policy,
    manifest: Signed[Manifest],
    *,
    table: Table | None,
    said: str | None,
    client: str | None,
    seen_version: int,
    now: Millis,
) -> Explanation:
    """Explain a request: see `decisions.decide`. `seen_version` is the latest that was seen of this model, 0 for none."""
    document = manifest.document
    decision = decide(policy, manifest, said=said, client=client, now=now)
    checked, rows = _check_table(document, table)
    findings = (_check_dates(manifest, seen_version, now), *decision.findings, *checked)
    narrow = decision.policy
    asked_of_nodes = tuple(_asked_of_nodes(narrow, manifest)) if document.lane == "tee" else ()
    return Explanation(
        manifest,
        decision,
        findings,
        _leaving(document, rows, narrow.rules.padding),
        _seen_by(document, narrow),
        asked_of_nodes,
        tuple(_not_asked(document, policy)),
    )


def sealed_size(length: int, padding: Padding) -> int:
    """How many bytes a request of `length` bytes is once it is sealed (`chunks`)."""
    whole, rest = divmod(length, padding.capacity)
    sizes = [padding.size_of(padding.capacity)] * whole + ([padding.size_of(rest)] if rest or not whole else [])
    return STREAM_NONCE_BYTES + sum(HEADER_BYTES + LENGTH_BYTES + size + TAG_BYTES for size in sizes)


def _check_dates(manifest: Signed[Manifest], seen_version: int, now: Millis) -> Finding:
    document = manifest.document
    asked = "it is valid now, and no older version than one that was seen"
    try:  # whether its publisher is one is the policy's to say
        check_manifest(manifest, publishers=(manifest.signer,), now=now, seen_version=seen_version)
    except ManifestError as error:
        return Finding("manifest", asked, f"version {document.version}", error)
    return Finding("manifest", asked, f"version {document.version}")


def _check_table(document: Manifest, table: Table | None) -> tuple[list[Finding], int | None]:
    """What is found of a table, and its rows, where there are some."""
    if table is None:
        return [], None
    asked = f"it fits the model's {len(document.columns)} columns"
    if not document.columns:
        error = InputError(f"model {document.name!r} reads no table: it is asked by {document.api}")
        return [Finding("table", "no table", "a table", error)], None
    try:
        rows = len(frames.matrix(table, document.columns))
    except InputError as error:
        return [Finding("table", asked, "what does not fit", error)], None
    return [Finding("table", asked, f"{rows} rows")], rows


def _leaving(document: Manifest, rows: int | None, padding: Padding) -> Leaving:
    limits = document.limits
    if document.lane == "fhe":
        key = (
            f"; once, an evaluation key of at most {limits.evaluation_key_bytes:,} bytes"
            if document.evaluation_key
            else ""
        )
        if rows is None:
            return Leaving(None, None, None, f"rows as ciphertexts, at most {limits.input_bytes:,} bytes a job{key}")
        jobs = -(-rows // limits.rows_per_job)
        text = f"{rows} rows as ciphertexts; jobs: {jobs} or more, each of at most {limits.input_bytes:,} bytes{key}"
        return Leaving(rows, jobs, None, text)
    if rows is None:
        what = "rows" if document.api == "table" else "a request"
        return Leaving(None, None, None, f"{what}, sealed, at most {limits.input_bytes:,} bytes a job")
    at_once = rows_at_once(document)
    counts = [min(at_once, rows - begin) for begin in range(0, rows, at_once)]
    size = sum(sealed_size(count * row_bytes(document), padding) for count in counts)
    return Leaving(rows, len(counts), size, f"{size:,} sealed bytes of {rows} rows; jobs: {len(counts)}")


def _seen_by(document: Manifest, policy: Policy) -> dict[str, tuple[str, ...]]:
    gateway = [_METADATA]
    if document.lane == "tee":
        gateway.append(
            f"sizes are padded: {_padding(policy.rules.padding)}; answers {_answers(buffered=policy.rules.buffered)}"
        )
        node = (
            "requests and answers in the clear, inside the machine that was believed, and nowhere else where that holds"
        )
    else:
        node = "ciphertexts, and never what is in them"
    return {
        "the gateway": tuple(gateway),
        "the node": (node, *(f"{text} (the publisher's word)" for text in document.discloses.to_node)),
        "you, of the model": tuple(f"{text} (the publisher's word)" for text in document.discloses.to_client),
    }


def _asked_of_nodes(policy: Policy, manifest: Signed[Manifest]) -> Iterator[str]:
    within = policy.rules.evidence_within
    yield f"a certificate by one of the operators: {', '.join(policy.operators) or 'none is left'}"
    for name, rules in policy.platforms.items():
        yield f"if its machine is of {name}: {'; '.join(_platform(name, rules))}"
    yield f"that it serves this manifest, {manifest.digest}, by the word of the program that runs there"
    fresh = (
        f"in answer to a question of this client's, no older than {within:g} s"
        if within
        else "in answer to a fresh question"
    )
    yield f"all of it {fresh}"


def _platform(name: str, rules: PlatformRules) -> Iterator[str]:
    if rules.keys is not None:
        yield f"nothing by hardware, and a signature by one of {', '.join(rules.keys)}"
    for fact, values in rules.measurements.items():
        yield f"{fact} is {' or '.join(values)}"
    if name == AMD_SEV_SNP:
        yield f"its generation is {' or '.join(rules.products)}"
        yield f"it asks from VMPL {rules.vmpl} at most"
    if rules.chips is not None:
        yield f"its processor is one of {len(rules.chips)}"
    for part, least in rules.minimum_tcb.items():
        yield f"its firmware's {part} is at least {least}"
    if rules.tcb_evaluation is not None:
        yield f"Intel's TCB information is at least number {rules.tcb_evaluation}"
    if rules.advisories:
        yield f"no open advisory of Intel's but {', '.join(rules.advisories)}"


def _not_asked(document: Manifest, policy: Policy) -> Iterator[str]:
    if document.lane == "tee":
        yield "what nodes prove now: blindgate trust check all --model " + document.name
    if policy.logs:
        yield "whether the gateway serves a log that the policy names: it is asked before anything is encrypted or sealed"
    if document.privacy.rows_per_tenant is not None:
        yield f"how many of the {document.privacy.rows_per_tenant} rows that the publisher grants a tenant are left"


def _padding(padding: Padding) -> str:
    how = {"none": "to nothing", "powers": "to powers of two"}.get(padding.rule)
    how = how or f"to {', '.join(f'{size:,}' for size in padding.buckets)} bytes"
    return f"{how}, so that a text of up to 1 MiB shows one of {lengths(padding):,} lengths"


def _answers(*, buffered: bool) -> str:
    return "in one piece" if buffered else "as they are written, so that the number and times of their pieces show"
