"""The importers of NTU RGB+D and Kinetics-skeleton on generated files of the real format: speed and peak memory.

    python benchmarks/importers.py [--files 60] [--many 400]

Frames per second on one core (reading and choosing persons, no writing), next to a straightforward reader that goes
line by line and number by number; then whole imports of a few and of many files, each in a process of its own: seconds,
and the peak of the memory it held (Linux).
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
import numpy as np
from raw_files import write_kinetics, write_ntu

from paddlevideo_skel.importers.journal import list_sources
from paddlevideo_skel.importers.kinetics import read_clip
from paddlevideo_skel.importers.ntu import read_persons

ROOT = Path(__file__).resolve().parents[1]
FRAMES = (60, 110)  # of a recording; NTU RGB+D's have 84 on the average
CLIP_FRAMES = 299
REPEATS = 3
RUN = """import sys, time
from paddlevideo_skel.cli import run_command
start = time.perf_counter()
status = run_command(sys.argv[1], sys.argv[2:])
# Not getrusage: a process inherits the peak of the one that started it.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.perf_counter() - start, peak / 1024, file=sys.stderr)
sys.exit(status)"""


def plain_ntu(path):
    """Coordinates by a plain reader: every line split, every number made by ``float``."""
    with open(path) as file:
        joints = []
        for _ in range(int(file.readline())):
            for _ in range(int(file.readline())):
                file.readline()
                for _ in range(int(file.readline())):
                    joints.append([float(text) for text in file.readline().split()][:3])
    return np.array(joints)


def plain_kinetics(path):
    """A clip's array by a plain reader: frame by frame and person by person."""
    with open(path) as file:
        content = json.load(file)
    data = np.zeros((3, 300, 18, 5))
    for frame in content["data"]:
        for m, skeleton in enumerate(frame["skeleton"][:5]):
            data[0, frame["frame_index"], :, m] = skeleton["pose"][0::2]
            data[1, frame["frame_index"], :, m] = skeleton["pose"][1::2]
            data[2, frame["frame_index"], :, m] = skeleton["score"]
    data[:2] -= 0.5
    data[:2] *= data[2] != 0
    for t in range(300):
        data[:, t] = data[:, t, :, np.argsort(-data[2, t].sum(axis=0))].transpose(1, 2, 0)
    return data[..., :2]


def rates(sources, frames, functions):
    """Frames per second of each function over the sources, the best of a few rounds, taken in turns."""
    best = [float("inf")] * len(functions)
    for _ in range(REPEATS):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            for source in sources:
                function(source)
            best[i] = min(best[i], time.perf_counter() - start)
    return [frames / seconds for seconds in best]


def whole_import(command, *arguments):
    """Seconds and peak memory (MB) of a command in a process of its own, without workers."""
    done = subprocess.run([sys.executable, "-c", RUN, command, *map(str, arguments), "--workers", "0"], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    return map(float, done.stderr.split()[-2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=60, help="files a set")
    parser.add_argument("--many", type=int, default=400, help="files for the second import")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        counts = (args.files, args.many)
        print(f"{'one core':12} {'plain reader':>18} {'importer':>18} {'ratio':>6}")
        for count in counts:
            shapes = write_ntu(folder / f"ntu{count}", count, FRAMES, seed=count)
            clips = write_kinetics(folder / f"kinetics{count}", "train", count, frames=CLIP_FRAMES)
            if count == args.files:
                frames = {"ntu": sum(k.shape[1] for k in shapes.values()), "kinetics": len(clips) * CLIP_FRAMES}
        few = list_sources(folder / f"ntu{args.files}", ".skeleton")
        plain, here = rates(few, frames["ntu"], (lambda s: plain_ntu(s.path), lambda s: read_persons(s, False)))
        print(f"{'NTU RGB+D':12} {plain:9,.0f} frames/s {here:9,.0f} frames/s {here / plain:6.1f}")
        indices = {name: content["label_index"] for name, content in clips.items()}
        few = [s for s in list_sources(folder / f"kinetics{args.files}" / "kinetics_train", ".json")
               if s.name in indices]
        plain, here = rates(few, frames["kinetics"], (lambda s: plain_kinetics(s.path),
                                                      lambda s: read_clip(s, indices)))
        print(f"{'Kinetics':12} {plain:9,.0f} frames/s {here:9,.0f} frames/s {here / plain:6.1f}")

        print(f"\n{'whole import, one process':26} {'files':>6} {'seconds':>8} {'peak memory':>12}")
        for count in counts:
            for name, command, given in (
                    ("NTU RGB+D, .npy", "import-ntu", [folder / f"ntu{count}"]),
                    ("NTU RGB+D, .npy and pickle", "import-ntu", [folder / f"ntu{count}", "--form", "both"]),
                    ("Kinetics", "import-kinetics", [folder / f"kinetics{count}", "--part", "train"])):
                seconds, memory = whole_import(command, *given, "-o", folder / "out")
                print(f"{name:26} {count:6} {seconds:8.2f} {memory:9.0f} MB")


if __name__ == "__main__":
    main()
