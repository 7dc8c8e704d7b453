"""The values of a policy: its rules, what each class of data may use, what it says of models, and the forms of its keys.

    [rules]
    data_class = "internal"      # of what a caller says nothing about

    [classes.phi]                # each key is optional, and narrows what the rest of the policy allows
    lanes = ["fhe", "tee"]
    platforms = ["amd-sev-snp"]  # names of [platforms]; one for GPUs among them, where nodes have some
    publishers = ["acme-health"] # names of [publishers]
    operators = ["north-compute"]
    witnesses = ["city-archive"] # names of [witnesses] whose cosignatures count for it
    cosignatures = 1             # how many of them are wanted, at least
    padding = { rule = "buckets", buckets = [4096, 65536] }
    buffered = true

    [classes.phi.measurements.amd-sev-snp]
    measurement = ["5ef1…"]

    [models.note-triage]         # what this organisation says of a model's data goes before what the model's publisher says
    publisher = "acme-health"    # where it is given: of this publisher's model of that name alone
    data_class = "internal"
    columns = { diagnosis = "phi" }

**A class never widens.** What it names beside the rest of the policy is refused when the file is read, and lanes that [rules] does
not have stay shut. Where several classes meet, all hold: what each of them allows, the most cosignatures, the strictest padding,
and buffered where one says so.

**The strictest padding** is the one under which a text of up to 1 MiB can be seen to have the fewest lengths (`lengths`). That is
a total order, so adding a rule never makes the outcome laxer; it is no promise that lengths which the laxer one hid stay hidden.

Where they meet, and what they decide: `decisions`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from blindgate.attestation.rules import Hex, PlatformRules
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.manifest import Lane
from blindgate_protocol.notes import KeyKind, VerifierKey
from blindgate_protocol.order import MOST_NODES
from blindgate_protocol.padding import MAX_CHUNK_BYTES, Padding
from blindgate_protocol.values import Name, Value

LONGEST_LOG_WITHIN: Final = 86_400.0
LONGEST_EVIDENCE_WITHIN: Final = 86_400.0

_Unsaid = Field(exclude_if=lambda value: value is None)
"""Left out of the policy's digest where nothing is said, so that policies of before keep theirs."""


class Rules(Value):
    """What is allowed.

    Attributes:
        lanes: the lanes that a job may take.
        cosignatures: how many of the policy's witnesses must have cosigned the tree that a result stands in.
        log_within: for how many seconds a result may be missing in the log before it is refused; up to a day.
        recipients: to how many nodes that were believed a request is sealed: any of them may answer, and each could read it.
        evidence_within: for how many seconds a node's evidence may be relied on again; 0 asks for fresh evidence for each request.
        padding: to which sizes the chunks of sealed requests and answers are padded.
        buffered: whether answers are sealed in one piece, so that neither the number nor the times of their chunks tell anything.
        data_class: the class of a request of which its caller says none.
    """

    lanes: Annotated[tuple[Lane, ...], Field(min_length=1)] = ("fhe",)
    cosignatures: Annotated[int, Field(ge=0)] = 0
    log_within: Annotated[float, Field(gt=0, le=LONGEST_LOG_WITHIN)] = 30.0
    recipients: Annotated[int, Field(ge=1, le=MOST_NODES)] = 2
    evidence_within: Annotated[float, Field(ge=0, le=LONGEST_EVIDENCE_WITHIN)] = 600.0
    padding: Padding = Padding(rule="powers")
    buffered: bool = False
    data_class: Annotated[Name | None, _Unsaid] = None

    def to_toml(self) -> list[str]:
        """As lines of a policy file. Of the newer ones, what is usual is left out: older releases refuse what they do not know."""
        usual = Rules()
        lines = ["[rules]", f"lanes = {_listed(self.lanes)}"]
        lines += [f"cosignatures = {self.cosignatures}", f"log_within = {self.log_within}"]
        lines += [
            f"{name} = {str(getattr(self, name)).lower()}"
            for name in ("recipients", "evidence_within", "buffered")
            if getattr(self, name) != getattr(usual, name)
        ]
        if self.padding != usual.padding:
            lines.append(f"padding = {_padding(self.padding)}")
        if self.data_class is not None:
            lines.append(f"data_class = {_text(self.data_class)}")
        return lines


Names = Annotated[tuple[Name, ...], Field(min_length=1)]
"""Names of another section, at least one: to allow nothing, leave a lane out."""


class ClassRules(Value):
    """What one class of data may use; `None` where it says nothing. See the module.

    Attributes:
        lanes: the lanes that it may take.
        platforms: names of `[platforms]` whose evidence will do.
        measurements: what facts of a platform's evidence must be, by platform and fact: beside what `[platforms]` asks.
        publishers: names of `[publishers]` whose models may read it.
        operators: names of `[operators]` whose nodes may run jobs with it.
        witnesses: names of `[witnesses]` whose cosignatures count.
        cosignatures: how many of those must have cosigned the tree that a result stands in, at least.
        padding: how requests and answers are padded, at least.
        buffered: whether answers are sealed in one piece.
    """

    lanes: Annotated[tuple[Lane, ...] | None, Field(min_length=1), _Unsaid] = None
    platforms: Annotated[Names | None, _Unsaid] = None
    measurements: Annotated[
        dict[Name, Annotated[dict[Name, Annotated[tuple[Hex, ...], Field(min_length=1)]], Field(min_length=1)]] | None,
        _Unsaid,
    ] = None
    publishers: Annotated[Names | None, _Unsaid] = None
    operators: Annotated[Names | None, _Unsaid] = None
    witnesses: Annotated[Names | None, _Unsaid] = None
    cosignatures: Annotated[int | None, Field(ge=1), _Unsaid] = None
    padding: Annotated[Padding | None, _Unsaid] = None
    buffered: Annotated[bool | None, _Unsaid] = None

    def to_toml(self, name: str) -> list[str]:
        """As lines of a policy file."""
        where = f'classes."{name}"'
        lines = [f"[{where}]"]
        lines += [
            f"{key} = {_listed(names)}"
            for key in ("lanes", "platforms", "publishers", "operators", "witnesses")
            if (names := getattr(self, key)) is not None
        ]
        if self.cosignatures is not None:
            lines.append(f"cosignatures = {self.cosignatures}")
        if self.padding is not None:
            lines.append(f"padding = {_padding(self.padding)}")
        if self.buffered is not None:
            lines.append(f"buffered = {str(self.buffered).lower()}")
        for platform, facts in (self.measurements or {}).items():
            lines += ["", f'[{where}.measurements."{platform}"]']
            lines += [f'"{fact}" = {_listed(values)}' for fact, values in facts.items()]
        return lines

    def narrow_platforms(self, platforms: dict[str, PlatformRules]) -> dict[str, PlatformRules]:
        """Which of `platforms` this class may use, and what it asks of each. One of which no measurement is left is left out."""
        kept = {name: rules for name, rules in platforms.items() if self.platforms is None or name in self.platforms}
        for name, facts in (self.measurements or {}).items():
            if (rules := kept.get(name)) is None:
                continue
            met = dict(rules.measurements)
            for fact, values in facts.items():
                met[fact] = tuple(value for value in values if value in met.get(fact, values))
            if all(met.values()) and rules.keys is None:  # what is simulated has none to be measured
                kept[name] = rules.model_copy(update={"measurements": met})
            else:
                del kept[name]
        return kept


class ModelRules(Value):
    """What this organisation says of the data of the models of one name. See the module.

    Attributes:
        publisher: by its name in `[publishers]`; `None`: whoever's model it is.
        data_class: of every request; `None`: what the manifest says.
        columns: of columns, by their names; of others, what the manifest says.
    """

    publisher: Annotated[Name | None, _Unsaid] = None
    data_class: Annotated[Name | None, _Unsaid] = None
    columns: dict[Annotated[str, Field(min_length=1, max_length=200)], Name] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.data_class is None and not self.columns:
            message = "data_class or columns are wanted, or both"
            raise ValueError(message)
        return self

    def to_toml(self, name: str) -> list[str]:
        """As lines of a policy file."""
        lines = [f'[models."{name}"]']
        lines += [
            f"{key} = {_text(said)}" for key in ("publisher", "data_class") if (said := getattr(self, key)) is not None
        ]
        if self.columns:
            each = ", ".join(f"{_text(column)} = {_text(kind)}" for column, kind in self.columns.items())
            lines.append(f"columns = {{ {each} }}")
        return lines


def names_of(
    rules: Rules, classes: Mapping[str, ClassRules], models: Mapping[str, ModelRules]
) -> Iterator[tuple[str, str, str]]:
    """What classes and models name of other sections: the key that names it, the section, the name."""
    if rules.data_class is not None:
        yield "rules.data_class", "classes", rules.data_class
    for name, of in classes.items():
        for section in ("platforms", "publishers", "operators", "witnesses"):
            for one in getattr(of, section) or ():
                yield f"classes.{name}.{section}", section, one
        for one in of.measurements or ():
            yield f"classes.{name}.measurements", "platforms", one
    for name, said in models.items():
        if said.publisher is not None:
            yield f"models.{name}.publisher", "publishers", said.publisher
        if said.data_class is not None:
            yield f"models.{name}.data_class", "classes", said.data_class
        for column, one in said.columns.items():
            yield f"models.{name}.columns.{column}", "classes", one


def lengths(padding: Padding) -> int:
    """How many lengths a text of 1 byte to 1 MiB can be seen to have under this padding: the fewer, the stricter it is.

    With sizes of `k` buckets, the largest of `c` bytes, it is `k` in each of the chunks that the text fills, one after the other.
    """
    if padding.rule == "buckets":
        return len(padding.buckets) * -(-MAX_CHUNK_BYTES // padding.capacity)
    if padding.rule == "powers":
        return MAX_CHUNK_BYTES.bit_length() - padding.size_of(1).bit_length() + 1
    return MAX_CHUNK_BYTES


def strictest(paddings: Iterable[Padding]) -> Padding:
    """The one under which lengths tell least; of equals, the one with the larger sizes, the first different size deciding."""
    return min(paddings, key=lambda one: (lengths(one), [-size for size in one.buckets]))


def _verifier_key(*kinds: KeyKind) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            key = VerifierKey.parse(text)
        except MalformedError as error:
            raise ValueError(str(error)) from error
        if key.kind not in kinds:
            message = f"this key's kind is {key.kind.name}, expected {' or '.join(kind.name for kind in kinds)}"
            raise ValueError(message)
        return text

    return check


LogKey = Annotated[str, AfterValidator(_verifier_key(KeyKind.ED25519))]
"""A log's verifier key, C2SP's `name+id+key`; the name is the log's origin."""

SecondKey = Annotated[str, AfterValidator(_verifier_key(KeyKind.ML_DSA_44))]
"""A log's second verifier key; its name is the log's origin, too."""

WitnessKey = Annotated[str, AfterValidator(_verifier_key(KeyKind.COSIGNATURE, KeyKind.ML_DSA_44))]
"""A witness's verifier key."""


def _text(value: str) -> str:
    """As a string of TOML's: JSON's, but for the one character that TOML wants escaped and JSON does not."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _listed(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _padding(padding: Padding) -> str:
    buckets = f", buckets = {list(padding.buckets)}" if padding.buckets else ""
    return f'{{ rule = "{padding.rule}"{buckets} }}'
