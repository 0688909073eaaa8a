"""From files to annotations: everything is checked here, once, so that nothing after this doubts its input."""
from pathlib import Path

import numpy as np

from ..errors import DataError, near_miss
from ..safe_pickle import load_npy, load_pickle
from .annotation import Annotation

FIELDS_HINT = "An annotation is a dict with 'keypoint' (M persons, T frames, V joints, C coordinates)"


def read_annotations(path, split=None, bad=None):
    """The annotations of a pickle, in the order of the file.

    Args:
        path: a dict with ``split`` (name → list of sequence names) and ``annotations``; or a list of annotations;
            or one annotation on its own.
        split: only the sequences of this split; None: all.
        bad: a list to which ``(name, reason)`` of annotations that cannot be used are added, and left out; None: the
            first of them is an error.

    Returns:
        list of ``Annotation``; coordinates stay in the file's type (half precision keeps a large set small).

    Raises:
        DataError: naming the file and the sequence.
    """
    return parse_annotations(load_pickle(path), path, split, bad)


def parse_annotations(content, path, split=None, bad=None):
    """The same of a pickle's ``content``, which ``load_pickle`` gave; ``path`` is for messages."""
    entries, splits = annotation_entries(content, path)
    names = [entry_name(entry, f"{path}: annotation {i}") for i, entry in enumerate(entries)]
    if split is not None:
        chosen = split_names(splits, split, set(names), path)
        entries = [entry for entry, name in zip(entries, names, strict=True) if name in chosen]
        names = [name for name in names if name in chosen]
    if not entries:
        raise DataError(path, "holds no annotation" if split is None else f"the split {split!r} is empty")
    seen = set()
    for name in names:
        if name in seen and name:
            raise DataError(f"{path}: {name}", "stands twice among the annotations", "Names must be unique")
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
        content: what ``load_pickle`` gave, in any of the forms that ``read_annotations`` takes.
    """
    if isinstance(content, dict) and "annotations" not in content and "keypoint" in content:
        content = [content]
    splits = content.get("split") if isinstance(content, dict) else None
    entries = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, dict) for entry in entries):
        keys = f"a dict with {', '.join(map(repr, content)) or 'no keys'}" if isinstance(content, dict) else (
            f"a {type(content).__name__}")
        raise DataError(path, f"holds {keys}, expected a dict with 'split' and 'annotations', a list of annotations, "
                              "or one annotation", FIELDS_HINT)
    return entries, splits


def entry_name(entry, where):
    """What an annotation's dict calls its sequence, or an empty text."""
    name = entry.get("frame_dir", entry.get("filename", ""))
    if not isinstance(name, str):
        raise DataError(where, f"its frame_dir is {name!r}, expected a text")
    return name


def split_names(splits, split, names, path):
    """The set of names in a split, all of them among ``names`` (None: any); or a ``DataError``."""
    if not isinstance(splits, dict):
        raise DataError(path, f"has no splits, but the split {split!r} was asked for", "Remove 'split' to take all")
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
        raise DataError(path, f"the split {split!r} names {len(missing)} sequence(s) that have no annotation, such as "
                              f"{', '.join(missing[:3])}", "Split and annotations must come from the same set")
    return chosen


def check_annotation(fields, where):
    """An ``Annotation`` from an annotation's dict.

    Args:
        fields: dict with ``keypoint`` ``(M, T, V, C)``, or ``(T, V, C)`` for one person; C is 2 or 3. Optional:
            ``keypoint_score`` ``(M, T, V)``, ``label``, ``img_shape`` (height, width), ``total_frames``,
            ``frame_dir`` or ``filename``.
        where: file and sequence, for messages.

    Raises:
        DataError: telling which field is wrong, and for a number that is none: its frame and joint.
    """
    if "keypoint" not in fields:
        raise DataError(where, f"has no 'keypoint', only {', '.join(map(repr, fields)) or 'nothing'}", FIELDS_HINT)
    keypoint, score = _numbers(fields["keypoint"], "keypoint", where), fields.get("keypoint_score")
    score = None if score is None else _numbers(score, "keypoint_score", where)
    if keypoint.ndim == 3:
        keypoint = keypoint[None]
        score = score[None] if score is not None and score.ndim == 2 else score
    if keypoint.ndim != 4:
        raise DataError(where, f"its keypoint has the shape {keypoint.shape}, expected (M, T, V, C)", FIELDS_HINT)
    if score is not None and score.ndim == 4 and score.shape[-1] == 1:
        score = score[..., 0]
    if score is not None and score.shape != keypoint.shape[:3]:
        raise DataError(where, f"its keypoint_score has the shape {score.shape}, expected {keypoint.shape[:3]} "
                               f"to go with the keypoint's {keypoint.shape}")
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
    """The array of what a file holds; an empty one of objects for what is none, such as lists of unequal lengths."""
    try:
        return np.asarray(value)
    except (ValueError, OverflowError):
        return np.empty(0, object)


def _numbers(value, field, where):
    array = as_array(value)
    if array.dtype.kind not in "iuf":
        kind = f"an array of {array.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise DataError(where, f"its {field} is {kind}, expected a numeric array", FIELDS_HINT)
    return array


def _whole(value, field, where):
    array = as_array(value)
    if array.dtype.kind not in "iu" or array.size != 1 or array.item() < 0:
        raise DataError(where, f"its {field} is {value!r}, expected a whole number from 0")
    return int(array.item())


def _img_shape(fields, where):
    shape = fields.get("img_shape")
    if shape is None:
        return None
    array = as_array(shape)
    if array.shape != (2,) or array.dtype.kind not in "iuf" or not np.all(np.isfinite(array) & (array > 0)):
        raise DataError(where, f"its img_shape is {shape!r}, expected (height, width)")
    return tuple(array.tolist())


def _check_shape(shape, where):
    persons, frames, joints, channels = shape
    for count, what in ((persons, "person"), (frames, "frame"), (joints, "joint")):
        if not count:
            raise DataError(where, f"has no {what}: its keypoint (M, T, V, C) is {tuple(shape)}",
                            "Remove the sequence from the data set")
    if channels not in (2, 3):
        raise DataError(where, f"has {channels} coordinates a joint, expected 2 or 3 (x, y and z or score)",
                        "Confidence goes in 'keypoint_score'" if channels == 4 else FIELDS_HINT)


def check_finite(keypoint, where, what="coordinate"):
    """Refuse NaN and infinity in ``(M, T, V, C)``, telling where the first one is."""
    finite = np.isfinite(keypoint)
    if not finite.all():
        person, frame, joint, channel = np.argwhere(~finite)[0]
        raise DataError(where, f"the {what} {keypoint[person, frame, joint, channel]} stands at person {person}, "
                               f"frame {frame}, joint {joint} (of {np.count_nonzero(~finite)} such)",
                        "A missing joint is 0 in all its coordinates")


def check_usable(annotation):
    """Refuse what no network can answer: a coordinate that is no number, or a sequence without any person."""
    where = annotation.name or "sample"
    _check_shape(annotation.keypoint.shape, where)
    check_finite(annotation.keypoint, where)
    if not annotation.keypoint.any():
        raise DataError(where, "has no person: all its coordinates are 0", "Remove it, or detect its persons anew")


def check_labels(labels, num_classes, where, names):
    """Raise a ``DataError`` for a label that is not among the classes 0..num_classes-1; ``names``: of the samples."""
    for label, name in zip(labels, names, strict=True):
        if not 0 <= label < num_classes:
            raise DataError(f"{where}: {name}", f"its label is {label}, expected 0..{num_classes - 1} "
                                                f"for {num_classes} classes", "Correct num_classes or the label")


def read_sample(path):
    """The samples in a file that was given for prediction.

    Args:
        path: ``.npy`` ``(C, T, V, M)`` for one sample or ``(N, C, T, V, M)`` for N, memory-mapped; or ``.pkl``, one
            annotation or a data set of them.

    Returns:
        list of ``Annotation``.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        return read_annotations(path)
    if path.suffix != ".npy":
        raise DataError(path, f"is of the kind {path.suffix!r}, expected .npy or .pkl",
                        "See docs for the form of samples" if path.exists() else "And there is no such file")
    data = load_skeletons(path, (4, 5))
    if data.ndim == 4:
        return [from_data(data, path.name)]
    return [from_data(sample, f"{path.name}[{i}]") for i, sample in enumerate(data)]


def load_skeletons(path, dimensions=(5,)):
    """The memory-mapped array of an ``.npy`` file of skeletons, ``(N, C, T, V, M)`` or one ``(C, T, V, M)``."""
    data = load_npy(path)
    if data.ndim not in dimensions or data.dtype.kind not in "iuf":
        form = " or ".join({4: "(C, T, V, M)", 5: "(N, C, T, V, M)"}[d] for d in dimensions)
        raise DataError(path, f"has the shape {data.shape} of {data.dtype}, expected numbers {form}",
                        "N samples, C coordinates, T frames, V joints, M persons")
    if data.ndim == 5 and not len(data):
        raise DataError(path, f"holds no sample: its shape is {data.shape}")
    channels, frames, joints, persons = data.shape[-4:]
    _check_shape((persons, frames, joints, channels), path)
    return data


def from_data(data, name, label=None):
    """An ``Annotation`` of an array ``(C, T, V, M)``; a view."""
    return Annotation(data.transpose(3, 1, 2, 0), name=name, label=label)
