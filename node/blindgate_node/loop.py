"""The node's life: ask for work, do as much at once as there are slots, end well.

Threads, and what each may wait for:

- the poller asks for work when a slot is free and nothing is short (`means`), one long poll at a time;
- each slot runs one job (`jobs`), and waits for its worker and the gateway;
- where the machine proves something, one thread answers questions about it (`offers`);
- the pulse sends heartbeats (`pulse`), one more writes receipts (`receipts`), and one hands in what was signed about forgotten keys
  (`evictions`);
- the caller's thread retires what is idle, and waits for the end.

`drain` asks for no more work, lets running jobs finish for `drain_seconds`, then gives them back. A long poll that is out may
still bring a lease: it is given back at once, which is better than hanging up on it.

The node's process holds the signing key, so it is made undumpable before it reads it.
"""

import fcntl
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from blindgate_node.attester.choice import Attesters, choose
from blindgate_node.attester.collateral import Collateral
from blindgate_node.budgets import Budgets
from blindgate_node.enclave import Enclave
from blindgate_node.enrolment import enrol, load_certificate
from blindgate_node.evictions import Evictions
from blindgate_node.families import FAMILIES, PLAIN_FAMILIES, Family, installed
from blindgate_node.jobs import Jobs, Log
from blindgate_node.key_cache import KeyCache, KeyName
from blindgate_node.key_sets import KeySets
from blindgate_node.means import shortage
from blindgate_node.offers import Offers, OfferThread
from blindgate_node.packages import Packages
from blindgate_node.pool import Pool
from blindgate_node.pulse import HeldLease, Pulse
from blindgate_node.receipts import Journal
from blindgate_node.sandbox import kernel
from blindgate_node.settings import Settings
from blindgate_node.signer import load_or_create_key
from blindgate_node.stopping import Stop
from blindgate_node.transport import Gateway, LeaseName, pauses, wait_after
from blindgate_node.trial import check_layers, compiled_programs
from blindgate_protocol.errors import (
    AttesterError,
    BlindgateError,
    ClockSkewError,
    KeyStoreError,
    NotAuthorisedError,
    PolicyError,
)
from blindgate_protocol.messages import Lease, LeaseRequest, Release
from blindgate_protocol.nodes import EvictionReason, NodeCertificate
from blindgate_protocol.signing import Signed
from blindgate_telemetry import open_traces

if TYPE_CHECKING:
    from blindgate_node.plain_models import PlainModel
    from blindgate_node.sealed_jobs import SealedJobs

_MAX_KEYS = 256
_TICK_SECONDS = 1.0
_FLUSH_SECONDS = 3.0
_FIRST_SECONDS = 0.02
"""For so long the next question for work waits behind a sealed request, computed by this process itself: its first words are what
somebody looks at a screen for, and two threads of one interpreter are in each other's way."""
_STOPPING = Release(code="node-stopping", reason="the node is stopping")


class Node:
    """A compute node."""

    def __init__(self, settings: Settings, log: Log, *, families: Mapping[str, Family] = FAMILIES) -> None:
        """Open the node's folder, try out the sandbox, and enrol where that was not done.

        Raises the errors of `signer`, `enrolment` and `transport`; `PolicyError` when nothing could ever be computed, or when
        a sandbox layer that `require` names does not hold; `AttesterError` when the attester that is named is
        not there, or nothing attests a node that has plaintext models; `KeyStoreError` when another node uses the folder; and what
        `load_models` does.
        """
        self._settings = settings
        self._log = log
        self._stopping = Stop()
        self._failure: BlindgateError | None = None
        offered = installed(families)
        if not offered and settings.models is None:
            message = "no family's library is installed: pip install 'blindgate[node]' or 'blindgate[node,concrete]'"
            raise PolicyError(message)
        if not settings.publishers:
            message = (
                "this node trusts no publisher: set BLINDGATE_NODE_PUBLISHERS"
                " to the key ids of those whose models it may compute"
            )
            raise PolicyError(message)
        try:
            self._traces = open_traces("blindgate-node")
        except ImportError as error:
            raise PolicyError(str(error)) from error
        with suppress(OSError):
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        self._folder = _claim(settings)
        self.key = load_or_create_key(settings.data / "node.key")
        certificate = load_certificate(settings.certificate_file, self.key, _now())
        packages = Packages(
            settings.data / "packages", publishers=settings.publishers, most_bytes=settings.package_bytes
        )
        key_sets = KeySets(self.key, lasts=int(settings.key_set_seconds * 1000), now=_now)
        sealed = None if settings.models is None else _sealed_jobs(settings, packages, key_sets, log)
        self._models = {} if sealed is None else sealed.models
        programs = compiled_programs()
        self._pool = Pool(
            settings.data / "work",
            programs,
            first_user=settings.first_user,
            most=settings.zygotes,
            idle_seconds=settings.idle_seconds,
        )
        self.held = check_layers(self._pool, settings)
        for entry in self.held:
            log("sandbox.layer", layer=entry.layer.value, holds=entry.holds, detail=entry.detail)
        attesters = choose(settings, log, _now)
        if self._models and attesters.platform is None:
            message = (
                "this node has plaintext models, and nothing proves what it is, so nobody would seal a request to it: "
                f"{'; '.join(attesters.missing) or 'no attester is set'}"
            )
            raise AttesterError(message)
        enrol(settings, self.key, certificate, _now())
        self._gateway = Gateway(
            settings.gateway, key=self.key, ca=settings.ca, connections=2 * settings.slots + 4, traces=self._traces
        )
        self._evictions = Evictions(self.key, self._gateway.report, log)
        self._keys = KeyCache(most_bytes=settings.key_bytes, seconds=settings.key_seconds, dropped=self._drop)
        self._journal = Journal(settings.data / "receipts.jsonl", _now())
        self._budgets = Budgets(settings.data / "budgets.sqlite")
        self._pulse = Pulse(self._gateway, lambda event, lease: log(event, job=lease.job, generation=lease.generation))
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._slots = threading.Semaphore(settings.slots)
        offered = {**offered, **{name: PLAIN_FAMILIES[name] for name in _families(self._models)}}
        self._families = tuple(sorted(offered))
        self._offers = self._offering(attesters, certificate, packages, key_sets)
        self._jobs = Jobs(
            settings=settings,
            key=self.key,
            certificate=certificate,
            families=offered,
            gateway=self._gateway,
            packages=packages,
            keys=self._keys,
            pool=self._pool,
            budgets=self._budgets,
            journal=self._journal,
            aside=self._aside,
            log=log,
            sealed=sealed,
            traces=self._traces,
        )

    def serve(self) -> None:
        """Work until `drain` is called. Raises `NotAuthorisedError` when the gateway does not know this node any more."""
        self._log("node.started", node=self.key.id, gateway=self._settings.gateway, families=list(self._families))
        self._evictions.start()
        if self._offers is not None:
            self._offers.start()
        workers = ThreadPoolExecutor(self._settings.slots, thread_name_prefix="job")
        poller = threading.Thread(target=self._poll, args=(workers,), name="poller")
        poller.start()
        while not self._stopping.wait(_TICK_SECONDS):
            self._pool.retire()
            self._keys.expire()
            for model in self._models.values():
                model.expire()
        self._log("node.draining")
        ended = threading.Thread(target=self._wait_for_end, args=(poller, workers), name="drain")
        ended.start()
        ended.join(self._settings.drain_seconds)
        if ended.is_alive():
            self._pulse.abandon_all()
            ended.join()
        self._close()
        self._log("node.ended")
        if self._failure is not None:
            raise self._failure

    def drain(self) -> None:
        """Take no more work, let running jobs finish, then let `serve` return. May be called in a signal handler."""
        self._stopping.set()

    def _offering(
        self, attesters: Attesters, certificate: Signed[NodeCertificate], packages: Packages, key_sets: KeySets
    ) -> OfferThread | None:
        settings = self._settings
        if attesters.platform is None:
            self._log("attester.none", missing=list(attesters.missing))
            return None
        offers = Offers(
            attesters,
            key_sets,
            key=self.key,
            certificate=certificate,
            packages=packages,
            families=self._families,
            models=self._models,
            now=_now,
            collateral=Collateral(settings.attester_collateral, settings.gpu_references),
        )
        self._log("attester.chosen", platform=offers.platform, gpus=attesters.gpus is not None)
        return OfferThread(
            offers,
            self._gateway,
            wait=settings.poll_seconds,
            a_minute=settings.attestations,
            stopping=self._stopping,
            log=self._log,
        )

    def _wait_for_end(self, poller: threading.Thread, workers: ThreadPoolExecutor) -> None:
        poller.join()
        if self._offers is not None:
            self._offers.join()
        workers.shutdown(wait=True)

    def _close(self) -> None:
        self._pulse.stop(seconds=_FLUSH_SECONDS)
        self._keys.clear()
        self._evictions.close(seconds=_FLUSH_SECONDS)
        self._pool.close()
        self._aside.shutdown()
        self._journal.close()
        self._budgets.close()
        self._gateway.close()
        self._traces.close(seconds=_FLUSH_SECONDS)
        os.close(self._folder)

    def _poll(self, workers: ThreadPoolExecutor) -> None:
        waits = pauses()
        while self._free_slot():
            lacking = shortage(self._settings.data)
            if lacking is not None:
                self._slots.release()
                self._log("node.short", reason=lacking)
                self._stopping.wait(next(waits))
                continue
            asked = time.monotonic()
            try:
                lease = self._gateway.lease(self._request())
            except ClockSkewError as error:  # it is set right while the node runs, or its operator reads this
                self._slots.release()
                self._log("clock.wrong", code=error.code, reason=str(error))
                self._stopping.wait(next(waits))
                continue
            except NotAuthorisedError as error:
                self._failure = NotAuthorisedError(
                    f"{error}. To enrol again, set BLINDGATE_NODE_ENROLMENT_TOKEN and run `blindgate node enrol --again`",
                    status=error.status,
                    problem=error.problem,
                )
                self._stopping.set()
                return
            except BlindgateError as error:
                self._slots.release()
                self._log("gateway.unreachable", code=error.code, reason=str(error))
                self._stopping.wait(wait_after(error, next(waits)))
                continue
            if lease is None:
                self._slots.release()
                if time.monotonic() - asked < self._settings.poll_seconds / 2:  # the gateway has no thread to wait in
                    self._stopping.wait(next(waits))
                else:
                    waits = pauses()
                continue
            waits = pauses()
            if self._stopping.is_set():
                self._give_back(lease)
                return
            workers.submit(self._run, lease, HeldLease(_name(lease), lease.duration / 1000))
            if lease.seal is not None:
                self._stopping.wait(_FIRST_SECONDS)

    def _free_slot(self) -> bool:
        """Wait for a free slot. False when the node stops."""
        while not self._stopping.is_set():
            if self._slots.acquire(timeout=0.5):
                return True
        return False

    def _run(self, offer: Lease, lease: HeldLease) -> None:
        self._pulse.add(lease)
        try:
            self._jobs.run(offer, lease)
        finally:
            self._pulse.remove(lease)
            self._slots.release()

    def _drop(self, name: KeyName, reason: EvictionReason) -> None:
        self._pool.drop(name)
        self._evictions.note(name, reason)

    def _give_back(self, lease: Lease) -> None:
        with suppress(BlindgateError):
            self._gateway.release(_name(lease), _STOPPING, lambda: False)

    def _request(self) -> LeaseRequest:
        keys = self._keys.digests()[-_MAX_KEYS:]
        return LeaseRequest(families=self._families, keys=keys, wait=int(self._settings.poll_seconds * 1000))


def _sealed_jobs(settings: Settings, packages: Packages, key_sets: KeySets, log: Log) -> "SealedJobs":
    # Here, not above: what plaintext models need, numpy first of all, is not in the process of a node that has none.
    from blindgate_node.plain_models import load_models  # noqa: PLC0415
    from blindgate_node.sealed_jobs import SealedJobs  # noqa: PLC0415

    return SealedJobs(Enclave(key_sets, now=_now), load_models(settings, packages, _now(), log))


def _families(models: "Mapping[str, PlainModel]") -> list[str]:
    return sorted({model.manifest.document.family for model in models.values()})


def _claim(settings: Settings) -> int:
    """Make the node's folder and lock it. Raises `KeyStoreError`."""
    try:
        settings.data.mkdir(mode=0o711, parents=True, exist_ok=True)
        descriptor = os.open(settings.data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        message = f"the node's folder {settings.data} cannot be used: {error.strerror}"
        raise KeyStoreError(message) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        message = f"another node uses the folder {settings.data}"
        raise KeyStoreError(message) from error
    return descriptor


def _name(lease: Lease) -> LeaseName:
    return LeaseName(lease.job, lease.generation, lease.token)


def _now() -> int:
    return time.time_ns() // 1_000_000
