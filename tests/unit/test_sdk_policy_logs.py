"""What a policy says of logs and witnesses: reading, writing, and the commands."""

import json
from pathlib import Path

import pytest

from blindgate.commands import policy as commands
from blindgate.policy import Policy, Rules
from blindgate_protocol.errors import PolicyError, UntrustedSignerError
from blindgate_protocol.notes import parse_note
from blindgate_protocol.signing import SigningKey
from memory_log import ORIGIN, Cosigner, MemoryLog
from second_keys import SECOND

LOG, WITNESS, OTHER = MemoryLog(), Cosigner("north.example"), Cosigner("south.example")
KEY, CLIENT = str(LOG.key), SigningKey.generate().id
SECOND_KEY = str(SECOND.verifier)
WITNESSES = f'[witnesses]\nnorth = "{WITNESS.key}"\n'
LOGS = f'[logs]\nours = "{KEY}"\n'


def run(*given: str, home: Path) -> None:
    """Run a command of `blindgate policy`."""
    commands.app([*given, "--home", str(home)], standalone_mode=False)


def load(home: Path) -> Policy:
    """The home's policy."""
    return Policy.load(home / "policy.toml")


def test_a_policy_with_a_log_reads_as_it_was_written(tmp_path: Path) -> None:
    """What the command line writes, a person can read and the SDK reads back."""
    policy = Policy(
        {},
        {},
        Rules(cosignatures=1, log_within=2.5),
        tmp_path / "policy.toml",
        {"ours": KEY},
        {"north.1": str(WITNESS.key)},
        second_keys={"ours": SECOND_KEY},
    )
    policy.save()
    assert load(tmp_path) == policy
    trust = load(tmp_path).log_trusts()["ours"]
    assert (trust.log, dict(trust.witnesses), trust.cosignatures) == (LOG.key, {"north.1": WITNESS.key}, 1)
    assert trust.second == SECOND.verifier


def test_a_policy_that_names_no_log_asks_for_none(tmp_path: Path) -> None:
    """As every policy of before."""
    (tmp_path / "policy.toml").write_text('[rules]\nlanes = ["fhe"]\n')
    assert load(tmp_path).log_trusts() == {}


def test_a_policy_without_second_keys_is_written_as_older_releases_read_it(tmp_path: Path) -> None:
    """They refuse a section that they do not know."""
    run("trust", "log", "ours", KEY, home=tmp_path)
    assert "second_keys" not in (tmp_path / "policy.toml").read_text()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('[logs]\nours = "gateway.example+00000000+AAAA"', "logs.ours", id="no verifier key"),
        pytest.param(f'[logs]\nours = "{WITNESS.key}"', "logs.ours.*COSIGNATURE", id="a witness's key for a log"),
        pytest.param(f'[witnesses]\nw = "{KEY}"', "witnesses.w.*ED25519", id="a log's key for a witness"),
        pytest.param(f'[logs]\nours = "{CLIENT}"', "logs.ours", id="a signing key's id for a log"),
        pytest.param(f'[log]\nours = "{KEY}"', "log", id="misspelt section"),
        pytest.param(f"{LOGS}{WITNESSES}[rules]\ncosignatures = 2", "asks for 2 witnesses.*names 1", id="too many"),
        pytest.param(
            f'{LOGS}{WITNESSES}again = "{WITNESS.key}"\n[rules]\ncosignatures = 2',
            "asks for 2 witnesses.*names 1",
            id="one witness twice",
        ),
        pytest.param(f"{WITNESSES}[rules]\ncosignatures = 1", "names no log", id="cosignatures of no log"),
        pytest.param(f"{LOGS}[rules]\ncosignatures = -1", "rules.cosignatures", id="less than none"),
        pytest.param(f"{LOGS}[rules]\ncosignatures = true", "rules.cosignatures", id="no number"),
        pytest.param(f"{LOGS}[rules]\nlog_within = 0", "rules.log_within", id="no time"),
        pytest.param(f"{LOGS}[rules]\nlog_within = inf", "rules.log_within", id="for ever"),
        pytest.param(
            f'{LOGS}[second_keys]\nours = "{KEY}"', "second_keys.ours.*ED25519", id="a first key for a second"
        ),
        pytest.param(
            f'{LOGS}[second_keys]\nother = "{SECOND_KEY}"', "second_keys.other.*names no 'other'", id="of no log"
        ),
        pytest.param(
            f'[logs]\nours = "{MemoryLog("elsewhere.example/log").key}"\n[second_keys]\nours = "{SECOND_KEY}"',
            "second_keys.ours is a key of 'gateway.example/log', and the log 'ours' is 'elsewhere.example/log'",
            id="of another log",
        ),
    ],
)
def test_a_policy_with_a_mistake_about_logs_is_refused_by_the_field(tmp_path: Path, text: str, says: str) -> None:
    """When it is read, not when a result is there."""
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(PolicyError, match=says):
        load(tmp_path)


def test_a_log_and_a_witness_are_trusted_shown_and_distrusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each by its own word; the output says what is asked for from now on."""
    run("trust", "log", "ours", KEY, home=tmp_path)
    run("trust", "witness", "north", str(WITNESS.key), home=tmp_path)
    assert "within 30 s, cosigned by 0 of 1 witnesses" in capsys.readouterr().err
    run("show", "--json", home=tmp_path)
    assert json.loads(capsys.readouterr().out) == [
        {"may": "log results", "name": "ours", "key": KEY},
        {"may": "vouch for logs", "name": "north", "key": str(WITNESS.key)},
    ]
    run("distrust", "witness", "north", home=tmp_path)
    run("distrust", "log", "ours", home=tmp_path)
    assert "need not stand in a log" in capsys.readouterr().err
    assert (load(tmp_path).logs, load(tmp_path).witnesses) == ({}, {})


def test_a_logs_second_key_is_trusted_after_the_log_and_distrusted_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """People see its beginning, scripts all of it."""
    with pytest.raises(PolicyError, match="names no 'ours'"):
        run("trust", "second-key", "ours", SECOND_KEY, home=tmp_path)
    run("trust", "log", "ours", KEY, home=tmp_path)
    run("trust", "second-key", "ours", SECOND_KEY, home=tmp_path)
    assert load(tmp_path).second_keys == {"ours": SECOND_KEY}
    assert SECOND_KEY not in capsys.readouterr().err
    run("show", "--json", home=tmp_path)
    assert json.loads(capsys.readouterr().out)[1] == {
        "may": "sign that log as well",
        "name": "ours",
        "key": SECOND_KEY,
    }
    run("show", home=tmp_path)
    shown = "".join(capsys.readouterr().out.split())
    assert SECOND_KEY[:100] in shown
    assert SECOND_KEY not in shown
    run("distrust", "log", "ours", home=tmp_path)
    assert (load(tmp_path).logs, load(tmp_path).second_keys) == ({}, {})


def test_a_name_is_not_given_to_another_log(tmp_path: Path) -> None:
    """Changing a key is two decisions."""
    run("trust", "log", "ours", KEY, home=tmp_path)
    with pytest.raises(PolicyError, match="already another key"):
        run("trust", "log", "ours", str(MemoryLog().key), home=tmp_path)


def test_the_witness_that_a_rule_needs_is_not_taken_away(tmp_path: Path) -> None:
    """The file stays one that can be read."""
    (tmp_path / "policy.toml").write_text(f"{LOGS}{WITNESSES}[rules]\ncosignatures = 1\n")
    with pytest.raises(PolicyError, match=r"rules\.cosignatures"):
        run("distrust", "witness", "north", home=tmp_path)
    assert list(load(tmp_path).witnesses) == ["north"]


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        pytest.param("log", CLIENT, id="a signing key's id as a log's"),
        pytest.param("log", KEY[:-4], id="cut short"),
        pytest.param("log", KEY.replace(ORIGIN, "other.example/log"), id="under another name"),
        pytest.param("log", str(WITNESS.key), id="a witness's as a log's"),
        pytest.param("witness", KEY, id="a log's as a witness's"),
        pytest.param("publisher", KEY, id="a log's as a publisher's"),
        pytest.param("second-key", KEY, id="a log's first key as its second"),
        pytest.param("log", SECOND_KEY, id="a log's second key as its first"),
    ],
)
def test_a_key_of_another_kind_is_not_trusted(tmp_path: Path, kind: str, key: str) -> None:
    """And nothing is written."""
    with pytest.raises(PolicyError, match="not a name and a key"):
        run("trust", kind, "somebody", key, home=tmp_path)
    assert not (tmp_path / "policy.toml").exists()


def test_an_unknown_log_is_refused_with_what_is_trusted_and_how_to_add_it(tmp_path: Path) -> None:
    """The id is shown, so that the operator's answer can be compared; the key must come from elsewhere."""
    stranger = MemoryLog("elsewhere.example/log")
    stranger.fill(1)
    note = parse_note(stranger.proof(0).proof.partition("\n\n")[2].encode())
    policy = Policy({}, {}, path=tmp_path / "policy.toml", logs={"ours": KEY})
    with pytest.raises(UntrustedSignerError) as caught:
        policy.require_log(note)
    for part in ("elsewhere.example/log", stranger.key.id.hex(), KEY, "blindgate policy trust log"):
        assert part in str(caught.value)
