"""A circuit's text, before a compiler sees it.

A circuit is MLIR, and Concrete compiles it to machine code. MLIR at large can declare any function of the C library and
call it, so a circuit from outside could become code of its author's choice. Circuits that Concrete writes need very
little: one function, constants, and operations of the dialects `FHE` and `FHELinalg`. `check_circuit` takes the text
    apart and refuses every word beyond that: no other dialect, no second function, no symbol but the one that is
    defined.
"""

import re
from typing import Final, Never

from blindgate_protocol.errors import PackageError

MAX_CIRCUIT_BYTES: Final = 24 << 20

_WORDS: Final = frozenset(
    {
        "module",
        "func.func",
        "return",
        "arith.constant",
        "dense",
        "tensor",
        "tensor.extract",
        "tensor.extract_slice",
        "tensor.insert",
        "tensor.insert_slice",
        "tensor.from_elements",
        "tensor.expand_shape",
        "tensor.collapse_shape",
        "to",
        "into",
        "true",
        "false",
        "index",
    }
)
_ALLOWED: Final = {
    "operation": re.compile(r"(FHE|FHELinalg)\.[a-z][a-z0-9_]*"),
    "type": re.compile(r"!FHE\.es?int"),
    "shape": re.compile(r"([0-9]+x)*(i[0-9]{1,3}|index)?"),
    "text": re.compile(r"0x[0-9A-F]*"),
    "word": re.compile(r"i[0-9]{1,3}"),
}
_TOKEN: Final = re.compile(
    r"""
      (?P<space>[ \t\n]+)
    | "(?P<text>[^"\\\n]*)"(?P<call>\()?
    | (?P<symbol>@[A-Za-z0-9_$.]+)
    | (?P<value>%[A-Za-z0-9_-]+(\#[0-9]+)?)
    | (?P<type>![A-Za-z0-9_.]+)
    | (?P<attribute>[A-Za-z_][A-Za-z0-9_]*)(?=[ ]?=[ ]?[^=])
    | (?P<number>-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?(?![A-Za-z0-9_.]))
    | (?P<shape>[0-9]+x[0-9a-z]*)
    | (?P<word>[A-Za-z_][A-Za-z0-9_.$]*)
    | (?P<sign>->|[()\[\]{}<>,:=])
    """,
    re.VERBOSE,
)


def check_circuit(text: str, function: str) -> None:
    """Refuse a circuit that is more than one function named `function` over Concrete's two dialects.

    Raises `PackageError` naming the word that may not stand there.
    """
    if len(text) > MAX_CIRCUIT_BYTES or not text.isascii():
        _refuse(f"not ASCII, or more than {MAX_CIRCUIT_BYTES} bytes")
    position, functions, symbols = 0, 0, []
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            _refuse(f"a character that no circuit holds, at {position}")
        position = token.end()
        _check_token(token)
        functions += token["word"] == "func.func"
        if token["symbol"]:
            symbols.append(token["symbol"])
    if functions != 1 or symbols != [f"@{function}"]:
        _refuse(f"expected one function named {function!r:.40} and no other symbol")


def _check_token(token: re.Match[str]) -> None:
    kind = token.lastgroup or ""
    if kind == "call":
        kind, word = "operation", token["text"]
    else:
        word = token[kind]
    allowed = _ALLOWED.get(kind)
    if allowed is not None and not allowed.fullmatch(word) and not (kind == "word" and word in _WORDS):
        _refuse(f"the {kind} {word!r:.40}; only constants and the dialects FHE and FHELinalg may stand here")


def _refuse(why: str) -> Never:
    msg = f"circuit: {why}"
    raise PackageError(msg)
