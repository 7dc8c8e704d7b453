"""The Nitro security module, standing in behind the same `ioctl`: it reads the request where it lies, and answers there."""

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2

RAW = 0xC0200A00
"""`NSM_IOCTL_RAW` of include/uapi/linux/nsm.h, computed by hand."""


@dataclass
class RecordedNsm:
    """The device.

    Attributes:
        device: a file that can be opened, as the device could.
        answer: what it answers a request with: CBOR's value, or bytes as they are.
        stated: the length that it states, where that is not the answer's.
        fails: the error that the call ends in.
        requests: what it was asked.
    """

    device: Path
    answer: Callable[[Any], Any]
    stated: int | None = None
    fails: int = 0
    requests: list[Any] = field(default_factory=list)

    def ioctl(self, descriptor: int, request: int, message: bytearray) -> int:
        """As `fcntl.ioctl` with a buffer that it may change."""
        os.fstat(descriptor)
        if request != RAW:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        if self.fails:
            raise OSError(self.fails, os.strerror(self.fails))
        asked_at, asked_bytes, room_at, room_bytes = struct.unpack("=QQQQ", message)
        asked = cbor2.loads(ctypes.string_at(asked_at, asked_bytes))
        self.requests.append(asked)
        made = self.answer(asked)
        data = made if isinstance(made, bytes) else cbor2.dumps(made)
        assert len(data) <= room_bytes == 0x3000
        ctypes.memmove(room_at, data, len(data))
        message[24:] = struct.pack("=Q", len(data) if self.stated is None else self.stated)
        return 0


def with_user_data(document: bytes, user_data: bytes | None) -> bytes:
    """A recorded document that binds something else. Its signature verifies no more."""
    protected, unprotected, payload, signature = cbor2.loads(document)
    members = cbor2.loads(payload) | {"user_data": user_data}
    return cbor2.dumps([protected, unprotected, cbor2.dumps(members), signature])
