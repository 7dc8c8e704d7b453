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

from blindgate_protocol.manifest import Api, Manifest
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
                if self.path == "/v1/embeddings":
                    self._answer("application/json", json.dumps(_vectors(json.loads(asked))).encode())
                    return
                name = json.loads(asked)["model"]
                events = [_event(name, {"content": word}, None) for word in model.words]
                events.append(_event(name, {}, model.finish))
                lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]
                if model.status != HTTPStatus.OK:
                    lines = [json.dumps({"error": {"message": model.complaint + asked.decode()}}).encode()]
                self._begin(model.status, "text/event-stream", sum(map(len, lines)))
                half = len(lines) // 2
                self.wfile.write(b"".join(lines[:half]))
                if half:
                    model.midway()
                self.wfile.write(b"".join(lines[half:]))

            def _answer(self, kind: str, data: bytes) -> None:
                self._begin(HTTPStatus.OK, kind, len(data))
                self.wfile.write(data)

            def _begin(self, status: int, kind: str, size: int) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(size))
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its parent's name)
                """Say nothing."""

        return Handler


def package_scripted(folder: Path, *, name: str = CHAT, api: Api = "chat", **given: Any) -> Signed[Manifest]:
    """A package of the model that such a server serves."""
    files = folder.with_suffix(".files")
    files.mkdir(parents=True, exist_ok=True)
    (files / "config.json").write_text("{}")
    return publish(files, folder, name=name, kind="upstream", api=api, served_as="scripted", **given)


def _vectors(asked: dict[str, Any]) -> dict[str, Any]:
    """One for each text: how long it is."""
    texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    data = [{"object": "embedding", "index": place, "embedding": [len(text), 0]} for place, text in enumerate(texts)]
    return {"object": "list", "model": asked["model"], "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}


def _event(model: str, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    return head | {"choices": [choice]}
