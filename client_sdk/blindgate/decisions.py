"""Whether a request may be sent, decided in one place: from a policy, a manifest and the classes of its data. No I/O, no clock.

A request has the classes of the columns that its model reads, the class of the model, and what its caller says of it. Of the
columns and the model, the policy's own word (`[models]`) goes before the publisher's, column by column. Where the caller says
nothing, `rules.data_class` is what is said.

All of these hold, in this order, and the first that does not is the error:

1. `classes`: the policy names every class, and the model reads every column that the policy says something of. A policy without
   `[classes]` says that classes decide nothing;
2. `lanes`: the model's lane is one of the rules', and of each class;
3. `publishers`: who signed the manifest is named, not revoked, and one of each class;
4. `operators`: one is left that is named, not revoked, and one of each class;
5. `platforms`, in lane tee: one is left that is named, and one of each class, with the measurements that each class asks;
6. `witnesses`: as many are left, of the rules' and of each class, as must cosign;
7. `client`: whoever asks is not revoked.

What is decided is a policy that allows no more than what all of them do (`Policy.narrowed`): who sends goes by that one. Adding a
class makes it narrower, or leaves it as it is. What nodes then prove is `admission`'s to judge, under that policy.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from blindgate.policy import Policy, different_witnesses
from blindgate.rules import ClassRules, ModelRules
from blindgate_protocol.errors import BlindgateError, InputError, PolicyError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import Millis

_CALLER = "the caller"
_MANIFEST = "by its manifest"


Said = str | Mapping[str, str] | None
"""The class of a request by its caller's word, or several, each with what has it, or none."""


@dataclass(frozen=True)
class FoundClass:
    """A class that a request has.

    Attributes:
        name: the class's.
        of: what has it, and by whose word.
    """

    name: str
    of: str


@dataclass(frozen=True)
class Finding:
    """What one rule found.

    Attributes:
        rule: where the policy has it: `lanes`, or the key that refuses, such as `classes.phi.lanes`.
        asked: what it asks.
        found: what there is.
        refusal: the error; `None` where the rule holds.
    """

    rule: str
    asked: str
    found: str
    refusal: BlindgateError | None = None

    @property
    def holds(self) -> bool:
        """Whether the rule holds."""
        return self.refusal is None


@dataclass(frozen=True)
class Decision:
    """What was decided.

    Attributes:
        classes: of the request, in the order in which they were found.
        findings: of each rule, in the module's order.
        policy: the policy as these classes have it: what to send by, where every rule holds.
    """

    classes: tuple[FoundClass, ...]
    findings: tuple[Finding, ...]
    policy: Policy

    @property
    def allowed(self) -> bool:
        """Whether every rule holds."""
        return all(finding.holds for finding in self.findings)

    def require(self) -> Policy:
        """The policy to send by. Raises the error of the first rule that does not hold: `PolicyError`, which names the rule."""
        for finding in self.findings:
            if finding.refusal is not None:
                raise finding.refusal
        return self.policy


def decide(
    policy: Policy, manifest: Signed[Manifest], *, said: Said = None, client: str | None = None, now: Millis
) -> Decision:
    """Decide about a request to a model.

    Args:
        policy: the whole one.
        manifest: the model's, its signature verified. Its dates are `check_manifest`'s to judge.
        said: the class that its caller says, or the classes; without any, `rules.data_class`.
        client: the key that is to sign the order; `None` where it is not to be asked for.
        now: the time at which revocations are looked at.
    """
    classes = tuple(classes_of(policy, manifest, said))
    ruled = {one.name: policy.classes[one.name] for one in classes if one.name in policy.classes}
    narrow = policy.narrowed(ruled)
    asking = _Asking(policy, manifest, ruled, classes, now)
    findings = [asking.classes(), asking.lanes(), asking.publishers(), asking.operators(narrow)]
    if manifest.document.lane == "tee":
        findings.append(asking.platforms())
    findings.append(asking.witnesses(narrow))
    if client is not None:
        findings.append(asking.client(client))
    return Decision(classes, tuple(findings), narrow)


def beside(said: Said, data_class: str | None = None) -> dict[str, str]:
    """What was said of a corpus when it was opened, and what is said of a question to it: all of it holds. Raises `InputError`."""
    found = {said: "the corpus"} if isinstance(said, str) else dict(said or {})
    if data_class is not None:
        if not isinstance(data_class, str):
            message = f"data_class: got a {type(data_class).__name__}, expected a text"
            raise InputError(message)
        found.setdefault(data_class, "the question")
    return found


def classes_of(policy: Policy, manifest: Signed[Manifest], said: Said = None) -> Iterator[FoundClass]:
    """The classes of a request, the caller's last; one that several columns have is given for each."""
    document, own = manifest.document, _own(policy, manifest)
    named = f"[models] of the policy, {document.name}"
    for column in document.columns:
        if (kind := own.columns.get(column.name) if own else None) is not None:
            yield FoundClass(kind, f"column {column.name!r}, by {named}")
        elif column.data_class is not None:
            yield FoundClass(column.data_class, f"column {column.name!r}, {_MANIFEST}")
    if own is not None and own.data_class is not None:
        yield FoundClass(own.data_class, f"the model, by {named}")
    elif document.data_class is not None:
        yield FoundClass(document.data_class, f"the model, {_MANIFEST}")
    if said:
        every = {said: ""} if isinstance(said, str) else said
        yield from (FoundClass(name, f"{_CALLER}{of and f', of {of}'}") for name, of in every.items())
    elif policy.rules.data_class is not None:
        yield FoundClass(policy.rules.data_class, "the caller says none, and rules.data_class is what is said then")


def _own(policy: Policy, manifest: Signed[Manifest]) -> ModelRules | None:
    """What the policy itself says of this publisher's model."""
    own = policy.models.get(manifest.document.name)
    if own is None or own.publisher is None or policy.publishers.get(own.publisher) == manifest.signer:
        return own
    return None


@dataclass(frozen=True)
class _Asking:
    """The rules, one by one. `ruled` has the request's classes that the policy names."""

    policy: Policy
    manifest: Signed[Manifest]
    ruled: Mapping[str, ClassRules]
    found: tuple[FoundClass, ...]
    now: Millis

    def classes(self) -> Finding:
        named = ", ".join(sorted(self.policy.classes)) or "none"
        found = "; ".join(f"{one.name} ({one.of})" for one in _first_of_each(self.found)) or "none"
        if not self.policy.classes and not any(one.of.startswith(_CALLER) for one in self.found):
            return Finding("classes", "nothing: the policy has no [classes], so that none decides anything", found)
        asked = f"each is one of: {named}"
        for one in self.found:
            if one.name not in self.policy.classes:
                text = f"data class {one.name!r} ({one.of}) is none that the policy's [classes] names; it has: {named}"
                return Finding("classes", asked, found, PolicyError(text))
        own, document = _own(self.policy, self.manifest), self.manifest.document
        for name in () if own is None else own.columns:
            if name not in {column.name for column in document.columns}:
                rule = f"models.{document.name}.columns"
                text = f"the policy's {rule} says the class of column {name!r}, which model {document.name!r} does not read"
                return Finding(rule, "each is a column that the model reads", f"no column {name!r}", PolicyError(text))
        return Finding("classes", asked, found)

    def lanes(self) -> Finding:
        document, allowed = self.manifest.document, list(self.policy.rules.lanes)
        what = f"model {document.name!r} runs in lane {document.lane!r}"
        asked, found = f"one of: {', '.join(allowed)}", document.lane
        if document.lane not in allowed:
            text = f"{what}; the policy's rule rules.lanes allows {', '.join(allowed)}"
            return Finding("rules.lanes", asked, found, PolicyError(text))
        return self._narrowed(
            Finding("lanes", asked, found),
            what,
            lambda of: None if of.lanes is None else (document.lane in of.lanes, of.lanes),
        )

    def publishers(self) -> Finding:
        document, roots = self.manifest.document, self.policy.publishers
        names = [name for name, key in roots.items() if key == self.manifest.signer]
        asked, found = f"one of: {', '.join(roots) or 'none is named'}", ", ".join(names) or self.manifest.signer
        try:
            self.policy.require_publisher(self.manifest)
            self.policy.require_believed("publisher", self.manifest.signer, now=self.now)
        except PolicyError as error:
            return Finding("publishers", asked, found, error)
        return self._narrowed(
            Finding("publishers", asked, found),
            f"model {document.name!r} is signed by {found}",
            lambda of: None if of.publishers is None else (not set(names).isdisjoint(of.publishers), of.publishers),
        )

    def operators(self, narrow: Policy) -> Finding:
        asked = f"at least one of: {', '.join(self.policy.operators) or 'none is named'}"
        try:
            keys = self.policy.allowed_operators(now=self.now)
        except PolicyError as error:
            return Finding("operators", asked, "none that may run a job", error)
        left = {name for name, key in self.policy.operators.items() if key in keys}
        found = ", ".join(sorted(left & narrow.operators.keys())) or "none"

        def ask(of: ClassRules) -> tuple[bool, tuple[str, ...]] | None:
            if of.operators is None:
                return None
            left.intersection_update(of.operators)
            return bool(left), of.operators

        return self._narrowed(Finding("operators", asked, found), "no operator is left whose nodes may run this", ask)

    def platforms(self) -> Finding:
        left = self.policy.platforms
        asked, what = (
            f"at least one of: {', '.join(left) or 'none is named'}",
            "no platform is left whose evidence will do",
        )
        if not left:
            text = (
                "a request in lane 'tee' is sealed to nodes that prove what the policy's [platforms] asks, and that section names "
                "none. What nodes prove is shown by: blindgate trust check all"
            )
            return Finding("platforms", asked, "none", PolicyError(text))
        for name, of in self.ruled.items():
            if of.platforms is None and of.measurements is None:
                continue
            left = of.narrow_platforms(left)
            asked += f"; class {name}: {_platforms(of)}"
            if not left:
                rule = f"classes.{name}.{'platforms' if of.measurements is None else 'measurements'}"
                return Finding(rule, asked, "none", self._refused(name, rule, what, _platforms(of)))
        return Finding("platforms", asked, ", ".join(left))

    def witnesses(self, narrow: Policy) -> Finding:
        wanted, left = narrow.rules.cosignatures, different_witnesses(narrow.witnesses)
        asked, found = f"cosignatures of {wanted} witnesses", ", ".join(narrow.witnesses) or "none is named"
        if wanted <= left and (self.policy.logs or not wanted):
            return Finding("witnesses", asked, found)
        name = next(name for name, of in self.ruled.items() if of.witnesses is not None or of.cosignatures is not None)
        rule = f"classes.{name}.{'witnesses' if self.ruled[name].cosignatures is None else 'cosignatures'}"
        what = f"{wanted} witnesses must cosign" + ("" if self.policy.logs else ", and [logs] names no log")
        return Finding(rule, asked, found, self._refused(name, rule, what, found))

    def client(self, key: str) -> Finding:
        try:
            self.policy.require_believed("client", key, now=self.now)
        except PolicyError as error:
            return Finding("client", "this client's key is not revoked", key, error)
        return Finding("client", "this client's key is not revoked", key)

    def _narrowed(
        self, base: Finding, what: str, ask: Callable[[ClassRules], tuple[bool, tuple[str, ...]] | None]
    ) -> Finding:
        """Ask each class, which says whether it holds and what it allows, or nothing; `base` holds without any."""
        asked = base.asked
        for name, of in self.ruled.items():
            answer = ask(of)
            if answer is None:
                continue
            holds, allowed = answer
            asked += f"; class {name}: {', '.join(allowed)}"
            if not holds:
                rule = f"classes.{name}.{base.rule}"
                return Finding(rule, asked, base.found, self._refused(name, rule, what, ", ".join(allowed)))
        return Finding(base.rule, asked, base.found)

    def _refused(self, name: str, rule: str, what: str, allowed: str) -> PolicyError:
        whose = next(one.of for one in self.found if one.name == name)
        return PolicyError(f"{what}; the policy's rule {rule} allows {allowed} for data of class {name!r} ({whose})")


def _platforms(of: ClassRules) -> str:
    parts = [] if of.platforms is None else [", ".join(of.platforms)]
    parts += [
        f"{platform} with {fact} {' or '.join(values)}"
        for platform, facts in (of.measurements or {}).items()
        for fact, values in facts.items()
    ]
    return ", ".join(parts)


def _first_of_each(classes: Iterable[FoundClass]) -> list[FoundClass]:
    found: dict[str, FoundClass] = {}
    for one in classes:
        found.setdefault(one.name, one)
    return list(found.values())
