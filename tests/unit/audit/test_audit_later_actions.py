"""A log that a later gateway wrote: it tells of actions that this version has no name for."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from audit_command import audit
from blindgate_audit.formats.ocsf import ocsf_event
from blindgate_audit.report import Proof, Row
from blindgate_protocol.events import Action, Event, OtherAction
from blindgate_protocol.logged import Logged
from exports import KEY, TENANT, Export, life, told
from static_logs import LOG_KEY, findings, verifier

LENT = told(OtherAction("key.lent"), f"key:{KEY}", 2500, before="active", after="active", details={"to": "ward-8"})
VKEY = str(verifier(LOG_KEY))


def later(more: Sequence[Event] = ()) -> Export:
    """A key's life, in which it was lent once, at index 4."""
    before, after = life()[:4], life()[4:]
    return Export([*before, LENT, *after, *more])


def verify(folder: Path, *options: str) -> tuple[int, str]:
    """Verify an export, with nothing remembered."""
    return audit("verify", folder, "--key", VKEY, "--remember", folder.parent / "memory", *options)


def test_it_holds_and_says_how_many_it_could_not_name(tmp_path: Path) -> None:
    """By their own names, and from where on; everything else is verified as ever."""
    folder = later([told(OtherAction("job.moved"), "job:1", 9000)]).write(tmp_path / "log")
    status, said = verify(folder)
    assert status == 0, said
    assert "10 are the ones that were logged" in said
    assert "2 are of actions that this version has no name for, and nothing was concluded from them: " in said
    assert "key.lent (from entry 4 on), job.moved (from entry 9 on)" in said
    assert json.loads(verify(folder, "--json")[1])["unknown_actions"] == {"key.lent": 1, "job.moved": 1}


def test_whoever_asks_for_it_is_failed_by_name_and_index(tmp_path: Path) -> None:
    """`--strict`; a log without such events passes it."""
    status, said = verify(later().write(tmp_path / "log"), "--strict", "--json")
    assert (status, findings(said)) == (1, [(4, "action")])
    assert "no name for: key.lent" in said
    assert verify(Export(life()).write(tmp_path / "known" / "log"), "--strict")[0] == 0


def test_its_proof_is_asked_for_like_any_others(tmp_path: Path) -> None:
    """Another action in its place, known or not, is not what was logged."""
    for number, action in enumerate((OtherAction("key.borrowed"), Action.KEY_SENT)):
        export = later()
        export.alter(4, LENT.model_copy(update={"action": action}))
        folder = export.write(tmp_path / str(number) / "log")
        status, said = verify(folder, "--json")
        assert (status, findings(said)) == (1, [(4, "commitment")])


def test_a_log_of_nothing_else_costs_no_memory_for_names(tmp_path: Path) -> None:
    """The first are named, the rest are counted."""
    many = [told(OtherAction(f"key.lent-{'a' * number}"), f"key:{KEY}", number) for number in range(1, 31)]
    status, said = verify(Export(many).write(tmp_path / "log"), "--json")
    unknown = json.loads(said)["unknown_actions"]
    assert (status, len(unknown), unknown["others"], sum(unknown.values())) == (0, 21, 10, 30)


@pytest.mark.parametrize("form", ["table", "json", "csv", "ocsf"])
def test_a_report_shows_it_by_its_own_name(tmp_path: Path, form: str) -> None:
    """In each format, as proven, with the words below."""
    folder = later().write(tmp_path / "log")
    for command in (("key", KEY), ("tenant", TENANT)):
        asked = [*command, "--folder", folder, "--key", VKEY, "--remember", tmp_path / "memory"]
        status, said = audit(*asked, "--format", form)
        assert status == 0, said
        assert "key.lent" in said
        assert "1 of them are of actions that this version has no name for" in said
    if form == "table":
        (line,) = (line for line in said.splitlines() if "key.lent" in line)
        assert "in log" in line
        assert Logged.model_validate(later().shown[4]).index == 4


def test_a_siem_gets_it_as_another_activity() -> None:
    """OCSF has 99 for it, with its own name."""
    shown = ocsf_event(Row(4, Proof.IN_LOG, LENT), origin="gateway.example/log", time=0)
    assert (shown["class_uid"], shown["activity_id"], shown["activity_name"]) == (6003, 99, "key.lent")
    assert shown["metadata"]["event_code"] == "key.lent"
