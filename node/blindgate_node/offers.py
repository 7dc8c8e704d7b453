"""What this node answers when somebody asks what it proves: its key set, and evidence that binds it.

One thread takes questions from the gateway, one after the other, where the node has an attester. A question is answered when

1. the manifest is the one that the question names, signed by a publisher that this node trusts, and current (`packages`);
2. it is of a family that this node computes, and where it computes in the clear, it is loaded here.

Then the node writes the binding of its key set, the nonce, its GPUs, the model and the policy, has the platform sign it, signs the
offer, and remembers what it showed (`key_sets`). Where it does not answer, it says why.

**The model's weights are bound by the word of the program that runs here**, and by no hardware: that it loaded what the manifest
names, as it says by answering, is what its measurement stands for. Of a model that computes on ciphertexts the parts are fetched,
and their digests checked, when a job comes, and not yet when the question does.

Hardware attests slowly, and some refuses to attest often. So there is never more than one question at the platform, and at most
`attestations` a minute: beyond, this node takes no question, and leaves them to others.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

from blindgate_node.attester.choice import Attesters
from blindgate_node.attester.collateral import Collateral
from blindgate_node.key_sets import KeySets
from blindgate_node.packages import Packages
from blindgate_node.stopping import Stop
from blindgate_node.transport import Gateway, pauses, wait_after
from blindgate_protocol.attestations import AttestationAnswer, AttestationPoll, AttestationWork
from blindgate_protocol.errors import AttesterError, BlindgateError, PolicyError
from blindgate_protocol.evidence import Binding, Evidence, Recipient
from blindgate_protocol.messages import Refusal
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.signing import Signed, SigningKey
from blindgate_protocol.values import Millis

_MINUTE: Final = 60.0
_MAX_REASON: Final = 1900


class Offers:
    """The node's answers to questions about evidence.

    Attributes:
        key_sets: the keys that it offers, and what it showed for them.
    """

    def __init__(  # noqa: PLR0913  (what an answer is made of)
        self,
        attesters: Attesters,
        key_sets: KeySets,
        *,
        key: SigningKey,
        certificate: Signed[NodeCertificate],
        packages: Packages,
        families: Collection[str],
        models: Collection[str] = (),
        now: Callable[[], Millis],
        collateral: Collateral | None = None,
    ) -> None:
        """Answer with what `attesters` give, and `collateral` beside it, for `families`.

        Of models that compute in the clear, for `models` alone, which are their manifests' digests. Raises `AttesterError` where
        they have no platform.
        """
        if attesters.platform is None:
            raise AttesterError("a node without an attester has nothing to offer")
        self._platform, self._gpus = attesters.platform, attesters.gpus
        self.key_sets = key_sets
        self._key, self._certificate = key, certificate
        self._packages, self._families, self._now = packages, frozenset(families), now
        self._models = frozenset(models)
        self._collateral = collateral or Collateral()

    @property
    def platform(self) -> str:
        """What attests this machine, by the name that policies use."""
        return self._platform.platform

    def answer(self, work: AttestationWork) -> AttestationAnswer:
        """Answer a question. Raises `PolicyError`, `AttesterError`, and what `Packages.open_manifest` does."""
        # 1.
        manifest = self._packages.open_manifest(work.manifest, self._now())
        if manifest.digest != work.model:
            message = "the question names another model than the manifest that came with it"
            raise PolicyError(message)
        # 2.
        if manifest.document.family not in self._families:
            message = f"this node does not compute family {manifest.document.family!r}"
            raise PolicyError(message)
        if manifest.document.lane == "tee" and manifest.digest not in self._models:
            message = f"model {manifest.document.name!r} version {manifest.document.version} is not loaded on this node"
            raise PolicyError(message)
        key_set = self.key_sets.current().key_set
        binding = Binding(
            key_set=key_set.digest,
            nonce=work.nonce,
            gpus=() if self._gpus is None else self._gpus.leaves(),
            model=work.model,
            policy=work.policy,
        )
        made = self._platform.attest(binding.report_data())
        evidence = Evidence(
            binding=binding,
            platform=made.evidence,
            chain=made.chain,
            collateral=self._collateral.of_platform(),
            gpu=self._gpus.attest(binding.gpu_nonce()) if self._gpus is not None and binding.gpus else None,
            references=self._collateral.of_gpus() if binding.gpus else (),
        )
        offered = Recipient(certificate=self._certificate.envelope, key_set=key_set, evidence=evidence.digest)
        # Before it leaves: what a client seals to it may come back at once.
        self.key_sets.note(evidence.digest, binding)
        return AttestationAnswer(recipient=self._key.sign(offered).envelope, evidence=evidence.to_bytes())


class OfferThread:
    """Takes questions from the gateway and answers them, until it is told to stop."""

    def __init__(  # noqa: PLR0913  (what it takes from, and how much)
        self, offers: Offers, gateway: Gateway, *, wait: float, a_minute: int, stopping: Stop, log: Callable[..., None]
    ) -> None:
        """`wait` is for how many seconds the gateway may hold a request for a question open."""
        self._offers, self._gateway, self._log = offers, gateway, log
        self._wait, self._a_minute, self._stopping = wait, a_minute, stopping
        self._begun: deque[float] = deque(maxlen=a_minute)
        self._thread = threading.Thread(target=self._run, name="offers", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end, after it was told to stop: as long as a question is waited for, or the platform takes."""
        self._thread.join()

    def _run(self) -> None:
        waits = pauses()
        while not self._stopping.is_set():
            if self._stopping.wait(self._rest()):
                return
            asked = time.monotonic()
            try:
                work = self._gateway.question(AttestationPoll(wait=int(self._wait * 1000)))
            except BlindgateError as error:  # a node that is not known any more ends by its request for work
                self._log("question.unreachable", code=error.code, reason=str(error))
                self._stopping.wait(wait_after(error, next(waits)))
                continue
            if work is None:
                if time.monotonic() - asked < self._wait / 2:  # the gateway has no thread to wait in
                    self._stopping.wait(next(waits))
                continue
            waits = pauses()
            if not self._stopping.is_set():
                self._answer(work)

    def _rest(self) -> float:
        """For how many seconds no question may be taken: there were as many as may be in the last minute."""
        if len(self._begun) < self._a_minute:
            return 0.0
        return max(0.0, self._begun[0] + _MINUTE - time.monotonic())

    def _answer(self, work: AttestationWork) -> None:
        begun = time.monotonic()
        self._begun.append(begun)
        told: dict[str, object] = {"question": work.attestation, "model": work.model}
        try:
            answer = self._offers.answer(work)
            self._gateway.answer(work.attestation, answer)
            told |= {"outcome": "answered", "bytes": len(answer.evidence)}
        except BlindgateError as error:
            told |= {"outcome": "refused", "code": error.code, "reason": str(error)[:_MAX_REASON]}
            self._refuse(work, error)
        except Exception as error:  # noqa: BLE001  (a fault of the platform's must not end what answers)
            told |= {"outcome": "failed", "error": type(error).__name__}
            self._refuse(work, AttesterError(f"the node failed: {type(error).__name__}"))
        self._log("question.ended", milliseconds=round((time.monotonic() - begun) * 1000, 1), **told)

    def _refuse(self, work: AttestationWork, error: BlindgateError) -> None:
        try:
            reason = str(error).replace("\0", "")[:_MAX_REASON]
            self._gateway.refuse_question(work.attestation, Refusal(code=error.code, reason=reason))
        except BlindgateError:  # its time may be over; who asked hears nothing then
            self._log("question.unanswered", question=work.attestation)
