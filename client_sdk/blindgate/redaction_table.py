"""What a policy says of redaction: its section `[redaction]`, as `blindgate_rag.redaction.rules` has it.

It is read when the policy is, so that a rule that is misspelt is told then, and not by what left.
"""

import json
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from blindgate_protocol.errors import PolicyError
from blindgate_protocol.values import Value

if TYPE_CHECKING:
    from blindgate_rag.redaction import Rules


class RedactionTable(Value):
    """The section, as it stands in the file."""

    dates: bool = False
    ages: bool = False
    mrn: str | tuple[str, ...] = ()
    classes: dict[str, bool] = Field(default_factory=dict)
    patterns: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    recognisers: tuple[str, ...] = Field(
        default=(), exclude_if=lambda value: not value
    )  # policies of before keep digests

    @model_validator(mode="after")
    def _understood(self) -> Self:
        try:
            self.rules()
        except PolicyError as error:
            raise ValueError(str(error)) from error
        return self

    def rules(self) -> "Rules":
        """The rules that it means. Raises `PolicyError`, which names the key."""
        from blindgate_rag.redaction import Rules  # noqa: PLC0415  (a policy without this section waits for none of it)

        table: dict[str, Any] = json.loads(self.model_dump_json())
        return Rules.from_table(table)

    def to_toml(self) -> list[str]:
        """As lines of a policy file; what is usual is left out."""
        lines = ["[redaction]"]
        lines += [f"{name} = true" for name in ("dates", "ages") if getattr(self, name)]
        if self.mrn:
            lines.append(f"mrn = {_text(self.mrn)}")
        if self.recognisers:
            lines.append(f"recognisers = {_text(self.recognisers)}")
        for section, found in (("classes", self.classes), ("patterns", self.patterns)):
            if found:
                lines += ["", f"[redaction.{section}]", *(f"{name} = {_text(value)}" for name, value in found.items())]
        return lines


def _text(value: object) -> str:
    """As TOML: JSON's texts, arrays and booleans are its."""
    return json.dumps(value, ensure_ascii=False)
