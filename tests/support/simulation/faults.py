"""What goes wrong, where, and how often it did.

Every point at which the outside can fail asks `strike` with the kinds of failure that are possible there. One fuse burns down over
all points together, so a schedule's faults are spread over whatever it does most, and most points cost a subtraction.

`Tally` counts what happened, so that nobody has to believe that a simulation reaches the dead letter.
"""

import random
from collections import Counter
from typing import Final

NONE_IN: Final = 8
"""One schedule in so many has no faults: what goes wrong there is nobody's fault."""
_FEWEST, _MOST = 25, 900
"""A fault every so many points, on average; each schedule has a rate of its own in between."""


class Tally(Counter[str]):
    """How often each thing happened: `fault …`, `job …`, `answer …`."""


class Faults:
    """One schedule's faults.

    Attributes:
        on: off while the world heals.
    """

    def __init__(self, chance: random.Random, tally: Tally) -> None:
        self._chance = chance
        self._tally = tally
        self.on = chance.randrange(NONE_IN) != 0
        self._mean = _FEWEST * (_MOST / _FEWEST) ** chance.random()
        self._left = self._fuse()

    def strike(self, *kinds: str) -> str:
        """Which of `kinds` happens here; empty for none of them, mostly."""
        self._left -= 1
        if self._left > 0 or not self.on:
            return ""
        self._left = self._fuse()
        kind = kinds[int(self._chance.random() * len(kinds))]
        self._tally[f"fault {kind}"] += 1
        return kind

    def happens(self, kind: str, probability: float) -> bool:
        """Whether something that is not tied to a point happens now."""
        if not self.on or self._chance.random() >= probability:
            return False
        self._tally[f"fault {kind}"] += 1
        return True

    def _fuse(self) -> int:
        return int(self._chance.expovariate(1 / self._mean)) + 1
