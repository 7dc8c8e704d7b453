"""A key's life, as this client states it: each statement is signed, written down, sent, and held against what the gateway shows.

The client keeps its own chain (`statements`). Whenever the gateway shows a key,

1. the last statement that it shows must be the last one of the chain;
2. it may be the one before, if the last was never acknowledged: then that is sent again, now;
3. a chain that is not there begins with the gateway's statement, if that is the first about this key and this client's signing key
   made it: clients of before there were chains signed exactly one, and kept none;
4. the state that is shown must be the one that was signed, or `destroyed` for a destruction whose time has come.

Everything else is a `KeyHistoryError` that says what was signed and what is shown: the gateway has lost something or withholds
it, or somebody else signs with this client's key.
"""

import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, TypedDict, Unpack

from pydantic import ValidationError

from blindgate.statements import Chain, OwnStatements
from blindgate.transport import Transport
from blindgate.uploads import blob_ref, upload
from blindgate_protocol.errors import GatewayError, InputError, KeyHistoryError, NotFoundError
from blindgate_protocol.keys import KeyState, KeyStatement, check_statement
from blindgate_protocol.logged import Logged, LoggedPage
from blindgate_protocol.messages import KeyList, KeyRequest, KeyView
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import Signed, SigningKey, first_error, open_signed
from blindgate_protocol.values import BlobRef, Millis

_AGAIN: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
"""Refusals that are none: the same may be sent later."""
_MOST_EVENTS: Final = 100_000
"""No key has more: who shows more would fill this machine's memory."""


class _Said(TypedDict, total=False):
    """What a statement says beside the state, where it says anything."""

    reason: str | None
    destroy_at: Millis | None
    successor: str | None


class KeyLife:
    """The keys of one tenant's client."""

    def __init__(
        self, statements: OwnStatements, transport: Transport, signer: Callable[[], SigningKey], tenant: str
    ) -> None:
        """Sign as `signer`, keep in `statements`, tell the gateway by `transport`."""
        self.statements = statements
        self._transport = transport
        self._signer = signer
        self._tenant = tenant

    @property
    def signer(self) -> str:
        """The key that signs the statements, by its id."""
        return self._signer().id

    def begin(self, evaluation: bytes, parameters: str) -> KeyView:
        """Have a key at the gateway: uploaded and stated to be active, unless it is there already."""
        ref = blob_ref(evaluation)
        with self.statements.lock():
            try:
                view = self._transport.get(f"/v1/keys/{ref.digest}", KeyView)
            except NotFoundError:
                chain = self.statements.chain(ref.digest)
                upload(self._transport, evaluation)
                if not chain:
                    return self._sign(ref, parameters, KeyState.ACTIVE, chain)
                # A gateway that was set up anew, or is another one, is told what was said, in the same words.
                return [self._send(statement) for statement in chain][-1]
            return self._settled(ref.digest, view)

    def show(self, key: str) -> KeyView:
        """The key as the gateway shows it, held against this client's own chain. Raises `KeyHistoryError`, `NotFoundError`."""
        with self.statements.lock():
            return self._settled(key, self._shown(key))

    def state(
        self,
        key: str,
        state: KeyState | None,
        *,
        reason: str | None = None,
        destroy_at: Millis | None = None,
        successor: str | None = None,
    ) -> KeyView:
        """Say that a key is in `state` from now on; `None` leads back to use: resumed, or a scheduled destruction called off.

        `successor`: the digest of the key that takes the place of one that is superseded, where there is one.
        Raises `MalformedError` when that cannot follow on what was said before, and `KeyHistoryError` as `show` does.
        """
        with self.statements.lock():
            self._settled(key, self._shown(key))
            chain = self.statements.chain(key)
            last = chain[-1].document
            following = _resumed(chain) if state is None else state
            if state is None and following is KeyState.SUPERSEDED:
                successor = chain[-2].document.successor  # as it was said before
            said = _Said(reason=reason, destroy_at=destroy_at, successor=successor)
            return self._sign(last.key, last.parameters, following, chain, **said)

    def resend(self, key: str) -> int:
        """Send what this gateway has not got of the chain: it is another one, or was restored from a backup. Gives how many."""
        with self.statements.lock():
            chain = self.statements.chain(key)
            try:
                shown = open_signed(self._transport.get(f"/v1/keys/{key}", KeyView).statement, KeyStatement)
            except NotFoundError:
                raise _lost(key, chain) from None
            _require_own(key, chain, shown)
            missing = chain[shown.document.sequence :]
            for statement in missing:
                self._send(statement)
        return len(missing)

    def listed(self) -> tuple[KeyView, ...]:
        """The tenant's keys, as the gateway lists them. Nothing is checked."""
        return self._transport.get("/v1/keys", KeyList).keys

    def events(self, key: str) -> Iterator[Logged]:
        """What the gateway's log has about a key, in its order. Raises `KeyHistoryError` for a list that has no end."""
        path = f"/v1/keys/{key}/events"
        after, count = -1, 0
        while True:
            page = self._transport.get(path if after < 0 else f"{path}?after={after}", LoggedPage)
            count += len(page.events)
            if count > _MOST_EVENTS or (page.after is not None and page.after <= after):
                message = f"key {key}: the gateway's list of its events does not end"
                raise KeyHistoryError(message)
            yield from page.events
            if page.after is None:
                return
            after = page.after

    def _shown(self, key: str) -> KeyView:
        try:
            return self._transport.get(f"/v1/keys/{key}", KeyView)
        except NotFoundError:
            chain = self.statements.chain(key)
            if chain:
                raise _lost(key, chain) from None
            raise

    def _settled(self, key: str, view: KeyView) -> KeyView:
        """Hold what the gateway shows against the chain, by the rules above."""
        shown = open_signed(view.statement, KeyStatement)
        chain = self.statements.chain(key)
        # 3.
        if not chain and shown.signer == self._signer().id and shown.document.sequence == 1:
            check_statement(shown, None)
            self.statements.append(shown)
            self.statements.acknowledged(key)
            chain = (shown,)
        _require_own(key, chain, shown)
        behind = len(chain) - shown.document.sequence
        # 2.
        if behind == 1 and self.statements.unsent(key) is not None:
            return self._send(chain[-1])
        # 1.
        if behind:
            raise _lost(key, chain, shown)
        self.statements.acknowledged(key)
        # 4.
        _require_state(key, view, shown.document)
        return view

    def _sign(
        self,
        key: BlobRef,
        parameters: str,
        state: KeyState,
        chain: Chain,
        **said: Unpack[_Said],
    ) -> KeyView:
        try:
            document = KeyStatement(
                key=key,
                tenant=self._tenant,
                parameters=parameters,
                state=state,
                client=self._signer().id,
                sequence=len(chain) + 1,
                previous=chain[-1].digest if chain else None,
                issued=int(time.time() * 1000),
                **said,
            )
        except ValidationError as error:
            message = f"this cannot be said about a key: {first_error(error)}"
            raise InputError(message) from error
        statement = self._signer().sign(document)
        check_statement(statement, chain[-1] if chain else None, chain[-2] if len(chain) > 1 else None)
        self.statements.append(statement)
        return self._send(statement)

    def _send(self, statement: Signed[KeyStatement]) -> KeyView:
        key, last = statement.document.key.digest, self.statements.unsent(statement.document.key.digest)
        try:
            view = self._transport.post("/v1/keys", KeyRequest(statement=statement.envelope), KeyView)
        except GatewayError as error:
            if last == statement.digest and _is_refused(error):
                self.statements.withdraw(statement)
            raise
        if last == statement.digest:
            self.statements.acknowledged(key)
        return view


def _resumed(chain: Chain) -> KeyState:
    """Where a key comes to be when what keeps it from use is over."""
    last = chain[-1].document
    if last.state is KeyState.DESTRUCTION_SCHEDULED and len(chain) > 1:
        return chain[-2].document.state
    if last.state is KeyState.ACTIVE:
        message = f"key {last.key.digest} is active: there is nothing to resume"
        raise InputError(message)
    return KeyState.ACTIVE


def _require_own(key: str, chain: Chain, shown: Signed[KeyStatement]) -> None:
    """The statement that is shown must be one of the chain."""
    document = shown.document
    number = document.sequence
    if document.key.digest != key:
        message = f"asked for key {key}, the gateway shows a statement about {document.key.digest}"
        raise KeyHistoryError(message)
    if number <= len(chain) and chain[number - 1].digest == shown.digest:
        return
    signed = f"{len(chain)} statements about it" if chain else "nothing about it"
    what = f"statement {number}, that it is {document.state.value}, signed by {shown.signer}"
    message = (
        f"key {key}: the gateway shows {what}; this client has signed {signed} and not that one. Another home has the same signing "
        "key, or somebody else has it: see `blindgate keys monitor`"
    )
    raise KeyHistoryError(message)


def _lost(key: str, chain: Chain, shown: Signed[KeyStatement] | None = None) -> KeyHistoryError:
    signed = f"{len(chain)} statements, the last that it is {chain[-1].document.state.value}" if chain else "nothing"
    if shown is None:
        told = "does not know the key"
        remedy = "if it is another one, using a model uploads the key and says everything again"
    else:
        told = f"shows statement {shown.document.sequence} as the last one"
        remedy = "if it was restored from a backup, or is another one: `blindgate keys resend`"
    return KeyHistoryError(
        f"key {key}: this client has signed {signed}; the gateway {told}. It withholds the rest; or, {remedy}"
    )


def _require_state(key: str, view: KeyView, last: KeyStatement) -> None:
    is_over = last.destroy_at is not None and last.destroy_at - CLOCK_SKEW <= time.time() * 1000
    if view.state is last.state or (view.state is KeyState.DESTROYED and is_over):
        return
    message = f"key {key}: the gateway says {view.state.value}, this client has signed {last.state.value}"
    raise KeyHistoryError(message)


def _is_refused(error: GatewayError) -> bool:
    """Whether the gateway has decided, and would decide the same again."""
    status = error.status
    return (
        status is not None
        and HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        and status not in _AGAIN
    )
