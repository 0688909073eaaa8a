"""PoseC3D's pre-processing of one video compared with the usual loops: ratios from one run on one core.

    python benchmarks/heatmaps.py [--repeats 5]

Both sides go from the same sequence (2 persons, 163 frames, 17 joints) through the same steps to the array of the test
recipe, 10 clips of 48 frames and their mirrored copies. The reference draws as mmaction2 and pyskl do: for every frame,
joint or limb, and person a patch of a Gaussian, then the mirrored copies, then the network's order of axes.
"""
import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np

from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.data.pipeline import Pipeline
from paddlevideo_skel.data.transforms.heatmaps import COCO_LIMBS
from paddlevideo_skel.skeleton import get_layout

SIGMA, CLIPS = 0.6, 10
LEFT, RIGHT = map(list, (get_layout("coco").left, get_layout("coco").right))
JOINTS = tuple((joint, joint) for joint in range(17))
CASES = {"joints, 56×56": (56, False), "joints, 112×112": (112, False), "limbs, 56×56": (56, True)}


def sequence():
    """Two persons who wander about in a picture of 256×340 pixels."""
    rng = np.random.default_rng(0)
    place = np.array([[110, 130], [230, 120]])[:, None, None] + np.cumsum(rng.normal(0, 1, (2, 163, 1, 2)), axis=1)
    body = rng.uniform((-30, -80), (30, 80), (2, 1, 17, 2)) + np.cumsum(rng.normal(0, 0.5, (2, 163, 17, 2)), axis=1)
    return Annotation((place + body).astype("float32"), rng.uniform(0.3, 1, (2, 163, 17)).astype("float32"),
                      name="wandering", img_shape=(256, 340))


def pipeline(side, *last):
    """The published test recipe's steps, the last of which follow the crop."""
    return Pipeline({"decode_sampler": {"name": "UniformSampleFrames", "clip_len": 48, "num_clips": CLIPS,
                                        "test_mode": True},
                     "transform": ["PoseDecode", {"PoseCompact": {"hw_ratio": 1.0}}, {"Resize": {"scale": (-1, side)}},
                                   {"CenterCrop": {"crop_size": side}}, *last]})


def run(pipeline, annotation):
    """The pipeline's steps alone, without its checks."""
    for _, step in pipeline.steps:
        annotation = step(annotation, np.random.default_rng(0))
    return annotation


def patch(x, y, start, end):
    """A Gaussian's values for columns ``(w,)`` and rows ``(h, 1)`` around a segment, ``(h, w)``."""
    along = end - start
    share = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / max(float(along @ along), 1)
    share = np.clip(share, 0, 1)
    squared = (x - start[0] - share * along[0])**2 + (y - start[1] - share * along[1])**2
    return np.exp(-squared / 2 / SIGMA**2)


def draw(heatmap, start, end, score):
    """One person's joint or limb into a map ``(H, W)``."""
    if score < 1e-4:
        return
    low = np.maximum(np.trunc(np.minimum(start, end) - 3 * SIGMA), 0).astype(int)
    high = np.minimum(np.trunc(np.maximum(start, end) + 3 * SIGMA) + 1, heatmap.shape[::-1]).astype(int)
    x = np.arange(low[0], high[0], dtype=np.float32)
    y = np.arange(low[1], high[1], dtype=np.float32)[:, None]
    if x.size and y.size:
        place = heatmap[low[1]:high[1], low[0]:high[0]]
        np.maximum(place, patch(x, y, start, end) * score, out=place)


def drawn(keypoint, score, size, channels):
    """Maps ``(T, C, H, W)`` of joints and limbs ``channels``, from keypoints ``(M, T, 17, 2)``, one after the other."""
    frames = keypoint.shape[1]
    heatmaps = np.zeros((frames, len(channels), *size), np.float32)
    for t in range(frames):
        for c, (a, b) in enumerate(channels):
            for m in range(len(keypoint)):
                start, end, height = keypoint[m, t, a], keypoint[m, t, b], min(score[m, t, a], score[m, t, b])
                if np.square(end - start).sum() < 1:
                    end, height = start, score[m, t, a] if height >= 1e-4 else 0
                draw(heatmaps[t, c], start, end, height)
    return heatmaps


def reference(keypoint, score, side, limbs):
    """``(2·clips, 17, 48, side, side)`` from keypoints ``(M, clips·48, 17, 2)`` in the cropped picture."""
    channels = COCO_LIMBS if limbs else JOINTS
    heatmaps = drawn(keypoint, score, (side, side), channels)
    mirror = np.arange(17)
    mirror[LEFT + RIGHT] = RIGHT + LEFT
    order = [next(i for i, limb in enumerate(channels) if set(limb) == {mirror[a], mirror[b]}) for a, b in channels]
    heatmaps = np.concatenate([heatmaps, heatmaps[..., ::-1][:, order]])
    return np.ascontiguousarray(heatmaps.reshape(2 * CLIPS, -1, *heatmaps.shape[1:]).swapaxes(1, 2))


def seconds(function, repeats):
    """Median of ``repeats`` runs after one that does not count, and the last result."""
    times = []
    for _ in range(repeats + 1):
        result = None  # its memory is free again before the next run
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:])), result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    annotation, rng = sequence(), np.random.default_rng(0)
    print(f"median of {repeats} runs, the reference once")
    print(f"{'heatmaps':16} {'array':>22} {'reference':>10} {'here':>8} {'ratio':>6} {'checked':>8} {'difference':>11}")
    for name, (side, limbs) in CASES.items():
        target = {"GeneratePoseTarget": {"sigma": SIGMA, "with_kp": not limbs, "with_limb": limbs, "double": True}}
        cut, whole = pipeline(side), pipeline(side, target, {"FormatShape": {"input_format": "NCTHW"}})

        start = time.perf_counter()
        sample = run(cut, annotation)
        expected = reference(sample.keypoint, sample.keypoint_score, side, limbs)
        before = time.perf_counter() - start
        after, found = seconds(lambda whole=whole: run(whole, annotation).array, repeats)
        difference = float(np.abs(found - expected).max())
        del found
        checked, _ = seconds(lambda whole=whole: whole(annotation, rng), repeats)
        print(f"{name:16} {expected.shape!s:>22} {before:8.2f} s {after:6.3f} s {before / after:6.1f} {checked:6.3f} s "
              f"{difference:11.1e}")
    print("checked: the same with the pipeline's checks of what comes in and goes out")


if __name__ == "__main__":
    main()
