"""NVML, standing in: the names, structures and errors of the module `pynvml`, filled with recorded evidence."""

# ruff: noqa: ARG002, D102, N802  (the names, the arguments and what they do are NVML's)

import base64
import ctypes
from dataclasses import dataclass, field
from typing import Any


class NVMLError(Exception):
    """What every call may end in, by NVML's sentence."""


class State(ctypes.Structure):
    """`c_nvmlConfComputeSystemState_t`."""

    _fields_ = (("environment", ctypes.c_uint), ("ccFeature", ctypes.c_uint), ("devToolsMode", ctypes.c_uint))


class Certificate(ctypes.Structure):
    """`c_nvmlConfComputeGpuCertificate_t`."""

    _fields_ = (
        ("certChainSize", ctypes.c_uint),
        ("attestationCertChainSize", ctypes.c_uint),
        ("certChain", ctypes.c_uint8 * 0x1000),
        ("attestationCertChain", ctypes.c_uint8 * 0x1400),
    )


class Report(ctypes.Structure):
    """`c_nvmlConfComputeGpuAttestationReport_t`."""

    _fields_ = (
        ("isCecAttestationReportPresent", ctypes.c_uint),
        ("attestationReportSize", ctypes.c_uint),
        ("cecAttestationReportSize", ctypes.c_uint),
        ("nonce", ctypes.c_uint8 * 0x20),
        ("attestationReport", ctypes.c_uint8 * 0x2000),
        ("cecAttestationReport", ctypes.c_uint8 * 0x1000),
    )


@dataclass
class RecordedNvml:
    """The module.

    Attributes:
        gpus: evidence for each, as NVIDIA's SDK writes it, with `driver_version` and `vbios_version`.
        feature, devtools: whether confidential computing is on, and in its mode for developers.
        architecture: by NVML's number.
        raises: the call that fails, and how NVML puts it.
        report_size: what it says of a report's length, where that is not so.
    """

    gpus: list[dict[str, str]]
    feature: int = 1
    devtools: int = 0
    architecture: int = 9
    raises: dict[str, str] = field(default_factory=dict)
    report_size: int | None = None

    NVMLError = NVMLError
    NVML_CC_SYSTEM_FEATURE_ENABLED = 1
    NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF = 0
    NVML_DEVICE_ARCH_HOPPER = 9
    NVML_DEVICE_ARCH_BLACKWELL = 10

    def nvmlInit(self) -> None:
        self._fail("nvmlInit")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetArchitecture(self, gpu: int) -> int:
        return self.architecture

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.gpus[0]["driver_version"]

    def nvmlDeviceGetVbiosVersion(self, gpu: int) -> str:
        return self.gpus[gpu]["vbios_version"]

    def nvmlSystemGetConfComputeState(self) -> State:
        self._fail("nvmlSystemGetConfComputeState")
        return State(2, self.feature, self.devtools)

    def nvmlDeviceGetConfComputeGpuCertificate(self, gpu: int) -> Certificate:
        data = base64.b64decode(self.gpus[gpu]["certificate"])
        made = Certificate(0, len(data))
        ctypes.memmove(made.attestationCertChain, data, len(data))
        return made

    def nvmlDeviceGetConfComputeGpuAttestationReport(self, gpu: int, nonce: Any) -> Report:
        self._fail("nvmlDeviceGetConfComputeGpuAttestationReport")
        data = base64.b64decode(self.gpus[gpu]["evidence"])
        made = Report(
            0, len(data) if self.report_size is None else self.report_size, 0, (ctypes.c_uint8 * 0x20)(*nonce)
        )
        ctypes.memmove(made.attestationReport, data, len(data))
        return made

    def _fail(self, call: str) -> None:
        if call in self.raises:
            raise NVMLError(self.raises[call])
