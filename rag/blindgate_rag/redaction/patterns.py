r"""Patterns of the owner's own: regular expressions that cannot stall a search.

A regular expression may take time without end on a text that was made for it: `(a+)+b` on many `a`. The texts here come out of
documents, so anybody may have made them. A pattern is therefore read before it is used, and refused unless

1. it matches 3 to 200 characters, so that everything in it that repeats has a bound: `{1,20}` where one would write `+`;
2. the ways in which it can match at one place are 200 at most, counted over its structure: a repetition of m to n times has as many
   as its content to the power of m, m + 1 … n together, alternatives the sum of theirs, a sequence the product. `MRN[- ]?\d{6,8}`
   has 6; `(a{1,20}){1,20}` has more than can be counted;
3. it has nothing that refers back or looks around, the time of which that count does not bound.

So what it costs is bounded by 200 by 200 steps a character, and is near one in practice.
"""

import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from blindgate_protocol.errors import PolicyError
from blindgate_rag.redaction.matches import Match

MAX_PATTERN: Final = 200
MIN_WIDTH: Final = 3
MAX_WIDTH: Final = 200
MAX_WAYS: Final = 200

_parser: Final[Any] = importlib.import_module("re._parser")
"""What `re` itself reads patterns with; it has no public name since Python 3.11."""
_SINGLE: Final = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN", "AT"})
_REPEATS: Final = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})


def _ways(parts: Any) -> int:
    """In how many ways a parsed pattern can match at one place, `MAX_WAYS + 1` for more. Raises `ValueError`."""
    total = 1
    for operation, value in parts:
        name = str(operation)
        if name in _SINGLE:
            ways = 1
        elif name == "SUBPATTERN":
            ways = _ways(value[-1])
        elif name == "BRANCH":
            ways = sum(_ways(branch) for branch in value[1])
        elif name in _REPEATS:
            least, most, content = value
            inner = _ways(content)
            ways = sum(inner**times for times in range(least, min(most, MAX_WIDTH) + 1))
        else:
            raise ValueError(
                "it refers back or looks around, or has an atomic group; only what is matched itself may stand in it"
            )
        total = min(total * ways, MAX_WAYS + 1)
    return total


def compiled(pattern: str, key: str) -> re.Pattern[str]:
    """A pattern, ready for use; letters are matched in either case.

    Args:
        pattern: a regular expression of Python's.
        key: where it stands in the rules, for the message.

    Raises:
        PolicyError: it breaks one of the rules above: names the key and the rule.
    """
    if not 0 < len(pattern) <= MAX_PATTERN:
        raise PolicyError(f"{key}: a pattern has 1 to {MAX_PATTERN} characters; this one has {len(pattern)}")
    try:
        parsed = _parser.parse(pattern)
        least, most = parsed.getwidth()
        if not (least >= MIN_WIDTH and most <= MAX_WIDTH):
            raise PolicyError(
                f"{key}: what a pattern matches has {MIN_WIDTH} to {MAX_WIDTH} characters; write {{1,20}} where it has + or *"
            )
        if _ways(parsed) > MAX_WAYS:
            raise PolicyError(
                f"{key}: it can match at one place in more than {MAX_WAYS} ways, and would be slow on a text made for that;"
                " narrow its repetitions"
            )
        return re.compile(pattern, re.IGNORECASE)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise PolicyError(f"{key}: not a pattern that can be used: {error}") from error


class OwnPatterns:
    """Finds what the owner's patterns describe."""

    protects = frozenset[str]()

    def __init__(self, patterns: Mapping[str, tuple[str, ...]]) -> None:
        self._patterns = [
            (name, compiled(pattern, f"{name}[{place}]"))
            for name, several in patterns.items()
            for place, pattern in enumerate(several)
        ]
        self.names = frozenset(patterns)

    def find(self, text: str) -> Iterator[Match]:
        """Find all. Takes time in proportion to the text's length."""
        for name, pattern in self._patterns:
            for found in pattern.finditer(text):
                yield Match(name, *found.span(), found[0].upper())
