"""Accuracy over all samples, and what a test reports: per class, confusion, per-sample scores."""
import csv
import json
import logging
import time

import numpy as np

from ..errors import UnavailableError
from ..files import replacing
from ..registry import Registry

logger = logging.getLogger(__name__)
METRICS = Registry("metric")


def hits(scores, label, k):
    """Whether each label is among the k best of ``scores (N, K)``: ``(N,)`` booleans. k is at most K.

    Ties count against the model: a class must have fewer than k others at least as good.
    """
    own = np.take_along_axis(scores, label[:, None], axis=1)
    others = (scores >= own).sum(axis=1) - 1
    return others < min(k, scores.shape[1])


def softmax(logits):
    """Softmax over the last axis."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Mean:
    """A mean of values with weights, exact over batches of different size."""

    def __init__(self):
        self.total, self.weight, self.last = 0.0, 0.0, 0.0

    def add(self, value, weight=1.0):
        self.total, self.weight, self.last = self.total + value * weight, self.weight + weight, value

    @property
    def mean(self):
        return self.total / self.weight if self.weight else 0.0


class Throughput:
    """Samples a second of training, without the first steps of a run, in which paddle chooses kernels and warms up.

    Args:
        skip: steps that do not count.
    """

    def __init__(self, skip):
        self.skip, self.samples, self.seconds, self.started = skip, 0, 0.0, None

    def start(self):
        """Start the clock, at the beginning of an epoch: what comes between epochs does not count."""
        self.started = time.perf_counter()

    def step(self, samples):
        """A step has ended that took so many samples, on all devices."""
        now = time.perf_counter()
        if self.skip:
            self.skip -= 1
        else:
            self.samples, self.seconds = self.samples + samples, self.seconds + now - self.started
        self.started = now

    def since(self, samples=0, seconds=0.0):
        """The samples a second since these totals were read, or None if no step counted."""
        return (self.samples - samples) / (self.seconds - seconds) if self.samples > samples else None


@METRICS.register
class SkeletonMetric:
    """Top-1 and top-k over all samples; without labels, the predictions go to a CSV file.

    Args:
        out_file: the CSV (``sample_index,predict_category``) written when the data has no labels.
        log_interval: a line every so many batches.
        top_k: k of the second accuracy.
    """

    def __init__(self, out_file="submission.csv", log_interval=1, top_k=5):
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise ValueError(f"top_k is {top_k!r}, expected a positive whole number")
        self.out_file, self.log_interval, self.top_k = out_file, log_interval, top_k
        self.batches = []  # (number, softmax scores, labels or None, names)

    def update(self, batch_id, batches, logits, batch):
        """Take one batch's ``logits (N, K)``."""
        self.batches.append((batch_id, softmax(logits.astype("float64")), batch.label, batch.names))
        if batch_id % self.log_interval == 0:
            logger.info("[TEST] Processing batch %d/%d ...", batch_id, batches)

    def accumulate(self, class_names=None):
        """Print the closing line, and return the results as a dict that JSON can hold."""
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


def summarise(scores, label, names, class_names=None):
    """The results of a test as a dict that JSON can hold.

    Args:
        scores: ``(N, K)``, each row's sum is 1. label: ``(N,)`` or None. names: of the N samples.
        class_names: K names, or None.
    """
    num_classes = scores.shape[1]
    results = {"num_samples": len(scores), "class_names": class_names}
    if label is not None:
        confusion = np.zeros((num_classes, num_classes), int)
        np.add.at(confusion, (label, scores.argmax(axis=1)), 1)
        counts = confusion.sum(axis=1)
        results.update(
            top1=float(hits(scores, label, 1).mean()), top5=float(hits(scores, label, 5).mean()),
            confusion_matrix=confusion.tolist(),
            per_class=[{"class": i, "name": class_names[i] if class_names else None, "samples": int(counts[i]),
                        "accuracy": float(confusion[i, i] / counts[i]) if counts[i] else None}
                       for i in range(num_classes)])
    # Six digits of each score, however small it is: ensembles may add up their logarithms.
    results["samples"] = [
        {"name": name, "label": None if label is None else int(label[i]),
         "scores": [float(f"{score:.6g}") for score in scores[i]]} for i, name in enumerate(names)]
    return results


def write_results(results, path):
    """Write a test's results as JSON."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(results, file, ensure_ascii=False)


def draw_confusion(results, path):
    """Draw the confusion matrix, rows normalised, as a picture.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnavailableError("matplotlib", "is not installed", "pip install paddlevideo_skel[plot]") from error
    counts = np.array(results["confusion_matrix"], float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = results["class_names"] or list(range(len(counts)))
    few = len(counts) <= 30
    size = min(4 + 0.32 * len(counts), 16)
    figure = Figure(figsize=(size + 1, size), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted class", ylabel="true class",
             title=f"top-1 {results['top1']:.2%}, {results['num_samples']} samples")
    if few:
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        for i, j in zip(*np.nonzero(counts)):
            axes.text(j, i, f"{counts[i, j]:.0f}", ha="center", va="center", fontsize=7,
                      color="white" if share[i, j] > 0.5 else "black")
    figure.colorbar(image, ax=axes, label="share of the true class")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
