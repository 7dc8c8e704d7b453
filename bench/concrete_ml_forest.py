"""The peer of the private forest: Concrete ML's own, as its users run it. Started in the compile environment by `bench.private`.

Reads `{"rows", "answers", "worker", "runs"}` as JSON, fits and compiles an XGBClassifier of fifty trees of depth four at 3 bits,
and writes the CPU seconds of each run for one row, after one that expands the key.
"""

import json
import sys
import time
from importlib.machinery import SourceFileLoader
from typing import Any

import numpy as np

given = json.load(sys.stdin)
worker: Any = SourceFileLoader("concrete_worker", given["worker"]).load_module()
worker.adapt()  # Concrete ML with a newer torch

from concrete.ml.sklearn import XGBClassifier  # noqa: E402

rows, answers = np.array(given["rows"]), np.array(given["answers"])
model = XGBClassifier(n_bits=3, n_estimators=50, max_depth=4, n_jobs=1)
model.fit(rows, answers)
circuit = model.compile(rows)
circuit.keygen()
encrypted = circuit.encrypt(model.quantize_input(rows[:1]))
taken = []
for _ in range(given["runs"] + 1):
    started = time.process_time()
    circuit.run(encrypted)
    taken.append(time.process_time() - started)
print(json.dumps(taken[1:]))
