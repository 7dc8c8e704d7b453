"""`make models`: compiles, signs and writes the demo's packages.

The publisher's key is made from a text that everybody can read, so that everybody can build the same packages; its name says what
it is worth. Only the demo's own policy trusts it. The packages are dated by a constant for the same reason.
"""

import argparse
import hashlib
from pathlib import Path

import pandas as pd

from blindgate.held_out import try_out
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.compilers.prepared import Prepared
from blindgate_models.publishing import publish
from blindgate_protocol.signing import SigningKey
from models.breast_cancer import ADDITIVE, FOREST, LINEAR, NAMES, TREES, build, patients, plain

HERE = Path(__file__).parent
INSECURE_DEMO_PUBLISHER = SigningKey.from_seed(hashlib.sha256(b"insecure demo publisher, known to everybody").digest())
ISSUED = 1_761_955_200_000
ASKED = {TREES: 16}  # so many held-out rows, since it takes a second for each; the others are asked about all
EXPIRES = 2_077_488_000_000
SUMMARIES = {
    LINEAR: "Malignant (0) or benign (1), by logistic regression over 30 measurements of a biopsy. A demo, not for patients.",
    TREES: "Malignant (0) or benign (1), by ten boosted trees over 30 measurements of a biopsy. A demo, not for patients.",
    FOREST: "Malignant (0) or benign (1), by fifty boosted trees that stay hidden. A demo, not for patients.",
    ADDITIVE: "Malignant (0) or benign (1), by one hidden function a measurement, added up. A demo, not for patients.",
}


def package_file(name: str) -> Path:
    """Where a demo model's package lies."""
    return HERE / f"{name}.bgmodel"


def signed(name: str, compiled: CompiledModel) -> bytes:
    """The package of a compiled demo model."""
    train, held_out, _, wanted = patients()
    asked = slice(ASKED.get(name))
    trial = try_out(compiled, Prepared.of(plain(name), train, {}), held_out[asked], pd.Series(wanted[asked]))
    right = round(float((plain(name).predict(held_out) == wanted).mean()), 4)
    return publish(
        compiled,
        INSECURE_DEMO_PUBLISHER,
        name=name,
        version=1,
        summary=SUMMARIES[name],
        issued=ISSUED,
        expires=EXPIRES,
        accuracy=trial.accuracy.model_copy(update={"plain": right}),
    )


def main() -> None:
    """Build the packages."""
    arguments = argparse.ArgumentParser(description="Build the demo's model packages.")
    arguments.add_argument("names", nargs="*", default=list(NAMES), help="which; all by default")
    for name in arguments.parse_args().names:
        print(f"compiling {name} ...", flush=True)
        package = signed(name, build(name))
        package_file(name).write_bytes(package)
        print(f"{package_file(name).name}: {len(package):,} bytes")


if __name__ == "__main__":
    main()
