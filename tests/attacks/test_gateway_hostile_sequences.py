"""Requests in a row that follow the links of the gateway's document: upload, part, job, lease, result, commit, in any order.

Each is sent by a caller who may send it, so that what one answer gave takes the next further; mostly with a body that is right,
now and then with one that was made up. What must hold of every answer is the same as for single requests.
"""

import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase

import campaigns
from blindgate_protocol.messages import Lease
from hostile_requests import BY_OPERATION, MadeUp, faults_of, operation_of, prepared
from hostile_stage import Stage, in_process

SEQUENCES: Final = campaigns.of(400, slice_of=5)
AT_ONCE: Final = 5
STEPS: Final = 10
_FEW: Final = 5
CALLERS: Final = {"tenant": "jobs", "publisher": "publish", "reader": "read", "node": "node", "operator": "operator"}


@pytest.fixture
def database(request: pytest.FixtureRequest, database_url: str | None) -> str | None:
    """Each database; in `make test` the embedded one alone, since single requests try both."""
    if database_url is not None and campaigns.CAMPAIGN == 1:
        pytest.skip("nightly")
    return database_url


def test_what_one_answer_leads_to_is_as_the_document_says(tmp_path: Path, database: str | None) -> None:
    """No 5xx and no lie after any sequence, and the sequences do reach the end of a job."""
    with in_process(tmp_path, database, str) as stage:
        schema = schemathesis.openapi.from_dict(stage.http.get("/openapi.json").json())
        faults: list[str] = []
        good: Counter[str] = Counter()

        class Sequences(schema.as_state_machine()):  # type: ignore[misc]  # a class that is made from the document
            """Sends what comes next."""

            def call(self, case: MadeUp, **_: Any) -> schemathesis.Response:
                operation = operation_of(case)
                caller, asked = request_of(stage, case, operation)
                answer = stage.session.send(asked, timeout=30, allow_redirects=False)
                if operation == "leases_poll" and answer.status_code == 200:
                    stage.lease = Lease.model_validate_json(answer.content)
                good[operation] += answer.ok
                faults.extend(
                    f"{asked.method} {asked.path_url}: {each}" for each in faults_of(stage, case, caller, asked, answer)
                )
                return schemathesis.Response.from_requests(answer, verify=False)

            def validate_response(self, *_: Any, **__: Any) -> None:
                """Look at nothing: `call` did."""

        drive(Sequences)
    assert not faults, "\n".join(faults[:20])
    print(dict(good))
    far = ("uploads_put_part", "jobs_acknowledge", "jobs_download_result", "leases_put_result", "leases_commit")
    for operation in ("jobs_submit", "leases_poll", *(far if SEQUENCES > _FEW else ())):
        assert good[operation], (operation, good)


def drive(machine: Any) -> None:
    """Run so many sequences, from one seed after the other.

    Hypothesis takes what differs from one sequence to the next for a fault of the test's own. Here it is the gateway, which goes
    on with the objects of the sequence before: then the next seed has its turn.
    """
    settings = hypothesis.settings(
        max_examples=AT_ONCE,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for number in range(SEQUENCES // AT_ONCE):
        with suppress(hypothesis.errors.Flaky):
            hypothesis.seed(number)(machine).run(settings=settings)


def request_of(stage: Stage, case: MadeUp, operation: str) -> tuple[str, requests.PreparedRequest]:
    """The request with its rightful caller; what an answer before gave stays in it."""
    route = BY_OPERATION.get(operation)
    caller = CALLERS.get(min(route.roles), "auditor") if route is not None and route.roles else "nobody"
    with_body = zlib.crc32(str(case.path_parameters).encode()) % 4 > 0
    try:
        return caller, prepared(stage, case, caller, with_body=with_body)
    except (requests.RequestException, UnicodeError, ValueError):  # a header field that no HTTP library sends
        case.headers.clear()
        case.query.clear()
        return caller, prepared(stage, case, caller, with_body=True)
