"""How an appraisal is shown to people: what was said, what of it holds, and what is not proven.

Evidence and certificates are somebody else's bytes, and names in them may be terminal commands that hide or forge a line. So
whatever is not printable is shown as such.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from blindgate.attestation.appraisal import Appraisal, Reason, Tier

STYLES: Final = {Tier.AFFIRMING: "green", Tier.WARNING: "yellow"}
_WORDS: Final = {Tier.AFFIRMING: "holds", Tier.WARNING: "warning"}


def show_appraisal(found: Appraisal) -> None:
    """Print all of it."""
    console = Console(soft_wrap=True)
    console.print(Text(f"{found.platform}: {found.status.word}", STYLES.get(found.status, "red")))
    when = datetime.fromtimestamp(found.at / 1000, UTC)
    console.print(f"  judged for {when:%Y-%m-%d %H:%M:%S} UTC", highlight=False)
    if found.facts:
        console.print("\nIt says:", highlight=False)
    width = max(map(len, found.facts), default=0)
    for name, value in found.facts.items():
        console.print(f"  {name:<{width}}  {fact_text(value)}", highlight=False, markup=False)
    if found.reasons:
        console.print("\nOf that:", highlight=False)
    for reason in found.reasons:
        console.print(Text(f"  {reason_text(reason)}", STYLES.get(reason.tier, "red")))
    if found.not_proven:
        console.print("\nNot proven:", highlight=False)
    for one in found.not_proven:
        console.print(f"  {one.code}: {_printable(one.text)}", highlight=False, markup=False)


def fact_text(value: Any) -> str:
    """A fact as people read it."""
    return _printable(json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value))


def reason_text(reason: Reason) -> str:
    """A reason in one line, what it comes to first."""
    return f"{_WORDS.get(reason.tier, 'REFUSED'):<8} {reason.rule}: {_printable(reason.text)}"


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "�" for one in text)
