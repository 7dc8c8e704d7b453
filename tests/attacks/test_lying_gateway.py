"""A gateway that lies: whatever it does, the client refuses by name and decrypts nothing.

The lies are told by a real proxy between the SDK and a real gateway, so everything but the lie is as it always is.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from between import Answer, Proxy
from blindgate import Client
from blindgate.job import Job
from blindgate_models.compilers.compiled import CompiledModel
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import (
    BlindgateError,
    EnvelopeError,
    ExpiredManifestError,
    MalformedError,
    ManifestError,
    PackageDigestError,
    ReceiptModelError,
    ReceiptNodeError,
    ReceiptOrderError,
    ResultDigestError,
    RolledBackManifestError,
    SignatureError,
    UntrustedSignerError,
)
from blindgate_protocol.messages import JobView
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import SigningKey, open_signed
from blindgate_protocol.values import BlobRef
from signed_packages import DAY, NOW, package
from world import World

Lie = Callable[[JobView, Job, Job], JobView]


@pytest.fixture
def proxy(world: World) -> Iterator[Proxy]:
    """A proxy before the world's gateway."""
    with Proxy(world.url) as between:
        yield between


@pytest.fixture
def client(world: World, proxy: Proxy, tmp_path: Path) -> Iterator[Client]:
    """A client that reaches the gateway through the proxy."""
    with world.client(home=tmp_path, url=proxy.url) as made:
        yield made


@pytest.fixture
def two_jobs(client: Client, small_rows: np.ndarray[Any, Any]) -> tuple[Job, Job]:
    """Two jobs under the same key and model, both evaluated; neither was fetched."""
    model = client.model("small")
    jobs = model.submit(small_rows[:3]), model.submit(small_rows[3:6])
    for job in jobs:
        job._wait(60)
    return jobs


def _body(view: JobView) -> bytes:
    return view.model_dump_json().encode()


def _view_of(job: Job) -> JobView:
    return job._view()


def _sign(node: SigningKey, receipt: Receipt) -> Any:
    return node.sign(receipt).envelope


def swap_views(view: JobView, first: Job, second: Job) -> JobView:
    """Answer for the first job with everything of the second."""
    del view, first
    return _view_of(second)


def swap_receipts(view: JobView, first: Job, second: Job) -> JobView:
    """Answer for the first job with the second's receipt, under the first's id."""
    del first
    return view.model_copy(update={"receipt": _view_of(second).receipt})


def mint_a_node(view: JobView, first: Job, second: Job) -> JobView:
    """Sign a fitting receipt with a node and an operator that the gateway made up."""
    del first, second
    assert view.receipt is not None
    node, operator = SigningKey.generate(), SigningKey.generate()
    certificate = operator.sign(
        NodeCertificate(node=node.id, name="minted", operator=operator.id, issued=NOW, expires=NOW + 3650 * DAY)
    )
    receipt = open_signed(view.receipt, Receipt).document
    minted = receipt.model_copy(update={"node": node.id, "certificate": certificate.envelope})
    return view.model_copy(update={"receipt": _sign(node, minted)})


def borrow_a_certificate(view: JobView, first: Job, second: Job) -> JobView:
    """Sign with a made-up node under the real node's certificate."""
    del first, second
    assert view.receipt is not None
    node = SigningKey.generate()
    receipt = open_signed(view.receipt, Receipt).document
    return view.model_copy(update={"receipt": _sign(node, receipt.model_copy(update={"node": node.id}))})


def sign_in_its_own_name(view: JobView, first: Job, second: Job) -> JobView:
    """Sign the real receipt with another key than the node's that it names."""
    del first, second
    assert view.receipt is not None
    return view.model_copy(
        update={"receipt": _sign(SigningKey.generate(), open_signed(view.receipt, Receipt).document)}
    )


def show_no_receipt(view: JobView, first: Job, second: Job) -> JobView:
    """Claim success without a receipt."""
    del first, second
    return view.model_copy(update={"receipt": None})


def alter_the_receipt(view: JobView, first: Job, second: Job) -> JobView:
    """Change one character of the receipt's payload."""
    del first, second
    assert view.receipt is not None
    payload = view.receipt.payload
    middle = len(payload) // 2
    other = "A" if payload[middle] != "A" else "B"
    changed = payload[:middle] + other + payload[middle + 1 :]
    return view.model_copy(update={"receipt": view.receipt.model_copy(update={"payload": changed})})


@pytest.mark.parametrize(
    ("lie", "refusal"),
    [
        pytest.param(swap_views, ReceiptOrderError, id="the results of two jobs are swapped"),
        pytest.param(swap_receipts, ReceiptOrderError, id="an old receipt is replayed"),
        pytest.param(mint_a_node, ReceiptNodeError, id="a node that the gateway minted"),
        pytest.param(borrow_a_certificate, ReceiptNodeError, id="a minted node with a borrowed certificate"),
        pytest.param(sign_in_its_own_name, ReceiptNodeError, id="a receipt signed by somebody else"),
        pytest.param(show_no_receipt, ReceiptOrderError, id="no receipt"),
        pytest.param(alter_the_receipt, SignatureError, id="one byte of the receipt altered"),
    ],
)
def test_a_lie_about_a_job_is_refused_by_name_and_nothing_is_decrypted(
    proxy: Proxy, two_jobs: tuple[Job, Job], lie: Lie, refusal: type[BlindgateError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipt is held against the order that the client kept, so it does not matter what the gateway says of it."""
    first, second = two_jobs
    decrypted: list[bytes] = []
    monkeypatch.setattr(type(first._half), "decrypt", lambda _half, _secret, result, _rows: decrypted.append(result))

    def told(method: str, path: str, answer: Answer) -> Answer:
        if method == "GET" and path.startswith(f"/v1/jobs/{first.id}") and not path.endswith("/result"):
            return answer._replace(body=_body(lie(JobView.model_validate_json(answer.body), first, second)))
        return answer

    proxy.lie = told
    proxy.heard.clear()
    with pytest.raises(refusal):
        first.result(timeout=30)
    assert decrypted == []
    assert not any("acknowledge" in said.path and first.id in said.path for said in proxy.heard)


def _tell_result(alter: Callable[[bytes], bytes], *, along: bool) -> Callable[[str, str, Answer], Answer]:
    """Alter a result, which the client is given along with the job or made to fetch."""

    def told(method: str, path: str, answer: Answer) -> Answer:
        if path.endswith("/result"):
            return answer._replace(body=alter(answer.body))
        if method == "GET" and path.startswith("/v1/jobs/") and b"result_data" in answer.body:
            view = JobView.model_validate_json(answer.body)
            data = alter(view.result_data) if along and view.result_data is not None else None
            return answer._replace(body=view.model_copy(update={"result_data": data}).model_dump_json().encode())
        return answer

    return told


@pytest.mark.parametrize(
    "along", [pytest.param(True, id="that came along"), pytest.param(False, id="that was fetched")]
)
@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda body: body[:-1] + bytes([body[-1] ^ 1]), id="one bit"),
        pytest.param(lambda body: body[:-1], id="cut off"),
        pytest.param(lambda body: body + b"\0", id="one byte more"),
        pytest.param(lambda body: body * 100, id="a hundred times as long"),
    ],
)
def test_an_altered_result_is_refused_and_not_decrypted(
    proxy: Proxy,
    two_jobs: tuple[Job, Job],
    alter: Callable[[bytes], bytes],
    along: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The result's bytes are the ones that the receipt names, or none."""
    first, _ = two_jobs
    assert first._wait(60).result_data is not None, "the model's result is too large to come along: this proves nothing"
    decrypted: list[bytes] = []
    monkeypatch.setattr(type(first._half), "decrypt", lambda _half, _secret, result, _rows: decrypted.append(result))
    proxy.lie = _tell_result(alter, along=along)
    with pytest.raises((ResultDigestError, MalformedError)):
        first.result(timeout=30)
    assert decrypted == []


@pytest.mark.parametrize("along", [pytest.param(True, id="along"), pytest.param(False, id="fetched")])
def test_the_second_result_does_not_open_the_first_job(proxy: Proxy, two_jobs: tuple[Job, Job], along: bool) -> None:
    """Both are ciphertexts under the same key and would decrypt; the digest says which is whose."""
    first, second = two_jobs
    other = second._wait(60).result_data
    assert other is not None
    proxy.lie = _tell_result(lambda _: other, along=along)
    with pytest.raises(ResultDigestError):
        first.result(timeout=30)


def _serving(manifest: bytes) -> Callable[[str, str, Answer], Answer]:
    """Serve this manifest whenever one is asked for."""
    offer = json.dumps({"manifest": json.loads(manifest)}).encode()
    return lambda _method, path, answer: answer._replace(body=offer) if path == "/v1/models/small" else answer


def _envelope(package_bytes: bytes) -> bytes:
    from blindgate_models.package import read_package  # noqa: PLC0415

    return read_package(package_bytes).manifest_envelope


def test_an_older_manifest_is_refused_once_a_newer_one_was_seen(
    proxy: Proxy, client: Client, small_compiled: CompiledModel
) -> None:
    """A gateway cannot bring back a version whose publisher has replaced it."""
    client._seen.remember(client.manifest("small").signer, "small", 2)
    with pytest.raises(RolledBackManifestError, match="older than version 2"):
        client.model("small")
    proxy.lie = _serving(_envelope(package(small_compiled, version=2)))
    # Version 2 passes this check; its own parts are not at this gateway, which is another refusal.
    with pytest.raises(BlindgateError) as caught:
        client.model("small")
    assert not isinstance(caught.value, RolledBackManifestError)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        pytest.param({"publisher": SigningKey.from_seed(b"x" * 32)}, UntrustedSignerError, id="unknown publisher"),
        pytest.param({"expires": NOW + 1}, ExpiredManifestError, id="expired"),
        pytest.param({"issued": NOW * 2, "expires": NOW * 3}, ExpiredManifestError, id="not valid yet"),
        pytest.param({"name": "other"}, ManifestError, id="of another model"),
    ],
)
def test_a_manifest_that_is_not_to_be_used_is_refused_by_its_reason(
    proxy: Proxy, client: Client, small_compiled: CompiledModel, changes: dict[str, Any], refusal: type[BlindgateError]
) -> None:
    """Before a key is made and before a row is encrypted."""
    proxy.lie = _serving(_envelope(package(small_compiled, **changes)))
    with pytest.raises(refusal):
        client.model("small")


def test_an_altered_manifest_is_refused(proxy: Proxy, client: Client, small_compiled: CompiledModel) -> None:
    """One byte of what the publisher signed."""
    envelope = json.loads(_envelope(package(small_compiled)))
    payload = envelope["payload"]
    envelope["payload"] = payload[:40] + ("A" if payload[40] != "A" else "B") + payload[41:]
    proxy.lie = _serving(json.dumps(envelope).encode())
    with pytest.raises((SignatureError, EnvelopeError)):
        client.model("small")


def test_an_altered_client_part_is_refused(proxy: Proxy, client: Client) -> None:
    """The part is the one that the manifest names, or the model is not used."""

    def told(_method: str, path: str, answer: Answer) -> Answer:
        return answer._replace(body=answer.body.replace(b"1", b"2", 1)) if path.endswith("/client") else answer

    proxy.lie = told
    with pytest.raises(PackageDigestError):
        client.model("small")


def test_a_receipt_for_another_circuit_is_refused(two_jobs: tuple[Job, Job]) -> None:
    """Even a real node's signature does not make another model's answer this one's."""
    first, _ = two_jobs
    bundle = first.bundle
    node = SigningKey.generate()
    operator = SigningKey.generate()
    certificate = operator.sign(
        NodeCertificate(node=node.id, name="n", operator=operator.id, issued=NOW, expires=NOW + 3650 * DAY)
    )
    order = bundle.order
    allowed = node.sign(order.document.model_copy(update={"operators": (operator.id,), "client": node.id}))
    receipt = Receipt(
        order=allowed.digest,
        job=order.document.job,
        tenant=order.document.tenant,
        model=order.document.model,
        circuit=digest(b"another circuit"),
        evaluation_key=None,
        input=order.document.input,
        output=BlobRef(digest=digest(b""), size=0),
        lane="fhe",
        generation=1,
        node=node.id,
        certificate=certificate.envelope,
        software={},
        started=order.document.issued,
        finished=order.document.issued,
    )
    from blindgate_protocol.receipts import check_receipt  # noqa: PLC0415

    with pytest.raises(ReceiptModelError, match="circuit"):
        check_receipt(node.sign(receipt), allowed, bundle.manifest, operators=(operator.id,))
