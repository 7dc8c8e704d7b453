"""Two that answer a question about the log's events: a gateway, which chooses, and an export, which has them all.

A gateway is asked with an auditor's API key, and translates a tenant's name. An export is a folder that lay still since it was
written: it knows tenants by their pseudonyms alone.

`key_of` finds the one key whose digest begins as somebody typed it.
"""

import re
from collections.abc import Iterator
from typing import Final

from blindgate_audit.gateway import Gateway
from blindgate_audit.report import Answers, Proof, Question, prove
from blindgate_audit.sources import Folder
from blindgate_audit.tree import ProvenTree
from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.errors import InputError, LogError
from blindgate_protocol.events import Action
from blindgate_protocol.logged import Logged

_LEAST: Final = 4
_MOST_NAMED: Final = 5
_PREFIX: Final = re.compile(rf"(?:key:)?(?:{DIGEST_PREFIX})?([0-9a-f]{{1,64}})…?")
_PSEUDONYM: Final = re.compile(r"tenant-[0-9a-f]{32}")
_WHOLE: Final = 64
_FIRST: Final = (Action.KEY_REGISTERED, Action.KEY_ACTIVATED)


class GatewayAnswers:
    """The gateway's events for auditors."""

    whole = False

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def events(self, question: Question) -> Iterator[Logged]:
        """What the gateway gives for the question."""
        return self._gateway.events(
            object_id=question.object,
            tenant=question.name or question.tenant,
            action=None if question.action is None else question.action.value,
            since=question.since,
            until=question.until,
        )


class FolderAnswers:
    """Every event of an export. Raises `LogError` for a folder that has none."""

    whole = True

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.events(Question())

    def events(self, question: Question) -> Iterator[Logged]:  # noqa: ARG002  (whoever asks chooses)
        """All there are."""
        events = self._folder.events()
        if events is None:
            message = f"{self._folder.name}: a log without its events; `blindgate audit export` with an auditor's key writes both"
            raise LogError(message)
        return events


def tenant_question(tenant: str, *, since: int | None, until: int | None, folder: bool) -> Question:
    """The question for everything of a tenant. Raises `InputError` for a name where only pseudonyms are known."""
    if _PSEUDONYM.fullmatch(tenant):
        return Question(tenant=tenant, since=since, until=until)
    if folder:
        message = f"{tenant!r}: an export knows tenants by pseudonym, tenant- and 32 hexadecimal digits; the gateway translates"
        raise InputError(message)
    return Question(name=tenant, since=since, until=until)


def key_of(text: str, answers: Answers, tree: ProvenTree) -> str:
    """The digest of the key that `text`, a digest or the beginning of one, stands for.

    Raises `InputError` for what is no beginning of a digest, or of several keys' or none's.
    """
    match = _PREFIX.fullmatch(text)
    if match is None or len(match.group(1)) < _LEAST:
        message = f"not a key: {text!r}; expected its digest, {DIGEST_PREFIX} and 64 hexadecimal digits, or its first {_LEAST}"
        raise InputError(message)
    digits = match.group(1)
    if len(digits) == _WHOLE:
        return DIGEST_PREFIX + digits
    begins = f"key:{DIGEST_PREFIX}{digits}"
    found: set[str] = set()
    for question in (Question(),) if answers.whole else tuple(Question(action=action) for action in _FIRST):
        for row in prove(answers, tree, question):
            if row.proof is Proof.IN_LOG and row.event is not None and row.event.object.startswith(begins):
                found.add(row.event.object.removeprefix("key:"))
            if len(found) > _MOST_NAMED:
                break
    if len(found) == 1:
        return found.pop()
    if not found:
        message = f"the log tells of no key whose digest begins with {digits}"
        raise InputError(message)
    message = (
        f"{digits} is the beginning of several keys: {', '.join(sorted(found)[:_MOST_NAMED])}; give more of the digest"
    )
    raise InputError(message)
