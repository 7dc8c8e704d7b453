"""The encoding that a page declares, as browsers read it: what is written under a name is often more than the name stands for.

A page in `gb2312` holds names that only GBK has, one in `shift_jis` the signs of Windows' code page, one in `iso-8859-1` Windows'
quotation marks: whoever made them had a browser to look at, and browsers read the wider encoding (WHATWG, Encoding, §4.2).
"""

import codecs
from typing import Final

# The narrower encoding, by Python's name for it, and the one that is read for it.
_WIDER: Final = {
    "ascii": "cp1252",
    "big5": "big5hkscs",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "shift_jis": "cp932",
    "tis-620": "cp874",
}
# Names that Python does not know.
_OTHER_NAMES: Final = {
    "ansi_x3.4-1968": "ascii",
    "dos-874": "cp874",
    "gb_2312-80": "gb2312",
    "iso-8859-8-e": "iso8859-8",
    "iso-8859-8-i": "iso8859-8",
    "logical": "iso8859-8",
    "unicode-1-1-utf-8": "utf-8",
    "windows-31j": "cp932",
    "windows-874": "cp874",
    "windows-949": "cp949",
    "x-gbk": "gbk",
    "x-mac-cyrillic": "mac_cyrillic",
    "x-mac-roman": "mac_roman",
    "x-mac-ukrainian": "mac_cyrillic",
    "x-sjis": "cp932",
    "x-x-big5": "big5",
} | {f"x-cp125{number}": f"cp125{number}" for number in range(9)}
# By Python's names. In others, what a browser shows and what they say are two texts: UTF-7, escapes.
_READ: Final = frozenset(
    {"cp866", "euc_jp", "iso2022_jp", "koi8-r", "koi8-u", "mac-cyrillic", "mac-roman", "utf-8"}
    | {f"cp125{number}" for number in range(9)}
    | {f"iso8859-{number}" for number in range(1, 17)}
    | {*_WIDER, *_WIDER.values()}
)
UNKNOWN: Final = "unknown-8bit"
"""Is said for what browsers do not read: the name of no encoding, here or there."""


def as_browsers_read(name: str) -> str:
    """The name of the encoding that a browser reads under a name in lower case; `UNKNOWN`, where it reads none."""
    name = _OTHER_NAMES.get(name, name)
    # A page whose declaration could be read byte by byte is in no encoding of two bytes.
    if name.startswith(("utf-16", "utf-32")):
        return "utf-8"
    try:
        known = codecs.lookup(name).name
    except LookupError:
        return UNKNOWN
    return _WIDER.get(known, name) if known in _READ else UNKNOWN
