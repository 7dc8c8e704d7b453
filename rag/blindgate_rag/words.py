"""What a word is, of a passage and of a question alike.

A word is a run of letters and digits, in lower case: `I10`, `2.5mg` and `1,571.7` are one word each, and a single digit is a word.

*Marks.* Accents of Latin, Greek and Cyrillic letters, and the points and vowel signs of Arabic and Hebrew, are left out, since
people ask without them. Those of Indic scripts are part of the word: they are vowels.

*Without spaces* Chinese, Japanese, Thai, Lao, Khmer and Burmese are written, so every character of theirs, with its marks, is one.
"""

import re
import sys
import unicodedata
from functools import cache
from typing import Final

RULE: Final = f"blindgate words v2, unicode {unicodedata.unidata_version}".encode()
"""By which rule words were found. Counts by another one are made anew."""

_LEFT_OUT: Final = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u200d]"
)
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u3098\u309b-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_ASCII_WORDS: Final = re.compile(r"\d+(?:[.,]\d+)*\w*|\w+", re.ASCII)  # the same, in less time


def words_of(text: str) -> list[str]:
    """The words of a text, in their order."""
    if text.isascii():
        return _ASCII_WORDS.findall(text.lower())
    return _words().findall(_LEFT_OUT.sub("", unicodedata.normalize("NFKD", text)).lower())


@cache
def _words() -> re.Pattern[str]:
    marks = "".join(map(chr, filter(_is_mark, range(0x300, sys.maxunicode >> 4))))
    letters = rf"[^\W{_UNSPACED}]"
    more = rf"{letters}*(?:[{marks}]+{letters}*)*"
    return re.compile(rf"[{_UNSPACED}][{marks}]*|\d+(?:[.,]\d+)*{more}|{letters}{more}")


def _is_mark(code: int) -> bool:
    return unicodedata.category(chr(code)).startswith("M")
