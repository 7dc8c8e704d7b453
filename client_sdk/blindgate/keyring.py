"""This client's keys: its signing key, and a key set for each set of parameters.

Models with the same parameters share a key set, so a key is made once and found again by the next process. The order of
things on first use, so that a crash at any point loses nothing and leaks nothing:

1. make the key set;
2. seal the secret key in the key store;
3. upload the evaluation key and register it at the gateway, with a statement signed by this client.

A secret that was sealed and whose evaluation key never arrived is found again, and step 3 is done then.

A key set whose evaluation key was superseded or destroyed, by this client's own word, is set aside the next time that keys for
these parameters are asked for, and a new one is made. Or the new one is made first (`successor_of`), so that the statement that
supersedes the old one can name it. What was encrypted under the old one is still decrypted with it, for as long as its secret is
kept.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from blindgate.key_life import KeyLife
from blindgate.keystore import SecretStore
from blindgate.progress import working
from blindgate.statements import OwnStatements
from blindgate.transport import Transport
from blindgate_models.halves import ClientHalf, KeySet
from blindgate_protocol.canonical import canonical, digest
from blindgate_protocol.errors import KeyStoreError
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.order import Order
from blindgate_protocol.signing import SigningKey

_REPLACED = frozenset({KeyState.SUPERSEDED, KeyState.DESTROYED})
_SIGNING_KEY = "client-signing-key"


@dataclass(frozen=True)
class Key:
    """A key set that is ready for use.

    Attributes:
        secret: the secret key.
        evaluation: the evaluation key's digest; `None` where the family needs none.
    """

    secret: bytes
    evaluation: str | None

    def __repr__(self) -> str:
        return f"Key(secret=<hidden>, evaluation={self.evaluation!r})"


class KeyRing:
    """The keys of one tenant in one key store."""

    def __init__(self, store: SecretStore, transport: Transport, tenant: str, statements: OwnStatements) -> None:
        """Look for keys in `store`; register evaluation keys through `transport`; keep what is said of them in `statements`."""
        self._store = store
        self._tenant = tenant
        self._statements = statements
        self.life = KeyLife(statements, transport, lambda: self.signer, tenant)
        self._ready: dict[str, Key] = {}
        self._signer: SigningKey | None = None

    @property
    def signer(self) -> SigningKey:
        """The key that signs this client's orders. Made on first use."""
        if self._signer is None:
            self._signer = signing_key(self._store)
        return self._signer

    def key_for(self, half: ClientHalf, *, show_progress: bool | None) -> Key:
        """The key set for a model. Made, sealed and registered on first use."""
        parameters = digest(canonical(half.key_parameters))
        if parameters not in self._ready:
            name = self._name(parameters)
            with self._store.lock():
                self._set_aside_replaced(name)
                keys = self._stored(name)
                if keys is None:
                    with working("making keys (once for these parameters)", show=show_progress):
                        keys = half.make_keys()
                    self._seal(name, keys, parameters)
            evaluation = None if keys.evaluation is None else self._register(keys.evaluation, parameters)
            self._ready[parameters] = Key(keys.secret, evaluation)
        return self._ready[parameters]

    def successor_of(self, key: str, half: ClientHalf, *, show_progress: bool | None) -> str:
        """The evaluation key that takes the place of `key`: made now, sealed and registered, unless that was done before.

        `half` is that of a model with the same parameters. Nothing is said of `key` yet: a crash in between leaves both in use at
        the gateway, and the new one is found again.
        """
        parameters = digest(canonical(half.key_parameters))
        name = self._name(parameters)
        with self._store.lock():
            about = self._about(name)
            if about is not None and about["evaluation"] == key:
                with working("making keys (once for these parameters)", show=show_progress):
                    keys = half.make_keys()
                self._set_aside(name, key)
                self._seal(name, keys, parameters)
        self._ready.pop(parameters, None)
        found = self.key_for(half, show_progress=show_progress).evaluation
        if found is None or found == key:
            message = f"key {key}: these parameters need no evaluation key, so nothing takes its place"
            raise KeyStoreError(message)
        return found

    def evaluation_key(self, half: ClientHalf, named: str) -> bytes | None:
        """The bytes of the evaluation key with this digest; `None` where another took its place meanwhile."""
        key = self._store.get(f"{self._name(digest(canonical(half.key_parameters)))}.evaluation")
        return key if key is not None and digest(key) == named else None

    def key_of(self, order: Order, half: ClientHalf) -> Key:
        """The key set that an order's rows were encrypted with.

        Raises `KeyStoreError` where it is not here any more: another one would decrypt the result to numbers that look like
        an answer.
        """
        name = self._name(digest(canonical(half.key_parameters)))
        for place in (name, _aside(name, order.evaluation_key)):
            about, secret = self._about(place), self._store.get(f"{place}.secret")
            if about is None or secret is None:
                continue
            if about["evaluation"] == order.evaluation_key and about["made"] <= order.issued:
                return Key(secret, order.evaluation_key)
        message = f"job {order.job}: the key that its rows were encrypted with is not in this key store"
        raise KeyStoreError(message)

    def _name(self, parameters: str) -> str:
        return f"{self._tenant}.{parameters.removeprefix('sha256:')[:32]}"

    def _stored(self, name: str) -> KeySet | None:
        secret = self._store.get(f"{name}.secret")
        if secret is None:
            return None
        about = self._about(name)
        if about is None:
            return None
        evaluation = self._store.get(f"{name}.evaluation") if about["evaluation"] else None
        return KeySet(secret, evaluation)

    def _about(self, name: str) -> dict[str, Any] | None:
        about = self._store.get(f"{name}.about")
        return None if about is None else json.loads(about)

    def _set_aside_replaced(self, name: str) -> None:
        """Make room for a new key set. A crash in between leaves the old one in one place or in both."""
        about = self._about(name)
        if about is None or about["evaluation"] is None:
            return
        chain = self._statements.chain(about["evaluation"])
        if chain and _is_replaced(chain[-1].document):
            self._set_aside(name, about["evaluation"])

    def _set_aside(self, name: str, evaluation: str) -> None:
        place = _aside(name, evaluation)
        for part in ("secret", "about"):
            kept = self._store.get(f"{name}.{part}")
            if kept is not None:
                self._store.put(f"{place}.{part}", kept)
        for part in ("about", "secret", "evaluation"):
            self._store.delete(f"{name}.{part}")

    def _seal(self, name: str, keys: KeySet, parameters: str) -> None:
        self._store.put(f"{name}.secret", keys.secret)
        if keys.evaluation is not None:
            self._store.put(f"{name}.evaluation", keys.evaluation)
        about = {"tenant": self._tenant, "parameters": parameters, "made": int(time.time() * 1000)}
        about["evaluation"] = None if keys.evaluation is None else digest(keys.evaluation)
        # Last, so that a key set is either whole or not there.
        self._store.put(f"{name}.about", json.dumps(about).encode())

    def _register(self, evaluation: bytes, parameters: str) -> str:
        known = self.life.begin(evaluation, parameters)
        if known.state is not KeyState.ACTIVE:
            key = known.key.digest
            message = f"evaluation key {key} is {known.state.value} at the gateway; it must be active{_remedy(known.state, key)}"
            raise KeyStoreError(message)
        return known.key.digest


def _aside(name: str, evaluation: str | None) -> str:
    """Where a key set lies that another took the place of."""
    return name if evaluation is None else f"{name}.{evaluation.removeprefix('sha256:')[:32]}"


def _is_replaced(last: KeyStatement) -> bool:
    is_over = last.destroy_at is not None and last.destroy_at <= time.time() * 1000
    return last.state in _REPLACED or is_over


def _remedy(state: KeyState, key: str) -> str:
    if state in {KeyState.SUSPENDED, KeyState.DESTRUCTION_SCHEDULED}:
        return f": blindgate keys resume {key}"
    if state in {KeyState.DEACTIVATED, KeyState.COMPROMISED}:
        return f". Once it is destroyed, a new one is made: blindgate keys destroy {key}"
    return ""


def signing_key(store: SecretStore) -> SigningKey:
    """The key that signs this client's orders. Made on first use."""
    with store.lock():
        seed = store.get(_SIGNING_KEY)
        if seed is None:
            key = SigningKey.generate()
            store.put(_SIGNING_KEY, key.seed())
            return key
    return SigningKey.from_seed(seed)


def known_signer(store: SecretStore) -> str | None:
    """The id of the key that signs this client's orders, where there is one: none is made."""
    seed = store.get(_SIGNING_KEY)
    return None if seed is None else SigningKey.from_seed(seed).id


def described(store: SecretStore) -> list[dict[str, Any]]:
    """What is known about each key set in `store`, without its secrets: for `blindgate keys list`."""
    found = []
    for name in store.names():
        about = store.get(name) if name.endswith(".about") else None
        if about is not None:
            found.append(json.loads(about))
    return found


def forget(store: SecretStore, evaluation: str) -> bool:
    """Delete the secret key that belongs to an evaluation key, and all else of its key set. Whether there was one."""
    found = False
    with store.lock():
        for name in store.names():
            about = store.get(name) if name.endswith(".about") else None
            if about is None or json.loads(about)["evaluation"] != evaluation:
                continue
            place = name.removesuffix(".about")
            found = found or store.get(f"{place}.secret") is not None
            for part in ("secret", "evaluation", "about"):
                store.delete(f"{place}.{part}")
    return found
