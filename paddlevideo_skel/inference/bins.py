"""Bin folders: a split of a data set as one file per sample, float32 in C order, for any tool that feeds a device.

``bin/00000.bin`` … hold the samples, ``label.txt`` their labels and names, ``bins.json`` how they were made.
"""
import math
import re
from pathlib import Path

import numpy as np

from ..data.datasets import read_labels
from ..errors import ConfigError, DataError, shorten_list
from ..files import parse_json
from ..manifest import digest

BINS_FORMAT = 1
BINS_FILE, LABEL_FILE, SAMPLES_FOLDER = "bins.json", "label.txt", "bin"
TYPE = np.dtype("<f4")
MAKE = "Make the folder with tools/preprocess_bin.py"
RESUME = "Run tools/preprocess_bin.py again with the same arguments: it adds what is missing"
NAME_DIGITS = 5
MORE_NAMES, MAX_CLASS_DIGITS = 100, 18
AVERAGES = ("scores", "logits", "none")
# Entries of bins.json and their types.
ENTRIES = {"format": int, "model_name": str, "shape": list, "type": str, "count": int, "num_classes": int,
           "class_names": (list, type(None)), "labels": bool, "average": str, "source": dict, "pipeline": dict}


class BinFolder:
    """A bin folder, opened for reading.

    Args:
        path: the folder.
        sample_shape: accepts a plain folder of ``.bin`` files without ``bins.json`` (``0.bin``, ``1.bin`` …, as
            ModelZoo's scripts make it) with samples of this shape; None: such a folder is refused.

    Attributes:
        manifest: content of ``bins.json``; empty for a plain folder.
        names: names of the files without ``.bin``, in the order of the samples.
        labels: list of class numbers, or None.
        sample_names: names of the samples in the data set.
        sample_shape: of one sample. size: bytes of one sample.
        digest: of ``bins.json`` and ``label.txt``; "" for a plain folder.

    Raises:
        DataError: the folder, ``bins.json`` or ``label.txt`` is missing or damaged, or they do not belong together.
    """

    def __init__(self, path, sample_shape=None):
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(path, "folder not found", MAKE)
        if (self.path / BINS_FILE).is_file() or sample_shape is None:
            self.manifest = read_manifest(self.path)
            self._read_labels()
            self.sample_shape, self._bins = tuple(self.manifest["shape"]), self.path / SAMPLES_FOLDER
        else:
            self.manifest, self.labels, self.digest = {}, None, ""
            self.names = sorted((p.stem for p in self.path.glob("*.bin")), key=natural)
            if not self.names:
                raise DataError(path, f"the folder has neither {BINS_FILE} nor .bin files", MAKE)
            self.sample_names, self.sample_shape, self._bins = self.names, tuple(sample_shape), self.path
        self.size = math.prod(self.sample_shape) * TYPE.itemsize

    def _read_labels(self):
        content = (self.path / BINS_FILE).read_bytes()
        if self.manifest["labels"]:
            where = self.path / LABEL_FILE
            lines = read_label_file(where)
            # A damaged count may be in the billions; the error lists only the first missing names.
            self.names = file_names(min(self.manifest["count"], 2 * len(lines) + MORE_NAMES))
            if [stem for stem, *_ in lines] != self.names:
                match_labels(where, lines, self.names)
                raise DataError(where, "the lines are not in the same order as the files", RESUME)
            self.labels = [label for _, label, _ in lines]
            check_range(where, self.names, self.labels, self.manifest["num_classes"])
            self.sample_names = [name or stem for stem, _, name in lines]
            content += where.read_bytes()
        else:
            self.labels, self.sample_names = None, self.manifest["sample_names"]
            self.names = file_names(len(self.sample_names))
        self.digest = digest(content)

    def __len__(self):
        return len(self.names)

    def file(self, name):
        """The path of a sample's file."""
        return self._bins / f"{name}.bin"

    def check(self):
        """Raise a ``DataError`` if a sample's file is missing or incomplete."""
        for name in self.names:
            if not self.is_whole(name):
                self._refuse(name)

    def is_whole(self, name):
        """Whether a sample's file exists and has the right size."""
        path = self.file(name)
        return path.is_file() and path.stat().st_size == self.size

    def array(self, name):
        """A sample, float32 of ``sample_shape``.

        Raises:
            DataError: the file is missing or has another size.
        """
        if not self.is_whole(name):
            self._refuse(name)
        return np.fromfile(self.file(name), TYPE).reshape(self.sample_shape)

    def _refuse(self, name):
        path, number = self.file(name), self.names.index(name)
        if not path.is_file():
            raise DataError(path, "file not found", f"{RESUME} (of N shards, shard {number} % N + 1)"
                            if self.manifest else "")
        raise DataError(path, f"expected {self.size} bytes of a float32 sample {self.sample_shape}, got "
                        f"{path.stat().st_size}", RESUME if self.manifest else "Use bins of this model")


def file_names(count):
    """The names of the files of ``count`` samples, without ``.bin``."""
    digits = max(NAME_DIGITS, len(str(count - 1)))
    return [f"{i:0{digits}d}" for i in range(count)]


def natural(name):
    """Sort key by which 10 comes after 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def parse_shard(text):
    """``"2/4"`` as (1, 4), the samples i with i % 4 = 1; None: (0, 1), all."""
    if text is None:
        return 0, 1
    numbers = re.fullmatch(r"(\d+)/(\d+)", str(text))
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise ConfigError("--shard", f"expected i/n with i from 1 to n, got {text!r}", "For example --shard 2/4")
    return int(numbers[1]) - 1, int(numbers[2])


def read_manifest(folder):
    """The checked content of a folder's ``bins.json``."""
    path = Path(folder) / BINS_FILE
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"))
        wrong = [key for key, kind in ENTRIES.items() if not isinstance(manifest[key], kind)]
    except FileNotFoundError as error:
        raise DataError(path, "file not found, so this is not a bin folder", MAKE) from error
    except KeyError as error:
        raise DataError(path, f"has no entry {error}", MAKE) from error
    except (OSError, ValueError, TypeError) as error:
        raise DataError(path, f"is damaged ({type(error).__name__}: {error})", MAKE) from error
    if not wrong and manifest["format"] != BINS_FORMAT:
        raise DataError(path, f"expected format {BINS_FORMAT}, got {manifest['format']}", MAKE)
    wrong = wrong or find_invalid_entries(manifest)
    if wrong:
        raise DataError(path, f"invalid entry {wrong[0]!r}: {str(manifest.get(wrong[0]))[:60]}", MAKE)
    return manifest


def find_invalid_entries(manifest):
    """The entries of a ``bins.json`` that have the right type but an invalid value."""
    names, classes = manifest.get("sample_names", []), manifest["class_names"]
    valid = {
        "shape": manifest["shape"] and all(type(n) is int and n > 0 for n in manifest["shape"]),
        "type": manifest["type"] == TYPE.name,
        "count": manifest["count"] > 0, "num_classes": manifest["num_classes"] > 0,
        "class_names": classes is None or _are_strings(classes, manifest["num_classes"]),
        "average": manifest["average"] in AVERAGES,
        "sample_names": manifest["labels"] or _are_strings(names, manifest["count"])}
    return [key for key, fits in valid.items() if not fits]


def _are_strings(values, count):
    return isinstance(values, list) and len(values) == count and all(isinstance(value, str) for value in values)


def read_label_file(path):
    """``[(file's name without .bin, label, sample's name or "")]`` from a text with one line per file.

    A line is ``00000.bin 12 name``; the name and ``.bin`` are optional.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read ({error})", "Expected one line 'file label' per file") from error
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split(None, 2)
        if not fields:
            continue
        if len(fields) < 2 or not fields[1].isdecimal() or len(fields[1]) > MAX_CLASS_DIGITS:
            raise DataError(f"{path}: line {number}", f"expected a file name and a class number, got {line[:60]!r}",
                            "For example: 00000.bin 12")
        lines.append((fields[0].removesuffix(".bin"), int(fields[1]), fields[2].rstrip() if fields[2:] else ""))
    if not lines:
        raise DataError(path, "the file has no labels")
    return lines


def match_labels(path, lines, names):
    """The labels of ``names``, from the lines of a label file.

    Raises:
        DataError: a file has no line or two, or a line has no file.
    """
    labels = {stem: label for stem, label, _ in lines}
    missing, unknown = [n for n in names if n not in labels], sorted(set(labels) - set(names), key=natural)
    for found, problem in ((missing, "has no line for"), (unknown, "has lines for files that do not exist:")):
        if found:
            raise DataError(path, f"{problem} {shorten_list(found, 3)} ({len(found)} of "
                            f"{len(names)})", "Use the labels of this bin folder")
    if len(lines) > len(names):
        stems = [stem for stem, *_ in lines]
        twice = next(stem for i, stem in enumerate(stems) if stem in stems[:i])
        raise DataError(path, f"has two lines for {twice}")
    return [labels[name] for name in names]


def load_bin_labels(path, names):
    """``(labels, sample names)`` for the files ``names``, which are in natural order.

    Args:
        path: ``.pkl`` of (names, labels), or ``.npy`` or ``.pkl`` of labels, in the order of the files; or a text
            with one line ``file label [name]`` per file.
    """
    if Path(path).suffix in (".pkl", ".npy"):
        samples, labels = read_labels(path)
        if len(labels) != len(names):
            raise DataError(path, f"expected {len(names)} labels, one per file, got {len(labels)}",
                            "Use the labels of this bin folder")
        return labels.tolist(), samples or list(names)
    lines = read_label_file(path)
    called = {stem: name for stem, _, name in lines}
    return match_labels(path, lines, names), [called[name] or name for name in names]


def check_range(path, names, labels, num_classes):
    """Raise a ``DataError`` for a label outside 0..num_classes-1."""
    for name, label in zip(names, labels):
        if not 0 <= label < num_classes:
            raise DataError(f"{path}: {name}", f"expected a label in 0..{num_classes - 1}, got {label}",
                            "Do these labels belong to another data set?")
