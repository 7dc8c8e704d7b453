"""A real node process, with families that only tests know, beside Blindgate's own.

Run as a script it is such a node: it reads its settings from the environment, as `blindgate node serve` does, and adds
`FAMILIES`. Imported, it starts one.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import psutil

from blindgate_node.commands import serve_node
from blindgate_node.families import FAMILIES as OWN_FAMILIES
from blindgate_node.families import Family
from blindgate_node.settings import ENVIRONMENT_PREFIX, load_settings
from blindgate_node.signer import load_or_create_key
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.signing import SigningKey
from preloaded import Preloaded

PROBES = str(Path(__file__).parent / "probes")
ECHO, HOSTILE, CURIOUS, SHARING, KEYED, COMPUTING = "echo", "hostile", "curious", "sharing", "keyed", "computing"
FAMILIES: Mapping[str, Family] = {
    **OWN_FAMILIES,
    ECHO: Family("blindgate", 0.0, half="hostile_half:Echo", paths=(PROBES,)),
    COMPUTING: Family("tenseal", 0.0, half="hostile_half:Computing", paths=(PROBES,)),
    CURIOUS: Family("blindgate", 0.0, half="hostile_half:Curious", paths=(PROBES,)),
    SHARING: Family("blindgate", 0.0, shared_memory=True, half="hostile_half:Hostile", paths=(PROBES,)),
    HOSTILE: Family("blindgate", 0.0, half="hostile_half:Hostile", paths=(PROBES,)),
    KEYED: Family("blindgate", 0.0, keyed=True, half="hostile_half:Keyed", paths=(PROBES,)),
}
START_SECONDS = 60.0
_DAY = 86_400_000


class NodeProcess:
    """A node as a process of its own.

    Attributes:
        preloaded: a process to fork it from, if there is one.
    """

    preloaded: ClassVar[Preloaded | None] = None

    def __init__(
        self,
        data: Path,
        gateway: str,
        *,
        publisher: str,
        operator: SigningKey,
        name: str,
        fresh: bool = False,
        **changes: Any,
    ) -> None:
        """`changes` are settings. A `fresh` one is started as an operator would."""
        self._fresh = fresh
        self.data = data
        self.log = data.parent / f"{data.name}.log"
        self.key = load_or_create_key(data / "node.key")
        now = time.time_ns() // 1_000_000
        certificate = NodeCertificate(
            node=self.key.id, name=name, operator=operator.id, issued=now - 1000, expires=now + _DAY
        )
        (data / "certificate.json").write_bytes(operator.sign(certificate).envelope.to_bytes())
        given = {"data": data, "gateway": gateway, "publishers": publisher, "log_file": self.log, "slots": 2} | changes
        self.environment = {f"{ENVIRONMENT_PREFIX}{name.upper()}": str(value) for name, value in given.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, token: str | None = None) -> None:
        """Start it, with an enrolment token the first time, and wait until it asks for work."""
        secret = {} if token is None else {f"{ENVIRONMENT_PREFIX}ENROLMENT_TOKEN": token}
        before = self.events().count("node.started")
        with (self.data.parent / f"{self.data.name}.out").open("ab") as out:
            environment, forked = os.environ | self.environment | secret, None
            if self.preloaded is not None and not self._fresh:
                forked = self.preloaded.start([], environment, out)
            self._process = forked or subprocess.Popen(
                [sys.executable, __file__], env=environment, stdout=out, stderr=out, start_new_session=True
            )
        self.until(lambda: self.events().count("node.started") > before)

    def events(self) -> list[str]:
        """The names of what it logged."""
        if not self.log.exists():
            return []
        return [
            line.split('"event": "')[1].split('"')[0]
            for line in self.log.read_text().splitlines()
            if '"event": "' in line  # the last one may be half written
        ]

    def until(self, holds: Any, *, seconds: float = START_SECONDS) -> None:
        """Wait until `holds()`, while the node runs."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end or (self._process is not None and self._process.poll() is not None):
                out = (self.data.parent / f"{self.data.name}.out").read_text()
                message = f"the node did not get there:\n{out[-2000:]}\n{self.log.read_text()[-3000:] if self.log.exists() else ''}"
                raise AssertionError(message)
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        """The node's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the node lives."""
        return self._process is not None and self._process.poll() is None

    def family(self) -> list[psutil.Process]:
        """Every process that the node started, at whatever remove."""
        return list(psutil.Process(self.pid).children(recursive=True))

    def kill(self) -> None:
        """Send SIGKILL to the node alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Send SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 40) -> int:
        """Wait for its end; gives the exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def stop(self) -> None:
        """Stop it, however it is."""
        if self.running:
            self.terminate()
            try:
                self.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


if __name__ == "__main__":
    serve_node(load_settings(), families=FAMILIES)
