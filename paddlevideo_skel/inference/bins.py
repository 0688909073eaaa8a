"""Bin folders: a data set's split as one file a sample, float32 in C order, that any tool can feed to a device.

``bins.json`` says what made the files, ``label.txt`` what they are, ``bin/00000.bin`` … hold them. Needs no paddle.
"""
import math
import re
from pathlib import Path

import numpy as np

from ..data.datasets import read_labels
from ..errors import ConfigError, DataError, shorten_list
from ..files import parse_json
from ..manifest import digest

FORMAT = 1
MANIFEST, LABELS, BINS = "bins.json", "label.txt", "bin"
TYPE = np.dtype("<f4")
MAKE = "Make the folder with tools/preprocess_bin.py"
AGAIN = "Run tools/preprocess_bin.py with the same arguments again: it makes what is missing"
DIGITS = 5
MORE_NAMES, MAX_DIGITS = 100, 18
AVERAGES = ("scores", "logits", "none")
# Entries of bins.json, and the types that they may have.
ENTRIES = {"format": int, "model_name": str, "shape": list, "type": str, "count": int, "num_classes": int,
           "class_names": (list, type(None)), "labels": bool, "average": str, "source": dict, "pipeline": dict}


class BinFolder:
    """A bin folder, opened for reading.

    Args:
        path: the folder. sample_shape: of a plain folder of ``.bin`` files without ``bins.json``, as ModelZoo's
            scripts make (``0.bin``, ``1.bin`` …); None: such a folder is refused.

    Attributes:
        manifest: content of ``bins.json``; empty for a plain folder.
        names: the files' names without ``.bin``, in the order of the samples.
        labels: list of class numbers, or None.
        sample_names: what the samples are called in the data set.
        sample_shape: of one sample. size: bytes of one sample.
        digest: text that tells one folder's content from another's; "" for a plain folder.

    Raises:
        DataError: no such folder; ``bins.json`` or ``label.txt`` is missing, damaged or does not fit.
    """

    def __init__(self, path, sample_shape=None):
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(path, "no such folder", MAKE)
        if (self.path / MANIFEST).is_file() or sample_shape is None:
            self.manifest = read_manifest(self.path)
            self._read_labels()
            self.sample_shape, self._bins = tuple(self.manifest["shape"]), self.path / BINS
        else:
            self.manifest, self.labels, self.digest = {}, None, ""
            self.names = sorted((p.stem for p in self.path.glob("*.bin")), key=natural)
            if not self.names:
                raise DataError(path, f"holds neither {MANIFEST} nor any .bin file", MAKE)
            self.sample_names, self.sample_shape, self._bins = self.names, tuple(sample_shape), self.path
        self.size = math.prod(self.sample_shape) * TYPE.itemsize

    def _read_labels(self):
        content = (self.path / MANIFEST).read_bytes()
        if self.manifest["labels"]:
            where = self.path / LABELS
            lines = read_label_file(where)
            # Names without a line are listed in an error; not all of them, where a damaged count tells of billions.
            self.names = file_names(min(self.manifest["count"], 2 * len(lines) + MORE_NAMES))
            if [stem for stem, *_ in lines] != self.names:
                fit_labels(where, lines, self.names)
                raise DataError(where, "its lines are not in the order of the files", AGAIN)
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
        """Refuse a folder in which a sample's file is missing or not whole."""
        for name in self.names:
            if not self.is_whole(name):
                self._refuse(name)

    def is_whole(self, name):
        """Whether a sample's file is there and of the right size."""
        path = self.file(name)
        return path.is_file() and path.stat().st_size == self.size

    def array(self, name):
        """A sample, float32 of ``sample_shape``.

        Raises:
            DataError: the file is missing, or not of a sample's size.
        """
        if not self.is_whole(name):
            self._refuse(name)
        return np.fromfile(self.file(name), TYPE).reshape(self.sample_shape)

    def _refuse(self, name):
        path, number = self.file(name), self.names.index(name)
        if not path.is_file():
            raise DataError(path, "is missing", f"{AGAIN}; as sample {number} it is made by shard {number} % n + 1 "
                            "of n" if self.manifest else "")
        raise DataError(path, f"holds {path.stat().st_size} bytes, a sample {self.sample_shape} of float32 has "
                        f"{self.size}", AGAIN if self.manifest else "Give the model's own bins")


def file_names(count):
    """The names of ``count`` samples' files, without the ending."""
    digits = max(DIGITS, len(str(count - 1)))
    return [f"{i:0{digits}d}" for i in range(count)]


def natural(name):
    """Sort key by which 10 comes after 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def parse_shard(text):
    """``"2/4"`` as (1, 4): this run does every sample whose number leaves the remainder 1 by 4; None: (0, 1)."""
    if text is None:
        return 0, 1
    numbers = re.fullmatch(r"(\d+)/(\d+)", str(text))
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise ConfigError("--shard", f"found {text!r}, expected i/n with i from 1 to n", "For example --shard 2/4")
    return int(numbers[1]) - 1, int(numbers[2])


def read_manifest(folder):
    """The content of a folder's ``bins.json``, its entries checked."""
    path = Path(folder) / MANIFEST
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"))
        wrong = [key for key, kind in ENTRIES.items() if not isinstance(manifest[key], kind)]
    except FileNotFoundError as error:
        raise DataError(path, "is missing: this is no bin folder", MAKE) from error
    except KeyError as error:
        raise DataError(path, f"has no entry {error}", MAKE) from error
    except (OSError, ValueError, TypeError) as error:
        raise DataError(path, f"is damaged ({type(error).__name__}: {error})", MAKE) from error
    if not wrong and manifest["format"] != FORMAT:
        raise DataError(path, f"is of format {manifest['format']}, this version reads {FORMAT}", MAKE)
    wrong = wrong or impossible_entries(manifest)
    if wrong:
        raise DataError(path, f"its entry {wrong[0]!r} is {str(manifest.get(wrong[0]))[:60]}, which cannot be", MAKE)
    return manifest


def impossible_entries(manifest):
    """The entries of a ``bins.json`` that are of the right type, but cannot be."""
    names, classes = manifest.get("sample_names", []), manifest["class_names"]
    possible = {
        "shape": manifest["shape"] and all(type(n) is int and n > 0 for n in manifest["shape"]),
        "type": manifest["type"] == TYPE.name,
        "count": manifest["count"] > 0, "num_classes": manifest["num_classes"] > 0,
        "class_names": classes is None or _are_texts(classes, manifest["num_classes"]),
        "average": manifest["average"] in AVERAGES,
        "sample_names": manifest["labels"] or _are_texts(names, manifest["count"])}
    return [key for key, fits in possible.items() if not fits]


def _are_texts(values, count):
    return isinstance(values, list) and len(values) == count and all(isinstance(value, str) for value in values)


def read_label_file(path):
    """``[(file's name without .bin, label, sample's name or "")]`` of a text with a line for each file.

    A line is ``00000.bin 12 name``; the last may be left out, and so may ``.bin``.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read ({error})", "Expected a line 'file label' for each file") from error
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split(None, 2)
        if not fields:
            continue
        if len(fields) < 2 or not fields[1].isdecimal() or len(fields[1]) > MAX_DIGITS:
            raise DataError(f"{path}: line {number}", f"is {line[:60]!r}, expected a file's name and a whole number",
                            "For example: 00000.bin 12")
        lines.append((fields[0].removesuffix(".bin"), int(fields[1]), fields[2].rstrip() if fields[2:] else ""))
    if not lines:
        raise DataError(path, "holds no label")
    return lines


def fit_labels(path, lines, names):
    """The labels of ``names``, from the lines of a label file.

    Raises:
        DataError: a file has no line, or two; or a line tells of no file.
    """
    labels = {stem: label for stem, label, _ in lines}
    missing, unknown = [n for n in names if n not in labels], sorted(set(labels) - set(names), key=natural)
    for found, problem in ((missing, "has no line for"), (unknown, "has lines of files that are not there:")):
        if found:
            raise DataError(path, f"{problem} {shorten_list(found, 3)} ({len(found)} of "
                            f"{len(names)})", "Give the labels of this bin folder")
    if len(lines) > len(names):
        stems = [stem for stem, *_ in lines]
        twice = next(stem for i, stem in enumerate(stems) if stem in stems[:i])
        raise DataError(path, f"has two lines for {twice}")
    return [labels[name] for name in names]


def load_labels(path, names):
    """``(labels, sample names)`` for the files ``names``, which are in natural order.

    Args:
        path: ``.pkl`` of (names, labels), or ``.npy`` or ``.pkl`` of labels, in the order of the files; or a text
            with a line ``file label [name]`` for each.
    """
    if Path(path).suffix in (".pkl", ".npy"):
        samples, labels = read_labels(path)
        if len(labels) != len(names):
            raise DataError(path, f"holds {len(labels)} labels, there are {len(names)} files",
                            "Give the labels of this bin folder")
        return labels.tolist(), samples or list(names)
    lines = read_label_file(path)
    called = {stem: name for stem, _, name in lines}
    return fit_labels(path, lines, names), [called[name] or name for name in names]


def check_range(path, names, labels, num_classes):
    """Refuse a label outside 0..num_classes-1."""
    for name, label in zip(names, labels):
        if not 0 <= label < num_classes:
            raise DataError(f"{path}: {name}", f"the label is {label}, expected 0..{num_classes - 1} "
                            f"for {num_classes} classes", "Are these labels of another data set?")
