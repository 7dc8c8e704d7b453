"""A private forest on a table of patients, through a real gateway and a real node."""

import numpy as np
import pandas as pd
import pytest

from batch_forests import Floats, Trained, breast_cancer
from blindgate_models.compilers.compiled import Column, CompiledModel, steepness
from blindgate_models.compilers.tree_batches import TreeBatch, compile_tree_batch
from blindgate_models.trees_batch.spec import FAMILY
from signed_packages import package
from world import World

NAME = "patients"


@pytest.fixture(scope="module")
def trained() -> Trained:
    """Twenty trees of depth 3 on 4 public bins a column."""
    return breast_cancer(20, 3, bins=4)


@pytest.fixture(scope="module")
def served(world: World, trained: Trained) -> TreeBatch:
    """The forest, compiled and published."""
    batch = compile_tree_batch(trained.forest, trained.questions, trained.training)
    columns = [
        Column(name=f"x{column}", type="number", minimum=-1e6, maximum=1e6)
        for column in range(trained.training.shape[1])
    ]
    world.publish(
        package(
            CompiledModel(
                family=FAMILY,
                client=batch.client.model_dump(),
                server=batch.server.model_dump(),
                columns=columns,
                task="classification",
                labels=["malignant", "benign"],
                link="sigmoid",
                steepness=steepness("sigmoid", np.zeros(1)),
                encryption=batch.encryption,
                privacy=batch.privacy,
                determinism=batch.determinism,
                discloses=batch.discloses,
                report=batch.report,
            ),
            name=NAME,
        )
    )
    return batch


def frame(rows: Floats) -> pd.DataFrame:
    """Rows as an application has them."""
    return pd.DataFrame(rows, columns=[f"x{column}" for column in range(rows.shape[1])])


def test_every_held_out_patient_gets_the_forests_class(world: World, trained: Trained, served: TreeBatch) -> None:
    """In one job, and the probability within what rounding the leaves costs. No evaluation key is made or sent."""
    with world.client() as client:
        model = client.model(NAME)
        labels = model.predict(frame(trained.held_out))
        assert (labels == np.where(trained.margins > 0, "benign", "malignant")).all()
        assert len(model.last_jobs) == 1
        probabilities = model.predict_proba(frame(trained.held_out))[:, 1]
    expected = 1 / (1 + np.exp(-trained.margins))
    assert np.abs(probabilities - expected).max() <= served.client.error_bound[0] / 4 + 1e-4
    assert served.report["evaluation_key_bytes"] == 0


def test_one_patient_alone_sends_as_much_as_all_of_them(world: World, trained: Trained, served: TreeBatch) -> None:
    """A gateway that counts bytes does not learn how many rows there are; the order says it."""
    sent = []
    with world.client() as client:
        model = client.model(NAME)
        for rows in (trained.held_out[:1], trained.held_out):
            before = client.transport.bytes_sent
            model.predict(frame(rows))
            sent.append(client.transport.bytes_sent - before)
    assert abs(sent[0] - sent[1]) < 4096
