"""Documents from a Nitro enclave's device: asked for in the device's own form, and what it says in its own words is told."""

import errno
from pathlib import Path
from typing import Any

import cbor2
import pytest

from blindgate_node.attester.nitro import NitroAttester
from blindgate_protocol.errors import AttesterError
from recorded_nsm import RecordedNsm, with_user_data
from shared import shared

ASKED = bytes(range(1, 65))


def document() -> bytes:
    """A recorded one."""
    return shared("vectors/nitro/document.cbor").read_bytes()


def device(folder: Path, answer: Any, **how: Any) -> RecordedNsm:
    """The device; what it answers is a value, or made from the request."""
    (folder / "nsm").touch()
    return RecordedNsm(folder / "nsm", answer if callable(answer) else lambda _: answer, **how)


def attester(nsm: RecordedNsm) -> NitroAttester:
    """The node's."""
    return NitroAttester(nsm.device, ioctl=nsm.ioctl)


def test_a_document_is_asked_for_as_the_device_wants_it_and_comes_out_whole(tmp_path: Path) -> None:
    """The report data in `user_data`, and the document's bytes as they were."""

    def answer(request: Any) -> Any:
        return {"Attestation": {"document": with_user_data(document(), request["Attestation"]["user_data"])}}

    nsm = device(tmp_path, answer)
    made = attester(nsm).attest(ASKED)
    assert nsm.requests == [{"Attestation": {"user_data": ASKED, "nonce": None, "public_key": None}}]
    assert (made.platform, made.chain) == ("aws-nitro", ())
    assert made.evidence == with_user_data(document(), ASKED)


@pytest.mark.parametrize("bound", [b"\1" * 64, ASKED[:32], None], ids=["another", "a part", "nothing"])
def test_a_document_that_binds_something_else_is_not_handed_out(tmp_path: Path, bound: bytes | None) -> None:
    """Also where it binds nothing."""
    nsm = device(tmp_path, {"Attestation": {"document": with_user_data(document(), bound)}})
    with pytest.raises(AttesterError, match="binds other report data"):
        attester(nsm).attest(ASKED)


def test_a_recorded_document_of_another_question_is_not_handed_out(tmp_path: Path) -> None:
    """A genuine one, of somebody else's enclave."""
    with pytest.raises(AttesterError, match="7c37108079b3e8a3"):
        attester(device(tmp_path, {"Attestation": {"document": document()}})).attest(ASKED)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"Error": "InvalidOperation"}, r"InvalidOperation \(it does not do this now"),
        ({"Error": "InputTooLarge"}, r"InputTooLarge \(what it was given is too long"),
        ({"Error": "NewError"}, r"NewError \(not known here"),
        ({"Attestation": {"document": "text"}}, "neither a document nor an error"),
        ([], "neither a document nor an error"),
        (b"\xff", "is no CBOR"),
        (b"\xbf", "is no CBOR"),
        ({"Attestation": {"document": b""}}, "is no CBOR|are no CBOR"),
        ({"Attestation": {"document": cbor2.dumps([1, 2])}}, "no signed document"),
        ({"Attestation": {"document": cbor2.dumps([b"", {}, cbor2.dumps({}), b""])}}, "no `pcrs`"),
    ],
)
def test_what_the_device_answers_instead_is_said(tmp_path: Path, answer: Any, said: str) -> None:
    """By the device's own name for it, or that it is no answer."""
    with pytest.raises(AttesterError, match=said):
        attester(device(tmp_path, answer)).attest(ASKED)


@pytest.mark.parametrize("stated", [0, 0x3001, 1 << 63])
def test_a_length_that_the_device_states_is_not_believed(tmp_path: Path, stated: int) -> None:
    """The buffer has the size that it has."""
    with pytest.raises(AttesterError, match="an answer of"):
        attester(device(tmp_path, {}, stated=stated)).attest(ASKED)


def test_a_device_that_fails_is_told(tmp_path: Path) -> None:
    """By the kernel's words."""
    with pytest.raises(AttesterError, match="gives no answer: Operation not permitted"):
        attester(device(tmp_path, {}, fails=errno.EPERM)).attest(ASKED)


def test_a_machine_that_is_no_enclave_is_told_so(tmp_path: Path) -> None:
    """There is no device; or what lies there is none."""
    with pytest.raises(AttesterError, match="this is no Nitro enclave"):
        NitroAttester(tmp_path / "nsm")
    (tmp_path / "nsm").touch()
    with pytest.raises(AttesterError, match="gives no answer: Inappropriate ioctl"):
        NitroAttester(tmp_path / "nsm").attest(ASKED)
