"""The floor under a sealed chat: the same runtime, behind OpenAI's API on loopback, with nothing else in between.

`python -m bench.runtime_server FOLDER` opens the causal model in the folder, prints its port, and answers chats as server-sent
events, from the standard library's server: no token, no seal, no log.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from blindgate_node.backends.causal import CausalModel
from blindgate_node.backends.requests import read_chat


class Handler(BaseHTTPRequestHandler):
    """Answers `/v1/chat/completions`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    model: CausalModel

    def do_POST(self) -> None:
        """Stream an answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in self.model.chat(read_chat(body)):
            self._send(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self._send(b"data: [DONE]\n\n")
        self._send(b"")

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def _send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


@contextmanager
def runtime_server(folder: Path) -> Iterator[str]:
    """Such a server in a process of its own; gives the address of its API."""
    with Popen([sys.executable, "-m", "bench.runtime_server", str(folder)], stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.kill()


if __name__ == "__main__":
    Handler.model = CausalModel(Path(sys.argv[1]), device="cpu")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
