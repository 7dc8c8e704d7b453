"""Whom `blindgate audit key` and `audit tenant` believe: the same policy file as `audit verify`, and the same options."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit_command import audit
from blindgate_protocol.notes import KeyKind
from exports import KEY, TENANT, Export, life
from second_keys import LIES, SECOND, Lines, signed_too
from static_logs import LOG_KEY, WITNESSES, verifier

VKEY = str(verifier(LOG_KEY))
ELSEWHERE = verifier(Ed25519PrivateKey.from_private_bytes(b"\x02" * 32), "elsewhere.example/log")
NAMES_NO_OTHER = f"""
[logs]
elsewhere = "{ELSEWHERE}"
"""
NAMES_THE_LOG = f"""{NAMES_NO_OTHER}
ours = "{VKEY}"
"""
SECOND_KEY = f"""
[second_keys]
ours = "{SECOND.verifier}"
"""
ONE_WITNESS = f"""
[witnesses]
w1 = "{verifier(WITNESSES["w1.example"], "w1.example", KeyKind.COSIGNATURE)}"
[rules]
cosignatures = 1
"""
COMMANDS = pytest.mark.parametrize("command", [("key", KEY), ("tenant", TENANT)], ids=["key", "tenant"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export of a key's life."""
    return Export(life()).write(tmp_path / "log")


def report(command: tuple[str, str], folder: Path, *options: object) -> tuple[int, str]:
    """Ask, with nothing remembered."""
    return audit(*command, "--folder", folder, "--remember", folder.parent / "memory", *options)


@COMMANDS
@pytest.mark.parametrize("lines", LIES.values(), ids=LIES.keys())
def test_a_log_without_the_signature_of_its_second_key_is_not_reported_on(
    folder: Path, command: tuple[str, str], lines: Lines
) -> None:
    """Whoever demands it, by the client's policy or by an option, is shown nothing of a log that lacks it."""
    policy = folder.parent / "policy.toml"
    policy.write_text(NAMES_THE_LOG + SECOND_KEY)
    honest = (folder / "checkpoint").read_bytes()
    (folder / "checkpoint").write_bytes(signed_too(honest, lines))
    for named in (("--policy", policy), ("--key", VKEY, "--second-key", SECOND.verifier)):
        status, said = report(command, folder, *named)
        assert (status, "second key" in said or "ML-DSA-44" in said, "key.registered" in said) == (1, True, False), said
    (folder / "checkpoint").write_bytes(signed_too(honest))
    status, said = report(command, folder, "--policy", policy)
    assert (status, "key.registered" in said, "vouches for itself" in said) == (0, True, False), said


@COMMANDS
def test_a_policy_names_witnesses_and_how_many_must_have_cosigned(folder: Path, command: tuple[str, str]) -> None:
    """Unless an option says otherwise."""
    policy = folder.parent / "policy.toml"
    policy.write_text(NAMES_THE_LOG + ONE_WITNESS)
    status, said = report(command, folder, "--policy", policy)
    assert (status, "0 cosignatures of trusted witnesses; 1 are wanted" in said) == (1, True), said
    assert report(command, folder, "--policy", policy, "--cosignatures", 0)[0] == 0


def test_a_log_that_the_policy_does_not_name_is_refused(folder: Path) -> None:
    """Whether the policy names one log or none."""
    policy = folder.parent / "policy.toml"
    policy.write_text(NAMES_NO_OTHER)
    status, said = report(("key", KEY), folder, "--policy", policy)
    assert (status, "expected one of 'elsewhere.example/log'" in said) == (1, True), said
    policy.write_text("")
    status, said = report(("key", KEY), folder, "--policy", policy)
    assert (status, f"{folder} is signed by no log that it names; it names: none" in said) == (1, True), said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--policy", "policy.toml", "--key", VKEY), "give it or --key"),
        (("--key", "x"), "--key: a verifier key is"),
        (("--second-key", "x"), "--second-key: a verifier key is"),
        (("--witness", "x"), "expected NAME=VKEY"),
        (("--witness", "w=x"), "--witness w: a verifier key is"),
    ],
)
def test_what_was_mistyped_is_named(folder: Path, options: tuple[str, ...], says: str) -> None:
    """As a mistyped command, not as a fault of the log."""
    status, said = report(("key", KEY), folder, *options)
    assert (status, says in " ".join(said.replace("│", "").split())) == (2, True), said
