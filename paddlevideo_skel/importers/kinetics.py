"""Kinetics-skeleton: OpenPose's skeletons as JSON, a file a clip → the ``(N, 3, 300, 18, 2)`` sets of ST-GCN.

The numbers are those of ST-GCN's own feeder (Yan et al., AAAI 2018): x and y go from 0 to 1 over the picture and are
moved to -0.5 to 0.5, with y pointing down as in the picture (2s-AGCN's data has y upwards); joints of score 0 are 0; of
the first five persons of a frame the two most confident are kept, the more confident first. That order is found for
each frame by itself: a person may change places.
"""
import logging
from functools import partial
from pathlib import Path

import numpy as np

from ..data.writers import save_pickle
from ..errors import DataError
from ..files import parse_json
from .journal import Journal, list_sources, read_all
from .outputs import array_paths, log_summary, need_room, need_samples, npy_header, training_line, write_skipped

logger = logging.getLogger(__name__)

FRAMES, JOINTS, READ_PERSONS, PERSONS = 300, 18, 5, 2
SHAPE = (3, FRAMES, JOINTS, PERSONS)
PARTS = ("train", "val")
MAX_BYTES, MAX_LABEL_BYTES = 64 << 20, 512 << 20  # of a clip, which has about 1 MB, and of the labels
MAX_COORDINATE = 10.0  # of x, y and score, which are 0 to 1; pixels are more
AGAIN = "Get the file from the data set again"
FORMAT = 1  # of what the work folder holds; a change in reading must raise it


def import_kinetics(folder, output, parts=PARTS, workers=0, strict=False):
    """Import the unpacked data set: ``kinetics_train/*.json`` with ``kinetics_train_label.json``, and the same for val.

    Args:
        folder: which holds these.
        output: folder; ``{train,val}_data.npy`` and ``_label.pkl`` come into it, and a list of the skipped clips.
        parts: of ``train`` and ``val``.
        workers: processes; 0: this one.
        strict: stop at the first clip that cannot be used, unless the labels say that it has no skeleton.

    Returns:
        the paths of the files written.

    Raises:
        DataError: a part is missing, its labels are damaged, or nothing can be used; with ``strict``: the first clip
            that cannot.
        OutputError: the output cannot be written, or has too little room.
    """
    folder, output, files = Path(folder), Path(output), []
    chosen = [(part, *select(folder, part)) for part in parts]
    need_room(output, sum(len(sources) for _, sources, _, _ in chosen) * 4 * int(np.prod(SHAPE)))
    for part, sources, labels, skipped in chosen:
        files += import_part(part, sources, labels, skipped, output, workers, strict)
    usual = output == Path("data/Kinetics/kinetics-skeleton")
    logger.info("now train: %s", training_line("stgcn/stgcn_kinetics.yaml", {} if usual else array_paths(output)))
    return files


def import_part(part, sources, labels, skipped, output, workers, strict):
    """Import one part; returns the paths of its files."""
    data, label_file, listing = (output / f"{part}_{name}" for name in ("data.npy", "label.pkl", "skipped.tsv"))
    header = npy_header(len(sources), SHAPE)
    indices = {source.name: labels[source.name]["label_index"] for source in sources}
    with Journal(output / f".import-{part}", {"format": FORMAT}, sources, len(header)) as journal:
        read_all(journal, partial(read_clip, indices=indices), workers, strict, "clip")
        good, bad = journal.outcome()
        need_samples(good, skipped + bad, f"kinetics_{part}")
        late = sum(result["late"] > 0 for _, result in good)
        if late:
            logger.warning("%s: %d clips have frames after number %d, which were left out", part, late, FRAMES - 1)
        save_pickle(([name for name, _ in good], [indices[name] for name, _ in good]), label_file)
        journal.move_samples(data, npy_header(len(good), SHAPE))
        journal.remove()
    write_skipped(listing, skipped + bad)
    log_summary(part, [(indices[name], result["persons"], result["frames"]) for name, result in good], skipped + bad,
                [data, label_file], listing)
    return [data, label_file, listing]


def select(folder, part):
    """``(sources, labels, skipped)`` of a part: its clips that have a skeleton, what the labels say, and the others."""
    path = folder / f"kinetics_{part}_label.json"
    labels = load_labels(path)
    sources, skipped = [], []
    for source in list_sources(folder / f"kinetics_{part}", ".json"):
        if source.name not in labels:
            skipped.append((f"{source.name}.json", f"label: {path.name} does not name it"))
        elif not labels[source.name]["has_skeleton"]:
            skipped.append((f"{source.name}.json", f"no skeleton: so says {path.name}"))
        else:
            sources.append(source)
    found = {source.name for source in sources}
    skipped += [(f"{name}.json", "missing: there is no such file") for name, about in labels.items()
                if about["has_skeleton"] and name not in found]
    if not sources:
        raise DataError(folder / f"kinetics_{part}", f"holds no clip that {path.name} names",
                        "Clips and labels must come from the same set")
    return sources, labels, skipped


def load_labels(path):
    """What a label file says: name → dict of ``has_skeleton``, ``label`` and ``label_index``."""
    labels = load_json(path, MAX_LABEL_BYTES, path)
    if not isinstance(labels, dict) or not labels:
        raise DataError(path, f"holds a {type(labels).__name__}, expected an object with an entry a clip", AGAIN)
    for name, about in labels.items():
        index = about.get("label_index") if isinstance(about, dict) else None
        if type(index) is not int or index < 0 or type(about.get("has_skeleton")) is not bool:
            raise DataError(f"{path}: {name}", f"found {str(about)[:80]}, expected has_skeleton (true or false) and "
                                               "label_index (a whole number from 0)", AGAIN)
    return labels


def load_json(path, most_bytes, where):
    """The content of a JSON file of at most so many bytes; a ``DataError`` whose problem begins with ``damaged:``."""
    try:
        with open(path, "rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise DataError(where, f"damaged: is longer than {most_bytes >> 20} MB", AGAIN)
        return parse_json(content)
    except OSError as error:
        raise DataError(where, f"damaged: cannot be read ({error.strerror})", AGAIN) from error
    except ValueError as error:
        raise DataError(where, f"damaged: is no JSON ({str(error)[:80]})", AGAIN) from error


def read_clip(source, indices):
    """A clip's array ``(3, 300, 18, 2)`` float32 of x, y and score, and its facts.

    A pose stands at the place of its ``frame_index``, as in ST-GCN's own arrays: where a file counts from 1, the first
    frame stays empty. Frames from number 300 on are left out (``late`` tells how many).

    Raises:
        DataError: its problem begins with ``damaged:``, ``label:`` or ``empty:``.
    """
    path, content = source.path, load_json(source.path, MAX_BYTES, source.path)
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise DataError(path, "damaged: has no list 'data' of frames", AGAIN)
    if content.get("label_index", indices[source.name]) != indices[source.name]:
        raise DataError(path, f"label: its label_index is {str(content['label_index'])[:20]}, the label file says "
                              f"{indices[source.name]}", "Clips and labels must come from the same set")
    keypoint = np.zeros((FRAMES, READ_PERSONS, JOINTS, 3))
    places, late = _places(content["data"], path)
    if places:
        frames, persons, poses, scores = zip(*places)
        keypoint[list(frames), list(persons), :, :2] = _numbers(poses, frames, 2 * JOINTS, "pose", path).reshape(
            -1, JOINTS, 2) - 0.5
        keypoint[list(frames), list(persons), :, 2] = _numbers(scores, frames, JOINTS, "score", path)
    keypoint[keypoint[..., 2] == 0] = 0
    keypoint = most_confident(keypoint)
    present = keypoint.any(axis=(2, 3))
    if not present.any():
        raise DataError(path, "empty: no joint is seen in any of its frames", "Nothing can be learnt from it")
    facts = {"persons": int(present.any(axis=0).sum()), "frames": int(present.any(axis=1).sum()), "late": late}
    return keypoint.transpose(3, 0, 2, 1).astype(np.float32), facts


def _places(data, path):
    """``(frame, person, pose, score)`` of every skeleton that is read, and the number of frames that come too late."""
    places, seen, late = [], set(), 0
    for i, frame in enumerate(data):
        index = frame.get("frame_index") if isinstance(frame, dict) else None
        skeletons = frame.get("skeleton") if isinstance(frame, dict) else None
        if type(index) is not int or index < 0 or not isinstance(skeletons, list) or index in seen:
            raise DataError(path, f"damaged: data[{i}] is {ascii(frame)[:60]}, expected a frame_index of "
                                  "its own and a list 'skeleton'", AGAIN)
        seen.add(index)
        late += index >= FRAMES
        for person, skeleton in enumerate(skeletons[:READ_PERSONS] if index < FRAMES else ()):
            if not isinstance(skeleton, dict) or "pose" not in skeleton or "score" not in skeleton:
                raise DataError(path, f"damaged: a skeleton of frame {index} has no pose or no score", AGAIN)
            places.append((index, person, skeleton["pose"], skeleton["score"]))
    return places, late


def _numbers(rows, frames, count, what, path):
    """Rows of so many numbers, none of them large, as an array; float64."""
    for row, frame in zip(rows, frames):
        if not isinstance(row, list) or len(row) != count:
            found = f"{len(row)} numbers" if isinstance(row, list) else f"a {type(row).__name__}"
            raise DataError(path, f"damaged: a {what} of frame {frame} holds {found}, expected {count}", AGAIN)
    try:
        numbers = np.array(rows)
    except ValueError:
        numbers = np.empty(0)
    if numbers.shape != (len(rows), count) or numbers.dtype.kind not in "iuf":
        raise DataError(path, f"damaged: a {what} holds something else than numbers", AGAIN)
    near = np.abs(numbers) <= MAX_COORDINATE  # false for NaN as well
    if not near.all():
        row, column = np.argwhere(~near)[0]
        raise DataError(path, f"damaged: a {what} of frame {frames[row]} holds {numbers[row, column]:.4g}, expected "
                              "about 0 to 1", "x and y are shares of the picture's width and height")
    return numbers.astype(np.float64)


def most_confident(keypoint):
    """Of each frame the two persons of the highest mean score: ``(T, 5, V, 3)`` → ``(T, 2, V, 3)``."""
    # Added joint by joint, as ST-GCN does it: rounding decides between equals.
    scores = np.ascontiguousarray(keypoint[..., 2].swapaxes(1, 2)).sum(axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :PERSONS]
    return np.take_along_axis(keypoint, order[:, :, None, None], axis=1)
