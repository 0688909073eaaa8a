"""Generate seeded synthetic data sets of skeletons, as a camera would see them, and write their files.

They replace the real data sets, which cannot be shipped, for trying every command and for tests. They are not trivial:
tempo, size, view, side and noise vary, joints are missing, and some classes differ only in the order of their frames
(``actions.REVERSED``).
"""
import re
import zlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...errors import ConfigError, DataError, near_miss
from ...files import replacing
from ...skeleton import get_layout
from ..annotation import Annotation
from ..writers import save_pickle, writing_npy
from .actions import ACTIONS, PAIRS, perform
from .kinematics import SIDES, Body, Motion, pose

IMG_SHAPE = (1080, 1920)
FOCAL_LENGTH = 1060.0  # pixels; the colour camera of Kinect v2
NUM_SUBJECTS = 30
_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_LIMBS = ("shoulder", "elbow", "wrist", "hand", "hand_tip", "thumb", "hip", "knee", "ankle", "foot")
_JOINTS = ("spine_base", "spine_mid", "spine_shoulder", "neck", "head", *_FACE,
           *(f"{side}_{part}" for side in SIDES for part in _LIMBS))


def generate(num_samples_per_class, layout="ntu-rgb+d", seed=0, actions=ACTIONS, start=0, frames=(20, 120), noise=1.0,
             missing=0.02, bystander=0.15, progress=False):
    """Synthetic sequences, as many of each action; labels are positions in ``actions``.

    A sample depends only on the seed, its action and its number: any part of a set can be made alone, and
    ``S004_wave_p05`` is the same scene in 2D and in 3D. Sample n is acted by subject n mod 30.

    Args:
        num_samples_per_class: how many, numbered from ``start``.
        layout: with a nose (``coco``, ``openpose``) the result is in 2D: pixels in a 1080 x 1920 image,
            with scores; otherwise (``ntu-rgb+d``) in 3D: metres in the Kinect's coordinates, where x grows to
            the right of a person who faces the camera, y up, z (depth) away from it.
        seed: an integer >= 0.
        frames: minimum and maximum length.
        noise: factor of the joints' jitter, 0 for none; 1 is 2 to 8 mm or 1 to 3 pixels.
        missing: share of joints that were lost: zeros in 3D; low scores and zeros or wrong places in 2D.
        bystander: share of one-person samples with a bystander.

    Returns:
        A list of ``Annotation``, float32, by number and then by action.
    """
    layout = get_layout(layout)
    unknown = [joint for joint in layout.joints if joint not in _JOINTS]
    if unknown:
        raise ConfigError(f"layout {layout.name}", f"samples have no joint {unknown[0]!r}",
                          "Use ntu-rgb+d, coco or openpose")
    for i, action in enumerate(actions):
        if action in actions[:i]:
            raise ConfigError("actions", f"duplicate action {action!r}")
        if action not in ACTIONS:
            raise ConfigError("actions", f"unknown action {action!r}", near_miss(action, ACTIONS))
    for key, value, least in (("num_samples_per_class", num_samples_per_class, 1), ("seed", seed, 0),
                              ("start", start, 0), ("frames", frames[0], 2), ("frames", frames[1], frames[0])):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ConfigError(key, f"found {value!r}, expected an integer >= {least}")
    for key, share in (("missing", missing), ("bystander", bystander)):
        if not 0 <= share <= 1:
            raise ConfigError(key, f"found {share!r}, expected a share between 0 and 1")
    columns = [_JOINTS.index(joint) for joint in layout.joints]
    todo = [(i, label) for i in range(start, start + num_samples_per_class) for label in range(len(actions))]
    result = []
    for i, label in tqdm(todo, desc=f"samples {layout.name}", leave=False, disable=None if progress else True):
        key = (seed, zlib.crc32(actions[label].encode()), i)
        points = _scene(actions[label], i, seed, np.random.default_rng(key), frames, bystander)
        name = f"S{i + 1:03d}_{actions[label]}_p{i % NUM_SUBJECTS + 1:02d}"
        if "nose" in layout.joints:
            # The camera has its own random numbers, so that the scene is the same for every layout.
            rng = np.random.default_rng((*key, 2))
            keypoint, score = _picture(points, rng, noise, missing)
            result.append(Annotation(keypoint[:, :, columns].astype("float32"), score[:, :, columns].astype("float32"),
                                     name=name, label=label, img_shape=IMG_SHAPE))
        else:
            keypoint = _depth_camera(points, np.random.default_rng((*key, 3)), noise, missing)
            result.append(Annotation(keypoint[:, :, columns].astype("float32"), name=name, label=label))
    return result


def subject_of(name):
    """The number of the subject in a sample's name, 1 to 30."""
    found = re.fullmatch(r"S\d+_\w+_p(\d+)", name)
    if not found:
        raise DataError(f"sample {name!r}", "the name has no subject", "Names of samples are like S001_wave_p03")
    return int(found[1])


def _is_validation(subject):
    return subject % 3 == 0


def cross_subject_split(annotations):
    """Names for ``xsub_train`` and ``xsub_val``: every third subject is for validation only."""
    split = {"xsub_train": [], "xsub_val": []}
    for annotation in annotations:
        split["xsub_val" if _is_validation(subject_of(annotation.name)) else "xsub_train"].append(annotation.name)
    return split


def _body(seed, subject):
    return Body(np.random.default_rng((seed, subject, NUM_SUBJECTS)))


def _scene(action, number, seed, rng, frames, bystander):
    """Joints ``(M, T, J, 3)`` of all persons in the scene, metres in the camera's coordinates."""
    subject = number % NUM_SUBJECTS + 1
    # Others come from the same side of the cross-subject split: no body appears in both.
    fellows = [p for p in range(1, NUM_SUBJECTS + 1) if p != subject and _is_validation(p) == _is_validation(subject)]
    fellow = _body(seed, int(rng.choice(fellows)))
    bodies = [_body(seed, subject)] + [fellow] * (action in PAIRS)
    num_frames = int(rng.integers(frames[0], frames[1] + 1))
    figures = perform(action, bodies, num_frames, rng)
    points = np.stack([np.stack([figure[joint] for joint in _JOINTS], axis=1) for figure in figures])
    widest = 0.9 if action == "walk" else 0.3  # walkers also cross the image
    points = points @ _turn(1, rng.uniform(-np.pi, np.pi) * widest)
    if action not in PAIRS and rng.random() < bystander:
        other = Motion(num_frames, rng)
        other.ground[:] = rng.choice((-1, 1)) * rng.uniform(0.8, 1.2), 0, rng.uniform(-0.2, 0.6)
        other.heading += rng.uniform(-1, 1)
        figure = pose(fellow, other)
        points = np.concatenate([points, np.stack([figure[joint] for joint in _JOINTS], axis=1)[None]])
    # The camera is about a metre above the floor, slightly tilted.
    points = (points - (0, 0.95, 0)) @ _turn(0, rng.uniform(-0.1, 0.1)) @ _turn(2, rng.uniform(-0.03, 0.03))
    points = points + (rng.uniform(-0.4, 0.4), rng.uniform(-0.1, 0.15), rng.uniform(2.9, 3.4))
    return points[::-1] if len(points) == 2 and rng.random() < 0.25 else points


def _turn(axis, angle):
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return matrix


def _lost(shape, rng, share):
    """Which joints ``(M, T, J)`` are lost: a joint stays lost for six frames at a time."""
    num_person, num_frames, num_joints = shape
    blocks = rng.random((num_person, num_frames // 6 + 2, num_joints)) < share
    return np.repeat(blocks, 6, axis=1)[:, rng.integers(6):][:, :num_frames]


def _depth_camera(points, rng, noise, missing):
    keypoint = points + noise * rng.uniform(0.002, 0.008) * rng.standard_normal(points.shape)
    keypoint[_lost(points.shape[:3], rng, missing)] = 0
    return keypoint


def _picture(points, rng, noise, missing):
    """Pixels ``(M, T, J, 2)`` and scores ``(M, T, J)`` as a pose estimator would give them."""
    height, width = IMG_SHAPE
    depth = points[..., 2]
    # The image's x axis points the other way: a person who faces the camera has the right hand on its left.
    keypoint = np.array((width / 2, height / 2)) - FOCAL_LENGTH * points[..., :2] / depth[..., None]
    keypoint += noise * rng.uniform(1, 3) * rng.standard_normal(keypoint.shape)
    score = np.clip(rng.normal(rng.uniform(0.82, 0.92), 0.04, depth.shape), 0.5, 1)
    # A face seen from behind is guessed at.
    face = [_JOINTS.index(joint) for joint in _FACE[:3]]
    score[:, :, face] -= 0.3 * (depth[:, :, face] > depth[:, :, [_JOINTS.index("head")]])
    lost = _lost(depth.shape, rng, missing)
    wrong = keypoint + rng.normal(0, 60, keypoint.shape)
    wrong *= rng.random((len(depth), 1, depth.shape[2], 1)) < 0.5  # half of them are not guessed at all
    keypoint = np.where(lost[..., None], wrong, keypoint)
    outside = ((keypoint < 0) | (keypoint > (width - 1, height - 1))).any(axis=-1)
    score = np.where(lost | outside, rng.uniform(0, 0.25, depth.shape), score)
    return np.clip(keypoint, 0, (width - 1, height - 1)), score


def _record(annotation, dtype):
    record = {"frame_dir": annotation.name, "label": annotation.label, "total_frames": annotation.total_frames,
              "keypoint": annotation.keypoint.astype(dtype)}
    if annotation.keypoint_score is not None:
        record["keypoint_score"] = annotation.keypoint_score.astype(dtype)
    if annotation.img_shape is not None:
        record.update(img_shape=annotation.img_shape, original_shape=annotation.img_shape)
    return record


def write_pickle(path, annotations, splits=None, dtype=None):
    """Write an annotation pickle in the format of pyskl and mmaction2: a dict of ``split`` and ``annotations``.

    Args:
        splits: split name -> list of sample names; None: ``cross_subject_split``.
        dtype: of coordinates and scores; None: float16 for pixels (as HRNet pickles have), float32 for metres.
    """
    splits = cross_subject_split(annotations) if splits is None else splits
    save_pickle({"split": splits, "annotations": [_record(a, dtype or _dtype(a)) for a in annotations]}, path)


def _dtype(annotation):
    return "float32" if annotation.img_shape is None else "float16"


def write_npy(folder, annotations, splits=None, max_frames=300, max_persons=2):
    """Write ``{train,val}_data.npy`` and ``{train,val}_label.pkl`` for the splits ``*_train`` and ``*_val``.

    The array is ``(N, C, max_frames, V, max_persons)`` float32, zeros after a sequence's end and for absent
    persons; the label file is the pair (sample names, labels).
    """
    splits = cross_subject_split(annotations) if splits is None else splits
    by_name = {annotation.name: annotation for annotation in annotations}
    for split, names in splits.items():
        part = split.rsplit("_", 1)[-1]
        if part not in ("train", "val"):
            raise ConfigError(f"splits.{split}", "a split's name must end with _train or _val")
        if not names:
            raise DataError(f"splits.{split}", "no samples in it", "Make 3 or more samples of each class")
        chosen = [by_name[name] for name in names]
        for a in chosen:
            if a.total_frames > max_frames or len(a.keypoint) > max_persons:
                raise DataError(f"sample {a.name}", f"{a.total_frames} frames and {len(a.keypoint)} persons do not "
                                f"fit into {max_frames} and {max_persons}", "Raise max_frames or max_persons")
        _, _, joints, channels = chosen[0].keypoint.shape
        shape = (channels, max_frames, joints, max_persons)
        with writing_npy(Path(folder) / f"{part}_data.npy", (len(chosen), *shape), "<f4") as write:
            for a in chosen:
                write(_padded(a, shape))
        save_pickle((names, [a.label for a in chosen]), Path(folder) / f"{part}_label.pkl")


def _padded(annotation, shape):
    data = np.zeros(shape, dtype="<f4")
    data[:, :annotation.total_frames, :, :len(annotation.keypoint)] = annotation.data
    return data


def write_sample_set(folder, samples_per_class=60, seed=0, actions=ACTIONS, progress=True):
    """Write the sample data set; returns the paths of its files.

    ======================================= ============================================================
    ``ntu/xsub/{train,val}_data.npy``       3D, 25 joints, ``(N, 3, 300, 25, 2)``, with ``_label.pkl``
    ``ntu_3d.pkl``, ``coco_2d.pkl``         the same scenes in 3D and in 2D as annotation pickles
    ``class_names.txt``                     one action per line, in label order
    ``example_ntu.npy``, ``example_coco.pkl``   one validation sample of each, ``(C, T, V, M)`` and a bare annotation
    ======================================= ============================================================

    Raises:
        ConfigError: fewer than 3 samples per class; every third subject is for validation.
        OutputError: the folder cannot be written.
    """
    if samples_per_class < 3:
        raise ConfigError("samples_per_class", f"found {samples_per_class}, expected 3 or more",
                          "Every third subject is for validation")
    folder = Path(folder)
    # The smallest file comes first, so that an unwritable folder fails before the long generation.
    with replacing(folder / "class_names.txt") as temporary:
        Path(temporary).write_text("".join(f"{action}\n" for action in actions), encoding="utf-8")
    spatial = generate(samples_per_class, "ntu-rgb+d", seed, actions, progress=progress)
    write_npy(folder / "ntu" / "xsub", spatial)
    write_pickle(folder / "ntu_3d.pkl", spatial)
    example = next(a for a in spatial if _is_validation(subject_of(a.name)))
    with replacing(folder / "example_ntu.npy") as temporary, open(temporary, "wb") as file:
        np.save(file, _padded(example, (*example.data.shape[:3], 2)))
    name = example.name
    flat = generate(samples_per_class, "coco", seed, actions, progress=progress)
    write_pickle(folder / "coco_2d.pkl", flat)
    example = next(a for a in flat if a.name == name)
    save_pickle(_record(example, _dtype(example)), folder / "example_coco.pkl")
    return [folder / "ntu" / "xsub" / f"{part}_{kind}" for part in ("train", "val")
            for kind in ("data.npy", "label.pkl")] + [
        folder / file for file in ("ntu_3d.pkl", "coco_2d.pkl", "class_names.txt", "example_ntu.npy",
                                   "example_coco.pkl")]
