"""Result folders (one result file per file of a bin folder) and their accuracy.

``<name>_0.bin`` holds the answer for ``<name>.bin``, float32, as ais_bench and tools/infer_bin.py write it.
"""
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import ConfigError, DataError, shorten_list
from ..evaluation import save_results, softmax, summarise
from ..files import output_folder, parse_json
from ..safe_pickle import load_npy
from .bins import (
    AVERAGES,
    BINS_FILE,
    LABEL_FILE,
    TYPE,
    BinFolder,
    check_range,
    load_bin_labels,
    natural,
    read_label_file,
)

logger = logging.getLogger(__name__)

REPORT = "results.json"
ANSWER = re.compile(r"(.+)_(\d+)\.(bin|npy|txt)")
RERUN = "Run tools/infer_bin.py again: it computes the missing results"


class ResultFolder:
    """A result folder of tools/infer_bin.py or ais_bench (``.bin``, ``.npy`` or ``.txt``), opened for reading.

    Attributes:
        names: names of the samples' files in natural order, without ``_0.bin``.
        report: content of ``results.json``; empty without one.

    Raises:
        DataError: the folder is missing, has no results or several answers for a sample, or its report is damaged.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(path, "folder not found", "Pass a result folder, as tools/infer_bin.py writes it")
        self.report = read_report(self.path / REPORT)
        self.files = {}
        for file in sorted(p for p in self.path.iterdir() if not p.name.startswith(".")):
            answer = ANSWER.fullmatch(file.name)
            if answer and answer[1] in self.files:
                raise DataError(file, f"is a duplicate result for the sample of {self.files[answer[1]].name}",
                                "Pass a folder with one result per sample")
            if answer and answer[2] == "0":
                self.files[answer[1]] = file
            elif file.suffix == ".bin":
                raise DataError(file, "expected a name <sample>_0.bin", "Pass a folder that contains only results")
        self.names = sorted(self.files, key=natural)
        if not self.names:
            raise DataError(path, "the folder has no results (<sample>_0.bin)", RERUN)

    @property
    def num_classes(self):
        """From the report, or None."""
        shape = self.report.get("answer_shape")
        return shape[-1] if shape else None

    def answer(self, name):
        """The numbers of one answer, float32, flat.

        Raises:
            DataError: the file is damaged or has NaN or infinity.
        """
        path = self.files[name]
        if path.suffix == ".bin":
            if not path.stat().st_size or path.stat().st_size % TYPE.itemsize:
                raise DataError(path, f"expected float32 numbers, got {path.stat().st_size} bytes", RERUN)
            numbers = np.fromfile(path, TYPE)
        elif path.suffix == ".npy":
            numbers = np.asarray(load_npy(path, mmap=False)).ravel()
        else:
            try:
                numbers = np.array(path.read_text(encoding="utf-8").split(), TYPE)
            except ValueError as error:
                raise DataError(path, f"expected numbers ({error})", RERUN) from error
        if numbers.dtype.kind != "f" or not numbers.size:
            raise DataError(path, f"expected floating-point numbers, got {numbers.size} of {numbers.dtype}", RERUN)
        if not np.isfinite(numbers).all():
            raise DataError(path, "has NaN or infinity", "The model, or its compilation for the device, is wrong")
        return numbers

    def check_names(self, names, where):
        """Raise a ``DataError`` if answers are missing, or there are answers for samples that ``where`` lacks."""
        missing, unknown = [n for n in names if n not in self.files], set(self.files) - set(names)
        for found, problem, hint in (
                (missing, "has no result for", RERUN),
                (sorted(unknown, key=natural), "has results for unknown samples:",
                 "These results belong to another bin folder")):
            if found:
                raise DataError(self.path, f"{problem} {shorten_list(found, 3)} "
                                f"({len(found)}; {where} has {len(names)} samples)", hint)


def read_report(path):
    """The content of ``results.json``, or an empty dict if there is none."""
    if not path.is_file():
        return {}
    try:
        report = parse_json(path.read_text(encoding="utf-8"))
        shape = report.get("answer_shape")
        if shape is not None and not (shape and all(type(n) is int and n > 0 for n in shape)):
            raise ValueError(f"answer_shape is {shape}")
        if not all(type(report.get("bins", {}).get(key, "")) is str for key in ("path", "digest")):
            raise ValueError("bins has no path and digest")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(path, f"is damaged ({type(error).__name__}: {error})", RERUN) from error
    return report


@dataclass
class AnsweredSamples:
    """The samples of a result folder.

    Attributes:
        where: label file or bin folder, for messages. names: of the files. labels: of the samples, or None.
        sample_names: in the data set. average: how several rows per answer are averaged, see ``read_scores``.
    """
    where: str
    names: list
    labels: list
    sample_names: list
    num_classes: int = None
    class_names: list = None
    average: str = None


def find_answered_samples(results, label_path=None, bins=None):
    """The ``AnsweredSamples`` of a result folder.

    Args:
        label_path: label file (see ``load_bin_labels``). bins: bin folder. Both None: the bin folder of the report.
    """
    if bins is None and label_path and Path(label_path).name == LABEL_FILE and (
            Path(label_path).parent / BINS_FILE).is_file():
        bins, label_path = Path(label_path).parent, None
    if bins is None and label_path is None:
        bins = results.report.get("bins", {}).get("path")
        if bins is None:
            raise ConfigError("--label_path", f"required: {results.path} does not record its samples",
                              "Pass --label_path FILE or --input BINFOLDER")
    if bins is None:
        names = results.names if Path(label_path).suffix in (".pkl", ".npy") else [
            stem for stem, *_ in read_label_file(label_path)]
        return AnsweredSamples(str(label_path), names, *load_bin_labels(label_path, names))
    folder = BinFolder(bins)
    digest = results.report.get("bins", {}).get("digest")
    if digest and digest != folder.digest:
        raise DataError(results.path / REPORT, f"belongs to a bin folder with digest {digest}, but {bins} has "
                        f"{folder.digest}", "Pass the bin folder of these results")
    samples = AnsweredSamples(str(bins), folder.names, folder.labels, folder.sample_names,
                              folder.manifest["num_classes"], folder.manifest["class_names"],
                              folder.manifest["average"])
    if label_path:
        samples.labels, samples.sample_names = load_bin_labels(label_path, folder.names)
    return samples


def find_num_classes(results, samples, given=None):
    """The number of classes of an answer, on which all sources must agree.

    Raises:
        DataError: the sources disagree. ConfigError: there is no source.
    """
    counts = {"--num_classes": given, results.path / REPORT: results.num_classes, samples.where: samples.num_classes}
    counts = {where: count for where, count in counts.items() if count is not None}
    if len(set(counts.values())) > 1:
        raise DataError(results.path, "the number of classes is " + ", ".join(
            f"{count} according to {where}" for where, count in counts.items()),
            "Do these results belong to another model?")
    if counts:
        return next(iter(counts.values()))
    numbers, highest = results.answer(samples.names[0]).size, max(samples.labels)
    if numbers != highest + 1:
        raise ConfigError("--num_classes", f"required: a result in {results.path} has {numbers} numbers, but the "
                          f"highest label is {highest}", "For example --num_classes 400")
    return numbers


def read_scores(results, samples, num_classes, average=None):
    """Scores ``(N, num_classes)``, each row with the sum 1, and the number of rows per answer.

    Args:
        average: of several rows per answer: ``scores``, the mean of their softmax; ``logits``, the softmax of their
            mean; ``none``: there is only one row. None: as the bin folder says.
    """
    average = average or samples.average
    rows, all_scores = None, []
    for name in tqdm(samples.names, desc="results", unit="file", leave=False, disable=None):
        numbers = results.answer(name).astype("float64")
        if numbers.size % num_classes or numbers.size // num_classes != (rows or numbers.size // num_classes):
            expected = f"{rows * num_classes} like the others" if rows else f"a multiple of {num_classes}"
            raise DataError(results.files[name], f"expected {expected}, got {numbers.size} numbers",
                            "It is truncated, or from a model with a different number of classes")
        logits = numbers.reshape(-1, num_classes)
        rows = len(logits)
        if rows > 1 and average in (None, "none"):
            raise ConfigError("--average", f"expected scores or logits, got {average}: {results.files[name]} has "
                              f"{rows} rows of {num_classes} classes", "Use scores for PoseC3D, logits for ST-GCN++")
        all_scores.append(softmax(logits).mean(axis=0) if average == "scores" else softmax(logits.mean(axis=0)))
    return np.stack(all_scores), rows


def evaluate(result_dir, label_path=None, bins=None, num_classes=None, average=None, out=None):
    """Accuracy of a result folder.

    Args:
        result_dir: the folder. label_path, bins: see ``find_answered_samples``.
        num_classes: None: from the bin folder or the report. average: see ``read_scores``.
        out: JSON file in the format of ``main.py --test --out``, which tools/ensemble.py can fuse.

    Returns:
        the results as a dict.

    Raises:
        DataError: an answer is missing, unknown, truncated or not finite, or the results are of another model.
    """
    if average is not None and average not in AVERAGES:
        raise ConfigError("--average", f"expected one of {', '.join(AVERAGES)}, got {average!r}")
    if num_classes is not None and num_classes < 1:
        raise ConfigError("--num_classes", f"expected at least 1, got {num_classes}")
    if out:
        output_folder(Path(out).parent)
    results = ResultFolder(result_dir)
    samples = find_answered_samples(results, label_path, bins)
    results.check_names(samples.names, samples.where)
    num_classes = find_num_classes(results, samples, num_classes)
    if samples.labels is not None:
        check_range(samples.where, samples.names, samples.labels, num_classes)
    scores, rows = read_scores(results, samples, num_classes, average)
    label = None if samples.labels is None else np.array(samples.labels)
    report = summarise(scores, label, samples.sample_names, samples.class_names)
    report["results"] = {"folder": str(results.path), **{key: results.report[key] for key in ("model", "runtime")
                                                         if key in results.report}}
    averaged = f", {rows} rows each, averaged as {average or samples.average}" if rows > 1 else ""
    logger.info("%d samples of %d classes%s", len(scores), num_classes, averaged)
    if label is None:
        logger.info("[TEST] finished, no accuracy: the samples have no labels")
    else:
        logger.info("[TEST] finished, avg_acc1= %s, avg_acc%d= %s", report["top1"], min(5, num_classes), report["top5"])
    if out:
        save_results(report, out)
    return report
