"""Who may not ask `blindgate proxy`, and what it makes of bytes that are no request. No gateway is reached from here."""

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from openai_proxy import OpenAIProxy, environment_of
from typed import type_command

PLANTED = "planted: the patient's name is Aurelia Quince"
POLICY = '[rules]\nlanes = ["tee"]\n'
CHAT: dict[str, Any] = {"model": "tiny-chat", "messages": [{"role": "user", "content": PLANTED}]}
NOBODY = environment_of("http://127.0.0.1:9", "bg_nobody.nothing")


def home(folder: Path, policy: str = POLICY) -> Path:
    """A client's folder."""
    (folder / "policy.toml").write_text(policy)
    return folder


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAIProxy]:
    """A proxy whose gateway cannot be reached, and which one page may ask."""
    folder = home(tmp_path_factory.mktemp("proxy"))
    with OpenAIProxy(folder, "--allow-origin", "https://page.example", "--allow-host", "desk", **NOBODY) as running:
        yield running


def ask(
    proxy: OpenAIProxy, body: bytes | str = b"", *, path: str = "/v1/chat/completions", **headers: str | None
) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
    """POST with the token, JSON's type and this proxy's host, unless told otherwise: status, body and headers."""
    usual: dict[str, str | None] = {"authorization": f"Bearer {proxy.token}", "content-type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    sent = {name.replace("_", "-"): value for name, value in (usual | headers).items() if value is not None}
    connection.request("POST", path, body or json.dumps(CHAT), sent)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    return answer.status, said, answer.headers


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        pytest.param({"authorization": None}, 401, "invalid_api_key", id="no token"),
        pytest.param({"authorization": "Bearer bp_of-somebody-else-000"}, 401, "invalid_api_key", id="another token"),
        pytest.param({"authorization": "Basic YTpi"}, 401, "invalid_api_key", id="another scheme"),
        pytest.param({"authorization": "Bearer caf\xe9"}, 401, "invalid_api_key", id="token that is not ASCII"),
        pytest.param({"host": "attacker.example"}, 403, "foreign-host", id="DNS rebinding"),
        pytest.param({"host": "127.0.0.1.attacker.example:8081"}, 403, "foreign-host", id="host that begins right"),
        pytest.param({"host": "127.0.0.1, attacker.example"}, 403, "foreign-host", id="two hosts"),
        pytest.param({"host": ""}, 403, "foreign-host", id="no host"),
        pytest.param({"origin": "https://attacker.example"}, 403, "foreign-origin", id="a page"),
        pytest.param({"origin": "null"}, 403, "foreign-origin", id="a page without an origin"),
        pytest.param({"origin": "http://127.0.0.1:8081"}, 403, "foreign-origin", id="a page of another local server"),
        pytest.param({"content_type": "text/plain"}, 415, "bad-input", id="what a page may send without asking"),
    ],
)
def test_strangers_are_refused(proxy: OpenAIProxy, headers: dict[str, str | None], status: int, code: str) -> None:
    """With OpenAI's shape of an error, no header that lets a page read it, and no hint to ask again."""
    got, said, answered = ask(proxy, json.dumps(CHAT), path="/v1/chat/completions", **headers)
    assert (got, said["error"]["code"]) == (status, code)
    assert set(said["error"]) == {"message", "type", "param", "code"}
    assert answered["X-Should-Retry"] == "false"
    assert not [name for name in answered if name.lower().startswith("access-control-")]


def test_those_that_were_allowed_come_as_far_as_the_gateway(proxy: OpenAIProxy) -> None:
    """Which is not there: 502, and what is not there is named."""
    status, said, headers = ask(proxy, origin="https://page.example", host="desk:9999")
    assert (status, said["error"]["code"]) == (502, "gateway-unreachable")
    assert "127.0.0.1:9" in said["error"]["message"]
    assert headers["X-Should-Retry"] == "true"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        pytest.param("[" * 100_000, 400, None, id="nested deeply"),
        pytest.param(f'{{"model": "tiny-chat", "messages": ["{PLANTED}"', 400, None, id="cut short"),
        pytest.param(f'["{PLANTED}"]', 400, None, id="no object"),
        pytest.param(b'{"model": "\xff"}', 400, None, id="not UTF-8"),
        pytest.param('{"model": "m", "messages": [], "temperature": NaN}', 400, None, id="no number"),
        pytest.param('{"messages": []}', 400, "model", id="no model"),
        pytest.param(json.dumps(CHAT | {"model": f"../{PLANTED}"}), 404, "model", id="no model's name"),
        pytest.param(json.dumps(CHAT | {"messages": PLANTED}), 400, "messages", id="messages of another type"),
        pytest.param(json.dumps(CHAT | {"stream": PLANTED}), 400, "stream", id="stream of another type"),
    ],
)
def test_what_is_no_request_is_named_and_not_repeated(
    proxy: OpenAIProxy, body: bytes | str, status: int, param: str | None
) -> None:
    """The member at fault, and nothing that stood in it."""
    got, said, _ = ask(proxy, body)
    assert (got, said["error"]["param"]) == (status, param)
    assert "planted" not in json.dumps(said)


def test_a_body_is_bounded(proxy: OpenAIProxy) -> None:
    """By the length that it claims, before it is read; and by what comes, where it claims none."""
    assert ask(proxy, json.dumps(CHAT | {"pad": "x" * (4 << 20)}))[0] == 413
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as stranger:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {proxy.token}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        stranger.sendall(head.encode())
        piece = b"10000\r\n" + b"x" * (1 << 16) + b"\r\n"
        try:
            for _ in range(100):
                stranger.sendall(piece)
            stranger.sendall(b"0\r\n\r\n")
        except ConnectionError:
            pass  # it would read no more
        assert stranger.recv(100).startswith(b"HTTP/1.1 413 ")


def test_bytes_that_are_no_http_are_not_repeated(proxy: OpenAIProxy) -> None:
    """A prompt that was sent in a wrong place stands neither in the answer nor in the log."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as stranger:
        stranger.sendall(f"POST {PLANTED} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        said = stranger.recv(4096)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"planted" not in said
    assert '"error"' in said.decode()


def test_callers_that_stall_hold_up_nobody(proxy: OpenAIProxy) -> None:
    """More of them than there are threads, each in the middle of its headers."""
    stalled = [socket.create_connection(("127.0.0.1", proxy.port), timeout=30) for _ in range(80)]
    try:
        for one in stalled:
            one.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: loc")
        began = time.monotonic()
        assert ask(proxy)[0] == 502
        assert time.monotonic() - began < 15
    finally:
        for one in stalled:
            one.close()


def test_unknown_addresses_and_health(proxy: OpenAIProxy) -> None:
    """Health needs no token, and tells nothing; what is not there is said so, and the openai package understands it."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    connection.request("GET", "/healthz")
    assert json.loads(connection.getresponse().read()) == {"status": "ok"}
    connection.close()
    assert ask(proxy, path=f"/v1/{PLANTED.replace(' ', '%20')}")[0] == 404
    with proxy.openai() as client, pytest.raises(openai.NotFoundError) as refused:
        client.completions.create(model="tiny-chat", prompt=PLANTED)
    assert refused.value.code == "unknown_url"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param("/v1/responses", "use_responses_api=False", id="responses"),
        pytest.param("/v1/completions", "/v1/chat/completions, with the prompt as a message", id="completions"),
        pytest.param("/chat/completions", "ends in /v1", id="an address without /v1"),
        pytest.param("/v1//chat/completions", "and nothing else", id="a slash too many"),
        pytest.param("/v1/images/generations", "and nothing else", id="pictures"),
    ],
)
def test_what_is_not_here_is_told_with_what_to_ask_instead(proxy: OpenAIProxy, path: str, words: str) -> None:
    """In OpenAI's shape, and never by a redirection, which would carry the prompt on or lose it."""
    status, said, _ = ask(proxy, path=path)
    assert (status, said["error"]["code"]) == (404, "unknown_url")
    assert words in said["error"]["message"]


@pytest.mark.parametrize(
    ("members", "param"),
    [
        pytest.param({"tools": [{"type": "function", "function": {"name": PLANTED}}]}, "tools", id="tools"),
        pytest.param({"n": 2}, "n", id="two choices"),
        pytest.param({"messages": [{"role": "tool", "content": PLANTED}]}, "messages", id="a tool's answer"),
    ],
)
def test_what_no_answer_can_have_is_refused_before_a_gateway_is_asked(
    proxy: OpenAIProxy, members: dict[str, Any], param: str
) -> None:
    """This proxy's cannot be reached: had it been asked, this were 502. No job is paid for."""
    status, said, headers = ask(proxy, json.dumps(CHAT | members))
    assert (status, said["error"]["param"]) == (400, param)
    assert headers["X-Should-Retry"] == "false"
    assert "planted" not in json.dumps(said)


def test_nothing_of_all_that_stands_in_the_log(proxy: OpenAIProxy) -> None:
    """The planted words were in nearly every request of this file."""
    ask(proxy)
    assert "planted" not in proxy.log
    assert "Aurelia" not in proxy.log
    assert proxy.token not in proxy.log
    assert {line["event"] for line in proxy.lines} >= {"listening", "answered", "failed"}


@pytest.mark.parametrize(
    ("options", "policy", "words"),
    [
        pytest.param(["--listen", "0.0.0.0"], POLICY, "--unsafe-listen", id="every network"),
        pytest.param(["--listen", "localhost.attacker.example"], POLICY, "not an address in digits", id="a name"),
        pytest.param([], '[rules]\nlanes = ["fhe"]\n', "rules.lanes", id="a policy that would refuse everything"),
        pytest.param(["--token-file", "short"], POLICY, "at least 16", id="a token that is guessed"),
        pytest.param(["--token-file", "shared"], POLICY, "chmod 600", id="a token that everybody reads"),
    ],
)
def test_it_does_not_start_where_it_would_not_be_safe(
    tmp_path: Path, options: list[str], policy: str, words: str
) -> None:
    """Exit code 1, and a line that says what to do."""
    home(tmp_path, policy)
    (tmp_path / "short").write_text("secret")
    (tmp_path / "short").chmod(0o600)
    (tmp_path / "shared").write_text("bp_long-enough-to-be-one")
    (tmp_path / "shared").chmod(0o644)
    given = {"BLINDGATE_HOME": str(tmp_path), "BLINDGATE_POLICY": str(tmp_path / "policy.toml"), **NOBODY}
    done = type_command(["proxy", "--port", "0", *options], os.environ | given, tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_that_was_given_is_not_printed(tmp_path: Path) -> None:
    """Neither at the start nor in the log; it opens, and an address that is not safe is warned of. SIGTERM ends it well."""
    token = "bp_given-by-the-user-0001"
    options = ("--listen", "0.0.0.0", "--unsafe-listen", "--allow-host", "127.0.0.1")
    running = OpenAIProxy(home(tmp_path), *options, BLINDGATE_PROXY_TOKEN=token, **NOBODY)
    assert running.said["token"] is None
    assert ask(running)[0] == 502
    assert running.stop() == 0
    assert token not in running._log_file.read_text()
    assert "warning" in running._log_file.read_text()
