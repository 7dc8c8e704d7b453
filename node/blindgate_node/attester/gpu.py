"""Evidence about NVIDIA's GPUs, Hopper and Blackwell, from their driver: NVML, through the package `nvidia-ml-py`.

The driver hands a nonce to each GPU, and the GPU signs its measurements with it. What is handed on is JSON in the form of NVIDIA's
own attestation SDK: for each GPU `arch`, `evidence`, `certificate`, `nonce`, and the versions that it states.

1. Confidential computing must be on, and not in its mode for developers, where the driver may read everything: otherwise nothing
   that a GPU signs says that data on it are protected, and this is said plainly;
2. every GPU of the machine answers, since a model may run on any;
3. the answer must be to this nonce, and begin as a report does (SPDM 1.1);
4. its certificates must have exactly one that signs no other: the GPU's own. Its digest is what a binding names, and it must be the
   one that it was when the node started.

The package is asked for here only, and is needed on machines with such GPUs alone: `pip install 'blindgate[nvidia]'`.

Never run on a GPU with confidential computing on, so far: held by a stand-in with NVML's names and structures, filled with
evidence recorded from real GPUs.

Sources: NVIDIA, NVML API Reference (conf compute); DMTF, DSP0274 (SPDM) 1.1.1; NVIDIA's attestation SDK, `gpu/evidence.cpp`.
"""

import base64
import hashlib
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from blindgate_protocol.errors import AttesterError
from blindgate_protocol.evidence import MAX_GPU_BYTES, MOST_CERTIFICATES, MOST_GPUS

NVIDIA_GPU: Final = "nvidia-gpu"
NONCE_BYTES: Final = 32
_NONCE_AT: Final = 4
_BEGINS: Final = b"\x11\xe0"
"""Of a report: SPDM 1.1, GET_MEASUREMENTS."""
_EVIDENCE_VERSION: Final = "1.0"


class NvidiaGpus:
    """All GPUs of this machine.

    Attributes:
        platform: `nvidia-gpu`.
    """

    platform: str = NVIDIA_GPU

    def __init__(self, nvml: Any = None) -> None:
        """Look for GPUs, and whether they protect what is on them. `nvml` is the module `pynvml`, unless told otherwise.

        Raises `AttesterError`: no package, no driver, no GPU, confidential computing is off, or in its mode for developers.
        """
        self._nvml = _module() if nvml is None else nvml
        with self._said("the driver does not answer"):
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
        if not 1 <= count <= MOST_GPUS:
            raise AttesterError(f"{NVIDIA_GPU}: the driver knows {count} GPUs here: 1 to {MOST_GPUS}")
        # 1.
        with self._said("neither the driver nor the GPU knows confidential computing"):
            state = self._nvml.nvmlSystemGetConfComputeState()
        if state.ccFeature != self._nvml.NVML_CC_SYSTEM_FEATURE_ENABLED:
            raise AttesterError(
                f"{NVIDIA_GPU}: confidential computing is off: this machine's host sets it, before it gives the GPU to a guest"
            )
        if state.devToolsMode != self._nvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF:
            raise AttesterError(
                f"{NVIDIA_GPU}: confidential computing is in its mode for developers (devtools), which protects nothing"
            )
        # 2.
        with self._said("a GPU is not to be had"):
            self._gpus = tuple(self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count))
        self._leaves = tuple(_leaf(self._certificates(gpu)) for gpu in self._gpus)
        if len(set(self._leaves)) != count:
            raise AttesterError(f"{NVIDIA_GPU}: two of {count} GPUs have one certificate")

    def leaves(self) -> tuple[str, ...]:
        """As `GpuAttester`."""
        return self._leaves

    def attest(self, nonce: bytes) -> bytes:
        """As `GpuAttester`."""
        if len(nonce) != NONCE_BYTES or not any(nonce):
            raise AttesterError(f"{NVIDIA_GPU}: a nonce of {len(nonce)} bytes: {NONCE_BYTES} that are not all zero")
        each = zip(self._gpus, self._leaves, strict=True)
        made = json.dumps([self._evidence(gpu, nonce, leaf) for gpu, leaf in each]).encode()
        if len(made) > MAX_GPU_BYTES:
            raise AttesterError(f"{NVIDIA_GPU}: evidence of {len(made)} bytes: at most {MAX_GPU_BYTES}")
        return made

    def _evidence(self, gpu: Any, nonce: bytes, leaf: str) -> dict[str, str]:
        certificates = self._certificates(gpu)
        with self._said("a GPU gives no report"):
            answer = self._nvml.nvmlDeviceGetConfComputeGpuAttestationReport(gpu, nonce)
            architecture = self._nvml.nvmlDeviceGetArchitecture(gpu)
            driver, firmware = self._nvml.nvmlSystemGetDriverVersion(), self._nvml.nvmlDeviceGetVbiosVersion(gpu)
        report = _filled(answer.attestationReport, answer.attestationReportSize, "a report")
        # 3.
        if not report.startswith(_BEGINS) or report[_NONCE_AT : _NONCE_AT + NONCE_BYTES] != nonce:
            raise AttesterError(
                f"{NVIDIA_GPU}: {len(report)} bytes that are no report, or answer another nonce "
                f"({report[_NONCE_AT : _NONCE_AT + NONCE_BYTES].hex()}) than {nonce.hex()}: they are not handed out"
            )
        # 4.
        if _leaf(certificates) != leaf:
            raise AttesterError(f"{NVIDIA_GPU}: a GPU has another key since this node started: start the node again")
        return {
            "arch": self._architecture(architecture),
            "certificate": base64.b64encode(certificates).decode(),
            "driver_version": _text(driver),
            "evidence": base64.b64encode(report).decode(),
            "nonce": nonce.hex(),
            "vbios_version": _text(firmware),
            "version": _EVIDENCE_VERSION,
        }

    def _certificates(self, gpu: Any) -> bytes:
        with self._said("a GPU gives no certificates"):
            answer = self._nvml.nvmlDeviceGetConfComputeGpuCertificate(gpu)
        return _filled(answer.attestationCertChain, answer.attestationCertChainSize, "a chain of certificates").rstrip(
            b"\0"
        )

    def _architecture(self, number: int) -> str:
        names = {
            self._nvml.NVML_DEVICE_ARCH_HOPPER: "HOPPER",
            self._nvml.NVML_DEVICE_ARCH_BLACKWELL: "BLACKWELL",
        }
        if number not in names:
            known = " and ".join(names.values())
            raise AttesterError(f"{NVIDIA_GPU}: a GPU of architecture {number}; {known} are known here")
        return names[number]

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        """Say what did not go, by NVML's own name for it."""
        try:
            yield
        except self._nvml.NVMLError as error:
            raise AttesterError(f"{NVIDIA_GPU}: {what}: NVML says {str(error)!r}") from error


def _module() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise AttesterError(
            f"{NVIDIA_GPU}: the package nvidia-ml-py is not installed: pip install 'blindgate[nvidia]'"
        ) from error


def _filled(room: Any, size: int, what: str) -> bytes:
    """As much of an array as the driver says it filled."""
    data = bytes(room)
    if not 1 <= size <= len(data):
        raise AttesterError(f"{NVIDIA_GPU}: {what} of {size} bytes: 1 to {len(data)}")
    return data[:size]


def _leaf(pem: bytes) -> str:
    """The digest of the one certificate that signs no other. Raises `AttesterError`."""
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise AttesterError(f"{NVIDIA_GPU}: {len(pem)} bytes that are no certificates in PEM") from error
    issuers = {one.issuer for one in chain}
    leaves = [one for one in chain if one.subject not in issuers]
    if len(chain) > MOST_CERTIFICATES or len(leaves) != 1:
        raise AttesterError(
            f"{NVIDIA_GPU}: of {len(chain)} certificates {len(leaves)} sign no other: one of {MOST_CERTIFICATES} at most does"
        )
    return f"sha256:{hashlib.sha256(leaves[0].public_bytes(Encoding.DER)).hexdigest()}"


def _text(value: str | bytes) -> str:
    """Older releases of the package give bytes."""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value
