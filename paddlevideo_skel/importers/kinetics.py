"""Convert Kinetics-skeleton (OpenPose skeletons as JSON, one file per clip) to the ``(N, 3, 300, 18, 2)`` sets of
ST-GCN.

The numbers are those of ST-GCN's own feeder (Yan et al., AAAI 2018): x and y, from 0 to 1 over the image, are shifted
to -0.5 to 0.5, with y pointing down as in the image (in 2s-AGCN's data y points up); joints of score 0 are 0; of the
first five persons in a frame, the two most confident are kept, the more confident first. Frames are ordered
independently, so a person may change position.
"""
import logging
from functools import partial
from pathlib import Path

import numpy as np

from ..data.writers import save_pickle
from ..errors import DataError
from ..files import parse_json
from .journal import GET_AGAIN, Journal, list_sources, read_all
from .outputs import array_paths, log_summary, npy_header, require_samples, require_space, training_line, write_skipped

logger = logging.getLogger(__name__)

CLIP_FRAMES, CLIP_JOINTS, MAX_READ_PERSONS, CLIP_PERSONS = 300, 18, 5, 2
CLIP_SHAPE = (3, CLIP_FRAMES, CLIP_JOINTS, CLIP_PERSONS)
KINETICS_PARTS = ("train", "val")
MAX_CLIP_BYTES, MAX_LABEL_BYTES = 64 << 20, 512 << 20  # a clip has about 1 MB
MAX_COORDINATE = 10.0  # x, y and score are in 0..1; pixels would be larger
KINETICS_FORMAT = 1  # version of the journal; increase it whenever reading changes


def import_kinetics(folder, output, parts=KINETICS_PARTS, workers=0, strict=False):
    """Import the unpacked data set: ``kinetics_train/*.json`` with ``kinetics_train_label.json``, and the same for val.

    Args:
        folder: the folder that holds these.
        output: folder to write: ``{train,val}_data.npy``, ``_label.pkl``, and a list of skipped clips.
        parts: ``train``, ``val`` or both.
        workers: number of processes; 0: this one.
        strict: stop at the first unusable clip, unless the labels say that it has no skeleton.

    Returns:
        paths of the files written.

    Raises:
        DataError: a part is missing, its labels are damaged, or no clip is usable; with ``strict``: a clip is unusable.
        OutputError: the output cannot be written, or its disk is too small.
    """
    folder, output, files = Path(folder), Path(output), []
    chosen = [(part, *select_clips(folder, part)) for part in parts]
    require_space(output, sum(len(sources) for _, sources, _, _ in chosen) * 4 * int(np.prod(CLIP_SHAPE)))
    for part, sources, labels, skipped in chosen:
        files += import_part(part, sources, labels, skipped, output, workers, strict)
    usual = output == Path("data/Kinetics/kinetics-skeleton")
    logger.info("Now train: %s", training_line("stgcn/stgcn_kinetics.yaml", {} if usual else array_paths(output)))
    return files


def import_part(part, sources, labels, skipped, output, workers, strict):
    """Import one part; returns the paths of its files."""
    data, label_file, listing = (output / f"{part}_{name}" for name in ("data.npy", "label.pkl", "skipped.tsv"))
    header = npy_header(len(sources), CLIP_SHAPE)
    indices = {source.name: labels[source.name]["label_index"] for source in sources}
    with Journal(output / f".import-{part}", {"format": KINETICS_FORMAT}, sources, len(header)) as journal:
        read_all(journal, partial(read_clip, indices=indices), workers, strict, "clip")
        good, bad = journal.outcome()
        require_samples(good, skipped + bad, f"kinetics_{part}")
        late = sum(result["late"] > 0 for _, result in good)
        if late:
            logger.warning("%s: %d clips have frames after number %d, which are omitted", part, late, CLIP_FRAMES - 1)
        save_pickle(([name for name, _ in good], [indices[name] for name, _ in good]), label_file)
        journal.move_samples(data, npy_header(len(good), CLIP_SHAPE))
        journal.remove()
    write_skipped(listing, skipped + bad)
    log_summary(part, [(indices[name], result["persons"], result["frames"]) for name, result in good], skipped + bad,
                [data, label_file], listing)
    return [data, label_file, listing]


def select_clips(folder, part):
    """``(sources, labels, skipped)`` of a part: clips with a skeleton, content of the label file, other clips."""
    path = folder / f"kinetics_{part}_label.json"
    labels = load_clip_labels(path)
    sources, skipped = [], []
    for source in list_sources(folder / f"kinetics_{part}", ".json"):
        if source.name not in labels:
            skipped.append((f"{source.name}.json", f"label: not in {path.name}"))
        elif not labels[source.name]["has_skeleton"]:
            skipped.append((f"{source.name}.json", f"no skeleton: according to {path.name}"))
        else:
            sources.append(source)
    found = {source.name for source in sources}
    skipped += [(f"{name}.json", "missing: file not found") for name, about in labels.items()
                if about["has_skeleton"] and name not in found]
    if not sources:
        raise DataError(folder / f"kinetics_{part}", f"has none of the clips that {path.name} lists",
                        "Clips and labels must belong to the same set")
    return sources, labels, skipped


def load_clip_labels(path):
    """The content of a label file: name → dict of ``has_skeleton``, ``label`` and ``label_index``."""
    labels = load_json(path, MAX_LABEL_BYTES, path)
    if not isinstance(labels, dict) or not labels:
        raise DataError(path, f"contains a {type(labels).__name__}, expected an object with one entry per clip",
                        GET_AGAIN)
    for name, about in labels.items():
        index = about.get("label_index") if isinstance(about, dict) else None
        if type(index) is not int or index < 0 or type(about.get("has_skeleton")) is not bool:
            raise DataError(f"{path}: {name}", f"found {str(about)[:80]}, expected has_skeleton (true or false) and "
                                               "label_index (an integer >= 0)", GET_AGAIN)
    return labels


def load_json(path, max_bytes, where):
    """The content of a JSON file of at most ``max_bytes``; raises a ``DataError`` that begins with ``damaged:``."""
    try:
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise DataError(where, f"damaged: is larger than {max_bytes >> 20} MB", GET_AGAIN)
        return parse_json(content)
    except OSError as error:
        raise DataError(where, f"damaged: cannot be read ({error.strerror})", GET_AGAIN) from error
    except ValueError as error:
        raise DataError(where, f"damaged: is not valid JSON ({str(error)[:80]})", GET_AGAIN) from error


def read_clip(source, indices):
    """A clip's array ``(3, 300, 18, 2)`` float32 of x, y and score, and its facts.

    A pose is put at its ``frame_index``, as in ST-GCN's own arrays: if a file counts from 1, the first frame is empty.
    Frames from number 300 on are omitted; ``late`` is their number.

    Raises:
        DataError: its problem begins with ``damaged:``, ``label:`` or ``empty:``.
    """
    path, content = source.path, load_json(source.path, MAX_CLIP_BYTES, source.path)
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise DataError(path, "damaged: has no list 'data' of frames", GET_AGAIN)
    if content.get("label_index", indices[source.name]) != indices[source.name]:
        raise DataError(path, f"label: its label_index is {str(content['label_index'])[:20]}, the label file has "
                              f"{indices[source.name]}", "Clips and labels must belong to the same set")
    keypoint = np.zeros((CLIP_FRAMES, MAX_READ_PERSONS, CLIP_JOINTS, 3))
    places, late = _places(content["data"], path)
    if places:
        frames, persons, poses, scores = zip(*places)
        keypoint[list(frames), list(persons), :, :2] = _numbers(poses, frames, 2 * CLIP_JOINTS, "pose", path).reshape(
            -1, CLIP_JOINTS, 2) - 0.5
        keypoint[list(frames), list(persons), :, 2] = _numbers(scores, frames, CLIP_JOINTS, "score", path)
    keypoint[keypoint[..., 2] == 0] = 0
    keypoint = take_most_confident(keypoint)
    present = keypoint.any(axis=(2, 3))
    if not present.any():
        raise DataError(path, "empty: no joint is seen in any frame", "Remove it")
    facts = {"persons": int(present.any(axis=0).sum()), "frames": int(present.any(axis=1).sum()), "late": late}
    return keypoint.transpose(3, 0, 2, 1).astype(np.float32), facts


def _places(data, path):
    """``(frame, person, pose, score)`` of every skeleton that is read, and the number of frames that are omitted."""
    places, seen, late = [], set(), 0
    for i, frame in enumerate(data):
        index = frame.get("frame_index") if isinstance(frame, dict) else None
        skeletons = frame.get("skeleton") if isinstance(frame, dict) else None
        if type(index) is not int or index < 0 or not isinstance(skeletons, list) or index in seen:
            raise DataError(path, f"damaged: data[{i}] is {ascii(frame)[:60]}, expected a unique "
                                  "frame_index and a list 'skeleton'", GET_AGAIN)
        seen.add(index)
        late += index >= CLIP_FRAMES
        for person, skeleton in enumerate(skeletons[:MAX_READ_PERSONS] if index < CLIP_FRAMES else ()):
            if not isinstance(skeleton, dict) or "pose" not in skeleton or "score" not in skeleton:
                raise DataError(path, f"damaged: a skeleton of frame {index} has no pose or no score", GET_AGAIN)
            places.append((index, person, skeleton["pose"], skeleton["score"]))
    return places, late


def _numbers(rows, frames, count, what, path):
    """Rows of ``count`` numbers as an array, float64; refuses large numbers."""
    for row, frame in zip(rows, frames):
        if not isinstance(row, list) or len(row) != count:
            found = f"{len(row)} numbers" if isinstance(row, list) else f"a {type(row).__name__}"
            raise DataError(path, f"damaged: a {what} of frame {frame} contains {found}, expected {count}", GET_AGAIN)
    try:
        numbers = np.array(rows)
    except ValueError:
        numbers = np.empty(0)
    if numbers.shape != (len(rows), count) or numbers.dtype.kind not in "iuf":
        raise DataError(path, f"damaged: a {what} contains something other than numbers", GET_AGAIN)
    near = np.abs(numbers) <= MAX_COORDINATE  # also false for NaN
    if not near.all():
        row, column = np.argwhere(~near)[0]
        raise DataError(path, f"damaged: a {what} of frame {frames[row]} contains {numbers[row, column]:.4g}, expected "
                              "about 0 to 1", "x and y are fractions of the image's width and height")
    return numbers.astype(np.float64)


def take_most_confident(keypoint):
    """The two persons of the highest mean score in each frame: ``(T, 5, V, 3)`` → ``(T, 2, V, 3)``."""
    # Summed joint by joint, as in ST-GCN: rounding breaks ties.
    scores = np.ascontiguousarray(keypoint[..., 2].swapaxes(1, 2)).sum(axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :CLIP_PERSONS]
    return np.take_along_axis(keypoint, order[:, :, None, None], axis=1)
