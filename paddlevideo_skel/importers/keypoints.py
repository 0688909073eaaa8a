"""Convert keypoint files from any source to an annotation pickle with a split, and write a config that trains on it."""
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..config import write_config
from ..data.annotation import Annotation
from ..data.synthetic.samples import write_pickle
from ..data.transforms.coordinates import SCORED_LAYOUTS
from ..errors import ConfigError, DataError
from ..files import is_file, remove_temporary_files
from .journal import Journal, Source, default_workers, read_all
from .keypoint_files import CHANNEL_NAMES, KEYPOINT_SUFFIXES, read_keypoints
from .labels import number_labels, read_label_list
from .ready_config import make_config
from .split import describe_parts, find_subjects, split_by_class, split_by_subject

logger = logging.getLogger(__name__)

SPATIAL_LAYOUTS = ("ntu-rgb+d", "ntu-rgb+d-pyskl", "kinect20")  # layouts of depth cameras: always 3D
SPLIT_NAMES = ("train", "val")
MIN_FILES_FOR_WORKERS = 200  # for fewer files, starting processes takes longer than reading
KEYPOINTS_FORMAT = 1  # version of the journal; increase it whenever reading or cleaning changes


@dataclass
class Listing:
    """Files, names and labels (strings) of the samples; ``where``: the name of the list in messages."""
    files: list
    names: list
    labels: list
    where: str


def find_recordings(source, labels=None):
    """The ``Listing`` of a folder, or of a list of files.

    Args:
        source: a folder, searched with its subfolders; or a list ``file,label`` (see ``read_label_list``) with paths
            relative to the list's folder.
        labels: list ``file,label`` for a folder; files may be listed without suffix. None: the name of a file's
            folder is its label.

    Raises:
        DataError: a listed file is missing, two files have the same name, there are no files or no labels.
    """
    source = Path(source)
    if not source.is_dir():
        if labels is not None:
            raise ConfigError("--labels", f"{source} is a list that already has labels", "Omit --labels")
        pairs, folder = read_label_list(source), source.parent
        files = [folder / name for name, _ in pairs]
        for file in files:
            if not is_file(file):
                raise DataError(source, f"file not found: {str(file)!r}",
                                "Paths are relative to the list's folder")
        where = str(source)
    else:
        files = _files_below(source)
        if labels is not None:
            files = [file for file in files if file.resolve() != Path(labels).resolve()]
        if not files:
            raise DataError(source, f"has no {', '.join(KEYPOINT_SUFFIXES)} file")
        files, pairs = _paired(source, files, labels)
        folder, where = source, str(labels or source)
    names = [_name(file, folder) for file in files]
    for i, name in enumerate(sorted(names)[1:]):
        if name == sorted(names)[i]:
            raise DataError(where, f"has two files named {name!r}, with different suffixes", "Remove one of them")
    return Listing(files, names, [label for _, label in pairs], where)


def _files_below(folder):
    """The keypoint files of a folder and its subfolders, sorted."""

    def refuse(error):  # otherwise the class of an unreadable folder would be missing
        raise DataError(error.filename, f"cannot be read ({error.strerror})", "Check its permissions")

    files = (Path(place) / name for place, _, names in os.walk(folder, onerror=refuse) for name in names)
    return sorted(file for file in files if file.suffix.lower() in KEYPOINT_SUFFIXES and file.is_file())


def _name(file, folder):
    relative = file.relative_to(folder) if file.is_relative_to(folder) else file
    return relative.with_suffix("").as_posix()


def _paired(folder, files, labels):
    """The files of a folder that have a label, and the pairs of file and label."""
    if labels is None:
        loose = [file for file in files if file.parent == folder]
        if loose:
            raise DataError(loose[0], "has no label: without --labels, the name of a file's folder is its class",
                            "Pass --labels, or put the files into one folder per class")
        return files, [(file.name, file.parent.name) for file in files]
    known = {}
    for file in files:
        known.setdefault(file.relative_to(folder).as_posix(), file)
        known.setdefault(_name(file, folder), file)
    pairs = read_label_list(labels)
    for name, _ in pairs:
        if name not in known:
            raise DataError(labels, f"lists {name!r}, which is not in {folder}", "Names are relative to that folder")
    chosen = [known[name] for name, _ in pairs]
    if len(set(chosen)) < len(chosen):
        raise DataError(labels, "lists a file twice, with and without its suffix")
    if len(files) > len(chosen):
        left = next(file for file in files if file not in set(chosen))
        logger.warning("%s: %d files of %s have no label and are omitted, such as %s", labels,
                       len(files) - len(chosen), folder, left.name)
    return chosen, pairs


def find_channels(file, layout):
    """The name of a joint's channels, a key of ``CHANNEL_NAMES``, from a file's columns or its layout.

    Raises:
        DataError: see ``read_keypoints``.
        ConfigError: a joint has three numbers, and the third may be z or a score.
    """
    keypoint, named = read_keypoints(file, layout)
    count = keypoint.shape[3]
    if named or count != 3:
        return named or {2: "xy", 4: "xyzs"}[count]
    if layout.name in SCORED_LAYOUTS:
        return "xys"
    if layout.name in SPATIAL_LAYOUTS:
        return "xyz"
    raise ConfigError(file, "has 3 numbers per joint, which may be x, y, z or x, y, score",
                      "Pass --channels xyz or --channels xys")


def read_samples(journal, layout, channels, min_score=0.0, workers=0):
    """Read and clean the files of a ``Journal`` that were not read before.

    Args:
        layout: ``Layout``.
        channels: a joint's channels, a key of ``CHANNEL_NAMES``.
        min_score: joints with a lower score are missing.
        workers: number of processes; 0: this one.

    Returns:
        list of ``Annotation`` float32 without labels, and the number of missing joints.

    Raises:
        DataError: see ``read_keypoints``; a file without any joint, or with other channels.
    """
    read = partial(read_clean_sample, layout=layout, channels=channels, min_score=min_score)
    read_all(journal, read, workers, strict=True, unit="file", hint=None)
    annotations = [Annotation(array[..., :2], array[..., 2], source.name) if channels == "xys" else
                   Annotation(array, name=source.name) for source, _, array in journal.samples()]
    return annotations, sum(result["missing"] for result in journal.results)


def read_clean_sample(source, layout, channels, min_score):
    """The cleaned persons of a file, ``(M, T, V, C)`` with 2D joints' scores last; and the number of missing joints."""
    keypoint, named = read_keypoints(source.path, layout)
    if len(CHANNEL_NAMES[channels]) != keypoint.shape[3] or named not in (None, channels):
        raise DataError(source.path, f"has {keypoint.shape[3]} numbers per joint ({named or 'unnamed'}), expected "
                                     f"{channels}", "All files must have the same channels, those of --channels")
    coordinates, score, lost = clean(keypoint, channels, min_score)
    persons = coordinates.any(axis=(1, 2, 3))
    if not persons.any():
        raise DataError(source.path, "has no person: every joint is missing", "Remove it from the list")
    array = coordinates if score is None else np.concatenate([coordinates, score[..., None]], axis=-1)
    return array[persons], {"missing": int(np.count_nonzero(lost[persons]))}


def clean(keypoint, channels, min_score=0.0):
    """Coordinates with zeros for missing joints, scores or None, and which joints are missing ``(M, T, V)``.

    A joint is missing if any of its numbers is NaN, if all its coordinates are 0, or if its score is below
    ``min_score``. Scores of 3D joints are used for nothing else: the models take x, y and z.
    """
    names = CHANNEL_NAMES[channels]
    spatial = "z" in names
    coordinates = keypoint[..., :3 if spatial else 2]
    lost = np.isnan(keypoint).any(axis=-1) | ~coordinates.any(axis=-1)
    score = keypoint[..., -1] if names[-1] == "score" else None
    if score is not None:
        lost |= score < min_score
        score = np.where(lost, 0, score).astype(np.float32)
    coordinates = np.where(lost[..., None], 0, coordinates).astype(np.float32)
    return coordinates, None if spatial else score, lost


def guess_image_size(annotations):
    """``(height, width)`` of an image that contains all 2D coordinates: the maxima of y and x, rounded up."""
    greatest = np.max([a.keypoint.max(axis=(0, 1, 2)) for a in annotations], axis=0)
    return max(1, int(np.ceil(greatest[1]))), max(1, int(np.ceil(greatest[0])))


def _set_image_size(annotations, img_shape):
    """Set the image's size of every annotation; returns lines for the log about a guessed size."""
    size = guess_image_size(annotations) if img_shape is None else img_shape
    for annotation in annotations:
        annotation.img_shape = tuple(size)
    return [] if img_shape else [f"image: assumed to be {size[0]} high and {size[1]} wide, the extent of the joints; "
                                 "--img_shape HEIGHT WIDTH sets its size"]


def import_keypoints(source, output, layout, labels=None, class_names=None, channels=None, img_shape=None,
                     min_score=0.0, shares=(0.8, 0.2), seed=0, subject=None, workers=0):
    """Write an annotation pickle, and with it a config (``.yaml``) that trains ST-GCN++ on it.

    A journal in the output's folder keeps what was read until the output is written: an interrupted import resumes.

    Args:
        source, labels: see ``find_recordings``.
        output: path of the ``.pkl`` file.
        layout: ``Layout``.
        class_names: list; None: from the labels, see ``number_labels``.
        channels: a joint's channels, a key of ``CHANNEL_NAMES``; None: see ``find_channels``, of the first file.
        img_shape: (height, width) of the image of 2D keypoints, (1, 1) for coordinates from 0 to 1; None: see
            ``guess_image_size``.
        min_score: see ``read_samples``.
        shares: of training and validation.
        seed: of the split.
        subject: regular expression that finds the subject in a name; no subject is then in both parts. None: split by
            class.
        workers: number of processes; 0: this one; None: one per core if there are many files.

    Returns:
        lines for the user about what was written.

    Raises:
        ConfigError, DataError: see the functions named above.
        OutputError: see ``Journal``.
    """
    output = Path(output)
    if output.suffix != ".pkl":
        raise ConfigError("--out", f"found {str(output)!r}, expected a path that ends with .pkl")
    found = find_recordings(source, labels)
    numbers, class_names = number_labels(found.labels, found.where, class_names)
    subjects = None if subject is None else find_subjects(found.names, subject)
    parts = split_by_class(found.names, numbers, shares, seed) if subjects is None else split_by_subject(
        subjects, shares, seed)
    splits = {part: [name for name, own in zip(found.names, parts) if own == i] for i, part in enumerate(SPLIT_NAMES)}
    for part, names in splits.items():
        if not names:
            raise DataError(found.where, f"none of the {len(found.names)} samples is left for {part!r}", "Add samples")
    if workers is None:
        workers = default_workers() if len(found.files) >= MIN_FILES_FOR_WORKERS else 0
    channels = channels or find_channels(found.files[0], layout)
    settings = {"format": KEYPOINTS_FORMAT, "layout": layout.to_dict(), "channels": channels, "min_score": min_score}
    sources = [Source.of(name, file) for name, file in zip(found.names, found.files)]
    with Journal(output.with_name(f".import-{output.name}"), settings, sources) as journal:
        annotations, missing = read_samples(journal, layout, channels, min_score, workers)
        lines = _about(output, annotations, class_names, layout, channels, missing)
        if "z" not in channels:
            lines += _set_image_size(annotations, img_shape)
        for annotation, number in zip(annotations, numbers):
            annotation.label = number
        absent = [name for number, name in enumerate(class_names) if number not in set(numbers)]
        if absent:
            lines.append(f"classes without samples: {', '.join(absent)}")
        remove_temporary_files(output)
        write_pickle(output, annotations, splits, "float32")
        config = output.with_suffix(".yaml")
        write_config(make_config(output, layout, annotations, class_names, splits), config, [
            "ST-GCN++ with a short schedule, written by tools/data/keypoints.py for", *lines])
        journal.remove()
    return [*lines, *describe_parts(parts, SPLIT_NAMES, numbers, class_names, subjects),
            f"config: {config}", f"next: python main.py --validate -c {config}"]


def _about(output, annotations, class_names, layout, channels, missing):
    lengths = [a.total_frames for a in annotations]
    joints = sum(a.keypoint[..., 0].size for a in annotations)
    lines = [f"{output}: {len(annotations)} samples of {len(class_names)} classes, {min(lengths)} to {max(lengths)} "
             f"frames (median {np.median(lengths):g}), up to {max(len(a.keypoint) for a in annotations)} persons",
             f"joints: {layout.num_joints} of the layout {layout.name}, each with {' '.join(CHANNEL_NAMES[channels])}",
             f"missing joints: {missing} of {joints} ({missing / joints:.2%}), written as zeros"]
    if channels == "xyzs":
        lines.append("scores: used only to find missing joints; the models take x, y and z")
    return lines
