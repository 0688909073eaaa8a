"""Predict: files in, classes out, with the preprocessing from the export's metadata."""
import json
import logging
import time
from pathlib import Path

import numpy as np

from ..data.loader import sample_numbers
from ..data.pipeline import Pipeline
from ..data.readers import read_sample
from ..errors import ConfigError, DataError
from ..evaluation import softmax
from ..files import output_folder, replacing
from ..logs import write_line
from .benchmark import WARMUP, open_log

logger = logging.getLogger(__name__)

REPEATS = 10
MIN_FILES_FOR_BAR = 20
ENDINGS = (".npy", ".pkl")


class Predictor:
    """A runtime with the preprocessing and the class names of its export.

    Args:
        runtime: a ``Runtime``. top_k: classes per answer; None: as in the metadata.
    """

    def __init__(self, runtime, top_k=None):
        metadata = runtime.export.metadata
        self.runtime, self.names = runtime, metadata.get("class_names")
        self.pipeline = Pipeline(metadata["pipeline"], f"{runtime.export.stem}: pipeline")
        self.top_k = metadata.get("top_k", 1) if top_k is None else top_k
        if not 1 <= self.top_k <= runtime.export.num_classes:
            raise ConfigError("--top_k", f"expected 1 to {runtime.export.num_classes}, got {self.top_k}")

    def preprocess(self, annotation, path, number=0):
        """The network's input for one sample, from the pipeline that main.py --test uses.

        Args:
            annotation: an ``Annotation``. path: its file, for messages. number: of the sample in the file.

        Raises:
            DataError: the sample does not fit the model.
        """
        where = f"{path}: {annotation.name or f'sample {number}'}"
        try:
            array = self.pipeline(annotation, sample_numbers(number))
        except DataError as error:
            raise DataError(where, f"{error.problem} (in {error.where})", error.hint) from error
        if array.shape != self.runtime.export.sample_shape:
            persons, _, joints, channels = annotation.keypoint.shape
            raise DataError(where, f"{persons} person(s) with {joints} joints of {channels} coordinates become an "
                            f"input of shape {array.shape}, but the model takes {self.runtime.export.sample_shape}",
                            "Use a model that was trained on this kind of data")
        return array

    def rank(self, scores):
        """The best classes for ``scores (classes,)`` and their scores, both ``(top_k,)``."""
        classes = np.argsort(-scores, kind="stable")[:self.top_k]
        return classes, scores[classes]

    def describe(self, classes, scores):
        """The classes and scores of ``rank`` as a list of dicts, for reports."""
        return [{"class": int(c), "name": self.names[c] if self.names else None, "score": float(s)}
                for c, s in zip(classes, scores, strict=True)]

    def to_entry(self, path, annotation, logits):
        """One entry of the results."""
        return {"file": str(path), "sample": annotation.name, "top_k": self.describe(*self.rank(softmax(logits)))}


def list_files(path):
    """The file, or the samples' files in a folder, sorted.

    Raises:
        DataError: there is no such file or folder, or the folder has no samples.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(path, "file or folder not found", "Pass a .npy or .pkl file, or a folder of them")
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.iterdir() if p.suffix in ENDINGS)
    if not files:
        raise DataError(path, "the folder has no .npy or .pkl file")
    return files


def warn_if_pipeline_differs(config, metadata):
    """Warn if a config's preprocessing differs from that of an export."""
    given = Pipeline(config.section("PIPELINE.test"), config.where("PIPELINE.test")).spec
    if json.loads(json.dumps(given)) != metadata["pipeline"]:
        logger.warning("%s differs from the preprocessing that the model was exported with; the export's "
                       "preprocessing is used",
                       config.where("PIPELINE.test"))


def predict(predictor, source, batch_size=None, out=None, benchmark=False, timed=False):
    """Predict every sample of a file or folder, and print a block per sample.

    Args:
        source: file or folder. batch_size: samples per batch; None: the model's batch size, or 1 if it accepts any.
        out: JSON file for the results.
        benchmark: also measure and report preprocessing, inference and postprocessing.
        timed: also report the mean time per file.

    Returns:
        the results as written to ``out``.
    """
    only = predictor.runtime.export.batch
    batch_size = (only or 1) if batch_size is None else batch_size
    if batch_size < 1 or (only and batch_size > only):
        raise ConfigError("--batch_size", (f"expected 1 to {only}, the batch size of the model" if only else
                                           "expected at least 1") + f", got {batch_size}")
    files = list_files(source)
    if out:
        output_folder(Path(out).parent)
    start, results, waiting = time.perf_counter(), [], []
    for path in show_progress(files):
        samples = read_sample(path)
        for number, annotation in enumerate(samples):
            waiting.append((path, annotation, len(samples) > 1, predictor.preprocess(annotation, path, number)))
            if len(waiting) == batch_size:
                results += answer_batch(predictor, waiting)
                waiting = []
    if waiting:
        results += answer_batch(predictor, waiting)
    seconds = time.perf_counter() - start
    report = {"model": predictor.runtime.export.metadata["model_name"], "runtime": predictor.runtime.describe(),
              "samples": results}
    if timed:
        report["seconds_per_file"] = seconds / len(files)
        write_line(f"Average time per file: {seconds / len(files) * 1000:.2f} ms ({len(files)} files)")
    if benchmark:
        report["benchmark"] = measure_parts(predictor, files[0], batch_size)
    if out:
        with replacing(out) as temporary:
            temporary.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        logger.info("Results saved in %s", out)
    return report


def show_progress(files):
    """The files, with a progress bar if they are many."""
    if len(files) < MIN_FILES_FOR_BAR:
        return files
    from tqdm import tqdm  # its import takes as long as one prediction

    return tqdm(files, unit="file", leave=False, disable=None)


def answer_batch(predictor, waiting):
    """Answer and print a batch of ``(path, annotation, whether the file has several samples, array)``."""
    logits = predictor.runtime.run(np.stack([array for *_, array in waiting]))
    entries = []
    for (path, annotation, several, _), row in zip(waiting, logits, strict=True):
        classes, scores = predictor.rank(softmax(row))
        write_line(f"Current video file: {path}")
        if several:
            write_line(f"\tsample: {annotation.name}")
        write_line(f"\ttop-{predictor.top_k} class: {classes}")
        write_line(f"\ttop-{predictor.top_k} score: {scores}")
        if predictor.names:
            write_line(f"\ttop-{predictor.top_k} name: {', '.join(predictor.names[c] for c in classes)}")
        entries.append(predictor.to_entry(path, annotation, row))
    return entries


def measure_parts(predictor, path, batch_size):
    """Time batches of the samples of one file, and report AutoLog's fields."""
    from tqdm import tqdm

    samples = read_sample(path)
    batch = [samples[i % len(samples)] for i in range(batch_size)]
    log = open_log(predictor.runtime, predictor.runtime.export.metadata["model_name"], batch_size,
                   [batch_size, *predictor.runtime.export.sample_shape])
    for _ in tqdm(range(WARMUP + REPEATS), desc="benchmark", leave=False, disable=None):
        log.times.start()
        array = np.stack([predictor.preprocess(annotation, path, i) for i, annotation in enumerate(batch)])
        log.times.stamp()
        logits = predictor.runtime.run(array)
        log.times.stamp()
        for row in logits:
            predictor.rank(softmax(row))
        log.times.end(stamp=True)
    return log.report()
