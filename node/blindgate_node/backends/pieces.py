"""From token numbers to pieces of text that can be shown: whole characters, and never a part of a stop word.

A token may end inside a character's UTF-8, and a tokeniser writes a token differently at a text's beginning than inside it. So
a piece is the difference between two decodings of a window: the last tokens that were written, with and without the new one.
While the new text ends in an incomplete character, nothing is written.
"""

from collections.abc import Callable, Sequence
from typing import Final

_REPLACEMENT: Final = "\ufffd"
"""What decoders write for bytes that are no character, or not yet one."""


class Pieces:
    """The text of an answer, as its tokens come."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        """Decode by `decode`; end before the first of `stops`."""
        self._decode = decode
        self._stops = tuple(stops)
        self._tokens: list[int] = []
        self._window = 0
        self._written = 0
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """What can be shown now that `token` came; often nothing. `stopped` is set when a stop word came."""
        self._tokens.append(token)
        known = self._decode(self._tokens[self._window : self._written])
        text = self._decode(self._tokens[self._window :])
        if text.endswith(_REPLACEMENT):
            return ""
        self._window, self._written = self._written, len(self._tokens)
        return self._until_stop(text[len(known) :])

    def finish(self) -> str:
        """What was held back, when no token comes any more; half a character is left out."""
        if self.stopped:
            return ""
        known = self._decode(self._tokens[self._window : self._written])
        text = self._decode(self._tokens[self._window :])
        rest = self._until_stop(text[len(known) :].rstrip(_REPLACEMENT))
        held, self._held = self._held, ""
        return rest if self.stopped else rest + held

    def _until_stop(self, new: str) -> str:
        text = self._held + new
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.stopped = True
            self._held = ""
            return text[: min(places)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """How many of `text`'s last characters may be the beginning of `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
