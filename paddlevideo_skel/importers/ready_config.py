"""Make a config that trains ST-GCN++ on a new data set, from a packaged config with a short schedule."""
import numpy as np

from ..config import load_config, plain
from ..skeleton import LAYOUTS

BASE = "configs/recognition/stgcn_plusplus/stgcn_plusplus_utkinect.yaml"
MAX_BATCH_SIZE = 16
CLIP_STEP, MIN_CLIP_LENGTH, MAX_CLIP_LENGTH = 8, 16, 100  # frames


def choose_clip_length(lengths):
    """Number of frames per clip: the sequences' median length, rounded to a multiple of 8, from 16 to 100."""
    return int(np.clip(round(float(np.median(lengths)) / CLIP_STEP) * CLIP_STEP, MIN_CLIP_LENGTH, MAX_CLIP_LENGTH))


def make_config(path, layout, annotations, class_names, splits):
    """The content of a config for the annotation pickle ``path``.

    Args:
        path: as written in the config; a relative path is relative to the working directory.
        layout: ``Layout``.
        annotations: list of ``Annotation``, all 2D or all 3D.
        class_names: list of the classes' names.
        splits: name → list of names; the first is for training, the second for validation, the last for testing.
    """
    config = plain(load_config(BASE))
    names = list(splits)
    persons = max(len(a.keypoint) for a in annotations)
    clip = choose_clip_length([a.total_frames for a in annotations])
    spatial = annotations[0].keypoint.shape[3] == 3
    own = LAYOUTS.get(layout.name) != layout
    config.pop("LAYOUT")
    if own:
        config = {"LAYOUT": {layout.name: {k: v for k, v in layout.to_dict().items() if k != "name"}}, **config}
    scored = annotations[0].keypoint_score is not None
    config["MODEL"]["backbone"].update(layout=layout.name, num_person=persons,
                                       in_channels=3 if spatial or scored else 2)
    config["MODEL"]["head"]["num_classes"] = len(class_names)
    batch = min(MAX_BATCH_SIZE, len(splits[names[0]]))
    config["DATASET"] = {"batch_size": batch, "valid_batch_size": 4 * batch, "test_batch_size": 4 * batch,
                         "num_workers": 0}
    config["PIPELINE"] = {}
    for part, split in (("train", names[0]), ("valid", names[1]), ("test", names[-1])):
        config["DATASET"][part] = {"format": "NTUCSSkeletonDataset", "file_path": str(path), "split": split,
                                   **({} if part == "train" else {"test_mode": True})}
        config["PIPELINE"][part] = {"transform": _steps(layout.name, spatial, clip, persons, part != "train")}
    config.update(class_names=list(class_names), model_name="STGCN_PlusPlus_own")
    return config


def _steps(layout, spatial, clip, persons, testing):
    normalise = {"PreNormalize3D": {"layout": layout, "align_spine": False}} if spatial else {"PreNormalize2D": None}
    return [normalise, {"GenSkeFeat": {"dataset": layout, "feats": ["j"]}},
            {"UniformSampleFrames": {"clip_len": clip, "even": True, **({"test_mode": True} if testing else {})}},
            {"PoseDecode": None}, {"FormatGCNInput": {"num_person": persons}},
            {"Collect": {"keys": ["keypoint", "label"]}}]
