"""Evidence of GPUs from NVML: it comes out in the form that the verifier reads, and a GPU that protects nothing is told."""

import base64
import json
import sys
from typing import Any

import pytest

from blindgate.attestation import nvidia
from blindgate.attestation.appraisal import Asked
from blindgate_node.attester.gpu import NvidiaGpus
from blindgate_protocol.errors import AttesterError
from recorded_nvml import RecordedNvml
from shared import shared

NOW = 1_764_000_000_000


def hopper() -> dict[str, str]:
    """Recorded evidence of an H100, with the versions that its report states."""
    (one,) = json.loads(shared("vectors/nvidia/hopper_evidence.json").read_bytes())
    return {**one, "driver_version": "", "vbios_version": ""} | _versions(json.dumps([one]).encode())


def blackwell() -> dict[str, str]:
    """Recorded evidence of a Blackwell GPU, whose report and certificates came in files of their own."""
    report = bytes.fromhex(shared("vectors/nvidia/blackwell_report.txt").read_text())
    chain = shared("vectors/nvidia/blackwell_certs.txt").read_bytes()
    one = {
        "arch": "BLACKWELL",
        "evidence": base64.b64encode(report).decode(),
        "certificate": base64.b64encode(chain).decode(),
        "nonce": report[4:36].hex(),
    }
    return one | _versions(json.dumps([one]).encode())


def _versions(evidence: bytes) -> dict[str, str]:
    facts = nvidia.appraise(evidence, Asked(now=NOW)).facts
    return {name: facts[name] for name in ("driver_version", "vbios_version")}


@pytest.mark.parametrize(("recorded", "architecture"), [(hopper, 9), (blackwell, 10)])
def test_recorded_evidence_comes_out_whole_and_affirms(recorded: Any, architecture: int) -> None:
    """The verifier reads what the node writes, and finds the GPU that the binding would name."""
    one = recorded()
    node = NvidiaGpus(RecordedNvml([one], architecture=architecture))
    nonce = bytes.fromhex(one["nonce"])
    made = node.attest(nonce)
    (written,) = json.loads(made)
    assert {name: written[name] for name in ("arch", "evidence", "nonce")} == {
        name: one[name] for name in ("arch", "evidence", "nonce")
    }
    found = nvidia.appraise(made, Asked(now=NOW, nonce=nonce))
    assert found.affirms, found.refusals()
    assert node.leaves() == (f"sha256:{found.facts['leaf']}",)


def test_a_report_that_answers_another_nonce_is_not_handed_out() -> None:
    """Whatever the GPU signed there, it is no answer to this question."""
    with pytest.raises(AttesterError, match=r"answer another nonce \(e97b23a1"):
        NvidiaGpus(RecordedNvml([hopper()])).attest(b"\1" * 32)


def test_every_gpu_answers_in_its_place() -> None:
    """A model may run on any of them."""
    one, other = hopper(), blackwell()
    node = NvidiaGpus(RecordedNvml([one, other]))
    assert len(set(node.leaves())) == 2
    with pytest.raises(AttesterError, match="answer another nonce"):
        node.attest(bytes.fromhex(one["nonce"]))


def test_one_gpu_is_not_counted_twice() -> None:
    """Two handles with one certificate are one GPU."""
    with pytest.raises(AttesterError, match="two of 2 GPUs have one certificate"):
        NvidiaGpus(RecordedNvml([hopper(), hopper()]))


def test_a_gpu_with_another_key_than_at_the_start_is_not_handed_out() -> None:
    """The binding names the one that was there then."""
    nvml = RecordedNvml([hopper()])
    node = NvidiaGpus(nvml)
    nvml.gpus[0]["certificate"] = blackwell()["certificate"]
    with pytest.raises(AttesterError, match="another key since this node started"):
        node.attest(bytes.fromhex(nvml.gpus[0]["nonce"]))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        pytest.param({"feature": 0}, "confidential computing is off", id="off"),
        pytest.param({"devtools": 1}, "its mode for developers", id="devtools"),
        pytest.param({"gpus": []}, "knows 0 GPUs", id="no GPU"),
        pytest.param({"raises": {"nvmlInit": "Driver Not Loaded"}}, "NVML says 'Driver Not Loaded'", id="no driver"),
        pytest.param(
            {"raises": {"nvmlSystemGetConfComputeState": "Not Supported"}}, "knows confidential computing", id="old GPU"
        ),
    ],
)
def test_a_gpu_that_protects_nothing_is_told_plainly(how: dict[str, Any], said: str) -> None:
    """At the start, before anything is asked of it."""
    with pytest.raises(AttesterError, match=said):
        NvidiaGpus(RecordedNvml(**({"gpus": [hopper()]} | how)))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"architecture": 8}, "architecture 8; HOPPER and BLACKWELL are known"),
        ({"report_size": 0}, "a report of 0 bytes"),
        ({"report_size": 0x2001}, "a report of 8193 bytes"),
        (
            {"raises": {"nvmlDeviceGetConfComputeGpuAttestationReport": "GPU is lost"}},
            "no report: NVML says 'GPU is lost'",
        ),
    ],
)
def test_what_goes_wrong_with_a_report_is_said(how: dict[str, Any], said: str) -> None:
    """By NVML's words, or by what is not as it should be."""
    one = hopper()
    with pytest.raises(AttesterError, match=said):
        NvidiaGpus(RecordedNvml([one], **how)).attest(bytes.fromhex(one["nonce"]))


def test_a_machine_without_the_package_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no need of nodes without such GPUs."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(AttesterError, match=r"pip install 'blindgate\[nvidia\]'"):
        NvidiaGpus()


@pytest.mark.parametrize("nonce", [b"", bytes(32), b"\1" * 31])
def test_nothing_is_asked_that_would_bind_nothing(nonce: bytes) -> None:
    """Zeros, or another length."""
    with pytest.raises(AttesterError, match="a nonce of"):
        NvidiaGpus(RecordedNvml([hopper()])).attest(nonce)


def test_the_stand_in_has_the_layout_of_the_real_module() -> None:
    """Where `nvidia-ml-py` is installed: the same names, fields and sizes."""
    real = pytest.importorskip("pynvml")
    stand_in = RecordedNvml([])
    for name in dir(RecordedNvml):
        if name.startswith(("nvml", "NVML")):
            assert hasattr(real, name), name
    for mine, theirs in (
        (stand_in.nvmlSystemGetConfComputeState(), real.c_nvmlConfComputeSystemState_t()),
        (
            type(RecordedNvml([hopper()]).nvmlDeviceGetConfComputeGpuCertificate(0))(),
            real.c_nvmlConfComputeGpuCertificate_t(),
        ),
    ):
        assert [field[0] for field in mine._fields_] == [field[0] for field in theirs._fields_]
        assert len(bytes(mine)) == len(bytes(theirs))
    for name in ("NVML_CC_SYSTEM_FEATURE_ENABLED", "NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF", "NVML_DEVICE_ARCH_HOPPER"):
        assert getattr(real, name) == getattr(stand_in, name)
