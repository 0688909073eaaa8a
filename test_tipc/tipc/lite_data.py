"""Small data sets from the sample generator, in the form that a config reads."""
import pickle
from pathlib import Path

import numpy as np

from paddlevideo_skel.data.synthetic.actions import ACTIONS
from paddlevideo_skel.data.synthetic.samples import cross_subject_split, generate, write_pickle
from paddlevideo_skel.errors import ConfigError

CLASSES, SAMPLES = 4, 3  # 12 sequences: 8 of them for training
FRAMES = 300
# The OpenPose joint (of 18) used for each joint of BODY_25, as the generator has no toes and heels; the ninth, between
# the hips, is computed.
BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 13, 13, 13, 10, 10, 10)


def layout_of(config):
    """The generator's layout for the skeleton that a config's model reads.

    Raises:
        ConfigError: the generator has no such skeleton.
    """
    backbone = _backbone(config)
    name = backbone.get("layout") or backbone.get("graph")
    if name is None:
        name = {"ResNet3dSlowOnly": "coco", "STGCN": "fsd10", "STGCNPlusPlus": "coco"}.get(backbone["name"], "ntu")
    name = name["name"] if isinstance(name, dict) else name  # described by the config itself
    for known, layout in (("coco", "coco"), ("ntu", "ntu-rgb+d"), ("openpose", "openpose"), ("fsd10", "fsd10")):
        if name.startswith(known):
            return layout
    raise ConfigError(config.where("MODEL"), f"no data can be generated for the skeleton {name!r}",
                      "Put your own data where the config expects it")


def annotations(layout, part):
    """The sequences of ``part``: ``train`` or ``val``."""
    source = "openpose" if layout == "fsd10" else layout
    everything = generate(SAMPLES, source, actions=tuple(ACTIONS)[:CLASSES], frames=(30, 60))
    names = set(cross_subject_split(everything)[f"xsub_{part}"])
    return [annotation for annotation in everything if annotation.name in names]


def array(sequences, layout, channels, persons, frames=FRAMES):
    """``(N, C, T, V, M)`` float32, zeros after a sequence's end and for absent persons; pixels come as shares of the
    picture, and a third channel beside them is the score, as st-gcn's data sets have it.
    """
    first = _data(sequences[0], layout, channels)
    result = np.zeros((len(sequences), channels, frames, first.shape[2], persons), "float32")
    for row, sequence in zip(result, sequences):
        data = _data(sequence, layout, channels)
        row[:, :data.shape[1], :, :data.shape[3]] = data[..., :persons]
    return result


def _data(sequence, layout, channels):
    keypoint = sequence.keypoint
    if sequence.keypoint_score is not None:
        height, width = sequence.img_shape
        keypoint = np.concatenate([keypoint / (width, height), sequence.keypoint_score[..., None]], axis=-1)
    if layout == "fsd10":
        keypoint = keypoint[:, :, BODY_25, :]
        keypoint[:, :, 8] = keypoint[:, :, [9, 12]].mean(axis=2)
    return keypoint.transpose(3, 1, 2, 0)[:channels]


def write_set(path, config, splits):
    """Write the data set that ``splits`` of a config read from one file.

    Args:
        path: where to write. splits: those whose ``file_path`` it is; a pickle gets the splits of the whole config.
    """
    layout = layout_of(config)
    if str(path).endswith(".pkl"):
        names = {part: [a.name for a in annotations(layout, part)] for part in ("train", "val")}
        wanted = {section.get("split") or split: names[_part(split)] for split, section in config["DATASET"].items()
                  if isinstance(section, dict)}
        write_pickle(path, annotations(layout, "train") + annotations(layout, "val"), wanted)
        return
    channels, persons = _channels(config), _persons(config, layout)
    _save(path, array(annotations(layout, _file_part(splits)), layout, channels, persons))


def write_labels(path, config, splits):
    """Write the labels that belong to a ``.npy`` data set of these splits: ``.npy``, or a pickle of (names, labels)."""
    sequences = annotations(layout_of(config), _file_part(splits))
    labels = [sequence.label for sequence in sequences]
    if str(path).endswith(".npy"):
        _save(path, np.array(labels, np.int64))
    else:
        Path(path).write_bytes(pickle.dumps(([sequence.name for sequence in sequences], labels), protocol=4))


def write_example(path, config):
    """Write one sequence for inference: a ``(C, T, V, M)`` array, or an annotation pickle."""
    layout = layout_of(config)
    example = annotations(layout, "val")[:1]
    if str(path).endswith(".npy"):
        _save(path, array(example, layout, _channels(config), _persons(config, layout))[0])
    else:
        write_pickle(path, example, {"example": [example[0].name]})


def _save(path, content):
    with open(path, "wb") as file:
        np.save(file, content)


def _part(split):
    return "train" if split == "train" else "val"


def _file_part(splits):
    """A file that training reads, too, holds the training's samples."""
    return "train" if "train" in splits else "val"


def _backbone(config):
    model = config.section("MODEL")
    # Of several models that learn together every one reads the same data.
    return (next(iter(model["models"][0].values())) if "models" in model else model)["backbone"]


def _channels(config):
    return _backbone(config).get("in_channels", 2 if _backbone(config)["name"] == "STGCN" else 3)


def _persons(config, layout):
    return config.get("INFERENCE", {}).get("person_nums", 1 if layout == "fsd10" else 2)
