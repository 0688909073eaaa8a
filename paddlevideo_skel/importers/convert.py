"""Conversion between the two formats of a data set: annotation pickles, and ``.npy`` arrays with label files.

Both directions keep every bit that the other format can hold, except the sign of a zero in the padding. ``.npy`` arrays
``(N, C, T, V, M)`` are padded with zeros to the longest sequence and the most persons. In the other direction, zeros at
the end count as padding, and the pickle keeps the array's size under ``padded_to``. Content that an array cannot
hold is an error, unless the loss is allowed.
"""
import hashlib
import logging
import re
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.datasets import SkeletonDataset, read_labels
from ..data.readers import annotation_entries, check_annotation, parse_annotations, split_names
from ..data.writers import save_pickle, writing_annotations, writing_npy
from ..errors import ConfigError, DataError
from ..safe_pickle import load_pickle

logger = logging.getLogger(__name__)

# entries that an array with labels can hold
ARRAY_FIELDS = ("frame_dir", "filename", "label", "total_frames", "keypoint")
PADDED = "padded_to"  # split → [frames, persons] of its former array
MAX_PERSON_FRAMES = 1_000_000  # one day of one person


def trimmed(sample):
    """A view of ``(C, T, V, M)`` without the zeros at the end of T and M; at least one frame and person remain."""
    # One axis at a time is five times as fast as several at once.
    there = (sample != 0).any(axis=0).any(axis=1)
    ends = [int(np.flatnonzero(some)[-1]) + 1 if some.any() else 1 for some in (there.any(axis=1), there.any(axis=0))]
    return sample[:, :ends[0], :, :ends[1]]


def label_file(data):
    """The label file of ``x_data.npy`` or ``x.npy`` in the same folder: ``x_label.pkl`` or ``x_label.npy``."""
    stem = Path(data).stem.removesuffix("_data").removesuffix("data")
    names = [f"{stem}_label{suffix}" if stem else f"label{suffix}" for suffix in (".pkl", ".npy")]
    for name in names:
        if (beside := Path(data).with_name(name)).is_file():
            return beside
    raise DataError(data, f"label file not found: {' or '.join(names)}", "Pass it with --labels")


def split_of(data):
    """The name of an array's split: ``train`` for ``train_data.npy``."""
    return Path(data).stem.removesuffix("_data")


def splits_of(splits, path):
    """The ``split`` of a pickle as a dict, empty for None."""
    if splits is not None and not isinstance(splits, dict):
        raise DataError(path, f"'split' is a {type(splits).__name__}, expected a dict of name → list of names")
    return splits or {}


def open_array(data, labels=None):
    """The ``SkeletonDataset`` of an ``.npy`` file and its label file (None: see ``label_file``).

    If the label file has no names, the samples are called ``train_000000`` and so on.
    """
    labels = label_file(data) if labels is None else labels
    dataset = SkeletonDataset(data, labels)
    if read_labels(labels)[0] is None:
        dataset.names = [f"{split_of(data)}_{i:06d}" for i in range(len(dataset))]
    return dataset


def arrays_to_pickle(arrays, output, labels=None, with_score=False, progress=False):
    """Write an annotation pickle with one split per array, without the padding.

    It is written sample by sample, so neither form has to fit into memory.

    Args:
        arrays: ``.npy`` files ``(N, C, T, V, M)``.
        labels: a label file for each; None: see ``label_file``.
        with_score: the third coordinate is the score, and becomes ``keypoint_score``.

    Raises:
        DataError: a file cannot be read; a sample holds NaN or infinity; two samples with the same name differ.
    """
    labels = [None] * len(arrays) if labels is None else labels
    if len(labels) != len(arrays):
        raise ConfigError("--labels", f"found {len(labels)} files for {len(arrays)} arrays")
    datasets = {split_of(path): open_array(path, own) for path, own in zip(arrays, labels)}
    if len(datasets) < len(arrays):
        raise ConfigError(" ".join(map(str, arrays)), "two of them have the same split name",
                          "The split of train_data.npy is called train")
    for path, dataset in zip(arrays, datasets.values()):
        if len(set(dataset.names)) < len(dataset):
            raise DataError(path, f"has {len(dataset)} samples, but only {len(set(dataset.names))} different names",
                            "Each sample needs its own name")
    seen, signs = {}, 0
    with writing_annotations(output) as write:
        for path, dataset in zip(arrays, datasets.values()):
            for annotation in tqdm(map(dataset.__getitem__, range(len(dataset))), total=len(dataset), leave=False,
                                   desc=str(path), disable=None if progress else True):
                whole, name = annotation.data, annotation.name
                annotation.data = trimmed(whole)
                own = _digest(annotation)
                if seen.setdefault(name, own) is own:
                    write(_entry(annotation, with_score, f"{path}: {name}"))
                    signs += bool(np.signbit(whole).sum() > np.signbit(annotation.data).sum())
                elif seen[name] != own:
                    raise DataError(f"{path}: {name}", "another array has a different sample with this name")
        write.rest = {"split": {split: dataset.names for split, dataset in datasets.items()},
                      PADDED: {split: [dataset.data.shape[2], dataset.data.shape[4]]
                               for split, dataset in datasets.items()}}
    if signs:
        # The scripts of st-gcn and 2s-AGCN also centre the padding, and then multiply it by 0.
        logger.warning("%d samples have -0.0 in their padding; in an array made from the pickle it will be 0.0", signs)
    return {split: len(dataset) for split, dataset in datasets.items()}


def _digest(annotation):
    sample = np.ascontiguousarray(annotation.data)
    return hashlib.sha1(f"{annotation.label} {sample.shape} {sample.dtype}".encode() + sample.tobytes()).digest()


def _entry(annotation, with_score, where):
    keypoint = np.ascontiguousarray(annotation.keypoint)
    entry = {"frame_dir": annotation.name, "label": annotation.label, "total_frames": keypoint.shape[1],
             "keypoint": keypoint}
    if with_score:
        if keypoint.shape[3] != 3:
            raise DataError(where, f"has {keypoint.shape[3]} coordinates, expected x, y and score",
                            "Omit --with_score")
        entry.update(keypoint=np.ascontiguousarray(keypoint[..., :2]),
                     keypoint_score=np.ascontiguousarray(keypoint[..., 2]))
    check_annotation(entry, where)
    return entry


def pickle_to_arrays(path, folder, splits=None, frames=None, persons=None, with_score=False, allow_loss=False,
                     progress=False):
    """Write ``{split}_data.npy`` and ``{split}_label.pkl`` for each split; ``data.npy`` if there are no splits.

    Args:
        splits: names of splits; None: all.
        frames, persons: T and M of the arrays; None: the pickle's ``padded_to``, or else the maxima of its samples.
        with_score: ``keypoint_score`` becomes the third coordinate.
        allow_loss: warn about what an array cannot hold, instead of raising an error.

    Returns:
        dict of the split's name (an empty text if there are no splits) → shape of its array.

    Raises:
        DataError: an invalid sample; samples that do not fit into one array; something would be lost.
    """
    content = load_pickle(path)
    entries, known = annotation_entries(content, path)
    annotations, known = {a.name: a for a in parse_annotations(content, path)}, splits_of(known, path)
    chosen = {name: _members(known, name, annotations, path) for name in (splits or known)} or {"": list(annotations)}
    groups = {name: [annotations[member] for member in members] for name, members in chosen.items()}
    used = {a.name: a for group in groups.values() for a in group}
    padded = content.get(PADDED, {}) if isinstance(content, dict) else {}
    sizes = {name: _size(group, name, padded, frames, persons, path) for name, group in groups.items()}
    _check_alike(used.values(), with_score, path)
    lost = _losses(content, entries, annotations, groups, sizes, with_score, bool(splits))
    if lost and not allow_loss:
        raise DataError(path, "an array cannot hold: " + "; ".join(lost), "Add --allow_loss to omit them, or train "
                              "on the pickle")
    for text in lost:
        logger.warning("%s: lost: %s", path, text)
    dtype = np.result_type(*(a.keypoint.dtype for a in used.values()))
    return {name: _write(Path(folder), name, group, sizes[name], dtype, with_score, progress)
            for name, group in groups.items()}


def _members(known, split, annotations, path):
    if not isinstance(split, str) or not re.fullmatch(r"\w[\w.-]*", split):
        raise DataError(path, f"the split {split!r} cannot be used in a file name",
                        "Choose the splits to convert with --split")
    if not split_names(known, split, set(annotations), path):
        raise DataError(path, f"the split {split!r} is empty")
    return list(dict.fromkeys(map(str, known[split])))


def _size(group, name, padded, frames, persons, path):
    noted = padded.get(name, (1, 1)) if isinstance(padded, dict) else padded
    if not isinstance(noted, (list, tuple)) or len(noted) != 2 or not all(
            isinstance(count, int) and count > 0 for count in noted):
        raise DataError(f"{path}: {PADDED}", f"found {str(noted)[:80]}, expected [frames, persons]")
    longest, most = max(a.total_frames for a in group), max(len(a.keypoint) for a in group)
    size = frames or max(longest, noted[0]), persons or max(most, noted[1])
    if size[0] * size[1] > MAX_PERSON_FRAMES:
        raise DataError(path, f"the arrays would have {size[0]} frames and {size[1]} persons, expected at most "
                              f"{MAX_PERSON_FRAMES} together", "Choose --frames and --persons")
    return size


def _sample(annotation, with_score):
    """The array ``(C, T, V, M)`` of an annotation, not padded."""
    if not with_score:
        return annotation.data
    return np.concatenate([annotation.keypoint, annotation.keypoint_score[..., None]], axis=-1).transpose(3, 1, 2, 0)


def _check_alike(annotations, with_score, path):
    """Raise a ``DataError`` for samples that do not fit into one array, such as samples with different joints."""
    for what, values in (("joints and coordinates", Counter(a.keypoint.shape[2:] for a in annotations)),
                         ("labels", Counter(a.label is not None for a in annotations))):
        if len(values) > 1:
            raise DataError(path, f"samples differ in their {what}: " + ", ".join(
                f"{count} have {value}" for value, count in values.items()), "An array contains samples of one kind")
    if with_score and not all(a.keypoint_score is not None and a.keypoint.shape[3] == 2 for a in annotations):
        raise DataError(path, "not all samples are x and y with scores", "Omit --with_score")


def _losses(content, entries, annotations, groups, sizes, with_score, some_splits):
    used = {a.name: a for group in groups.values() for a in group}
    fields = Counter(key for entry in entries for key, value in entry.items()
                     if key not in ARRAY_FIELDS and value is not None and not (with_score and key == "keypoint_score"))
    lost = [f"{key} of {count} samples" for key, count in fields.items()]
    if isinstance(content, dict):
        lost += [f"the entry {key!r}" for key in content
                 if key not in ("split", "annotations", PADDED) and "annotations" in content]
    types = sorted({str(a.keypoint.dtype) for a in used.values()} |
                   ({str(a.keypoint_score.dtype) for a in used.values()} if with_score else set()))
    if len(types) > 1:
        lost.append(f"the types {' and '.join(types)}")
    apart = len(annotations) - len(used)
    if apart and not some_splits:
        lost.append(f"{apart} samples without a split")
    if next(iter(used.values())).label is None:
        lost.append("the samples' names, which are stored only together with labels")
    shapes = [(trimmed(sample).shape, sample.shape) for sample in (_sample(a, with_score) for a in used.values())]
    for text, axis in (("frames", 1), ("persons", 3)):
        padding = sum(short[axis] < whole[axis] for short, whole in shapes)
        if padding:
            lost.append(f"{text} of zeros at the end of {padding} samples")
    for name, group in groups.items():
        frames, persons = sizes[name]
        cut = sum(a.total_frames > frames or len(a.keypoint) > persons for a in group)
        if cut:
            lost.append(f"more than {frames} frames or {persons} persons of {cut} samples")
    return lost


def _write(folder, name, group, size, dtype, with_score, progress):
    channels, _, joints, _ = group[0].data.shape
    shape = (channels + with_score, size[0], joints, size[1])
    prefix = f"{name}_" if name else ""
    with writing_npy(folder / f"{prefix}data.npy", (len(group), *shape), dtype) as write:
        for annotation in tqdm(group, desc=name or "data", leave=False, disable=None if progress else True):
            data = _sample(annotation, with_score)[:, :size[0], :, :size[1]]
            sample = np.zeros(shape, dtype)
            sample[:, :data.shape[1], :, :data.shape[3]] = data
            write(sample)
    if group[0].label is not None:
        save_pickle(([a.name for a in group], [a.label for a in group]), folder / f"{prefix}label.pkl")
    return len(group), *shape
