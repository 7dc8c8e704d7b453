"""A small Blindgate on one machine: a real gateway and real nodes, as processes, under one folder.

What the demo shows, the tests break and the bench times. Everything is started by the commands that an operator would type; only
the operator's and the publisher's keys are made here, in memory, so that no folder of the world holds them.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import httpx2

from blindgate import Client, Policy
from blindgate.transport import Transport
from blindgate.uploads import upload
from blindgate_models.plain_packages import open_plain_package
from blindgate_models.publishing import open_package
from blindgate_protocol.messages import ModelOffer
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.signing import SigningKey

BLINDGATE = str(Path(sys.executable).with_name("blindgate"))
DAY = 86_400_000
_MARKER = ".blindgate-world"
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


def type_command(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run `blindgate`."""
    return subprocess.run([BLINDGATE, *command], env=environment, capture_output=True, text=True, check=False)


def start_server(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start `blindgate`, to go on in a session of its own."""
    return subprocess.Popen(
        [BLINDGATE, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


class World:
    """A gateway, nodes and tenants under `folder`. Use it as a context manager: leaving stops every process.

    Attributes:
        type_command: how a command is run.
        start_server: how the gateway or a node is started.
    """

    type_command: "ClassVar[staticmethod[[Sequence[str], Mapping[str, str]], subprocess.CompletedProcess[str]]]" = (
        staticmethod(type_command)
    )
    start_server: "ClassVar[staticmethod[[Sequence[str], Mapping[str, str], IO[bytes]], subprocess.Popen[bytes]]]" = (
        staticmethod(start_server)
    )

    def __init__(self, folder: Path, *, gateway: Mapping[str, object] | None = None) -> None:
        """Lay out the folders. `gateway` has further settings of the gateway, by name."""
        self.folder = folder.resolve()
        self.operator = SigningKey.generate()
        self.operators = [self.operator.id]
        self.publishers: dict[str, str] = {}
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._gateway_settings = dict(gateway or {})
        self._api_keys: dict[str, str] = {}
        self._log_keys: tuple[str, str | None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def gateway_folder(self) -> Path:
        """Everything that the gateway keeps."""
        return self.folder / "gateway"

    def trust(self, name: str, publisher: str) -> None:
        """Let models of `publisher` in, at the gateway, the nodes and the clients. Before they start."""
        self.publishers[name] = publisher

    def start_gateway(self) -> None:
        """Start the gateway and wait until it is ready. Again, after it was killed, too."""
        settings = {
            "DATA": self.gateway_folder,
            "PORT": self.port,
            "PUBLISHERS": ",".join(self.publishers.values()),
            "OPERATORS": ",".join(self.operators),
            **self._gateway_settings,
        }
        self._start("gateway", "gateway", "serve", prefix="BLINDGATE_GATEWAY_", settings=settings)
        self._await("gateway", lambda: _ready(f"{self.url}/readyz"))

    def start_node(self, name: str, **settings: object) -> None:
        """Certify, enrol and start a node. A node that was here before keeps its key and its token."""
        folder = self.folder / name
        given: dict[str, object] = {
            "DATA": folder,
            "GATEWAY": self.url,
            "PUBLISHERS": ",".join(self.publishers.values()),
            **settings,
        }
        if not (folder / "certificate.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            node = self._command("node", "key", "--json", environment={"BLINDGATE_NODE_DATA": str(folder)})["node"]
            now = int(time.time() * 1000)
            certificate = NodeCertificate(
                node=node, name=name, operator=self.operator.id, issued=now - DAY, expires=now + 90 * DAY
            )
            (folder / "certificate.json").write_bytes(self.operator.sign(certificate).envelope.to_bytes())
            enrolled = self._command("gateway", "enrol", "--data", str(self.gateway_folder), "--json")
            given["ENROLMENT_TOKEN"] = enrolled["enrolment_token"]
        self._start(name, "node", "serve", prefix="BLINDGATE_NODE_", settings=given)

    def api_key(self, tenant: str, *, publish: bool = False) -> str:
        """The API key of a tenant, which is made on first use."""
        known = f"{tenant}:{publish}"
        if known not in self._api_keys:
            scope = ["--scope", "publish"] if publish else []
            made = self._command(
                "gateway", "tenants", "add", tenant, *scope, "--data", str(self.gateway_folder), "--json"
            )
            self._api_keys[known] = made["api_key"]
        return self._api_keys[known]

    def publish(self, package: Path | bytes) -> None:
        """Publish a model package: a file, or the folder of a model in the clear."""
        if isinstance(package, Path) and package.is_dir():
            plain = open_plain_package(package)
            with contextlib.closing(Transport(self.url, self.api_key("models", publish=True))) as transport:
                upload(transport, plain.weights)
                transport.post("/v1/models", ModelOffer(manifest=plain.manifest.envelope), ModelOffer)
            return
        opened = open_package(package)
        with contextlib.closing(Transport(self.url, self.api_key("models", publish=True))) as transport:
            upload(transport, opened.client)
            upload(transport, opened.server)
            transport.post("/v1/models", ModelOffer(manifest=opened.manifest.envelope), ModelOffer)

    @property
    def log_folder(self) -> Path:
        """The gateway's log as files."""
        return self.gateway_folder / "log"

    def log_key(self) -> str:
        """The verifier key of the gateway's log, as its operator would give it to clients and auditors."""
        return self.log_keys()[0]

    def log_keys(self) -> tuple[str, str | None]:
        """That key, and the log's second one, where it has one."""
        if self._log_keys is None:
            shown = self._command("gateway", "log", "key", "--data", str(self.gateway_folder), "--json")
            self._log_keys = str(shown["key"]), shown["second"]
        return self._log_keys

    def policy(self, path: Path | None = None, *, log: bool = True) -> Policy:
        """A policy that trusts this world's publishers, operator and, unless told otherwise, log."""
        operators = {"this-world": self.operator.id}
        if not log:
            return Policy(dict(self.publishers), operators, path=path)
        key, second = self.log_keys()
        seconds = {} if second is None else {"this-world": second}
        return Policy(dict(self.publishers), operators, path=path, logs={"this-world": key}, second_keys=seconds)

    def client(
        self,
        tenant: str = "hospital",
        *,
        home: Path | None = None,
        url: str | None = None,
        log: bool = True,
        **given: Any,
    ) -> Client:
        """A client of a tenant, with its files under `client/` (or `home`), that trusts the gateway's log or asks none."""
        home = home or self.folder / "client"
        policy = self.policy(home / "policy.toml", log=log)
        policy.save()
        return Client(url or self.url, self.api_key(tenant), policy=policy, home=home, **given)

    def kill(self, name: str) -> None:
        """End a process as a power cut would: the process and all that it started."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Stop every process: nodes first, then the gateway."""
        for name in sorted(self.processes, key=lambda name: name == "gateway"):
            self.processes[name].terminate()
        for process in self.processes.values():
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()

    def log(self, name: str) -> str:
        """What a process wrote to its log."""
        return (self.folder / name / "log.jsonl").read_text(errors="replace")

    def _start(self, name: str, *command: str, prefix: str, settings: Mapping[str, object]) -> None:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        environment = {prefix + key.upper(): str(value) for key, value in settings.items()}
        with (folder / "log.jsonl").open("ab") as log:
            self.processes[name] = self.start_server(command, _clean_environment() | environment, log)

    def wait_for(self, name: str, event: str) -> None:
        """Wait until a process has logged an event. Raises `RuntimeError` when it ends before."""
        self._await(name, lambda: event in self.log(name))

    def _await(self, name: str, ready: Any) -> None:
        until = time.monotonic() + _START_SECONDS
        while not ready():
            if self.processes[name].poll() is not None or time.monotonic() > until:
                message = f"{name} did not start:\n{self.log(name)[-4000:]}"
                raise RuntimeError(message)
            time.sleep(0.05)

    def _command(self, *command: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        done = self.type_command(command, _clean_environment() | dict(environment or {}))
        if done.returncode != 0:
            message = f"blindgate {' '.join(command)}: {done.stderr}{done.stdout}"
            raise RuntimeError(message)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@contextlib.contextmanager
def folder_for(path: Path | None) -> Iterator[Path]:
    """The folder that was asked for, kept, without what an earlier run left there; or a temporary one, removed.

    Raises `FileExistsError` for a folder that holds anything else.
    """
    if path is not None:
        _clear(path)
        yield path
        return
    made = Path(tempfile.mkdtemp(prefix="blindgate-demo-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Make `folder` an empty one of ours. What an earlier run left is removed; what somebody else put there is not."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / _MARKER
    if not marker.exists() and any(folder.iterdir()):
        message = f"{folder} holds files that no earlier run left there: choose an empty folder"
        raise FileExistsError(message)
    marker.touch()
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left)


def _clean_environment() -> dict[str, str]:
    """This environment, without settings of a Blindgate that somebody else runs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BLINDGATE_")}


def _ready(url: str) -> bool:
    try:
        return bool(httpx2.get(url, timeout=2, trust_env=False).is_success)
    except httpx2.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
