"""Data sets: annotations with their labels; large ones are read on demand."""
import numpy as np

from ..errors import ConfigError, DataError
from ..registry import Registry
from ..safe_pickle import load_npy, load_pickle
from .readers import check_labels, from_data, load_skeletons, read_annotations
from .transforms.base import check_bool, check_positive

DATASETS = Registry("dataset")


class Dataset:
    """The interface of every data set: ``len(dataset)`` and ``dataset[i]``, an ``Annotation``.

    There are two kinds, which the class attribute ``in_array`` tells apart. If true, all samples are in one array on
    disk, ``data`` ``(N, C, T, V, M)``, of which ``read(start, stop)`` reads a part. If false, all samples are in memory
    as a list ``annotations``, which an epoch may iterate over several times.

    Attributes:
        in_array: see above.
        names: names of the samples, one string each.
        labels: ``(N,)`` int64, or None.
        files: paths of the files that were read, the samples first.
    """
    in_array = False

    @property
    def num_distinct(self):
        """Number of samples without repetitions."""
        return len(self)


@DATASETS.register
class SkeletonDataset(Dataset):
    """Samples ``(N, C, T, V, M)`` of one ``.npy`` file, memory-mapped: only requested samples are read.

    Args:
        file_path: the ``.npy`` file; a relative path counts from the working directory.
        label_path: ``.npy`` of N labels, or ``.pkl`` of (names, labels) or of labels alone. None: not known.
        test_mode: labels are optional.
    """
    in_array = True

    def __init__(self, file_path, label_path=None, test_mode=False):
        if not check_bool(test_mode, "test_mode") and label_path is None:
            raise DataError(file_path, "has no label_path, but training needs labels",
                            "Add label_path, or set test_mode: True")
        self.given = (file_path, label_path, test_mode)
        self.data = load_skeletons(file_path)
        names, self.labels = (None, None) if label_path is None else read_labels(label_path)
        if self.labels is not None and len(self.labels) != len(self.data):
            raise DataError(label_path, f"contains {len(self.labels)} labels for the {len(self.data)} samples "
                                        f"of {file_path}", "Both files must belong to the same set")
        self.names = names or [f"{file_path}[{i}]" for i in range(len(self.data))]
        self.files = [path for path in (file_path, label_path) if path is not None]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        label = None if self.labels is None else int(self.labels[index])
        index %= len(self)
        return from_data(self.read(index, index + 1)[0], self.names[index], label)

    def read(self, start, stop):
        """The samples ``start`` to ``stop`` in ordinary memory.

        They are read from the file, not copied from its memory map: touched pages of a map count as this process's
        memory, in the end the whole file.
        """
        if not self.data.flags.c_contiguous:  # the samples are not one after the other in the file
            return np.array(self.data[start:stop])
        size = self.data[0].size
        try:
            flat = np.fromfile(self.data.filename, self.data.dtype, size * (stop - start),
                               offset=self.data.offset + start * size * self.data.itemsize)
            return flat.reshape(stop - start, *self.data.shape[1:])
        except (OSError, ValueError) as error:
            raise DataError(self.given[0], f"samples {start} to {stop - 1} can no longer be read ({error})",
                            "Do not change the file while it is in use") from error

    def __reduce__(self):
        # A worker reopens the file; pickling the array would send all of it.
        return type(self), self.given


def read_labels(path):
    """``(names or None, labels (N,) int64)`` from ``.npy``, or from a pickle of (names, labels) or of labels."""
    content = load_npy(path, mmap=False) if str(path).endswith(".npy") else load_pickle(path)
    names, labels = None, content
    if isinstance(content, (list, tuple)) and len(content) == 2 and isinstance(content[1], (list, tuple, np.ndarray)):
        names, labels = content
    try:
        array = np.asarray(labels)
        names = None if names is None else [str(name) for name in names]
    except (ValueError, TypeError) as error:
        raise DataError(path, f"labels cannot be read ({error})",
                        "Expected (names, labels), or labels alone") from error
    if array.dtype.kind == "f" and np.array_equal(array, np.round(array)):
        array = array.astype(np.int64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(path, f"found labels of shape {array.shape} and type {array.dtype}, expected N integers",
                        "Expected (names, labels), or labels alone")
    if names is not None and len(names) != len(array):
        raise DataError(path, f"contains {len(names)} names and {len(array)} labels")
    return names, array.astype(np.int64)


class AnnotationDataset(Dataset):
    """The annotations of a pickle, or of one of its splits.

    Args:
        file_path: annotation pickle (see ``read_annotations``).
        split: its name, e.g. ``xsub_train``; None: all.
        repeat_times: how often an epoch iterates over the set; every repetition draws its own random numbers.
        test_mode: labels are optional, but either all annotations have one or none does.
        bad: a list to which ``(name, reason)`` of unusable annotations is added; these are omitted. None: the first
            one is an error. Not an argument for configs.
    """

    def __init__(self, file_path, split=None, repeat_times=1, test_mode=False, bad=None):
        check_bool(test_mode, "test_mode")
        if split is not None and not isinstance(split, str):
            raise ValueError(f"split is {split!r}, expected a name")
        self.repeat_times = check_positive(repeat_times, "repeat_times")
        self.files = [file_path]
        self.annotations = read_annotations(file_path, split, bad)
        if bad is not None and not (test_mode and all(a.label is None for a in self.annotations)):
            bad += [(a.name, "has no label") for a in self.annotations if a.label is None]
            self.annotations = [a for a in self.annotations if a.label is not None]
        unknown = [a.name for a in self.annotations if a.label is None]
        if unknown and (not test_mode or len(unknown) < len(self.annotations)):
            raise DataError(f"{file_path}: {unknown[0]}", f"has no label ({len(unknown)} of {len(self.annotations)} "
                            "annotations have none)", "Add labels. With test_mode: True they are optional, but then "
                            "either all annotations have one or none does")
        labels = None if unknown else np.array([a.label for a in self.annotations], np.int64)
        self.labels = None if labels is None else np.tile(labels, self.repeat_times)
        self.names = [a.name for a in self.annotations] * self.repeat_times

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.annotations[index % len(self.annotations)]

    @property
    def num_distinct(self):
        return len(self.annotations)


@DATASETS.register
class UCF101SkeletonDataset(AnnotationDataset):
    """Skeletons of UCF101, or of any other annotation pickle; see ``AnnotationDataset``."""


@DATASETS.register
class NTUCSSkeletonDataset(AnnotationDataset):
    """Skeletons of NTU RGB+D, or of any other annotation pickle; see ``AnnotationDataset``."""


def build_dataset(spec, where, num_classes=None, bad=None):
    """Build the data set of a ``DATASET.train`` mapping: its class is under ``format``, its arguments next to it.

    Args:
        num_classes: labels are checked against it; None: not.
        bad: see ``AnnotationDataset``.

    Raises:
        ConfigError: an unknown format or argument.
        DataError: a file or a sample; a label outside the classes.
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("format"), str):
        raise ConfigError(where, f"found {spec!r}, expected a mapping with 'format' and 'file_path'",
                          f"Formats: {', '.join(DATASETS.classes)}")
    arguments = {key: value for key, value in spec.items() if key != "format"}
    in_array = DATASETS.get(spec["format"], where).in_array
    dataset = DATASETS.build(spec["format"], arguments, where, **({} if in_array else {"bad": bad}))
    if num_classes is not None and dataset.labels is not None:
        check_labels(dataset.labels.tolist(), num_classes, spec["file_path"], dataset.names)
    return dataset
