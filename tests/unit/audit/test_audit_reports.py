"""`blindgate audit key` and `audit tenant`: what an auditor sees of a log, and of one that somebody tampered with."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner, Result

from blindgate_audit.commands import app
from blindgate_audit.remembered import Memory
from blindgate_protocol.checkpoints import Checkpoint
from blindgate_protocol.errors import BlindgateError, ForkedLogError, InputError, LogError, NotAuthorisedError
from blindgate_protocol.events import Action, Event
from blindgate_protocol.notes import KeyKind
from blindgate_protocol.tiles import Tile
from exports import CLIENT, KEY, TENANT, Export, life, served_export, stated, told
from static_logs import LOG_KEY, SOME_DAY, put, sign, verifier

OTHER_KEY = f"sha256:{'ac' * 32}"
VKEY = str(verifier(LOG_KEY))
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Runs a command of `blindgate audit`, with nothing remembered; what it refuses is raised."""

    def run(*arguments: str, remember: Path = tmp_path / "memory") -> Result:
        done = CliRunner(env={"BLINDGATE_URL": "", "BLINDGATE_API_KEY": ""}).invoke(
            app, [*arguments, "--remember", str(remember)]
        )
        if isinstance(done.exception, BlindgateError):
            done.exception.add_note(done.stdout)
            raise done.exception
        return done

    return run


def shown(result: Result) -> list[tuple[int, str]]:
    """Index and proof of every row, of JSON Lines."""
    return [(one["index"], one["proof"]) for one in map(json.loads, result.stdout.splitlines())]


def test_the_life_of_a_key_is_a_table_with_words_below(run: Callable[..., Result], tmp_path: Path) -> None:
    """Its events and no others, in their order; what state it is in; whether the owner's statements are whole."""
    export = Export([*life(), stated(Action.KEY_REGISTERED, 1, None, "registered", key=OTHER_KEY)])
    text = run("key", KEY, "--folder", str(export.write(tmp_path / "log")), "--key", VKEY).stdout
    table, _, below = text.partition("\n\n")
    rows = [line.split() for line in table.splitlines()[1:]]
    assert [(row[0], row[5]) for row in rows] == [
        ("0", "key.registered"),
        ("1", "key.activated"),
        ("3", "key.sent"),
        ("4", "key.evicted"),
        ("5", "key.suspended"),
        ("6", "key.resumed"),
        ("7", "key.destroyed"),
    ]
    assert "2026-01-01 00:00:02.000  in log" in table
    assert f"7 events of the key {KEY}: entries 0 to 7 of the 9" in below
    assert "Last state: destroyed." in below
    assert "without a gap, the last is number 5" in below
    assert "vouches for itself" not in below


def test_the_key_that_took_its_place_is_named(run: Callable[..., Result], tmp_path: Path) -> None:
    """As its owner signed it; in the row, and in words below."""
    active = stated(Action.KEY_ACTIVATED, 1, None, "active")
    superseded = stated(Action.KEY_SUPERSEDED, 2, "active", "superseded")
    superseded = superseded.model_copy(update={"details": superseded.details | {"successor": OTHER_KEY}})
    folder = Export([active, superseded]).write(tmp_path / "log")
    result = run("key", KEY, "--folder", str(folder), "--key", VKEY, "--format", "json")
    assert f"The key that took its place, as its owner says: {OTHER_KEY}." in result.stderr
    assert json.loads(result.stdout.splitlines()[1])["details"]["successor"] == OTHER_KEY


@pytest.mark.parametrize("text", ["abab", f"sha256:{'ab' * 6}", "sha256:abababababab…", f"key:{KEY}"])
def test_the_beginning_of_a_digest_is_enough(run: Callable[..., Result], tmp_path: Path, text: str) -> None:
    """As the table prints it, too."""
    export = Export([*life(), stated(Action.KEY_REGISTERED, 1, None, "registered", key=OTHER_KEY)])
    assert f"of the key {KEY}:" in run("key", text, "--folder", str(export.write(tmp_path / "log"))).stdout


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("aba", "or its first 4", id="too short"),
        pytest.param("key-of-ward-7", "not a key", id="no digest"),
        pytest.param("cdef", "no key whose digest begins with cdef", id="of none"),
        pytest.param("sha256:abab", f"several keys: {KEY}, sha256:abab", id="of several"),
    ],
)
def test_what_is_no_beginning_of_one_digest_is_refused(
    run: Callable[..., Result], tmp_path: Path, text: str, error: str
) -> None:
    """And the error says what would be one."""
    near = f"sha256:{'ab' * 31}ac"
    export = Export([*life(), stated(Action.KEY_REGISTERED, 1, None, "registered", key=near)])
    with pytest.raises(InputError, match=error):
        run("key", text, "--folder", str(export.write(tmp_path / "log")))


def test_a_gateway_is_asked_by_a_tenants_name(run: Callable[..., Result], tmp_path: Path) -> None:
    """It translates, page by page; the tiles prove what it gives; other tenants' events do not come."""
    other = told(Action.JOB_SUBMITTED, "job:2", 9000, tenant=f"tenant-{'8' * 32}")
    export = Export([*life(), other, stated(Action.KEY_REGISTERED, 1, None, "registered", key=OTHER_KEY)])
    folder = export.write(tmp_path / "log")
    with served_export(export, folder) as url:
        answer = run("tenant", "ward-7", "--url", url, "--api-key", "auditor", "--format", "json")
        alone = run("key", "acac", "--url", url, "--api-key", "auditor")
        with pytest.raises(NotAuthorisedError):
            run("tenant", "ward-7", "--url", url, "--api-key", "tenant")
    assert shown(answer) == [(index, "in log") for index in (0, 1, 2, 3, 4, 5, 6, 7, 9)]
    assert "The gateway chose these events" in answer.stderr
    assert "Last state: registered." in alone.stdout


@pytest.mark.parametrize(
    ("since", "until", "rows"),
    [
        pytest.param("2026-01-01T00:00:02Z", "2026-01-01T00:00:03Z", [1, 2, 3, 4], id="begin in, end out"),
        pytest.param("2026-01-01T01:00:02+01:00", "2026-01-02", [1, 2, 3, 4, 5, 6, 7], id="another zone, a date"),
        pytest.param("2026-01-02", "2026-02-01", [], id="nothing"),
    ],
)
def test_a_window_of_time(run: Callable[..., Result], tmp_path: Path, since: str, until: str, rows: list[int]) -> None:
    """From an export and from a gateway alike; a chain that begins before the window has no gap at its begin."""
    export = Export(life())
    folder = export.write(tmp_path / "log")
    window = ("--since", since, "--until", until, "--format", "json")
    assert [index for index, _ in shown(run("tenant", TENANT, "--folder", str(folder), *window))] == rows
    with served_export(export, folder) as url:
        asked = ("--url", url, "--api-key", "auditor")
        assert [index for index, _ in shown(run("tenant", "ward-7", *asked, *window))] == rows


@pytest.mark.parametrize(
    ("since", "error"),
    [
        pytest.param("2026-01-01T08:00", "without its zone", id="no zone"),
        pytest.param("yesterday", "expected a date, 2026-01-31", id="a word"),
        pytest.param("2026-02-30", "expected a date", id="no such day"),
        pytest.param("1969-12-31", "before 1970", id="before all clocks"),
        pytest.param("2026-03-01", "it is not before --until", id="the wrong way round"),
    ],
)
def test_a_mistyped_time_is_said_so(run: Callable[..., Result], since: str, error: str) -> None:
    """Before anything is read, with the status of a mistyped command."""
    done = run("tenant", TENANT, "--since", since, "--until", "2026-02-01")
    assert done.exit_code == 2
    assert error in re.sub(r"[\s│]+", " ", done.stderr)


def test_an_export_does_not_know_names(run: Callable[..., Result], tmp_path: Path) -> None:
    """They may have been erased since, and only the gateway has them."""
    with pytest.raises(InputError, match="knows tenants by pseudonym"):
        run("tenant", "ward-7", "--folder", str(Export(life()).write(tmp_path / "log")))


def test_an_altered_body_is_shown_and_named(run: Callable[..., Result], tmp_path: Path) -> None:
    """Exit status 1, by the error; from an export even where the new body says that it is about something else."""
    export = Export(life())
    export.alter(5, told(Action.JOB_LEASED, "job:1", 3000))
    folder = export.write(tmp_path / "log")
    with pytest.raises(LogError, match="1 bodies are altered or missing, the first at entry 5") as refused:
        run("key", KEY, "--folder", str(folder), "--format", "json")
    assert refused.value.index == 5
    assert '"index":5,"time":"2026-01-01T00:00:03.000Z","proof":"body altered"' in refused.value.__notes__[0]


def test_an_erased_body_is_no_fault_where_the_log_says_so(run: Callable[..., Result], tmp_path: Path) -> None:
    """A range of two; the gateway still knows whose they were."""
    said = told(
        Action.EVENT_ERASED,
        "event:3",
        9000,
        actor="command-line",
        role="administrator",
        tenant=None,
        details={"count": "2"},
    )
    export = Export([*life(), said])
    export.erase(3)
    export.erase(4)
    folder = export.write(tmp_path / "log")
    with served_export(export, folder) as url:
        result = run("key", KEY, "--url", url, "--api-key", "auditor", "--format", "json")
    assert shown(result)[2:4] == [(3, "erased"), (4, "erased")]
    assert "2 bodies were erased" in result.stderr
    result = run("key", KEY, "--folder", str(folder), "--format", "json")
    assert [index for index, _ in shown(result)] == [0, 1, 5, 6, 7]
    assert "2 bodies were erased" in result.stderr


def _unannounced(export: Export) -> None:
    export.erase(3)


def _announced_before(export: Export) -> None:
    export.append(told(Action.EVENT_ERASED, "event:9", 9000, tenant=None))
    export.append(told(Action.JOB_SUBMITTED, "job:9", 9100))
    export.erase(9)


def _announced_by_nobody(export: Export) -> None:
    export.erase(3)
    export.append(told(Action.JOB_SUBMITTED, "job:9", 9000))
    export.alter(8, told(Action.EVENT_ERASED, "event:3", 9000, tenant=None))


@pytest.mark.parametrize(
    ("tamper", "index"),
    [
        pytest.param(_unannounced, 3, id="never announced"),
        pytest.param(_announced_before, 9, id="announced before it was there"),
        pytest.param(_announced_by_nobody, 3, id="announced by an event that is not in the log"),
    ],
)
def test_a_missing_body_is_not_an_erased_one(
    run: Callable[..., Result], tmp_path: Path, tamper: Callable[[Export], None], index: int
) -> None:
    """Wherever it belonged: nobody can tell."""
    export = Export(life())
    tamper(export)
    with pytest.raises(LogError, match=rf"entry {index} \(missing\)"):
        run("key", KEY, "--folder", str(export.write(tmp_path / "log")), "--format", "json")


def _without(index: int) -> list[Event]:
    events = life()
    del events[index]
    return events


@pytest.mark.parametrize(
    ("events", "error"),
    [
        pytest.param(_without(0), "statement 1 of the key's owner is missing before entry 0", id="the first left out"),
        pytest.param(
            _without(5), "statement 3 of the key's owner is missing between entries 4 and 5", id="one in the middle"
        ),
        pytest.param(
            [one for one in life() if one.details.get("sequence") not in {"2", "3", "4"}],
            "statements 2 to 4 of the key's owner are missing between entries 3 and 4",
            id="three in a row",
        ),
        pytest.param(
            [
                *life()[:2],
                stated(Action.KEY_SUSPENDED, 3, "active", "suspended").model_copy(
                    update={"details": {"client": CLIENT, "sequence": "3", "previous": f"sha256:{'0' * 64}"}}
                ),
            ],
            "statement 3, entry 2, follows on sha256:000",
            id="another statement before it",
        ),
        pytest.param([*life()[:2], life()[0]], "tells of statement 1 after statement 2", id="put in again later"),
        pytest.param(
            [*life()[:2], life()[1].model_copy(update={"digest": f"sha256:{'1' * 64}"})],
            "entry 2 tells of another statement 2",
            id="two of one number",
        ),
        pytest.param(
            [
                life()[0],
                life()[1].model_copy(update={"details": {**life()[1].details, "client": f"ed25519:{'D' * 43}"}}),
            ],
            "statement 2, entry 1, is of another client",
            id="of somebody else",
        ),
        pytest.param(
            [*life()[:2], told(Action.KEY_DESTROYED, f"key:{KEY}", 9000, before="suspended", after="destroyed")],
            "at entry 2 the key was suspended; the event before left it active",
            id="a change of state that no event tells of",
        ),
    ],
)
def test_a_gap_in_the_owners_chain_names_the_key(
    run: Callable[..., Result], tmp_path: Path, events: Sequence[Event], error: str
) -> None:
    """The log is rebuilt and signed again with its real key, and every body is proven: only the owner's chain shows it."""
    folder = Export(events).write(tmp_path / "log")
    with pytest.raises(LogError, match=re.escape(error)) as refused:
        run("key", KEY, "--folder", str(folder), "--key", VKEY)
    assert f"(key:{KEY})" in str(refused.value)
    assert "GAP: " in refused.value.__notes__[0]
    with pytest.raises(LogError, match=re.escape(error)):
        run("tenant", TENANT, "--folder", str(folder), "--key", VKEY)


def test_two_events_of_one_statement_are_no_gap(run: Callable[..., Result], tmp_path: Path) -> None:
    """A destruction is announced and then done."""
    again = life()[-1].model_copy(update={"before": "destroyed"})
    assert run("key", KEY, "--folder", str(Export([*life(), again]).write(tmp_path / "log"))).exit_code == 0


def test_an_export_without_a_line_is_refused(run: Callable[..., Result], tmp_path: Path) -> None:
    """Whoever has every event leaves none out: in the middle or at the end."""
    for gone in (3, 7):
        export = Export(life())
        del export.shown[gone]
        with pytest.raises(LogError, match=f"lacks entries, the first of them {gone}"):
            run("key", KEY, "--folder", str(export.write(tmp_path / f"log{gone}")))


def test_a_gateway_that_answers_another_question_is_refused(run: Callable[..., Result], tmp_path: Path) -> None:
    """Proven as it may be, it is not what was asked for."""
    export = Export(life())
    folder = export.write(tmp_path / "log")
    stranger = f"tenant-{'8' * 32}"
    with served_export(export, folder, name=stranger) as url, pytest.raises(LogError, match="was not asked for"):
        run("tenant", stranger, "--url", url, "--api-key", "auditor", "--format", "json")


def test_a_tile_that_does_not_fit_is_refused(run: Callable[..., Result], tmp_path: Path) -> None:
    """One bit of a whole tile, of the edge, or of the checkpoint's root."""
    export = Export([told(Action.JOB_LEASED, "job:1", index) for index in range(600)])
    folder = export.write(tmp_path / "log")
    for tile in (Tile(0, 1), Tile(0, 2, 88), Tile(1, 0, 2)):
        good = (folder / tile.path).read_bytes()
        put(folder, tile, bytes([good[0] ^ 1]) + good[1:])
        with pytest.raises(LogError, match=r"does not fit under|do not give the root"):
            run("tenant", TENANT, "--folder", str(folder), "--format", "json")
        put(folder, tile, good)
    assert len(shown(run("tenant", TENANT, "--folder", str(folder), "--format", "json"))) == 600


def test_events_behind_the_checkpoint_are_not_shown(run: Callable[..., Result], tmp_path: Path) -> None:
    """No tree proves them yet."""
    export = Export(life())
    folder = export.write(tmp_path / "log")
    export.append(told(Action.KEY_SENT, f"key:{KEY}", 9000))
    with served_export(export, folder) as url:
        result = run("key", KEY, "--url", url, "--api-key", "auditor", "--format", "json")
    assert shown(result)[-1] == (7, "in log")
    assert "From entry 8 on events came after this checkpoint" in result.stderr


def test_a_log_that_was_rewritten_since_it_was_seen_is_refused(run: Callable[..., Result], tmp_path: Path) -> None:
    """Though its own key signed it: shorter, or as long, or longer with another begin. What continues it is believed."""
    seen = Export(life()[:6]).write(tmp_path / "seen")
    memory = Memory(tmp_path / "kept")
    memory.remember(verifier(LOG_KEY), (seen / "checkpoint").read_text(), place=str(seen), now=SOME_DAY)
    for number, (events, error) in enumerate(
        [(life()[:5], LogError), ([*life()[:5], life()[4]], ForkedLogError), (life()[::-1], ForkedLogError)]
    ):
        folder = Export(events).write(tmp_path / str(number))
        with pytest.raises(error):
            run("key", KEY, "--folder", str(folder), remember=tmp_path / "kept")
    text = run("key", KEY, "--folder", str(Export(life()).write(tmp_path / "now")), remember=tmp_path / "kept").stdout
    assert "vouches for itself" not in text


def test_a_checkpoint_under_another_key_or_too_few_witnesses_is_refused(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    """The key is the one that was given, and every witness that was named must have cosigned."""
    folder = Export(life()).write(tmp_path / "log")
    with pytest.raises(LogError, match="0 cosignatures"):
        run("key", KEY, "--folder", str(folder), "--witness", f"w1={verifier(WITNESS_KEY, 'w1', KeyKind.COSIGNATURE)}")
    (folder / "checkpoint").write_bytes(sign(Checkpoint("elsewhere/log", 0, bytes(32))))
    with pytest.raises(LogError, match="expected one of"):
        run("key", KEY, "--folder", str(folder), "--key", VKEY)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param((), "give --url and an auditor's --api-key", id="no source"),
        pytest.param(("--format", "parquet"), "with --output FILE", id="parquet to a terminal"),
        pytest.param(("-o", "none/life.csv"), "there is no folder none", id="no folder"),
    ],
)
def test_what_cannot_be_done_is_said_before_it_begins(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], error: str
) -> None:
    """With what to do instead."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=error):
        run("key", KEY, *arguments)


def test_a_file_has_the_rows_and_the_terminal_the_words(run: Callable[..., Result], tmp_path: Path) -> None:
    """So a script that reads the file, or standard output, reads rows alone."""
    folder = Export(life()).write(tmp_path / "log")
    place = tmp_path / "life.json"
    result = run("key", KEY, "--folder", str(folder), "--format", "json", "-o", str(place))
    assert result.stdout == ""
    assert "Last state: destroyed." in result.stderr
    assert len(place.read_text().splitlines()) == 7
    assert json.loads(place.read_text().splitlines()[0])["time"].startswith("2026-01-01")


def test_the_documentation_tells_of_every_action() -> None:
    """An auditor looks up what an event means; one that is not there means nothing to them."""
    text = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    assert [action for action in Action if f"`{action}`" not in text] == []
