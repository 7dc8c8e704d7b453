"""This client's keys: its signing key, and a key set for each set of parameters.

Models with the same parameters share a key set, so a key is made once and found again by the next process. The order of
things on first use, so that a crash at any point loses nothing and leaks nothing:

1. make the key set;
2. seal the secret key in the key store;
3. upload the evaluation key and register it at the gateway, with a statement signed by this client.

A secret that was sealed and whose evaluation key never arrived is found again, and step 3 is done then.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from blindgate.keystore import SecretStore
from blindgate.progress import working
from blindgate.transport import Transport
from blindgate.uploads import upload
from blindgate_models.halves import ClientHalf, KeySet
from blindgate_protocol.canonical import canonical, digest
from blindgate_protocol.errors import KeyStoreError, NotFoundError
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.messages import KeyRequest, KeyView
from blindgate_protocol.order import Order
from blindgate_protocol.signing import SigningKey
from blindgate_protocol.values import BlobRef

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

    def __init__(self, store: SecretStore, transport: Transport, tenant: str) -> None:
        """Look for keys in `store`; register evaluation keys through `transport`."""
        self._store = store
        self._transport = transport
        self._tenant = tenant
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
                keys = self._stored(name)
                if keys is None:
                    with working("making keys (once for these parameters)", show=show_progress):
                        keys = half.make_keys()
                    self._seal(name, keys, parameters)
            evaluation = None if keys.evaluation is None else self._register(keys.evaluation, parameters)
            self._ready[parameters] = Key(keys.secret, evaluation)
        return self._ready[parameters]

    def key_of(self, order: Order, half: ClientHalf) -> Key:
        """The key set that an order's rows were encrypted with.

        Raises `KeyStoreError` where it is not here any more: another one would decrypt the result to numbers that look like
        an answer.
        """
        name = self._name(digest(canonical(half.key_parameters)))
        keys = self._stored(name)
        about = self._store.get(f"{name}.about")
        if keys is None or about is None or json.loads(about)["made"] > order.issued:
            message = f"job {order.job}: the key that its rows were encrypted with is not in this key store"
            raise KeyStoreError(message)
        return Key(keys.secret, order.evaluation_key)

    def _name(self, parameters: str) -> str:
        return f"{self._tenant}.{parameters.removeprefix('sha256:')[:32]}"

    def _stored(self, name: str) -> KeySet | None:
        secret = self._store.get(f"{name}.secret")
        if secret is None:
            return None
        about = self._store.get(f"{name}.about")
        if about is None:
            return None
        evaluation = self._store.get(f"{name}.evaluation") if json.loads(about)["evaluation"] else None
        return KeySet(secret, evaluation)

    def _seal(self, name: str, keys: KeySet, parameters: str) -> None:
        self._store.put(f"{name}.secret", keys.secret)
        if keys.evaluation is not None:
            self._store.put(f"{name}.evaluation", keys.evaluation)
        about = {"tenant": self._tenant, "parameters": parameters, "made": int(time.time() * 1000)}
        about["evaluation"] = None if keys.evaluation is None else digest(keys.evaluation)
        # Last, so that a key set is either whole or not there.
        self._store.put(f"{name}.about", json.dumps(about).encode())

    def _register(self, evaluation: bytes, parameters: str) -> str:
        ref = BlobRef(digest=digest(evaluation), size=len(evaluation))
        try:
            known = self._transport.get(f"/v1/keys/{ref.digest}", KeyView)
        except NotFoundError:
            upload(self._transport, evaluation)
            statement = KeyStatement(
                key=ref,
                tenant=self._tenant,
                parameters=parameters,
                state=KeyState.ACTIVE,
                client=self.signer.id,
                sequence=1,
                previous=None,
                issued=int(time.time() * 1000),
            )
            known = self._transport.post(
                "/v1/keys", KeyRequest(statement=self.signer.sign(statement).envelope), KeyView
            )
        if known.state is not KeyState.ACTIVE:
            message = f"evaluation key {ref.digest} is {known.state.value} at the gateway; it must be active"
            raise KeyStoreError(message)
        return ref.digest


def signing_key(store: SecretStore) -> SigningKey:
    """The key that signs this client's orders. Made on first use."""
    with store.lock():
        seed = store.get(_SIGNING_KEY)
        if seed is None:
            key = SigningKey.generate()
            store.put(_SIGNING_KEY, key.seed())
            return key
    return SigningKey.from_seed(seed)


def described(store: SecretStore) -> list[dict[str, Any]]:
    """What is known about each key set in `store`, without its secrets: for `blindgate keys list`."""
    found = []
    for name in store.names():
        about = store.get(name) if name.endswith(".about") else None
        if about is not None:
            found.append(json.loads(about))
    return found
