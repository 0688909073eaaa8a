"""Metrics of training and testing: means, throughput, and accuracy over all samples."""
import csv
import logging
import time

import numpy as np

from ..evaluation import hits, softmax, summarise
from ..files import replacing
from ..registry import Registry

logger = logging.getLogger(__name__)
METRICS = Registry("metric")


class Mean:
    """A weighted mean, exact over batches of different sizes; ``last`` is the last value."""

    def __init__(self):
        self.total, self.weight, self.last = 0.0, 0.0, 0.0

    def add(self, value, weight=1.0):
        self.total, self.weight, self.last = self.total + value * weight, self.weight + weight, value

    @property
    def mean(self):
        return self.total / self.weight if self.weight else 0.0


class Throughput:
    """Samples per second of training, without a run's first steps, in which paddle chooses kernels and warms up.

    Args:
        skip: number of steps that do not count.
    """

    def __init__(self, skip):
        self.skip, self.samples, self.seconds, self.started = skip, 0, 0.0, None

    def start(self):
        """Start the clock at the beginning of an epoch: the time between epochs does not count."""
        self.started = time.perf_counter()

    def step(self, samples):
        """Count a step that has ended; ``samples`` is its number of samples on all devices."""
        now = time.perf_counter()
        if self.skip:
            self.skip -= 1
        else:
            self.samples, self.seconds = self.samples + samples, self.seconds + now - self.started
        self.started = now

    def since(self, samples=0, seconds=0.0):
        """Samples per second since these totals were read, or None if no step counted."""
        return (self.samples - samples) / (self.seconds - seconds) if self.samples > samples else None


@METRICS.register
class SkeletonMetric:
    """Top-1 and top-k over all samples; without labels, the predictions go to a CSV file.

    Args:
        out_file: the CSV (``sample_index,predict_category``) written when the data has no labels.
        log_interval: batches between two lines of the log.
        top_k: k of the second accuracy.
    """

    def __init__(self, out_file="submission.csv", log_interval=1, top_k=5):
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise ValueError(f"top_k is {top_k!r}, expected a positive integer")
        self.out_file, self.log_interval, self.top_k = out_file, log_interval, top_k
        self.batches = []  # (number, softmax scores, labels or None, names)

    def update(self, batch_id, batches, logits, batch):
        """Add one batch's ``logits (N, K)``."""
        self.batches.append((batch_id, softmax(logits.astype("float64")), batch.label, batch.names))
        if batch_id % self.log_interval == 0:
            logger.info("[TEST] Processing batch %d/%d ...", batch_id, batches)

    def accumulate(self, class_names=None):
        """Log the closing line, and return the results as a dict that JSON can hold."""
        _, scores, label, names = zip(*sorted(self.batches, key=lambda batch: batch[0]))
        scores = np.concatenate(scores)
        label = None if label[0] is None else np.concatenate(label)
        results = summarise(scores, label, [name for batch in names for name in batch], class_names)
        if label is None:
            with replacing(self.out_file) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["sample_index", "predict_category"])
                writer.writerows(enumerate(scores.argmax(axis=1).tolist()))
            logger.info("[TEST] finished, the data has no labels; predictions saved in %s", self.out_file)
        else:
            results[f"top{self.top_k}"] = float(hits(scores, label, self.top_k).mean())
            logger.info("[TEST] finished, avg_acc1= %s, avg_acc%d= %s", results["top1"], self.top_k,
                        results[f"top{self.top_k}"])
        return results
