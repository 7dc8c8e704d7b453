"""A curious node answers with ciphertexts of its own making, well signed, and listens to what the client does next.

If anything that the client sends depended on what it decrypted, the node would have a decryption oracle. So jobs are
answered with valid, random and out-of-range results; what the client says afterwards must be the same, in sequence and sizes.
200 jobs are the whole; `make test` has a slice.
"""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import campaigns
from between import Answer, Proxy, Said
from blindgate.job import Job
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_models.linear.server import LinearServer
from blindgate_models.publishing import open_package
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobView
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import SigningKey
from blindgate_protocol.values import BlobRef
from signed_packages import package
from world import DAY, World

JOBS = campaigns.of(200, slice_of=12)
KINDS = ("valid", "random", "out of range")


class CuriousNode:
    """A node whose operator the client trusts, and that answers as it likes.

    It stands in the proxy: the gateway never sees its jobs, so each answer costs a request and not a lease.
    """

    def __init__(self, world: World, compiled: CompiledModel) -> None:
        self.server = LinearServer.from_part(compiled.server)
        self.package = open_package(package(compiled))
        self.node = SigningKey.generate()
        now = int(time.time() * 1000)
        certificate = NodeCertificate(
            node=self.node.id, name="curious", operator=world.operator.id, issued=now - DAY, expires=now + DAY
        )
        self.certificate = world.operator.sign(certificate)
        self.results: dict[str, bytes] = {}

    def answer(self, job: Job, kind: str, ciphertexts: bytes) -> JobView:
        """A well-signed answer to `job`."""
        honest = self.server.evaluate(None, ciphertexts)
        header = len(honest) % 8 + 64
        if kind == "valid":
            result = honest
        elif kind == "random":
            result = honest[:header] + secrets.token_bytes(len(honest) - header)
        else:
            result = honest[:header] + b"\xff" * (len(honest) - header)
        order = job.bundle.order
        receipt = Receipt(
            order=order.digest,
            job=job.id,
            tenant=order.document.tenant,
            model=order.document.model,
            circuit=self.package.manifest.document.server.digest,
            evaluation_key=None,
            input=order.document.input,
            output=BlobRef(digest=digest(result), size=len(result)),
            lane="fhe",
            generation=1,
            node=self.node.id,
            certificate=self.certificate.envelope,
            software={},
            started=order.document.issued,
            finished=order.document.issued,
        )
        self.results[job.id] = result
        return JobView(
            job=job.id,
            state=JobState.SUCCEEDED,
            submitted=order.document.issued,
            receipt=self.node.sign(receipt).envelope,
            result=receipt.output,
        )


@pytest.fixture
def proxy(world: World) -> Iterator[Proxy]:
    """A proxy before the world's gateway."""
    with Proxy(world.url) as between:
        yield between


@pytest.mark.parametrize("along", [pytest.param(True, id="results come along"), pytest.param(False, id="are fetched")])
def test_what_a_client_sends_does_not_depend_on_what_it_decrypted(
    world: World,
    proxy: Proxy,
    small_compiled: CompiledModel,
    small_rows: np.ndarray[Any, Any],
    tmp_path: Path,
    *,
    along: bool,
) -> None:
    """Many jobs, three kinds of answers: the same requests in the same order with the same sizes, every time."""
    curious = CuriousNode(world, small_compiled)
    # Its answers never were at the gateway, so no log has them.
    with world.client(home=tmp_path, url=proxy.url, log=False) as client:
        model = client.model("small")
        heard: dict[str, set[tuple[Said, ...]]] = {kind: set() for kind in KINDS}
        outcomes: dict[str, set[str]] = {kind: set() for kind in KINDS}
        for number in range(JOBS):
            kind = KINDS[number % len(KINDS)]
            ciphertexts: list[bytes] = []
            encrypt = type(model._half).encrypt

            def keeping(half: Any, secret: bytes, rows: Any, progress: Any = None) -> bytes:
                ciphertexts.append(encrypt(half, secret, rows, progress))  # noqa: B023
                return ciphertexts[-1]  # noqa: B023

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(model._half), "encrypt", keeping)
                proxy.lie = lambda _method, _path, answer: answer
                job = model.submit(small_rows[:1])
            view = curious.answer(job, kind, ciphertexts[0])
            if along:
                view = view.model_copy(update={"result_data": curious.results[job.id]})

            def told(method: str, path: str, answer: Answer, *, job: Job = job, view: JobView = view) -> Answer:
                if path.endswith("/result"):
                    return Answer(200, curious.results[job.id])
                if method == "GET" and path.startswith(f"/v1/jobs/{job.id}"):
                    return Answer(200, view.model_dump_json().encode())
                if path.endswith("/acknowledge"):
                    return Answer(204, b"")
                return answer

            proxy.lie = told
            proxy.heard.clear()
            try:
                job.result(timeout=30)
                outcomes[kind].add("a label")
            except BlindgateError as error:
                outcomes[kind].add(error.code)
            # Whatever the application does next with the same model is not the SDK's; give it time to say something.
            said = tuple(
                Said(one.method, one.path.replace(job.id, "JOB").split("?")[0], one.size) for one in proxy.heard
            )
            heard[kind].add(said)
        assert heard["valid"] == heard["random"] == heard["out of range"]
        assert len(heard["valid"]) == 1
        assert [one.path for one in next(iter(heard["valid"]))] == [
            "/v1/jobs/JOB",
            *([] if along else ["/v1/jobs/JOB/result"]),
            "/v1/jobs/JOB/acknowledge",
        ]
        assert outcomes["valid"] == {"a label"}
        assert outcomes["out of range"] != {"a label"}, "the answers differ for the client, so the silence is its own"


def test_zeroed_weights_change_the_answers(
    small_compiled: CompiledModel, small_rows: np.ndarray[Any, Any], world: World, tmp_path: Path
) -> None:
    """The answers come from the model's weights: a node that zeroes them gives other scores."""
    with world.client(home=tmp_path) as client:
        model = client.model("small")
        right = model._scores(small_rows[:20], 60)
        part = {**small_compiled.server, "weights": [[0] * 4 for _ in small_compiled.server["weights"]]}
        zeroed = LinearServer.from_part(part)
        key = model._keys.key_for(model._half, show_progress=False)
        reply = zeroed.evaluate(None, model._half.encrypt(key.secret, small_rows[:20]))
        wrong = model._half.decrypt(key.secret, reply, 20)
    assert np.ptp(right) > 1
    assert np.ptp(wrong) < 0.01
