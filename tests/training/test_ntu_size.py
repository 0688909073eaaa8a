"""Data of NTU RGB+D 60's size: memory stays small, and workers share what they read."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from small_config import CONFIG

from paddlevideo_skel.data.datasets import build_dataset
from paddlevideo_skel.data.loader import BatchLoader
from paddlevideo_skel.data.pipeline import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc")]

SAMPLES, SHAPE = 40_091, (3, 300, 25, 2)
TRAIN = """
import resource, sys
from paddlevideo_skel.config import load_config
from paddlevideo_skel.training.trainer import TrainOptions, train
train(load_config(sys.argv[1], sys.argv[2:]), TrainOptions(max_iters=4, seed=5))
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write(folder, count):
    """A sparse file of ``count`` samples, each with one number that is not 0: 4 KB of disk per sample."""
    data = np.lib.format.open_memmap(folder / "data.npy", "w+", "float32", (count, *SHAPE))
    data[:, 0, 0, 0, 0] = 1
    data.flush()
    del data
    np.save(folder / "label.npy", np.arange(count) % 4)
    return f"{{format: SkeletonDataset, file_path: {folder}/data.npy, label_path: {folder}/label.npy}}"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    spec = write(folder, SAMPLES)
    yield folder, spec
    os.unlink(folder / "data.npy")


def test_training_takes_no_more_memory_than_with_few_samples(large, tmp_path, sample_set):
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG.format(folder=sample_set))
    (tmp_path / "few").mkdir()
    peaks = []
    for name, spec in (("few", write(tmp_path / "few", 64)), ("many", large[1])):
        call = [sys.executable, "-c", TRAIN, config, f"output_dir={tmp_path / name}", f"DATASET.train={spec}",
                "epochs=1"]
        result = subprocess.run(call, cwd=ROOT, capture_output=True, text=True,
                                env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert result.returncode == 0, result.stderr
        peaks.append(int(result.stdout.split("peak ")[1]) / 1024)
    assert peaks[1] - peaks[0] < 200  # MiB; the file has 6,900


def memory(process):
    """(proportional, private) memory of a process in MiB: its share of shared pages, and what it shares with nobody."""
    lines = dict(line.split(":") for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:])
    kilobytes = {name: int(value.split()[0]) for name, value in lines.items()}
    return kilobytes["Pss"] / 1024, (kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) / 1024


def test_eight_workers_share_the_data(large):
    spec = {"format": "SkeletonDataset", "file_path": f"{large[0]}/data.npy", "label_path": f"{large[0]}/label.npy"}
    pipeline = Pipeline({"sample": [{"SketeonCropSample": {"window_size": 64, "p_interval": [0.95]}}]})
    with BatchLoader(build_dataset(spec, "DATASET.train"), pipeline, 64, shuffle=True, num_workers=8) as loader:
        for number, _ in enumerate(loader.batches(0)):
            if number == 60:  # 3,840 samples, 690 MB of the file
                break
        workers = [memory(process) for process in loader._pool._executor._processes]
    assert len(workers) == 8
    assert max(own for _, own in workers) < 150
    assert sum(share for share, _ in workers) < 1024
