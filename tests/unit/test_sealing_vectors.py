"""The vectors of sealing: everything in the file comes to the verdict that it states; RFC 9180's own, and X-Wing's, hold too."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from blindgate_protocol.chunks import Opener, RequestStream, ResponseStream, Sealer, Stream
from blindgate_protocol.content_key import Commitment, ContentKey
from blindgate_protocol.errors import BlindgateError, CommitmentError
from blindgate_protocol.evidence import Binding, Evidence, KeySet
from blindgate_protocol.order import Order
from blindgate_protocol.padding import Padding
from blindgate_protocol.sealing import RecipientKeys, Seal, open_seal
from blindgate_protocol.signing import Envelope, open_signed
from fixed_hpke import Hpke
from sealed_jobs import NODE

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "vectors" / "sealing.json").read_text())


def raw(text: str) -> bytes:
    """Bytes from the file's base64."""
    return base64.b64decode(text, validate=True)


CONTENT_KEY = ContentKey(raw(VECTORS["content_key"]))


def keys(*, x_wing: bool) -> RecipientKeys:
    """The node of the file."""
    node = VECTORS["node"]
    times = {"issued": node["issued"], "expires": node["expires"]}
    seed = raw(node["x_wing_seed"]) if x_wing else None
    return RecipientKeys(node=node["key"], receipt=NODE, x25519=raw(node["x25519"]), x_wing=seed, **times)


def context(text: str) -> Stream:
    """A stream's context, by its purpose."""
    kind = RequestStream if json.loads(text)["purpose"] == "blindgate request v1" else ResponseStream
    return kind.from_bytes(text.encode())


@pytest.mark.parametrize("case", VECTORS["key_sets"], ids=lambda case: case["case"])
def test_every_key_set_comes_to_its_verdict(case: dict[str, Any]) -> None:
    """Keys that nothing may be sealed to are refused where they are read."""
    if case["verdict"] == "ok":
        assert KeySet.from_bytes(case["text"].encode()).digest == case["digest"]
        return
    with pytest.raises(BlindgateError) as caught:
        KeySet.from_bytes(case["text"].encode())
    assert caught.value.code == case["verdict"]


def test_the_key_sets_are_those_of_the_seeds() -> None:
    """A stranger who expands the seeds has the same public keys."""
    for node, case in zip((keys(x_wing=False), keys(x_wing=True)), VECTORS["key_sets"], strict=False):
        assert node.key_set.to_bytes().decode() == case["text"]


@pytest.mark.parametrize("case", VECTORS["bindings"], ids=lambda case: case["case"])
def test_a_binding_gives_the_platform_what_the_file_says(case: dict[str, Any]) -> None:
    """64 bytes for the CPU, the second half of them zero, and 32 for the GPU that are no part of those."""
    text = case["text"].encode()
    bound = Binding.from_bytes(text)
    assert (bound.digest, bound.report_data(), bound.gpu_nonce()) == (
        case["digest"],
        raw(case["report_data"]),
        raw(case["gpu_nonce"]),
    )
    assert bound.report_data() == hashlib.sha256(text).digest() + bytes(32)
    assert bound.gpu_nonce() == hashlib.sha256(b"blindgate GPU nonce v1\0" + text).digest()


@pytest.mark.parametrize("case", VECTORS["padding"], ids=lambda case: case["padding"]["rule"])
def test_padding_gives_the_sizes_of_the_file(case: dict[str, Any]) -> None:
    """Another implementation pads to the same."""
    padding = Padding.model_validate_json(json.dumps(case["padding"]))
    assert [[length, padding.size_of(length)] for length, _ in case["sizes"]] == case["sizes"]


def test_keys_are_derived_as_the_file_says() -> None:
    """Both directions."""
    for case in VECTORS["derivations"]:
        derived = CONTENT_KEY.derive(case["info"].encode(), length=44, salt=raw(case["salt"]))
        assert derived == raw(case["key"]) + raw(case["base"])


@pytest.mark.parametrize("case", VECTORS["streams"], ids=lambda case: case["case"])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_every_stream_comes_to_its_verdict(case: dict[str, Any], step: int) -> None:
    """In whatever pieces it arrives."""
    opener = Opener(CONTENT_KEY, context(case["context"]))
    stream = raw(case["stream"])

    def opened() -> list[bytes]:
        data = [data for at in range(0, len(stream), step) for data in opener.feed(stream[at : at + step])]
        opener.finish()
        return data

    if case["verdict"] == "ok":
        assert opened() == [raw(one) for one in case["data"]]
        return
    with pytest.raises(BlindgateError) as caught:
        opened()
    assert caught.value.code == case["verdict"]


def test_the_same_data_is_sealed_to_the_same_bytes() -> None:
    """With the nonce of the file, which nobody else may use again."""
    case = next(one for one in VECTORS["streams"] if one["case"] == "a request, in buckets")
    stream = raw(case["stream"])
    sealer = Sealer(CONTENT_KEY, context(case["context"]), draw=lambda _: stream[:32])
    *pieces, last = (raw(one) for one in case["data"])
    assert b"".join([*map(sealer.seal, pieces), sealer.finish(last)]) == stream


@pytest.mark.parametrize("case", VECTORS["commitments"], ids=lambda case: case["of"])
def test_every_commitment_opens_to_its_data_alone(case: dict[str, Any]) -> None:
    """By who has the content key, and by who was given the one key."""
    for commitment in (
        CONTENT_KEY.commitment(case["of"], job=case["job"], order=case["order"]),
        Commitment(raw(case["key"])),
    ):
        assert commitment.key == raw(case["key"])
        commitment.add(raw(case["data"]))
        commitment.check(case["value"])
        commitment.add(b".")
        with pytest.raises(CommitmentError):
            commitment.check(case["value"])


@pytest.mark.parametrize("case", VECTORS["seals"], ids=lambda case: case["case"])
def test_every_seal_comes_to_its_verdict(case: dict[str, Any]) -> None:
    """As the node of the file reads it."""
    order = open_signed(Envelope.model_validate_json(json.dumps(VECTORS["order"])), Order)
    shown = {made.digest: made.binding for made in (Evidence.from_bytes(each.encode()) for each in VECTORS["shown"])}
    node = keys(x_wing=case["case"] == "by X-Wing")

    def opened() -> bytes:
        seal = Seal.from_bytes(case["seal"].encode())
        return open_seal(seal, node, order=order, shown=shown, now=case["now"]).content_key.secret()

    if case["verdict"] == "ok":
        assert opened() == CONTENT_KEY.secret()
        return
    with pytest.raises(BlindgateError) as caught:
        opened()
    assert caught.value.code == case["verdict"]


def test_hpke_in_the_file_is_the_librarys() -> None:
    """What was made with a fixed ephemeral key, the library opens; and the steps between are those of the file."""
    node, step = keys(x_wing=False), VECTORS["hpke"]
    info = step["info"].encode()
    made = Hpke().schedule(raw(step["ephemeral"]), node.key_set.x25519, info)
    assert made == {name: raw(step[name]) for name in ("enc", "shared_secret", "key", "base_nonce")}
    private = X25519PrivateKey.from_private_bytes(raw(VECTORS["node"]["x25519"]))
    sealed = Hpke().seal(raw(step["ephemeral"]), node.key_set.x25519, info, b"a text")
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    assert suite.decrypt(sealed, private, info) == b"a text"


def test_hpke_with_a_fixed_key_is_that_of_rfc_9180() -> None:
    """Appendix A.1.1: X25519, HKDF-SHA256, AES-128-GCM; our suite differs in the cipher alone."""
    public = bytes.fromhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d")
    private = bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
    assert X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() == public
    ephemeral = bytes.fromhex("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736")
    info, text = b"Ode on a Grecian Urn", b"Beauty is truth, truth beauty"
    hpke = Hpke(key_bytes=16)
    assert {name: value.hex() for name, value in hpke.schedule(ephemeral, public, info).items()} == {
        "enc": "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
        "shared_secret": "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc",
        "key": "4531685d41d65f03dc48f6b8302c05b0",
        "base_nonce": "56d890e5accaaf011cff4b7d",
    }
    assert hpke.seal(ephemeral, public, info, text, additional=b"Count-0")[32:].hex() == (
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
    )


def test_x_wing_is_that_of_its_draft() -> None:
    """draft-connolly-cfrg-xwing-kem, appendix C, the first: both halves of the public key come from one seed."""
    seed = hashlib.shake_128(b"").digest(32)
    node = RecipientKeys(node=NODE.id, receipt=NODE, x25519=bytes(32), x_wing=seed, issued=0, expires=1)
    public = node.key_set.x_wing or b""
    assert public.hex().startswith("e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5b19cfc3da5fa1a92")
    assert public.hex().endswith("859edb06eff389b27dce59844570216223593d4ba32d9abac8cd049040ef6534")
