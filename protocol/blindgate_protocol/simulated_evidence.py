"""Evidence of a machine that has none to show: it says so itself, in words, under a signature of its own.

Where no trusted execution environment is at hand, the confidential lane can still be run, developed and tested. What a node shows
there is this document, and nobody can take it for a platform's: it has its own type, and its `warning` is one fixed sentence. Its
signature shows that the holder of one key wrote it, so that a reader can name that key, knowingly; it shows nothing of hardware.

Section 13 of docs/protocol.md.
"""

from typing import Annotated, ClassVar, Final, Literal, get_args

from pydantic import Field, WithJsonSchema

from blindgate_protocol.evidence import REPORT_DATA_BYTES
from blindgate_protocol.signing import Document
from blindgate_protocol.values import Millis

INSECURE_SIMULATED: Final = "insecure-simulated"
"""The platform's name, in settings, policies and appraisals."""

Sentence = Literal["INSECURE: simulated evidence. A program wrote this, on any machine; nothing of hardware is proven."]
WARNING: Final[Sentence] = get_args(Sentence)[0]
"""What this is, in the one sentence that the document may have for it."""


class SimulatedEvidence(Document):
    """What a simulated attester says. Signed by its own key, which is no node's and no operator's.

    Attributes:
        warning: what this is, for whoever opens the file.
        report_data: the 64 bytes that it was asked to bind.
        time: when, by the clock of the machine that wrote it.
    """

    media_type: ClassVar[str] = "application/vnd.blindgate.insecure-simulated-evidence.v1+json"

    warning: Sentence
    report_data: Annotated[
        bytes,
        Field(min_length=REPORT_DATA_BYTES, max_length=REPORT_DATA_BYTES),
        WithJsonSchema({"type": "string", "format": "base64url"}),
    ]
    time: Millis
