"""Batches of a data set. Order and random numbers depend on (seed, epoch, sample) alone, not on the workers."""
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import numpy as np

from ..config_schema import DEFAULT_SEED
from ..errors import ConfigError, DataError
from ..workers import OrderedPool

SHUFFLE, SAMPLE, MIX = 0, 1, 2  # each purpose has its own stream of random numbers
DEAD_WORKER_HINT = "Set num_workers: 0 to load without workers, or a smaller batch_size"


@dataclass
class Batch:
    """One batch.

    Attributes:
        array: the model's input ``(B, …)`` float32.
        label: ``(B,)`` int64, or None.
        index: the samples' numbers in the data set, ``(B,)`` int64.
        names: the samples' names, B strings.
        mix: None, or what a batch transform returns; for ``Mixup`` (labels of the partners, λ).
        number: the batch's number in its epoch; all processes' parts of a training batch have the same.
    """
    array: np.ndarray
    label: np.ndarray
    index: np.ndarray
    names: list
    mix: tuple = None
    number: int = 0


def random_numbers(seed, epoch, *purpose):
    """The NumPy ``Generator`` for a purpose in an epoch."""
    return np.random.default_rng((seed, epoch, *purpose))


def sample_numbers(number, seed=DEFAULT_SEED, epoch=0):
    """The NumPy generator of a sample for the pipeline: the same in testing, prediction, bins and streams."""
    return random_numbers(seed, epoch, SAMPLE, number)


def load_arrays(dataset, pipeline, seed, epoch, index):
    """The arrays of the samples ``index``, stacked ``(B, …)``."""
    arrays, names = [], dataset.names
    for i in index:
        array = pipeline(dataset[i], sample_numbers(i, seed, epoch))
        if arrays and array.shape != arrays[0].shape:
            raise DataError(names[i], f"has shape {array.shape}, but {names[index[0]]} in its batch {arrays[0].shape}",
                            "Add UniformSampleFrames or AutoPadding to equalise frames, FormatPersons or "
                            "FormatGCNInput to equalise persons")
        arrays.append(array)
    return np.stack(arrays)


class BatchLoader:
    """Batches of ``dataset`` through ``pipeline``; a context manager, or ``close`` it.

    Args:
        dataset: see ``datasets``.
        pipeline: see ``Pipeline``.
        batch_size: samples per batch.
        shuffle: use a new order in every epoch.
        drop_last: omit a short last batch.
        num_workers: number of processes that run the pipeline; 0: this one.
        seed: integer from 0.
        mix: batch transform (see ``mixup``), or None. Needs labels.
        share: (rank, W): this is one of W processes that share the data set, and ``batch_size`` is per process. With
            ``shuffle``, for training, a batch of W · ``batch_size`` is divided among the processes: all have the same
            number of batches of equal sizes, and a short last batch is cut to a multiple of W. Without it, for testing,
            a process has every W-th batch: no sample is omitted or repeated.
    """

    def __init__(self, dataset, pipeline, batch_size, shuffle=False, drop_last=False, num_workers=0,
                 seed=DEFAULT_SEED, mix=None, share=(0, 1)):
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(name, f"is {value!r}, expected an integer >= {least}")
        if mix is not None and dataset.labels is None:
            raise DataError(type(mix).__name__, "needs labels, but the data set has none")
        rank, world = share
        if not 0 <= rank < world:
            raise ConfigError("share", f"is {share!r}, expected (rank, W) with 0 <= rank < W")
        if drop_last and len(dataset) < batch_size * world:
            each = "" if world == 1 else f" in each of {world} processes"
            raise DataError("batch_size", f"is {batch_size}{each}, but there are only {len(dataset)} samples: the "
                            "only batch is incomplete and would be dropped", "Set a smaller batch_size")
        if shuffle and len(dataset) < world:
            raise DataError("training data", f"has only {len(dataset)} samples for {world} processes",
                            "Start fewer processes")
        self.dataset, self.pipeline, self.batch_size = dataset, pipeline, batch_size
        self.shuffle, self.drop_last, self.num_workers = shuffle, drop_last, num_workers
        self.seed, self.mix, self.share = seed, mix, share
        self._parts = world if shuffle else 1
        self._pool = None

    @property
    def total(self):
        """Number of batches per epoch of all processes; the parts of a training batch count once."""
        full, rest = divmod(len(self.dataset), self.batch_size * self._parts)
        return full + (not self.drop_last and rest >= self._parts)

    def __len__(self):
        """Number of batches per epoch of this process."""
        return len(self._numbers())

    def _numbers(self):
        rank, world = self.share
        return range(self.total) if self._parts > 1 else range(rank, self.total, world)

    def _part(self, order, number):
        """This process's samples in batch ``number``."""
        whole = order[number * self.batch_size * self._parts:(number + 1) * self.batch_size * self._parts]
        size = len(whole) // self._parts
        start = self.share[0] * size if self._parts > 1 else 0
        return whole[start:start + size]

    def batches(self, epoch, first=0):
        """Iterate over the ``Batch``es of an epoch from number ``first`` on; earlier ones are not loaded.

        Raises:
            DataError: a sample is unusable; the error is the same with and without workers. Or a worker was killed.
        """
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = random_numbers(self.seed, epoch, SHUFFLE).permutation(order)
        numbers = self._numbers()[first:]
        parts = [self._part(order, number) for number in numbers]
        arrays = self._arrays(epoch, parts)
        # Each process mixes with its own random numbers; the first one with those of a single process.
        rank = self.share[:1] if self.share[0] else ()
        for number, index, array in zip(numbers, parts, arrays, strict=True):
            label = None if self.dataset.labels is None else self.dataset.labels[index]
            mix = None
            if self.mix is not None:
                array, mix = self.mix(array, label, random_numbers(self.seed, epoch, MIX, number, *rank))
            yield Batch(array, label, index, [self.dataset.names[i] for i in index], mix, number)

    def _arrays(self, epoch, parts):
        if self._pool is None:
            function = partial(load_arrays, self.dataset, self.pipeline, self.seed)
            self._pool = OrderedPool(function, self.num_workers, "data loading", DEAD_WORKER_HINT)
        return self._pool.map(repeat(epoch), (index.tolist() for index in parts))

    def close(self):
        """End the workers. The loader can be used again afterwards."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
