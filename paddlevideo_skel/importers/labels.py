"""Lists of files with their classes, and what a sample's class is called."""
import re
from pathlib import Path

from ..errors import DataError, near_miss
from ..files import parse_json, read_text
from .tables import read_table

HEADERS = ("file", "filename", "name", "path", "sample", "frame_dir")
MAX_DIGITS = 19  # so that class numbers are 64-bit ones
FORM = "Expected a line 'file,label' for each sample, or JSON: {\"file\": label, …}"


def read_label_list(path):
    """Pairs ``(file, label)`` of texts, in the order of the list.

    Args:
        path: ``.json`` with an object or a list of pairs; any other is a table of two columns, parted by commas,
            semicolons, tabs or, in ``.txt``, spaces. A first row ``file,label`` is left out.

    Raises:
        DataError: naming the file and the row; a file that is listed twice.
    """
    pairs = _from_json(path) if Path(path).suffix.lower() == ".json" else _from_table(path)
    seen = set()
    for name, label in pairs:
        if not name or not label:
            raise DataError(path, f"has an entry without a file or a label: {name!r}, {label!r}", FORM)
        if name in seen:
            raise DataError(path, f"lists {name!r} twice")
        seen.add(name)
    return pairs


def _from_json(path):
    try:
        content = parse_json(read_text(path))
    except ValueError as error:
        raise DataError(path, f"is no JSON ({error})", FORM) from error
    pairs = list(content.items()) if isinstance(content, dict) else content
    if not isinstance(pairs, list) or not pairs:
        raise DataError(path, "holds no labels", FORM)
    for i, pair in enumerate(pairs):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str) or isinstance(
                pair[1], bool) or not isinstance(pair[1], (str, int)):
            raise DataError(f"{path}: entry {i}", f"is {str(pair)[:80]!r}, expected a file and its label", FORM)
    return [(name.strip(), str(label).strip()) for name, label in pairs]


def _from_table(path):
    if Path(path).suffix.lower() == ".txt" and not any(mark in read_text(path) for mark in ",;\t"):
        lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
        numbered = list(enumerate(lines, 1))
    else:
        table = read_table(path, header=False)
        numbered = list(zip(table.lines, table.rows, strict=True))
    if numbered and numbered[0][1][0].lower() in HEADERS:
        numbered = numbered[1:]
    for line, row in numbered:
        if len(row) != 2:
            raise DataError(f"{path}: row {line}", f"has {len(row)} columns, expected 2: file and label", FORM)
    if not numbered:
        raise DataError(path, "holds no labels", FORM)
    return [tuple(row) for _, row in numbered]


def number_labels(labels, where, names=None):
    """Class numbers of labels, and the classes' names.

    Args:
        labels: texts. Where all are whole numbers they are the class numbers; other texts are names, and are numbered
            in alphabetical order.
        where: the list's file, for messages.
        names: the classes' names in the order of their numbers; None: those that occur.

    Returns:
        list of class numbers; list of the classes' names (``class 3`` where there are only numbers).

    Raises:
        DataError: a label that is not among ``names``.
    """
    if all(label.isascii() and label.isdigit() and len(label) < MAX_DIGITS for label in labels):
        numbers = [int(label) for label in labels]
        count = len(names) if names else max(numbers) + 1
        if max(numbers) >= count:
            raise DataError(where, f"the label {max(numbers)} is not among the {count} classes, 0..{count - 1}")
        if count > 100 * len(labels) + 1000:
            raise DataError(where, f"its greatest label is {count - 1}, for {len(labels)} samples",
                            "Classes are numbered from 0, without gaps")
        return numbers, list(names or (f"class {i}" for i in range(count)))
    if all(re.fullmatch(r"[+-]?\d+(\.\d*)?", label) for label in labels):
        raise DataError(where, f"has the labels {', '.join(sorted(set(labels))[:5])}, expected whole numbers from 0, "
                               "or names")
    names = list(names or sorted(set(labels)))
    place = {name: i for i, name in enumerate(names)}
    for label in labels:
        if label not in place:
            raise DataError(where, f"the label {label!r} is not among the class names", near_miss(label, names))
    return [place[label] for label in labels], names


def read_class_names(path):
    """A class a line."""
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names or len(set(names)) != len(names):
        raise DataError(path, f"holds {len(names)} class names, {len(set(names))} different ones",
                        "Expected a name a line, each once")
    return names
