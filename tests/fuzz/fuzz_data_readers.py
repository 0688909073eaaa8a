"""The readers of pickles and arrays, and of the data sets made of them.

What ``checks`` say of a value is what the reader's own documentation promises, written here once more.
"""
import json
import math
import os

import numpy as np
from fuzz_reader import checks, reader

from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.data.checks import SampleChecker, drop_samples
from paddlevideo_skel.data.datasets import AnnotationDataset, SkeletonDataset
from paddlevideo_skel.data.readers import read_annotations, read_sample
from paddlevideo_skel.errors import DataError
from paddlevideo_skel.importers.summary import inspect
from paddlevideo_skel.safe_pickle import load_npy, load_pickle


@reader(DataError)
def pickle_file(folder):
    return load_pickle(folder / "x.pkl")


@checks("pickle_file")
def is_plain(value):
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            is_plain(item)
    elif isinstance(value, np.ndarray):
        assert value.dtype.kind in "biufSU", value.dtype
        assert value.size == 0 or value.nbytes < 64 << 20
        value.tobytes()  # every number is there to be read


@reader(DataError)
def annotations(folder):
    return read_annotations(folder / "x.pkl")


@reader(DataError)
def split_of_annotations(folder):
    return read_annotations(folder / "x.pkl", "train")


@reader(DataError)
def annotations_but_bad_ones(folder):
    bad = []
    dataset = AnnotationDataset(folder / "x.pkl", test_mode=True, bad=bad)
    assert all(isinstance(name, str) and isinstance(reason, str) for name, reason in bad)
    return [dataset[i] for i in range(len(dataset))]


@checks("annotations")
@checks("split_of_annotations")
@checks("annotations_but_bad_ones")
def are_annotations(found):
    names = [annotation.name for annotation in found]
    assert len(set(names)) == len(names)
    for annotation in found:
        is_annotation(annotation)


def is_annotation(annotation):
    assert type(annotation) is Annotation
    keypoint, score, shape = annotation.keypoint, annotation.keypoint_score, annotation.img_shape
    assert keypoint.dtype.kind in "iuf" and keypoint.ndim == 4 and all(keypoint.shape) and keypoint.shape[3] in (2, 3)
    assert np.isfinite(keypoint).all()
    assert score is None or (score.shape == keypoint.shape[:3] and score.dtype.kind in "iuf"
                             and np.isfinite(score).all())
    assert isinstance(annotation.name, str)
    assert annotation.label is None or (type(annotation.label) is int and annotation.label >= 0)
    assert shape is None or (len(shape) == 2 and all(0 < side < math.inf for side in shape))


@reader(DataError)
def sample_npy(folder):
    return [np.array(annotation.data) for annotation in read_sample(folder / "x.npy")]


@checks("sample_npy")
def are_samples(found):
    assert found
    for data in found:
        assert data.ndim == 4 and all(data.shape) and data.dtype.kind in "iuf" and data.shape[0] in (2, 3)


@reader(DataError)
def npy_in_memory(folder):
    return load_npy(folder / "x.npy", mmap=False)


@checks("npy_in_memory")
def is_array(array):
    assert array.dtype.kind in "biufSU"
    array.tobytes()


def _examined(folder, dataset, joints):
    path, data = folder / "examined.json", folder / "x_data.npy"
    if path.exists() and data.exists():
        stamp = [data.stat().st_size, data.stat().st_mtime_ns]
        path.write_bytes(path.read_bytes().replace(b"DATA", os.fsencode(data)).replace(
            b'"STAMP"', json.dumps(stamp).encode()))
    reasons, _ = SampleChecker(path).check(dataset, 4, joints)
    return drop_samples(dataset, reasons)


@reader(DataError)
def array_set(folder):
    dataset = SkeletonDataset(folder / "x_data.npy", folder / "x_label.pkl")
    return [(a.name, a.label, np.array(a.data)) for a in map(dataset.__getitem__, range(len(dataset)))]


@reader(DataError)
def array_set_with_npy_labels(folder):
    dataset = SkeletonDataset(folder / "x_data.npy", folder / "x_label.npy")
    return [(a.name, a.label, np.array(a.data)) for a in map(dataset.__getitem__, range(len(dataset)))]


@checks("array_set")
@checks("array_set_with_npy_labels")
def are_labelled(found):
    assert len(found) == 3
    assert all(isinstance(name, str) and type(label) is int for name, label, _ in found)
    are_samples([data for *_, data in found])


@reader(DataError)
def examined_array(folder):
    """As a training looks at its data: what is left has labels and finite numbers, and nobody is missing."""
    kept = _examined(folder, SkeletonDataset(folder / "x_data.npy", folder / "x_label.pkl"), 5)
    return [kept[i] for i in range(len(kept))]


@reader(DataError)
def examined_pickle(folder):
    kept = _examined(folder, AnnotationDataset(folder / "x.pkl", test_mode=True, bad=[]), 5)
    return [kept[i] for i in range(len(kept))]


@checks("examined_array")
@checks("examined_pickle")
def are_usable(found):
    for annotation in found:
        is_annotation(annotation)
        assert annotation.keypoint.any() and annotation.keypoint.shape[2] == 5
        assert annotation.label in (None, 0, 1, 2, 3)


@reader(DataError)
def inspected_pickle(folder):
    return inspect(folder / "x.pkl")


@reader(DataError)
def inspected_array(folder):
    return inspect(folder / "x_data.npy", labels=folder / "x_label.pkl")


@checks("inspected_pickle")
@checks("inspected_array")
def is_json(report):
    json.loads(json.dumps(report))
