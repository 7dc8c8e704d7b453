"""Every route, as the gateway's own document describes it, with requests that schemathesis makes up, for every caller.

A request is generated from the document, so that it keeps it or breaks it; then it may name real objects, of the caller or of
somebody else, carry a real lease, or a body that is right; and then it gets the caller's credential: of a node, a signature over
what was generated. So requests reach past "not found", and the same ones come from whoever may not send them.

`make nightly` sends more than 20,000, other ones each time; `make test` a slice that is always the same.
"""

import random
import re
import zlib
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import hypothesis
import pytest
import requests
import schemathesis
import structlog
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

import campaigns
from hostile_requests import (
    ANOTHERS,
    BY_OPERATION,
    CALLERS,
    MIXES,
    POISONED,
    ROLES,
    WITH_BODY,
    MadeUp,
    faults_of,
    name_objects,
    prepared,
    texts_of,
)
from hostile_stage import CANARY, NODE, Stage, behind_a_socket, bytes_of, in_process

CASES: Final = campaigns.of(16, slice_of=2)
"""Of each operation, for each caller, at each gateway."""
STRIDE: Final = campaigns.of(1, slice_of=5)
"""Every caller sends each so many-th operation; in `make nightly`, all."""
SEED: Final = campaigns.of(random.SystemRandom().randrange(1 << 32), slice_of=0)
UNSENT: Final = 0


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the application in this process logs."""
    lines: list[str] = []

    def keep(_logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        lines.append(repr((method, event)))
        raise structlog.DropEvent

    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    yield lines
    structlog.reset_defaults()


@pytest.fixture(
    params=[
        "in this process",
        pytest.param("behind a socket", marks=pytest.mark.skipif(campaigns.CAMPAIGN == 1, reason="nightly")),
    ]
)
def stage(request: pytest.FixtureRequest, tmp_path: Path, database_url: str | None, said: list[str]) -> Iterator[Stage]:
    """A gateway on each database, in this process and as processes of its own."""
    made: AbstractContextManager[Stage]
    if request.param == "in this process":
        made = in_process(tmp_path, database_url, lambda: "\n".join(said))
    else:
        made = behind_a_socket(tmp_path, database_url)
    with made as opened:
        yield opened


def test_no_request_of_anybody_makes_the_gateway_fail_or_its_document_a_lie(
    stage: Stage, request: pytest.FixtureRequest
) -> None:
    """No 5xx, every answer as the document says, nothing of another tenant's, and no body in the log."""
    schema = schemathesis.openapi.from_dict(stage.http.get("/openapi.json").json())
    campaign = Campaign(stage)
    for number, result in enumerate(schema.get_all_operations()):
        assert isinstance(result, Ok)
        operation = result.ok()
        strategy = st.tuples(cases(operation), st.sampled_from(MIXES), st.integers(0, 1 << 16))
        callers = set(CALLERS[number % STRIDE :: STRIDE]) | {role for role in ROLES if f"/{role}/" in operation.path}
        for caller in sorted(callers):
            campaign.drive(strategy, caller, f"{request.node.name}/{operation.label}/{caller}")
    faults, counts = campaign.faults, campaign.counts
    log = stage.log()
    faults += [
        f"the log has {text!r}" for text in (*campaign.sent, CANARY) if text in log and text not in campaign.paths
    ]
    faults += [f"the log: {line[:3000]}" for line in log.splitlines() if re.search(r"[\"'](failed|error)[\"']", line)]
    print(f"seed {SEED}: {sum(counts.values())} requests: " + table(counts))
    assert not faults, f"seed {SEED}, {len(faults)} faults:\n\n" + "\n\n".join(faults[:20])
    assert all(counts[caller, UNSENT] < 0.05 * sum(counts.values()) for caller in CALLERS)
    for caller in ROLES:
        assert any(counts[caller, good] for good in (200, 201, 204)), f"{caller} was never answered well"


@dataclass
class Campaign:
    """What was sent to a stage, and what came back."""

    stage: Stage
    faults: list[str] = field(default_factory=list)
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    sent: set[str] = field(default_factory=set)
    paths: str = ""

    def drive(self, strategy: st.SearchStrategy[tuple[MadeUp, str, int]], caller: str, name: str) -> None:
        """Send, as `caller`, so many of what the strategy gives; which ones, the seed and the name decide."""

        @hypothesis.seed(zlib.crc32(name.encode()) ^ SEED)
        @hypothesis.settings(
            max_examples=CASES,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(strategy)
        def attempt(drawn: tuple[MadeUp, str, int]) -> None:
            self.attempt(*drawn, caller)

        attempt()

    def attempt(self, case: MadeUp, mix: str, number: int, caller: str) -> None:
        """Send one request, and look at its answer."""
        try:
            name_objects(self.stage, case, mix, number)
            asked = prepared(
                self.stage,
                case,
                caller,
                with_body=mix in {WITH_BODY, ANOTHERS, POISONED},
                poison=number if mix == POISONED else None,
            )
        except (requests.RequestException, UnicodeError, ValueError):
            self.counts[caller, UNSENT] += 1  # no HTTP library sends this; raw bytes have a test of their own
            return
        answer = self.stage.session.send(asked, timeout=30, allow_redirects=False)
        self.counts[caller, answer.status_code] += 1
        self.sent.update(texts_of(bytes_of(asked)))
        self.paths += f"{unquote(asked.path_url)}\n"  # which the log has, and in which a text may stand as well
        self.faults += [
            f"{caller}, {mix}: {asked.method} {asked.path_url}: {fault}\n{asked.body!r:.2000}"
            for fault in faults_of(self.stage, case, caller, asked, answer)
        ]
        if caller == NODE and answer.ok and asked.method == "POST":
            self.stage.renew()


def cases(operation: Any) -> st.SearchStrategy[MadeUp]:
    """Requests that keep what the document says of an operation, and such that break it, where it says anything."""
    keeping = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    route = BY_OPERATION.get(operation.definition.raw.get("operationId"))
    if route is None or not (route.body or route.parameters or "<" in route.rule):
        return keeping  # type: ignore[no-any-return]
    return st.one_of(keeping, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))


def table(counts: Counter[tuple[str, int]]) -> str:
    """How often each caller got each status."""
    return "; ".join(
        f"{caller}: "
        + ", ".join(f"{status} {count}" for (who, status), count in sorted(counts.items()) if who == caller)
        for caller in CALLERS
    )
