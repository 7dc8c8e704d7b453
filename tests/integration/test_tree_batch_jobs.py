"""A private forest on a table of patients, from raw columns to labels, through a real gateway and a real node."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from xgboost import XGBClassifier

from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.tree_batches import compile_trees_batch
from blindgate_models.public_bins import PublicBins
from signed_packages import package
from world import World

NAME = "patients"


class Patients(NamedTuple):
    """Breast cancer: rows to train with, and rows that are held out."""

    training: pd.DataFrame
    held_out: pd.DataFrame
    known: "pd.Series[Any]"


@pytest.fixture(scope="module")
def patients() -> Patients:
    """As an application has them, columns by name."""
    rows, answers = load_breast_cancer(return_X_y=True, as_frame=True)
    training, held_out, known, _ = train_test_split(rows, answers, test_size=0.3, random_state=0, stratify=answers)
    return Patients(training, held_out, known)


@pytest.fixture(scope="module")
def pipeline(patients: Patients) -> Pipeline:
    """What a data scientist writes: fifty trees of depth 4 on 16 public bins a column."""
    model = XGBClassifier(n_estimators=50, max_depth=4, n_jobs=1)
    return make_pipeline(PublicBins(16).set_output(transform="pandas"), model).fit(patients.training, patients.known)


@pytest.fixture(scope="module")
def served(world: World, pipeline: Pipeline, patients: Patients) -> CompiledModel:
    """The pipeline, compiled and published."""
    compiled = compile_trees_batch(pipeline, patients.training)
    world.publish(package(compiled, name=NAME))
    return compiled


@pytest.mark.slow
def test_every_held_out_patient_gets_the_forests_class(
    world: World, pipeline: Pipeline, patients: Patients, served: CompiledModel
) -> None:
    """In one job, and the probability within what rounding the leaves costs. No evaluation key is made or sent."""
    with world.client() as client:
        model = client.model(NAME)
        assert (model.predict(patients.held_out) == pipeline.predict(patients.held_out)).all()
        assert len(model.last_jobs) == 1
        probabilities = model.predict_proba(patients.held_out)
    expected = pipeline.predict_proba(patients.held_out)
    assert np.abs(probabilities - expected).max() <= served.encryption.error_bound / 4 + 1e-4
    assert served.report["evaluation_key_bytes"] == 0
    assert served.report["agreement_plain"] == 1.0
    assert served.discloses["to_client"][0] == "the public bins"


@pytest.mark.slow
def test_one_patient_alone_sends_as_much_as_all_of_them(
    world: World, patients: Patients, served: CompiledModel
) -> None:
    """A network that counts bytes does not learn how many rows there are; the order says it to the gateway."""
    sent = []
    with world.client() as client:
        model = client.model(NAME)
        for rows in (patients.held_out[:1], patients.held_out):
            before = client.transport.bytes_sent
            model.predict(rows)
            sent.append(client.transport.bytes_sent - before)
    assert abs(sent[0] - sent[1]) < 4096
