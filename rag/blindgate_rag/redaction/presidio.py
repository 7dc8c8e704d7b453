"""Names, and places where people live, by Presidio: where it and a model of the language are installed.

Nothing here recognises a name. Presidio's `AnalyzerEngine` does, with a model of spaCy's or another's that its owner chose, and
misses some: `not_protected` then no longer says `names`, and that is all it means.

Presidio fetches a model that is not there. Nothing in retrieval opens a socket, so `PresidioRecogniser.open` looks for the model
first, and leaves out the recogniser of Presidio's that asks for a list of domains.
"""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Self

from blindgate_protocol.errors import CorpusError, PolicyError
from blindgate_rag.redaction.matches import Match

ENTITIES: Final[Mapping[str, str]] = MappingProxyType({"PERSON": "person", "LOCATION": "place"})
"""Presidio's entities that no pattern finds, and the classes that they are here."""
_PROTECTS: Final = {"PERSON": "names", "LOCATION": "addresses"}
_LONGEST: Final = 100_000
"""Characters that the engine is given at once; spaCy refuses a million."""


class PresidioRecogniser:
    """Finds what an `AnalyzerEngine` of Presidio's finds."""

    def __init__(
        self, engine: Any, *, language: str = "en", entities: Mapping[str, str] = ENTITIES, threshold: float = 0.4
    ) -> None:
        """Take an engine.

        Args:
            engine: a `presidio_analyzer.AnalyzerEngine`.
            language: one that the engine has.
            entities: which of its entities, and the class that each is here.
            threshold: how sure it must be, from 0 to 1.

        Raises:
            PolicyError: the engine has not all of these entities in this language, or a class or the threshold is none.
        """
        supported = set(engine.get_supported_entities(language=language))
        if missing := sorted(set(entities) - supported):
            raise PolicyError(
                f"Presidio has no recogniser of {missing[0]} in {language!r}; it has {', '.join(sorted(supported))}"
            )
        if not entities or not 0 <= threshold <= 1:
            raise PolicyError("Presidio's recogniser wants at least one entity, and a threshold from 0 to 1")
        self._engine = engine
        self._language = language
        self._entities = dict(entities)
        self._threshold = threshold
        self.names = frozenset(entities.values())
        self.protects = frozenset(_PROTECTS[entity] for entity in entities if entity in _PROTECTS)

    @classmethod
    def open(cls, model: str, *, language: str = "en") -> Self:
        """With a spaCy model that is installed, `en_core_web_sm` for instance. Raises `CorpusError` where something is not."""
        for module in ("presidio_analyzer", model):
            if not module.isidentifier() or importlib.util.find_spec(module) is None:
                raise CorpusError(f"names are not protected: {module} is not installed")
        presidio = importlib.import_module("presidio_analyzer")
        provider = importlib.import_module("presidio_analyzer.nlp_engine").NlpEngineProvider(
            nlp_configuration={"nlp_engine_name": "spacy", "models": [{"lang_code": language, "model_name": model}]}
        )
        registry = presidio.RecognizerRegistry(supported_languages=[language])
        spacy = importlib.import_module("presidio_analyzer.predefined_recognizers").SpacyRecognizer
        registry.add_recognizer(spacy(supported_language=language))
        engine = presidio.AnalyzerEngine(
            registry=registry, nlp_engine=provider.create_engine(), supported_languages=[language]
        )
        return cls(engine, language=language)

    def find(self, text: str) -> Iterator[Match]:
        """Find all; a long text in pieces that end at a space."""
        start = 0
        while start < len(text):
            end = len(text)
            if end - start > _LONGEST:
                space = text.rfind(" ", start + 1, start + _LONGEST)
                end = space if space > 0 else start + _LONGEST
            for found in self._engine.analyze(
                text=text[start:end],
                language=self._language,
                entities=list(self._entities),
                score_threshold=self._threshold,
            ):
                at, to = start + found.start, start + found.end
                if at < to:
                    yield Match(self._entities[found.entity_type], at, to, " ".join(text[at:to].lower().split()))
            start = end
