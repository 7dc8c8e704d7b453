"""Numbers that only the words before them tell: of a bank's account and branch, of a passport.

Such a number has no check digit that could find it, and as many digits as a sum, a day or an order has. So it is one behind its own
word, with nothing between but what a form has there: `Sort code: 20-00-00`, `A/C No. 31926819`, `Kontonr. 532 0130 00`. Which
account, behind `account` alone, wants six digits or more together, so that `account 4,100,000` and `accounts 2019 2018` stay.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from blindgate_rag.redaction.checksums import routing
from blindgate_rag.redaction.matches import Match
from blindgate_rag.redaction.words import JOINED, any_of

_NUMBER: Final = "(?:no|nr|num|number|nummer|n°|nº|№|#)"
_BETWEEN: Final = rf"[ _-]{{0,2}}{_NUMBER}?(?:[ .:=#()|\t\n\"']|</?t[dh]>){{0,6}}(?:is[ ]|ist[ ])?"
_AFTER: Final = r"(?![0-9A-Za-z]|[.,][0-9])"
_SIX: Final = r"[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}|[0-9]{3}[ -]?[0-9]{3}"
_ACCOUNT: Final = r"[0-9]{6,17}|[0-9]{2,6}(?:[ -][0-9]{2,8}){1,4}"


def _any(_: str) -> bool:
    return True


def _of_an_account(digits: str) -> bool:
    """Six to seventeen digits, and not one figure six times."""
    return 6 <= len(digits) <= 17 and len(set(digits)) > 1  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Named:
    """A row: what stands before a number of a class, what it looks like, what its digits and capitals must fulfil."""

    name: str
    words: str
    pattern: str
    check: Callable[[str], bool] = _any


ACCOUNTS: Final = (
    Named("bank_code", rf"sort{JOINED}code|s/c|bsb|bank[ -]state[ -]branch", _SIX),
    Named("bank_code", r"blz|bankleitzahl", r"[0-9]{3}[ ]?[0-9]{3}[ ]?[0-9]{2}"),
    Named(
        "bank_code", r"(?:aba[ -])?routing|routing[ -]transit|aba|rtn|r/t", r"[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]", routing
    ),
    Named(
        "bank_account",
        rf"(?:bank|giro|checking|savings|current){JOINED}account|account[ _-]{{0,2}}{_NUMBER}|acct|a/c"
        r"|konto(?:nummer|nr)?|cuenta|compte|conto(?: corrente)?|rekening(?:nummer)?|conta(?: corrente)?",
        _ACCOUNT,
        _of_an_account,
    ),
    Named("bank_account", r"account|beneficiary|iban", r"[0-9]{6,17}", _of_an_account),
    Named("passport", r"passport|reisepass|passeport|pasaporte|passaporto|paspoort", r"[A-Z]{0,2}[0-9]{6,9}"),
)
_MARKS: Final = re.compile(r"[^A-Z0-9]")


class Accounts:
    """Finds the classes `bank_account`, `bank_code` and `passport`, or some of them."""

    protects = frozenset[str]()

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names & {row.name for row in ACCOUNTS}
        self._rows = [
            (row, re.compile(rf"{any_of(row.words)}{_BETWEEN}({row.pattern}){_AFTER}", re.IGNORECASE))
            for row in ACCOUNTS
            if row.name in self.names
        ]

    def find(self, text: str) -> Iterator[Match]:
        """Find all. Takes time in proportion to the text's length."""
        for row, pattern in self._rows:
            for found in pattern.finditer(text):
                value = _MARKS.sub("", found[1].upper())
                if row.check(value):
                    yield Match(row.name, *found.span(1), value)
