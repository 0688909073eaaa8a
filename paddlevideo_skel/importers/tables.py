"""Read text tables such as CSV, with errors that name the row and the column."""
import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import read_text

DELIMITERS = ",;\t"
MISSING_CELLS = ("", "nan", "na", "none", "null")


@dataclass
class Table:
    """Rows of text cells, all of the same length.

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
        """The text ``file: row 7, column 3 (nose_x)`` for messages."""
        name = f" ({self.header[column]})" if self.header else ""
        return f"{self.path}: row {self.lines[row]}, column {column + 1}{name}"

    def numbers(self, columns):
        """The cells of some columns as float64 ``(rows, len(columns))``; a missing value is NaN.

        Raises:
            DataError: a cell is neither missing nor a finite number; names its row and column.
        """
        cells = [[row[c] for c in columns] for row in self.rows]
        array = _as_numbers(cells)
        if array is None:
            array = _as_numbers([["nan" if cell.lower() in MISSING_CELLS else cell for cell in row] for row in cells])
        if array is None or np.isinf(array).any():
            self._refuse_the_first_bad_cell(columns)
        return array.reshape(len(cells), len(columns))

    def _refuse_the_first_bad_cell(self, columns):
        for i, row in enumerate(self.rows):
            for c in columns:
                if not is_number(row[c]) or np.isinf(float(row[c] or "nan")):
                    raise DataError(self.where(i, c), f"found {row[c]!r}, expected a number, or nothing if the "
                                                      "joint is missing", "Write numbers like 12.5")


def _as_numbers(cells):
    """Rows of strings as float64, or None if a text is not a number; by far the fastest check."""
    try:
        return np.array(cells, float)
    except ValueError:
        return None


def is_number(cell):
    """Whether a cell is a number or a missing value."""
    if cell.lower() in MISSING_CELLS:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_table(path, header=None):
    """A ``Table``; its separator is comma, semicolon or tab, the most frequent one in the first row.

    Args:
        header: whether the first row holds the columns' names; None: it does if one of its cells is not a number.

    Raises:
        DataError: the file is missing, not text, or empty, or a row is longer or shorter than the first.
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
        raise DataError(f"{path}: row {reader.line_num}", f"is not a table row ({error})") from error
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise DataError(f"{path}: row {line}", f"has {len(row)} columns, expected {len(rows[0])} as in the first")
    if header is None:
        header = bool(rows) and not all(map(is_number, rows[0]))
    names = [cell.lower() for cell in rows.pop(0)] if header and rows else None
    if not rows:
        raise DataError(path, "has no rows", "Expected a table of numbers separated by commas")
    return Table(Path(path), names, rows, lines[-len(rows):])
