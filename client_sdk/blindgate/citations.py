"""Citations in an answer that comes in pieces: which passages it names, and the text without those that name none.

One is written `[2]` or `[1, 3]`. Of its numbers those stay that a passage has; where none does it goes, and the blank before it.
No citation is longer than `LONGEST`, so what may become one is held back for no longer than that, and all else is given at once:
what is given out in all is the same, wherever the pieces end.
"""

import re
from typing import Final

LONGEST: Final = 359
"""A blank, brackets, and up to 33 numbers with what stands between them."""

_NUMBER: Final = r"\d{1,4}"
_AND: Final = r"\s{0,3}[,;]\s{0,3}"
_CITED: Final = re.compile(rf"[ ]?\[({_NUMBER}(?:{_AND}{_NUMBER}){{0,32}})\]")
_BEGUN: Final = re.compile(rf"(?:[ ]?\[(?:{_NUMBER}(?:{_AND}{_NUMBER}){{0,32}}(?:{_AND}|\s{{0,3}}))?|[ ])\Z")
"""The end of a text that may go on as a citation."""


class Citing:
    """Reads an answer's pieces, one after the other."""

    def __init__(self, count: int) -> None:
        """`count`: how many passages there are, from 1 on."""
        self._count = count
        self._held = ""
        self._cited: dict[int, None] = {}
        self._unresolved: dict[int, None] = {}

    @property
    def cited(self) -> tuple[int, ...]:
        """The passages that were named so far, in the order in which they were."""
        return tuple(self._cited)

    @property
    def unresolved(self) -> tuple[int, ...]:
        """The numbers that no passage has; they are not in the text."""
        return tuple(self._unresolved)

    def feed(self, piece: str) -> str:
        """Take the next piece; give what is certain by now, perhaps nothing."""
        text = self._held + piece
        begun = _BEGUN.search(text, max(0, len(text) - LONGEST))
        end = begun.start() if begun else len(text)
        self._held = text[end:]
        return _CITED.sub(self._keep, text[:end])

    def close(self) -> str:
        """The rest, when no piece comes any more."""
        rest, self._held = self._held, ""
        return rest

    def _keep(self, found: re.Match[str]) -> str:
        numbers = [int(one) for one in re.split(r"[,;\s]+", found[1])]
        good = [one for one in numbers if 1 <= one <= self._count]
        self._cited.update(dict.fromkeys(good))
        self._unresolved.update(dict.fromkeys(one for one in numbers if one not in good))
        lead = " " if found[0].startswith(" ") else ""
        return f"{lead}[{', '.join(map(str, good))}]" if good else ""


def without_citations(text: str) -> str:
    """An answer whose passages are not at hand any more."""
    return _CITED.sub("", text)
