"""`blindgate proxy` as a process, as a user starts it."""

import json
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from openai import OpenAI

from typed import BLINDGATE

_STOP_SECONDS = 20.0


class OpenAIProxy:
    """A running proxy, as a context manager.

    Attributes:
        url: where programs are told to go, with `/v1`.
        token: what they have to bring.
        port: on loopback.
    """

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        """Start it for the client whose policy and keys lie in `folder`; wait until it takes connections."""
        self._log_file = folder / "proxy.jsonl"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BLINDGATE_")}
        given = {"BLINDGATE_HOME": str(folder), "BLINDGATE_POLICY": str(folder / "policy.toml"), **environment}
        with self._log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [str(BLINDGATE), "proxy", "--port", "0", "--json", *options],
                env=clean | given,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        line = self._out.readline()
        if not line:
            self.stop()
            message = f"the proxy did not start:\n{self.log}"
            raise RuntimeError(message)
        self.said: dict[str, Any] = json.loads(line)
        self.url: str = self.said["url"]
        self.token: str = self.said["token"] or environment.get("BLINDGATE_PROXY_TOKEN", "")
        self.port = int(self.url.rpartition(":")[2].partition("/")[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return self._log_file.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        return [json.loads(line) for line in self.log.splitlines()]

    def openai(self, *, retries: int = 0) -> OpenAI:
        """The `openai` package's client, as its users make it; left alone it asks again twice."""
        return OpenAI(base_url=self.url, api_key=self.token, max_retries=retries)

    def stop(self) -> int:
        """End it as an operator does. Gives its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        timer = threading.Timer(_STOP_SECONDS, self.process.kill)
        timer.start()
        try:
            return self.process.wait()
        finally:
            timer.cancel()
            self._out.close()

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout


def environment_of(url: str, api_key: str) -> Mapping[str, str]:
    """What tells a proxy its gateway."""
    return {"BLINDGATE_URL": url, "BLINDGATE_API_KEY": api_key}
