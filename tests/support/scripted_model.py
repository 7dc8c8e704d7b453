"""A model that says what the test wants, word by word: a server of OpenAI's API in this process, behind a node's `upstream`.

With it a node's start takes no weights and no torch, and a test can plant its answers.
"""

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blindgate_protocol.manifest import Manifest
from blindgate_protocol.signing import Signed
from sealed_world import CHAT, publish

WORDS = ("Drink ", "tea ", "with ", "honey, ", "and ", "rest ", "until ", "Tuesday.")


class ScriptedModel:
    """The server, as a context manager.

    Attributes:
        words: what it answers, whatever it is asked.
        finish: why it stops then.
        status: another one than 200 is an error, whose text repeats what was asked.
        complaint: what else stands in that text.
        midway: called when half of the answer was sent.
        asked: the requests that came, as they came: what stood inside of the seal.
        url: where it listens.
    """

    def __init__(self, words: tuple[str, ...] = WORDS) -> None:
        self.words = words
        self.finish = "stop"
        self.status = 200
        self.complaint = ""
        self.midway: Callable[[], None] = lambda: None
        self.asked: list[bytes] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"]))
                model.asked.append(asked)
                name = json.loads(asked)["model"]
                events = [_event(name, {"content": word}, None) for word in model.words]
                events.append(_event(name, {}, model.finish))
                lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]
                if model.status != HTTPStatus.OK:
                    lines = [json.dumps({"error": {"message": model.complaint + asked.decode()}}).encode()]
                self.send_response(model.status)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Content-Length", str(sum(map(len, lines))))
                self.end_headers()
                half = len(lines) // 2
                self.wfile.write(b"".join(lines[:half]))
                if half:
                    model.midway()
                self.wfile.write(b"".join(lines[half:]))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its parent's name)
                """Say nothing."""

        return Handler


def package_scripted(folder: Path) -> Signed[Manifest]:
    """A package of the model that such a server serves."""
    files = folder.with_suffix(".files")
    files.mkdir(parents=True, exist_ok=True)
    (files / "config.json").write_text("{}")
    return publish(files, folder, name=CHAT, kind="upstream", api="chat", served_as="scripted")


def _event(model: str, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    return head | {"choices": [choice]}
