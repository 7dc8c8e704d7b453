"""The one face of every corpus, wherever it lives: it is searched, and each search says who could have learnt what of it."""

from typing import Protocol

from blindgate_rag.hits import Hits
from blindgate_rag.records import Where


class Searchable(Protocol):
    """Whatever can be searched as a corpus is: on this machine, or elsewhere."""

    def search(self, query: str, k: int = 8, *, where: Where | None = None, tokens: int | None = None) -> Hits:
        """The `k` passages that fit a question best, the best first, and who could have learnt what.

        Args:
            query: the question, or words.
            k: how many; fewer are given where there are no more.
            where: only documents whose metadata is so.
            tokens: no more text than this, in the tokens of the corpus's embedding model.

        Raises `InputError` for what this corpus cannot be asked.
        """

    def close(self) -> None:
        """Give back what it takes to search: memory, connections."""
