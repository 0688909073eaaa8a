"""Bin folder → result folder, in any runtime; can be interrupted, resumed and sharded.

``<name>_0.bin`` is the answer for ``<name>.bin``: the logits of one sample, float32. ``begun.json`` records what they
are computed with, and ``results.json``, written at the end, the speed.
"""
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import ConfigError, DataError, OutputError
from ..files import WRITE_HINT, output_folder, replacing
from ..manifest import Manifest, differences, digest, digest_files, summarize
from .bin_results import REPORT, read_report
from .bins import TYPE, BinFolder

logger = logging.getLogger(__name__)

RESULTS_FORMAT = 1
BEGUN = "begun.json"
OTHER_MODEL = "This bin folder belongs to another model: make one with tools/preprocess_bin.py --model"


def infer_bins(runtime, source, output, batch_size=None, share=(0, 1)):
    """Run every sample of a bin folder; existing complete results are kept.

    Args:
        runtime: a ``Runtime``. source: bin folder. output: result folder.
        batch_size: samples per batch; None: the model's batch size, or 1 if it accepts any.
        share: (rank, W): only the samples i with i % W = rank.

    Returns:
        the report, as in ``results.json`` (a share writes ``results-<rank + 1>-of-<W>.json``, and the last one also
        ``results.json``).

    Raises:
        DataError: the bin folder is of another model or has a damaged file, or the result folder was started with
            another model, runtime or bin folder.
    """
    batch_size = choose_batch(runtime.export, batch_size)
    folder = open_bins(source, runtime.export)
    rank, world = share
    names = folder.names[rank::world]
    for name in names:
        if not folder.is_whole(name):
            folder.array(name)  # raise the error now, not after hours
    output = start_or_resume_results(output, runtime, folder)
    answers = Answers(output, names, runtime.export.num_classes)
    # If a result is missing, its whole batch is computed again: rounding may depend on all samples in it.
    batches = [names[i:i + batch_size] for i in range(0, len(names), batch_size)]
    batches = [batch for batch in batches if not answers.has(batch)]
    computed, seconds = sum(map(len, batches)), answer_batches(runtime, folder, batches, answers)
    target = output / (REPORT if world == 1 else shard_report(rank, world))
    if target.is_file() and not computed:
        logger.info("%s: all %d results exist", output, len(names))
        return read_report(target)
    report = {**describe_inference(runtime, folder), "batch": batch_size, "device": runtime.device,
              "version": runtime.version, "bins": {"path": str(folder.path), "digest": identify_bins(folder)},
              "count": len(names), "answer_shape": [runtime.export.num_classes], "computed": computed,
              "seconds": seconds, "fps": computed / seconds if seconds else None}
    # Syncing each result to disk took 17 times as long as writing it.
    os.sync()
    write_json(target, report)
    logger.info("%s: %d results, %d of them computed now", output, len(names), computed)
    if seconds:
        logger.info("Pure inference: %d samples in %.3f s, FPS: %.2f (batch %d, %s on %s)", computed, seconds,
                    report["fps"], batch_size, runtime.kind, runtime.device)
    if world > 1:
        merge_reports(output, world)
    return report


def choose_batch(export, requested):
    """The batch size: as requested, or as the model takes it."""
    if requested is not None and (requested < 1 or export.batch not in (None, requested)):
        expected = "at least 1" if export.batch is None else f"{export.batch}, the batch size of the model"
        raise ConfigError("--batch_size", f"expected {expected}, got {requested}")
    return requested or export.batch or 1


def open_bins(source, export):
    """The ``BinFolder``; its samples must have the export's shape and preprocessing.

    A plain folder of ``.bin`` files from another tool is accepted if the sizes match.
    """
    folder = BinFolder(source, export.sample_shape)
    if folder.sample_shape != export.sample_shape:
        raise DataError(source, f"expected samples {export.sample_shape} for {export.stem}, got "
                        f"{folder.sample_shape}", OTHER_MODEL)
    if not folder.manifest:
        logger.warning("%s has no bins.json: the preprocessing of its %d files is unknown; only their size is checked",
                       source, len(folder.names))
        return folder
    lines = differences(folder.manifest["pipeline"], export.metadata["pipeline"], "is {}, expected {}")
    if lines:
        raise DataError(source, f"was not preprocessed as {export.stem} expects: {summarize(lines)}", OTHER_MODEL)
    return folder


def identify_bins(folder):
    """The digest of a bin folder; of a plain one only the names count."""
    names = "\n".join(folder.names)
    return folder.digest or f"plain {digest(names)}"


def describe_inference(runtime, folder):
    """What the results depend on: runs that agree here may share a result folder."""
    return {"format": RESULTS_FORMAT, "model": runtime.export.metadata["model_name"],
            "model_digest": digest_files(*runtime.files),
            "runtime": runtime.kind, "device": runtime.device.split(":")[0], "precision": runtime.options.precision,
            "bins": identify_bins(folder)}


def start_or_resume_results(output, runtime, folder):
    """Start a result folder, or check that it was started with the same model and samples; returns its path."""
    output = output_folder(output)
    Manifest(output / BEGUN, "*_0.bin").start_or_resume(describe_inference(runtime, folder))
    return output


class Answers:
    """The answers in a result folder that this run has to make."""

    def __init__(self, path, names, num_classes):
        self.path, self.size = path, num_classes * TYPE.itemsize
        own = {f"{name}_0.bin" for name in names}
        self.there = set()
        for entry in os.scandir(path):
            if entry.name in own and entry.stat().st_size == self.size:
                self.there.add(entry.name)
            elif entry.name.endswith(".tmp") and entry.name[1:].rsplit(".", 2)[0] in own:
                os.unlink(entry.path)  # a temporary file left by a killed run

    def has(self, names):
        return all(f"{name}_0.bin" in self.there for name in names)

    def write(self, name, row):
        """Write an answer as float32 unless it exists; atomically."""
        target = self.path / f"{name}_0.bin"
        if target.name in self.there:
            return
        temporary = self.path / f".{target.name}.{os.getpid()}.tmp"
        try:
            np.ascontiguousarray(row, TYPE).tofile(temporary)
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(target, f"cannot be written ({error.strerror or error})", WRITE_HINT) from error


def answer_batches(runtime, folder, batches, answers):
    """Compute and write the answers of all batches; returns the seconds of pure inference."""
    seconds = 0.0
    with tqdm(total=sum(map(len, batches)), desc="infer", unit="sample", leave=False, disable=None) as bar:
        for names, array in read_ahead(folder, batches):
            try:
                logits = runtime.run(array)
            except DataError as error:
                raise DataError(f"{folder.path}: {names[0]}{f' to {names[-1]}' if names[1:] else ''}",
                                error.problem, error.hint) from error
            del array  # two batches in memory are enough while another is being read
            seconds += runtime.seconds
            for name, row in zip(names, logits, strict=True):
                answers.write(name, row)
            bar.update(len(names))
    return seconds


def read_ahead(folder, batches):
    """Yield ``(names, array (n, …))`` per batch; the next one is read meanwhile."""
    with ThreadPoolExecutor(1) as reader:
        waiting = None
        for names in batches:
            following = names, reader.submit(read_batch, folder, names)
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting:
            yield waiting[0], waiting[1].result()


def read_batch(folder, names):
    """The samples ``(n, …)``, float32."""
    batch = np.empty((len(names), *folder.sample_shape), "float32")
    for i, name in enumerate(names):
        batch[i] = folder.array(name)
    return batch


def shard_report(rank, world):
    """The file name of a share's report."""
    return f"results-{rank + 1}-of-{world}.json"


def merge_reports(output, world):
    """Write ``results.json`` from the reports of all shares; returns it, or None while a report is missing.

    Times are summed, so the FPS value is for one device.
    """
    paths = [Path(output) / shard_report(rank, world) for rank in range(world)]
    reports = [read_report(path) for path in paths]
    if not all(reports):
        return None
    total = {key: sum(report[key] for report in reports) for key in ("count", "computed", "seconds")}
    report = {**reports[0], **total, "fps": total["computed"] / total["seconds"] if total["seconds"] else None,
              "shards": [{key: report[key] for key in ("device", "count", "seconds", "fps")} for report in reports]}
    write_json(Path(output) / REPORT, report)
    return report


def measure_speed(runtime, loop, batch_size=None):
    """Time ``loop`` answers to one batch; returns and logs mean, median and minimum ms per batch, and the FPS."""
    if loop < 1:
        raise ConfigError("--loop", f"expected at least 1, got {loop}")
    batch_size = choose_batch(runtime.export, batch_size)
    array, _ = runtime.selfcheck.repeated(batch_size)
    runtime.run(array)  # checks this batch size, and warms up
    times = []
    for _ in tqdm(range(loop), desc="loop", leave=False, disable=None):
        runtime.run(array)
        times.append(runtime.seconds * 1000)
    speed = {"batch": batch_size, "loop": loop, "mean_ms": float(np.mean(times)), "median_ms": float(np.median(times)),
             "min_ms": min(times), "fps": 1000 * batch_size / float(np.mean(times))}
    logger.info("Pure inference: %d runs of batch size %d, %.3f ms (median %.3f, min %.3f), FPS: %.2f (%s on %s)", loop,
                batch_size, speed["mean_ms"], speed["median_ms"], speed["min_ms"], speed["fps"], runtime.kind,
                runtime.device)
    return speed


def write_json(path, content):
    """Write a report atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
