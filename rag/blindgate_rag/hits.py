"""What a search finds, and who could have learnt what from its being asked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from blindgate_rag.records import MetadataValue


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found.

    Attributes:
        source: its document, as the corpus calls it.
        page: where it begins; `None` where a document has no pages.
        score: by what it was ranked; higher is better, and scores of different searches do not compare.
        metadata: its document's.
        passage: its id in the corpus, for good: what a citation names.
        tokens: how long it is, in the embedding model's tokens.
    """

    text: str
    source: str
    page: int | None
    score: float
    metadata: Mapping[str, MetadataValue]
    passage: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Learned:
    """What somebody could learn of a search.

    Attributes:
        who: such as `the node`.
        what: in words.
    """

    who: str
    what: str


@dataclass(frozen=True, slots=True)
class Leakage:
    """Who could learn what from one search.

    Attributes:
        profile: where the index lives: `local`, or one of the remote profiles.
        learned: empty where nobody but who asked could learn anything.
    """

    profile: str
    learned: tuple[Learned, ...] = ()

    def __str__(self) -> str:
        if not self.learned:
            return f"{self.profile}: nobody but you could learn anything of this search"
        return f"{self.profile}: " + "; ".join(f"{one.who}: {one.what}" for one in self.learned)


LOCAL = Leakage("local")


@dataclass(frozen=True, slots=True)
class Hits(Sequence[Hit]):
    """What was found, the best first.

    Attributes:
        leakage: who could have learnt what.
        missing: how many more were found, in a corpus that lives elsewhere, whose text did not come back as its owner wrote it, or
            by a score that is not that text's.
    """

    found: tuple[Hit, ...]
    leakage: Leakage
    missing: int = 0

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        """The hit at a place, or those of a slice."""
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.found)
