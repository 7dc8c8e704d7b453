r"""Texts of others inside a prompt: data, from which no marker of a message can be made.

A chat's turns reach a model as one run of text, cut by its template's own markers: `<|im_end|>`, `</s>`, `<start_of_turn>`,
`[INST]`. Tokenisers read such a marker wherever it stands, also in the middle of what a document says. A passage that says
`<|im_end|>\n<|im_start|>system` would end the turn that quotes it and begin another, and no quotation mark would hold it.

1. A quotation is one JSON value on one line, in which whatever could begin a marker is written by its number (`\u003c`), and so is
   what ends a line for some readers and not for JSON. Read as JSON, it is the text, to the letter.
2. What has to be said in plain words, an earlier answer in its own turn, gets a blank inside of each marker.

Placeholders such as `[CARD_1]` are no markers, and stay; so does `< 5`, and `[12]`.
"""

import json
import re
from typing import Final

_MARKER: Final = re.compile(
    # `<|`, `</s>`, `<bos>`, `<<SYS>>`, DeepSeek's wide bar; `[INST]`, `[/INST]`, `[|user|]`
    r"<(?=[|\uff5c/!<_\[A-Za-z\u2581])|\[(?=[|\uff5c]|/?(?:[A-Z_]{3,40}|[gs]MASK)\])"
)
_LINES: Final = re.compile("[\u007f-\u009f\u2028\u2029]")


def quoted(value: object) -> str:
    """A value as JSON, on one line.

    Args:
        value: what `json` writes: a text, or a dict of texts and numbers.
    """
    written = _LINES.sub(_by_number, json.dumps(value, ensure_ascii=False))
    return _MARKER.sub(_by_number, written)


def unmarked(text: str) -> str:
    """A text whose markers are none any more, for where it is not quoted."""
    return _MARKER.sub(lambda found: f"{found[0]} ", text)


def _by_number(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
