"""Read samples one by one for an inspection: unusable ones with the reason, usable ones with what looks wrong."""
from pathlib import Path

import numpy as np

from ..data.datasets import SkeletonDataset
from ..data.readers import (
    annotation_entries,
    check_annotation,
    check_finite,
    entry_name,
    from_data,
    load_skeletons,
    split_names,
)
from ..errors import DataError
from ..safe_pickle import load_pickle
from .convert import splits_of, trimmed

MAX_DISTANCE_RATIO = 12  # times the median distance of the joints from their median position
MAX_EMPTY, MAX_OUTSIDE = 0.5, 0.1  # shares: of empty or repeated frames, and of joints outside the image


def read_leniently(path, split=None, labels=None):
    """The number of samples in a file; its splits, name → set of names; and an iterator over the samples.

    The iterator yields ``(name, Annotation, None)``, or ``(name, None, reason)`` for an unusable sample. Arrays are
    read one sample at a time, without their padding.

    Args:
        path: annotation pickle, or ``.npy`` ``(N, C, T, V, M)`` or ``(C, T, V, M)``.
        split: name of the only split to read of a pickle; None: all samples.
        labels: label file of an ``.npy``, or None.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    if Path(path).suffix == ".npy":
        if load_skeletons(path, (4, 5)).ndim == 4:
            one = from_data(np.array(load_skeletons(path, (4,))), Path(path).name)
            return 1, {}, iter([_padded(one, path)])
        dataset = SkeletonDataset(path, labels, test_mode=True)
        return len(dataset), {}, (_padded(dataset[i], path) for i in range(len(dataset)))
    entries, known = annotation_entries(load_pickle(path), path)
    named = [(entry, _name(entry) or f"annotation {i}") for i, entry in enumerate(entries)]
    if split is not None:
        chosen = split_names(known, split, {name for _, name in named}, path)
        named = [(entry, name) for entry, name in named if name in chosen]
    splits = {str(key): split_names(known, key, None, path) for key in splits_of(known, path)}
    return len(named), splits, (_from_entry(entry, name, path) for entry, name in named)


def _name(entry):
    name = entry.get("frame_dir", entry.get("filename"))
    return name if isinstance(name, str) else ""


def _padded(annotation, path):
    annotation.data = trimmed(annotation.data)
    try:
        check_finite(annotation.keypoint, f"{path}: {annotation.name}")
    except DataError as error:
        return annotation.name, None, error.problem
    return annotation.name, annotation, None


def _from_entry(entry, name, path):
    try:
        entry_name(entry, f"{path}: {name}")
        annotation = check_annotation(entry, f"{path}: {name}")
    except DataError as error:
        return name, None, error.problem
    annotation.name = name
    return name, annotation, None


def find_problems(annotation):
    """What looks wrong in a sample: a list of strings, usually empty."""
    keypoint = np.asarray(annotation.keypoint, np.float64)
    present = keypoint.any(axis=-1)
    if not present.any():
        return ["no person: all coordinates are 0"]
    found, frames = [], keypoint.shape[1]
    filled = present.any(axis=(0, 2))
    empty = int((~filled).sum())
    if frames == 1:
        found.append("a single frame")
    else:
        same = (keypoint[:, 1:] == keypoint[:, :-1]).all(axis=(0, 2, 3))
        repeats = int((same & filled[1:]).sum())
        if repeats == frames - 1:
            found.append(f"never moves in {frames} frames")
        elif repeats > MAX_EMPTY * frames:
            found.append(f"{repeats} of {frames} frames repeat the previous frame")
    if empty > MAX_EMPTY * frames:
        found.append(f"{empty} of {frames} frames are empty")
    far = _far_off(keypoint, present)
    if far:
        found.append(f"{far} joints are more than {MAX_DISTANCE_RATIO} times as far away as the median joint")
    if annotation.img_shape is not None:
        outside = _outside(keypoint, present, annotation.img_shape)
        if outside > MAX_OUTSIDE:
            found.append(f"{outside:.0%} of the joints are outside the image")
    return found


def _outside(keypoint, present, img_shape):
    """The share of joints outside an image (height, width)."""
    place = keypoint[present][:, :2]
    return float(((place < 0) | (place > img_shape[::-1])).any(axis=1).mean())


def _far_off(keypoint, present):
    joints = keypoint[present]
    distance = np.linalg.norm(joints - np.median(joints, axis=0), axis=-1)
    usual = np.median(distance)
    return int((distance > MAX_DISTANCE_RATIO * usual).sum()) if usual > 0 else 0
