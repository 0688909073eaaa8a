"""Text tables (CSV and the like), read with errors that name the row and the column."""
import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import read_text

DELIMITERS = ",;\t"
EMPTY = ("", "nan", "na", "none", "null")  # cells that say that there is no value


@dataclass
class Table:
    """Rows of text cells, all of one length.

    Attributes:
        header: the columns' names, lower case, or None.
        rows: lists of cells without spaces around them.
        lines: the number of each row in the file, from 1.
    """
    path: Path
    header: list
    rows: list
    lines: list

    def where(self, row, column):
        """``file: row 7, column 3 (nose_x)`` for messages."""
        name = f" ({self.header[column]})" if self.header else ""
        return f"{self.path}: row {self.lines[row]}, column {column + 1}{name}"

    def numbers(self, columns):
        """The cells of some columns as float64 ``(rows, len(columns))``; a cell without a value is NaN.

        Raises:
            DataError: a cell that is neither empty nor a finite number, with its row and column.
        """
        cells = [[row[c] for c in columns] for row in self.rows]
        array = _as_numbers(cells)
        if array is None:
            array = _as_numbers([["nan" if cell.lower() in EMPTY else cell for cell in row] for row in cells])
        if array is None or np.isinf(array).any():
            self._refuse_the_first_bad_cell(columns)
        return array.reshape(len(cells), len(columns))

    def _refuse_the_first_bad_cell(self, columns):
        for i, row in enumerate(self.rows):
            for c in columns:
                if not is_number(row[c]) or np.isinf(float(row[c] or "nan")):
                    raise DataError(self.where(i, c), f"found {row[c]!r}, expected a number, or nothing where the "
                                                      "joint is missing", "Numbers are written like 12.5")


def _as_numbers(cells):
    """Rows of texts as float64, or None if one of them is no number; by far the fastest way to tell."""
    try:
        return np.array(cells, float)
    except ValueError:
        return None


def is_number(cell):
    """Whether a cell is a number, or stands for a missing one."""
    if cell.lower() in EMPTY:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_table(path, header=None):
    """A ``Table``; columns are parted by comma, semicolon or tab, whichever the first row has most of.

    Args:
        header: whether the first row holds the columns' names; None: if one of its cells is no number.

    Raises:
        DataError: no such file, no text, no row, or a row that is longer or shorter than the first.
    """
    text = read_text(path)
    first = text.lstrip().partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}: row {reader.line_num}", f"is no row of a table ({error})") from error
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise DataError(f"{path}: row {line}", f"has {len(row)} columns, expected {len(rows[0])} like the first")
    if header is None:
        header = bool(rows) and not all(map(is_number, rows[0]))
    names = [cell.lower() for cell in rows.pop(0)] if header and rows else None
    if not rows:
        raise DataError(path, "holds no row", "Expected a table of numbers parted by commas")
    return Table(Path(path), names, rows, lines[-len(rows):])
