"""Classes of data: each rule alone, allowed and refused by its name; whose word counts; and the file."""

from pathlib import Path
from typing import Any

import pytest

from blindgate.decisions import Decision, classes_of, decide
from blindgate.policy import ClassRules, ModelRules, Policy, Rules
from blindgate.rules import lengths, strictest
from blindgate_protocol.errors import PolicyError, RevokedSignerError, UntrustedSignerError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.padding import Padding
from blindgate_protocol.revocations import Revocation
from blindgate_protocol.signing import Signed
from classified import ACME, CLIENT, GENOA, LOGS, NORTH, OTHER, SECOND, SOUTH, WITNESSES, column, manifest, policy

NOW = 1_800_000_000_000
WIDE = Padding(rule="buckets", buckets=(1 << 16, 1 << 20))


def decided(under: Policy, model: Signed[Manifest] | None = None, said: str | None = "phi") -> Decision:
    """What is decided of a request that its caller calls `phi`."""
    return decide(under, model or manifest(), said=said, client=CLIENT.id, now=NOW)


def test_without_classes_what_a_manifest_says_of_them_decides_nothing() -> None:
    """A policy of before works with manifests of today."""
    under = policy()
    found = decided(under, manifest(column("age", "pii")), None)
    assert found.require() is under
    assert [one.name for one in found.classes] == ["pii"]


def test_whoever_says_a_class_expects_rules_for_it() -> None:
    """So a policy without any is a mistake that is told, and nothing is sent by it."""
    with pytest.raises(PolicyError, match=r"data class 'phi' \(the caller\) is none .* names; it has: none"):
        decided(policy()).require()


@pytest.mark.parametrize(
    ("rules", "model"),
    [
        pytest.param({"lanes": ("tee",)}, {}, id="lanes"),
        pytest.param({"platforms": ("intel-tdx",)}, {}, id="platforms"),
        pytest.param({"measurements": {"amd-sev-snp": {"measurement": (SECOND,)}}}, {}, id="measurements"),
        pytest.param({"publishers": ("acme",)}, {}, id="publishers"),
        pytest.param({"operators": ("south",)}, {}, id="operators"),
        pytest.param({"lanes": ("fhe",), "platforms": ("amd-sev-snp",)}, {"lane": "fhe"}, id="lane fhe"),
    ],
)
def test_what_a_class_allows_is_allowed(rules: dict[str, Any], model: dict[str, Any]) -> None:
    """One rule alone."""
    assert decided(policy({"phi": ClassRules(**rules)}), manifest(**model)).allowed


@pytest.mark.parametrize(
    ("rules", "model", "rule"),
    [
        pytest.param({"lanes": ("fhe",)}, {}, "classes.phi.lanes", id="lanes"),
        pytest.param({"publishers": ("other",)}, {}, "classes.phi.publishers", id="publishers"),
        pytest.param(
            {"measurements": {"amd-sev-snp": {"measurement": ("cc",)}, "intel-tdx": {"mrtd": ("cc",)}}},
            {},
            "classes.phi.measurements",
            id="measurements",
        ),
    ],
)
def test_what_a_class_does_not_allow_is_refused_by_the_rules_name(
    rules: dict[str, Any], model: dict[str, Any], rule: str
) -> None:
    """And it says which class, and who says that the request has it."""
    found = decided(policy({"phi": ClassRules(**rules)}), manifest(**model))
    assert [one.rule for one in found.findings if not one.holds] == [rule]
    with pytest.raises(PolicyError, match=rf"{rule} allows .* for data of class 'phi' \(the caller\)"):
        found.require()


@pytest.mark.parametrize(
    ("section", "rule", "one", "another"),
    [("operators", "operators", "north", "south"), ("platforms", "platforms", "amd-sev-snp", "intel-tdx")],
)
def test_classes_that_share_nothing_are_refused(section: str, rule: str, one: str, another: str) -> None:
    """Each alone would do; a request with both has nowhere to go."""
    under = policy(
        {
            "phi": ClassRules().model_copy(update={section: (one,)}),
            "pii": ClassRules().model_copy(update={section: (another,)}),
        }
    )
    assert decided(under).allowed
    found = decided(under, manifest(data_class="pii"))
    assert [each.rule for each in found.findings if not each.holds] == [f"classes.phi.{rule}"]


def test_lanes_that_the_rules_do_not_have_stay_shut() -> None:
    """A class narrows, and never widens."""
    under = policy({"phi": ClassRules(lanes=("tee",))}, rules=Rules(lanes=("fhe",)))
    with pytest.raises(PolicyError, match=r"rules\.lanes"):
        decided(under).require()


def test_a_class_that_the_policy_does_not_name_is_refused() -> None:
    """By the caller, by the manifest's column, and by the manifest."""
    under = policy({"phi": ClassRules()})
    for model, said, of in (
        (manifest(), "secret", "the caller"),
        (manifest(column("age", "secret")), None, "column 'age', by its manifest"),
        (manifest(data_class="secret"), "phi", "the model, by its manifest"),
    ):
        with pytest.raises(PolicyError, match=rf"data class 'secret' \({of}\) is none that the policy's \[classes\]"):
            decided(under, model, said).require()


def test_the_policys_word_goes_before_the_publishers() -> None:
    """Column by column, and only for the publisher that it names, where it names one."""
    classes = {"phi": ClassRules(lanes=("fhe",)), "public": ClassRules()}
    rules = ModelRules(publisher="acme", data_class="public", columns={"age": "phi"})
    under = policy(classes, models={"triage": rules})
    model = manifest(column("age", "public"), column("fever", "public"), data_class="phi")
    assert [one.name for one in classes_of(under, model)] == ["phi", "public", "public"]
    theirs = manifest(column("age", "public"), by=OTHER)
    assert [one.name for one in classes_of(under, theirs)] == ["public"]
    with pytest.raises(PolicyError, match=r"classes\.phi\.lanes .*column 'age', by \[models\] of the policy, triage"):
        decided(under, model, None).require()


def test_a_column_that_the_model_does_not_read_is_refused() -> None:
    """A misspelt column would protect nothing."""
    under = policy({"phi": ClassRules()}, models={"triage": ModelRules(columns={"agee": "phi"})})
    with pytest.raises(PolicyError, match=r"models\.triage\.columns .* column 'agee'"):
        decided(under, said=None).require()


def test_a_default_class_is_that_of_callers_who_say_none() -> None:
    """Who says one is believed."""
    under = policy(
        {"phi": ClassRules(lanes=("fhe",)), "public": ClassRules()},
        rules=Rules(lanes=("fhe", "tee"), data_class="phi"),
    )
    with pytest.raises(PolicyError, match=r"classes\.phi\.lanes.*rules\.data_class"):
        decided(under, said=None).require()
    assert decided(under, said="public").allowed


@pytest.mark.parametrize(
    ("changes", "error", "rule"),
    [
        pytest.param({"publishers": {"other": OTHER.id}}, UntrustedSignerError, "publishers", id="a stranger's model"),
        pytest.param({"operators": {}}, UntrustedSignerError, "operators", id="no operator"),
        pytest.param({"platforms": {}}, PolicyError, "platforms", id="no platform"),
        pytest.param({"revoked": {ACME.id: Revocation(at=1)}}, RevokedSignerError, "publishers", id="publisher"),
        pytest.param(
            {"revoked": {NORTH.id: Revocation(at=1), SOUTH.id: Revocation(at=1)}},
            RevokedSignerError,
            "operators",
            id="operators",
        ),
        pytest.param({"revoked": {CLIENT.id: Revocation(at=1)}}, RevokedSignerError, "client", id="client"),
    ],
)
def test_what_the_whole_policy_refuses_is_refused(changes: dict[str, Any], error: type[PolicyError], rule: str) -> None:
    """With classes or without, and each rule alone."""
    found = decided(policy(**changes), said=None)
    assert [one.rule for one in found.findings if not one.holds] == [rule]
    with pytest.raises(error):
        found.require()


def test_a_class_may_want_more_witnesses_and_say_which() -> None:
    """What is decided is what a result's tree must have; a class that nobody could satisfy is refused before anything is sent."""
    witnessed: dict[str, Any] = {"witnesses": WITNESSES, "logs": LOGS}
    one = decided(policy({"phi": ClassRules(witnesses=("archive",), cosignatures=1)}, **witnessed)).require()
    assert (one.witnesses, one.rules.cosignatures) == ({"archive": WITNESSES["archive"]}, 1)
    (trust,) = one.log_trusts().values()
    assert (trust.cosignatures, list(trust.witnesses)) == (1, ["archive"])
    for rules, changes, rule in (
        ({"cosignatures": 3}, witnessed, "cosignatures"),
        ({"witnesses": ("archive",), "cosignatures": 2}, witnessed, "cosignatures"),
        ({"cosignatures": 1}, {"witnesses": WITNESSES}, "cosignatures"),
        (
            {"witnesses": ("archive",)},
            witnessed | {"rules": Rules(lanes=("tee",), cosignatures=2)},
            "witnesses",
        ),
    ):
        with pytest.raises(PolicyError, match=rf"classes\.phi\.{rule}"):
            decided(policy({"phi": ClassRules(**rules)}, **changes)).require()


def test_a_revoked_operator_is_not_what_a_class_has_left() -> None:
    """Named for the class and revoked: nobody is left."""
    under = policy({"phi": ClassRules(operators=("north",))}, revoked={NORTH.id: Revocation(at=1)})
    with pytest.raises(PolicyError, match=r"classes\.phi\.operators"):
        decided(under).require()


def test_all_classes_are_met_and_the_digest_stays_that_of_the_whole() -> None:
    """What nodes are held to, who may run it, how it is padded."""
    under = policy(
        {
            "phi": ClassRules(
                measurements={"amd-sev-snp": {"measurement": (GENOA,)}}, operators=("north",), buffered=True
            ),
            "pii": ClassRules(platforms=("amd-sev-snp",), padding=WIDE, buffered=False),
        }
    )
    narrow = decided(under, manifest(column("age", "pii"))).require()
    assert narrow.allowed_operators() == (NORTH.id,)
    assert {name: rules.measurements for name, rules in narrow.platforms.items()} == {
        "amd-sev-snp": {"measurement": (GENOA,)}
    }
    assert (narrow.rules.padding, narrow.rules.buffered) == (WIDE, True)
    assert narrow.digest == under.digest
    with pytest.raises(PolicyError, match="narrowed"):
        Policy(**(vars(narrow) | {"path": Path("nowhere.toml")})).save()


def test_the_strictest_padding_shows_the_fewest_lengths() -> None:
    """Small buckets fill many chunks, whose number tells."""
    none, powers = Padding(), Padding(rule="powers")
    small, one = Padding(rule="buckets", buckets=(16,)), Padding(rule="buckets", buckets=(1 << 20,))
    assert [lengths(each) for each in (none, powers, small, WIDE, one)] == [1 << 20, 15, 1 << 16, 2, 1]
    assert strictest([none, powers, small, WIDE]) == WIDE
    assert strictest([WIDE, Padding(rule="buckets", buckets=(64, 1 << 20))]) == WIDE


TEXT = f"""
[publishers]
acme = "{ACME.id}"

[operators]
north = "{NORTH.id}"

[platforms.amd-sev-snp.measurements]
measurement = ["{GENOA}"]

[classes."phi.strict"]
lanes = ["tee"]
platforms = ["amd-sev-snp"]
publishers = ["acme"]
operators = ["north"]
padding = {{ rule = "buckets", buckets = [4096, 65536] }}
buffered = true

[classes."phi.strict".measurements.amd-sev-snp]
measurement = ["{GENOA}"]

[classes.public]

[models.triage]
publisher = "acme"
data_class = "public"
columns = {{ age = "phi.strict", 'a "b" \\ c' = "public", "d\\u007f" = "public" }}

[rules]
lanes = ["fhe", "tee"]
data_class = "public"
"""


def test_a_policy_with_classes_reads_as_it_was_written(tmp_path: Path) -> None:
    """By a person, and by `save`."""
    path = tmp_path / "policy.toml"
    path.write_text(TEXT)
    first = Policy.load(path)
    assert set(first.classes) == {"phi.strict", "public"}
    assert first.models["triage"].columns['a "b" \\ c'] == "public"
    first.save()
    again = Policy.load(path)
    assert again == first
    assert (
        again.digest == first.digest != Policy(**(vars(first) | {"classes": {}, "models": {}, "rules": Rules()})).digest
    )


def test_a_policy_without_classes_is_written_and_called_as_before(tmp_path: Path) -> None:
    """Older releases refuse sections that they do not know; evidence binds the digest."""
    under = policy(path=tmp_path / "policy.toml")
    under.save()
    assert not {"classes", "models", "data_class"} & set((tmp_path / "policy.toml").read_text().split())
    assert Policy({}, {}).digest == "sha256:1fd8361b887af09d4ad1bedbdb8ddff6f2b1482fc0358ea0a54988bb74c30d77"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('[classes.phi]\nlanes = ["plain"]', r"classes\.phi\.lanes", id="unknown lane"),
        pytest.param("[classes.phi]\nlanes = []", r"classes\.phi\.lanes", id="no lane"),
        pytest.param('[classes.phi]\nlane = ["fhe"]', r"classes\.phi\.lane: Extra", id="misspelt key"),
        pytest.param('[classes."Phi"]', r"classes\.Phi", id="no name"),
        pytest.param(
            '[classes.phi]\nplatforms = ["intel-tdx"]',
            r"classes\.phi\.platforms names 'intel-tdx', and \[platforms\] has: none",
            id="platform of no section",
        ),
        pytest.param(
            '[classes.phi]\noperators = ["x"]', r"classes\.phi\.operators names 'x'", id="operator of no section"
        ),
        pytest.param(
            '[classes.phi]\npublishers = ["x"]', r"classes\.phi\.publishers names 'x'", id="publisher of no section"
        ),
        pytest.param(
            '[classes.phi.measurements.intel-tdx]\nmrtd = ["aa"]',
            r"classes\.phi\.measurements names 'intel-tdx'",
            id="measurements of no platform",
        ),
        pytest.param(
            '[classes.phi]\npadding = { rule = "buckets" }', r"classes\.phi\.padding", id="buckets without any"
        ),
        pytest.param('[models.triage]\ndata_class = "phi"', r"models\.triage\.data_class names 'phi'", id="no class"),
        pytest.param(
            '[classes.phi]\n[models.triage]\ncolumns = { age = "pii" }',
            r"models\.triage\.columns\.age names 'pii', and \[classes\] has: phi",
            id="a column's class",
        ),
        pytest.param(
            "[models.triage]", r"models\.triage: .*data_class or columns", id="a model of which nothing is said"
        ),
        pytest.param('[rules]\ndata_class = "phi"', r"rules\.data_class names 'phi'", id="default of no class"),
    ],
)
def test_a_mistake_in_a_class_is_refused_by_table_and_key(tmp_path: Path, text: str, says: str) -> None:
    """Nothing that was misspelt is silently off."""
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=says):
        Policy.load(path)
