"""The broker against a model of it that fits on a page: any sequence of commands has the same answers, on each database.

A sequence is drawn by hypothesis and shrunk when it fails. It goes through the application's own routes, with signed documents; the
model holds no documents, only where each job stands. `make test` tries a slice of the sequences.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

import campaigns
from blindgate_gateway.dead_letters import resend
from blindgate_gateway.tables import attempts, ended_jobs, job_documents, jobs, tenants
from blindgate_protocol.errors import TransitionError
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobRequest, JobView, Lease, Refusal, Release
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed
from brokerage import Tenant, blob_ref
from desk import Desk, open_desk

SEQUENCES = campaigns.of(250 * campaigns.CAMPAIGN, slice_of=60)
"""For each of two databases."""
ATTEMPTS = 2
CAP = 2
FEWEST, STEPS = 8, 40
COMMANDS = (
    "submit",
    "submit",
    "submit again",
    "lease",
    "lease",
    "lease",
    "heartbeat",
    "commit",
    "commit",
    "commit otherwise",
    "release",
    "refuse",
    "cancel",
    "lease time passes",
    "deadline passes",
    "resend",
)


@dataclass
class Job:
    """Where a job stands."""

    tenant: str
    key: tuple[int, int, str]
    request: JobRequest
    state: JobState = JobState.QUEUED
    generation: int = 0
    spent: int = 0
    overdue: bool = False
    too_late: bool = False
    outcomes: list[str] = field(default_factory=list)
    won: tuple[Lease, bytes] | None = None

    def ends_attempt(self, outcome: str, state: JobState) -> None:
        """The lease is over."""
        self.outcomes.append(outcome)
        self.state = state

    def back(self, outcome: str) -> None:
        """Queued again, unless this was the last attempt."""
        last = self.generation - self.spent >= ATTEMPTS
        self.ends_attempt(outcome, JobState.DEAD if last else JobState.QUEUED)


class Model:
    """What the broker should do."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.callers: dict[str, Tenant] = {"bank": desk.tenant, "clinic": desk.stranger}
        self.jobs: dict[str, Job] = {}
        self.leases: list[Lease] = []
        self.receipts: dict[tuple[str, int, bytes], Signed[Receipt]] = {}

    def run(self, command: str, number: int) -> None:
        """Send one command, and hold its answer against what it should be."""
        getattr(self, command.replace(" ", "_"))(number)

    def submit(self, number: int) -> None:
        """A new job of either tenant."""
        name, priority = ("bank", "clinic")[number % 2], number % 3 - 1
        caller, data = self.callers[name], number.to_bytes(2, "big")
        request = JobRequest(
            order=caller.order(self.desk.manifest, blob_ref(data)).envelope, input_data=data, priority=priority
        )
        view = JobView.model_validate_json(caller.ask("POST", "/v1/jobs", request).content)
        self.jobs[view.job] = Job(name, (-priority, view.submitted, view.job), request)

    def submit_again(self, number: int) -> None:
        """The same order: the same job, as it stands."""
        if self.jobs:
            name, job = self._job(number)
            view = JobView.model_validate_json(self.callers[job.tenant].ask("POST", "/v1/jobs", job.request).content)
            assert (view.job, view.state) == (name, job.state)

    def lease(self, _: int) -> None:
        """A node asks: what is over ends first, then the least served tenant's first job is given."""
        for job in self.jobs.values():
            if job.too_late and not job.state.ended:
                self._expire(job)
            elif job.overdue and job.state is JobState.LEASED:
                job.back("lost")
            job.overdue = False
        allowed = self._next()
        lease = self.desk.worker.lease()
        if lease is None:
            assert not allowed
            return
        assert lease.job in allowed
        job = self.jobs[lease.job]
        job.state, job.generation = JobState.LEASED, job.generation + 1
        assert lease.generation == job.generation
        self.leases.append(lease)

    def heartbeat(self, number: int) -> None:
        """The lease goes on, if it is one."""
        for lease, job, held in self._lease(number):
            assert self.desk.worker.command(lease, "POST", "heartbeat").status_code == (200 if held else 409), job

    def commit(self, number: int) -> None:
        """The job has succeeded; the same commit again is the same answer."""
        self._commit(number, b"result")

    def commit_otherwise(self, number: int) -> None:
        """Another receipt for a job that has succeeded is refused."""
        self._commit(number, b"another result")

    def release(self, number: int) -> None:
        """Queued again, or dead."""
        for lease, job, held in self._lease(number):
            body = Release(code="worker-ended", reason="no room")
            answer = self.desk.worker.command(lease, "POST", "release", body)
            assert answer.status_code == (200 if held else 409)
            if held:
                job.back("released")

    def refuse(self, number: int) -> None:
        """Failed for good."""
        for lease, job, held in self._lease(number):
            body = Refusal(code="ciphertext", reason="not one")
            answer = self.desk.worker.command(lease, "POST", "refuse", body)
            assert answer.status_code == (200 if held else 409)
            if held:
                job.ends_attempt("refused", JobState.FAILED)

    def cancel(self, number: int) -> None:
        """Unless it has ended."""
        if self.jobs:
            name, job = self._job(number)
            answer = self.callers[job.tenant].send("POST", f"/v1/jobs/{name}/cancel")
            assert answer.status_code == (200 if not job.state.ended or job.state is JobState.CANCELLED else 409)
            if not job.state.ended:
                if job.state is JobState.LEASED:
                    job.outcomes.append("cancelled")
                job.state = JobState.CANCELLED

    def lease_time_passes(self, number: int) -> None:
        """Nobody has noticed yet."""
        for lease, job, held in self._lease(number):
            if held:
                self.desk.let_pass(lease.job)
                job.overdue = True

    def deadline_passes(self, number: int) -> None:
        """Nobody has noticed yet."""
        if self.jobs:
            name, job = self._job(number)
            if not job.state.ended:
                self.desk.let_pass(name, "deadline")
                job.too_late = True

    def resend(self, number: int) -> None:
        """A dead job has fresh attempts."""
        if self.jobs:
            name, job = self._job(number)
            operators = self.desk.brokerage.settings.operators
            if job.state is JobState.DEAD:
                resend(self.desk.parts.database, name, operators=operators)
                job.state, job.spent = JobState.QUEUED, job.generation
            else:
                with pytest.raises(TransitionError, match="only a dead job"):
                    resend(self.desk.parts.database, name, operators=operators)

    def check(self) -> None:
        """Every job is shown as it stands, with every attempt."""
        for name, job in self.jobs.items():
            view = self.callers[job.tenant].job(name)
            assert view.state is job.state
            assert [attempt.outcome for attempt in view.attempts] == job.outcomes
            assert (view.receipt is not None) == (job.state is JobState.SUCCEEDED)
        other = {"bank": "clinic", "clinic": "bank"}
        for name, job in self.jobs.items():
            assert self.callers[other[job.tenant]].send("GET", f"/v1/jobs/{name}").status_code == 404

    def _commit(self, number: int, output: bytes) -> None:
        for lease, job, held in self._lease(number):
            worker = self.desk.worker
            repeats = job.won is not None and job.won[0] is lease
            name = (lease.job, lease.generation, output)
            if name not in self.receipts:
                self.receipts[name] = worker.receipt(lease, output)
            receipt = self.receipts[name]
            answer = worker.commit(lease, receipt, output)
            if held:
                assert answer.status_code == 200, answer.text
                job.ends_attempt("succeeded", JobState.SUCCEEDED)
                job.won = (lease, output)
            else:
                same = repeats and job.won is not None and job.won[1] == output
                assert answer.status_code == (200 if same else 409), answer.text

    def _expire(self, job: Job) -> None:
        if job.state is JobState.LEASED:
            job.outcomes.append("expired")
        job.state = JobState.EXPIRED

    def _next(self) -> set[str]:
        """The jobs that may be given: one, or one a tenant where two tenants were served in the same millisecond."""
        with self.desk.parts.database.read() as connection:
            served = dict(connection.execute(select(tenants.c.name, tenants.c.served)).all())
        heads = []
        for tenant in self.callers:
            leased = sum(job.tenant == tenant and job.state is JobState.LEASED for job in self.jobs.values())
            waiting = [job for job in self.jobs.values() if job.tenant == tenant and job.state is JobState.QUEUED]
            if waiting and leased < CAP:
                heads.append(((leased, served[tenant]), min(job.key for job in waiting)[2]))
        return {head for turn, head in heads if turn == min(turn for turn, _ in heads)}

    def _job(self, number: int) -> tuple[str, Job]:
        return list(self.jobs.items())[number % len(self.jobs)]

    def _lease(self, number: int) -> Iterator[tuple[Lease, Job, bool]]:
        """One of the leases that were ever given, its job, and whether it still holds."""
        if self.leases:
            lease = self.leases[number % len(self.leases)]
            job = self.jobs[lease.job]
            yield lease, job, job.state is JobState.LEASED and job.generation == lease.generation and not job.overdue


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One gateway for all sequences; each begins with no jobs."""
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_server").new_database()
    folder = tmp_path_factory.mktemp("model")
    with open_desk(folder, database=url, attempts=ATTEMPTS, in_flight=CAP, lease=600_000, log_level="error") as made:
        yield made


@settings(max_examples=SEQUENCES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(COMMANDS), st.integers(0, 59)), min_size=FEWEST, max_size=STEPS))
def test_any_sequence_of_commands_has_the_models_answers(desk: Desk, steps: list[tuple[str, int]]) -> None:
    """And every job stands where the model has it."""
    with desk.parts.database.write(durable=False) as connection:
        for table in (attempts, job_documents, jobs, ended_jobs):
            connection.execute(delete(table))
        connection.execute(update(tenants).values(served=0))
    model = Model(desk)
    for command, number in steps:
        model.run(command, number)
    model.check()
