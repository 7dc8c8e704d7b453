"""Bytes that were written down as text, since they had to go through something that takes text only: hexadecimal or base64.

Evidence is bytes, and goes through JSON, terminals and mail. Which bytes a text stands for is no question of trust: they are judged
as if they had come as they are. So what is read generously is the writing (spaces, line ends, a `0x` before hexadecimal, either
alphabet of base64, with its closing `=` or without), and nothing of what it says.
"""

import base64
import binascii
import re
from typing import Final

MAX_TEXT_BYTES: Final = 1 << 20
_HEX: Final = re.compile(rb"(?:0[xX])?((?:[0-9a-fA-F]{2})+)")


def from_text(data: bytes) -> bytes | None:
    """The bytes that a text stands for; `None`: it is no such text."""
    if len(data) > MAX_TEXT_BYTES:
        return None
    text = b"".join(data.split())
    if found := _HEX.fullmatch(text):
        return binascii.unhexlify(found[1])
    return from_base64(text)


def from_base64(text: bytes) -> bytes | None:
    """Of either alphabet, and with or without its closing `=`; `None`: not base64."""
    bare = text.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    try:
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except ValueError:
        return None
