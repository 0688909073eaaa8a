"""Prediction: files in, classes out, by the pre-processing that the export's metadata holds. No paddle is needed."""
import json
import logging
import time
from pathlib import Path

import numpy as np

from ..data.loader import sample_numbers
from ..data.pipeline import Pipeline
from ..data.readers import read_sample
from ..errors import ConfigError, DataError
from ..files import output_folder, replacing
from ..logs import write_line
from ..evaluation import softmax
from .benchmark import WARMUP, open_log

logger = logging.getLogger(__name__)

REPEATS = 10
LONG = 20  # files, from which a progress bar helps
KINDS = (".npy", ".pkl")


class Predictor:
    """A runtime with the pre-processing and the class names of its export.

    Args:
        runtime: a ``Runtime``. top_k: classes to tell; None: as the metadata says.
    """

    def __init__(self, runtime, top_k=None):
        metadata = runtime.export.metadata
        self.runtime, self.names = runtime, metadata.get("class_names")
        self.pipeline = Pipeline(metadata["pipeline"], f"{runtime.export.stem}: pipeline")
        self.top_k = metadata.get("top_k", 1) if top_k is None else top_k
        if not 1 <= self.top_k <= runtime.export.num_classes:
            raise ConfigError("--top_k", f"found {self.top_k}, expected 1 to {runtime.export.num_classes}")

    def array(self, annotation, path, number=0):
        """The network's input for one sample, by the same pipeline as in training and testing.

        Raises:
            DataError: naming the file and the sample, which does not fit the model.
        """
        where = f"{path}: {annotation.name or f'sample {number}'}"
        try:
            array = self.pipeline(annotation, sample_numbers(number))
        except DataError as error:
            raise DataError(where, f"{error.problem} (in {error.where})", error.hint) from error
        if array.shape != self.runtime.export.sample_shape:
            persons, _, joints, channels = annotation.keypoint.shape
            raise DataError(where, f"with {persons} person(s), {joints} joints and {channels} coordinates becomes "
                            f"{array.shape}, but the model takes {self.runtime.export.sample_shape}",
                            "Export a model that was trained on such samples")
        return array

    def best(self, scores):
        """The best classes of ``scores (classes,)`` and their scores, both ``(top_k,)``."""
        classes = np.argsort(-scores, kind="stable")[:self.top_k]
        return classes, scores[classes]

    def named(self, classes, scores):
        """The same for a report: a dict each."""
        return [{"class": int(c), "name": self.names[c] if self.names else None, "score": float(s)}
                for c, s in zip(classes, scores, strict=True)]

    def result(self, path, annotation, logits):
        """One entry of the results."""
        return {"file": str(path), "sample": annotation.name, "top_k": self.named(*self.best(softmax(logits)))}


def list_files(path):
    """The file, or the samples in a folder, in order.

    Raises:
        DataError: there is nothing.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(path, "no such file or folder", "Give a .npy or .pkl file, or a folder of them")
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.iterdir() if p.suffix in KINDS)
    if not files:
        raise DataError(path, "holds no .npy or .pkl file")
    return files


def check_pipeline_given(config, metadata):
    """Warn where a given config prepares samples otherwise than the export does."""
    given = Pipeline(config.section("PIPELINE.test"), config.where("PIPELINE.test")).spec
    if json.loads(json.dumps(given)) != metadata["pipeline"]:
        logger.warning("%s differs from the pre-processing that the model was exported with; the export's is used",
                       config.where("PIPELINE.test"))


def predict(predictor, source, batch_size=None, out=None, benchmark=False, timed=False):
    """Predict every sample of a file or folder and print a block for each.

    Args:
        source: file or folder. batch_size: samples an answer; None: as many as the model takes, or 1 if it takes any.
        out: JSON file for the results.
        benchmark: measure pre-processing, inference and post-processing, and report them.
        timed: tell the mean time of a file.

    Returns:
        the results as written to ``out``.
    """
    only = predictor.runtime.export.batch
    batch_size = (only or 1) if batch_size is None else batch_size
    if batch_size < 1 or (only and batch_size > only):
        raise ConfigError("--batch_size", f"found {batch_size}, expected "
                          + (f"1 to {only}: the model takes {only} samples at once" if only else "at least 1"))
    files = list_files(source)
    if out:
        output_folder(Path(out).parent)
    start, results, waiting = time.perf_counter(), [], []
    for path in progress(files):
        samples = read_sample(path)
        for number, annotation in enumerate(samples):
            waiting.append((path, annotation, len(samples) > 1, predictor.array(annotation, path, number)))
            if len(waiting) == batch_size:
                results += finish(predictor, waiting)
                waiting = []
    if waiting:
        results += finish(predictor, waiting)
    seconds = time.perf_counter() - start
    report = {"model": predictor.runtime.export.metadata["model_name"], "runtime": predictor.runtime.describe(),
              "samples": results}
    if timed:
        report["seconds_per_file"] = seconds / len(files)
        write_line(f"Average time of a file: {seconds / len(files) * 1000:.2f} ms ({len(files)} files)")
    if benchmark:
        report["benchmark"] = measure(predictor, files[0], batch_size)
    if out:
        with replacing(out) as temporary:
            temporary.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        logger.info("Results saved in %s", out)
    return report


def progress(files):
    """The files one by one, with a bar where they are many."""
    if len(files) < LONG:
        return files
    from tqdm import tqdm  # only where it is shown: it takes as long to import as an answer

    return tqdm(files, unit="file", leave=False, disable=None)


def finish(predictor, waiting):
    """Answer a batch of ``(path, annotation, one of several, array)`` and print it."""
    logits = predictor.runtime.run(np.stack([array for *_, array in waiting]))
    entries = []
    for (path, annotation, several, _), row in zip(waiting, logits, strict=True):
        classes, scores = predictor.best(softmax(row))
        write_line(f"Current video file: {path}")
        if several:
            write_line(f"\tsample: {annotation.name}")
        write_line(f"\ttop-{predictor.top_k} class: {classes}")
        write_line(f"\ttop-{predictor.top_k} score: {scores}")
        if predictor.names:
            write_line(f"\ttop-{predictor.top_k} name: {', '.join(predictor.names[c] for c in classes)}")
        entries.append(predictor.result(path, annotation, row))
    return entries


def measure(predictor, path, batch_size):
    """Time whole batches of the samples of one file, and report AutoLog's fields."""
    from tqdm import tqdm

    samples = read_sample(path)
    batch = [samples[i % len(samples)] for i in range(batch_size)]
    log = open_log(predictor.runtime, predictor.runtime.export.metadata["model_name"], batch_size,
                   [batch_size, *predictor.runtime.export.sample_shape])
    for _ in tqdm(range(WARMUP + REPEATS), desc="benchmark", leave=False, disable=None):
        log.times.start()
        array = np.stack([predictor.array(annotation, path, i) for i, annotation in enumerate(batch)])
        log.times.stamp()
        logits = predictor.runtime.run(array)
        log.times.stamp()
        for row in logits:
            predictor.best(softmax(row))
        log.times.end(stamp=True)
    return log.report()
