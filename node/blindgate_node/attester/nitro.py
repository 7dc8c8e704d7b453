"""Attestation documents of an AWS Nitro enclave, from its security module: the device `/dev/nsm`.

One `ioctl` carries a request and takes the answer, both CBOR, in two buffers whose addresses and lengths it is given:

    request   {"Attestation": {"user_data": …, "nonce": null, "public_key": null}}     at most 4,096 bytes
    answer    {"Attestation": {"document": …}}, or {"Error": "InvalidArgument"}         at most 12,288 bytes

The report data goes into `user_data`, all 64 bytes, where `blindgate trust appraise --report-data` looks for it. Certificates are
in the document. What came must be a document, and bind the report data (`report_data`).

Never run inside an enclave so far: held by a stand-in behind the same `ioctl`, with documents recorded from real ones.

Sources: Linux, include/uapi/linux/nsm.h, drivers/misc/nsm.c; AWS, aws-nitro-enclaves-nsm-api (requests, answers, errors by name).
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import cbor2

from blindgate_node.attester.attesters import PlatformEvidence, check_report_data
from blindgate_node.attester.report_data import AWS_NITRO, check_bound
from blindgate_protocol.errors import AttesterError

DEVICE: Final = Path("/dev/nsm")
MAX_REQUEST_BYTES: Final = 0x1000
MAX_ANSWER_BYTES: Final = 0x3000
_MESSAGE: Final = struct.Struct("=QQQQ")
"""Address and length of the request, then of the buffer for the answer."""
NSM_IOCTL_RAW: Final = 3 << 30 | _MESSAGE.size << 16 | 0x0A << 8
"""Read and write, 32 bytes, magic 0x0A, number 0."""

_ERRORS: Final = {
    "InvalidArgument": "it does not take what it was given",
    "InvalidOperation": "it does not do this now",
    "InputTooLarge": "what it was given is too long",
    "BufferTooSmall": "its answer does not fit",
    "InternalError": "it failed",
}
"""The device's errors that an attestation may end with."""

Ioctl = Callable[[int, int, bytearray], int]


class NitroAttester:
    """Documents of the enclave that this process runs in.

    Attributes:
        platform: `aws-nitro`.
    """

    platform: str = AWS_NITRO

    def __init__(self, device: Path = DEVICE, *, ioctl: Ioctl = fcntl.ioctl) -> None:
        """See that the device can be opened. Raises `AttesterError`."""
        self._device = device
        self._ioctl = ioctl
        os.close(self._open())

    def attest(self, report_data: bytes) -> PlatformEvidence:
        """As `Attester`."""
        check_report_data(report_data)
        answer = self._ask({"Attestation": {"user_data": report_data, "nonce": None, "public_key": None}})
        match answer:
            case {"Attestation": {"document": bytes(document)}}:
                check_bound(AWS_NITRO, document, report_data)
                return PlatformEvidence(AWS_NITRO, document)
            case {"Error": str(name)}:
                raise AttesterError(
                    f"{AWS_NITRO}: the security module refuses: {name:.40} ({_ERRORS.get(name, 'not known here')})"
                )
            case _:
                raise AttesterError(f"{AWS_NITRO}: the security module's answer is neither a document nor an error")

    def _ask(self, request: dict[str, Any]) -> Any:
        data = cbor2.dumps(request)
        if len(data) > MAX_REQUEST_BYTES:
            raise AttesterError(f"{AWS_NITRO}: a request of {len(data)} bytes: at most {MAX_REQUEST_BYTES}")
        asked = ctypes.create_string_buffer(data, len(data))
        room = ctypes.create_string_buffer(MAX_ANSWER_BYTES)
        message = bytearray(_MESSAGE.pack(ctypes.addressof(asked), len(data), ctypes.addressof(room), MAX_ANSWER_BYTES))
        descriptor = self._open()
        try:
            self._ioctl(descriptor, NSM_IOCTL_RAW, message)
        except OSError as error:
            raise AttesterError(f"{AWS_NITRO}: {self._device} gives no answer: {error.strerror}") from error
        finally:
            os.close(descriptor)
        size = _MESSAGE.unpack(message)[3]
        if not 1 <= size <= MAX_ANSWER_BYTES:
            raise AttesterError(f"{AWS_NITRO}: an answer of {size} bytes: 1 to {MAX_ANSWER_BYTES}")
        try:
            return cbor2.CBORDecoder(BytesIO(room.raw[:size]), read_size=1).decode()
        except Exception as error:  # whatever a decoder makes of bytes that a device gave
            raise AttesterError(
                f"{AWS_NITRO}: an answer of {size} bytes that is no CBOR: {type(error).__name__}"
            ) from error

    def _open(self) -> int:
        try:
            return os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV}:
                message = f"there is no {self._device}: this is no Nitro enclave, or its driver (nsm) is not loaded"
            elif error.errno in {errno.EACCES, errno.EPERM}:
                message = (
                    f"this process may not open {self._device}: run the node as root there, or give its user the device"
                )
            else:
                message = f"{self._device} cannot be opened: {error.strerror}"
            raise AttesterError(f"{AWS_NITRO}: {message}") from error
