"""Read files into annotations. The input is checked here, once, so that later code can rely on it."""
from pathlib import Path

import numpy as np

from ..errors import DataError, near_miss, shorten_list
from ..safe_pickle import load_npy, load_pickle
from .annotation import Annotation

FIELDS_HINT = "An annotation is a dict with 'keypoint' (M persons, T frames, V joints, C coordinates)"


def read_annotations(path, split=None, bad=None):
    """The annotations of a pickle, in the order of the file.

    Args:
        path: a dict with ``split`` (name → list of sequence names) and ``annotations``; or a list of annotations;
            or one annotation on its own.
        split: only the sequences of this split; None: all.
        bad: a list to which ``(name, reason)`` of unusable annotations is added; these are omitted. None: the first one
            is an error.

    Returns:
        list of ``Annotation``; coordinates keep the file's type (half precision keeps a large set small).

    Raises:
        DataError: naming the file and the sequence.
    """
    return parse_annotations(load_pickle(path), path, split, bad)


def parse_annotations(content, path, split=None, bad=None):
    """The annotations in a pickle's ``content``, see ``read_annotations``; ``path`` is for messages."""
    entries, splits = annotation_entries(content, path)
    names = [entry_name(entry, f"{path}: annotation {i}") for i, entry in enumerate(entries)]
    if split is not None:
        chosen = split_names(splits, split, set(names), path)
        entries = [entry for entry, name in zip(entries, names, strict=True) if name in chosen]
        names = [name for name in names if name in chosen]
    if not entries:
        raise DataError(path, "has no annotations" if split is None else f"the split {split!r} is empty")
    seen = set()
    for name in names:
        if name in seen and name:
            raise DataError(f"{path}: {name}", "duplicate name", "Names must be unique")
        seen.add(name)
    annotations = []
    for i, (entry, name) in enumerate(zip(entries, names, strict=True)):
        name = name or f"annotation {i}"
        try:
            annotations.append(check_annotation(entry, f"{path}: {name}"))
        except DataError as error:
            if bad is None:
                raise
            bad.append((name, error.problem))
    return annotations


def annotation_entries(content, path):
    """The dicts of a pickle's annotations, not yet checked, and its ``split`` or None.

    Args:
        content: from ``load_pickle``, in one of the forms that ``read_annotations`` accepts.
    """
    if isinstance(content, dict) and "annotations" not in content and "keypoint" in content:
        content = [content]
    splits = content.get("split") if isinstance(content, dict) else None
    entries = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, dict) for entry in entries):
        keys = f"a dict with {', '.join(map(repr, content)) or 'no keys'}" if isinstance(content, dict) else (
            f"a {type(content).__name__}")
        raise DataError(path, f"found {keys}, expected a dict with 'split' and 'annotations', a list of annotations, "
                              "or one annotation", FIELDS_HINT)
    return entries, splits


def entry_name(entry, where):
    """The name of an annotation's sequence, or an empty text."""
    name = entry.get("frame_dir", entry.get("filename", ""))
    if not isinstance(name, str):
        raise DataError(where, f"frame_dir is {name!r}, expected a string")
    return name


def split_names(splits, split, names, path):
    """The set of names in a split; raises a ``DataError`` for a name that is not in ``names`` (None: any name)."""
    if not isinstance(splits, dict):
        raise DataError(path, f"has no splits, expected the split {split!r}", "Remove 'split' to use all annotations")
    if split not in splits:
        raise DataError(path, f"has no split {split!r}", near_miss(split, splits))
    chosen = splits[split]
    if isinstance(chosen, np.ndarray) and chosen.ndim == 1:
        chosen = chosen.tolist()
    if not isinstance(chosen, (list, tuple, set, frozenset)):
        raise DataError(path, f"the split {split!r} is a {type(chosen).__name__}, expected a list of names")
    chosen = set(map(str, chosen))
    missing = [] if names is None else sorted(chosen - names)
    if missing:
        raise DataError(path, f"the split {split!r} lists {len(missing)} sequence(s) without annotation: "
                              f"{shorten_list(missing, 3)}", "Split and annotations must belong to the same set")
    return chosen


def check_annotation(fields, where):
    """An ``Annotation`` from an annotation's dict.

    Args:
        fields: dict with ``keypoint`` ``(M, T, V, C)``, or ``(T, V, C)`` for one person; C is 2 or 3. Optional:
            ``keypoint_score`` ``(M, T, V)``, ``label``, ``img_shape`` (height, width), ``total_frames``,
            ``frame_dir`` or ``filename``.
        where: file and sequence, for messages.

    Raises:
        DataError: naming the field that is wrong, and for NaN or infinity its frame and joint.
    """
    if "keypoint" not in fields:
        raise DataError(where, f"has no 'keypoint', only {', '.join(map(repr, fields)) or 'nothing'}", FIELDS_HINT)
    keypoint, score = _numbers(fields["keypoint"], "keypoint", where), fields.get("keypoint_score")
    score = None if score is None else _numbers(score, "keypoint_score", where)
    if keypoint.ndim == 3:
        keypoint = keypoint[None]
        score = score[None] if score is not None and score.ndim == 2 else score
    if keypoint.ndim != 4:
        raise DataError(where, f"keypoint has shape {keypoint.shape}, expected (M, T, V, C)", FIELDS_HINT)
    if score is not None and score.ndim == 4 and score.shape[-1] == 1:
        score = score[..., 0]
    if score is not None and score.shape != keypoint.shape[:3]:
        raise DataError(where, f"keypoint_score has shape {score.shape}, expected {keypoint.shape[:3]} for "
                               f"keypoint with {keypoint.shape}")
    frames = fields.get("total_frames")
    if frames is not None:
        frames = _whole(frames, "total_frames", where)
        if frames > keypoint.shape[1]:
            raise DataError(where, f"total_frames is {frames}, but there are only {keypoint.shape[1]} frames")
        keypoint, score = keypoint[:, :frames], score if score is None else score[:, :frames]
    _check_shape(keypoint.shape, where)
    check_finite(keypoint, where)
    if score is not None:
        check_finite(score[..., None], where, "score")
    label = fields.get("label")
    return Annotation(keypoint, score, fields.get("frame_dir", fields.get("filename", "")) or str(where),
                      None if label is None else _whole(label, "label", where), _img_shape(fields, where))


def as_array(value):
    """The array of a value from a file; an empty one of objects for invalid ones, such as lists of unequal lengths."""
    try:
        return np.asarray(value)
    except (ValueError, OverflowError):
        return np.empty(0, object)


def _numbers(value, field, where):
    array = as_array(value)
    if array.dtype.kind not in "iuf":
        kind = f"an array of {array.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise DataError(where, f"{field} is {kind}, expected a numeric array", FIELDS_HINT)
    return array


def _whole(value, field, where):
    array = as_array(value)
    if array.dtype.kind not in "iu" or array.size != 1 or array.item() < 0:
        raise DataError(where, f"{field} is {value!r}, expected an integer >= 0")
    return int(array.item())


def _img_shape(fields, where):
    shape = fields.get("img_shape")
    if shape is None:
        return None
    array = as_array(shape)
    if array.shape != (2,) or array.dtype.kind not in "iuf" or not np.all(np.isfinite(array) & (array > 0)):
        raise DataError(where, f"img_shape is {shape!r}, expected (height, width)")
    return tuple(array.tolist())


def _check_shape(shape, where):
    persons, frames, joints, channels = shape
    for count, what in ((persons, "person"), (frames, "frame"), (joints, "joint")):
        if not count:
            raise DataError(where, f"has no {what}: keypoint (M, T, V, C) has shape {tuple(shape)}",
                            "Remove the sequence from the data set")
    if channels not in (2, 3):
        raise DataError(where, f"has {channels} coordinates per joint, expected 2 or 3 (x, y and z or score)",
                        "Put the score into 'keypoint_score'" if channels == 4 else FIELDS_HINT)


def check_finite(keypoint, where, what="coordinate"):
    """Raise a ``DataError`` for NaN or infinity in ``(M, T, V, C)``, with the position of the first one."""
    finite = np.isfinite(keypoint)
    if not finite.all():
        person, frame, joint, channel = np.argwhere(~finite)[0]
        raise DataError(where, f"found the {what} {keypoint[person, frame, joint, channel]} at person {person}, "
                               f"frame {frame}, joint {joint} ({np.count_nonzero(~finite)} in all)",
                        "Set all coordinates of a missing joint to 0")


def check_usable(annotation):
    """Raise a ``DataError`` for a sequence with NaN or infinity, or without any person."""
    where = annotation.name or "sample"
    _check_shape(annotation.keypoint.shape, where)
    check_finite(annotation.keypoint, where)
    if not annotation.keypoint.any():
        raise DataError(where, "has no person: all coordinates are 0", "Remove it, or detect its persons again")


def check_labels(labels, num_classes, where, names):
    """Raise a ``DataError`` for a label that is not among the classes 0..num_classes-1; ``names``: of the samples."""
    for label, name in zip(labels, names, strict=True):
        if not 0 <= label < num_classes:
            raise DataError(f"{where}: {name}", f"its label is {label}, expected 0..{num_classes - 1} "
                                                f"for {num_classes} classes", "Correct num_classes or the label")


def read_sample(path):
    """The samples in a file for prediction.

    Args:
        path: ``.npy`` ``(C, T, V, M)`` for one sample or ``(N, C, T, V, M)`` for N, memory-mapped; or ``.pkl``, one
            annotation or a data set.

    Returns:
        list of ``Annotation``.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        return read_annotations(path)
    if path.suffix != ".npy":
        raise DataError(path, f"has the suffix {path.suffix!r}, expected .npy or .pkl" + (
            "" if path.exists() else "; file not found"), "docs/data.md describes the form of samples")
    data = load_skeletons(path, (4, 5))
    if data.ndim == 4:
        return [from_data(data, path.name)]
    return [from_data(sample, f"{path.name}[{i}]") for i, sample in enumerate(data)]


def load_skeletons(path, dimensions=(5,)):
    """The memory-mapped array of an ``.npy`` file: ``(N, C, T, V, M)``, or ``(C, T, V, M)`` if ``dimensions`` has 4."""
    data = load_npy(path)
    if data.ndim not in dimensions or data.dtype.kind not in "iuf":
        form = " or ".join({4: "(C, T, V, M)", 5: "(N, C, T, V, M)"}[d] for d in dimensions)
        raise DataError(path, f"has shape {data.shape} and type {data.dtype}, expected numbers {form}",
                        "N samples, C coordinates, T frames, V joints, M persons")
    if data.ndim == 5 and not len(data):
        raise DataError(path, f"has no samples: its shape is {data.shape}")
    channels, frames, joints, persons = data.shape[-4:]
    _check_shape((persons, frames, joints, channels), path)
    return data


def from_data(data, name, label=None):
    """An ``Annotation`` of an array ``(C, T, V, M)``; a view."""
    return Annotation(data.transpose(3, 1, 2, 0), name=name, label=label)
