"""The results of a test in any runtime: accuracy, accuracy per class, confusion matrix, scores per sample."""
import json
import logging
from pathlib import Path

import numpy as np

from .errors import UnavailableError
from .files import replacing
from .plotting import saved_figure

logger = logging.getLogger(__name__)


def hits(scores, label, k):
    """Whether each label is among the k best of ``scores (N, K)``, ``(N,)`` booleans; k is limited to K.

    Ties count against the model: fewer than k other classes may be at least as good.
    """
    own = np.take_along_axis(scores, label[:, None], axis=1)
    others = (scores >= own).sum(axis=1) - 1
    return others < min(k, scores.shape[1])


def softmax(logits):
    """Softmax over the last axis."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def summarise(scores, label, names, class_names=None):
    """The results of a test as a JSON-like dict.

    Args:
        scores: ``(N, K)``, each row with the sum 1. label: ``(N,)`` or None. names: of the N samples.
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
    # Six significant digits even for tiny scores: ensembles may sum their logarithms.
    results["samples"] = [
        {"name": name, "label": None if label is None else int(label[i]),
         "scores": [float(f"{score:.6g}") for score in scores[i]]} for i, name in enumerate(names)]
    return results


def write_results(results, path):
    """Write a test's results as JSON."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(results, file, ensure_ascii=False)


def save_results(results, path):
    """Write a test's results as JSON, and a plot of the confusion matrix next to it if matplotlib is installed."""
    write_results(results, path)
    logger.info("Results saved in %s", path)
    if "confusion_matrix" in results:
        target = Path(path).with_name(Path(path).stem + "_confusion.png")
        try:
            draw_confusion(results, target)
            logger.info("Plot of the confusion matrix saved in %s", target)
        except UnavailableError as error:
            logger.info("Confusion matrix not plotted: %s", error)


def draw_confusion(results, path):
    """Plot the confusion matrix with normalised rows.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    counts = np.array(results["confusion_matrix"], float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = results["class_names"] or list(range(len(counts)))
    few = len(counts) <= 30
    size = min(4 + 0.32 * len(counts), 16)
    with saved_figure(path, size + 1, size) as figure:
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
