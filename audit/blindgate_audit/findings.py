"""What an audit finds wrong: which rule does not hold, and at which index of the log.

The rules, by name, as scripts may read them:

    checkpoint      the checkpoint has the form and the log's signature
    cosignatures    as many witnesses cosigned as are wanted, each line of theirs verifies
    key             the log's key is the one that was trusted or remembered
    rollback        the log has not become smaller than it was seen
    fork            the log begins with what was seen of it
    missing         every tile and bundle is there, with the length that its name says
    entry-form      an entry is a commitment of a version that is known
    entry-hash      an entry hashes to what the tile of level 0 has at its place
    subtree-hash    a hash of a higher tile is the root of the entries below it
    version         a tile's other files, of when the log was smaller, begin alike
    root            the entries lead to the root that the log signed
    gap             every entry has its event
    commitment      an event and its salt are what the entry commits to
    event-form      what was committed to is an event
    action          an event is of an action that this version has a name for; asked for by --strict alone
    erasure         an event that is gone was erased, and a later event says so
    submission      a job's success states the time for its order that was logged when that came
    row             a row of the gateway's tables says what documents and the log say
    record          a key's statement or a receipt on record has its event, and the other way round

A log can be wrong at every place: `Findings` counts all, and keeps the first of them, so a hostile log costs no memory.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MOST_KEPT: Final = 100


@dataclass(frozen=True)
class Finding:
    """One thing that does not hold.

    Attributes:
        index: the entry at fault, or the first of them; `None` where it is none of the entries.
        rule: the name of the rule that it breaks.
        message: the same in words.
    """

    index: int | None
    rule: str
    message: str


class Findings:
    """All that was found: the first ones, and how many.

    Attributes:
        of: how many break each rule.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._kept: list[Finding] = []
        self.of: Counter[str] = Counter()

    def add(self, rule: str, message: str, *, index: int | None = None) -> None:
        """Note that `rule` does not hold."""
        self.of[rule] += 1
        if len(self._kept) < self._most:
            self._kept.append(Finding(index, rule, message))

    @property
    def count(self) -> int:
        """How many there are in all."""
        return self.of.total()

    @property
    def rest(self) -> int:
        """How many are counted and not kept."""
        return self.count - len(self._kept)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._kept)
