"""One fitted model, every family that runs it: what each costs, how exact it is, and who learns what."""

from typing import Any

import pandas as pd
from numpy.typing import NDArray

from blindgate_models.compilers.compile_environment import CompilerError
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.estimators import FAMILIES, WITHOUT_TOLERANCE, compile_model
from blindgate_models.compilers.prepared import Prepared
from blindgate_protocol.errors import PackageError


def compile_with_each(
    estimator: Any, calibration: pd.DataFrame | NDArray[Any] | Prepared, **settings: Any
) -> dict[str, CompiledModel | str]:
    """The estimator compiled by every family, or why a family does not take it. Takes as long as all of them together.

    `settings` go to every compiler but Concrete ML's, which computes on whole numbers and has no tolerance.
    """
    found: dict[str, CompiledModel | str] = {}
    for family in FAMILIES:
        try:
            found[family] = compile_model(
                estimator, calibration, family=family, **({} if family == WITHOUT_TOLERANCE else settings)
            )
        except (TypeError, ValueError, PackageError, CompilerError) as error:
            found[family] = str(error)
    return found


def describe(family: str, compiled: CompiledModel | str) -> dict[str, Any]:
    """One line of a comparison."""
    if isinstance(compiled, str):
        return {"family": family, "fits": compiled}
    report = compiled.report
    return {
        "family": family,
        "fits": "yes",
        "agreement": report["agreement_plain"],
        "max_score_error": report["max_error"],
        "seconds_per_row": report["expected_seconds_per_row"],
        "evaluation_key_bytes": report["evaluation_key_bytes"],
        "upload_bytes_per_row": report["ciphertext_bytes_per_row"],
        "download_bytes_per_row": report["result_bytes_per_row"],
        "model": compiled.privacy.mode,
        "you_learn": "; ".join(compiled.discloses["to_client"]),
        "a_node_learns": "; ".join(compiled.discloses["to_node"]),
    }
