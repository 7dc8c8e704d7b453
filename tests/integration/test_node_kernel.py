"""The kernel in C inside a node: loaded by the zygote behind its layers, used by workers that may load nothing more."""

from pathlib import Path

import numpy as np
import pytest

from blindgate_models.compilers.search import search_parts
from blindgate_models.native.kernel import kernel
from blindgate_models.package import serialise_part
from blindgate_models.product.spec import Privacy
from blindgate_models.search.client import SearchClient
from node_process import COMPUTING
from worker_pool import workers


@pytest.mark.parametrize("privacy", ["model_public", "model_private"])
def test_a_worker_computes_with_the_kernel(privacy: Privacy, tmp_path: Path) -> None:
    """The system-call filter, Landlock and an empty root do not stand in its way, and the scores are exact."""
    if kernel() is None:
        pytest.skip("no kernel was compiled here")
    index = np.random.default_rng(0).integers(-127, 128, (25_000, 9)).astype(np.int8)
    client_part, server_part = search_parts(index, privacy=privacy)
    client = SearchClient.from_part(client_part.model_dump())
    secret, query = client.make_keys().secret, np.eye(1, 9)
    with workers(tmp_path) as rig:
        model = rig.model(COMPUTING, serialise_part(server_part.model_dump()))
        for _ in range(2):
            result = rig.run(model, client.encrypt(secret, query))
            assert result[:16] == b"KernelArithmetic"
            assert client.decrypt(secret, result[16:], 1)[0].tolist() == index[:, 0].tolist()
