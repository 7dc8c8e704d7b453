"""The public verbs: connect, take a model, predict.

    from blindgate import Client

    client = Client("http://127.0.0.1:8080", api_key="…")
    model = client.model("breast-cancer-linear")
    labels = model.predict(frame)

A `Client` holds a gateway's address, an API key, a policy and a key store. It trusts the policy and nothing else: not the
gateway, not the nodes, not the network.
"""

import os
import re
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

from blindgate.admission import Admission
from blindgate.bundles import Bundles
from blindgate.chat import Chat, Completions, Embeddings
from blindgate.documents import Documents
from blindgate.explanation import Explanation, explain
from blindgate.frames import Table
from blindgate.job import Job
from blindgate.key_life import KeyLife
from blindgate.keyring import KeyRing, known_signer
from blindgate.keystore import FileStore, SecretStore
from blindgate.logs import Logs
from blindgate.model import Model
from blindgate.places import Pathlike, home_folder, policy_file
from blindgate.policy import Policy
from blindgate.recipients import Candidates, find_recipients
from blindgate.sealed_job import Sealing
from blindgate.seen import SeenTrees, SeenVersions
from blindgate.statements import OwnStatements
from blindgate.table_model import TableModel
from blindgate.transport import Transport
from blindgate_models import clients
from blindgate_models.halves import ClientHalf
from blindgate_models.package import parse_part
from blindgate_protocol.attestations import MOST_TAKERS
from blindgate_protocol.canonical import canonical, digest
from blindgate_protocol.errors import (
    GatewayError,
    InputError,
    MalformedError,
    ManifestError,
    PackageDigestError,
    PolicyError,
)
from blindgate_protocol.keys import KeyStatement
from blindgate_protocol.manifest import Api, Manifest, check_manifest
from blindgate_protocol.messages import ModelList, ModelOffer, TenantView
from blindgate_protocol.signing import Signed, open_signed
from blindgate_protocol.values import NAME

DEFAULT_DEADLINE_SECONDS = 3600.0
_RECENT_SECONDS = 60.0


class Client(Documents):
    """Private inference through one gateway."""

    def __init__(  # noqa: PLR0913  (each is one of the places in blindgate.places)
        self,
        url: str,
        api_key: str,
        *,
        policy: Pathlike | Policy | None = None,
        home: Pathlike | None = None,
        passphrase: str | None = None,
        key_store: SecretStore | None = None,
        ca: str | None = None,
        deadline: float = DEFAULT_DEADLINE_SECONDS,
        progress: bool | None = None,
        keep_ciphertexts: bool = False,
    ) -> None:
        """Connect on first use.

        Args:
            url: the gateway's address.
            api_key: this tenant's key for it.
            policy: a policy, or where its file lies (see `blindgate.places` for the default).
            home: where keys and bundles rest.
            passphrase: what the key store is sealed with.
            key_store: another place for secrets than files in `home`.
            ca: a file of CA certificates to trust instead of the system's.
            deadline: seconds after which an order may not be worked on any more.
            progress: show progress of long work; by default when standard error is a terminal.
            keep_ciphertexts: keep beside the bundles what jobs send and get, so that they can be evaluated again by an auditor.
        """
        self._home = home_folder(home)
        self._policy = policy if isinstance(policy, Policy) else Policy.load(policy_file(policy, home))
        self._transport = Transport(url, api_key, ca=ca)
        self._store = key_store
        self._passphrase = passphrase if passphrase is not None else os.environ.get("BLINDGATE_PASSPHRASE") or None
        self._deadline = deadline
        self._progress = progress
        self._keys: KeyRing | None = None
        self._tenant: str | None = None
        self._bundles = Bundles(self._home / "bundles", ciphertexts=keep_ciphertexts)
        self._statements = OwnStatements(self._home / "statements")
        self._seen = SeenVersions(self._home / "seen.json")
        self._logs = Logs(self._policy, SeenTrees(self._home / "logs.json"))
        self._recent: dict[str, tuple[float, Signed[Manifest]]] = {}
        self._admission = Admission(self._transport)
        self.chat = Chat(Completions(self._sealing))
        self.embeddings = Embeddings(self._sealing)

    @classmethod
    def from_env(cls) -> Self:
        """Connect as `BLINDGATE_URL` and `BLINDGATE_API_KEY` say; `blindgate.places` lists the rest."""
        missing = [name for name in ("BLINDGATE_URL", "BLINDGATE_API_KEY") if not os.environ.get(name)]
        if missing:
            message = f"set {' and '.join(missing)} in the environment, or use Client(url, api_key=…)"
            raise GatewayError(message)
        return cls(os.environ["BLINDGATE_URL"], os.environ["BLINDGATE_API_KEY"])

    @property
    def policy(self) -> Policy:
        """What this client allows, and whom it trusts."""
        return self._policy

    @property
    def home(self) -> Path:
        """Where keys and bundles rest."""
        return self._home

    @property
    def bundles(self) -> Bundles:
        """What is kept of jobs."""
        return self._bundles

    @property
    def transport(self) -> Transport:
        """The way to the gateway."""
        return self._transport

    @property
    def key_store(self) -> SecretStore:
        """Where this client's secrets rest."""
        if self._store is None:
            self._store = FileStore(self._home / "keys", self._passphrase)
        return self._store

    @property
    def key_life(self) -> KeyLife:
        """What this client says about its own keys, and what it has said."""
        return self._key_ring().life

    def successor_of(self, key: str) -> str | None:
        """The digest of another evaluation key for what `key` is for, made unless it is there.

        `None` where the gateway offers no model with the same parameters that this client may use. Nothing is said of `key` itself:
        see `key_life`.
        """
        parameters = open_signed(self.key_life.show(key).statement, KeyStatement).document.parameters
        for manifest in self.models():
            if manifest.document.key_parameters == parameters:
                try:
                    half = self._taken(manifest.document.name)[1]
                except (PolicyError, ManifestError):
                    continue  # another one may be trusted, and not be over
                return self._key_ring().successor_of(key, half, show_progress=self._progress)
        return None

    @property
    def tenant(self) -> str:
        """The tenant that the API key belongs to, in the gateway's words."""
        if self._tenant is None:
            self._tenant = self._transport.get("/v1/tenant", TenantView).tenant
        return self._tenant

    def models(self) -> list[Signed[Manifest]]:
        """The manifests that the gateway offers, their signatures verified. Whether you trust their publishers is not asked."""
        listed = self._transport.get("/v1/models", ModelList).models
        return [open_signed(offer.manifest, Manifest) for offer in listed]

    def manifest(self, name: str, digest: str | None = None) -> Signed[Manifest]:
        """A model's manifest, its signature verified: the latest, or that of this digest. No publisher's trust is asked for."""
        _require_name(name)
        path = f"/v1/models/{name}" if digest is None else f"/v1/models/{name}?manifest={quote(digest)}"
        manifest = open_signed(self._transport.get(path, ModelOffer).manifest, Manifest)
        if manifest.document.name != name:
            message = f"asked for model {name!r}, the gateway serves {manifest.document.name!r}"
            raise ManifestError(message)
        if digest not in {None, manifest.digest}:
            message = f"asked for the manifest {digest} of model {name!r}, the gateway serves {manifest.digest}"
            raise PackageDigestError(message)
        return manifest

    def model(self, name: str) -> Model:
        """Take a model of tables for use.

        Checks the manifest's signature, that the policy trusts its publisher and has not revoked it, its dates, that it is no older
        version than was seen before, and that its client part is the one that it names, where it has one. Raises
        `UntrustedSignerError`, `ManifestError` or `PackageError`.
        """
        if self._believed_manifest(name).document.lane == "tee":
            return TableModel(self._sealing(name, "table"))
        return self._model(name)

    def _model(self, name: str, digest: str | None = None) -> Model:
        """A model of lane `fhe`; with `digest` the version that another signed manifest names by it, whichever was seen before."""
        manifest, half, part = self._taken(name, digest)
        return Model(
            manifest,
            half,
            part,
            tenant=self.tenant,
            policy=self._policy,
            keys=self._key_ring(),
            transport=self._transport,
            bundles=self._bundles,
            logs=self._logs,
            deadline=self._deadline,
            show_progress=self._progress,
        )

    def _sealing(self, name: str, api: Api) -> Sealing:
        """What it takes to seal requests to a model of lane `tee`, which is asked by `api`."""
        manifest = self._believed_manifest(name, recent=True)
        document = manifest.document
        if document.api != api:
            asked = "a table that is encrypted" if document.api is None else document.api
            message = f"model {name!r} is asked by {asked}, not by {api}"
            raise InputError(message)
        self._seen.remember(manifest.signer, name, document.version)
        return Sealing(
            manifest,
            tenant=self.tenant,
            signer=self._key_ring().signer,
            policy=self._policy,
            admission=self._admission,
            transport=self._transport,
            bundles=self._bundles,
            logs=self._logs,
            deadline=self._deadline,
        )

    def _taken(self, name: str, digest: str | None = None) -> tuple[Signed[Manifest], ClientHalf, bytes]:
        """A model's manifest, checked as `model` and `_model` say, its client half, and the bytes that this came from."""
        if digest is None:
            manifest = self._believed_manifest(name)
        else:
            manifest = self.manifest(name, digest)
            self.require_believed(manifest, latest=False)
        part = self._client_part(manifest)
        half = _client_half(manifest.document, part)
        self._seen.remember(manifest.signer, name, manifest.document.version)
        return manifest, half, part

    def recipients(
        self, name: str, *, node: str | None = None, enough: int = MOST_TAKERS, seconds: float = 15.0
    ) -> Candidates:
        """Ask nodes what they prove, with a fresh nonce, and judge each answer under the policy: see `blindgate.recipients`.

        Args:
            name: the model's, whose publisher the policy must trust.
            node: ask this one alone, by its name or its key.
            enough: how many nodes have to be admitted.
            seconds: how long to wait for answers.
        """
        manifest = self._believed_manifest(name)
        by_key = node is not None and node.startswith("ed25519:")
        return find_recipients(
            self._transport,
            self._policy,
            manifest.digest,
            node=node if by_key else None,
            name=None if by_key else node,
            enough=enough,
            seconds=seconds,
        )

    def _believed_manifest(self, name: str, *, recent: bool = False) -> Signed[Manifest]:
        """A model's manifest, as `require_believed` says.

        With `recent`, one that the gateway showed within the last minute will do: whether it is believed is asked now.
        """
        _require_name(name)
        asked, known = self._recent.get(name, (0.0, None))
        if not recent or known is None or time.monotonic() - asked > _RECENT_SECONDS:
            known = self.manifest(name)
            self._recent[name] = (time.monotonic(), known)
        self.require_believed(known)
        return known

    def require_believed(self, manifest: Signed[Manifest], *, latest: bool = True) -> None:
        """Refuse a manifest unless its publisher is believed now, and it is current and no older than was seen before.

        Without `latest` an older one will do: of those that another manifest names, which is held to what was seen itself.
        Raises `UntrustedSignerError` or `ManifestError`.
        """
        self._policy.require_publisher(manifest)
        self._policy.require_believed("publisher", manifest.signer)
        seen = self._seen.version(manifest.signer, manifest.document.name) if latest else 0
        check_manifest(
            manifest, publishers=self._policy.publishers.values(), now=int(time.time() * 1000), seen_version=seen
        )

    def explain(
        self, model: str | Signed[Manifest], table: Table | None = None, *, data_class: str | None = None
    ) -> Explanation:
        """What would happen if this were asked, and why: see `blindgate.explanation`. Fetches the manifest, and sends nothing.

        Args:
            model: its name, or its manifest.
            table: what would be predicted; it is checked as `Model.predict` checks it.
            data_class: what its caller would say of it.
        """
        manifest = self.manifest(model) if isinstance(model, str) else model
        return explain(
            self._policy,
            manifest,
            table=table,
            said=data_class,
            client=known_signer(self.key_store) if self._policy.revoked else None,
            seen_version=self._seen.version(manifest.signer, manifest.document.name),
            now=int(time.time() * 1000),
        )

    def job(self, job_id: str) -> Job:
        """Take up a job again that this client submitted, in this process or another, from its bundle.

        Its result is held against the rules of the classes of data that it was sent as. Raises `NotFoundError` without its bundle,
        `KeyStoreError` without the key that its rows were encrypted with, `PolicyError` where the policy lost one of those classes.
        """
        bundle = self._bundles.load(job_id)
        narrow = self._policy.of_classes(bundle.classes)
        half = _client_half(bundle.manifest.document, self._client_part(bundle.manifest))
        key = self._key_ring().key_of(bundle.order.document, half)
        self._policy.named_operators()  # without any, no receipt could be verified
        return Job(
            bundle,
            half,
            key.secret,
            transport=self._transport,
            bundles=self._bundles,
            policy=self._policy,
            logs=self._logs.under(narrow),
        )

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._transport.url!r})"

    def _key_ring(self) -> KeyRing:
        if self._keys is None:
            self._keys = KeyRing(self.key_store, self._transport, self.tenant, self._statements)
        return self._keys

    def _client_part(self, manifest: Signed[Manifest]) -> bytes:
        ref = manifest.document.encrypted().client
        data = self._transport.download(f"/v1/models/{manifest.digest}/client", ref.size)
        if digest(data) != ref.digest:
            message = f"the client part of model {manifest.document.name!r} is not the one that its manifest names"
            raise PackageDigestError(message)
        return data


def _client_half(manifest: Manifest, part: bytes) -> ClientHalf:
    half = clients.client_half(manifest.family).from_part(parse_part(part))
    if digest(canonical(half.key_parameters)) != manifest.key_parameters:
        message = f"the key parameters of model {manifest.name!r} are not those that its manifest names"
        raise PackageDigestError(message)
    return half


def _require_name(name: object) -> None:
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        message = f"not a model's name: {name!a:.100}"
        raise MalformedError(message)
