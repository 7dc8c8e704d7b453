"""What becomes placeholders and what stays, beside Presidio's recognisers on the same sentences: `python -m bench.redaction`.

For docs/adr/0030. Sentences are those of `tests/support/redaction_cases.py`, and TAT-QA's paragraphs and tables. A value is found
if no letter or digit of it is left; a sentence of figures is a false alarm if anything is taken out of it. Of Presidio those
recognisers are asked that look for classes which are looked for here, all of them switched on, with the words that they want near a
value, at the score that Blindgate asks for names with. It has no network here: it looks domains up in the list that it carries.

The sentences were written to attack Blindgate, and what leaked was mended: so the table says what Presidio is not made for, and no
more of Blindgate than that these hold. Seconds are of the whole table, TAT-QA included.
"""

import importlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests" / "support")]

from blindgate_rag.redaction import Redactor  # noqa: E402
from redaction_cases import FIGURES, LEAKS, left_over, marked  # noqa: E402
from shared import FOLDER  # noqa: E402

THRESHOLD: Final = 0.4
RECOGNISERS: Final = (
    "CreditCardRecognizer", "IbanRecognizer", "EmailRecognizer", "IpRecognizer", "PhoneRecognizer", "UsSsnRecognizer",
    "UsItinRecognizer", "UsNpiRecognizer", "MedicalLicenseRecognizer", "NhsRecognizer", "UkNinoRecognizer", "InAadhaarRecognizer",
    "EsNifRecognizer", "EsNieRecognizer", "ItFiscalCodeRecognizer", "PlPeselRecognizer", "DeTaxIdRecognizer", "CaSinRecognizer",
)  # fmt: skip
REGIONS: Final = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "BR", "CN", "RU", "IN", "AU", "JP", "CA")

Spans = list[tuple[int, int]]


def blindgate(text: str) -> Spans:
    """Where Blindgate takes something out."""
    return [(span.start, span.end) for span in Redactor().redact(text).spans]


def presidio() -> Callable[[str], Spans]:
    """Where Presidio's recognisers find something."""
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    tldextract: Any = importlib.import_module("tldextract")
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    spacy = importlib.import_module("spacy")
    language = importlib.import_module("spacy.language")
    language.Language.component("lemmas", func=_with_lemmas)
    pipeline = spacy.blank("en")
    pipeline.add_pipe("lemmas")
    engine = importlib.import_module("presidio_analyzer.nlp_engine").SpacyNlpEngine()
    engine.nlp = {"en": pipeline}
    analyzer = importlib.import_module("presidio_analyzer")
    there = importlib.import_module("presidio_analyzer.predefined_recognizers")
    registry = analyzer.RecognizerRegistry(supported_languages=["en"])
    for name in RECOGNISERS:
        named: dict[str, Any] = {"supported_regions": REGIONS} if name == "PhoneRecognizer" else {}
        registry.add_recognizer(getattr(there, name)(supported_language="en", **named))
    asked = analyzer.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])

    def found(text: str) -> Spans:
        return [(each.start, each.end) for each in asked.analyze(text, "en", score_threshold=THRESHOLD)]

    return found


def _with_lemmas(document: Any) -> Any:
    """Words near a value are compared by their lemmas, which an empty pipeline does not give."""
    for token in document:
        token.lemma_ = token.lower_
    return document


def _rows(finders: dict[str, Callable[[str], Spans]]) -> Iterator[dict[str, Any]]:
    for group, cases in LEAKS.items():
        whole = [marked(case) for case in cases]
        found = {
            name: sum(not left_over(text, values, finder(text)) for text, values in whole)
            for name, finder in finders.items()
        }
        yield {"sentences": group, "of": len(cases)} | found
    document = json.loads((FOLDER / "data" / "tatqa_test_gold.json").read_text())
    reports = [paragraph["text"] for each in document for paragraph in each["paragraphs"]]
    reports += ["\n".join("\t".join(row) for row in each["table"]["table"]) for each in document]
    for name, texts in {"figures": FIGURES, "TAT-QA, where one telephone number stands": reports}.items():
        alarms = {called: sum(bool(finder(text)) for text in texts) for called, finder in finders.items()}
        yield {"sentences": f"{name}: taken out of", "of": len(texts)} | alarms


def main() -> None:
    """Print the table, and keep it."""
    asked = presidio()
    seconds = dict.fromkeys(("Blindgate", "Presidio"), 0.0)

    def timed(name: str, finder: Callable[[str], Spans]) -> Callable[[str], Spans]:
        def find(text: str) -> Spans:
            begun = time.process_time()
            found = finder(text)
            seconds[name] += time.process_time() - begun
            return found

        return find

    finders = {"Blindgate": timed("Blindgate", blindgate), "Presidio": timed("Presidio", asked)}
    rows = list(_rows(finders))
    rows.append({"sentences": "seconds", "of": 1} | {name: round(each, 1) for name, each in seconds.items()})
    (HERE / "results" / "redaction.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in names) + " |")


if __name__ == "__main__":
    main()
