"""Servers that are no help: `audit verify` ends soon, with a reason, whatever they answer."""

import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from audit_command import audit_verify
from blindgate_audit import fetching
from static_logs import random_entries, served, write_log

Verify = Callable[..., tuple[int, str]]


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """The command, with a memory of its own."""
    return partial(audit_verify, tmp_path / "memory")


def hostile(answer: Callable[[BaseHTTPRequestHandler], None]) -> type[BaseHTTPRequestHandler]:
    """A server that answers everything in one way."""

    class Hostile(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Hostile


def test_an_answer_without_end_is_cut_off(verify: Verify) -> None:
    """It is cut off where a checkpoint must have ended."""
    sent = []

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            for _ in range(10_000):
                request.wfile.write(bytes(1 << 16))
                sent.append(1 << 16)
        except OSError:
            return

    with served(hostile(endless)) as url:
        status, printed = verify(url)
    assert status == 1
    assert "more than the 131072 bytes" in printed
    assert sum(sent) < 64 << 20


def test_a_redirect_is_not_followed(tmp_path: Path, verify: Verify) -> None:
    """Whoever is asked answers, or nobody."""
    write_log(tmp_path, random_entries(10))
    with served(tmp_path) as elsewhere:

        def redirect(request: BaseHTTPRequestHandler) -> None:
            request.send_response(302)
            request.send_header("Location", f"{elsewhere}{request.path}")
            request.send_header("Content-Length", "0")
            request.end_headers()

        with served(hostile(redirect)) as url:
            status, printed = verify(url)
    assert status == 1
    assert "redirects are not followed" in printed


def test_an_answer_that_drips_is_not_waited_for(verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps no auditor waiting."""
    over = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not over.wait(0.05):
            try:
                request.wfile.write(b"x")
                request.wfile.flush()
            except OSError:
                return

    monkeypatch.setattr(fetching, "MOST_SECONDS", 0.5)
    with served(hostile(drip)) as url:
        begun = time.monotonic()
        status, printed = verify(url)
        over.set()
    assert status == 1
    assert "not whole after" in printed
    assert time.monotonic() - begun < 10
