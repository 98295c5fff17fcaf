"""Tables in terminals of any width: what stands where, cell by cell."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tq.cli.table import Cell, Column, Drawn, draw, shortened

COLUMNS = [
    Column("id"),
    Column("state"),
    Column("type", is_text=True),
    Column("attempt", to_right=True),
    Column("reason", is_text=True),
]
ROWS = [
    ["0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90", "running", "thumbnail.of.a.picture", "1", ""],
    ["0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c91", "dead", "mail", "12", "attempts"],
]


def drawn(width: int, rows: list[list[str]] = ROWS) -> Drawn:
    return draw(COLUMNS, [[Cell(text) for text in row] for row in rows], width)


def text(width: int, rows: list[list[str]] = ROWS) -> str:
    return "\n".join("".join(piece.text for piece in line).rstrip() for line in drawn(width, rows).lines)


def test_wide() -> None:
    assert text(160) == (
        "id                                    state    type                    attempt  reason\n"
        "0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90  running  thumbnail.of.a.picture        1\n"
        "0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c91  dead     mail                         12  attempts"
    )
    assert drawn(160).hidden == []


def test_narrow_shortens_long_texts_first() -> None:
    assert text(80) == (
        "id                                    state    type            attempt  reason\n"
        "0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90  running  thumbnail.of.…        1\n"
        "0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c91  dead     mail                 12  attempts"
    )
    assert drawn(80).hidden == []


def test_narrower_leaves_out_the_last_columns_and_says_which() -> None:
    assert text(62) == (
        "id                                    state    type\n"
        "0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90  running  thumbnail.of.a…\n"
        "0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c91  dead     mail"
    )
    assert drawn(62).hidden == ["attempt", "reason"]


def test_the_first_column_is_whole_in_any_case() -> None:
    assert text(10) == f"id\n{ROWS[0][0]}\n{ROWS[1][0]}"


def test_what_is_empty_in_each_row_needs_no_room() -> None:
    assert text(160, [["a", "dead", "", "", ""]]) == "id  state\na   dead"
    assert drawn(160, [["a", "dead", "", "", ""]]).hidden == []


def test_numbers_stand_at_the_right_and_styles_go_with_their_cells() -> None:
    table = draw(
        [Column("id"), Column("n", to_right=True)], [[Cell("a"), Cell("7", "red")], [Cell("b"), Cell("700")]], 80
    )
    assert [[(piece.text, piece.style) for piece in line] for line in table.lines] == [
        [("id  ", "bold"), ("  n", "bold")], [("a   ", None), ("  7", "red")], [("b   ", None), ("700", None)]
    ]  # fmt: skip


def test_wide_characters_count_twice() -> None:
    assert shortened("東京都庁舎", 7) == "東京都…"
    table = draw([Column("a", is_text=True), Column("b")], [[Cell("東京"), Cell("x")], [Cell("four"), Cell("y")]], 80)
    assert {cell_len(line[0].text) for line in table.lines} == {6}


@given(
    st.integers(1, 200),
    st.lists(st.lists(st.text("abc …東é", max_size=60), min_size=5, max_size=5), min_size=1, max_size=5),
)
def test_no_line_is_wider_than_the_terminal_but_for_the_first_column(width: int, rows: list[list[str]]) -> None:
    first = max(2, *(cell_len(row[0]) for row in rows))
    table = drawn(width, rows)
    for line in table.lines:
        assert cell_len("".join(piece.text for piece in line)) <= max(width, first)
    assert len({cell_len("".join(piece.text for piece in line)) for line in table.lines}) == 1, (
        "all lines end at one place"
    )
    used = [column.title for at, column in enumerate(COLUMNS) if at == 0 or any(row[at] for row in rows)]
    assert used[: len(table.lines[0])] + table.hidden == used
