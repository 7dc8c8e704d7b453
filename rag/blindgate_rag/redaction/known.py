"""Values that were found once, wherever else they stand.

Nine digits are somebody's number behind `SSN`, and a number like any other without the word. A question may have them so, and an
answer gives them back so, which the next request has as an earlier turn. So what was found anywhere in a request is looked for in
all of its texts, by its letters and digits alone, however they are grouped.

Only what is long enough to be nothing else is: six letters and digits, five digits among them, or a name of two words. Days are
not: where they are found, they are found everywhere.
"""

import re
from collections.abc import Iterator
from typing import Final

from blindgate_rag.redaction.matches import Match

_LEAST: Final = 6
_DIGITS: Final = 5
_LONGEST: Final = 64
_GROUPS: Final = 20
"""In how many groups a value may stand: a card's digits one by one."""
_EVERYWHERE: Final = frozenset({"date", "age", "email", "ip", "credential"})
_WORD: Final = re.compile(r"[^\W_]+")
_BETWEEN: Final = re.compile(r"[ .()/\n_-]{1,3}")


def _plain(text: str) -> str:
    return "".join(_WORD.findall(text)).upper()


class Known:
    """Finds what it was told of."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, str]] = {}

    def add(self, name: str, value: str) -> None:
        """Look for a value of a class from now on, if it is one that can be told from other texts."""
        plain = _plain(value)
        digits = sum(character.isdecimal() for character in plain)
        named = not digits and len(_WORD.findall(value)) > 1
        if name not in _EVERYWHERE and _LEAST <= len(plain) <= _LONGEST and (digits >= _DIGITS or named):
            self._values.setdefault(plain, (name, value))

    def find(self, text: str) -> Iterator[Match]:
        """Find all in a folded text. Takes time in proportion to its length."""
        if not self._values:
            return
        words = list(_WORD.finditer(text))
        for first, word in enumerate(words):
            plain, end = "", word.start()
            for following in words[first : first + _GROUPS]:
                if plain and not _BETWEEN.fullmatch(text, end, following.start()):
                    break
                plain += following[0].upper()
                if len(plain) > _LONGEST:
                    break
                end = following.end()
                if plain in self._values:
                    name, value = self._values[plain]
                    yield Match(name, word.start(), end, value)
