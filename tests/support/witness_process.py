"""A real witness as a process of its own, as its operator would start it."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from blindgate_protocol.notes import VerifierKey
from brokerage import free_port

START_SECONDS = 60.0


class WitnessProcess:
    """`python -m blindgate_witness …` on one folder."""

    def __init__(self, data: Path, *, logs: tuple[VerifierKey, ...] = ()) -> None:
        """Make the witness if there is none in `data`, and tell it of `logs`."""
        self.data = data
        self.log = data.parent / f"{data.name}.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        made = (data / "witness.key").exists()
        self.key = VerifierKey.parse(
            self.run(*(("key",) if made else ("init", "--name", "witness.example/w1"))).strip()
        )
        for key in logs:
            self.run("logs", "add", str(key))
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str) -> str:
        """What a command prints."""
        command = [sys.executable, "-m", "blindgate_witness", *arguments, "--data", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            sys.executable,
            "-m",
            "blindgate_witness",
            "serve",
            "--port",
            str(self.port),
            "--data",
            str(self.data),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if self.send(b"", method="GET", path="/healthz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.02)
        self.kill()
        message = f"the witness did not start:\n{self.log.read_text()[-3000:]}"
        raise RuntimeError(message)

    def send(
        self,
        body: bytes,
        *,
        method: str = "POST",
        path: str = "/add-checkpoint",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, str, bytes]:
        """One request; gives status, content type and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
        finally:
            connection.close()

    @property
    def pid(self) -> int:
        """The master's process id, which is its group's too."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Send SIGKILL to master and worker."""
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def kill_worker(self) -> None:
        """Send SIGKILL to the worker, which holds whatever transaction there is; the master makes another."""
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            with suppress(ProcessLookupError):  # it ended by itself
                os.kill(int(child), signal.SIGKILL)

    def stop(self) -> int:
        """Send SIGTERM and wait; gives the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)


@contextmanager
def running_witness(data: Path, *logs: VerifierKey) -> Iterator[WitnessProcess]:
    """A witness that serves until the block ends."""
    made = WitnessProcess(data, logs=logs)
    made.start()
    try:
        yield made
    finally:
        made.kill()
