"""The SDK as an application uses it, through a real gateway and a real node."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from between import Proxy
from blindgate import Client, Policy
from blindgate.commands import predict
from blindgate.keystore import FileStore
from blindgate.policy import ClassRules, Rules
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_protocol.errors import (
    GatewayError,
    GatewayUnreachableError,
    InputError,
    JobCancelledError,
    JobTimeoutError,
    KeyStoreError,
    LogError,
    MalformedError,
    NotAuthorisedError,
    NotFoundError,
    PolicyError,
    UntrustedSignerError,
)
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobList
from blindgate_protocol.signing import SigningKey
from classified import WITNESSES
from desk import OTHER_OPERATOR
from signed_packages import package
from typed import type_command
from world import World

Rows = np.ndarray[Any, np.dtype[np.float64]]
COLUMNS = ["x0", "x1", "x2", "x3"]


@pytest.fixture
def frame(small_rows: Rows) -> pd.DataFrame:
    """The small model's rows as a DataFrame, its columns in another order."""
    return pd.DataFrame(small_rows[:40], columns=COLUMNS)[["x2", "x0", "x3", "x1"]]


def test_predictions_are_the_plaintext_models(
    world: World, small_rows: Rows, small_estimator: LogisticRegression, frame: pd.DataFrame
) -> None:
    """Labels, their type, and probabilities, as scikit-learn gives them."""
    with world.client() as client:
        model = client.model("small")
        labels = model.predict(frame)
        assert labels.tolist() == small_estimator.predict(small_rows[:40]).tolist()
        expected = small_estimator.predict_proba(small_rows[:40])
        np.testing.assert_allclose(model.predict_proba(frame), expected, atol=1e-4)
        assert model.classes_.tolist() == ["sick", "well"]
        assert model.n_features_in_ == 4
        assert model.predict(dict(zip(COLUMNS, small_rows[0], strict=True))).shape == (1,)


def test_whoever_takes_a_job_up_holds_it_to_the_classes_that_it_was_sent_as(
    world: World, small_rows: Rows, tmp_path: Path
) -> None:
    """Nobody cosigned this tree, and one class of data wants that: in another process, too, which never heard of the class."""
    classes = {"phi": ClassRules(cosignatures=1), "public": ClassRules()}
    trusted = dataclasses.replace(world.policy(), classes=classes, witnesses={"archive": WITNESSES["archive"]})
    policy = dataclasses.replace(trusted, rules=Rules(log_within=1.0))

    def asking(under: Policy) -> Client:
        return Client(world.url, world.api_key("hospital"), policy=under, home=tmp_path)

    with asking(policy) as client:
        model = client.model("small")
        held, public = (model.submit(small_rows[:1], data_class=name) for name in ("phi", "public"))
    with asking(policy) as other:
        assert other.job(public.id).result(timeout=60).shape == (1,)
        with pytest.raises(LogError, match="cosignatures"):
            other.job(held.id).result(timeout=60)
    forgetful = dataclasses.replace(policy, classes={"public": ClassRules()})
    with asking(forgetful) as other:
        with pytest.raises(PolicyError, match=r"class 'phi'.*put \[classes\.phi\] back"):
            other.job(held.id)
        assert other.job(public.id).result(timeout=60).shape == (1,)


def test_a_job_can_be_submitted_watched_and_opened_later(
    world: World, small_rows: Rows, small_estimator: LogisticRegression
) -> None:
    """And taken up again by another process from its id alone."""
    with world.client() as client:
        job = client.model("small").submit(small_rows[:5])
        assert job.receipt is None
        assert job.result(timeout=60).tolist() == small_estimator.predict(small_rows[:5]).tolist()
        assert job.status() is JobState.SUCCEEDED
        assert job.receipt is not None
        assert job.receipt.document.job == job.id
    with world.client() as other:
        again = other.job(job.id)
        assert again.result(timeout=60).tolist() == small_estimator.predict(small_rows[:5]).tolist()
        with pytest.raises(NotFoundError):
            other.job("0" * 32)


def test_a_job_whose_key_is_lost_is_an_error_and_not_an_answer(world: World, small_rows: Rows, tmp_path: Path) -> None:
    """A fresh key would decrypt the result to noise, which has labels too. Nor will one do that was made since."""
    with world.client(home=tmp_path) as client:
        job = client.model("small").submit(small_rows[:5])
    for path in (tmp_path / "keys").glob("hospital.*"):
        path.unlink()
    with world.client(home=tmp_path) as client:
        with pytest.raises(KeyStoreError, match=job.id):
            client.job(job.id)
        client.model("small").predict(small_rows[:1])
        with pytest.raises(KeyStoreError, match=job.id):
            client.job(job.id)


def test_keys_are_made_once_and_found_by_the_next_process(world: World, small_rows: Rows, tmp_path: Path) -> None:
    """The second client has the first one's key, and no file holds it in the clear."""
    for _ in range(2):
        with world.client(home=tmp_path, passphrase="a passphrase") as client:
            client.model("small").predict(small_rows[:1])
    store = FileStore(tmp_path / "keys", "a passphrase")
    assert len([name for name in store.names() if name.endswith(".secret")]) == 1


def test_a_long_table_is_split_and_joined(world: World, small_estimator: LogisticRegression) -> None:
    """More rows than one job takes at once come back in their order."""
    rows = np.random.default_rng(1).uniform(-3, 3, size=(200_000, 4))
    with world.client() as client:
        model = client.model("small")
        np.testing.assert_array_equal(model.predict(rows), small_estimator.predict(rows))
        assert len(model.last_jobs) > 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda frame: frame.drop(columns="x1"), "column 'x1' is missing", id="missing column"),
        pytest.param(lambda frame: frame.assign(name="a"), "column 'name' is unknown", id="unknown column"),
        pytest.param(lambda frame: frame.assign(x1="a"), "column 'x1', row 0: expected a number", id="text"),
        pytest.param(lambda frame: frame.assign(x1=np.nan), "column 'x1', row 0: the value is missing", id="NaN"),
        pytest.param(lambda frame: frame.assign(x1=99.0), "column 'x1', row 0: .*-10 to 10", id="out of range"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_before_anything_is_sent(
    world: World, frame: pd.DataFrame, change: Any, says: str
) -> None:
    """One clear error; not a byte to the gateway."""
    with world.client() as client:
        model = client.model("small")
        sent = client.transport.bytes_sent
        with pytest.raises(InputError, match=says):
            model.predict(change(frame))
        assert client.transport.bytes_sent == sent


def test_what_was_sent_is_cancelled_when_the_rest_cannot_be(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error, or the user's Ctrl-C, in the middle of a long table."""
    policy = Policy(dict(world.publishers), {"idle": OTHER_OPERATOR.id})
    with Client(world.url, world.api_key("clinic"), policy=policy, home=tmp_path) as client:
        model = client.model("small")
        prepare, chunks = model._prepare, []

        def interrupted(rows: Rows, data_class: str | None) -> Any:
            chunks.append(len(rows))
            if len(chunks) == 2:
                raise KeyboardInterrupt
            return prepare(rows, data_class)

        monkeypatch.setattr(model, "_prepare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.predict(np.zeros((200_000, 4)))
        jobs = client.transport.get("/v1/jobs", JobList).jobs
        assert [view.state for view in jobs] in ([], [JobState.CANCELLED])


def test_no_node_is_an_error_that_says_so_and_leaves_nothing_queued(
    world: World, small_rows: Rows, tmp_path: Path
) -> None:
    """A policy whose operator has no node here now: the wait ends, and the job is cancelled."""
    policy = Policy(dict(world.publishers), {"idle": OTHER_OPERATOR.id})
    with Client(world.url, world.api_key("hospital"), policy=policy, home=tmp_path) as client:
        model = client.model("small")
        with pytest.raises(JobTimeoutError, match=r"no node took it .* Is a node running"):
            model.predict(small_rows[:1], timeout=1)
        job = model.submit(small_rows[:1])
        assert job.status() is JobState.QUEUED
        assert job.cancel() is JobState.CANCELLED
        assert job.cancel() is JobState.CANCELLED
        with pytest.raises(JobCancelledError):
            job.result(timeout=5)


def test_a_policy_whose_operators_the_gateway_does_not_know_is_told_so_at_once(
    world: World, small_rows: Rows, tmp_path: Path
) -> None:
    """Nobody would ever take the job."""
    policy = Policy(dict(world.publishers), {"elsewhere": SigningKey.generate().id})
    with (
        Client(world.url, world.api_key("hospital"), policy=policy, home=tmp_path) as client,
        pytest.raises(GatewayError, match="takes nodes of none of the operators that the order allows"),
    ):
        client.model("small").predict(small_rows[:1], timeout=5)


def test_a_wait_does_not_press_a_gateway_that_cannot_hold_it(world: World, small_rows: Rows, tmp_path: Path) -> None:
    """A busy gateway answers long polls at once: the SDK asks ever more rarely."""
    policy = Policy(dict(world.publishers), {"idle": OTHER_OPERATOR.id})
    with (
        Proxy(world.url) as between,
        Client(between.url, world.api_key("hospital"), policy=policy, home=tmp_path) as client,
    ):
        job = client.model("small").submit(small_rows[:1])
        between.hasty = True
        between.heard.clear()
        with pytest.raises(JobTimeoutError):
            job.result(timeout=3)
        assert 3 <= len(between.heard) <= 12
        job.cancel()


def test_an_unknown_publisher_is_refused_with_what_would_be_trusted_and_how(world: World, tmp_path: Path) -> None:
    """A newcomer learns whose key it is and which command to type."""
    policy = Policy({}, {}, path=tmp_path / "policy.toml")
    with (
        Client(world.url, world.api_key("hospital"), policy=policy, home=tmp_path) as client,
        pytest.raises(UntrustedSignerError) as caught,
    ):
        client.model("small")
    assert world.publishers["tests"] in str(caught.value)
    assert "blindgate policy trust publisher" in str(caught.value)


def test_a_lane_that_the_rules_do_not_name_is_refused(tmp_path: Path) -> None:
    """A policy cannot be written that allows a lane which does not exist."""
    (tmp_path / "policy.toml").write_text('[rules]\nlanes = ["plaintext"]\n')
    with pytest.raises(PolicyError, match="lanes"):
        Client("http://127.0.0.1:9", "key", home=tmp_path)


def test_mistakes_with_the_gateway_are_named(world: World, tmp_path: Path) -> None:
    """A wrong key, a wrong model, a wrong address."""
    with Client(world.url, "bg_wrong.key", home=tmp_path) as client, pytest.raises(NotAuthorisedError):
        client.models()
    with world.client() as client, pytest.raises(NotFoundError):
        client.model("no-such-model")
    with world.client() as client, pytest.raises(MalformedError, match=r"not a model's name: '\.\./jobs'"):
        client.model("../jobs")
    with (
        Client("http://127.0.0.1:9", "key", home=tmp_path) as client,
        pytest.raises(GatewayUnreachableError, match=r"127\.0\.0\.1:9"),
    ):
        client.models()
    with pytest.raises(GatewayError, match="BLINDGATE_URL"):
        Client.from_env()


def test_the_command_line_predicts_from_csv_to_csv(
    world: World, small_rows: Rows, small_estimator: LogisticRegression, tmp_path: Path
) -> None:
    """`blindgate predict MODEL rows.csv -o out.csv`, and the receipt verified offline afterwards."""
    world.policy(tmp_path / "policy.toml").save()
    environment = os.environ | {
        "BLINDGATE_URL": world.url,
        "BLINDGATE_API_KEY": world.api_key("hospital"),
        "BLINDGATE_HOME": str(tmp_path),
    }

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return type_command(command, environment)

    pd.DataFrame(small_rows[:7], columns=COLUMNS).to_csv(tmp_path / "rows.csv", index=False)
    done = run("predict", "small", str(tmp_path / "rows.csv"), "-o", str(tmp_path / "out.csv"))
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "out.csv")["prediction"].tolist() == small_estimator.predict(small_rows[:7]).tolist()

    proba = run("predict", "small", str(tmp_path / "rows.csv"), "--proba")
    assert proba.stdout.splitlines()[0] == "prediction,probability sick,probability well"

    job = next((tmp_path / "bundles").glob("*.json")).stem
    receipt = run("jobs", "receipt", job, "--json")
    assert receipt.returncode == 0, receipt.stderr
    assert '"verified"' in receipt.stdout

    assert '"name": "small"' in run("models", "list", "--json").stdout
    assert "x3" in run("models", "show", "small").stdout
    assert '"tenant": "hospital"' in run("keys", "list", "--json").stdout

    (tmp_path / "bad.csv").write_text("x0,x1,x2\n1,2,3\n")
    bad = run("predict", "small", str(tmp_path / "bad.csv"))
    assert bad.returncode == 1
    assert bad.stderr.strip() == "blindgate: column 'x3' is missing"


def test_the_command_lines_labels_are_the_same_beside_their_probabilities(
    world: World, small_estimator: LogisticRegression, small_compiled: CompiledModel, tmp_path: Path
) -> None:
    """Where rounding makes two probabilities equal, too."""
    world.publish(package(small_compiled, name="coarse", decimals=1))
    world.policy(tmp_path / "policy.toml").save()
    weights, intercept = small_estimator.coef_[0], small_estimator.intercept_[0]
    rows = np.outer((np.array([-0.1, 0.1]) - intercept) / (weights @ weights), weights)
    pd.DataFrame(rows, columns=COLUMNS).to_csv(tmp_path / "rows.csv", index=False)
    options = ("--url", world.url, "--api-key", world.api_key("hospital"), "--home", str(tmp_path))
    predict.app([
        "coarse", str(tmp_path / "rows.csv"), "--proba", "-o", str(tmp_path / "out.csv"), *options
    ], standalone_mode=False)  # fmt: skip
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["probability sick"].tolist() == table["probability well"].tolist() == [0.5, 0.5]
    assert table["prediction"].tolist() == small_estimator.predict(rows).tolist() == ["sick", "well"]


def test_the_sdk_imports_without_native_libraries() -> None:
    """`from blindgate import Client` loads no tenseal, concrete, pandas or torch: they cost seconds and memory."""
    code = "import sys, blindgate; print([n for n in ('tenseal', 'concrete', 'pandas', 'torch', 'rich') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
