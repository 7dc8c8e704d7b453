"""Which keys may be sealed to: nodes are asked, by way of a gateway that is believed nothing, and each answer is judged here.

A question carries a fresh nonce, the model's digest and this policy's. An answer is a stranger's bytes until all of this held:

1. the recipient is a signed document, and the evidence is one, of a size that is looked at first;
2. it answers this question: `evidence.check_recipient`, with this nonce, this model and this policy;
3. the policy believes the operator and the node now: neither is revoked;
4. the evidence about GPUs is of exactly those that the binding names;
5. what speaks for the machine is a processor's evidence, genuine at this moment, that carries the binding's report data, and what
   the policy's `[platforms]` asks;
6. so is the GPUs' evidence, by the nonce that is derived from the same binding.

Steps 1 to 4 end in a refusal that names its rule; 5 and 6 in appraisals, with reasons. Nothing is sealed to a node that is not
`admitted`: every appraisal affirms; or the evidence is simulated, and the policy names its key, which somebody does for a test.

What the gateway could do is to keep answers back, which leaves fewer recipients, or none. Whatever else it changes fails a step.

What no answer proves stands in `not_proven`, the model's weights among it: the binding names the manifest by the word of the
program that runs there, and no more is known of the weights than what that program's measurement is trusted with.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from blindgate.attestation import nvidia, simulated
from blindgate.attestation.appraisal import Appraisal, Asked, Claim, Reason, Tier, Unproven
from blindgate.attestation.gpu_files import read_gpu_file
from blindgate.attestation.platforms import appraise
from blindgate.attestation.rules import hold_to_policy
from blindgate.policy import Policy
from blindgate.transport import Transport
from blindgate_protocol.attestations import MOST_TAKERS, AttestationAnswer, AttestationRequest, AttestationView
from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.errors import BlindgateError, MalformedError, NotFoundError, SealTermsError
from blindgate_protocol.evidence import NONCE_BYTES, Evidence, Recipient, check_recipient
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.signing import Signed, open_signed
from blindgate_protocol.values import Millis

LONGEST_SECONDS: Final = 55.0
"""A question lives for a minute."""

_SETTLES: Final = 1.0
"""For so long nodes may still take a question after all that took it have answered."""
_MARGIN: Final = 2.0
_LONGEST_POLL: Final = 10.0
_SHORTEST_PAUSE: Final = 0.1
_WEIGHTS: Final = Unproven(
    "weights",
    "which weights are loaded: the evidence binds the model's manifest, by the word of the program that the measurement names",
)


@dataclass(frozen=True, slots=True)
class Question:
    """What the nodes are asked.

    Attributes:
        model: the digest of the model's manifest.
        policy: the policy's digest.
        nonce: 32 fresh bytes.
    """

    model: str
    policy: str
    nonce: bytes


@dataclass(frozen=True)
class Candidate:
    """A node that answered, and what its answer is worth.

    Attributes:
        node: its key; where steps 1 and 2 did not hold, by the gateway's word.
        certificate: the operator's word for it; `None` where steps 1 and 2 did not hold.
        recipient: its offer, likewise.
        evidence: likewise.
        refused: why steps 1 to 4 did not hold, with the rule's name; `None`: they did.
        appraisals: of the machine, then of its GPUs, where it has some.
        shown: what it answered, as it came; `None` where it did not.
    """

    node: str
    certificate: Signed[NodeCertificate] | None = None
    recipient: Signed[Recipient] | None = None
    evidence: Evidence | None = None
    refused: Reason | None = None
    appraisals: tuple[Appraisal, ...] = ()
    shown: AttestationAnswer | None = None

    @property
    def name(self) -> str | None:
        """By the operator's word."""
        return None if self.certificate is None else self.certificate.document.name

    @property
    def status(self) -> Tier:
        """The verdict: the worst of all that was found."""
        if self.refused is not None:
            return self.refused.tier
        return max((one.status for one in self.appraisals), default=Tier.UNVERIFIED)

    @property
    def affirms(self) -> bool:
        """Whether hardware speaks for this node, under the policy, and nothing against it."""
        return self.status is Tier.AFFIRMING

    @property
    def admitted(self) -> bool:
        """Whether something may be sealed to it: it affirms, or it is simulated and the policy names it knowingly."""
        if self.affirms:
            return True
        return self.status is Tier.WARNING and all(
            (one.platform, reason.rule) == (simulated.PLATFORM, simulated.RULE)
            for one in self.appraisals
            for reason in one.refusals()
        )

    @property
    def reasons(self) -> list[Reason]:
        """What speaks against it."""
        return [
            *([] if self.refused is None else [self.refused]),
            *(reason for one in self.appraisals for reason in one.refusals()),
        ]

    @property
    def not_proven(self) -> list[Unproven]:
        """What its answer does not prove."""
        if not self.appraisals:
            return []
        return [_WEIGHTS, *(one for appraisal in self.appraisals for one in appraisal.not_proven)]


@dataclass(frozen=True)
class Candidates:
    """Who answered a question.

    Attributes:
        taken: how many nodes took it, by the gateway's word.
    """

    question: Question
    answers: tuple[Candidate, ...] = ()
    taken: int = 0

    @property
    def admitted(self) -> tuple[Candidate, ...]:
        """Those to which something may be sealed."""
        return tuple(one for one in self.answers if one.admitted)


def find_recipients(  # noqa: PLR0913  (who is asked, under which rules, for how long)
    transport: Transport,
    policy: Policy,
    model: str,
    *,
    node: str | None = None,
    name: str | None = None,
    enough: int = MOST_TAKERS,
    seconds: float = 15.0,
    draw: Callable[[int], bytes] = secrets.token_bytes,
    now: Callable[[], Millis] = lambda: time.time_ns() // 1_000_000,
) -> Candidates:
    """Ask for a model, by the digest of its manifest, and judge who answers.

    Ends once `enough` nodes are admitted, or the one of this `node` key, or of this `name`, has answered, or all that took the
    question have, or after `seconds`, at most `LONGEST_SECONDS`. Raises `UntrustedSignerError` where the policy names no operator,
    and what `Transport` does.
    """
    operators = policy.allowed_operators()
    question = Question(model, policy.digest, draw(NONCE_BYTES))
    seconds = min(seconds, LONGEST_SECONDS)
    waits = _Waits(transport, time.monotonic() + seconds)
    # A little longer than is waited: what comes in time is still shown.
    lives = int((seconds + _MARGIN) * 1000)
    request = AttestationRequest(model=model, policy=question.policy, nonce=question.nonce, node=node, lives=lives)
    found: dict[str, Candidate] = {}
    for view in waits.answers(transport.post("/v1/attestations", request, AttestationView).attestation):
        judged = judge(view, question, policy, operators=operators, now=now())
        if name is not None and judged.name not in {name, None}:
            continue  # all were asked: nobody but the nodes knows their names
        if node is not None and judged.recipient is not None and judged.node != node:
            judged = Candidate(
                judged.node, refused=_refusal("bad-recipient", f"{node} was asked, and another answered")
            )
        # A gateway may show one offer as many; who offers one key set is one.
        key = judged.node if judged.recipient is None else judged.recipient.document.key_set.digest
        found.setdefault(key, judged)
        if sum(one.admitted for one in found.values()) >= enough:
            break
        if judged.recipient is not None and (node is not None or name is not None):
            break
    answers = tuple(found.values())
    if name is not None:  # those without a name matter where the named one did not answer: it may be one of them
        answers = tuple(one for one in answers if one.name == name) or answers
    return Candidates(question, answers, waits.taken)


def judge(
    view: AttestationView, question: Question, policy: Policy, *, operators: tuple[str, ...], now: Millis
) -> Candidate:
    """Judge what a gateway shows as a node's answer. Raises nothing for what stands in it."""
    node = view.node or "nobody"
    if view.answer is None:
        said = view.refusal
        code, text = ("no-answer", "") if said is None else (said.code, said.reason)
        return Candidate(node, refused=_refusal(code, f"the node does not answer, and says: {text}"))
    return judge_answer(view.answer, question, policy, node=node, operators=operators, now=now)


def judge_answer(  # noqa: PLR0913  (who is asked, under which rules, when)
    answer: AttestationAnswer,
    question: Question,
    policy: Policy,
    *,
    node: str,
    operators: tuple[str, ...],
    now: Millis,
) -> Candidate:
    """Judge an answer as it is at a time; where it is refused early, it is `node`'s. Raises nothing for what stands in it."""
    try:
        # 1.
        recipient = open_signed(answer.recipient, Recipient)
        evidence = Evidence.from_bytes(answer.evidence)
        # 2.
        certificate = check_recipient(
            recipient,
            evidence,
            nonce=question.nonce,
            model=question.model,
            policy=question.policy,
            operators=operators,
            now=now,
        )
        # 3.
        policy.require_believed("operator", certificate.signer)
        policy.require_believed("node", recipient.signer)
        # 4.
        _check_gpus(evidence)
    except BlindgateError as error:
        return Candidate(node, refused=_refusal(error.code, str(error)))
    appraisals = tuple(_appraised(evidence, policy, now))
    return Candidate(recipient.signer, certificate, recipient, evidence, None, appraisals, answer)


def _refusal(rule: str, text: str) -> Reason:
    return Reason(Claim.INSTANCE_IDENTITY, Tier.UNVERIFIED, rule, text)


def _check_gpus(evidence: Evidence) -> None:
    """Refuse evidence about other GPUs than the binding names. Raises `MalformedError` or `SealTermsError`."""
    if evidence.gpu is None:
        return
    files = read_gpu_file(evidence.gpu)
    leaves = tuple(DIGEST_PREFIX + hashlib.sha256(file.chain[0]).hexdigest() if file.chain else None for file in files)
    if leaves != evidence.binding.gpus:
        message = f"the evidence is about {len(leaves)} GPUs that are not those that the binding names"
        raise SealTermsError(message)


def _appraised(evidence: Evidence, policy: Policy, now: Millis) -> Iterator[Appraisal]:
    bound = evidence.binding
    # 5.
    asked = Asked(
        now=now, at=now, report_data=bound.report_data(), chain=evidence.chain, collateral=evidence.collateral
    )
    machine = appraise(evidence.platform, asked)
    hold_to_policy(machine, policy.platforms, asked)
    if machine.platform == nvidia.PLATFORM:
        machine.disbelieve("platform", "a GPU's evidence stands where a processor's belongs: no machine is spoken for")
    yield machine
    # 6.
    if evidence.gpu is not None:
        asked = Asked(now=now, at=now, nonce=bound.gpu_nonce(), references=evidence.references)
        gpus = appraise(evidence.gpu, asked)
        hold_to_policy(gpus, policy.platforms, asked)
        if gpus.platform != nvidia.PLATFORM:
            gpus.disbelieve("platform", f"evidence of {gpus.platform} stands where a GPU's belongs")
        yield gpus


@dataclass
class _Waits:
    """Fetches answers as they come, until a time (monotonic seconds)."""

    transport: Transport
    until: float
    taken: int = field(default=0)

    def answers(self, question: str) -> Iterator[AttestationView]:
        """The answers to a question, one by one. What the gateway counts decides only how long is waited."""
        place, settled = 0, None
        while place < MOST_TAKERS and (left := self.until - time.monotonic()) > 0:
            begun = time.monotonic()
            wait = min(left, _LONGEST_POLL if settled is None else settled - begun)
            try:
                view = self.transport.get(
                    f"/v1/attestations/{question}?after={place}&wait={max(0, int(wait * 1000))}",
                    AttestationView,
                    wait=max(0.0, wait),
                )
            except NotFoundError:  # its minute is over
                return
            self.taken, ended = view.taken, time.monotonic()
            if view.node is not None:
                if view.place != place + 1:
                    message = f"the gateway shows place {view.place} behind place {place}"
                    raise MalformedError(message)
                place = view.place
                yield view
            elif settled is not None and ended >= settled:
                return
            elif ended - begun < _SHORTEST_PAUSE:  # it does not wait, though it was asked to
                time.sleep(_SHORTEST_PAUSE)
            if view.ended < view.taken or not place:
                settled = None
            elif view.node is not None or settled is None:
                settled = ended + _SETTLES
