"""Tables as plain text: aligned for a terminal, one row a line for a pipe."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from roadrisk.sources.account import Account

GAP = 2
LEAST_WRAPPED = 28  # narrower than this, a column of words is a tower


@dataclass(frozen=True)
class TextTable:
    """Rows of words and numbers with a title.

    Parameters
    ----------
    rows : as many cells each as `header`.
    numbers : the columns that are aligned at their right.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()

    def lines(self, width: int | None = None) -> list[str]:
        r"""The title and the rows, indented.

        Parameters
        ----------
        width : most characters a line. What does not fit stands below, after the first column once more,
            and the last column is wrapped. None is for pipes: one row a line, however long.

        Examples
        --------
        >>> rows = (("crashes", "56,028"), ("roads", "9"))
        >>> table = TextTable("sources", ("source", "read"), rows, numbers=("read",))
        >>> print(*table.lines(), sep="\n")
        sources
          source     read
          crashes  56,028
          roads         9
        """
        cells = [tuple(plain(cell) for cell in row) for row in (self.header, *self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.header))]
        said = [plain(self.title)]
        for n, block in enumerate(_blocks(widths, width)):
            said += [""] if n else []
            room = None if width is None else width - sum(GAP + widths[i] for i in block[:-1]) - GAP
            for row in cells:
                said += self._row_lines(row, block, widths, room)
        return said

    def _row_lines(
        self, row: Sequence[str], block: list[int], widths: list[int], room: int | None
    ) -> Iterator[str]:
        last = block[-1]
        wrapped = room is not None and widths[last] > room
        parts = textwrap.wrap(row[last], max(room or 1, 1)) if wrapped else [row[last]]
        for n, part in enumerate(parts or [""]):
            line = ""
            for i in block:
                text = part if i == last else row[i] if n == 0 else ""
                aligned = text.rjust if self.header[i] in self.numbers else text.ljust
                line += " " * GAP + aligned(len(text) if i == last and wrapped else widths[i])
            yield line.rstrip()


def account_table(accounts: Sequence[Account]) -> TextTable:
    r"""What became of the rows of every source.

    Examples
    --------
    >>> crashes = Account("crashes", 56028, 50000, {"no coordinates": 2372}, 3656)
    >>> print(*account_table([crashes, Account("roads", 7, 7, {}, 0)]).lines(), sep="\n")
    rows of each source
      source     read    used  outside  left out  rejected  reasons
      crashes  56,028  50,000    3,656         0     2,372  rejected: no coordinates 2,372
      roads         7       7        0         0         0
    """
    header = ("source", "read", "used", "outside", "left out", "rejected", "reasons")
    rows = tuple(
        (
            a.source,
            *(f"{n:,}" for n in (a.read, a.used, a.outside, a.left_out_rows, a.rejected_rows)),
            "; ".join(
                f"{what}: {reasons}"
                for what, reasons in (("left out", a.left_out_reasons), ("rejected", a.reasons))
                if reasons
            ),
        )
        for a in accounts
    )
    return TextTable("rows of each source", header, rows, header[1:6])


def plain(text: str) -> str:
    r"""The text in one line, without characters that could steer a terminal.

    >>> plain("a\x1b[31m\nb")
    'a [31m b'
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _blocks(widths: list[int], width: int | None) -> list[list[int]]:
    """Columns that stand side by side; every block begins with the first column."""
    if width is None:
        return [list(range(len(widths)))]
    blocks = [[0]]
    used = GAP + widths[0]
    for i in range(1, len(widths)):
        least = min(widths[i], LEAST_WRAPPED) if i == len(widths) - 1 else widths[i]
        if used + GAP + least > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = GAP + widths[0]
        blocks[-1].append(i)
        used += GAP + widths[i]
    return blocks
