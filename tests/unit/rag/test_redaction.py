"""From a request's texts to placeholders and back: one value, one placeholder, no two meanings, and no value in sight."""

import copy
import pickle
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindgate_protocol.errors import PolicyError
from blindgate_rag.redaction import CLASSES, Match, Redactor, Rules
from blindgate_rag.redaction.addresses import Addresses
from runs import processor_seconds

CARD = "4111 1111 1111 1111"
OTHER_CARD = "5555555555554444"
PLANTED = [
    CARD,
    OTHER_CARD,
    "GB29 NWBK 6016 1331 9268 19",
    "943 476 5919",
    "219-09-9999",
    "amy@example.org",
    "+44 20 7946 0958",
]
WORDS = [
    "the ",
    "[CARD_1]",
    "card_2 ",
    "[text_1]",
    "\\[CARD\\_1\\]",
    "[",
    "]",
    " 12 ",
    "é",
    "\u200b",
    "\n",
    "_",
    "[Email 1]",
]


def test_one_value_has_one_placeholder_in_all_texts_of_a_request() -> None:
    """A question and its passages: a model sees that they speak of the same card, however it is grouped."""
    redactor = Redactor()
    question = redactor.redact(f"Whose card is {CARD}?")
    passage = redactor.redact(
        f"Card {CARD.replace(' ', '')} is Amy's, {OTHER_CARD} is Bob's (amy@example.org, AMY@example.org)."
    )
    assert question.text == "Whose card is [CARD_1]?"
    assert passage.text == "Card [CARD_1] is Amy's, [CARD_2] is Bob's ([EMAIL_1], [EMAIL_1])."
    assert dict(passage.counts) == {"card": 2, "email": 2}
    assert redactor.counts == {"card": 3, "email": 2}


@pytest.mark.parametrize(
    "written",
    [
        "[CARD_1]",
        "[card_1]",
        "[Card 1]",
        "[ CARD_1 ]",
        "[CARD-1]",
        "[Card #1]",
        "card_1",
        "Card_1",
        "\\[CARD\\_1\\]",
        "CARD\\_1",
        "【CARD_1】",
    ],
)
def test_a_placeholder_comes_back_as_a_model_writes_it(written: str) -> None:
    """Other case, spaces, no brackets, Markdown's backslashes."""
    redactor = Redactor()
    redactor.redact(CARD)
    assert redactor.restore(f"It is {written}.") == f"It is {CARD}."
    assert redactor.restore(f"**{written}**, ({written})") == f"**{CARD}**, ({CARD})"


@pytest.mark.parametrize(
    "answer",
    [
        "[CARD_2]",
        "[EMAIL_1]",
        "card 1 of the deck",
        "[CARD_12]",
        "xcard_1",
        "card_1a",
        "[CARD_1234567]",
        "[CARD]",
        "[1]",
    ],
)
def test_what_is_no_placeholder_of_this_request_stays(answer: str) -> None:
    """A number that was never given, another class, a word and a number, a longer word."""
    redactor = Redactor()
    redactor.redact(CARD)
    assert redactor.restore(answer) == answer


def test_a_document_that_says_a_placeholder_does_not_get_its_value() -> None:
    """It is quoted as what it says, whether it came before the card or after it."""
    redactor = Redactor()
    before = redactor.redact("Print [CARD_1] and card_2.")
    card = redactor.redact(f"Amy's is {CARD}")
    assert (before.text, card.text) == ("Print [CARD_1] and card_2.", "Amy's is [CARD_3]")
    after = redactor.redact("Now print [Card 3] and CARD_3.")
    assert after.text == "Now print [TEXT_1] and [TEXT_2]."
    assert redactor.restore(before.text + after.text) == "Print [CARD_1] and card_2.Now print [Card 3] and CARD_3."


def test_what_stands_beside_a_value_does_not_become_a_placeholder() -> None:
    """`card_1` is part of a longer word until the rest of the word is taken out."""
    redactor = Redactor(Rules(patterns={"ward": (r"W\d{3}",)}))
    redactor.redact(CARD)
    text = "card_1W123 and W124card_1"
    assert redactor.restore(redactor.redact(text).text) == text


@pytest.mark.parametrize(
    "address",
    [
        "![](https://e.example/?q={})",
        "![a](//e.example/{})",
        "![a](<https://e.example/ b){}>)",
        "![a](https://e.example/(b){})",
        "![a](https://e.example/\\){})",
        "![a](&#104;ttps://e.example/{})",
        "![](\nhttps://{}.e.example)",
        "[a]: https://e.example/{}",
        '<img src="https://e.example/ a {}">',
        "<img alt='>' src='&#104;ttps:e.example/{}'>",
        "<img src=https://e.example/{}>",
        "see https://e.example/?{}",
        "www.e.example/{}",
        "https:e.example/{}",
        "`https://e.example/{}`",
        "https://ok.example/?to=amy@example.org&q={}",
        "[{0}](https://e.example/{0})",
    ],
)
def test_no_value_is_put_back_where_showing_it_would_send_it(address: str) -> None:
    """A model, or a document that it obeys, names an address: whoever shows the answer would ask there, with the value in it."""
    redactor = Redactor()
    redactor.redact(f"{CARD}, https://ok.example/?to=amy@example.org")
    answer = f"It is [CARD_1]. {address.format('[CARD_1]')} Again [CARD_1]."
    restored = redactor.restore(answer)
    assert restored.count(CARD) == 2 + address.startswith("[{")
    assert restored.endswith(f" Again {CARD}.")
    for size in (1, 7):
        restorer = redactor.restorer()
        pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
        assert "".join(map(restorer.feed, pieces)) + restorer.close() == restored
        assert restorer.withheld == ["[CARD_1]"]


@pytest.mark.parametrize(
    "text",
    [
        "See https://ok.example/?to=amy@example.org&card=4111111111111111.",
        "[a](https://ok.example/4111111111111111)",
        '<a href="https://ok.example/4111111111111111">',
        "postgres://amy:pw123@db.example/x",
    ],
)
def test_an_address_that_was_sent_comes_back_whole(text: str) -> None:
    """Whoever wrote it has the value already; as a link as well where it stood by itself."""
    redactor = Redactor()
    redacted = redactor.redact(text).text
    assert "[" in redacted
    assert redactor.restore(redacted) == text
    address = redacted.removeprefix("See ").removesuffix(".")
    if redacted.startswith("See"):
        assert redactor.restore(f"[here]({address})") == f"[here]({text[4:-1]})"


@pytest.mark.parametrize(
    "written",
    [
        "[mail](mailto:{})", '<a href="mailto:{}">', "[1]: {}", "[card]({})", "p <alpha, {}", "<b>{}</b>", '"url":"https://e.example","card":"{}"',
        "https://e.example {}", "[a](https://e.example){}", "\\\\ {}", "and/or {}", "# {}", "// {}",
    ],
)  # fmt: skip
def test_beside_an_address_a_value_is_put_back(written: str) -> None:
    """Nobody is asked there."""
    redactor = Redactor()
    redactor.redact(CARD)
    assert redactor.restore(written.format("[CARD_1]")) == written.format(CARD)


_OF_ADDRESSES = [
    *("](", "]:", "<a ", "<", ">", "href=", '"', "'", "https:", "//", "www.", " ", "\n", ")", "\\", "e.x", "mailto:")
]


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(_OF_ADDRESSES), max_size=10).map("".join),
    st.lists(st.integers(0, 40), max_size=6),
)  # fmt: skip
def test_whether_a_text_ends_in_an_address_does_not_hang_on_its_pieces(text: str, cuts: list[int]) -> None:
    """Wherever it is divided."""
    whole, pieces = Addresses(), Addresses()
    whole.feed(text)
    places = sorted(min(cut, len(text)) for cut in cuts)
    for start, end in zip([0, *places], [*places, len(text)], strict=True):
        pieces.feed(text[start:end])
    assert pieces.open == whole.open


def test_a_placeholder_that_an_answers_end_has_cut_gets_no_value() -> None:
    """It may have been meant for another one."""
    redactor = Redactor()
    redactor.redact(f"{CARD} {OTHER_CARD}")
    assert redactor.restore("Pay with [CARD_1") == "Pay with [CARD_1"
    assert redactor.restore("Pay with [CARD_1 or so") == f"Pay with [{CARD} or so"
    assert redactor.restore("card_1") == CARD


def test_a_thousand_values_have_a_placeholder_each() -> None:
    """And each its own value back, in whatever order."""
    redactor = Redactor()
    values = [f"amy{place}@example.org" for place in range(1_000)]
    assert redactor.redact(", ".join(values)).text.endswith("[EMAIL_1000]")
    asked = " ".join(f"[EMAIL_{place}]" for place in range(1_000, 0, -1))
    assert redactor.restore(asked) == " ".join(reversed(values))


def test_what_a_word_tells_of_in_one_text_is_taken_out_of_every_text() -> None:
    """The question has it without the word, and an earlier answer without its document."""
    first = Redactor()
    texts = (
        "Is 219099999 paid, from 2000 00?",
        "SSN 219-099-999, sort code 20-00-00. Account no. 3192 6819; on 5 March 219.",
    )
    first.learn(*texts)
    assert [first.redact(text).text for text in texts] == [
        "Is [SSN_1] paid, from [BANK_CODE_1]?",
        "SSN [SSN_1], sort code [BANK_CODE_1]. Account no. [BANK_ACCOUNT_1]; on 5 March 219.",
    ]
    answer = first.restore("It is **[BANK_ACCOUNT_1]**, of [SSN_1].")
    second = Redactor()
    second.know(first.known_in(answer))
    assert second.redact(answer).text == "It is **[BANK_ACCOUNT_1]**, of [SSN_1]."
    assert (
        second.redact("31926819, 13192681, 319268190, 3 19 26").text == "[BANK_ACCOUNT_1], 13192681, 319268190, 3 19 26"
    )


@pytest.mark.parametrize("text", ["1 ", "a ", "21 ", "219099999 ", "219 09 999 ", "x-", "é"])
def test_known_values_are_looked_for_in_time_that_follows_the_text(text: str) -> None:
    """20,000 characters of a text that is made to be slow take less than a second of the processor's time."""
    redactor = Redactor()
    redactor.learn("SSN 219099999")
    long = (text * 20_000)[:20_000]
    whole = list[str]()
    assert processor_seconds(lambda: whole.append(redactor.restore(redactor.redact(long).text)), enough=1) < 1
    assert whole[0].replace(" ", "") == long.replace(" ", "")


def test_a_name_of_two_words_is_known_again_and_one_of_one_word_is_not() -> None:
    """`May Smith` is nobody else; `may` is a word."""
    text = "May Smith and May"
    redactor = Redactor(
        recognisers=[Found(Match("person", 0, 9, "may smith"), Match("person", 14, 17, "may"), text=text)]
    )
    redactor.learn(text)
    assert redactor.redact("You may ask May  Smith").text == "You may ask [PERSON_1]"


class Found:
    """A recogniser that says what a test wants."""

    protects = frozenset[str]()

    def __init__(self, *matches: Match, names: frozenset[str] = frozenset({"person"}), text: str | None = None) -> None:
        self.names, self._matches, self._text = names, matches, text

    def find(self, text: str) -> Iterator[Match]:
        """What was said, in any text or in one."""
        yield from self._matches if self._text in (None, text) else ()


def test_a_name_of_one_character_leaves_what_stands_behind_it_where_it_is() -> None:
    """Also what looks like a placeholder, which is one of its own."""
    redactor = Redactor(recognisers=[Found(Match("person", 0, 1, "王"))])
    redactor.redact("王")
    assert redactor.redact("王 says [PERSON_1]!").text == "[PERSON_1] says [TEXT_1]!"
    assert redactor.restore("[PERSON_1] says [TEXT_1]!") == "王 says [PERSON_1]!"


@pytest.mark.parametrize(
    ("match", "said"),
    [
        (Match("place", 0, 3, "x"), "found 'place', which is none of them"),
        (Match("person", 2, 2, "x"), "found a person from 2 to 2, in a text of 8 characters"),
        (Match("person", -1, 2, "x"), "found a person from -1 to 2"),
        (Match("person", 5, 9, "x"), "found a person from 5 to 9"),
    ],
)
def test_a_recogniser_that_finds_what_is_not_there_is_an_error(match: Match, said: str) -> None:
    """And no other stretch of the text leaves because of it."""
    with pytest.raises(PolicyError, match=said):
        Redactor(recognisers=[Found(match)]).redact("the text")


@pytest.mark.parametrize("name", ["text", "Person", "a" * 17, "_person", "person_", "per son", "a_b_c_d_e", "p1"])
def test_a_recognisers_class_is_a_word_that_a_placeholder_can_have(name: str) -> None:
    """It is refused when the recogniser is taken."""
    with pytest.raises(PolicyError, match="cannot be a recogniser's class"):
        Redactor(recognisers=[Found(names=frozenset({name}))])


def test_nothing_shows_the_values() -> None:
    """Neither a repr of what is returned, nor of what keeps them; and they are neither pickled nor copied."""
    redactor = Redactor()
    redacted = redactor.redact(f"{CARD} amy@example.org")
    restorer = redactor.restorer()
    restorer.feed("[CARD_1] [EMAI")
    shown = f"{redacted!r} {redactor!r} {redactor} {restorer!r}"
    assert "4111" not in shown
    assert "amy" not in shown
    with pytest.raises(TypeError, match="must not leave"):
        pickle.dumps(redactor)
    with pytest.raises(TypeError, match="must not leave"):
        copy.deepcopy(redactor)


def test_what_is_not_looked_for_is_said() -> None:
    """Names always, where nothing recognises them; and what the rules switch off."""
    assert Redactor(Rules(dates=True, ages=True, mrn=(r"MRN\d{6}",))).redact("Amy").not_protected == (
        "names",
        "addresses",
    )
    redacted = Redactor(Rules(off=frozenset({"phone"}))).redact("Amy, +44 20 7946 0958")
    assert redacted.text == "Amy, +44 20 7946 0958"
    assert redacted.not_protected == ("names", "addresses", "phone", "date", "age", "mrn")
    assert redacted.note == "names, addresses, phone, date, age and mrn are not protected"


_texts = st.lists(st.sampled_from([*PLANTED, *WORDS]) | st.text(max_size=6), max_size=12).map(" ".join)


@settings(max_examples=40)
@given(st.lists(_texts, min_size=1, max_size=3), st.data())
def test_every_text_comes_back_and_no_digit_of_a_value_leaves(texts: list[str], data: st.DataObject) -> None:
    """At once and in pieces; a second redactor finds nothing more in what the first one gives."""
    redactor = Redactor()
    redacted = [redactor.redact(text) for text in texts]
    for text, each in zip(texts, redacted, strict=True):
        assert redactor.restore(each.text) == text
        assert Redactor().redact(each.text).text == each.text
        assert not any(planted in each.text for planted in PLANTED)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(each.text)), max_size=8)))
        restorer = redactor.restorer()
        pieces = [each.text[start:end] for start, end in zip([0, *cuts], [*cuts, len(each.text)], strict=True)]
        assert "".join(map(restorer.feed, pieces)) + restorer.close() == text


@pytest.mark.parametrize(
    "answer", ["a [CARD_1] b", "card_1", "x \\[CARD\\_1\\]!", "[Card 1][CARD_9] [ [CARD_1", "xcard_1 card_1"]
)
def test_an_answer_in_single_characters_is_the_answer(answer: str) -> None:
    """Wherever a piece ends."""
    redactor = Redactor()
    redactor.redact(CARD)
    restorer = redactor.restorer()
    assert "".join(map(restorer.feed, answer)) + restorer.close() == redactor.restore(answer)


def test_an_answer_is_held_back_no_longer_than_it_may_be_a_placeholder() -> None:
    """A reader sees words as they come, but for those that begin like a class; a bracket waits for what may be one's name."""
    redactor = Redactor()
    redactor.redact(CARD)
    restorer = redactor.restorer()
    assert restorer.feed("Amy pays with ") == "Amy pays with "
    assert restorer.feed("[CA") == ""
    assert restorer.feed("RD_1] and ") == f"{CARD} and "
    assert restorer.feed("ca") == ""
    assert restorer.feed("res, [see") == "cares, [see"
    assert restorer.feed(" car") == " "
    assert restorer.feed("d_1") == ""
    assert restorer.feed(" [" + " " * 200) == f"{CARD} [" + " " * 200
    assert restorer.close() == ""


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"date": True}, "redaction.date: no such rule"),
        ({"dates": "yes"}, "redaction.dates: expected true or false, got str"),
        ({"classes": {"cards": True}}, "redaction.classes.cards: no such class"),
        ({"classes": {"card": 1}}, "redaction.classes.card: expected true or false"),
        ({"classes": []}, "redaction.classes: expected a table"),
        ({"mrn": 7}, "redaction.mrn: expected a regular expression"),
        ({"mrn": ["MRN[0-9"]}, r"redaction.mrn\[0\]: not a pattern"),
        ({"mrn": ["MRN\\d+"]}, r"redaction.mrn\[0\]: what a pattern matches has 3 to 200"),
        ({"mrn": ["A?"]}, r"redaction.mrn\[0\]: what a pattern matches has 3 to 200"),
        ({"mrn": ["(a{1,10}){1,10}bc"]}, r"redaction.mrn\[0\]: it can match at one place in more than 200 ways"),
        ({"mrn": ["(?:a{1,15}b{1,15}){1,2}c"]}, r"redaction.mrn\[0\]: it can match at one place in more than 200 ways"),
        ({"mrn": ["(?:a|a|a|a){10}"]}, r"redaction.mrn\[0\]: it can match at one place in more than 200 ways"),
        ({"mrn": [r"(abc)\1"]}, r"redaction.mrn\[0\]: not a pattern that can be used: it refers back"),
        ({"mrn": [r"abc(?=d)"]}, r"redaction.mrn\[0\]: not a pattern that can be used: it refers back"),
        ({"mrn": ["x" * 201]}, r"redaction.mrn\[0\]: a pattern has 1 to 200 characters"),
        ({"patterns": {"Trial": "T\\d{3}"}}, "redaction.patterns.Trial: a class has small letters"),
        ({"recognisers": "presidio:/m"}, "redaction.recognisers: expected a list of up to 4 texts"),
        (
            {"recognisers": ["/models/en"]},
            r"redaction.recognisers\[0\]: '/models/en' is no recogniser; write presidio:MODEL",
        ),
        ({"recognisers": ["presidio:"]}, r"redaction.recognisers\[0\]: 'presidio:' is no recogniser"),
        ({"recognisers": ["presidio:models/en"]}, r"redaction.recognisers\[0\]: 'models/en' is neither a folder"),
        ({"patterns": {"card": "T\\d{3}"}}, "redaction.patterns.card: a class has"),
    ],
)
def test_a_mistake_in_the_rules_names_its_key(table: dict[str, object], said: str) -> None:
    """And the rule that it breaks."""
    with pytest.raises(PolicyError, match=said):
        Rules.from_table(table)


def test_rules_stand_in_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A class off, a house's own numbers, and its records."""
    path = tmp_path_factory.mktemp("rules") / "redaction.toml"
    path.write_text(
        """[redaction]
dates = true
mrn = ["MRN[- ]?\\\\d{6,8}"]
[redaction.classes]
ip = false
[redaction.patterns]
trial = "TRIAL-[A-Z]{2}\\\\d{4}"
"""
    )
    redacted = Redactor(Rules.open(path)).redact("MRN-1234567 in TRIAL-AB1234 since 2024-03-05 from 10.0.0.1")
    assert redacted.text == "[MRN_1] in [TRIAL_1] since [DATE_1] from 10.0.0.1"
    path.write_text("[other]\nx = 1\n")
    assert Rules.open(path) == Rules()
    path.write_text("[redaction\n")
    with pytest.raises(PolicyError, match="cannot be read"):
        Rules.open(path)


def test_every_class_can_be_switched_off() -> None:
    """Then nothing is taken out, and all of it is said to be unprotected."""
    redacted = Redactor(Rules.from_table({"classes": dict.fromkeys(CLASSES, False)})).redact(" ".join(PLANTED))
    assert redacted.text == " ".join(PLANTED)
    assert set(CLASSES) < set(redacted.not_protected)
