"""A gateway that checks nothing and keeps nothing: what HTTP and its callers alone take on this machine.

It answers the requests of a job's way (enrol, submit, lease, commit, result) out of its memory, with JSON of the same shape, under
the same server: no signature is verified, no database asked, no disk written, no event told. No gateway that is asked the same way
brokers more jobs a second than this one, so it bounds what `queueing` can show.
"""

import base64
import json
import multiprocessing
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.request import urlopen

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

THREADS: Final = 64
LONGEST_WAIT: Final = 1.0
TOKEN: Final = "0" * 32
_STATUS: Final = {200: "200 OK", 201: "201 Created", 204: "204 No Content"}
Answer = tuple[int, Any]


@contextmanager
def forgetful_gateway(manifest: Any) -> Iterator[str]:
    """One that runs beside this process, for jobs of the model with this manifest (an envelope, as JSON has it). Gives its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = multiprocessing.get_context("fork").Process(target=_serve, args=(port, manifest))
    server.start()
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url)
        yield url
    finally:
        server.terminate()
        server.join()


class _Forgetful:
    """The application. One worker, so that memory is enough."""

    def __init__(self, manifest: Any) -> None:
        self._manifest = manifest
        self._waiting: deque[tuple[str, Any]] = deque()
        self._ended: dict[str, Any] = {}
        self._changed = threading.Condition()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        data = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = json.loads(data) if data else None
        status, answer = self._answer(environ["REQUEST_METHOD"], environ["PATH_INFO"].split("/")[2:], body)
        content = b"" if answer is None else json.dumps(answer).encode()
        start(_STATUS[status], [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
        return [content]

    def _answer(self, method: str, path: list[str], body: Any) -> Answer:
        match method, path:
            case "POST", ["nodes"]:
                return 201, {"node": _payload(body["request"])["node"], "name": _payload(body["certificate"])["name"]}
            case "POST", ["jobs"]:
                return 201, self._submit(body)
            case "POST", ["leases"]:
                return self._lease()
            case "POST", ["leases", job, "commit"]:
                return 200, self._commit(job, body)
            case "GET", ["jobs", job]:
                return 200, self._result(job)
        return 200, None

    def _submit(self, body: Any) -> Any:
        job = _payload(body["order"])["job"]
        with self._changed:
            self._waiting.append((job, body))
            self._changed.notify_all()
        return _view(job, "queued")

    def _lease(self) -> Answer:
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, LONGEST_WAIT):
                return 204, None
            job, body = self._waiting.popleft()
        work = {"job": job, "generation": 1, "token": TOKEN, "duration": 60_000, "manifest": self._manifest}
        return 200, work | {"order": body["order"], "input_data": body["input_data"]}

    def _commit(self, job: str, body: Any) -> Any:
        view = _view(job, "succeeded") | {"receipt": body["receipt"], "result_data": body["result_data"]}
        with self._changed:
            self._ended[job] = view
            self._changed.notify_all()
        return view

    def _result(self, job: str) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: job in self._ended, LONGEST_WAIT)
            return self._ended.pop(job, None) or _view(job, "queued")


def _payload(envelope: Any) -> Any:
    return json.loads(base64.b64decode(envelope["payload"]))


def _view(job: str, state: str) -> dict[str, Any]:
    now = int(time.time() * 1000)
    return {"job": job, "state": state, "submitted": now, "ended": None if state == "queued" else now, "attempts": []}


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, port: int, manifest: Any) -> None:
        self._port, self._app = port, _Forgetful(manifest)
        super().__init__()

    def load_config(self) -> None:
        for name, value in {
            "bind": f"127.0.0.1:{self._port}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": THREADS,
            "keepalive": 75,
            "loglevel": "critical",
        }.items():
            self.cfg.set(name, value)

    def load(self) -> _Forgetful:
        return self._app


def _serve(port: int, manifest: Any) -> None:
    _Server(port, manifest).run()


def _wait_for(url: str) -> None:
    for _ in range(100):
        try:
            with urlopen(f"{url}/readyz"):
                return
        except OSError:
            time.sleep(0.1)
    message = "the server did not start"
    raise RuntimeError(message)
