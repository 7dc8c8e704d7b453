"""`blindgate trust appraise`: told by its exit status, read by people and by scripts, and held to a policy."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from blindgate.attestation import nitro
from blindgate.attestation.appraisal import Appraisal, Asked, Claim
from blindgate.attestation.rules import PlatformRules, hold_to_policy
from blindgate.commands.appraisals import show_appraisal
from blindgate.commands.trust import app
from blindgate.policy import Policy
from blindgate_protocol.errors import InputError, PolicyError
from shared import shared

NOW = int(datetime(2026, 11, 26, tzinfo=UTC).timestamp() * 1000)
PCR0 = "22f9e1c949208da55eb01b9b9fc88f87454f77ba133f0d82320b509621c92482152a99d0a12335b97178c02d6f977d01"
USER_DATA = "7c37108079b3e8a36d8a7970de1d6d4ff1461e0e35d9557c4d789df5e0576620"
WILL_DO = f"""
[platforms.aws-nitro.measurements]
pcr0 = ["{"00" * 48}", "{PCR0}"]
"""

Ask = Callable[..., Result]


@pytest.fixture
def ask() -> Ask:
    """The command, of a file of the vectors."""

    def run(name: str, *options: str) -> Result:
        return CliRunner().invoke(app, ["appraise", str(shared(f"vectors/{name}")), *options])

    return run


def test_a_verdict_is_the_exit_status(ask: Ask) -> None:
    """0 only for what is believed; and it is said in so many words."""
    good, bad = ask("nitro/document.cbor"), ask("nitro/document_bad_signature.cbor")
    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert good.stdout.startswith("aws-nitro: affirming\n  judged for 2022-11-09 22:52:00 UTC")
    assert "REFUSED  signature: the document's signature does not verify" in bad.stdout
    for said in (PCR0, "holds    debug", "Not proven:", "  freshness: "):
        assert said in good.stdout


def test_a_verdict_is_an_attestation_result_for_scripts(ask: Ask) -> None:
    """In the shape of EAR."""
    result = json.loads(ask("nitro/document.cbor", "--json").stdout)
    part = result["submods"]["aws-nitro"]
    assert result["eat_profile"].startswith("tag:ietf.org,")
    assert part["ear.status"] == "affirming"
    assert set(part["ear.trustworthiness-vector"]) == {claim.value for claim in Claim}
    assert {"code": "binding", "text": part["blindgate.not-proven"][0]["text"]} in part["blindgate.not-proven"]
    refused = json.loads(ask("nitro/document_debug.cbor", "--json").stdout)["submods"]["aws-nitro"]
    assert [one["rule"] for one in refused["blindgate.reasons"] if one["status"] == "contraindicated"] == ["debug"]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--report-data", USER_DATA), 0),
        (("--report-data", "0x" + USER_DATA.upper()), 0),
        (("--report-data", ""), 1),
        (("--report-data", "00"), 1),
        (("--nonce", USER_DATA), 1),
        (("--at", "2022-11-09T23:30:00Z"), 0),
        (("--at", "2022-11-09T23:30:00"), 0),
        (("--at", "1668036000"), 0),
        (("--at", "2022-11-10"), 0),
        (("--at", "2022-11-11"), 1),
        (("--at", "2022-11-09"), 1),
    ],
)
def test_evidence_is_held_to_what_was_asked(ask: Ask, options: tuple[str, ...], status: int) -> None:
    """What it binds, what it answers, and when."""
    assert ask("nitro/document.cbor", *options).exit_code == status


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--nonce", "xyz"), "--nonce: got 'xyz', expected bytes in hexadecimal"),
        (("--report-data", "abc"), "--report-data: got 'abc'"),
        (("--at", "soon"), "--at: got 'soon', expected a time such as"),
        (("--chain", "nowhere.pem"), "--chain: nowhere.pem: No such file"),
        (("--policy", "nowhere.toml"), "--policy: there is no file nowhere.toml"),
        (("--chain", __file__), "not a"),
    ],
)
def test_a_mistyped_option_is_named(ask: Ask, options: tuple[str, ...], message: str) -> None:
    """With what was expected."""
    error = ask("nitro/document.cbor", *options).exception
    assert isinstance(error, InputError)
    assert message in str(error)


def test_what_is_no_evidence_is_not_believed(tmp_path: Path) -> None:
    """Whatever it is, it ends in a verdict."""
    for data in (b"", b"\0", b"{}", b"\x84", bytes(5 << 20)):
        (tmp_path / "file").write_bytes(data)
        result = CliRunner().invoke(app, ["appraise", str(tmp_path / "file"), "--json"])
        assert result.exit_code == 1, data[:9]
        (part,) = json.loads(result.stdout)["submods"].values()
        assert part["ear.status"] == "contraindicated"


def test_a_hostile_name_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What evidence calls itself could clear the screen and write another verdict there, wherever it is said."""
    name = "\x1b[2J\r"
    found = Appraisal("aws-nitro", NOW, {"module_id": name, "pcrs": {"0": [name]}})
    found.refuse(Claim.CONFIGURATION, "debug", f"{name} is under debug")
    found.leave_open("binding", f"{name} binds nothing")
    show_appraisal(found)
    shown = capsys.readouterr().out
    assert not {"\x1b", "\r"} & set(shown)
    assert shown.count("�[2J�") == 3
    assert "\\u001b[2J" in shown


def test_what_a_document_that_nobody_signed_says_is_not_shown(ask: Ask, tmp_path: Path) -> None:
    """Only that nobody signed it: no name, no measurement, nothing that holds of it, and none for a policy that wants it."""
    data = shared("vectors/nitro/document.cbor").read_bytes()
    (tmp_path / "file").write_bytes(data.replace(b"i-0", b"i-9", 1))
    (tmp_path / "policy.toml").write_text(WILL_DO)
    command = ["appraise", str(tmp_path / "file"), "--policy", str(tmp_path / "policy.toml"), "--json"]
    part = json.loads(CliRunner().invoke(app, command).stdout)["submods"]["aws-nitro"]
    assert part["blindgate.facts"] == {}
    assert part["ear.trustworthiness-vector"] == {
        "instance-identity": 99,
        "configuration": 0,
        "executables": 96,
        "hardware": 0,
        "runtime-opaque": 0,
        "sourced-data": 96,
    }


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    """A device or a pipe states no size."""
    error = CliRunner().invoke(app, ["appraise", "/dev/zero"]).exception
    assert isinstance(error, InputError)
    assert "more than" in str(error)


@pytest.mark.parametrize(
    ("policy", "refused"),
    [
        pytest.param(WILL_DO, [], id="named"),
        pytest.param("", ["platform"], id="no platform is named"),
        pytest.param('[platforms.amd-sev-snp.measurements]\nmeasurement = ["00"]', ["platform"], id="another platform"),
        pytest.param('[platforms.aws-nitro.measurements]\npcr0 = ["00"]', ["measurement"], id="another image"),
        pytest.param(WILL_DO + 'pcr8 = ["01"]', ["measurement"], id="an image that nobody signed"),
    ],
)
def test_a_policy_decides_what_evidence_alone_cannot(ask: Ask, tmp_path: Path, policy: str, refused: list[str]) -> None:
    """Which platforms, and which programs on them."""
    (tmp_path / "policy.toml").write_text(policy)
    result = ask("nitro/document.cbor", "--policy", str(tmp_path / "policy.toml"), "--json")
    part = json.loads(result.stdout)["submods"]["aws-nitro"]
    assert [one["rule"] for one in part["blindgate.reasons"] if one["status"] == "contraindicated"] == refused
    assert result.exit_code == (1 if refused else 0)
    if not refused:
        assert part["ear.trustworthiness-vector"]["executables"] == 2
        assert "measurement" not in {one["code"] for one in part["blindgate.not-proven"]}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("[platforms.aws-nitro]", "measurements"),
        ("[platforms.aws-nitro.measurements]", "measurements"),
        ('[platforms.aws-nitro.measurements]\npcr0 = ["zz"]', "pcr0"),
        ("[platforms.aws-nitro.measurements]\npcr0 = []", "pcr0"),
        ('[platforms.aws-nitro]\nmeasurements = { pcr0 = ["00"] }\nallow = "all"', "allow"),
        ('[platforms.aws-nitro]\nmeasurements = { pcr0 = ["00"] }\ntcb_evaluation = 17', "intel-tdx"),
        ('[platforms.intel-tdx]\nmeasurements = { mrtd = ["00"] }\nadvisories = ["all"]', "advisories"),
        ('[platforms.intel-tdx]\nmeasurements = { mrtd = ["00"] }\ntcb_evaluation = 0', "tcb_evaluation"),
        ('[platforms.amd-sev-snp]\nmeasurements = { measurement = ["00"] }\nproducts = []', "products"),
        ('[platforms.amd-sev-snp]\nmeasurements = { measurement = ["00"] }\nvmpl = 4', "vmpl"),
        ('[platforms.amd-sev-snp]\nmeasurements = { measurement = ["00"] }\nvmpl = -1', "vmpl"),
        ('[platforms.amd-sev-snp]\nmeasurements = { measurement = ["00"] }\nminimum_tcb = { snp = -1 }', "snp"),
        ('[platforms.amd-sev-snp]\nmeasurements = { measurement = ["00"] }\nminimum_tcb = { snp = 256 }', "snp"),
    ],
)
def test_a_policy_that_would_let_everything_pass_is_none(tmp_path: Path, policy: str, message: str) -> None:
    """A platform has measurements, each a list of values; nothing unknown is read over."""
    (tmp_path / "policy.toml").write_text(policy)
    with pytest.raises(PolicyError, match=message):
        Policy.load(tmp_path / "policy.toml")


def test_a_policys_platforms_are_written_as_they_were_read(tmp_path: Path) -> None:
    """Also when a command changes another part of the file."""
    rules = {
        "amd-sev-snp": PlatformRules(
            measurements={"measurement": ("00" * 48,)},
            products=("Turin",),
            chips=("ab" * 64,),
            vmpl=3,
            minimum_tcb={"snp": 255, "microcode": 0},
        ),
        "aws-nitro": PlatformRules(measurements={"pcr0": (PCR0,), "pcr1": ("01", "02")}),
        "intel-tdx": PlatformRules(
            measurements={"mrtd": ("00" * 48,)}, tcb_evaluation=1, advisories=("INTEL-SA-00615",)
        ),
    }
    written = Policy({"one": "ed25519:" + "A" * 43}, {}, path=tmp_path / "policy.toml", platforms=rules)
    written.save()
    assert Policy.load(tmp_path / "policy.toml").platforms == rules


@pytest.mark.parametrize(
    ("facts", "rules", "refused"),
    [
        ({"product": "Genoa"}, {}, []),
        ({"product": "Turin"}, {}, []),
        ({"product": "Milan"}, {}, ["product"]),
        ({"product": "Milan"}, {"products": ("Milan",)}, []),
        ({"product": "Genoa"}, {"products": ("Turin",)}, ["product"]),
        ({}, {}, ["product"]),
        ({"product": "Genoa", "chip_id": "ab"}, {"chips": ("cd", "ab")}, []),
        ({"product": "Genoa", "chip_id": "ab"}, {"chips": ("cd",)}, ["chip"]),
        ({"product": "Genoa"}, {"chips": ("cd",)}, ["chip"]),
        ({"product": "Genoa", "reported_tcb": {"snp": 22}}, {"minimum_tcb": {"snp": 22}}, []),
        ({"product": "Genoa", "reported_tcb": {"snp": 21}}, {"minimum_tcb": {"snp": 22}}, ["tcb"]),
        ({"product": "Genoa", "reported_tcb": {"snp": 22}}, {"minimum_tcb": {"microcode": 1}}, ["tcb"]),
        ({"product": "Genoa"}, {"minimum_tcb": {"snp": 22}}, ["tcb"]),
        ({"product": "Genoa", "report_data": "00" * 64}, {}, ["report-data"]),
        ({"product": "Genoa", "vmpl": 1}, {}, ["vmpl"]),
        ({"product": "Genoa", "vmpl": 1}, {"vmpl": 2}, []),
        ({"product": "Genoa", "vmpl": None}, {}, ["vmpl"]),
    ],
)
def test_a_policy_holds_processors(facts: dict[str, object], rules: dict[str, object], refused: list[str]) -> None:
    """Milan only where it is named; a chip, a version of the firmware; and report data that is not empty."""
    found = Appraisal("amd-sev-snp", NOW, {"measurement": "ab", "report_data": "01", "vmpl": 0, **facts})
    asked = PlatformRules.model_validate({"measurements": {"measurement": ("ab",)}, **rules})
    hold_to_policy(found, {"amd-sev-snp": asked}, Asked(now=NOW))
    assert [one.rule for one in found.refusals()] == refused
    if refused == ["product"]:
        text = found.refusals()[0].text
        assert f"of the generation {facts.get('product', 'not said')}" in text
        assert ("extracted by software" in text) == (facts.get("product") == "Milan")


@pytest.mark.parametrize(
    ("report", "chain", "refused"),
    [
        ("genoa_report.bin", ("genoa_vcek.pem", "genoa_ask.pem", "genoa_ark.pem"), ["report-data"]),
        ("milan_report.bin", ("milan_vcek.pem", "milan_ask.pem", "milan_ark.pem"), ["product", "report-data"]),
        ("vlek_report.bin", ("vlek.der", "milan_asvk_ark.pem"), ["vmpl", "product"]),
        ("legacy_report.bin", ("legacy_vcek.der", "milan_ask.pem", "milan_ark.pem"), ["alias-check", "product"]),
    ],
)
def test_real_processors_are_held_to_a_policy(
    ask: Ask, tmp_path: Path, report: str, chain: tuple[str, ...], refused: list[str]
) -> None:
    """Each is genuine by itself; the policy, which names its measurement, says what else it wants."""
    options = [option for name in chain for option in ("--chain", str(shared(f"vectors/sev-snp/{name}")))]
    options += ["--at", "2025-06-01" if "vlek.der" in chain else "2026-11-01", "--json"]
    alone = ask(f"sev-snp/{report}", *options)
    assert alone.exit_code == 0
    facts = json.loads(alone.stdout)["submods"]["amd-sev-snp"]["blindgate.facts"]
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[platforms.amd-sev-snp.measurements]\nmeasurement = ["{facts["measurement"]}"]\n')
    held = json.loads(ask(f"sev-snp/{report}", *options, "--policy", str(policy)).stdout)["submods"]["amd-sev-snp"]
    assert [one["rule"] for one in held["blindgate.reasons"] if one["status"] == "contraindicated"] == refused
    assert not {"milan", "measurement"} & {one["code"] for one in held["blindgate.not-proven"]}


def test_a_gpu_is_held_by_its_measurements_and_bound_by_its_nonce(ask: Ask, tmp_path: Path) -> None:
    """It has no report data. One whose measurements nobody named is refused."""
    alone = json.loads(ask("nvidia/hopper_evidence.json", "--json").stdout)["submods"]["nvidia-gpu"]
    policy = tmp_path / "policy.toml"
    for digest, status in ((alone["blindgate.facts"]["measurements_digest"], 0), ("00", 1)):
        policy.write_text(f'[platforms.nvidia-gpu.measurements]\nmeasurements_digest = ["{digest}"]\n')
        assert ask("nvidia/hopper_evidence.json", "--policy", str(policy)).exit_code == status


def test_evidence_that_is_of_no_use_to_anybody_is_refused_by_a_policy() -> None:
    """A real document in debug mode, whose user data is zero."""
    found = nitro.appraise(shared("vectors/nitro/document_debug.cbor").read_bytes(), Asked(now=NOW))
    rules = PlatformRules(measurements={"pcr4": (str(found.facts["pcr4"]),)})
    hold_to_policy(found, {"aws-nitro": rules}, Asked(now=NOW))
    assert {one.rule for one in found.refusals()} == {"debug", "report-data"}
