"""What must not leave, replaced by placeholders that are put back into the answer locally."""

from blindgate_rag.redaction.matches import Match, Recogniser
from blindgate_rag.redaction.placeholders import Restorer
from blindgate_rag.redaction.redactor import Redacted, Redactor, Span
from blindgate_rag.redaction.rules import CLASSES, Rules

__all__ = ["CLASSES", "Match", "Recogniser", "Redacted", "Redactor", "Restorer", "Rules", "Span"]
