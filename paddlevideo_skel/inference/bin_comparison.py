"""Two result folders compared, say an OM model's against ONNX Runtime's. Needs no paddle."""
import json
import logging
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import ConfigError, DataError, ExportError, UnavailableError
from ..files import output_folder, replacing
from ..plotting import saved_figure
from ..evaluation import softmax
from .bin_results import ResultFolder
from .artifact import relative_error

logger = logging.getLogger(__name__)

SAME, OTHER = "#4c72b0", "#c44e52"


def compare(a, b, num_classes=None, out=None):
    """Compare every answer of folder ``a`` with that of ``b``, which counts as right.

    Args:
        num_classes: of an answer with several rows; None: as a report says, or one row an answer.
        out: JSON file; a picture is drawn beside it where matplotlib is installed.

    Returns:
        dict: ``cosine`` (mean, min), ``relative_error`` (max, median, mean), ``top1_agreement``, and ``samples``: name,
        cosine similarity, relative error (max |a - b| / max |b|), both top-1 classes, ``margin``: how far the first
        class of b is before the second, in scores; None of one class.

    Raises:
        DataError: not the same samples, answers of different sizes, not finite, or zero in all numbers.
    """
    if num_classes is not None and num_classes < 1:
        raise ConfigError("--num_classes", f"found {num_classes}, expected at least 1")
    if out:
        output_folder(Path(out).parent)
    left, right = ResultFolder(a), ResultFolder(b)
    left.check_names(right.names, b)
    num_classes = num_classes or right.num_classes or left.num_classes
    samples = [compare_answers(left, right, name, num_classes)
               for name in tqdm(right.names, desc="comparing", unit="file", leave=False, disable=None)]
    report = {"a": str(a), "b": str(b), "count": len(samples), **overall(samples), "samples": samples}
    if out:
        with replacing(out) as temporary:
            temporary.write_text(json.dumps(report) + "\n", encoding="utf-8")
        logger.info("Comparison saved in %s", out)
        target = Path(out).with_suffix(".png")
        try:
            draw(report, target)
            logger.info("Drawn in %s", target)
        except UnavailableError as error:
            logger.info("No picture of the comparison: %s", error)
    return report


def compare_answers(left, right, name, num_classes):
    """The entry of one sample."""
    one, two = left.answer(name).astype("float64"), right.answer(name).astype("float64")
    if one.size != two.size:
        raise DataError(left.files[name], f"holds {one.size} numbers, {right.files[name]} holds {two.size}",
                        "Compare results of the same model and bin folder")
    if num_classes and one.size % num_classes:
        raise DataError(left.files[name], f"holds {one.size} numbers, expected a multiple of {num_classes}",
                        "It is truncated, or of a model with other classes")
    for folder, numbers in ((left, one), (right, two)):
        if not numbers.any():
            raise DataError(folder.files[name], "is zero in all its numbers: no direction, and no class",
                            "The model, or its compilation for the device, is wrong")
    scores = [softmax(numbers.reshape(-1, num_classes or numbers.size)).mean(axis=0) for numbers in (one, two)]
    best = np.sort(scores[1])[::-1]
    cosine = one @ two / (np.linalg.norm(one) * np.linalg.norm(two))
    return {"name": name, "cosine": float(np.clip(cosine, -1, 1)),
            "relative_error": relative_error(one, two), "top1": [int(row.argmax()) for row in scores],
            "margin": float(best[0] - best[1]) if len(best) > 1 else None}


def overall(samples):
    """The figures over all samples."""
    cosine, error = (np.array([sample[key] for sample in samples]) for key in ("cosine", "relative_error"))
    return {"cosine": {"mean": float(cosine.mean()), "min": float(cosine.min())},
            "relative_error": {"max": float(error.max()), "median": float(np.median(error)),
                               "mean": float(error.mean())},
            "top1_agreement": float(np.mean([sample["top1"][0] == sample["top1"][1] for sample in samples]))}


def check_error(report, max_error):
    """Refuse a comparison with a greater relative error than ``max_error``: an ``ExportError`` names the sample."""
    if not max_error >= 0:
        raise ConfigError("--max_error", f"found {max_error}, expected a number from 0")
    worst = max(report["samples"], key=lambda sample: sample["relative_error"])
    if worst["relative_error"] > max_error:
        raise ExportError(report["a"], f"differs from {report['b']} in {worst['name']} by a relative error of "
                          f"{worst['relative_error']:.3g}, allowed {max_error:g}",
                          "Compile the model with a higher precision, or allow more with --max_error")


def lines_of(report, worst=10):
    """The lines of a report: overall, and the ``worst`` samples."""
    cosine, error, count = report["cosine"], report["relative_error"], report["count"]
    same = round(report["top1_agreement"] * count)
    lines = [f"{report['a']} against {report['b']}, {count} samples",
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


def draw(report, path):
    """Draw how the errors are spread, and that answers differ in their first class where it was nearly a tie.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    samples = report["samples"]
    # A logarithmic axis has no 0: equal answers stand at the left, at float32's smallest step.
    error = np.maximum([sample["relative_error"] for sample in samples], np.finfo("float32").eps)
    margin = np.array([1.0 if sample["margin"] is None else sample["margin"] for sample in samples])
    same = np.array([sample["top1"][0] == sample["top1"][1] for sample in samples])
    with saved_figure(path, 11, 4.2) as figure:
        spread, ties = figure.subplots(1, 2)
        bins = np.geomspace(error.min() / 1.5, error.max() * 1.5, 40)
        spread.hist([error[same], error[~same]], bins, stacked=True, color=[SAME, OTHER])
        spread.axvline(np.median(error), color="black", linewidth=0.8, linestyle="--")
        spread.set(xscale="log", xlabel="relative error (dashed: median)", ylabel="samples",
                   title=f"cosine similarity: mean {report['cosine']['mean']:.6f}, min {report['cosine']['min']:.6f}")
        for chosen, colour, size, text in ((same, SAME, 9, "the same first class"), (~same, OTHER, 24, "another")):
            ties.scatter(margin[chosen], error[chosen], s=size, color=colour, alpha=0.65, linewidths=0,
                         label=f"{text} ({chosen.sum()})")
        ties.set(yscale="log", xlim=(-0.02, 1.02), xlabel="first class before the second, in scores of the reference",
                 ylabel="relative error",
                 title=f"top-1 the same: {report['top1_agreement']:.2%} of {len(samples)} samples")
        ties.legend(loc="upper right")
