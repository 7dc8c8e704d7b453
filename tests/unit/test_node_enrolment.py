"""How a node is certified and taken in, and what it says when something is missing."""

import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from blindgate_gateway.settings import DAY
from blindgate_node.commands import app
from blindgate_node.enrolment import enrol, load_certificate
from blindgate_node.operators import operator_app
from blindgate_node.settings import Settings
from blindgate_node.signer import load_key, load_or_create_key
from blindgate_protocol.errors import KeyStoreError, NotAuthorisedError, ReceiptNodeError
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.signing import Signed, SigningKey, open_signed
from brokerage import Keys, now_ms
from lying_gateway import LyingGateway

TOKEN = "enrolment-token-of-the-test"


@pytest.fixture
def gateway() -> Iterator[LyingGateway]:
    """A gateway that takes in whoever asks."""
    gateway = LyingGateway(Keys())
    yield gateway
    gateway.close()


def settings(data: Path, gateway: str, **changes: Any) -> Settings:
    """A node's settings."""
    given: dict[str, Any] = {"data": data, "gateway": gateway}
    return Settings(**(given | changes))


def certificate(operator: SigningKey, node: SigningKey, /, **changes: Any) -> Signed[NodeCertificate]:
    """An operator's word for a node."""
    given: dict[str, Any] = {
        "node": node.id,
        "name": "node-1",
        "operator": operator.id,
        "issued": now_ms() - 1000,
        "expires": now_ms() + DAY,
    }
    return operator.sign(NodeCertificate(**(given | changes)))


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    """The node is the same node after a restart."""
    file = tmp_path / "node" / "node.key"
    made = load_or_create_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_or_create_key(file).id == made.id
    assert [entry.name for entry in file.parent.iterdir()] == ["node.key"]


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        pytest.param(bytes(32), 0o644, "can be read by others", id="readable"),
        pytest.param(bytes(31), 0o600, "does not hold 32 bytes", id="short"),
        pytest.param(bytes(33), 0o600, "does not hold 32 bytes", id="long"),
    ],
)
def test_a_key_file_that_is_not_as_it_was_made_is_refused(
    tmp_path: Path, content: bytes, mode: int, words: str
) -> None:
    """A key that others may have read is not used silently."""
    file = tmp_path / "node.key"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(KeyStoreError, match=words):
        load_key(file)


def test_a_key_file_behind_a_link_is_refused(tmp_path: Path) -> None:
    """Nobody chooses the node's key by planting a link."""
    (tmp_path / "other").write_bytes(bytes(32))
    (tmp_path / "node.key").symlink_to(tmp_path / "other")
    with pytest.raises(KeyStoreError):
        load_key(tmp_path / "node.key")


def test_without_a_certificate_the_message_is_the_command_to_run(tmp_path: Path) -> None:
    """A stranger knows what to send to whom."""
    key = SigningKey.generate()
    with pytest.raises(ReceiptNodeError, match=f"blindgate operator certify {key.id}"):
        load_certificate(tmp_path / "certificate.json", key, now_ms())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"expires": now_ms() - 1}, id="expired"),
        pytest.param({"node": SigningKey.generate().id}, id="of another node"),
        pytest.param({"operator": SigningKey.generate().id}, id="signed by another operator"),
    ],
)
def test_a_certificate_that_does_not_vouch_is_refused_at_start(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Not only when the first receipt is refused by a client."""
    key = SigningKey.generate()
    file = tmp_path / "certificate.json"
    file.write_bytes(certificate(SigningKey.generate(), key, **changes).envelope.to_bytes())
    with pytest.raises(ReceiptNodeError, match="blindgate operator certify"):
        load_certificate(file, key, now_ms())


def test_the_token_is_spent_once_and_not_kept(tmp_path: Path, gateway: LyingGateway) -> None:
    """A restart needs no token; another gateway, or another key, does."""
    key, operator = SigningKey.generate(), SigningKey.generate()
    vouched = certificate(operator, key)
    given = settings(tmp_path, gateway.url, enrolment_token=SecretStr(TOKEN))
    enrol(given, key, vouched, now_ms())
    again = settings(tmp_path, gateway.url)
    enrol(again, key, vouched, now_ms())
    assert TOKEN not in (tmp_path / "enrolment.json").read_text()
    assert stat.S_IMODE((tmp_path / "enrolment.json").stat().st_mode) == 0o600
    with pytest.raises(NotAuthorisedError, match="BLINDGATE_NODE_ENROLMENT_TOKEN"):
        enrol(settings(tmp_path, "http://127.0.0.1:1"), key, vouched, now_ms())
    with pytest.raises(NotAuthorisedError, match="BLINDGATE_NODE_ENROLMENT_TOKEN"):
        enrol(again, SigningKey.generate(), vouched, now_ms())


def test_a_node_that_was_enrolled_by_an_older_version_stays_enrolled(tmp_path: Path) -> None:
    """Its token is ignored: the gateway knows its key."""
    key = SigningKey.generate()
    old = {"gateway": "http://127.0.0.1:1", "node": key.id, "token": "bn_0.x"}
    (tmp_path / "enrolment.json").write_text(json.dumps(old))
    enrol(settings(tmp_path, "http://127.0.0.1:1"), key, certificate(SigningKey.generate(), key), now_ms())


def test_an_enrolment_that_nobody_looked_at_is_sent_again_when_the_gateway_says(
    tmp_path: Path, gateway: LyingGateway
) -> None:
    """A hundred nodes may start at once behind one address."""
    key = SigningKey.generate()
    gateway.limited = 1
    given = settings(tmp_path, gateway.url, enrolment_token=SecretStr(TOKEN))
    began = time.monotonic()
    enrol(given, key, certificate(SigningKey.generate(), key), now_ms())
    assert 1.0 <= time.monotonic() - began < 20
    assert gateway.nodes == {key.id}


def test_secrets_are_not_shown() -> None:
    """Settings may be printed."""
    assert TOKEN not in repr(settings(Path("x"), "http://gateway", enrolment_token=SecretStr(TOKEN)))


def test_an_operator_and_a_node_get_to_a_certificate_by_the_commands_alone(tmp_path: Path) -> None:
    """What the node prints goes into the operator's command, and what that writes satisfies the node."""
    runner = CliRunner()
    operator_key, data, written = (
        str(tmp_path / "operator.key"),
        str(tmp_path / "node"),
        str(tmp_path / "certificate.json"),
    )
    node = json.loads(runner.invoke(app, ["key", "--data", data, "--json"]).stdout)["node"]
    missing = runner.invoke(operator_app, ["certify", node, "--name", "node-1", "--key", operator_key, "-o", written])
    assert missing.exit_code == 1
    assert "blindgate operator key" in missing.stderr
    operator = runner.invoke(operator_app, ["key", "--key", operator_key]).stdout.strip()
    done = runner.invoke(operator_app, ["certify", node, "--name", "node-1", "--key", operator_key, "-o", written])
    assert done.exit_code == 0, done.output
    signed = open_signed(Path(written).read_bytes(), NodeCertificate)
    assert (signed.signer, signed.document.node) == (operator, node)
    own = load_key(Path(data) / "node.key")
    assert own is not None
    assert load_certificate(Path(written), own, now_ms()).document.name == "node-1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["serve", "--gateway", "gateway.example"], "http://", id="no scheme"),
        pytest.param(["serve", "--publisher", "me"], "publishers", id="no key id"),
        pytest.param(["serve"], "BLINDGATE_NODE_PUBLISHERS", id="no publisher"),
        pytest.param(["serve", "--config", "nowhere.toml"], "does not exist", id="no settings file"),
    ],
)
def test_a_setting_that_is_wrong_or_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """One sentence and exit code 1, no traceback."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert words in result.stderr
