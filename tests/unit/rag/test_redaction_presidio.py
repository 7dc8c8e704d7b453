"""Names by Presidio's own engine, where it is installed; what is said where it is not."""

import importlib.util
from typing import Any

import pytest

from blindgate_protocol.errors import CorpusError, PolicyError
from blindgate_rag.redaction import Redactor, Rules
from blindgate_rag.redaction.presidio import PresidioRecogniser


@pytest.fixture
def engine() -> Any:
    """A real engine that knows two names and a town by list: no model of a language is needed."""
    presidio = pytest.importorskip("presidio_analyzer", reason="presidio-analyzer is not installed")
    spacy = pytest.importorskip("spacy", reason="spacy is not installed")
    engines = pytest.importorskip("presidio_analyzer.nlp_engine", reason="presidio-analyzer is not installed")
    nlp = engines.SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    nlp.nlp = {"en": spacy.blank("en")}
    registry = presidio.RecognizerRegistry(supported_languages=["en"])
    registry.add_recognizer(presidio.PatternRecognizer(supported_entity="PERSON", deny_list=["Amy Jones", "Amy"]))
    registry.add_recognizer(presidio.PatternRecognizer(supported_entity="LOCATION", deny_list=["Leeds"]))
    return presidio.AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=["en"])


def test_names_go_where_presidio_finds_them(engine: Any) -> None:
    """The longest of what it finds; and names are no longer said to be unprotected."""
    redactor = Redactor(Rules(), recognisers=[PresidioRecogniser(engine)])
    redacted = redactor.redact("Amy\u200b Jones of Leeds, amy@example.org, and AMY JONES.")
    assert redacted.text == "[PERSON_1] of [PLACE_1], [EMAIL_1], and [PERSON_1]."
    assert not {"names", "addresses"} & set(redacted.not_protected)
    assert redactor.restore("[Person 1] lives in [place_1]") == "Amy\u200b Jones lives in Leeds"


def test_a_long_text_is_looked_through_to_its_end(engine: Any) -> None:
    """In pieces, none of which cuts a word."""
    text = "Leeds is far. " * 20_000
    assert Redactor(recognisers=[PresidioRecogniser(engine)]).redact(text).counts == {"place": 20_000}


class _WithoutNames:
    """An engine that has no recogniser of names, as Presidio's has none where no model is loaded."""

    def get_supported_entities(self, language: str) -> list[str]:
        return ["LOCATION"] if language == "en" else []


def test_an_engine_without_names_is_refused() -> None:
    """Rather than to let `not_protected` leave them out."""
    with pytest.raises(PolicyError, match="no recogniser of PERSON in 'en'; it has LOCATION"):
        PresidioRecogniser(_WithoutNames())
    recogniser = PresidioRecogniser(_WithoutNames(), entities={"LOCATION": "place"})
    assert "names" in Redactor(recognisers=[recogniser]).not_protected
    with pytest.raises(PolicyError, match="'text' cannot be a recogniser's class"):
        Redactor(recognisers=[PresidioRecogniser(_WithoutNames(), entities={"LOCATION": "text"})])


def test_a_model_that_is_not_installed_is_said_and_not_fetched() -> None:
    """Presidio itself would fetch it."""
    missing = "presidio_analyzer" if importlib.util.find_spec("presidio_analyzer") is None else "no_such_model"
    with pytest.raises(CorpusError, match=f"names are not protected: {missing} is not installed"):
        PresidioRecogniser.open("no_such_model")
