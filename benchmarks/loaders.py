"""Samples per second of each recipe's training loader, compared with plain loops, on one core and without workers.

    python benchmarks/loaders.py [--seconds 3] [recipe …]

Both sides read the same generated files through the same data set classes, in the same order and with the same random
numbers; the arrays of the first samples are compared.
"""
import argparse
import os
import pickle
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
import numpy as np  # noqa: E402
import plain_pipelines as plain  # noqa: E402

from paddlevideo_skel.config import load_config  # noqa: E402
from paddlevideo_skel.data.datasets import build_dataset  # noqa: E402
from paddlevideo_skel.data.loader import SAMPLE, BatchLoader, random_numbers  # noqa: E402
from paddlevideo_skel.data.pipeline import Pipeline  # noqa: E402

SAMPLES, BATCH, SEED = 16, 8, 0
# recipe, plain loops, persons, joints, coordinates, whether the coordinates are pixels with scores
RECIPES = {
    "ctrgcn/ctrgcn_ntucs_joint": (plain.ctrgcn, 2, 25, 3, False),
    "ctrgcn/ctrgcn_ntucs_bone_motion": (plain.ctrgcn_bone_motion, 2, 25, 3, False),
    "stgcn/stgcn_ntucs": (plain.stgcn_ntu, 2, 25, 3, False),
    "stgcn/stgcn_kinetics": (plain.stgcn_kinetics, 2, 18, 3, False),
    "stgcn/stgcn_utkinect": (plain.stgcn_utkinect, 1, 20, 3, False),
    "stgcn_plusplus/stgcn_plusplus_ntucs": (plain.stgcn_plusplus_2d, 2, 17, 2, True),
    "stgcn_plusplus/stgcn_plusplus_ntu3d_joint": (plain.stgcn_plusplus_3d, 2, 25, 3, False),
    "posec3d/posec3d_hmdb51": (plain.posec3d, 2, 17, 2, True),
}


def sequences(persons, joints, channels, pixels):
    """Skeletons ``(M, T, V, C)`` of different lengths, 24 to 40 frames of short actions, else 70 to 290."""
    rng = np.random.default_rng(SEED)
    for _ in range(SAMPLES):
        frames = int(rng.integers(24, 40) if joints == 20 else rng.integers(70, 290))
        steps = np.cumsum(rng.normal(0, 0.02, (persons, frames, joints, channels)), axis=1)
        keypoint = rng.normal(0, 0.4, (persons, 1, joints, channels)) + steps
        yield (keypoint * 100 + 540).astype("float16") if pixels else keypoint.astype("float32")


def write_set(folder, spec, persons, joints, channels, pixels):
    """Files of the kind that the recipe's data set reads; returns the data set's section of a config."""
    rng, labels, found = np.random.default_rng(1), [0] * SAMPLES, list(sequences(persons, joints, channels, pixels))
    if spec["format"] == "SkeletonDataset":
        data = np.zeros((SAMPLES, channels, 300, joints, persons), np.float32)
        for sample, keypoint in zip(data, found, strict=True):
            sample[:, :keypoint.shape[1]] = keypoint.transpose(3, 1, 2, 0)
        np.save(folder / "data.npy", data)
        (folder / "label.pkl").write_bytes(pickle.dumps(([str(i) for i in range(SAMPLES)], labels)))
        return {"format": spec["format"], "file_path": folder / "data.npy", "label_path": folder / "label.pkl"}
    annotations = [{"frame_dir": str(i), "label": 0, "keypoint": keypoint, **({} if not pixels else {
        "keypoint_score": rng.uniform(0.3, 1, keypoint.shape[:3]).astype("float16"), "img_shape": (1080, 1920)})}
        for i, keypoint in enumerate(found)]
    (folder / "set.pkl").write_bytes(pickle.dumps(annotations))
    return {"format": spec["format"], "file_path": folder / "set.pkl"}


def plain_batches(dataset, function, epoch):
    """What the loader does, without its checks."""
    order = random_numbers(SEED, epoch, 0).permutation(len(dataset))
    for first in range(0, len(order), BATCH):
        index = order[first:first + BATCH].tolist()
        yield np.stack([function(dataset[i], random_numbers(SEED, epoch, SAMPLE, i)) for i in index])


def per_second(epoch, seconds):
    """Samples per second of ``epoch(number)``, which gives batches: the median over batches."""
    times, number, begin = [], 0, time.perf_counter()
    while True:
        start = time.perf_counter()
        for batch in epoch(number):
            times.append((time.perf_counter() - start) / len(batch))
            if time.perf_counter() - begin > seconds:
                return 1 / float(np.median(times))
            start = time.perf_counter()
        number += 1


@contextmanager
def one_core():
    """This process on one core, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure(name, seconds):
    """One row."""
    function, persons, joints, channels, pixels = RECIPES[name]
    config = load_config(ROOT / "configs" / "recognition" / f"{name}.yaml")
    pipeline = Pipeline(config["PIPELINE"]["train"], name)
    if function is plain.posec3d:
        names = [type(step).__name__ for _, step in pipeline.steps]
        before = pipeline.steps[:names.index("GeneratePoseTarget")]
        function = partial(function, before=[step for _, step in before])
    with tempfile.TemporaryDirectory() as folder:
        spec = write_set(Path(folder), config["DATASET"]["train"], persons, joints, channels, pixels)
        dataset = build_dataset(spec, name)
        with BatchLoader(dataset, pipeline, BATCH, shuffle=True, seed=SEED) as loader:
            found, right = next(loader.batches(0)).array, next(plain_batches(dataset, function, 0))
            ours = per_second(lambda epoch: (batch.array for batch in loader.batches(epoch)), seconds)
        reference = per_second(lambda epoch: plain_batches(dataset, function, epoch), seconds)
    return {"recipe": name, "shape": found.shape[1:], "samples_per_s": ours, "reference_samples_per_s": reference,
            "ratio": ours / reference, "difference": float(np.abs(found - right).max() / np.abs(right).max())}


def rows(seconds_budget=60, only=()):
    """A dict a recipe: samples/s here and of the plain loops, their ratio, the largest relative difference."""
    names = [name for name in RECIPES if not only or any(part in name for part in only)]
    with one_core():
        return [measure(name, seconds_budget / len(names) / 2) for name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="*", help="parts of recipes' names; default: all")
    parser.add_argument("--seconds", type=float, default=40, help="for all rows together, default 40")
    args = parser.parse_args()
    print("| recipe, training | array | samples/s | plain loops | ratio | difference |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows(args.seconds, args.only):
        print(f"| `{row['recipe']}` | {'×'.join(map(str, row['shape']))} | {row['samples_per_s']:.0f} | "
              f"{row['reference_samples_per_s']:.1f} | {row['ratio']:.0f} | {row['difference']:.0e} |", flush=True)


if __name__ == "__main__":
    main()
