"""Contents of a data set: classes, lengths, persons, missing joints, ranges, and suspicious samples."""
import hashlib
from collections import Counter, defaultdict
from itertools import count, islice

import numpy as np
from tqdm import tqdm

from ..errors import shorten_list
from ..skeleton import get_layout
from .lenient import find_problems, read_leniently

USUAL_LAYOUTS = {17: "coco", 18: "openpose", 20: "kinect20", 21: "hand", 25: "ntu-rgb+d"}
LOW_SCORE = 0.3
HISTOGRAM_BINS = 10
MAX_LISTED_CLASSES = 20  # in a warning
MAX_LISTED_SIZES = 5  # of images
BAR_LENGTH = 40  # characters of the longest bar


def usual_layout(joints):
    """The usual ``Layout`` of skeletons with that number of joints, or None."""
    return get_layout(USUAL_LAYOUTS[joints]) if joints in USUAL_LAYOUTS else None


class Survey:
    """Statistics of samples, collected one by one; ``summarise_survey`` makes a JSON-like dict of them."""

    def __init__(self):
        self.lengths, self.persons, self.labels = [], Counter(), {}
        self.suspicious, self.same = [], defaultdict(list)
        self.shapes, self.types, self.pictures, self.scored = Counter(), Counter(), Counter(), 0
        self.sums = {}

    def refuse(self, name, reason):
        """Record an unusable sample."""
        self.suspicious.append({"name": name, "problem": reason})

    def add(self, annotation):
        """Add a sample to the statistics."""
        keypoint = np.asarray(annotation.keypoint)
        present = keypoint.any(axis=-1)
        there = present.any(axis=-1)  # (M, T): whether a person is in a frame
        if annotation.name in self.labels:
            self.refuse(annotation.name, "another sample has the same name")
        self.lengths.append(keypoint.shape[1])
        self.persons[int(there.any(axis=-1).sum())] += 1
        self.labels[annotation.name] = annotation.label
        self.types[str(keypoint.dtype)] += 1
        self.pictures[annotation.img_shape] += 1
        self.scored += annotation.keypoint_score is not None
        self.suspicious += [{"name": annotation.name, "problem": text} for text in find_problems(annotation)]
        self.same[hashlib.sha1(keypoint.tobytes() + str(keypoint.shape).encode()).digest()].append(annotation.name)
        shape = keypoint.shape[2:]
        self.shapes[shape] += 1
        self._sum_up(self.sums.setdefault(shape, _Sums(shape)), annotation, keypoint, present, there)

    @staticmethod
    def _sum_up(sums, annotation, keypoint, present, there):
        sums.frames += int(there.sum())
        sums.present += present.sum(axis=(0, 1))
        values = keypoint[present].astype(np.float64)
        if values.size:
            sums.low, sums.high = np.minimum(sums.low, values.min(axis=0)), np.maximum(sums.high, values.max(axis=0))
            sums.total, sums.squares = sums.total + values.sum(axis=0), sums.squares + (values**2).sum(axis=0)
        if annotation.keypoint_score is not None:
            sums.weak += ((np.asarray(annotation.keypoint_score) < LOW_SCORE) & there[..., None]).sum(axis=(0, 1))


class _Sums:
    """Sums over samples with equal numbers of joints and coordinates: counts per joint ``(V,)``, others ``(C,)``."""

    def __init__(self, shape):
        joints, channels = shape
        self.frames, self.present, self.weak = 0, np.zeros(joints, int), np.zeros(joints, int)
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self.total, self.squares = np.zeros(channels), np.zeros(channels)


def inspect(path, split=None, labels=None, layout=None, progress=False):
    """Statistics and suspicious samples of a data set, a JSON-like dict; ``inspection_text`` shows it.

    Args:
        path, split, labels: see ``read_leniently``.
        layout: ``Layout`` for the joints' names; None: see ``usual_layout``.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    total, splits, samples = read_leniently(path, split, labels)
    survey = Survey()
    for name, annotation, reason in tqdm(samples, total=total, desc="samples", leave=False,
                                         disable=None if progress else True):
        if annotation is None:
            survey.refuse(name, reason)
        else:
            survey.add(annotation)
    result = {"file": str(path), "split": split, "samples": total, **summarise_survey(survey, layout)}
    result["splits"], odd = _splits(survey, splits if split is None else {})
    result["warnings"] += odd
    return result


def summarise_survey(survey, layout=None):
    """The JSON-like dict of a ``Survey``; numbers per joint are for the most frequent number of joints."""
    twins = [names for names in survey.same.values() if len(names) > 1]
    suspicious = survey.suspicious + [{"name": name, "problem": f"the same as {names[0]}"}
                                      for names in twins for name in names[1:]]
    result = {"readable": len(survey.lengths), "suspicious": suspicious, "warnings": [],
              "classes": [{"class": label, "samples": number} for label, number in
                          sorted(Counter(survey.labels.values()).items(), key=lambda item: (item[0] is None, item[0]))]}
    if not survey.lengths:
        result["warnings"].append("no sample is usable")
        return result
    (joints, channels), _ = survey.shapes.most_common(1)[0]
    sums = survey.sums[joints, channels]
    layout = layout if layout is not None else usual_layout(joints)
    named = layout is not None and layout.num_joints == joints
    mean = sums.total / max(sums.present.sum(), 1)
    spread = np.sqrt(np.maximum(sums.squares / max(sums.present.sum(), 1) - mean**2, 0))
    result.update(
        joints=joints, coordinates=channels, layout=layout.name if named else None, scores=survey.scored,
        types=dict(survey.types),
        pictures=[{"img_shape": shape and list(shape), "samples": number} for shape, number in
                  survey.pictures.most_common()],
        lengths={"min": min(survey.lengths), "median": float(np.median(survey.lengths)), "max": max(survey.lengths),
                 "histogram": _histogram(np.array(survey.lengths))},
        persons={str(number): samples for number, samples in sorted(survey.persons.items())},
        missing=[{"joint": j, "name": layout.joints[j] if named else None,
                  "missing": float(1 - sums.present[j] / max(sums.frames, 1)),
                  "low_score": float(sums.weak[j] / max(sums.frames, 1)) if survey.scored else None}
                 for j in range(joints)],
        ranges=[{"coordinate": "xyz"[c] if c < 3 else str(c), "min": float(sums.low[c]), "mean": float(mean[c]),
                 "std": float(spread[c]), "max": float(sums.high[c])} for c in range(channels)
                if np.isfinite(sums.low[c])])
    result["warnings"] = _warnings(survey)
    return result


def _histogram(lengths):
    """At most ``HISTOGRAM_BINS`` ranges of equal width, each as [first length, last length, number of samples]."""
    width = -(-(int(lengths.max()) - int(lengths.min()) + 1) // HISTOGRAM_BINS)
    firsts = range(int(lengths.min()), int(lengths.max()) + 1, width)
    return [[first, first + width - 1, int(((lengths >= first) & (lengths < first + width)).sum())]
            for first in firsts]


def _warnings(survey):
    found = []
    if len(survey.shapes) > 1:
        found.append("samples differ in joints and coordinates: " + ", ".join(
            f"{number} have {shape}" for shape, number in survey.shapes.most_common()))
    if 0 < survey.scored < len(survey.lengths):
        found.append(f"only {survey.scored} of {len(survey.lengths)} samples have scores")
    labels = set(survey.labels.values())
    if None in labels:
        found.append(f"{sum(label is None for label in survey.labels.values())} samples have no label")
    labels.discard(None)
    absent = max(labels, default=-1) + 1 - len(labels)
    if absent:
        # Only the first ones are searched and listed: a label may be any number.
        gaps = islice((label for label in count() if label not in labels), min(absent, MAX_LISTED_CLASSES))
        others = f" and {absent - MAX_LISTED_CLASSES} more" if absent > MAX_LISTED_CLASSES else ""
        found.append(f"no sample of {absent} classes: {', '.join(map(str, gaps))}{others}")
    return found


def _splits(survey, splits):
    """Numbers of samples and classes per split (name → set of names), and warnings."""
    read = {item["name"] for item in survey.suspicious} | set(survey.labels)
    classes = {split: {survey.labels[name] for name in members if name in survey.labels}
               for split, members in splits.items()}
    odd, everything = [], set().union(*classes.values())
    for split, members in splits.items():
        absent = sorted(str(label) for label in everything - classes[split])
        if absent:
            odd.append(f"the split {split} has no sample of the classes {shorten_list(absent, MAX_LISTED_CLASSES)}")
        strangers = sorted(members - read)
        if strangers:
            odd.append(f"the split {split} lists {len(strangers)} samples that do not exist, such as {strangers[0]}")
    for train, other in _opposites(splits):
        both = splits[train] & splits[other]
        if both:
            odd.append(f"{len(both)} samples are in both {train} and {other}, such as {min(both)}")
        twins = [names for names in survey.same.values() if splits[train] & set(names) and splits[other] & set(names)
                 and len(names) > 1]
        if twins:
            odd.append(f"{len(twins)} sequences of {train} are also in {other}, under a different "
                       f"name: {', '.join(twins[0])}")
    return [{"split": split, "samples": len(members), "classes": len(classes[split])}
            for split, members in splits.items()], odd


def _opposites(splits):
    """Pairs of splits that must not share samples, such as ``xsub_train`` and ``xsub_val``."""
    return [(train, other) for train in splits for word in ("val", "valid", "test")
            if "train" in train and (other := train.replace("train", word)) in splits]


def inspection_text(report, class_names=None, most=20):
    """The report of ``inspect`` as lines of text.

    Args:
        report: from ``inspect``.
        class_names: names of the classes in the order of their numbers; None: show numbers.
        most: maximum number of suspicious samples to list.
    """
    lines = [f"{report['file']}{' ' + report['split'] if report['split'] else ''}: samples {report['samples']}"
             + (f", {report['samples'] - report['readable']} of them unusable"
                if report["readable"] < report["samples"] else "")]
    if report["readable"]:
        lines += _form(report) + _lengths(report["lengths"]) + _classes(report["classes"], class_names)
        lines += _table("values", ("coordinate", "min", "mean", "std", "max"), [
            (row["coordinate"], *(f"{row[key]:.4g}" for key in ("min", "mean", "std", "max")))
            for row in report["ranges"]])
        lines += _joints(report)
    lines += _table("splits", ("split", "samples", "classes"), [
        (row["split"], row["samples"], row["classes"]) for row in report["splits"]])
    suspicious = report["suspicious"]
    lines += ["", f"suspicious samples: {len(suspicious) or 'none'}"]
    lines += [f"  {item['name']}: {item['problem']}" for item in suspicious[:most]]
    if len(suspicious) > most:
        lines.append(f"  and {len(suspicious) - most} more: --json FILE lists them all")
    return lines + [f"warning: {text}" for text in report["warnings"]]


def _form(report):
    persons = ", ".join(f"{count} with {number}" for number, count in report["persons"].items())
    lines = [f"skeletons: {report['joints']} joints" +
             (f" (named as in {report['layout']})" if report["layout"] else "") +
             f", {report['coordinates']} coordinates{', with scores' if report['scores'] else ''}, "
             f"{' and '.join(report['types'])}", f"persons: {persons}"]
    pictures = [item for item in report["pictures"] if item["img_shape"]]
    if pictures:
        sizes = [f"{item['samples']} of {item['img_shape'][1]:g} x {item['img_shape'][0]:g}" for item in pictures]
        lines.append(f"image sizes: {shorten_list(sizes, MAX_LISTED_SIZES)}")
    return lines


def _lengths(lengths):
    most = max(count for *_, count in lengths["histogram"])
    lines = ["", f"frames: {lengths['min']} to {lengths['max']}, median {lengths['median']:g}"]
    if lengths["min"] == lengths["max"]:
        return lines
    return lines + [f"  {first:5d} – {last:5d}  {count:6d}  {'█' * round(BAR_LENGTH * count / most)}".rstrip()
                    for first, last, count in lengths["histogram"]]


def _classes(classes, names):
    most = max(row["samples"] for row in classes)
    shown = [(_class(row["class"], names), row["samples"], "█" * round(BAR_LENGTH * row["samples"] / most))
             for row in classes]
    return _table(f"classes: {len(classes)}", ("class", "samples", ""), shown)


def _class(label, names):
    if label is None:
        return "no label"
    return f"{label} {names[label]}" if names and label < len(names) else label


def _joints(report):
    if not any(row["missing"] or row["low_score"] for row in report["missing"]):
        return ["", "joints: none missing in frames with a person"]
    rows = [(row["joint"], row["name"] or "", f"{row['missing']:.2%}",
             "" if row["low_score"] is None else f"{row['low_score']:.2%}") for row in report["missing"]]
    return _table("joints, as shares of the frames with a person", ("joint", "name", "missing",
                  "low score" if report["scores"] else ""), rows)


def _table(title, header, rows):
    """A title and aligned columns; an empty list if there are no rows."""
    if not rows:
        return []
    cells = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(row[c]) for row in cells) for c in range(len(header))]
    numeric = [all(_is_number(row[c]) for row in cells[1:]) for c in range(len(header))]
    return ["", title] + [("  " + "  ".join(
        cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric))).rstrip()
        for row in cells]


def _is_number(cell):
    return cell.lstrip("-").replace(".", "").replace("%", "").isdigit()
