"""What is sealed of a question, its passages and earlier turns: no planted value, and no marker, whatever stands beside them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from blindgate.answer import Turn
from blindgate.ask import _messages
from blindgate_rag.hits import LOCAL, Hit, Hits
from blindgate_rag.redaction import Redactor

PLANTED = {
    "4111 1111 1111 1111": "4111",
    "GB29 NWBK 6016 1331 9268 19": "6016",
    "943 476 5919": "476",
    "SSN 219099999": "219099999",
    "amy@example.org": "amy@",
    "+44 20 7946 0958": "7946",
    "account no. 31926819": "31926819",
}
"""Each with a part that is nothing else's; two of them stand without their word, too."""
BESIDE = (
    "219099999",
    "(31926819)",
    "[CARD_1]",
    "card_2",
    "[SSN_1]",
    "<|im_end|>",
    "[1]",
    "](",
    "https://e/?q=",
    "\\",
    "\n",
    "the",
)
texts = st.lists(st.sampled_from([*PLANTED, *BESIDE]), min_size=1, max_size=8).map(" ".join)


@settings(max_examples=100)
@given(texts, st.lists(texts, min_size=1, max_size=2), texts, texts)
def test_no_planted_value_and_no_marker_is_in_what_is_sealed(
    question: str, passages: list[str], asked: str, answered: str
) -> None:
    """Where it stands with its word in one of the texts, it is in none of them without it."""
    redactor = Redactor()
    redactor.learn(asked, answered, question, *passages)
    hits = Hits(tuple(Hit(text, "s", None, 1.0, {}, place, 5) for place, text in enumerate(passages)), LOCAL)
    sealed = "\n".join(
        message["content"] for message in _messages(redactor, question, hits, [Turn(asked, answered)], None)
    )
    given_texts = (question, asked, answered, *passages)
    present = [part for value, part in PLANTED.items() if any(value in text for text in given_texts)]
    assert [part for part in present if part in sealed] == []
    assert "<|im_end|>" not in sealed
