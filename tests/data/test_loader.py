"""Batches: the same for every number of workers, errors that name the sample, and constant memory."""
import os
import pickle
import signal
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from loader_cases import RANDOM, Made

from paddlevideo_skel.data.datasets import build_dataset
from paddlevideo_skel.data.loader import BatchLoader
from paddlevideo_skel.data.mixup import Mixup
from paddlevideo_skel.data.pipeline import Pipeline
from paddlevideo_skel.errors import ConfigError, DataError


def batches(workers, epoch=0, dataset=None, section=RANDOM, **arguments):
    with BatchLoader(dataset or Made(23), Pipeline(section), 4, num_workers=workers, **arguments) as loader:
        return list(loader.batches(epoch))


def assert_equal(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.array, b.array)
        np.testing.assert_array_equal(a.index, b.index)
        np.testing.assert_array_equal(a.label, b.label)
        assert a.names == b.names
        assert (a.mix is None) == (b.mix is None)
        if a.mix is not None:
            np.testing.assert_array_equal(a.mix[0], b.mix[0])
            assert a.mix[1] == b.mix[1]


def test_each_sample_once_with_its_label_and_array():
    for shuffle in (False, True):
        found = batches(0, shuffle=shuffle, section={"transform": ["Iden"]})
        index = np.concatenate([b.index for b in found])
        assert sorted(index) == list(range(23)) and (shuffle or index.tolist() == list(range(23)))
        for batch in found:
            assert batch.array.dtype == np.float32 and batch.array.shape[1:] == (3, 9, 5, 1)
            assert batch.array[:, 0, 0, 0, 0].tolist() == batch.index.tolist()
            assert batch.label.tolist() == [i % 3 for i in batch.index]
            assert batch.names == [f"s{i}" for i in batch.index]
        assert [len(b.index) for b in found] == [4, 4, 4, 4, 4, 3]


def test_workers_change_nothing():
    for arguments in ({}, {"shuffle": True, "drop_last": True, "seed": 7, "mix": Mixup(0.5)}):
        assert_equal(batches(0, **arguments), batches(2, **arguments))
    assert_equal(batches(1, epoch=3, shuffle=True), batches(3, epoch=3, shuffle=True))


def test_batch_size_does_not_change_a_sample():
    whole = np.concatenate([b.array for b in batches(0, epoch=2)])
    with BatchLoader(Made(23), Pipeline(RANDOM), 7) as loader:
        np.testing.assert_array_equal(np.concatenate([b.array for b in loader.batches(2)]), whole)


def test_epochs_and_seeds_differ():
    one = batches(0, shuffle=True)
    assert_equal(one, batches(0, shuffle=True))
    for other in (batches(0, epoch=1, shuffle=True), batches(0, seed=1, shuffle=True)):
        assert np.concatenate([b.index for b in one]).tolist() != np.concatenate([b.index for b in other]).tolist()
        assert not np.array_equal(one[0].array, other[0].array)
    assert not np.array_equal(batches(0)[0].array, batches(0, epoch=1)[0].array)


def test_an_epoch_can_be_run_on_its_own():
    with BatchLoader(Made(23), Pipeline(RANDOM), 4, shuffle=True, num_workers=2) as loader:
        third = [list(loader.batches(e)) for e in range(3)][2]
    assert_equal(third, batches(0, epoch=2, shuffle=True))


def test_repetitions_draw_their_own_numbers(tmp_path):
    (tmp_path / "set.pkl").write_bytes(pickle.dumps([{"frame_dir": "a", "label": 0, "keypoint": np.random.default_rng(
        0).random((1, 50, 5, 3))}]))
    dataset = build_dataset({"format": "UCF101SkeletonDataset", "file_path": str(tmp_path / "set.pkl"),
                             "repeat_times": 4}, "w")
    batch, = batches(0, dataset=dataset)
    assert len({array.tobytes() for array in batch.array}) == 4


def test_length_and_drop_last():
    for count, size, drop, expected in ((23, 4, False, 6), (23, 4, True, 5), (8, 4, False, 2), (8, 4, True, 2)):
        loader = BatchLoader(Made(count), Pipeline({}), size, drop_last=drop)
        assert len(loader) == expected == len(list(loader.batches(0)))


def test_no_labels():
    batch = batches(0, dataset=Made(3, labels=False))[0]
    assert batch.label is None and batch.mix is None
    with pytest.raises(DataError, match="Mixup: needs labels"):
        BatchLoader(Made(3, labels=False), Pipeline({}), 2, mix=Mixup(1.0))


def test_mix_blends_the_batch():
    plain, mixed = batches(0, section={}), batches(0, section={}, mix=Mixup(0.5))
    for a, b in zip(plain, mixed, strict=True):
        other, lam = b.mix
        index = b.array[:, 0, 0, 0, 0]  # λ·i + (1 − λ)·j tells the partner j
        partner = np.round((index - lam * a.index) / (1 - lam)).astype(int)
        assert [j % 3 for j in partner] == other.tolist()
        np.testing.assert_array_equal(a.label, b.label)


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"batch_size": True}, {"num_workers": -1}, {"seed": -1},
                                       {"seed": 1.5}])
def test_wrong_arguments(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        BatchLoader(Made(3), Pipeline({}), **{"batch_size": 2, **arguments})


def test_nothing_left():
    with pytest.raises(DataError, match="only 3 samples"):
        BatchLoader(Made(3), Pipeline({}), 4, drop_last=True)


class Broken(Made):
    def __getitem__(self, index):
        annotation = super().__getitem__(index)
        if index == 13:
            annotation.keypoint[0, 2, 1, 1] = np.nan
        return annotation


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_s_error_comes_through_and_the_loader_lives(workers):
    with BatchLoader(Broken(23), Pipeline(RANDOM), 4, num_workers=workers) as loader:
        for _ in range(2):
            found = []
            with pytest.raises(DataError, match=r"^s13: found the coordinate nan at person 0, frame 2, joint 1"):
                for batch in loader.batches(0):
                    found.append(batch)
            assert len(found) == 3


class Uneven(Made):
    def __getitem__(self, index):
        annotation = super().__getitem__(index)
        annotation.keypoint = annotation.keypoint[:, :9 - index]
        return annotation


def test_unequal_shapes_in_a_batch():
    what = r"s1: has shape \(3, 8, 5, 1\), but s0 in its batch \(3, 9, 5, 1\).*AutoPadding"
    with pytest.raises(DataError, match=what):
        batches(0, dataset=Uneven(3), section={})


class Deadly(Made):
    """The first worker that loads sample 9 is killed."""

    def __init__(self, count, folder):
        super().__init__(count)
        self.first = folder / "first"
        self.first.touch()

    def __getitem__(self, index):
        if index == 9 and self.first.exists():
            self.first.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_killed_worker_is_a_clear_error_and_the_loader_lives(tmp_path):
    with BatchLoader(Deadly(23, tmp_path), Pipeline(RANDOM), 4, num_workers=2) as loader:
        with pytest.raises(DataError, match=r"^data loading: a worker process was killed.*num_workers: 0"):
            list(loader.batches(0))
        assert_equal(list(loader.batches(0)), batches(0))


def test_leaving_an_epoch_early_and_going_on():
    with BatchLoader(Made(40), Pipeline(RANDOM), 4, num_workers=2) as loader:
        for epoch in range(3):
            next(loader.batches(epoch))
        assert_equal(list(loader.batches(5)), batches(0, epoch=5, dataset=Made(40)))


def test_memory_does_not_grow():
    with BatchLoader(Made(64), Pipeline(RANDOM), 8, shuffle=True) as here:
        for epoch in range(3):
            sum(b.array.sum() for b in here.batches(epoch))
        tracemalloc.start()
        try:
            sum(b.array.sum() for b in here.batches(3))
            before = tracemalloc.get_traced_memory()[0]
            for epoch in range(4, 12):
                sum(b.array.sum() for b in here.batches(epoch))
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert grown < 30_000  # bytes; one epoch's arrays are 64 × 240


def resident(process):
    """Kilobytes of a process's own memory, without files it has mapped."""
    line, = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_of_workers_does_not_grow():
    dataset = Made(64, frames=400)  # 24 kB a sample, 1.5 MB an epoch
    section = {"transform": [{"UniformSampleFrames": {"clip_len": 400}}, "PoseDecode"]}
    with BatchLoader(dataset, Pipeline(section), 8, num_workers=2) as loader:
        def run(epochs):
            for epoch in epochs:
                for _ in loader.batches(epoch):
                    pass
            return sum(resident(p) for p in ["self", *loader._pool._executor._processes])
        before = run(range(4))
        assert run(range(4, 20)) - before < 8_000  # 16 epochs would be 24 MB twice
