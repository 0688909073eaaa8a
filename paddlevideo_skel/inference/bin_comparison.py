"""Compare two result folders, e.g. of an OM model and of ONNX Runtime."""
import json
import logging
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import ConfigError, DataError, ExportError, UnavailableError
from ..evaluation import softmax
from ..files import output_folder, replacing
from ..plotting import saved_figure
from .artifact import relative_error
from .bin_results import ResultFolder

logger = logging.getLogger(__name__)

SAME_COLOUR, OTHER_COLOUR = "#4c72b0", "#c44e52"


def compare_results(a, b, num_classes=None, out=None):
    """Compare every answer of folder ``a`` with that of the reference ``b``.

    Args:
        num_classes: of an answer with several rows; None: from a report, or one row per answer.
        out: JSON file; a plot is written next to it if matplotlib is installed.

    Returns:
        dict: ``cosine`` (mean, min), ``relative_error`` (max, median, mean), ``top1_agreement``, and ``samples``: name,
        cosine similarity, relative error (max |a - b| / max |b|), both top-1 classes, and ``margin``, the difference of
        the two best scores of b; None with one class.

    Raises:
        DataError: the samples differ, or answers have different sizes, are not finite or all zero.
    """
    if num_classes is not None and num_classes < 1:
        raise ConfigError("--num_classes", f"expected at least 1, got {num_classes}")
    if out:
        output_folder(Path(out).parent)
    left, right = ResultFolder(a), ResultFolder(b)
    left.check_names(right.names, b)
    num_classes = num_classes or right.num_classes or left.num_classes
    samples = [compare_answers(left, right, name, num_classes)
               for name in tqdm(right.names, desc="comparing", unit="file", leave=False, disable=None)]
    report = {"a": str(a), "b": str(b), "count": len(samples), **summarise_samples(samples), "samples": samples}
    if out:
        with replacing(out) as temporary:
            temporary.write_text(json.dumps(report) + "\n", encoding="utf-8")
        logger.info("Comparison saved in %s", out)
        target = Path(out).with_suffix(".png")
        try:
            draw_comparison(report, target)
            logger.info("Drawn in %s", target)
        except UnavailableError as error:
            logger.info("Comparison not plotted: %s", error)
    return report


def compare_answers(left, right, name, num_classes):
    """The entry of one sample."""
    one, two = left.answer(name).astype("float64"), right.answer(name).astype("float64")
    if one.size != two.size:
        raise DataError(left.files[name], f"has {one.size} numbers, but {right.files[name]} has {two.size}",
                        "Compare results of the same model and bin folder")
    if num_classes and one.size % num_classes:
        raise DataError(left.files[name], f"expected a multiple of {num_classes} numbers, got {one.size}",
                        "It is truncated, or from a model with a different number of classes")
    for folder, numbers in ((left, one), (right, two)):
        if not numbers.any():
            raise DataError(folder.files[name], "all its numbers are zero",
                            "The model, or its compilation for the device, is wrong")
    scores = [softmax(numbers.reshape(-1, num_classes or numbers.size)).mean(axis=0) for numbers in (one, two)]
    best = np.sort(scores[1])[::-1]
    cosine = one @ two / (np.linalg.norm(one) * np.linalg.norm(two))
    return {"name": name, "cosine": float(np.clip(cosine, -1, 1)),
            "relative_error": relative_error(one, two), "top1": [int(row.argmax()) for row in scores],
            "margin": float(best[0] - best[1]) if len(best) > 1 else None}


def summarise_samples(samples):
    """The figures over all samples."""
    cosine, error = (np.array([sample[key] for sample in samples]) for key in ("cosine", "relative_error"))
    return {"cosine": {"mean": float(cosine.mean()), "min": float(cosine.min())},
            "relative_error": {"max": float(error.max()), "median": float(np.median(error)),
                               "mean": float(error.mean())},
            "top1_agreement": float(np.mean([sample["top1"][0] == sample["top1"][1] for sample in samples]))}


def check_error(report, max_error):
    """Raise an ``ExportError`` with the worst sample if its relative error is above ``max_error``."""
    if not max_error >= 0:
        raise ConfigError("--max_error", f"expected a number >= 0, got {max_error}")
    worst = max(report["samples"], key=lambda sample: sample["relative_error"])
    if worst["relative_error"] > max_error:
        raise ExportError(report["a"], f"differs from {report['b']}: relative error {worst['relative_error']:.3g} in "
                          f"{worst['name']}, allowed {max_error:g}",
                          "Compile the model for a higher precision, or raise --max_error")


def format_report(report, worst=10):
    """The lines of a report: the figures over all samples, and the ``worst`` samples."""
    cosine, error, count = report["cosine"], report["relative_error"], report["count"]
    same = round(report["top1_agreement"] * count)
    lines = [f"{report['a']} compared with {report['b']}, {count} samples",
             f"cosine similarity  mean {cosine['mean']:.7f}  min {cosine['min']:.7f}",
             f"relative error     median {error['median']:.3g}  mean {error['mean']:.3g}  max {error['max']:.3g}",
             f"top-1              the same for {same} of {count} ({report['top1_agreement']:.2%})"]
    picked = sorted(report["samples"], key=lambda sample: -sample["relative_error"])[:worst]
    if picked:
        width = max(5, *(len(sample["name"]) for sample in picked))
        lines += ["", f"{'worst':{width}}      cosine  relative error  top-1"]
    for sample in picked:
        first, second = sample["top1"]
        classes = f"{first}" if first == second else f"{first}, not {second}"
        lines.append(f"{sample['name']:{width}}  {sample['cosine']:10.7f}  {sample['relative_error']:14.3g}  {classes}")
    return lines


def draw_comparison(report, path):
    """Plot the distribution of errors, and the error over the margin: top-1 should differ only near ties.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    samples = report["samples"]
    # A logarithmic axis has no 0: equal answers are drawn at float32's epsilon.
    error = np.maximum([sample["relative_error"] for sample in samples], np.finfo("float32").eps)
    margin = np.array([1.0 if sample["margin"] is None else sample["margin"] for sample in samples])
    same = np.array([sample["top1"][0] == sample["top1"][1] for sample in samples])
    with saved_figure(path, 11, 4.2) as figure:
        spread, ties = figure.subplots(1, 2)
        bins = np.geomspace(error.min() / 1.5, error.max() * 1.5, 40)
        spread.hist([error[same], error[~same]], bins, stacked=True, color=[SAME_COLOUR, OTHER_COLOUR])
        spread.axvline(np.median(error), color="black", linewidth=0.8, linestyle="--")
        spread.set(xscale="log", xlabel="relative error (dashed: median)", ylabel="samples",
                   title=f"cosine similarity: mean {report['cosine']['mean']:.6f}, min {report['cosine']['min']:.6f}")
        for chosen, colour, size, text in ((same, SAME_COLOUR, 9, "same top-1 class"),
                                           (~same, OTHER_COLOUR, 24, "different")):
            ties.scatter(margin[chosen], error[chosen], s=size, color=colour, alpha=0.65, linewidths=0,
                         label=f"{text} ({chosen.sum()})")
        ties.set(yscale="log", xlim=(-0.02, 1.02), xlabel="margin between the two best scores of the reference",
                 ylabel="relative error",
                 title=f"same top-1: {report['top1_agreement']:.2%} of {len(samples)} samples")
        ties.legend(loc="upper right")
