"""Ensembles: fuse the results of several tests. Never imports paddle.

Papers report skeleton models for two streams (joints, bones) and four (and their motions), whose scores are added with
weights.
"""
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError, shorten_list
from ..evaluation import hits, summarise, write_results
from ..files import output_folder, parse_json
from ..plotting import saved_figure

logger = logging.getLogger(__name__)

FUSION_METHODS = ("scores", "logits")
MIN_FUSED_SCORE = 1e-300  # a score of 0 has no logarithm
_HINT = "Expected a file that main.py --test --out wrote"


@dataclass
class Run:
    """The content of one ``--out`` file: ``scores (N, K)``, ``label (N,)`` or None, N names, K class names or None."""
    path: str
    scores: np.ndarray
    label: np.ndarray
    names: list
    class_names: list

    @property
    def by_place(self):
        """Whether the samples have no names of their own, but are named ``file[number]``."""
        return all(name.endswith(f"[{i}]") for i, name in enumerate(self.names))


def read_run(path):
    """Read the results of one test.

    Raises:
        DataError: missing, not the results of a test, or with scores that are NaN or negative.
    """
    try:
        content = parse_json(Path(path).read_text(encoding="utf-8"))
        samples, class_names = content["samples"], content.get("class_names")
        scores = np.array([sample["scores"] for sample in samples], float)
        names = [str(sample["name"]) for sample in samples]
        label = [sample["label"] for sample in samples]
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", _HINT) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(path, f"is not the results of a test ({type(error).__name__}: {error})", _HINT) from error
    if scores.ndim != 2 or not scores.size or not np.isfinite(scores).all() or (scores < 0).any():
        raise DataError(path, f"found scores of shape {scores.shape}, expected (samples, classes), finite and not "
                        "negative", _HINT)
    if class_names is not None and not (isinstance(class_names, list) and len(class_names) == scores.shape[1]):
        raise DataError(path, f"found the class names {class_names!r}, expected {scores.shape[1]} of them", _HINT)
    known = [type(value) is int and 0 <= value < scores.shape[1] for value in label]
    if not all(known) and any(value is not None for value in label):
        raise DataError(f"{path}: {names[known.index(False)]}", f"found the label {label[known.index(False)]!r}, "
                        f"expected 0 to {scores.shape[1] - 1}", _HINT)
    return Run(str(path), scores, np.array(label) if all(known) else None, names, class_names)


def align_runs(runs):
    """Sort every run's samples into the order of the first run.

    Samples are matched by name; if a data set has no names (``file[number]``), by position.

    Raises:
        DataError: the runs differ in their samples, classes or labels.
    """
    first = runs[0]
    if len(set(first.names)) != len(first.names):
        raise DataError(first.path, "has several samples with the same name", "Test with repeat_times: 1")
    for run in runs[1:]:
        if run.scores.shape != first.scores.shape:
            (samples, classes), (here, known) = run.scores.shape, first.scores.shape
            raise DataError(run.path, f"has {samples} samples of {classes} classes, {first.path} has {here} of {known}",
                            "Fuse results of tests on the same data")
        if run.names != first.names:
            if set(run.names) == set(first.names):
                place = {name: i for i, name in enumerate(run.names)}
                order = [place[name] for name in first.names]
                run.scores, run.names = run.scores[order], first.names
                run.label = None if run.label is None else run.label[order]
            elif not (run.by_place and first.by_place):
                other = sorted(set(run.names) ^ set(first.names))
                raise DataError(run.path, f"has other samples than {first.path}: {shorten_list(other, 3)}",
                                "Fuse results of tests on the same data")
        if run.label is not None and first.label is not None and not np.array_equal(run.label, first.label):
            i = int(np.flatnonzero(run.label != first.label)[0])
            raise DataError(f"{run.path}: {run.names[i]}", f"found the label {run.label[i]}, but "
                            f"{first.label[i]} in {first.path}", "Fuse results of tests on the same data")
    return runs


def fuse(runs, weights, method="scores"):
    """Fused scores ``(N, K)``, whose rows sum to 1.

    Args:
        method: ``scores``, the weighted mean of the softmax scores, as pyskl fuses; ``logits``, the softmax of the
            weighted sum of the logits, as 2s-AGCN and CTR-GCN fuse. (A run's logits are known up to a constant per
            sample, which does not change the order of classes.)
    """
    if method == "scores":
        fused = sum(weight * run.scores for weight, run in zip(weights, runs))
    else:
        logits = sum(weight * np.log(np.maximum(run.scores, MIN_FUSED_SCORE)) for weight, run in zip(weights, runs))
        fused = np.exp(logits - logits.max(axis=1, keepdims=True))
    return fused / fused.sum(axis=1, keepdims=True)


def ensemble(paths, weights=None, method="scores", out=None):
    """Fuse the results of several tests.

    Args:
        paths: two or more files of ``--out``.
        weights: one per file; None: all equal.
        method: see ``fuse``.
        out: JSON file for the results, in the same format, so that they can be fused again.

    Returns:
        dict: a test's results, with ``runs`` (path, weight, top1, top5) and, per class, ``best_single`` (accuracy of
        the run with the best overall accuracy) and ``gain`` (the ensemble's gain over it).

    Raises:
        ConfigError, DataError: wrong arguments; see ``read_run`` and ``align``.
    """
    weights = [1.0] * len(paths) if weights is None else [float(weight) for weight in weights]
    if len(paths) < 2:
        raise ConfigError("ensemble", f"found {len(paths)} file of results, expected at least two")
    if len(weights) != len(paths):
        raise ConfigError("--weights", f"found {len(weights)}, expected one for each of the {len(paths)} files")
    if not all(np.isfinite(weight) and weight > 0 for weight in weights):
        raise ConfigError("--weights", f"found {weights}, expected positive numbers",
                          "Omit a file instead of setting its weight to 0")
    if method not in FUSION_METHODS:
        raise ConfigError("--fuse", f"found {method!r}, expected one of {', '.join(FUSION_METHODS)}")
    if out:
        output_folder(Path(out).parent)
    runs = align_runs([read_run(path) for path in paths])
    label = next((run.label for run in runs if run.label is not None), None)
    class_names = next((run.class_names for run in runs if run.class_names), None)
    results = summarise(fuse(runs, weights, method), label, runs[0].names, class_names)
    results["method"] = method
    results["runs"] = [{"file": run.path, "weight": weight} for run, weight in zip(runs, weights)]
    if label is not None:
        for entry, run in zip(results["runs"], runs):
            entry.update(top1=float(hits(run.scores, label, 1).mean()), top5=float(hits(run.scores, label, 5).mean()))
        results["best_single"] = best = int(np.argmax([entry["top1"] for entry in results["runs"]]))
        right = runs[best].scores.argmax(axis=1) == label
        for entry in results["per_class"]:
            if entry["samples"]:
                entry["best_single"] = float(right[label == entry["class"]].mean())
                entry["gain"] = entry["accuracy"] - entry["best_single"]
    if out:
        write_results(results, out)
        logger.info("Results saved in %s", out)
    return results


def report_lines(results, shown=10):
    """The lines of a report: every run, the ensemble, and the ``shown`` classes that gained most and that lost most."""
    total = f"ensemble, by {results['method']}"
    width = max(len(total), *(len(run["file"]) for run in results["runs"]))
    if "top1" not in results:
        return [f"The data has no labels: {results['num_samples']} samples fused by {results['method']}, no accuracy"]
    lines = [f"{'run':{width}}  weight    top-1    top-5"]
    lines += [f"{run['file']:{width}}  {run['weight']:6g}  {run['top1']:7.2%}  {run['top5']:7.2%}"
              for run in results["runs"]]
    lines.append(f"{total:{width}}          {results['top1']:7.2%}  {results['top5']:7.2%}")
    classes = sorted((entry for entry in results["per_class"] if entry["samples"]), key=lambda entry: -entry["gain"])
    better, worse = (sum(sign * entry["gain"] > 0 for entry in classes) for sign in (1, -1))
    best = results["runs"][results["best_single"]]["file"]
    lines += ["", f"Against the best single run ({best}): {better} classes better, {worse} worse, "
                  f"{len(classes) - better - worse} the same"]
    picked = classes if len(classes) <= 2 * shown else classes[:shown] + classes[-shown:]
    name = max([5] + [len(class_name(entry)) for entry in picked])
    lines.append(f"{'class':{name}}  samples   single  ensemble     gain")
    lines += [f"{class_name(entry):{name}}  {entry['samples']:7d}  {entry['best_single']:7.2%}   "
              f"{entry['accuracy']:7.2%}  {100 * entry['gain']:+7.2f}" for entry in picked]
    if len(picked) < len(classes):
        lines.insert(-shown, "…")
    return lines


def class_name(entry):
    """A class's name in a report."""
    return str(entry["class"]) if entry["name"] is None else f"{entry['class']} {entry['name']}"


def draw_gains(results, path):
    """Draw every class's gain over the best single run as a bar, in order of gain.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    classes = sorted((entry for entry in results["per_class"] if entry["samples"]), key=lambda entry: entry["gain"])
    gains = np.array([100 * entry["gain"] for entry in classes])
    few = len(classes) <= 80
    with saved_figure(path, 7, 1.5 + (0.22 * len(classes) if few else 8)) as figure:
        axes = figure.add_subplot()
        axes.barh(range(len(classes)), gains, color=np.where(gains < 0, "#c44e52", "#4c72b0"),
                  height=0.8 if few else 1.0)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(classes)) if few else [], [class_name(entry) for entry in classes] if few else [],
                        fontsize=7)
        axes.set_ylim(-1, len(classes))
        single = results["runs"][results["best_single"]]["top1"]
        axes.set(xlabel="gain over the best single run, points",
                 title=f"ensemble of {len(results['runs'])}: top-1 {results['top1']:.2%}, best single {single:.2%}")
        if not few:
            axes.set_ylabel(f"{len(classes)} classes")
