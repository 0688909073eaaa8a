"""Small data sets and configs for the tests of bin folders."""
import json
import pickle
from pathlib import Path

import numpy as np
from deploy_cases import CONFIGS, SMALL, sequence, small_config, write_set

from paddlevideo_skel.config import load_config

COUNT = 11


def make_data(folder):
    """Data sets for the small models: 20 joints in 3D, COCO's 17 in 2D, and Kinetics' arrays."""
    write_set(folder / "3d.pkl", COUNT)
    annotations = [{"frame_dir": f"p{i}", "label": i % 51, "total_frames": 20, "img_shape": (240, 320),
                    "keypoint": 100 + 40 * sequence(i, 1, 20, 17, 2), "keypoint_score": np.ones((1, 20, 17), "f4")}
                   for i in range(3)]
    (folder / "2d.pkl").write_bytes(pickle.dumps({"split": {"all": ["p0", "p1", "p2"], "two": ["p0", "p1"]},
                                                 "annotations": annotations}))
    rng = np.random.default_rng(0)
    np.save(folder / "kinetics.npy", rng.normal(0, 0.3, (COUNT, 3, 300, 18, 2)).astype("float32"))
    (folder / "kinetics.pkl").write_bytes(pickle.dumps(([f"k {i}" for i in range(COUNT)], list(range(COUNT)))))
    return folder


def config_of(name, data, *overrides):
    """A small model's config on the data of ``make_data``; ``kinetics`` is ST-GCN as it is."""
    if name == "kinetics":
        return load_config(CONFIGS / "stgcn/stgcn_kinetics.yaml", [
            f"DATASET.test.file_path={data}/kinetics.npy", f"DATASET.test.label_path={data}/kinetics.pkl", *overrides])
    kind = "2d" if name == "posec3d" else "3d"
    return small_config(name, f"DATASET.test.file_path={data}/{kind}.pkl", "DATASET.test.split=all", *overrides)


def arguments(file, output, *more):
    """Arguments of preprocess-bin for the small ST-GCN++."""
    path, overrides = SMALL["stgcn_plusplus"]
    overrides = [*overrides, f"DATASET.test.file_path={file}", "DATASET.test.split=all"]
    return ["-c", str(CONFIGS / path), "-o", str(output), *(f"--override={text}" for text in overrides), *more]


def content(folder):
    """Every file below a folder, hidden ones too, as bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def edit(path, **entries):
    """Change entries of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
