"""Values as documents have them, with line ends and what formats leave over; and figures that are nobody's."""

import pytest

from blindgate_rag.redaction import Redactor, Rules
from redaction_cases import DAYS, FIGURES, LEAKS, left_over, marked


@pytest.mark.parametrize("group", LEAKS)
def test_a_value_goes_whole_however_it_is_written(group: str) -> None:
    """No letter or digit of it stays; what stands around it does; and it comes back as it was written."""
    for case in LEAKS[group]:
        text, values = marked(case)
        redactor = Redactor()
        redacted = redactor.redact(text)
        taken = [(span.start, span.end) for span in redacted.spans]
        assert left_over(text, values, taken) == "", case
        assert all(any(start <= at and end <= to for start, to in values) for at, end in taken), case
        assert redactor.restore(redacted.text) == text


@pytest.mark.parametrize("case", DAYS)
def test_a_day_goes_where_the_policy_says_so(case: str) -> None:
    """Whole, however it is written; without the policy's word it stays."""
    text, values = marked(case)
    redacted = Redactor(Rules(dates=True, ages=True)).redact(text)
    assert [(span.start, span.end) for span in redacted.spans] == values
    assert Redactor().redact(text).spans == ()


@pytest.mark.parametrize("text", FIGURES)
def test_figures_of_reports_stay(text: str) -> None:
    """Doses, codes, securities, amounts, lots."""
    assert Redactor().redact(text).spans == ()
