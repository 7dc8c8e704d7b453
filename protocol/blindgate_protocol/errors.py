"""The one error tree.

    BlindgateError
    ├── InputError              the caller's table or request does not fit the model: names the column and the row, or the member
    │   └── ContextLengthError      longer than the model reads: says how long both are
    ├── PolicyError             the policy does not allow it, and no weaker way is tried
    │   ├── UntrustedEvidenceError  no node proves what the policy asks; says what each lacks
    │   │   └── NoNodeError             no node says what it proves: perhaps none is there now
    │   └── UntrustedSignerError    signed by somebody the policy does not name; says how to add them
    │       └── RevokedSignerError      signed when the signer's key was revoked already: names key and time
    ├── MalformedError          bytes that are not what they claim to be: names the field
    │   ├── EnvelopeError           not a signed document
    │   ├── PackageError            not a model package, or a part that does not parse
    │   ├── CiphertextError         not a ciphertext of this model's parameters
    │   ├── EvaluationKeyError      not an evaluation key of this model's parameters
    │   └── ResultError             not a result of this model's parameters
    ├── SignatureError          a signature that does not verify
    ├── ManifestError           signed, and still not to be used
    │   ├── ExpiredManifestError
    │   ├── RolledBackManifestError an older version than was seen before
    │   └── PackageDigestError      a part is not the one that the manifest names
    ├── ReceiptError            a receipt that does not answer the client's own order
    │   ├── ReceiptOrderError       of another job or order
    │   ├── ReceiptModelError       of another model, circuit or key
    │   ├── ReceiptNodeError        of a node that no allowed operator vouches for
    │   └── ResultDigestError       the result is not the one that the receipt names
    ├── LogError                a log that contradicts itself, its signatures or what was known: names the index and the rule
    │   ├── NotLoggedError          a result that does not stand in the log that the policy names, in time
    │   └── ForkedLogError          two trees where there can be one: somebody was shown another log
    ├── KeyHistoryError         a key's history that is not what its owner signed: names the key and the statement
    ├── SealError               what is sealed, or is to be sealed, breaks a rule of the seal: names the rule
    │   ├── RecipientError          nothing may be sealed to this key set, or it cannot be
    │   ├── SealExpiredError        the seal's time, or the key set's, is over or has not come
    │   ├── SealTermsError          sealed for another job, order, model, policy, evidence or key set
    │   │   └── KeySetGoneError         sealed to key sets that this node does not have, or has no more
    │   ├── ChunkError              a chunk that does not open at its place: names the place
    │   │   └── TruncatedError          the stream ended before its final chunk
    │   ├── PaddingError            opened, but not padded as was agreed
    │   └── CommitmentError         a commitment is not to these bytes
    ├── TransitionError         a job cannot go from this state to that one
    ├── LeaseLostError          the lease belongs to somebody else now
    ├── KeyStoreError           the key store cannot be opened or read
    ├── JobError                the job ended without a result
    │   ├── JobFailedError          a node refused it
    │   ├── JobDeadError            every attempt was lost
    │   ├── JobCancelledError
    │   └── JobTimeoutError         no result in time
    ├── GatewayError            the gateway answered with a problem (RFC 9457), or not at all
    │   ├── GatewayUnreachableError
    │   ├── NotFoundError
    │   ├── NotAuthorisedError
    │   │   └── ClockSkewError          a node signed with a clock that is far from the gateway's: says how far
    │   └── BudgetSpentError        this tenant has asked for as many rows of a model as its publisher allows
    ├── SandboxError            a worker ended in a way that no job should make it end
    ├── CorpusError             a corpus that cannot be opened, or is not what was written
    │   ├── DocumentError           a document that cannot be read: names the file and what is wrong with it
    │   ├── CorpusBusyError         another process is writing to it
    │   ├── StaleCorpusError        what is asked of is not there any more: somebody has changed it, or it is kept back
    │   ├── RolledBackCorpusError   an older state than this client has seen of it
    │   └── ForkedCorpusError       two states where there can be one: somebody was shown another
    ├── BackendError            what computes plaintext models is not there, or failed: never says on what
    └── AttesterError           the machine gives no evidence, or not what it was asked for: says what is missing

Messages say what was got and what was expected. They never hold a cell's value of a user's table beyond what the user's own
process may print, never a key, and to the other side never say which cryptographic step failed. `code` is what crosses the wire.
"""

from typing import ClassVar


class BlindgateError(Exception):
    """Whatever Blindgate raises on purpose.

    Attributes:
        code: a stable name in kebab-case, the same in Python, in the API's problems and in the log.
    """

    code: ClassVar[str] = "error"


class InputError(BlindgateError):
    """The caller's table does not fit the model's input schema, or its request is not one that the model takes.

    Attributes:
        column: the column at fault, or `None` when the whole table is.
        row: the position of the row at fault, from 0, or `None`.
        member: the member of a request in JSON that is at fault, or `None`.
    """

    code = "bad-input"

    def __init__(
        self, message: str, *, column: str | None = None, row: int | None = None, member: str | None = None
    ) -> None:
        super().__init__(message)
        self.column = column
        self.row = row
        self.member = member


class ContextLengthError(InputError):
    """A request is longer than the model reads."""

    code = "context-length"


class PolicyError(BlindgateError):
    """The policy does not allow this."""

    code = "policy"


class UntrustedSignerError(PolicyError):
    """Signed by a key that the policy does not name."""

    code = "untrusted-signer"


class UntrustedEvidenceError(PolicyError):
    """No node proves what the policy asks of a node that a request is sealed to."""

    code = "untrusted-evidence"


class NoNodeError(UntrustedEvidenceError):
    """No node answered what it proves, so nothing was sealed to any. There may be one soon."""

    code = "no-node"


class RevokedSignerError(UntrustedSignerError):
    """Signed at or after the time from which on the policy believes this key no longer."""

    code = "revoked-signer"


class MalformedError(BlindgateError):
    """Bytes from outside that are not what they claim to be."""

    code = "malformed"


class EnvelopeError(MalformedError):
    """Not a signed document of the expected type."""

    code = "bad-envelope"


class PackageError(MalformedError):
    """Not a model package, or a part that its family cannot use."""

    code = "bad-package"


class CiphertextError(MalformedError):
    """Not ciphertexts of this model's parameters."""

    code = "bad-ciphertext"


class EvaluationKeyError(MalformedError):
    """Not an evaluation key of this model's parameters."""

    code = "bad-evaluation-key"


class ResultError(MalformedError):
    """Not a result of this model's parameters."""

    code = "bad-result"


class SignatureError(BlindgateError):
    """A signature that does not verify."""

    code = "bad-signature"


class ManifestError(BlindgateError):
    """A manifest that is well signed and still not to be used."""

    code = "bad-manifest"


class ExpiredManifestError(ManifestError):
    """The manifest's time is over, or has not come."""

    code = "manifest-expired"


class RolledBackManifestError(ManifestError):
    """An older version of a model than this client has seen."""

    code = "manifest-rolled-back"


class PackageDigestError(ManifestError):
    """A part of the package is not the one that the manifest names."""

    code = "package-digest"


class ReceiptError(BlindgateError):
    """A receipt that does not answer the client's own order."""

    code = "bad-receipt"


class ReceiptOrderError(ReceiptError):
    """A receipt of another job or another order."""

    code = "receipt-order"


class ReceiptModelError(ReceiptError):
    """A receipt of another model, circuit, input or key than the order named."""

    code = "receipt-model"


class ReceiptNodeError(ReceiptError):
    """A receipt of a node that no operator of the order vouches for."""

    code = "receipt-node"


class ResultDigestError(ReceiptError):
    """Result bytes that are not the ones that the receipt names."""

    code = "result-digest"


class LogError(BlindgateError):
    """A log, an entry, a checkpoint or a proof that does not hold.

    Attributes:
        index: the entry at fault, where there is one.
    """

    code = "log"

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class NotLoggedError(LogError):
    """A result that does not stand in the log that the policy names, in time."""

    code = "not-logged"


class ForkedLogError(LogError):
    """Two trees where there can be one."""

    code = "forked-log"


class KeyHistoryError(BlindgateError):
    """What is told, or kept, of a key's history is not a chain of its owner's statements, or not the owner's own chain."""

    code = "key-history"


class SealError(BlindgateError):
    """Sealed bytes that do not open, or that must not be made."""

    code = "seal"


class RecipientError(SealError):
    """Nothing may be sealed to this key set: its keys, its evidence, its node or its operator are not as they must be."""

    code = "bad-recipient"


class SealExpiredError(SealError):
    """The time of a seal or of a key set is over, or has not come."""

    code = "seal-expired"


class RepeatedSealError(SealError):
    """A sealed request that was opened before."""

    code = "seal-repeated"


class SealTermsError(SealError):
    """Sealed for another job, order, model, policy, evidence or key set."""

    code = "seal-terms"


class KeySetGoneError(SealTermsError):
    """Sealed to no key set that this node has: with a restart all of them are gone.

    Attributes:
        alone: whether it was sealed to no other node, which might open it.
    """

    code = "key-set-gone"

    def __init__(self, message: str, *, alone: bool) -> None:
        super().__init__(message)
        self.alone = alone


class ChunkError(SealError):
    """A chunk that does not open at its place in its stream.

    Attributes:
        place: which chunk, from 0.
    """

    code = "bad-chunk"

    def __init__(self, message: str, *, place: int) -> None:
        super().__init__(message)
        self.place = place


class TruncatedError(ChunkError):
    """A stream that ended before its final chunk."""

    code = "truncated-stream"


class PaddingError(SealError):
    """A chunk that opened, and is not padded as was agreed."""

    code = "bad-padding"


class CommitmentError(SealError):
    """A commitment that is not to these bytes."""

    code = "bad-commitment"


class TransitionError(BlindgateError):
    """A job cannot go from its state to the one that was asked for."""

    code = "bad-transition"


class LeaseLostError(BlindgateError):
    """The lease has ended or belongs to somebody else."""

    code = "lease-lost"


class KeyStoreError(BlindgateError):
    """The key store cannot be opened or read."""

    code = "key-store"


class JobError(BlindgateError):
    """A job that ended without a result."""

    code = "job"


class JobFailedError(JobError):
    """A node refused the job, and would refuse it again."""

    code = "job-failed"


class JobDeadError(JobError):
    """Every attempt at the job was lost; the gateway keeps the reasons."""

    code = "job-dead"


class JobCancelledError(JobError):
    """The job was cancelled."""

    code = "job-cancelled"


class InterruptedAnswerError(JobError):
    """A node was lost while it wrote an answer of which a part was given out. Asking again is safe."""

    code = "interrupted-answer"


class JobTimeoutError(JobError):
    """No result in the time that the caller or the order gave."""

    code = "job-timeout"


class GatewayError(BlindgateError):
    """The gateway answered with a problem.

    Attributes:
        status: the HTTP status, or `None` when there was no answer.
        problem: the problem's `code` member, or `None`.
        retry_after: in how many seconds the gateway said that it may be tried again, or `None`.
    """

    code = "gateway"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        problem: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


class GatewayUnreachableError(GatewayError):
    """No answer from the gateway."""

    code = "gateway-unreachable"


class NotFoundError(GatewayError):
    """No such object, or not this tenant's."""

    code = "not-found"


class NotAuthorisedError(GatewayError):
    """The API key or token is missing, wrong, or not for this."""

    code = "not-authorised"


class ClockSkewError(NotAuthorisedError):
    """Signed with a clock that is too far from the gateway's; the message says how far."""

    code = "clock-skew"


class BudgetSpentError(GatewayError):
    """The tenant has asked for as many rows of this model as its publisher allows."""

    code = "budget-spent"


class SandboxError(BlindgateError):
    """A worker was killed, crashed, hung, or went past a limit."""

    code = "worker-ended"


class AttesterError(BlindgateError):
    """The machine gives no evidence of what it is, or not the evidence that it was asked for."""

    code = "no-evidence"


class CorpusError(BlindgateError):
    """A corpus that cannot be opened, read or written: names what, and what to do."""

    code = "bad-corpus"


class DocumentError(CorpusError):
    """A document that cannot be read.

    Attributes:
        source: which, as a corpus calls it.
    """

    code = "bad-document"

    def __init__(self, message: str, *, source: str) -> None:
        super().__init__(f"{source}: {message}")
        self.source = source


class CorpusBusyError(CorpusError):
    """Another process is writing to the corpus."""

    code = "corpus-busy"


class StaleCorpusError(CorpusError):
    """A corpus at one moment is not there any more: another has taken its place, or somebody keeps it back."""

    code = "corpus-stale"


class RolledBackCorpusError(CorpusError):
    """An older state of a corpus that lives elsewhere than this client has seen."""

    code = "corpus-rolled-back"


class ForkedCorpusError(CorpusError):
    """Two states of a corpus that lives elsewhere, where there can be one."""

    code = "corpus-forked"


class BackendError(BlindgateError):
    """What computes plaintext models is not installed, not there, or failed."""

    code = "backend"
