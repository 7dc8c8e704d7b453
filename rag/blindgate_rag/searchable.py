"""The one face of every corpus, wherever it lives: it is searched, and each search says who could have learnt what of it."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from blindgate_rag.hits import Hits
from blindgate_rag.records import Where

if TYPE_CHECKING:
    from blindgate_rag.searching import Ranking  # which takes what it takes to search


@runtime_checkable
class Searchable(Protocol):
    """Whatever can be searched as a corpus is: on this machine, or elsewhere."""

    @property
    def name(self) -> str:
        """What it is called where it lies."""

    def search(
        self,
        query: str,
        k: int | None = None,
        *,
        where: Where | None = None,
        ranking: "Ranking | None" = None,
        tokens: int | None = None,
    ) -> Hits:
        """The passages that fit a question best, the best first, and who could have learnt what.

        Args:
            query: the question, or words.
            k: how many; 8 where it is not said, or as many as this corpus gives at most. Fewer are given where there are no more.
            where: only documents whose metadata is so.
            ranking: by what; by default what the corpus has.
            tokens: no more text than this, in the tokens of the corpus's embedding model.

        Raises `InputError` for what this corpus cannot be asked.
        """

    def close(self) -> None:
        """Give back what it takes to search: memory, connections."""
