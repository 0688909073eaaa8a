"""Lists of files and labels, and class names."""
import re
from pathlib import Path

from ..errors import DataError, near_miss, shorten_list
from ..files import parse_json, read_text
from .tables import read_table

LIST_HEADERS = ("file", "filename", "name", "path", "sample", "frame_dir")
MAX_CLASS_DIGITS = 19  # class numbers must fit into 64 bits
LIST_HINT = "Write a line 'file,label' for each sample, or JSON: {\"file\": label, …}"


def read_label_list(path):
    """Pairs ``(file, label)`` of strings, in the order of the list.

    Args:
        path: ``.json`` with an object or a list of pairs; or a table of two columns, separated by commas, semicolons,
            tabs or, in ``.txt``, spaces. A header ``file,label`` is skipped.

    Raises:
        DataError: naming the list and the row; a file is listed twice.
    """
    pairs = _from_json(path) if Path(path).suffix.lower() == ".json" else _from_table(path)
    seen = set()
    for name, label in pairs:
        if not name or not label:
            raise DataError(path, f"found an entry without file or label: {name!r}, {label!r}", LIST_HINT)
        if name in seen:
            raise DataError(path, f"lists {name!r} twice")
        seen.add(name)
    return pairs


def _from_json(path):
    try:
        content = parse_json(read_text(path))
    except ValueError as error:
        raise DataError(path, f"is not valid JSON ({error})", LIST_HINT) from error
    pairs = list(content.items()) if isinstance(content, dict) else content
    if not isinstance(pairs, list) or not pairs:
        raise DataError(path, "has no labels", LIST_HINT)
    for i, pair in enumerate(pairs):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str) or isinstance(
                pair[1], bool) or not isinstance(pair[1], (str, int)):
            raise DataError(f"{path}: entry {i}", f"found {str(pair)[:80]!r}, expected a file and its label", LIST_HINT)
    return [(name.strip(), str(label).strip()) for name, label in pairs]


def _from_table(path):
    if Path(path).suffix.lower() == ".txt" and not any(mark in read_text(path) for mark in ",;\t"):
        lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
        numbered = list(enumerate(lines, 1))
    else:
        table = read_table(path, header=False)
        numbered = list(zip(table.lines, table.rows, strict=True))
    if numbered and numbered[0][1][0].lower() in LIST_HEADERS:
        numbered = numbered[1:]
    for line, row in numbered:
        if len(row) != 2:
            raise DataError(f"{path}: row {line}", f"has {len(row)} columns, expected 2: file and label", LIST_HINT)
    if not numbered:
        raise DataError(path, "has no labels", LIST_HINT)
    return [tuple(row) for _, row in numbered]


def number_labels(labels, where, names=None):
    """Class numbers of labels, and the classes' names.

    Args:
        labels: strings. If all are integers, they are the class numbers; otherwise they are names, numbered in
            alphabetical order.
        where: the list's file, for messages.
        names: the classes' names in the order of their numbers; None: the names that occur.

    Returns:
        list of class numbers, and list of the classes' names (``class 3`` if there are only numbers).

    Raises:
        DataError: a label is not among ``names``.
    """
    if all(label.isascii() and label.isdigit() and len(label) < MAX_CLASS_DIGITS for label in labels):
        numbers = [int(label) for label in labels]
        count = len(names) if names else max(numbers) + 1
        if max(numbers) >= count:
            raise DataError(where, f"found the label {max(numbers)}, expected 0..{count - 1} for {count} classes")
        if count > 100 * len(labels) + 1000:
            raise DataError(where, f"found the label {count - 1} in a list of {len(labels)} samples",
                            "Number the classes consecutively from 0")
        return numbers, list(names or (f"class {i}" for i in range(count)))
    if all(re.fullmatch(r"[+-]?\d+(\.\d*)?", label) for label in labels):
        raise DataError(where, f"found the labels {shorten_list(sorted(set(labels)))}, expected integers >= 0, or "
                               "names")
    names = list(names or sorted(set(labels)))
    place = {name: i for i, name in enumerate(names)}
    for label in labels:
        if label not in place:
            raise DataError(where, f"found the label {label!r}, which is not a class name", near_miss(label, names))
    return [place[label] for label in labels], names


def read_class_names(path):
    """The class names in a text file, one per line."""
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names or len(set(names)) != len(names):
        raise DataError(path, f"has {len(names)} class names, but only {len(set(names))} are distinct",
                        "Write one name per line, without duplicates")
    return names
