"""How somebody, or somebody's machine, is reached: e-mail addresses, telephone numbers, IP addresses, URLs that carry a credential.

Telephone numbers have no checksum, so their form is all there is: an international one begins with `+` or `00` and a country's
code, and is as long as that country's are; a national one is grouped as its country's are, or begins with 0 and has ten or eleven
digits; any other grouping, or none, wants a word such as `tel` right before it. What is a date, an amount or a version is let be.

Every pattern has a bound on everything that repeats, so the time is in proportion to the text's length.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from blindgate_rag.redaction.matches import Match
from blindgate_rag.redaction.words import any_of

NAMES: Final = frozenset({"email", "phone", "ip", "credential"})

# RFC 5321: 64 characters before the @, 255 after it. RFC 6531: letters of any script.
_LOCAL_BYTES: Final = 64
_LOCAL_MARKS: Final = frozenset("!#$%&'*+-/=?^_`{|}~.")
_LABEL: Final = r"[^\W_](?:[\w-]{0,61}[^\W_])?\."
_PUNYCODE: Final = r"xn--[a-z0-9-]{1,59}"
_DOMAIN: Final = re.compile(
    # Digits may follow a domain without a space, as in text out of PDF files, but not one of digits: `package@1.2.rc1`.
    rf"(?:{_LABEL}){{0,7}}(?:(?=[0-9-]{{0,62}}[^\W\d_]){_LABEL}(?:{_PUNYCODE}|[^\W\d_]{{2,24}})|{_LABEL}(?:{_PUNYCODE}|[^\W\d_]{{2,24}}+(?![0-9])))"
    r"|\[(?:ipv6:)?[0-9a-f:.]{3,45}\]",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile(r'"[^"\n]{1,62}"\Z')
_QUERY: Final = re.compile("//|[?&]")
_DOT: Final = r"(?:\.| ?[(\[{<] ?(?:dot|\.) ?[)\]}>] ?| dot )"
_SPELT: Final = re.compile(
    # `amy (at) example (dot) org`; in words alone only where both are there
    rf"(?<![\w.+-])([\w.+-]{{1,64}})(?: ?[(\[{{<] ?(?:at|@) ?[)\]}}>] ?([\w-]{{1,63}}(?:{_DOT}[\w-]{{2,63}}){{1,5}})"
    r"| at ([\w-]{1,63}(?: dot [\w-]{2,63}){0,4} dot (?:com|org|net|edu|gov|mil|int|info|[a-z]{2})))(?!\w)",
    re.IGNORECASE,
)
_SPELT_DOT: Final = re.compile(_DOT, re.IGNORECASE)

_CREDENTIALS: Final = (
    re.compile(
        r"(?<![A-Za-z0-9+.-])[a-z][a-z0-9+.-]{1,15}://([^\s/@:]{0,128}:[^\s/@]{1,256}@[^\s/?#]{1,255})", re.IGNORECASE
    ),
    re.compile(
        # up to what closes a link around it
        r"[?&](?:[a-z]{1,12}[_-])?(?:token|key|apikey|password|passwd|pwd|secret|sig|signature)=((?:[^&\s#\"<>`)]|\)(?![\s\].,;:)]|\Z)){4,512})",
        re.IGNORECASE,
    ),
)

_IPV4: Final = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z_]|\.[0-9])")
_IPV6: Final = re.compile(r"(?<![\w:.])[0-9a-f:.]{3,46}(?![\w:])", re.IGNORECASE)
_VERSION: Final = re.compile(
    r"(?:§|[<>=~!]=?|\b(?:v|ver|version|release|section|sec|chapter|ch|clause|article|art|para|paragraph|table|figure|fig|no))"
    r"[. :-]{0,3}\Z",
    re.IGNORECASE,
)

_GAP: Final = r"[ \t.()/-]"
_INTERNATIONAL: Final = re.compile(
    rf"(?<![0-9A-Za-z+])(\+[ ]?|(?<![0-9]\.)00)"
    rf"((?:\([1-9][0-9]{{0,3}}\)|[1-9][0-9]{{0,14}})(?:{_GAP}{{0,3}}[0-9]{{1,14}}){{0,8}})"
)
_AREA: Final = r"[2-9][0-9]{2}"
_NORTH_AMERICAN: Final = re.compile(
    r"(?<![0-9A-Za-z./$€£-])(?:1[ .-]?)?"
    rf"(?:\({_AREA}\)[ .\n-]{{0,2}}[0-9]{{3}}[ .\n-]{{0,2}}[0-9]{{4}}|{_AREA}([-.])[0-9]{{3}}(?:\1|-?\n)[0-9]{{4}}"
    rf"|{_AREA}(?:[ /\n]|-\n)[0-9]{{3}}-[0-9]{{4}}|(?<![0-9],)(?<![0-9] ){_AREA} {_AREA} [0-9]{{4}}(?![ ,][0-9]))"
    r"(?![0-9A-Za-z]|[.-][0-9])"
)
_NATIONAL: Final = re.compile(
    r"(?<![0-9A-Za-z./+$€£-])(?:\(0[1-9][0-9]{0,5}\)[ /-]{0,2}|0[1-9][0-9]{0,5}(?:[ /-]{1,3}|\.))"
    r"[0-9]{2,9}(?:[ .-][0-9]{2,6}){0,4}(?![0-9A-Za-z]|\.[0-9])"
)
_TOGETHER: Final = re.compile(
    # ten or eleven digits after a 0, which an ISBN begins with as well
    r"(?<![0-9A-Za-z./+_-])(?<!ISBN )(?<!ISBN: )0[1-9][0-9]{8,9}(?![0-9A-Za-z_]|[.,-][0-9])"
)
_OF_ONE_COUNTRY: Final = re.compile(
    # Brazil, China, Russia: as their numbers are grouped
    r"(?<![0-9A-Za-z./$€£+-])(?:\([1-9][0-9]\) ?9?[0-9]{4}-[0-9]{4}|1[3-9][0-9]([ -])[0-9]{4}\1[0-9]{4}"
    r"|[78][ -]?(?:\([3489][0-9]{2}\)|[3489][0-9]{2})[ -]?[0-9]{3}-[0-9]{2}-[0-9]{2})(?![0-9A-Za-z]|[.,-][0-9])"
)
_EXTENSION: Final = re.compile(
    r",? ?(?:ext|extn|extension|x|durchwahl|dw|poste|int)[.:]? ?[0-9]{1,6}(?!\w)", re.IGNORECASE
)
_NAMED: Final = re.compile(
    any_of(
        r"tel|phone|telephone|mobile|mob|ph|cell|cellphone|fax|hotline|helpline|pager|whatsapp|signal|telefon|handy|mobil|tél"
        r"|téléphone|portable|teléfono|móvil|celular|telefono|cellulare|telefoon|gsm|contact[ _-]?(?:no|number)"
        r"|(?:call|phone|ring|text) (?:me|us|him|her|them|back)(?: back)?(?: at| on)?"
    )
    + r"[^0-9\n]{0,16}?((?:\([0-9]{2,6}\)[ ]?)?"
    r"(?:[0-9](?:[ /-]{0,2}[0-9]){4,13}|[0-9]{2,5}(?:\.[0-9]{2,5}){2,5}))(?![0-9]|\.[0-9])",
    re.IGNORECASE,
)
_MORE: Final = re.compile(r"[0-9]|e[+-]?[0-9]", re.IGNORECASE)
"""What makes digits before it a figure: another digit, or an exponent."""
_LAST: Final = re.compile(rf"{_GAP}{{1,3}}[0-9]{{1,120}}\)?\Z")
_DATE: Final = re.compile(r"[0-9]{1,2}([-./ ])[0-9]{1,2}\1(?:19|20)[0-9]{2}(?![0-9])")
_YEARS: Final = re.compile(r"[0-9]{1,2}(?:[ ./-](?:19|20)[0-9]{2})+\Z")

# Of a country's code, how many digits may follow (ITU-T E.164 and the national plans); the rest has 6 to 12.
_SUBSCRIBERS: Final = {
    "1": (10, 10), "7": (10, 10), "20": (8, 10), "27": (9, 9), "30": (10, 10), "31": (9, 9), "32": (8, 9), "33": (9, 9),
    "34": (9, 9), "36": (8, 9), "39": (6, 11), "40": (9, 9), "41": (9, 9), "43": (4, 13), "44": (9, 10), "45": (8, 8),
    "46": (7, 10), "47": (8, 8), "48": (9, 9), "49": (6, 12), "52": (10, 10), "55": (10, 11), "61": (9, 9), "62": (8, 12),
    "64": (8, 10), "65": (8, 8), "81": (9, 10), "82": (8, 10), "86": (9, 11), "90": (10, 10), "91": (10, 10), "351": (9, 9),
    "352": (5, 11), "353": (7, 9), "354": (7, 9), "358": (6, 12), "420": (9, 9), "421": (9, 9), "852": (8, 8), "971": (8, 9),
    "972": (8, 9),
}  # fmt: skip


def _digits(text: str) -> str:
    return "".join(character for character in text if "0" <= character <= "9")


def _emails(text: str) -> Iterator[Match]:
    at = text.find("@")
    while at >= 0:
        start = at
        if quoted := _QUOTED.search(text, max(at - _LOCAL_BYTES, 0), at):
            start = quoted.start()
        while not quoted and start and at - start < _LOCAL_BYTES and _local(text[start - 1]):
            start -= 1
        # Of an address in a URL's query, only itself.
        if _QUERY.search(text, start, at):
            start = max(text.rfind(mark, start, at) for mark in "/?&=") + 1
        domain = _DOMAIN.match(text, at + 1) or (text[at + 1 : at + 2] == " " and _DOMAIN.match(text, at + 2))
        if domain and start < at:
            yield Match("email", start, domain.end(), "".join(text[start : domain.end()].lower().split()))
        at = text.find("@", at + 1)


def _local(character: str) -> bool:
    return character.isalnum() or character in _LOCAL_MARKS


def _spelt_emails(text: str) -> Iterator[Match]:
    for spelt in _SPELT.finditer(text):
        domain = _SPELT_DOT.sub(".", spelt[2] or spelt[3]).lower()
        if domain.rpartition(".")[2].isalpha():
            yield Match("email", *spelt.span(), f"{spelt[1].lower()}@{domain}")


def _subscriber(digits: str) -> tuple[int, int]:
    """Of an international number's digits, the least and the most that there can be."""
    for length in (1, 2, 3):
        if bounds := _SUBSCRIBERS.get(digits[:length]):
            return length + bounds[0], length + bounds[1]
    return 8, 15


def _trimmed(text: str, start: int, end: int, least: int, most: int) -> int:
    """Where a number ends that begins there and has so many digits: groups are left off while there are more; 0 for nowhere."""
    while len(digits := _digits(text[start:end].replace("(0)", ""))) > most and (cut := _LAST.search(text[start:end])):
        end = start + cut.start()
    return end if least <= len(digits) <= most else 0


def _international(text: str) -> Iterator[Match]:
    at = 0
    while begun := _INTERNATIONAL.search(text, at):
        start = begun.start(2)
        # What follows may be the next figure: a number is as long as its country's are.
        end = _trimmed(text, start, begun.end(), *_subscriber(_digits(begun[2][:6])))
        grouped = begun[1] != "00" or any(mark in text[start:end] for mark in " .-/")
        if end and grouped and not _MORE.match(text, end):
            yield Match("phone", begun.start(), end, _digits(text[start:end].replace("(0)", "")))
        at = end or begun.end(1)


def _national(text: str) -> Iterator[Match]:
    for found in _NORTH_AMERICAN.finditer(text):
        yield Match("phone", *found.span(), _digits(found[0])[-10:])
    at = 0
    while begun := _NATIONAL.search(text, at):
        end = 0 if _DATE.match(begun[0]) or _YEARS.match(begun[0]) else _trimmed(text, *begun.span(), 9, 12)
        if end:
            yield Match("phone", begun.start(), end, _digits(text[begun.start() : end]))
        at = end or begun.start() + 1
    for pattern in (_TOGETHER, _OF_ONE_COUNTRY):
        for found in pattern.finditer(text):
            yield Match("phone", *found.span(), _digits(found[0]))
    for found in _NAMED.finditer(text):
        start, end = found.span(1)
        if text[start - 1] == "+" and text[end : end + 1] == "\n" and text[end + 1 : end + 2].isdecimal():
            continue  # an international one that goes on
        if not _DATE.match(found[1]) and 7 <= len(_digits(found[1])) <= 14:  # noqa: PLR2004
            yield Match("phone", *found.span(1), _digits(found[1]))


def _phones(text: str) -> Iterator[Match]:
    for finder in (_international, _national):
        for match in finder(text):
            extension = _EXTENSION.match(text, match.end)
            yield replace(match, end=extension.end(), value=match.value + extension[0].lower()) if extension else match


def _addresses(text: str) -> Iterator[Match]:
    for pattern in (_IPV4, _IPV6):
        for found in pattern.finditer(text):
            written = found[0].rstrip(".") if found[0].count(".") else found[0]
            # `::` and `a::b` stand in programs; an address has more to it.
            if pattern is _IPV6 and (written.count(":") < 2 or not re.search("[0-9]", written) or len(written) < 3):  # noqa: PLR2004
                continue
            try:
                # Whoever pads an address's parts with zeros means it in tens, whatever C took them for.
                address = ipaddress.ip_address(re.sub(r"(?<![0-9a-f:])0+(?=[0-9])", "", written))
            except ValueError:
                continue
            # No section or version of anything has such numbers as most addresses have.
            low = all(len(part) < 3 for part in written.split("."))  # noqa: PLR2004
            if not (low and _VERSION.search(text, max(found.start() - 14, 0), found.start())):
                yield Match("ip", found.start(), found.start() + len(written), str(address))


def _credentials(text: str) -> Iterator[Match]:
    for pattern in _CREDENTIALS:
        for found in pattern.finditer(text):
            yield Match("credential", *found.span(1), found[1])


_FINDERS: Final = {
    "email": (_emails, _spelt_emails),
    "phone": (_phones,),
    "ip": (_addresses,),
    "credential": (_credentials,),
}


class Contacts:
    """Finds the classes `email`, `phone`, `ip` and `credential`, or some of them."""

    protects = frozenset[str]()

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names & NAMES

    def find(self, text: str) -> Iterator[Match]:
        """Find all. Takes time in proportion to the text's length."""
        for name in sorted(self.names):
            for finder in _FINDERS[name]:
                yield from finder(text)
