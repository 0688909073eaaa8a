"""Batches of a data set. Order and random numbers depend on (seed, epoch, sample) alone, not on the workers."""
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, DataError

ORDER, SAMPLE, MIX = 0, 1, 2  # what random numbers are for; keeps their streams apart
AHEAD = 2  # batches a worker that are made before they are asked for
ORPHAN_CHECK = 2.0  # seconds


@dataclass
class Batch:
    """One batch.

    Attributes:
        array: the network's input ``(B, …)`` float32.
        label: ``(B,)`` int64, or None.
        index: the samples' numbers in the data set, ``(B,)`` int64.
        names: the samples' names, B texts.
        mix: None, or what a batch transform tells: for ``Mixup`` (labels of the other part, λ).
        number: of the batch in its epoch; the same in all processes for the parts of one training batch.
    """
    array: np.ndarray
    label: np.ndarray
    index: np.ndarray
    names: list
    mix: tuple = None
    number: int = 0


def random_numbers(seed, epoch, *purpose):
    """The NumPy generator for a purpose in an epoch."""
    return np.random.default_rng((seed, epoch, *purpose))


def load_arrays(dataset, pipeline, seed, epoch, index):
    """The arrays of the samples ``index``, stacked ``(B, …)``."""
    arrays, names = [], dataset.names
    for i in index:
        array = pipeline(dataset[i], random_numbers(seed, epoch, SAMPLE, i))
        if arrays and array.shape != arrays[0].shape:
            raise DataError(names[i], f"becomes {array.shape}, {names[index[0]]} in the same batch {arrays[0].shape}",
                            "Make them equal: UniformSampleFrames or AutoPadding for the frames, FormatPersons or "
                            "FormatGCNInput for the persons")
        arrays.append(array)
    return np.stack(arrays)


_work = ()  # in a worker: data set, pipeline, seed


def _start_worker(*work):
    global _work
    _work = work
    prepare_worker()


def prepare_worker():
    """What a worker process does first: its parent's signals are not its own."""
    # Ctrl-C, and what a launcher sends to its group, is for the parent, which ends its step with its workers and then
    # ends them; and none may outlive it, however it ended.
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()


def end_with(parent):
    """End this process as soon as it has lost its parent; for a thread."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_CHECK)
    os._exit(1)


@contextmanager
def without_sigterm():
    """Workers forked meanwhile hold back SIGTERM until ``prepare_worker`` has made it deadly.

    A pool ends its workers by SIGTERM when one of them was killed. Paddle, if the parent has imported it, catches that
    signal and allocates memory in its handler; in a process that was forked this moment the allocator may be locked
    for ever, and the parent would wait for it as long.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker_batch(epoch, index):
    return load_arrays(*_work, epoch, index)


class BatchLoader:
    """Batches of ``dataset`` through ``pipeline``; a context manager, or ``close`` it.

    Args:
        dataset: see ``datasets``.
        pipeline: see ``Pipeline``.
        batch_size: samples a batch.
        shuffle: a new order every epoch.
        drop_last: leave out a last batch that is short.
        num_workers: processes that run the pipeline; 0: this one.
        seed: whole number from 0.
        mix: batch transform (see ``mixup``), or None. Needs labels.
        share: (rank, W): this is one of W processes that go through the data set together, and ``batch_size`` is for
            each. With ``shuffle``, for training, every batch is a batch of W · ``batch_size`` in one process, parted:
            all have the same number of batches, of equal sizes; a last short batch is cut to a multiple of W. Without,
            for testing, a process has every W-th batch, whole: none is left out and none comes twice.
    """

    def __init__(self, dataset, pipeline, batch_size, shuffle=False, drop_last=False, num_workers=0, seed=0, mix=None,
                 share=(0, 1)):
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(name, f"is {value!r}, expected a whole number from {least}")
        if mix is not None and dataset.labels is None:
            raise DataError(type(mix).__name__, "needs labels, the data set has none")
        rank, world = share
        if not 0 <= rank < world:
            raise ConfigError("share", f"is {share!r}, expected (rank, W) with 0 <= rank < W")
        if drop_last and len(dataset) < batch_size * world:
            each = "" if world == 1 else f" in each of {world} processes"
            raise DataError("batch_size", f"is {batch_size}{each}, but there are only {len(dataset)} samples, and a "
                            "short batch is dropped: nothing would be left", "Set a smaller batch_size")
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
        """Batches an epoch of all processes; the parts of one training batch count once."""
        full, rest = divmod(len(self.dataset), self.batch_size * self._parts)
        return full + (not self.drop_last and rest >= self._parts)

    def __len__(self):
        """Batches an epoch of this process."""
        return len(self._numbers())

    def _numbers(self):
        rank, world = self.share
        return range(self.total) if self._parts > 1 else range(rank, self.total, world)

    def _part(self, order, number):
        """This process's samples of batch ``number``."""
        whole = order[number * self.batch_size * self._parts:(number + 1) * self.batch_size * self._parts]
        size = len(whole) // self._parts
        start = self.share[0] * size if self._parts > 1 else 0
        return whole[start:start + size]

    def batches(self, epoch, first=0):
        """Iterate over the ``Batch``es of an epoch, without those before ``first``; these are not loaded.

        Raises:
            DataError: of a sample, the same with and without workers; or a worker was killed.
        """
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = random_numbers(self.seed, epoch, ORDER).permutation(order)
        numbers = self._numbers()[first:]
        parts = [self._part(order, number) for number in numbers]
        arrays = self._arrays_here(epoch, parts) if not self.num_workers else self._arrays_of_workers(epoch, parts)
        # Each process mixes with random numbers of its own; the first with those of a process alone.
        rank = self.share[:1] if self.share[0] else ()
        for number, index, array in zip(numbers, parts, arrays, strict=True):
            label = None if self.dataset.labels is None else self.dataset.labels[index]
            mix = None
            if self.mix is not None:
                array, mix = self.mix(array, label, random_numbers(self.seed, epoch, MIX, number, *rank))
            yield Batch(array, label, index, [self.dataset.names[i] for i in index], mix, number)

    def _arrays_here(self, epoch, parts):
        for index in parts:
            yield load_arrays(self.dataset, self.pipeline, self.seed, epoch, index.tolist())

    def _arrays_of_workers(self, epoch, parts):
        waiting, left = deque(), iter(parts)
        try:
            for index in left:
                waiting.append(self._submit(epoch, index))
                if len(waiting) >= AHEAD * self.num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except futures.BrokenExecutor as error:
            self.close()
            raise DataError("data loading", "a worker process was ended from outside, or ran out of memory",
                            "Set num_workers: 0 to load without workers, or a smaller batch_size") from error
        finally:
            # Left early (an error, a limit on batches): what nobody will ask for is not made.
            for future in waiting:
                future.cancel()

    def _submit(self, epoch, index):
        if self._pool is None:
            # Forked workers share the data set's memory; elsewhere it is sent to them once.
            method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
            work = self.dataset, self.pipeline, self.seed
            self._pool = futures.ProcessPoolExecutor(self.num_workers, multiprocessing.get_context(method),
                                                     _start_worker, work)
            with without_sigterm():  # all workers are forked at the first submission
                return self._pool.submit(_worker_batch, epoch, index.tolist())
        return self._pool.submit(_worker_batch, epoch, index.tolist())

    def close(self):
        """End the workers. The loader can be used again afterwards."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
