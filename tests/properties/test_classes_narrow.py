"""Adding a class never widens what a request may do, whatever the classes say."""

from hypothesis import given, settings
from hypothesis import strategies as st

from blindgate.decisions import decide
from blindgate.policy import ClassRules
from blindgate.rules import lengths
from blindgate_protocol.padding import Padding
from classified import ACME, GENOA, OTHER, SECOND, column, manifest, policy

NOW = 1_800_000_000_000
NAMES = ("phi", "pii", "public")


def some_of(*names: str) -> st.SearchStrategy[tuple[str, ...] | None]:
    """Nothing, or at least one of these."""
    return st.none() | st.lists(st.sampled_from(names), min_size=1, unique=True).map(tuple)


buckets = st.lists(st.sampled_from([16, 64, 4096, 1 << 20]), min_size=1, unique=True).map(
    lambda sizes: Padding(rule="buckets", buckets=tuple(sorted(sizes)))
)
paddings = st.none() | st.just(Padding()) | st.just(Padding(rule="powers")) | buckets
measurements = some_of(GENOA, SECOND).map(lambda of: of and {"amd-sev-snp": {"measurement": of}})
rules = st.builds(
    ClassRules,
    lanes=some_of("fhe", "tee"),
    platforms=some_of("amd-sev-snp", "intel-tdx"),
    measurements=measurements,
    publishers=some_of("acme", "other"),
    operators=some_of("north", "south"),
    padding=paddings,
    buffered=st.none() | st.booleans(),
)


@settings(max_examples=150)
@given(
    classes=st.fixed_dictionaries(dict.fromkeys(NAMES, rules)),
    had=st.lists(st.sampled_from(NAMES), unique=True),
    more=st.sampled_from(NAMES),
    lane=st.sampled_from(["fhe", "tee"]),
    by=st.sampled_from([ACME, OTHER]),
)
def test_another_class_allows_no_more(classes, had, more, lane, by) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Neither the verdict, nor anything that is then done."""
    under = policy(classes)
    model = manifest(*(column(f"c{place}", kind) for place, kind in enumerate(had)), by=by, lane=lane)
    before, after = (decide(under, model, said=said, now=NOW) for said in (None, more))
    assert before.allowed or not after.allowed
    wide, narrow = before.policy, after.policy
    assert set(narrow.rules.lanes) <= set(wide.rules.lanes)
    assert narrow.operators.items() <= wide.operators.items()
    assert narrow.publishers.items() <= wide.publishers.items()
    assert narrow.platforms.keys() <= wide.platforms.keys()
    for name, of in narrow.platforms.items():
        for fact, values in of.measurements.items():
            assert set(values) <= set(wide.platforms[name].measurements.get(fact, values))
    assert narrow.rules.buffered or not wide.rules.buffered
    assert lengths(narrow.rules.padding) <= lengths(wide.rules.padding)
    assert narrow.digest == under.digest
    if after.allowed:  # what was decided can be done
        assert narrow.allowed_operators()
        assert narrow.platforms or lane == "fhe"
