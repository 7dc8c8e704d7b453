"""Which corpus a name at the gateway means, and by which way it is searched: what `Client.corpus` opens.

| profile | whose | searched |
|---|---|---|
| `sealed-sync` | one's own, at rest at the gateway, which cannot read it | here, after what is new was fetched |
| `attested` | the same | in the memory of a node that proved what it is |
| `encrypted-query` | somebody else's, hosted as two models | by a node, on ciphertexts |

Where no profile is said, what is given says it: a `model` is what searches an attested one, and `passphrase`, `ranking`, `create`,
`offline` and `at_least` are of one's own. Where that does not decide, a cache on this machine does, then the tenant's own corpora,
and then the models, by the gateway's word. That word is believed no further: a corpus of one's own opens by its key alone, and
somebody else's has a publisher whom the policy trusts. A gateway that lies about which there is causes an error, or is asked by
ciphertexts.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, get_args

from blindgate.attested_corpus import AttestedCorpus
from blindgate.hosted_corpus import EncryptedCorpus, open_corpus
from blindgate.model import Model
from blindgate.sealed_job import Sealing
from blindgate.synced_corpora import SyncedCorpora
from blindgate_protocol.errors import CorpusError, InputError
from blindgate_protocol.manifest import Api
from blindgate_rag.embedding import Embedder
from blindgate_rag.sync.corpus import SyncedCorpus

Profile = Literal["sealed-sync", "encrypted-query", "attested"]
RemoteCorpus = SyncedCorpus | EncryptedCorpus | AttestedCorpus

_OWN: Final = ("passphrase", "ranking", "create", "offline", "at_least")
_TAKES: Final[Mapping[Profile, frozenset[str]]] = {
    "sealed-sync": frozenset({"embedder", *_OWN}),
    "encrypted-query": frozenset({"embedder", "data_class", "timeout"}),
    "attested": frozenset({"model", "passphrase", "ranking", "at_least", "data_class"}),
}
_EXPECTED: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "embedder": (
        lambda given: given is None or isinstance(given, Embedder),
        "an Embedder, such as Embedder.open(folder)",
    ),
    "model": (lambda given: given is None or isinstance(given, str), "a model's name"),
    "data_class": (lambda given: given is None or isinstance(given, str), "a text, the policy's name for a class"),
    "create": (lambda given: isinstance(given, bool), "True or False"),
    "offline": (lambda given: isinstance(given, bool), "True or False"),
    "at_least": (lambda given: isinstance(given, int) and given >= 0, "a generation, a whole number from 0"),
    "timeout": (
        lambda given: given is None or (isinstance(given, int | float) and given > 0),
        "seconds above 0, or None",
    ),
}
"""What is given is held against this first: later it would have cost a search of the budget, or (`at_least`) bound nothing."""


def open_remote(  # noqa: PLR0913  (the ways to each profile)
    name: str,
    profile: Profile | None,
    options: Mapping[str, Any],
    *,
    own: SyncedCorpora,
    take: Callable[[str, str | None], Model],
    sealing: Callable[[str, Api], Sealing],
    show_progress: bool | None,
) -> RemoteCorpus:
    """Open the corpus that is called so. See `Client.corpus`; `options` are those that were given.

    Raises `InputError` for a profile, or an option, that there is not; `CorpusError` where there is no such corpus; and what each
    profile does.
    """
    for option, (holds, expected) in _EXPECTED.items():
        if option in options and not holds(given := options[option]):
            message = f"{option} is {given!a:.100}: expected {expected}"
            raise InputError(message)
    chosen = _chosen(name, options, own) if profile is None else profile
    if chosen not in get_args(Profile):
        message = f"profile {chosen!a:.100}: expected one of {', '.join(get_args(Profile))}"
        raise InputError(message)
    if others := [option for option in options if option not in _TAKES[chosen]]:
        message = f"{others[0]}: not an option of profile {chosen!r}, which takes {', '.join(sorted(_TAKES[chosen]))}"
        raise InputError(message)
    if chosen == "encrypted-query":
        return open_corpus(take, name, **options)
    if chosen == "sealed-sync":
        return own.open(name, **options, show_progress=show_progress)
    if options.get("model") is None:
        message = f"corpus {name!r}: name the model that searches it, in a node that proved what it is: model=…"
        raise InputError(message)
    rest = {option: value for option, value in options.items() if option != "model"}
    return own.attested(name, sealing=partial(sealing, options["model"], "corpus"), **rest)


def _chosen(name: str, options: Mapping[str, Any], own: SyncedCorpora) -> Profile:
    if "model" in options:
        return "attested"
    if any(option in options for option in _OWN):
        return "sealed-sync"
    if (found := profile_of(name, own)) is None:
        message = f"the gateway has no corpus {name!r}, neither of your own nor hosted; profile='sealed-sync' makes one of your own"
        raise CorpusError(message)
    return found


def profile_of(name: str, own: SyncedCorpora) -> Profile | None:
    """What a corpus of this name is: by what this machine has, or by the gateway's word; `None` where there is none."""
    if own.is_here(name) or own.is_there(name):
        return "sealed-sync"
    return "encrypted-query" if own.is_hosted(name) else None
