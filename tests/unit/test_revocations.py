"""Keys that are believed no longer: what they signed before holds, what they signed since is refused by name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blindgate.commands import jobs as jobs_commands
from blindgate.commands import policy as commands
from blindgate.policy import Policy
from blindgate_audit.replay import Verdict, replay
from blindgate_audit.roots import Roots
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.errors import BlindgateError, InputError, PolicyError, RevokedSignerError
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.revocations import Revocation, toml_time
from blindgate_protocol.signing import SigningKey
from bundled_jobs import FINISHED, LOGGED, MINUTE, ORDERED, BundledJobs

KEY = SigningKey.from_seed(b"k" * 32).id
AT = "2026-11-20T10:00:00Z"
AT_MILLIS = 1_795_168_800_000

ROLES = [
    pytest.param("publisher", "manifest", ORDERED, ORDERED, id="publisher"),
    pytest.param("client", "order", LOGGED, FINISHED, id="client"),
    pytest.param("operator", "certificate", LOGGED, FINISHED, id="operator"),
    pytest.param("node", "receipt", LOGGED, FINISHED, id="node"),
]
"""A role, what it signs, and when that counts as signed where a trusted log shows it, and where none does."""


@pytest.fixture
def jobs() -> BundledJobs:
    """Everybody who signs."""
    return BundledJobs()


def run(*given: str, home: Path) -> None:
    """Run a command of `blindgate policy`."""
    commands.app([*given, "--home", str(home)], standalone_mode=False)


def load(home: Path) -> Policy:
    """The home's policy."""
    return Policy.load(home / "policy.toml")


def client_says(bundle: Bundle, jobs: BundledJobs, home: Path, revoked: str, *, logged: bool) -> None:
    """`blindgate jobs receipt` on this bundle, under a policy that revokes."""
    text = jobs.policy() if logged else jobs.policy().partition("[logs]")[0]
    (home / "policy.toml").write_text(f"{text}[revoked]\n{revoked}\n")
    (home / "job.json").write_bytes(bundle.to_bytes())
    jobs_commands.app(
        ["receipt", str(home / "job.json"), "--home", str(home), "--json"],
        standalone_mode=False,
    )


@pytest.mark.parametrize(("role", "document", "by_log", "by_word"), ROLES)
@pytest.mark.parametrize("logged", [pytest.param(True, id="logged"), pytest.param(False, id="no log")])
def test_what_came_before_holds_and_what_came_since_is_refused(  # noqa: PLR0917
    jobs: BundledJobs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    role: str,
    document: str,
    by_log: int,
    by_word: int,
    *,
    logged: bool,
) -> None:
    """By the millisecond, for the owner and the auditor alike."""
    bundle, key = jobs.bundle(), getattr(jobs, role).id
    bundle = bundle if logged else replace(bundle, logged=None)
    counts = by_log if logged else by_word
    roots = jobs.roots() if logged else jobs.roots(logs={}, witnesses={}, cosignatures=0)

    replayed = replay(bundle, replace(roots, revoked={key: Revocation(at=counts + 1)}))
    assert replayed.verdict is Verdict.HOLDS
    client_says(bundle, jobs, tmp_path, f'"{key}" = {toml_time(counts + 1)}', logged=logged)
    own_word = not logged and role in {"operator", "node"}
    assert ("revocation-time" in {one.code for one in replayed.not_proven}) is own_word
    assert ("before the revocation" in json.loads(capsys.readouterr().out)["not_proven"]) is own_word

    refused = replay(bundle, replace(roots, revoked={key: Revocation(at=counts, reason="stolen")}))
    assert refused.verdict is Verdict.REFUSED
    assert [(one.document, one.code) for one in refused.refusals] == [(document, "revoked-signer")]
    assert f"{role} {key} is revoked" in refused.refusals[0].text
    assert "(stolen)" in refused.refusals[0].text
    with pytest.raises(RevokedSignerError, match=f"{role} {key} is revoked"):
        client_says(bundle, jobs, tmp_path, f'"{key}" = {toml_time(counts)}', logged=logged)
    assert capsys.readouterr().out == ""


def test_a_revoked_node_cannot_date_itself_back_where_there_is_a_log(jobs: BundledJobs) -> None:
    """Its receipt says that it was finished before; the log says when it came."""
    manifest = jobs.manifest()
    order = jobs.order(manifest)
    receipt = jobs.receipt(order)
    late = jobs.log.proof(jobs.event(receipt, time=LOGGED + MINUTE), witnesses=[jobs.witness])
    bundle = jobs.bundle(manifest=manifest, order=order, receipt=receipt, logged=late)
    roots = jobs.roots(revoked={jobs.node.id: Revocation(at=FINISHED + 1000)})
    assert [one.code for one in replay(bundle, roots).refusals] == ["revoked-signer"]
    # A log that nobody named may say what it likes: then the receipt's own time is all there is, and the answer says so.
    replayed = replay(bundle, replace(roots, logs={}))
    assert replayed.verdict is Verdict.UNVOUCHED
    assert "revocation-time" in {one.code for one in replayed.not_proven}


def test_a_job_that_was_under_way_when_its_clients_key_was_revoked_ends_well(jobs: BundledJobs, tmp_path: Path) -> None:
    """By the time that the log's event says that the order came; never by the order's own, which a thief writes as he likes."""
    manifest = jobs.manifest()
    order = jobs.order(manifest)
    receipt = jobs.receipt(order)

    def shown(submitted: str) -> Bundle:
        details = {"node": receipt.document.node, "submitted": submitted}
        proof = jobs.log.proof(jobs.event(receipt, details=details), witnesses=[jobs.witness])
        return jobs.bundle(manifest=manifest, order=order, receipt=receipt, logged=proof)

    def refusals(bundle: Bundle, at: int, **roots: Any) -> list[str]:
        return [
            one.code
            for one in replay(bundle, jobs.roots(revoked={jobs.client.id: Revocation(at=at)}, **roots)).refusals
        ]

    came = ORDERED + 1000
    under_way = shown(str(came))
    assert refusals(under_way, came + 1) == []
    client_says(under_way, jobs, tmp_path, f'"{jobs.client.id}" = {toml_time(came + 1)}', logged=True)
    assert refusals(under_way, came) == ["revoked-signer"]
    with pytest.raises(RevokedSignerError, match="and this was submitted, as the log says, at"):
        client_says(under_way, jobs, tmp_path, f'"{jobs.client.id}" = {toml_time(came)}', logged=True)
    # The thief's order says that it is older than the revocation; the gateway got it later.
    assert refusals(shown(str(ORDERED + 60_000)), ORDERED + 1) == ["revoked-signer"]
    # What cannot be, and what no trusted log says, counts for nothing.
    for submitted in (str(LOGGED + 1), str(ORDERED - CLOCK_SKEW - 1), "0", "-1", "soon", "", "9" * 16, "१२"):
        assert refusals(shown(submitted), LOGGED) == ["revoked-signer"], submitted
    assert refusals(under_way, FINISHED, logs={}, witnesses={}, cosignatures=0) == ["revoked-signer"]
    # It is the client's date alone.
    revoked = {jobs.node.id: Revocation(at=came + 1)}
    assert [one.code for one in replay(under_way, jobs.roots(revoked=revoked)).refusals] == ["revoked-signer"]


def test_an_order_without_a_receipt_is_its_clients_word(jobs: BundledJobs) -> None:
    """Nobody else speaks of it."""
    bundle = replace(jobs.bundle(), receipt=None, logged=None)
    for at, codes in ((ORDERED, ["revoked-signer"]), (ORDERED + 1, [])):
        refusals = replay(bundle, jobs.roots(revoked={jobs.client.id: Revocation(at=at)})).refusals
        assert [one.code for one in refusals if one.document == "order"] == codes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(f'"{KEY}" = 2026-11-20T10:00:00', "time with its zone", id="no zone"),
        pytest.param(f'"{KEY}" = 2026-11-20', "time with its zone", id="a date"),
        pytest.param(f'"{KEY}" = "{AT}"', "without quotes", id="a text"),
        pytest.param(f'"{KEY}" = true', "time with its zone", id="no time"),
        pytest.param(f'"{KEY}" = {AT_MILLIS}', "time with its zone", id="a number"),
        pytest.param(f'"{KEY}" = {{ reason = "stolen" }}', "time with its zone", id="a reason alone"),
        pytest.param(f'"{KEY}" = {{ at = {AT}, why = "stolen" }}', "why", id="a misspelt member"),
        pytest.param(f'"{KEY}" = {{ at = {AT}, reason = "a\\nb" }}', "reason.*one line", id="two lines"),
        pytest.param(f'"{KEY}" = 1960-01-01T00:00:00Z', "greater than or equal to 0", id="before 1970"),
        pytest.param(f'"{KEY[:-1]}" = {AT}', "pattern", id="a key cut short"),
        pytest.param(f'"{"ed25519:" + "-" * 43}" = {AT}', "name of a key", id="a key that is none"),
        pytest.param(f'north = "{KEY}"', "north.*pattern", id="the other way round"),
    ],
)
@pytest.mark.parametrize("read", [pytest.param(Policy.load, id="client"), pytest.param(Roots.load, id="auditor")])
def test_a_revocation_with_a_mistake_is_refused_by_the_field(
    tmp_path: Path, read: Callable[[Path], Any], text: str, says: str
) -> None:
    """A revocation that is silently none would be worse than no policy."""
    path = tmp_path / "policy.toml"
    path.write_text(f"[revoked]\n{text}\n")
    with pytest.raises(PolicyError, match=f"revoked.*{says}"):
        read(path)


def test_a_policy_that_revokes_reads_as_it_was_written(tmp_path: Path) -> None:
    """Whatever the reason says; in another zone; for the auditor, too."""
    path = tmp_path / "policy.toml"
    path.write_text(f'[revoked]\n"{KEY}" = {{ at = 2026-11-20T11:00:00.5+01:00, reason = "ж 𐍈 \\"b\\" \\\\" }}\n')
    wanted = {KEY: Revocation(at=AT_MILLIS + 500, reason='ж 𐍈 "b" \\')}
    policy = load(tmp_path)
    assert policy.revoked == wanted
    policy.save()
    assert load(tmp_path) == policy
    assert Roots.load(path).revoked == wanted


def test_a_key_is_revoked_and_shown(jobs: BundledJobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside its name where it has one, and by itself where it is a node's or a client's."""
    run("trust", "operator", "north", jobs.operator.id, home=tmp_path)
    run("revoke", jobs.operator.id, "--at", AT, "--reason", "left", home=tmp_path)
    run("revoke", jobs.node.id, "--at", "2026-11-20T11:00:00+01:00", home=tmp_path)
    assert "verifiable" in capsys.readouterr().err
    run("show", "--json", home=tmp_path)
    assert json.loads(capsys.readouterr().out) == [
        {"may": "run jobs", "name": "north", "key": jobs.operator.id, "revoked_from": AT_MILLIS, "reason": "left"},
        {"may": "nothing", "name": "", "key": jobs.node.id, "revoked_from": AT_MILLIS, "reason": None},
    ]
    run("show", home=tmp_path)
    assert "revoked from" in capsys.readouterr().out


def test_a_revocation_only_ever_reaches_further_back(tmp_path: Path) -> None:
    """Who learns that a key was stolen earlier says so; to believe it again is to edit the file."""
    run("revoke", KEY, "--at", AT, home=tmp_path)
    with pytest.raises(PolicyError, match="already"):
        run("revoke", KEY, home=tmp_path)
    run("revoke", KEY, "--at", "2026-11-19T10:00:00Z", home=tmp_path)
    assert load(tmp_path).revoked[KEY].at == AT_MILLIS - 86_400_000


@pytest.mark.parametrize(
    ("given", "error"),
    [
        pytest.param((KEY, "--at", "yesterday"), InputError, id="no time"),
        pytest.param((KEY, "--at", "2026-11-20T10:00:00"), InputError, id="no zone"),
        pytest.param(("ed25519:short",), PolicyError, id="no key"),
        pytest.param((KEY, "--reason", "two\nlines"), PolicyError, id="two lines"),
    ],
)
def test_a_mistyped_revocation_writes_nothing(
    tmp_path: Path, given: tuple[str, ...], error: type[BlindgateError]
) -> None:
    """And says what was expected."""
    with pytest.raises(error):
        run("revoke", *given, home=tmp_path)
    assert not (tmp_path / "policy.toml").exists()


def test_new_orders_allow_no_revoked_operator() -> None:
    """From its time on; one that is revoked next year may compute today. Receipts of all of them can still be verified."""
    other = SigningKey.generate().id
    policy = Policy({}, {"north": KEY, "south": other}, revoked={KEY: Revocation(at=AT_MILLIS - 86_400_000 * 3650)})
    assert policy.allowed_operators() == (other,)
    assert set(policy.named_operators()) == {KEY, other}
    policy.revoked[other] = Revocation(at=4_102_444_800_000)
    assert policy.allowed_operators() == (other,)
    policy.revoked[other] = Revocation(at=0)
    with pytest.raises(RevokedSignerError, match=r"operator \S+ is revoked"):
        policy.allowed_operators()
