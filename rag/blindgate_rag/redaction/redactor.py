"""What must not leave, out of the texts of one request; and back into the answer.

1. **Find.** Every recogniser looks at the folded text, and those of forms at its lines' ends once more (`wrapped`). Matches that
   overlap are one stretch, so that nothing of the one that loses stays behind; it is of the class of its longest match, of the
   stronger class where two are as long.
   What `learn` has found in one text is found in all of them (`known`), also where the word is missing that told what it is.
2. **Name.** The same value of the same class has the same placeholder in all texts of a request, however it is grouped or where its
   digits come from: a model can then compare a question's card with a passage's. It comes back in the form that was met first.
3. **Never two meanings.** A text may hold what looks like a placeholder. Where it is none of this request's yet, it never becomes
   one; where it is one already, it goes out as a placeholder of its own, `[TEXT_1]`. So a document that says `[CARD_1]` cannot
   have the answer show the card of another.
4. **Put back.** In the answer, at once or piece by piece (`placeholders`). One that this request does not have stays as it is, and
   one inside of an address to which this request had sent no value (`addresses`).

The values stay in this object, in memory: no `repr` shows them, nothing logs them, and it refuses to be pickled.

What is not looked for is said: `not_protected` has `names` unless a recogniser of names is given, and every class that is off.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from blindgate_protocol.errors import PolicyError
from blindgate_rag.redaction import placeholders
from blindgate_rag.redaction.accounts import Accounts
from blindgate_rag.redaction.addresses import Addresses
from blindgate_rag.redaction.codes import Codes
from blindgate_rag.redaction.contacts import Contacts
from blindgate_rag.redaction.dates import Dates
from blindgate_rag.redaction.folding import Folded, fold
from blindgate_rag.redaction.known import Known
from blindgate_rag.redaction.matches import Match, Recogniser
from blindgate_rag.redaction.named import opened
from blindgate_rag.redaction.numbers import Numbers
from blindgate_rag.redaction.patterns import OwnPatterns
from blindgate_rag.redaction.placeholders import Restorer
from blindgate_rag.redaction.rules import CLASS_NAME, CLASSES, Rules
from blindgate_rag.redaction.wrapped import wrapped

UNPROTECTED: Final = ("names", "addresses")
"""What no pattern finds: names of people, and places where they live."""
_LOOK_ALIKE: Final = "text"


@dataclass(frozen=True, slots=True)
class Span:
    """Where something was taken out.

    Attributes:
        name: its class.
        start: its first character in the original text.
        end: after its last.
        placeholder: what stands there now.
    """

    name: str
    start: int
    end: int
    placeholder: str


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text that may leave.

    Attributes:
        text: with placeholders.
        spans: what was taken out, in the text's order.
        counts: how often something of a class was taken out, in the order of the classes' names.
        not_protected: what was not looked for: `names` and `addresses` where nothing recognises them, and classes that are off.
    """

    text: str
    spans: tuple[Span, ...]
    counts: Mapping[str, int]
    not_protected: tuple[str, ...]

    @property
    def note(self) -> str:
        """What is not protected, in a sentence; empty when nothing is left to say."""
        *most, last = self.not_protected or ("",)
        return f"{', '.join(most)} and {last} are not protected" if most else last and f"{last} are not protected"


def _checked(recogniser: Recogniser, text: str) -> Iterator[Match]:
    for match in recogniser.find(text):
        if match.name not in recogniser.names:
            raise PolicyError(
                f"a recogniser of {', '.join(sorted(recogniser.names))} found {match.name!r}, which is none of them"
            )
        if not 0 <= match.start < match.end <= len(text):
            raise PolicyError(
                f"a recogniser found a {match.name} from {match.start} to {match.end}, in a text of {len(text)} characters"
            )
        yield match


class Redactor:
    """Takes out of the texts of one request what must not leave, and puts it back into the answer.

    One for each request: what it knows of one must not come into another's answer.
    """

    def __init__(self, rules: Rules | None = None, *, recognisers: Sequence[Recogniser] = ()) -> None:
        """Make one.

        Args:
            rules: what is redacted; by default every class that is recognised by its form, and neither dates nor ages.
            recognisers: further ones than the rules name, of names for instance (`presidio`), the weakest last.

        Raises:
            PolicyError: a further recogniser has a class of a name that is taken, or that cannot be a placeholder.
            CorpusError: one that the rules name is not there.
        """
        rules = rules or Rules()
        named = (opened(text, f"redaction.recognisers[{place}]") for place, text in enumerate(rules.recognisers))
        recognisers = (*named, *recognisers)
        on = frozenset(CLASSES) - rules.off
        by_policy = {"date": rules.dates, "age": rules.ages}
        patterns = dict(rules.patterns) | ({"mrn": rules.mrn} if rules.mrn else {})
        self._of_forms: tuple[Recogniser, ...] = (
            OwnPatterns(patterns),
            Numbers(on),
            Codes(on),
            Accounts(on),
            Contacts(on),
            Dates(frozenset(name for name, wanted in by_policy.items() if wanted)),
        )
        self._recognisers: tuple[Recogniser, ...] = (*self._of_forms, *recognisers)
        order = [*patterns, *CLASSES, "date", "age"]
        for recogniser in recognisers:
            for name in sorted(recogniser.names):
                if name == _LOOK_ALIKE or not CLASS_NAME.fullmatch(name):
                    raise PolicyError(
                        f"{name!r} cannot be a recogniser's class: up to three words of small letters with _ between them,"
                        f" and not {_LOOK_ALIKE!r}"
                    )
                order.append(name)
        self._strength = {name: place for place, name in reversed(list(enumerate(order)))}
        self._pattern = placeholders.pattern_of({*order, _LOOK_ALIKE})
        self._numbers: dict[tuple[str, str], int] = {}
        self._values: dict[tuple[str, int], str] = {}
        self._met: set[tuple[str, int]] = set()
        self._sent: set[str] = set()
        self._known = Known()
        self._next: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        protected = frozenset[str]().union(*(recogniser.protects for recogniser in recognisers))
        found = frozenset[str]().union(*(recogniser.names for recogniser in self._recognisers))
        unseen = [name for name in (*CLASSES, "date", "age", "mrn") if name not in found]
        self.not_protected: tuple[str, ...] = (*(name for name in UNPROTECTED if name not in protected), *unseen)

    @property
    def counts(self) -> dict[str, int]:
        """How often something of a class was taken out, in all texts of the request."""
        return dict(sorted(self._counts.items()))

    def learn(self, *texts: str) -> None:
        """Look through texts of the request before they are redacted. What is found in one of them is taken out of every one.

        Raises what `redact` does.
        """
        for folded in map(fold, texts):
            matches = self._matches(folded)
            for name, _, _, value in self._resolved(folded, matches):
                self._known.add(name, value)
            # And each by itself: a number that runs into the next one stands alone elsewhere.
            for match in matches:
                self._known.add(match.name, match.value)

    def know(self, values: Iterable[tuple[str, str]]) -> None:
        """Take out values of an earlier request as well: pairs of class and value, from `known_in`. Other classes are left out."""
        for name, value in values:
            if name in self._strength:
                self._known.add(name, value)

    def known_in(self, *texts: str) -> tuple[tuple[str, str], ...]:
        """Of what was learnt, what stands in texts, with or without a word beside it."""
        found = (match for text in texts for match in self._known.find(fold(text).text))
        return tuple(dict.fromkeys((match.name, match.value) for match in found))

    def redact(self, text: str) -> Redacted:
        """A text of the request, with placeholders. Takes time in proportion to its length.

        Raises `PolicyError` where a further recogniser finds what is no stretch of the text, or of a class that it has not, and
        what it raises itself.
        """
        folded = fold(text)
        matches = [*self._matches(folded), *self._known.find(folded.text)]
        stretches = [
            (name, *folded.span(start, end), value) for name, start, end, value in self._resolved(folded, matches)
        ]
        stretches += self._look_alikes(text, [(start, end) for _, start, end, _ in stretches])
        spans, parts, at = [], [], 0
        addresses = Addresses()
        for name, start, end, value in sorted(stretches, key=lambda stretch: stretch[1]):
            placeholder = self._placeholder(name, value, text[start:end])
            addresses.feed(text[at:start])
            if (address := addresses.open) is not None and addresses.known:
                self._sent.add(address + placeholder)
            addresses.feed(placeholder)
            parts += [text[at:start], placeholder]
            spans.append(Span(name, start, end, placeholder))
            at = end
        parts.append(text[at:])
        counts = Counter(span.name for span in spans)
        self._counts += counts
        return Redacted("".join(parts), tuple(spans), dict(sorted(counts.items())), self.not_protected)

    def _matches(self, folded: Folded) -> list[Match]:
        matches = [match for each in self._recognisers for match in _checked(each, folded.text)]
        matches += wrapped(folded.text, self._of_forms, matches)
        return matches

    def _resolved(self, folded: Folded, matches: Iterable[Match]) -> Iterator[tuple[str, int, int, str]]:
        """Of matches that overlap, one stretch: class, from, to and value."""
        together: list[Match] = []
        end = 0
        for match in (*sorted(matches, key=lambda each: each.start), None):
            if together and (match is None or match.start >= end):
                best = min(together, key=lambda each: (each.start - each.end, self._strength[each.name]))
                start = together[0].start
                value = best.value if (best.start, best.end) == (start, end) else folded.text[start:end]
                yield best.name, start, end, value
                together = []
            if match is not None:
                together.append(match)
                end = max(end, match.end) if len(together) > 1 else match.end

    def _look_alikes(self, text: str, taken: Iterable[tuple[int, int]]) -> list[tuple[str, int, int, str]]:
        """What stands in a text and is written like a placeholder of this request; the others are noted, and never given."""
        parts, at = [], 0
        for start, end in sorted(taken):
            # What is taken out has brackets around it afterwards, and may make a word of what stands beside it.
            parts += [text[at:start], "[" + "\0" * (end - start - 2) + "]" if end - start > 1 else "\0"]
            at = end
        stretches = []
        for found in self._pattern.finditer("".join(parts) + text[at:]):
            key = placeholders.meant(found)
            if key in self._values:
                stretches.append((_LOOK_ALIKE, *found.span(), found[0]))
            else:
                self._met.add(key)
        return stretches

    def _placeholder(self, name: str, value: str, original: str) -> str:
        number = self._numbers.get((name, value))
        if number is None:
            number = self._next[name] + 1
            while (name, number) in self._met:
                number += 1
            self._next[name] = number
            self._numbers[name, value] = number
            self._values[name, number] = original
        return placeholders.written(name, number)

    def _value(self, name: str, number: int) -> str | None:
        return self._values.get((name, number))

    def restorer(self) -> Restorer:
        """For an answer that comes in pieces."""
        return Restorer(self._pattern, self._value, frozenset({*self._strength, _LOOK_ALIKE}), self._sent)

    def restore(self, text: str) -> str:
        """An answer, with the values in their places."""
        restorer = self.restorer()
        return restorer.feed(text) + restorer.close()

    def __repr__(self) -> str:
        return f"<Redactor: {len(self._values)} values kept>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a redactor knows what must not leave, so it is not pickled or copied")
