"""Names, and places where people live, by Presidio: where it and a model of the language are there.

Nothing here recognises a name. Presidio's `AnalyzerEngine` does, with a pipeline of spaCy's that its owner chose, and misses some:
`not_protected` then no longer says `names`, and that is all it means.

1. A pipeline is a folder, or a package that is installed; its language is what it says itself. Presidio fetches one that is
   not there, and nothing in retrieval opens a socket: so it is spaCy that loads it here, and Presidio is handed it.
2. What protects is what the pipeline has labels for. Presidio says PERSON of every pipeline, also of one without names: so the
   labels of its parts that find entities are read. Without one of persons it is refused: `not_protected` would leave names out.
3. Of Presidio's own recognisers none is taken but the one that reads the pipeline's entities: identifiers are for `numbers`,
   `codes` and `contacts` to find, and one of Presidio's asks the network for a list of domains.

A pipeline is data, and its `config.cfg` names functions of what is installed, with arguments: take it from whom you would take a
program from.
"""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from blindgate_protocol.errors import CorpusError, PolicyError
from blindgate_rag.redaction.matches import Match

ENTITIES: Final[Mapping[str, str]] = MappingProxyType({"PERSON": "person", "LOCATION": "place"})
"""Presidio's entities that no pattern finds, and the classes that they are here."""
_PROTECTS: Final = {"PERSON": "names", "LOCATION": "addresses"}
_MORE_LABELS: Final = {"FAC": "LOCATION"}
"""Labels of spaCy's English pipelines that Presidio does not know: buildings, airports, bridges."""
_LONGEST: Final = 100_000
"""Characters that the engine is given at once; spaCy refuses a million."""


class PresidioRecogniser:
    """Finds what an `AnalyzerEngine` of Presidio's finds."""

    def __init__(
        self, engine: Any, language: str = "en", entities: Mapping[str, str] = ENTITIES, *, threshold: float = 0.4
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
    def open(cls, model: str | Path) -> Self:
        """With a pipeline of spaCy's: a folder, or the name of one that is installed (`en_core_web_sm`).

        The same one is loaded once in a process.

        Raises:
            CorpusError: Presidio or the pipeline is not there, or it cannot be read.
            PolicyError: the pipeline has no label of persons.
        """
        return cls(*_engine(model if isinstance(model, str) and model.isidentifier() else str(Path(model).resolve())))

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


@lru_cache(maxsize=4)
def _engine(model: str) -> tuple[Any, str, dict[str, str]]:
    """An engine with a pipeline, the pipeline's language, and which of `ENTITIES` it has labels for."""
    if importlib.util.find_spec("presidio_analyzer") is None:
        message = "names are not protected: presidio-analyzer is not installed (extra `presidio`)"
        raise CorpusError(message)
    if model.isidentifier() and importlib.util.find_spec(model) is None:
        raise CorpusError(f"names are not protected: {model} is not installed; a folder is written with a / in it")
    if not model.isidentifier() and not (Path(model) / "config.cfg").is_file():
        raise CorpusError(
            f"names are not protected: {model} is no folder with a pipeline of spaCy's: it has no config.cfg"
        )
    presidio = importlib.import_module("presidio_analyzer")
    engines = importlib.import_module("presidio_analyzer.nlp_engine")
    # 1.
    try:
        pipeline = importlib.import_module("spacy").load(model if model.isidentifier() else Path(model))
    except Exception as error:  # what a folder's bytes make of a loader is not ours to list
        raise CorpusError(f"names are not protected: {model} is no pipeline that spaCy loads: {error}") from error
    language = pipeline.lang
    # 2.
    known = engines.NerModelConfiguration().model_to_presidio_entity_mapping | _MORE_LABELS
    finding = [name for name in pipeline.pipe_names if "doc.ents" in pipeline.get_pipe_meta(name).assigns]
    labels = sorted({label for name in finding for label in pipeline.pipe_labels[name]})
    found = {known[label] for label in labels if label in known}
    if "PERSON" not in found:
        raise PolicyError(
            f"names are not protected: {model} has no label of persons; it has {', '.join(labels) or 'none'}"
        )
    configuration = engines.NerModelConfiguration(
        model_to_presidio_entity_mapping=known, labels_to_ignore=[label for label in labels if label not in known]
    )
    engine = engines.SpacyNlpEngine(
        models=[{"lang_code": language, "model_name": model}], ner_model_configuration=configuration
    )
    engine.nlp = {language: pipeline}
    # 3.
    registry = presidio.RecognizerRegistry(supported_languages=[language])
    recogniser = importlib.import_module("presidio_analyzer.predefined_recognizers").SpacyRecognizer
    registry.add_recognizer(recogniser(supported_language=language))
    analyzer = presidio.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])
    return analyzer, language, {entity: name for entity, name in ENTITIES.items() if entity in found}
