"""From a corpus of one's own to two packages that nodes can run for others: its index, and its passages.

1. The passages become records of one size (`hosted_records`), and those a table that is fetched from by position (`lookup`).
2. The table is signed first. The index's client part names it by its manifest's digest, and each record by its own, so that the
   signature over the index holds for both.
3. The vectors become an index in eight bits (`search`), and it is signed. Before that, some are held against what the embedder
   gives their texts: askers hold all that they find so (`hosted_scores`), and would find nothing in an index that does not hold.

What askers may filter by (`filter_by`) stands in the index's client part, too: of every passage, for every asker to read.

Both have the same privacy, and budgets that end together: a search is one row of the index and `fetches` rows of the table.

Nodes hold vectors and passages in clear. So a corpus is hosted with nodes that may read it; what is hidden is what others ask, and,
in the mode `model_private`, from those who ask, all that they did not pay for with their budget.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from blindgate.hosted_filters import offered
from blindgate.hosted_records import record_digest, written
from blindgate.hosted_scores import require_vectors
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.lookup import compile_lookup
from blindgate_models.compilers.search import compile_search
from blindgate_models.lookup.client import LookupClient
from blindgate_models.product.spec import Privacy
from blindgate_models.publishing import open_package, publish
from blindgate_models.search.hosted import MAX_FETCHES, EmbedderRef, HostedCorpus, packed_digests
from blindgate_protocol.errors import InputError
from blindgate_protocol.signing import SigningKey
from blindgate_protocol.values import MAX_TEXT, NAME, Millis
from blindgate_rag.corpus import Corpus
from blindgate_rag.passages import is_text

DEFAULT_FETCHES: Final = 8
_SUFFIX: Final = "-passages"
_MOST_COUNTED: Final = 1 << 53


@dataclass(frozen=True)
class HostedPackages:
    """What is to be published, the passages first.

    Attributes:
        passages: the package of the table.
        index: the package of the index.
        table: the table, as it was compiled.
        search: the index, as it was compiled.
        fetches: how many records a search fetches.
        filter_by: the fields that every asker reads of every passage.
    """

    passages: bytes
    index: bytes
    table: CompiledModel
    search: CompiledModel
    fetches: int
    filter_by: tuple[str, ...] = ()

    @property
    def bytes_up(self) -> int:
        """What a search sends, without orders."""
        return self._search("ciphertext_bytes_per_row")

    @property
    def bytes_down(self) -> int:
        """What a search gets, without receipts."""
        return self._search("result_bytes_per_row")

    @property
    def seconds(self) -> float:
        """What a search takes a node, on one core of this machine."""
        return (
            self.search.report["expected_seconds_per_row"]
            + self.fetches * self.table.report["expected_seconds_per_row"]
        )

    def _search(self, member: Literal["ciphertext_bytes_per_row", "result_bytes_per_row"]) -> int:
        return round(self.search.report[member] + self.fetches * self.table.report[member])


def host(  # noqa: PLR0913  (what an owner decides)
    corpus: Corpus,
    publisher: SigningKey,
    *,
    name: str,
    version: int,
    summary: str,
    issued: Millis,
    expires: Millis | None = None,
    queries_per_tenant: int | None = None,
    fetches: int = DEFAULT_FETCHES,
    public: bool = False,
    filter_by: Sequence[str] = (),
) -> HostedPackages:
    """Sign a corpus as version `version` of `name`.

    Args:
        corpus: whose passages and vectors.
        publisher: the key that signs both.
        name: what askers call it; the table is called the same with `-passages` behind.
        version: above every one that was published under this name; of both.
        summary: a sentence for people.
        issued: from when it is valid, in milliseconds since 1970.
        expires: until when; a year after `issued` by default.
        queries_per_tenant: how many searches a tenant may make in all; it must be said of a corpus that is hidden.
        fetches: how many passages every search fetches, and so the most that it gives.
        public: whether askers may know all of it: smaller and faster, and replies hide nothing.
        filter_by: the fields of documents' metadata that a search's `where` may name. Every asker reads their values, of every
            passage, and of no other field.

    Raises `InputError` naming what does not fit, `CorpusError` where the vectors are not the embedder's, and `PackageError` where
    no parameters hold and hide it.
    """
    _require(name, queries_per_tenant, fetches, public=public)
    _require_stated(version, summary, issued, expires)
    contents, embedder = corpus.contents(), corpus.embedder
    if not contents.passages:
        message = f"{corpus.path}: a corpus without a passage cannot be hosted"
        raise InputError(message)
    privacy: Privacy = "model_public" if public else "model_private"
    filters = offered(contents.passages, filter_by)
    require_vectors(contents, embedder, where=str(corpus.path))
    # 1.
    records = written(contents.passages)
    table = compile_lookup(records, privacy=privacy)
    most = LookupClient.from_part(table.client).rows_per_job
    if fetches > most:
        message = f"fetches: got {fetches}, expected at most {most}, as many as one job fetches of so many passages"
        raise InputError(message)
    # 2.
    rows = None if queries_per_tenant is None else queries_per_tenant * fetches
    signed = publish(
        table,
        publisher,
        name=name + _SUFFIX,
        version=version,
        summary=f"The passages of {name}.",
        issued=issued,
        expires=expires,
        rows_per_tenant=rows,
    )
    hosted = HostedCorpus(
        embedder=EmbedderRef(
            name=embedder.name, digest=embedder.digest, dimension=embedder.dimension, limit=embedder.limit
        ),
        passages=name + _SUFFIX,
        manifest=open_package(signed).manifest.digest,
        fetches=fetches,
        digests=packed_digests([record_digest(record) for record in records]),
        filters=filters,
    )
    # 3.
    search = compile_search(contents.vectors, privacy=privacy, corpus=hosted)
    index = publish(
        search,
        publisher,
        name=name,
        version=version,
        summary=summary,
        issued=issued,
        expires=expires,
        rows_per_tenant=queries_per_tenant,
    )
    return HostedPackages(signed, index, table, search, fetches, tuple(filter_by))


def _require_stated(version: int, summary: str, issued: Millis, expires: Millis | None) -> None:
    """Refuse what no manifest can state, before minutes of compiling."""
    for field, value, least in (("version", version, 1), ("issued", issued, 0), ("expires", expires, issued)):
        if value is None and field == "expires":
            continue
        if type(value) is not int or not least <= value < _MOST_COUNTED:
            message = f"{field}: got {value!a:.100}, expected a whole number from {least} on, and no more than JSON's readers count"
            raise InputError(message)
    if not isinstance(summary, str) or not is_text(summary) or len(summary) > MAX_TEXT:
        got = f"{len(summary)} characters" if isinstance(summary, str) else f"a {type(summary).__name__}"
        message = f"summary: got {got}, expected a text of at most {MAX_TEXT}"
        raise InputError(message)


def _require(name: str, queries_per_tenant: int | None, fetches: int, *, public: bool) -> None:
    if not isinstance(name, str) or not re.fullmatch(NAME, name + _SUFFIX):
        longest = 64 - len(_SUFFIX)
        message = (
            f"name: got {name!a:.100}, expected small letters, digits and . _ - between, and at most {longest} of them"
        )
        raise InputError(message)
    if queries_per_tenant is None and not public:
        message = (
            "queries per tenant: expected a number: exact scores give an index away in the end, to each tenant after about a third "
            "as many queries as a vector has numbers; or host it as public"
        )
        raise InputError(message)
    if queries_per_tenant is not None and (
        type(queries_per_tenant) is not int or not 1 <= queries_per_tenant * MAX_FETCHES < _MOST_COUNTED
    ):
        message = f"queries per tenant: got {queries_per_tenant!a:.100}, expected 1 or more, and no more than JSON's readers count"
        raise InputError(message)
    if type(fetches) is not int or not 1 <= fetches <= MAX_FETCHES:
        message = f"fetches: got {fetches!a:.100}, expected 1 to {MAX_FETCHES}"
        raise InputError(message)
