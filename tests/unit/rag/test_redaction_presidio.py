"""Names by Presidio's own engine, with pipelines of spaCy's that are trained and saved here; what is said where something lacks."""

import importlib
import importlib.util
import random
import shutil
import socket
from pathlib import Path

import pytest

from blindgate_protocol.errors import CorpusError, PolicyError
from blindgate_rag.redaction import Redactor, Rules
from blindgate_rag.redaction.named import opened
from blindgate_rag.redaction.presidio import PresidioRecogniser
from local_sockets import LocalSocket

SENTENCES = [
    ("Dr {} saw {} in {}.", "PERSON", "PERSON", "GPE"),
    ("{} was admitted from {} with a fever.", "PERSON", "GPE"),
    ("The notes of {} were sent to {} on Monday.", "PERSON", "GPE"),
    ("Aspirin was given to {} at noon.", "PERSON"),
    ("The clinic in {} is closed.", "GPE"),
    ("Blood pressure was normal and the fever went.",),
]
PEOPLE = [
    "Amy Jones",
    "Peter Miller",
    "Ingrid Olsen",
    "Rosa Diaz",
    "Omar Haddad",
    "Li Wei",
    "Anna Schmidt",
    "John Smith",
]
SMALL = {
    "@architectures": "spacy.TransitionBasedParser.v2",
    "state_type": "ner",
    "extra_state_tokens": False,
    "hidden_width": 32,
    "maxout_pieces": 2,
    "use_upper": True,
    "tok2vec": {
        "@architectures": "spacy.HashEmbedCNN.v2",
        "width": 32,
        "depth": 2,
        "embed_size": 300,
        "window_size": 1,
        "maxout_pieces": 2,
        "subword_features": True,
        "pretrained_vectors": None,
    },
}
TOWNS = ["Leeds", "Bergen", "Porto", "Graz", "Lyon", "Malmo"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with a small network, trained on sentences of names and towns, as its owner would train or download one."""
    pytest.importorskip("presidio_analyzer", reason="presidio-analyzer is not installed")
    spacy = pytest.importorskip("spacy", reason="spacy is not installed")
    example = importlib.import_module("spacy.training").Example
    chance = random.Random(7)
    spacy.util.fix_random_seed(7)
    nlp = spacy.blank("en")
    nlp.add_pipe("ner", config={"model": SMALL})
    examples = []
    for sentence, *labels in SENTENCES * 12:
        names = [chance.choice(PEOPLE if label == "PERSON" else TOWNS) for label in labels]
        text = sentence.format(*names)
        at, entities = 0, []
        for name, label in zip(names, labels, strict=True):
            at = text.index(name, at)
            entities.append((at, at + len(name), label))
            at += len(name)
        examples.append(example.from_dict(nlp.make_doc(text), {"entities": entities}))
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(6):
        for batch in range(0, len(examples), 8):
            nlp.update(examples[batch : batch + 8], sgd=optimizer)
    folder = tmp_path_factory.mktemp("pipelines") / "en_wards"
    nlp.to_disk(folder)
    return folder


def test_names_and_places_go_where_a_pipeline_finds_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by rules as a policy has them, with no socket; and they are no longer said to be unprotected."""
    monkeypatch.setattr(socket, "socket", LocalSocket)
    redactor = Redactor(Rules.from_table({"recognisers": [f"presidio:{folder}"]}))
    text = "Dr Amy\u200b Jones saw Rosa Diaz in Leeds, amy@example.org. Aspirin was given to Amy Jones at noon."
    redacted = redactor.redact(text)
    assert redacted.text == (
        "Dr [PERSON_1] saw [PERSON_2] in [PLACE_1], [EMAIL_1]. Aspirin was given to [PERSON_1] at noon."
    )
    assert not {"names", "addresses"} & set(redacted.not_protected)
    assert redactor.restore(redacted.text) == text.replace("given to Amy", "given to Amy\u200b")


def test_a_pipeline_is_loaded_once(folder: Path) -> None:
    """A request makes a redactor of its own, and waits for the pipeline no second time."""
    assert opened(f"presidio:{folder}", "")._engine is PresidioRecogniser.open(folder)._engine  # type: ignore[attr-defined]


def test_a_long_text_is_looked_through_to_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, none of which cuts a word."""
    monkeypatch.setattr("blindgate_rag.redaction.presidio._LONGEST", 1_000)
    text = "The clinic in Leeds is closed. " * 100
    assert Redactor(recognisers=[PresidioRecogniser.open(folder)]).redact(text).counts == {"place": 100}


def test_what_a_pipeline_has_no_label_for_is_said_to_be_unprotected(folder: Path, tmp_path: Path) -> None:
    """Presidio itself says PERSON of every pipeline."""
    spacy = importlib.import_module("spacy")
    nlp = spacy.blank("de")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PER", "pattern": "Amy Jones"}])
    nlp.to_disk(tmp_path / "people")
    redacted = Redactor(recognisers=[PresidioRecogniser.open(tmp_path / "people")]).redact("Amy Jones aus Leeds")
    assert redacted.text == "[PERSON_1] aus Leeds"
    assert "names" not in redacted.not_protected
    assert "addresses" in redacted.not_protected
    for labels in ([{"label": "GPE", "pattern": "Leeds"}], []):
        nlp = spacy.blank("en")
        nlp.add_pipe("entity_ruler").add_patterns(labels)
        shutil.rmtree(tmp_path / "towns", ignore_errors=True)
        nlp.to_disk(tmp_path / "towns")
        with pytest.raises(PolicyError, match=r"has no label of persons; it has (GPE|none)"):
            PresidioRecogniser.open(tmp_path / "towns")


def test_what_is_not_there_is_said_and_not_fetched(folder: Path, tmp_path: Path) -> None:
    """Presidio itself would fetch it. Rules that name it may be read, and make no redactor."""
    with pytest.raises(CorpusError, match="names are not protected: no_such_model is not installed"):
        PresidioRecogniser.open("no_such_model")
    rules = Rules.from_table({"recognisers": [f"presidio:{tmp_path}/nothing"]})
    with pytest.raises(CorpusError, match="nothing is no folder with a pipeline of spaCy's"):
        Redactor(rules)
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "ner" / "model").write_bytes(b"\x81\xa4spam")
    with pytest.raises(CorpusError, match="broken is no pipeline that spaCy loads"):
        PresidioRecogniser.open(broken)


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


def test_without_presidio_it_is_said_which_extra_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a pipeline is looked for."""
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "presidio_analyzer" else there(name))
    with pytest.raises(CorpusError, match=r"presidio-analyzer is not installed \(extra `presidio`\)"):
        PresidioRecogniser.open("/no/such/folder")
