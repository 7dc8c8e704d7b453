"""Numbers that stand raised behind numbers: of 10⁹ a reader sees no 109, so it is written `10^9`.

Behind words nothing is put between: `m2` is searched for as that.
"""

import re
from typing import Final

RAISED: Final = "\x1f"
"""Stands in front of what is raised, until what is on both sides is known. It is white space, and no text that is read has it."""

_BETWEEN_NUMBERS = re.compile(rf"(\d) *+{RAISED}+ *+(?=[+\-\u2212]?\d)")


def settled(text: str) -> str:
    """The text with `^` between numbers, and without its marks."""
    return _BETWEEN_NUMBERS.sub(r"\1^", text).replace(RAISED, "") if RAISED in text else text
