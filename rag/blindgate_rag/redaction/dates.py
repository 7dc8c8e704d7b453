"""Dates, and ages over 89: what a policy may ask to be taken out as well (45 CFR 164.514(b)(2)(i)(C)).

Neither is looked for unless the rules say so: a question about documents is seldom answered without their dates. A year alone
stays, as that rule lets it.
"""

import re
from collections.abc import Iterator
from typing import Final

from blindgate_rag.redaction.matches import Match

NAMES: Final = frozenset({"date", "age"})

_MONTHS: Final = (
    # English, German, French, Spanish, Italian, Dutch; with their short forms
    r"jan(?:uary|uar|uari|vier)?|ene(?:ro)?|gen(?:naio)?|jänner|feb(?:ruary|ruar|ruari|rero|braio)?|févr(?:ier)?|mar(?:ch|s|zo)?|märz|maart|mrt"
    r"|apr(?:il|ile)?|avr(?:il)?|abr(?:il)?|may|mai|mayo|mei|maggio|jun(?:e|i|io)?|juin|giugno|jul(?:y|i|io)?|juil(?:let)?|luglio"
    r"|aug(?:ust|ustus)?|août|ago(?:sto)?|sep(?:t|tember|tiembre|tembre)?|set(?:tembre)?|o[ck]t(?:ober|ubre|obre)?|ott(?:obre)?"
    r"|nov(?:ember|embre|iembre)?|de[cz](?:ember|embre)?|déc(?:embre)?|dic(?:iembre|embre)?"
)
_YEAR: Final = r"(?:1[89]|20)[0-9]{2}"
_DAY: Final = r"(?:0?[1-9]|[12][0-9]|3[01])"
_TIME: Final = r"(?:[T ][0-2][0-9]:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?(?:Z|[+-][0-2][0-9]:?[0-5][0-9])?)?"
_MONTH: Final = r"(?:0[1-9]|1[0-2])"
_CLOCK: Final = r"[0-2][0-9][0-5][0-9](?:[0-5][0-9](?:\.[0-9]{1,6})?)?(?:Z|[+-][0-2][0-9][0-5][0-9])?"
_GAP: Final = r"[ \n]{1,2}"
_ISO: Final = rf"{_YEAR}-{_MONTH}-(?:0[1-9]|[12][0-9]|3[01])"
_TO: Final = r"[ ]?-[ ]?"
_NUMERIC: Final = re.compile(
    rf"(?<![0-9.])(?:{_ISO}/{_ISO}"
    rf"|{_YEAR}(?:([-/.])(?:0?[1-9]|1[0-2])\1{_DAY}|[年년] ?(?:0?[1-9]|1[0-2])[月월](?: ?{_DAY}[日일])?){_TIME}"
    # from one day to another as well: 5.3.2024-7.3.2024, 05.03.-07.03.2024
    rf"|(?<![A-Za-z/-])(?:{_DAY}\.(?:{_DAY}\.)?{_TO})?{_DAY}(?P<of>[ ]?[-/.][ ]?){_DAY}(?P=of)"
    rf"(?:{_YEAR}(?:{_TO}{_DAY}(?P=of){_DAY}(?P=of){_YEAR})?|[0-9]{{2}}))(?![0-9]|[./-][0-9])"
    rf"|(?<![\w.,/-])(?:{_MONTH}[/-]{_YEAR}|{_YEAR}[/-]{_MONTH})(?![\w]|[.,/-][0-9])"
    # together, as machines write a day: YYYYMMDD, HL7 with a time behind it; DDMMYYYY, MMDDYYYY
    rf"|(?<![\w.,/-])(?:{_YEAR}{_MONTH}(?:0[1-9]|[12][0-9]|3[01])(?:T?{_CLOCK})?|(?:0[1-9]|[12][0-9]|3[01]){{2}}(?:19|20)[0-9]{{2}})(?![\w]|[.,/-][0-9])"
)
_WRITTEN: Final = re.compile(
    rf"(?<![\w.])(?:(?:{_DAY}(?:st|nd|rd|th|\.)? (?:to|and|or|until|bis|und|au|et|al?|y|e|tot|en) )?"
    rf"{_DAY}(?:st|nd|rd|th|er|\.)?(?:-{_DAY}\.?)?(?:-|{_GAP})(?:of |de )?(?:{_MONTHS})\b\.?"
    rf"(?:,?{_GAP}(?:de )?(?:{_YEAR}|'?[0-9]{{2}}(?![\w.,:%]))|-(?:{_YEAR}|[0-9]{{2}}(?![\w])))?"
    rf"|(?:{_MONTHS})\b\.?(?:-|{_GAP}){_DAY}(?:st|nd|rd|th)?(?:-{_DAY})?\b(?:(?:-|,?{_GAP}){_YEAR})?"
    rf"|{_DAY}(?:{_MONTHS}){_YEAR}|(?:{_MONTHS})\b\.?,?{_GAP}{_YEAR})(?!\w)",
    re.IGNORECASE,
)
_WORDS: Final = ("may ", "mar ", "set ", "gen ", "ago ")
_WORDS_LAST: Final = tuple(f" {word.strip()}" for word in _WORDS)
_OLD: Final = r"(9[0-9]|1[0-2][0-9])"
_AGES: Final = re.compile(
    rf"(?<![\w.])(?:aged?|age of|alter|âge|edad|età|leeftijd)[ :]{{1,3}}(?:of )?{_OLD}(?![\w.,]?[0-9])"
    rf"|(?<![\w.,$]){_OLD}"
    r"(?=[ -]{0,2}(?:years?|yrs?)[ -](?:old|of age)\b|[ -]?(?:y\.o\.|(?:y/o|yo|yrs)\b)|[ -]?jährig|[ -]Jahre alt|[ -]?jarige?\b"
    r"| ans\b| años\b| anni\b| jaar oud)",
    re.IGNORECASE,
)


class Dates:
    """Finds the classes `date` and `age`, or one of them."""

    protects = frozenset[str]()

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names & NAMES

    def find(self, text: str) -> Iterator[Match]:
        """Find all. Takes time in proportion to the text's length."""
        if "date" in self.names:
            for pattern in (_NUMERIC, _WRITTEN):
                for found in pattern.finditer(text):
                    # In small letters these are words of a sentence: `we may 2 times`, `12 ago`.
                    if not found[0].startswith(_WORDS) and not found[0].endswith(_WORDS_LAST):
                        yield Match("date", *found.span(), " ".join(found[0].lower().split()))
        if "age" in self.names:
            for found in _AGES.finditer(text):
                group = 1 if found[1] else 2
                yield Match("age", *found.span(group), found[group])
