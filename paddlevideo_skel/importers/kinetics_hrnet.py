"""Join Kinetics' HRNet keypoints, which are published as kpfiles apart from their annotations, into one annotation
pickle.

Three formats are read. pyskl: an annotation's ``raw_file`` names its kpfile, a dict of ``frame_dir`` → ``keypoint``.
mmaction2 1: one pickle per video, named after its ``frame_dir``. mmaction2 0: ``filename`` names a pickle of the
array. In each, ``keypoint`` is ``(N, V, 3)``, the x, y and score of the N skeletons of a video; ``frame_inds`` and
``box_score`` ``(N,)`` of the annotation are their frames and the detector's scores.
"""
from itertools import groupby
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.readers import annotation_entries, as_array, check_annotation, entry_name, split_names
from ..data.writers import writing_annotations
from ..errors import DataError
from ..files import is_file
from ..safe_pickle import load_pickle
from .convert import splits_of

KEPT = ("frame_dir", "label", "img_shape", "original_shape")
NO_SKELETON, TOO_FEW = "no skeleton with that box score", "too few frames with a skeleton"


def join_kpfiles(path, folder, output, splits=None, box_score=0.5, max_person=2, valid_ratio=0.0, progress=False):
    """Join annotations and their kpfiles, one kpfile at a time, while the output is written.

    Args:
        path: the pickle without keypoints.
        folder: the folder of the kpfiles.
        output: the annotation pickle to write.
        splits: names of the splits to keep; None: all annotations.
        box_score: skeletons with a lower box score are dropped.
        max_person: maximum M; of more persons in a frame, those with the highest sums of joint scores, best first.
        valid_ratio: a video is omitted if a smaller share of its frames has a skeleton.

    Returns:
        the number of annotations written, and a dict of reason → names of the omitted videos.

    Raises:
        DataError: naming the file and the video.
    """
    entries, known = annotation_entries(load_pickle(path), path)
    names = [entry_name(entry, f"{path}: annotation {i}") for i, entry in enumerate(entries)]
    if len(set(names)) < len(names) or "" in names:
        raise DataError(path, "has missing or duplicate values of frame_dir", "Names must be unique")
    known = splits_of(known, path)
    wanted = set(names) if splits is None else set().union(*(split_names(known, s, set(names), path) for s in splits))
    todo = sorted(((str(_kpfile(entry, name, Path(folder), path)), i) for i, (entry, name) in
                   enumerate(zip(entries, names)) if name in wanted))
    left_out, written = {NO_SKELETON: [], TOO_FEW: []}, set()
    with writing_annotations(output) as write, tqdm(total=len(todo), desc="videos", leave=False,
                                                    disable=None if progress else True) as bar:
        for file, group in groupby(todo, key=lambda item: item[0]):
            content = load_pickle(file)
            for _, i in group:
                reason, entry = _joined(entries[i], names[i], content, file, box_score, max_person, valid_ratio)
                if reason:
                    left_out[reason].append(names[i])
                else:
                    write(entry)
                    written.add(names[i])
                bar.update()
        if not written:
            raise DataError(path, f"none of the {len(todo)} videos is left", "Lower --box_score or --valid_ratio")
        write.rest["split"] = {split: [name for name in map(str, known[split]) if name in written]
                               for split in (splits or known)}
    return len(written), left_out


def _kpfile(entry, name, folder, path):
    """The keypoint file of a video, always inside ``folder``: only the file name of a path is used."""
    named = entry.get("raw_file", entry.get("filename", f"{name}.pkl"))
    file = folder / Path(str(named)).name
    if not is_file(file):
        raise DataError(f"{path}: {name}", f"its keypoint file {file.name[:80]!r} is not in {folder}",
                        "Unpack all kpfiles into that folder")
    return file


def _joined(entry, name, content, file, box_score, max_person, valid_ratio):
    """``(reason, None)`` for a video to omit, or ``(None, annotation)``."""
    where = f"{file}: {name}"
    if isinstance(content, dict) and "keypoint" not in content:
        if name not in content:
            raise DataError(where, f"is not among the {len(content)} videos of its kpfile")
        content = content[name]
    keypoint = as_array(content.get("keypoint") if isinstance(content, dict) else content)
    if keypoint.ndim != 3 or keypoint.shape[2] != 3 or keypoint.dtype.kind != "f":
        raise DataError(where, f"keypoint has shape {keypoint.shape} and type {keypoint.dtype}, expected (N, V, 3): x, "
                               "y, score")
    frames, boxes = (_column(entry, key, len(keypoint), where) for key in ("frame_inds", "box_score"))
    if frames.dtype.kind not in "iu":
        raise DataError(where, f"frame_inds has type {frames.dtype}, expected integers")
    total = entry.get("total_frames")
    if not isinstance(total, (int, np.integer)) or total < 1:
        raise DataError(where, f"total_frames is {total!r}, expected an integer >= 1")
    sure = boxes >= box_score
    if not sure.any():
        return NO_SKELETON, None
    if len(np.unique(frames[sure])) < valid_ratio * total:
        return TOO_FEW, None
    coordinates, score = group_by_person(keypoint[sure], frames[sure], max_person)
    result = {key: entry[key] for key in KEPT if entry.get(key) is not None}
    result.update(frame_dir=name, total_frames=coordinates.shape[1], keypoint=coordinates, keypoint_score=score)
    check_annotation(result, where)
    return None, result


def _column(entry, key, count, where):
    array = as_array(entry.get(key))
    if array.shape != (count,) or array.dtype.kind not in "iuf":
        raise DataError(where, f"{key} has shape {array.shape} and type {array.dtype}, expected one number for each of "
                               f"the {count} skeletons", "Annotations and kpfiles must belong to the same set")
    return array


def group_by_person(keypoint, frames, max_person):
    """Coordinates ``(M, T, V, 2)`` and scores ``(M, T, V)`` of a list of skeletons.

    Only frames with a skeleton remain, so that they may be counted from 0 or from 1. The skeletons of a frame keep
    their order; but if any frame has more than ``max_person``, all frames are sorted by the sums of joint scores,
    highest first, and the first skeletons are kept (pyskl's ``DecompressPose``).

    Args:
        keypoint: ``(N, V, 3)``.
        frames: ``(N,)`` integers.
    """
    _, place, counts = np.unique(frames, return_inverse=True, return_counts=True)
    sums = keypoint[..., 2].sum(axis=1, dtype=np.float64)
    rank = -sums if counts.max() > max_person else np.zeros(len(sums))
    order = np.lexsort((np.arange(len(sums)), rank, place))
    keypoint, place = keypoint[order], place[order]
    person = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    result = np.zeros((min(counts.max(), max_person), len(counts), *keypoint.shape[1:]), keypoint.dtype)
    kept = person < max_person
    result[person[kept], place[kept]] = keypoint[kept]
    return np.ascontiguousarray(result[..., :2]), np.ascontiguousarray(result[..., 2])
