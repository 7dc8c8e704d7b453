"""Text without what is in it for terminals and typesetters: a word is found however it was written down, and asked for.

Of a file, of a text that is in none, and of a question, which is often copied out of a page.
"""

import re

# Everything below a space but tab and newline, and the second such block: no text, and orders to a terminal.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}
_BREAKS = str.maketrans(dict.fromkeys("\v\f\x1c\x1d\x1e\x85\u2028\u2029", "\n"))

# What a text has for its typesetter: hyphens that show at a line's end alone, marks within it, and letters drawn as one.
_SOFT_HYPHEN = re.compile("\u00ad\n?")
_TYPESETTING = str.maketrans(
    {"\ufeff": None, "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
)


def cleaned(text: str) -> str:
    """Words as they are searched for: without control characters, halves of characters, soft hyphens and ligatures.

    Line ends are newlines, and nothing but white space is `""`.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_BREAKS).translate(_CONTROLS)
    text = _SOFT_HYPHEN.sub("", text).translate(_TYPESETTING)
    return text.encode("utf-8", "replace").decode().strip()
