"""A stand-in for vLLM or llama.cpp's server: a process that speaks OpenAI's API on loopback, and can misbehave.

Run as a program, it prints its port. The model's name in a request says how it behaves; every request's body, its path and its
key are appended to the file that it was given.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WORDS = ("Rest", ", drink", " tea", " or 茶.")
TOO_LONG: dict[str, dict[str, Any]] = {
    "too long for vLLM": {
        "message": "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens.",
        "param": "your secret prompt",
        "code": 400,
    },
    "too long for llama.cpp": {
        "message": "the request exceeds the available context size: your secret prompt",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 5000,
        "n_ctx": 4096,
    },
}
"""Models that refuse every prompt, as those servers say it."""


class Handler(BaseHTTPRequestHandler):
    """Answers chats word by word, and embeds a text as its length."""

    protocol_version = "HTTP/1.1"
    seen: Path

    def do_POST(self) -> None:
        """`/v1/chat/completions` and `/v1/embeddings`."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.seen.open("a") as file:
            file.write(json.dumps({"path": self.path, "key": self.headers["Authorization"], "body": body}) + "\n")
        model = body["model"]
        if model in TOO_LONG:
            self._answer(400, json.dumps({"error": TOO_LONG[model]}).encode())
        elif model.startswith("status-"):
            self._answer(int(model.removeprefix("status-")), b'{"error": {"message": "your secret prompt is bad"}}')
        elif self.path == "/v1/embeddings":
            data = [
                {"object": "embedding", "index": i, "embedding": [len(t), 1.5]} for i, t in enumerate(body["input"])
            ]
            answer = {
                "object": "list",
                "data": data[: -1 if model == "fewer" else None][::-1],
                "usage": {"prompt_tokens": 3},
            }
            self._answer(200, json.dumps(answer).encode())
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                self._stream(body)
            except (BrokenPipeError, ConnectionResetError):
                with self.seen.open("a") as file:
                    file.write(json.dumps({"path": "gone"}) + "\n")

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "http://192.0.2.1/")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body: dict[str, Any]) -> None:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        self._send(b": awake\n\n")
        if body["model"] == "garbage":
            self._send(b'data: {"id": \n\n')
        if body["model"] == "long line":
            self._send(b"data: " + b"x" * (2 << 20))
        words = WORDS * (10_000 if body["model"] == "endless" else 1)
        for word in words:
            self._event(head | {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
        if body["model"] == "text in a list":
            self._event(head | {"choices": [{"index": 0, "delta": {"content": ["a"]}}]})
        self._event(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if body.get("stream_options", {}).get("include_usage"):
            usage = {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
            self._event(head | {"choices": [], "usage": usage})
        if body["model"] != "cut":
            self._send(b"data: [DONE]\n\n")
        self._send(b"")

    def _event(self, value: dict[str, Any]) -> None:
        data = b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\r\n\r\n"
        self._send(data[:20])  # events do not end where TCP's segments do
        self._send(data[20:])

    def _send(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


@contextmanager
def running_server(seen: Path) -> Iterator[str]:
    """The address of a server that writes what it is asked to `seen`."""
    with subprocess.Popen([sys.executable, "-I", __file__, str(seen)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


if __name__ == "__main__":
    Handler.seen = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
