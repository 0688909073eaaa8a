"""Raw files of the real formats, for the importers' tests and benchmark."""
import json
import os
import signal
import subprocess
import time

import numpy as np

from paddlevideo_skel.data.synthetic.samples import generate
from paddlevideo_skel.importers.ntu_skeleton import TrackedBody

# Written by hand, with what real files hold: ids beyond 53 bits, -inf where the colour camera saw nothing, CRLF.
JOINT = "0.25 0.5 3.75 277.1419 191.8218 -inf nan 0.2059419 0.05349901 0.9692109 -0.1239193 2"
HAND_WRITTEN = "\r\n".join(["2", "1", "72057594037931101 0 1 1 1 1 0 0.02764709 0.05745083 2", "25", *[JOINT] * 25,
                            "2", "72057594037931101 0 1 1 1 1 0 0 0 2", "25", *[JOINT] * 24, "-1.5e-1" + JOINT[4:],
                            "72057594037931102 0 1 1 1 1 0 0 0 2", "25", *[JOINT] * 25, ""])


def skeleton_text(frames):
    """A ``.skeleton`` file's text. ``frames``: for each frame a list of ``(id, joints (25, 3))``."""
    lines = [f"{len(frames)}"]
    for bodies in frames:
        lines.append(f"{len(bodies)}")
        for body, joints in bodies:
            lines += [f"{body} 0 1 1 0 0 0 0.04052418 -0.1529204 2", f"{len(joints)}"]
            lines += [f"{x:.7g} {y:.7g} {z:.7g} {256 + 100 * x:.7g} {212 - 100 * y:.7g} {960 + 400 * x:.7g} "
                      f"{540 - 400 * y:.7g} 0.1773209 -0.02144319 0.9829348 -0.04264985 2" for x, y, z in joints]
    return "\n".join(lines) + "\n"


def recording(keypoint, ids=(72057594037931101, 72057594037931102), present=None):
    """Frames for ``skeleton_text`` of persons ``(M, T, 25, 3)``; ``present`` ``(M, T)``: when each is seen."""
    present = np.ones(keypoint.shape[:2], bool) if present is None else present
    return [[(ids[m], keypoint[m, t]) for m in range(len(keypoint)) if present[m, t]]
            for t in range(keypoint.shape[1])]


def name_of(number, action):
    """A recording's name; consecutive numbers go through cameras, subjects and setups."""
    return f"S{number % 17 + 1:03d}C{number % 3 + 1:03d}P{number % 40 + 1:03d}R001A{action:03d}"


def write_ntu(folder, count, frames=(20, 40), actions=(1, 8, 50), seed=0):
    """``count`` recordings of generated persons, each with a name of its own; returns name → ``(M, T, 25, 3)``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for number, annotation in enumerate(generate(-(-count // 3), seed=seed, actions=("wave", "squat", "handshake"),
                                                 frames=frames, missing=0)[:count]):
        name = name_of(number, actions[number % len(actions)])
        (folder / f"{name}.skeleton").write_text(skeleton_text(recording(annotation.keypoint)))
        written[name] = annotation.keypoint
    return written


def clip(rng, frames=20, persons=2, start=1, label=0):
    """A Kinetics clip's content: random poses and scores, some of them 0, with so many persons a frame at most."""
    data = []
    for frame in range(start, start + frames):
        skeletons = []
        for _ in range(rng.integers(0, persons + 1)):
            score = np.where(rng.random(18) < 0.2, 0, rng.uniform(0.1, 1, 18)).round(3)
            pose = (rng.random((18, 2)) * (score > 0)[:, None]).round(3)
            skeletons.append({"pose": pose.ravel().tolist(), "score": score.tolist()})
        data.append({"frame_index": frame, "skeleton": skeletons})
    return {"data": data, "label": f"class {label}", "label_index": label}


def write_kinetics(folder, part, count, seed=0, **options):
    """A part of kinetics-skeleton, every fourth clip without a skeleton; returns name → content of the others."""
    rng, labels, clips = np.random.default_rng(seed), {}, {}
    (folder / f"kinetics_{part}").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name, seen = f"{part}_{number:04d}", number % 4 != 3
        content = clip(rng, label=number % 3, **options) if seen else {"data": [], "label": "x", "label_index": 0}
        labels[name] = {"has_skeleton": seen, "label": content["label"], "label_index": content["label_index"]}
        (folder / f"kinetics_{part}" / f"{name}.json").write_text(json.dumps(content))
        if seen:
            clips[name] = content
    (folder / f"kinetics_{part}_label.json").write_text(json.dumps(labels))
    return clips


def skeleton_file(folder, text, name="S001C001P001R001A001"):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.skeleton"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def body(frames, joints=None, seed=0, height=1.7):
    """A ``TrackedBody`` that stands upright and moves a little."""
    rng, frames = np.random.default_rng(seed), np.array(frames)
    if joints is None:
        joints = rng.uniform((-0.2, 0, 2.9), (0.2, height, 3.1), (len(frames), 25, 3))
    return TrackedBody(frames, np.asarray(joints, np.float32))


def kill_an_import(command, journal, folder=None):
    """Start an import, in ``folder``, and end it by ``SIGKILL`` when its journal holds some entries but not all."""
    started = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    while started.poll() is None and not (journal.is_file() and journal.read_bytes().count(b"\n") > 1):
        time.sleep(0.001)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert journal.read_bytes().count(b"\n") > 1
