"""Tables as text: nothing is lost, whatever the width."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roadrisk.plain_text import TextTable, account_table
from roadrisk.sources.account import Account

WORD = st.text(alphabet="abcxyz0123456789,.", min_size=1, max_size=9)
SENTENCE = st.lists(WORD, min_size=1, max_size=12).map(" ".join)


@st.composite
def tables(draw: st.DrawFn) -> TextTable:
    """A name, words or numbers, and a sentence in each row."""
    header = ("name", *(f"c{i}" for i in range(draw(st.integers(0, 6)))), "meaning")
    row = st.tuples(*(WORD for _ in header[1:]), SENTENCE)
    return TextTable("things", header, tuple(draw(st.lists(row, min_size=1, max_size=4))), header[1:-1])


@given(tables())
def test_in_a_pipe_every_row_is_one_line(table: TextTable) -> None:
    title, *lines = table.lines()
    assert title == "things"
    assert [line.split() for line in lines] == [" ".join(row).split() for row in (table.header, *table.rows)]


@given(tables(), st.integers(40, 100))
def test_in_a_terminal_every_word_stands_within_the_width(table: TextTable, width: int) -> None:
    lines = table.lines(width)
    assert all(len(line) <= width for line in lines)
    words = " ".join(lines).split()
    blocks = words.count("name")
    for i, name in enumerate(table.header):
        for row in (table.header, *table.rows):
            for word in set(row[i].split()):
                assert words.count(word) >= (blocks if i == 0 else 1), (name, word)


def test_numbers_end_below_each_other() -> None:
    table = TextTable("t", ("a", "n", "w"), (("x", "1,234", "p"), ("long", "5", "q")), ("n",))
    assert table.lines() == ["t", "  a         n  w", "  x     1,234  p", "  long      5  q"]


def test_what_does_not_fit_stands_below_with_its_names() -> None:
    table = TextTable("t", ("a", "b", "c"), (("x", "y" * 10, "z z" * 10),))
    assert table.lines(30) == [
        "t",
        "  a  b",
        "  x  yyyyyyyyyy",
        "",
        "  a  c",
        "  x  z zz zz zz zz zz zz zz zz",
        "     zz z",
    ]


def test_an_account_table_holds_every_number_of_the_accounts() -> None:
    crashes = Account(
        "crashes", 60_000, 50_000, {"no date": 1, "no coordinates": 2_372}, 3_627, {"copy": 4_000}
    )
    assert account_table([crashes, Account("roads", 0, 0, {}, 0)]).lines() == [
        "rows of each source",
        "  source     read    used  outside  left out  rejected  reasons",
        "  crashes  60,000  50,000    3,627     4,000     2,373  "
        "left out: copy 4,000; rejected: no coordinates 2,372, no date 1",
        "  roads         0       0        0         0         0",
    ]


def test_no_cell_steers_the_terminal() -> None:
    table = TextTable("t\x1b[2J", ("a\n",), (("\x1b]0;x\x07",), ("\u202e",)))
    assert all(line.isprintable() for line in table.lines())
