r"""What is to be redacted: a table of TOML, and what holds where it is silent.

    [redaction]
    dates = false                    # dates and ages over 89 stay, unless these say otherwise
    ages = false
    mrn = ["MRN[- ]?\\d{6,8}"]       # how this house writes a medical record number; none is known without it
    recognisers = ["presidio:/models/en_core_web_sm"]    # names and places (`named`); without one, they stay

    [redaction.classes]              # every class that is recognised by its form is on
    npi = false

    [redaction.patterns]             # what else this house gives numbers to; its name becomes the placeholder's
    trial = "TRIAL-[A-Z]{2}\\d{4}"

Patterns are read and refused as `patterns` says. A mistake is an error that names the key: a rule that is misspelt would else be a
class that leaves.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from blindgate_protocol.errors import PolicyError
from blindgate_rag.redaction import contacts
from blindgate_rag.redaction.accounts import ACCOUNTS
from blindgate_rag.redaction.codes import CODES
from blindgate_rag.redaction.named import checked
from blindgate_rag.redaction.numbers import NUMBERS
from blindgate_rag.redaction.patterns import compiled

CLASSES: Final = tuple(
    dict.fromkeys(
        (
            *(row.name for row in NUMBERS),
            "iban",
            *(row.name for row in CODES),
            *(row.name for row in ACCOUNTS),
            *sorted(contacts.NAMES),
        )
    )
)
"""What is recognised by its form, and on unless the rules say otherwise."""
RESERVED: Final = frozenset({*CLASSES, "mrn", "date", "age", "person", "place", "group", "text", "names", "addresses"})
MAX_FILE_BYTES: Final = 1 << 20
MAX_PATTERNS: Final = 64
CLASS_NAME: Final = re.compile(r"[a-z]{2,16}(?:_[a-z]{1,16}){0,2}")
_KEYS: Final = ("classes", "dates", "ages", "mrn", "patterns", "recognisers")
MAX_RECOGNISERS: Final = 4


def _kind(table: Mapping[str, Any], key: str, kind: type, said: str) -> Any:
    """What stands under a key, or nothing of that kind. Raises `PolicyError`."""
    value = table.get(key, kind())
    if type(value) is not kind:
        raise PolicyError(f"redaction.{key}: expected {said}, got {type(value).__name__}")
    return value


def _patterns(value: Any, key: str) -> tuple[str, ...]:
    several = [value] if isinstance(value, str) else value
    if (
        not isinstance(several, list)
        or len(several) > MAX_PATTERNS
        or not all(isinstance(each, str) for each in several)
    ):
        raise PolicyError(f"{key}: expected a regular expression, or a list of up to {MAX_PATTERNS}")
    for place, pattern in enumerate(several):
        compiled(pattern, f"{key}[{place}]")
    return tuple(several)


def _recognisers(value: Any) -> tuple[str, ...]:
    key = "redaction.recognisers"
    if not isinstance(value, list) or len(value) > MAX_RECOGNISERS or not all(isinstance(each, str) for each in value):
        raise PolicyError(
            f"{key}: expected a list of up to {MAX_RECOGNISERS} texts such as 'presidio:/models/en_core_web_sm'"
        )
    return tuple(checked(each, f"{key}[{place}]") for place, each in enumerate(value))


@dataclass(frozen=True, slots=True)
class Rules:
    """What is to be redacted.

    Attributes:
        off: classes of `CLASSES` that stay.
        dates: whether dates go.
        ages: whether ages over 89 go.
        mrn: regular expressions of medical record numbers.
        patterns: by class, regular expressions of whatever else.
        recognisers: further ones by name (`named`), opened when a `Redactor` is made.
    """

    off: frozenset[str] = frozenset()
    dates: bool = False
    ages: bool = False
    mrn: tuple[str, ...] = ()
    patterns: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    recognisers: tuple[str, ...] = ()

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read what stands under `[redaction]`. Raises `PolicyError`, which names the key."""
        if unknown := sorted(set(table) - set(_KEYS)):
            raise PolicyError(f"redaction.{unknown[0]}: no such rule; there are {', '.join(_KEYS)}")
        classes = _kind(table, "classes", dict, "a table of classes")
        for name, on in classes.items():
            if name not in CLASSES:
                raise PolicyError(f"redaction.classes.{name}: no such class; there are {', '.join(CLASSES)}")
            if type(on) is not bool:
                raise PolicyError(f"redaction.classes.{name}: expected true or false, got {type(on).__name__}")
        own = _kind(table, "patterns", dict, "a table of patterns")
        if len(own) > MAX_PATTERNS:
            raise PolicyError(f"redaction.patterns: {len(own)} classes; there may be {MAX_PATTERNS}")
        for name in own:
            if not CLASS_NAME.fullmatch(name) or name in RESERVED:
                raise PolicyError(
                    f"redaction.patterns.{name}: a class has small letters, with _ between words, and no name that is taken already"
                )
        return cls(
            off=frozenset(name for name, on in classes.items() if not on),
            dates=_kind(table, "dates", bool, "true or false"),
            ages=_kind(table, "ages", bool, "true or false"),
            mrn=_patterns(table.get("mrn", []), "redaction.mrn"),
            patterns=MappingProxyType(
                {name: _patterns(each, f"redaction.patterns.{name}") for name, each in own.items()}
            ),
            recognisers=_recognisers(table.get("recognisers", [])),
        )

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the `[redaction]` table of a TOML file; without one, what holds where nothing is said. Raises `PolicyError`."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise PolicyError(f"{path}: more than {MAX_FILE_BYTES} bytes")
            table = tomllib.loads(data.decode())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise PolicyError(f"{path}: the rules of redaction cannot be read: {error}") from error
        return cls.from_table(_kind(table, "redaction", dict, "a table") if "redaction" in table else {})
