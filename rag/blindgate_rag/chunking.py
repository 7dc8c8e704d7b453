"""Documents to passages, none longer than the embedding model reads.

What a model would cut off is not found: so passages are measured by the model's own counter of tokens. They are cut where the
text pauses, by semchunk: between paragraphs, else between lines, sentences, words. Each page is cut by itself, so that a passage
stands on one page and is cited by it. Passages do not overlap: a sentence is found once, and counts once.

1. Nothing is lost but white space: runs of it become one space, one newline, or one empty line. That also bounds how deep the
   cutting goes, which follows the kinds of white space that it meets.
2. No passage has more than `limit` tokens. Each is counted once more as it stands, and halved where it has.
3. No value that redaction takes out is cut: half of a card's number is no card's number, and would leave with one passage, the
   rest with another. Nor is one cut off from the word before it that tells what it is: behind `SSN` nine digits are one, and at the
   beginning of a passage they are a number like any other. So the blanks inside of both are none while a page is cut. What is
   longer than a passage is cut; and what only a policy knows (`mrn`, patterns of a house, names) is not known here.
4. No passage has more than `16 * limit` characters either: tokenizers have words of any length that they take for one unknown
   token, and characters that they take for none.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from semchunk.semchunk import chunk

from blindgate_rag.passages import Document, Passage
from blindgate_rag.redaction import Redactor

MIN_LIMIT = 32

_CHARACTERS_PER_TOKEN = 16
_CACHED_COUNTS = 512
_PRIVATE = range(0xE000, 0xF900)
_NEAR = 40  # characters before a value in which the word stands that tells what it is
_BLANK = re.compile(r"\s")
_WHITE = re.compile(r"\s{2,}|[^\S \n]")  # every run that is not one space or one newline already


class Chunker:
    """Cuts documents into passages.

    Args:
        tokens: how many tokens the embedding model makes of a text, special ones left out.
        limit: the most tokens of a passage, from 32. A single character that has more stays whole.

    Raises:
        ValueError: the limit is below 32.
    """

    def __init__(self, tokens: Callable[[str], int], limit: int) -> None:
        if limit < MIN_LIMIT:
            message = f"limit must be {MIN_LIMIT} tokens or more, not {limit}"
            raise ValueError(message)
        self._tokens = tokens
        self._limit = limit

    def passages(self, document: Document) -> list[Passage]:
        """The document's passages, in order."""
        # The counts are let go with the document: they are kept by its text.
        counted = lru_cache(_CACHED_COUNTS)(self._counted)
        cut = ((text, page.number) for page in document.pages for text in self._cut(_normalised(page.text), counted))
        return [Passage(text, document.source, number, position) for position, (text, number) in enumerate(cut)]

    def _counted(self, text: str) -> int:
        """Tokens; more than the limit for a text that is too long in characters, without counting it.

        Of characters that are no tokens some count as one: who cuts would try a text of them at every place otherwise.
        """
        if len(text) > self._limit * _CHARACTERS_PER_TOKEN:
            return self._limit + 1
        count = self._tokens(text)
        return min(count, self._limit) if len(text) <= 1 else max(count, len(text) // _CHARACTERS_PER_TOKEN)

    def _cut(self, text: str, counted: Callable[[str], int]) -> Iterator[str]:
        if not text:
            return
        if counted(text) <= self._limit:
            yield text
            return
        glued, restored = _glued(text)

        def count(piece: str) -> int:
            return counted(restored(piece))

        for piece in chunk(glued, self._limit, count, memoize=False):
            for half in self._halved(str(piece).strip(), count):
                yield restored(half)

    def _halved(self, text: str, counted: Callable[[str], int]) -> Iterator[str]:
        if not text:
            return
        if counted(text) <= self._limit:
            yield text
            return
        middle = len(text) // 2
        yield from self._halved(text[:middle].strip(), counted)
        yield from self._halved(text[middle:].strip(), counted)


def _glued(text: str) -> tuple[str, Callable[[str], str]]:
    """A text in whose values no blank is left, and what puts blanks back into any piece of it."""
    whole = [stretch for stretch in _whole(text) if re.search(r"\s", text[slice(*stretch)])]
    free = [mark for mark in map(chr, _PRIVATE) if mark not in text][:2] if whole else []
    if len(free) < 2:  # noqa: PLR2004 - one for a space, one for a newline
        return text, str
    glue, back = str.maketrans(" \n", "".join(free)), str.maketrans("".join(free), " \n")
    parts, at = [], 0
    for start, end in whole:
        parts += [text[at:start], text[start:end].translate(glue)]
        at = end
    return "".join(parts) + text[at:], lambda piece: piece.translate(back)


def _whole(text: str) -> Iterator[tuple[int, int]]:
    """The stretches that must not be cut, in order: values, with what before them they are known by."""
    alone, at = Redactor(), 0
    for span in Redactor().redact(text).spans:
        # From the value itself back to the blanks before it, as few as will do.
        blanks = [found.end() for found in _BLANK.finditer(text, max(at, span.start - _NEAR), span.start)]
        starts = [
            span.start,
            *(start for start in reversed(blanks) if start < span.start),
            *([at] if at > span.start - _NEAR else []),
        ]
        taken = (start for start in starts if _is_found(alone, text[start : span.end], span.name, span.start - start))
        start = next(taken, span.start)
        yield start, span.end
        at = span.end


def _is_found(alone: Redactor, text: str, name: str, start: int) -> bool:
    return any(span.name == name and span.start <= start and span.end == len(text) for span in alone.redact(text).spans)


def _normalised(text: str) -> str:
    """Every run of white space as a space, a newline, or two."""
    return _WHITE.sub(_as_one, "\n".join(text.splitlines())).strip()


def _as_one(run: re.Match[str]) -> str:
    return ("\n" * min(run[0].count("\n"), 2)) or " "
