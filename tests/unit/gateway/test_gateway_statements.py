"""Statements with lists: written out once for each length, and right for every list of that length."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import bindparam, literal_column, select

from blindgate_gateway.database import prepared
from blindgate_gateway.database.statements import MOST_LENGTHS, Prepared
from blindgate_gateway.tables import blobs
from desk import Desk, open_desk


def listed() -> Prepared:
    """A statement with two lists and a number: a row where `b` and 2 are among them, and the number is small."""
    return prepared(
        select(literal_column("1").label("one")).where(
            literal_column("'b'").in_(bindparam("letters", expanding=True)),
            literal_column("2").in_(bindparam("numbers", expanding=True)),
            bindparam("least", type_=blobs.c.size.type) <= literal_column("7"),
        )
    )


def found(desk: Desk, statement: Prepared, letters: list[str], numbers: list[int], least: int = 0) -> bool:
    """Whether there is that row."""
    given = {"letters": letters, "numbers": numbers, "least": least}
    return desk.parts.database.look(statement, given) is not None


@pytest.fixture
def desk(tmp_path: Path, database_url: str | None) -> Iterator[Desk]:
    """A gateway in this process, for its database."""
    with open_desk(tmp_path / "gateway", database=database_url) as desk:
        yield desk


def test_each_list_is_asked_for_its_own_values(desk: Desk) -> None:
    """A text that was kept for these lengths is given each time's own values."""
    statement = listed()
    assert found(desk, statement, ["a", "b"], [2])
    assert not found(desk, statement, ["a", "c"], [2])  # the same lengths, other values
    assert found(desk, statement, ["b", "c"], [2])
    assert not found(desk, statement, ["b", "c"], [3])
    assert not found(desk, statement, ["b", "c"], [2], least=8)
    assert found(desk, statement, ["x", "y", "b"], [1, 2])
    assert not found(desk, statement, ["x", "b"], [1])  # lengths that changed places
    assert found(desk, statement, ["b"], [1, 2])


def test_nothing_is_in_an_empty_list(desk: Desk) -> None:
    """An empty list is a list like another."""
    statement = listed()
    for _ in range(2):
        assert not found(desk, statement, [], [2])
        assert not found(desk, statement, ["b"], [])
        assert found(desk, statement, ["b"], [2])


def test_texts_are_kept_for_so_many_lengths_and_no_more(desk: Desk) -> None:
    """Lengths that a caller chooses fill no memory, and are right beyond what is kept."""
    statement = listed()
    for length in range(1, 2 * MOST_LENGTHS):
        assert found(desk, statement, ["b"] * length, [2])
    with desk.parts.database.read() as connection:
        assert len(statement.text(connection.dialect)._written_out) == MOST_LENGTHS
    assert found(desk, statement, ["b"] * 2, [2])
