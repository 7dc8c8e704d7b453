"""The characters that Word keeps as places in a symbol font: `≥`, `µ` and the ticks of a form are often written so.

Symbol's places are Adobe's Symbol encoding. Of Wingdings only what forms are made of is told.
"""

from typing import Final

UNKNOWN: Final = "\ufffd"
"""Stands for a symbol that is not told: a reader sees that something is missing."""

_SYMBOL_FROM_20: Final = (
    " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧ∆ΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_\ufffdαβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"  # noqa: RUF001
)
_SYMBOL_FROM_A0: Final = "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…\ufffd\ufffd↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑"  # noqa: RUF001
_FONTS: Final = {
    "symbol": {0x20 + place: shown for place, shown in enumerate(_SYMBOL_FROM_20)}
    | {0xA0 + place: shown for place, shown in enumerate(_SYMBOL_FROM_A0)},
    "wingdings": {0x6C: "●", 0x6E: "■", 0x6F: "☐", 0xA7: "▪", 0xA8: "☐", 0xD8: "➢", 0xE0: "→", 0xFB: "☒", 0xFC: "✓"}
    | {0xFD: "☒", 0xFE: "☑"},
}
_PRIVATE: Final = 0xF000  # where Word puts a symbol font's places


def symbol(font: str, place: str) -> str:
    """The character at a place of a font.

    Args:
        font: its name, in any case.
        place: hexadecimal, as `w:sym` has it.
    """
    try:
        code = int(place, 16)
    except ValueError:
        return UNKNOWN
    return _FONTS.get(font.lower(), {}).get(code - _PRIVATE if code >= _PRIVATE else code, UNKNOWN)
