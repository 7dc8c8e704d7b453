"""Words that a line's end cut in two, as typesetters do, made whole: a search for the word must find it.

`anticoag-` above `ulation` is one word, `follow-` above `up` keeps its hyphen. Which of the two it is, the document's own words
tell: a whole word that was met is meant; else what follows the hyphen is a word of its own where it was met as one.
"""

import re

_WORD = re.compile(r"[^\W\d_]+")
# Each run of letters is looked at once, from its beginning: a page may be one run.
_CUT = re.compile(r"(?<![^\W\d_])([^\W\d_]++)-[ \t]*\n[ \t]*([^\W\d_]+)")


class Words:
    """The words of a document, page after page."""

    def __init__(self) -> None:
        self._met: set[str] = set()

    def whole(self, page: str) -> str:
        """The page with its cut words whole; its words count for the pages after it."""
        within = _CUT.sub(" ", page)  # a part of a cut word is no word that was met
        self._met.update(word.lower() for word in _WORD.findall(within))
        return _CUT.sub(self._joined, page)

    def _joined(self, cut: re.Match[str]) -> str:
        before, after = cut.groups()
        whole = before + after
        if whole.lower() in self._met:
            return whole
        parts = before[-1].islower() and after[0].islower() and after.lower() not in self._met
        return whole if parts else f"{before}-{after}"
