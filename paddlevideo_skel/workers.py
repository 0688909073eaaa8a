"""Apply one function to many items in several processes: results in order, constant memory."""
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from concurrent import futures
from contextlib import contextmanager

from .errors import DataError

QUEUED_PER_WORKER = 2  # items computed in advance
ORPHAN_CHECK_INTERVAL = 2.0  # seconds


def available_cores():
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OrderedPool:
    """Worker processes for one function; a context manager, or ``close`` it.

    The processes start with the first item. They end with ``close``, with this process however it ends, and when one
    of them dies; ``map`` then starts new ones.

    Args:
        function: called with one item of each iterable. Forked workers share its memory; on systems without fork it is
            pickled once per worker. Its results and errors must be picklable.
        num_workers: number of processes; 0: call it in this process.
        what: what the function does, for the error of a worker that died, e.g. ``data loading``.
        hint: what to do in that case.
    """

    def __init__(self, function, num_workers, what, hint):
        self.function, self.num_workers, self.what, self.hint = function, num_workers, what, hint
        self._executor = None

    def map(self, *iterables):
        """Like ``map``: an iterator over the results, in order. At most two items per worker are in flight.

        Raises:
            DataError: a worker died; and whatever ``function`` raises.
        """
        if not self.num_workers:
            yield from map(self.function, *iterables)
            return
        waiting = deque()
        try:
            for items in zip(*iterables):
                waiting.append(self._submit(items))
                if len(waiting) >= QUEUED_PER_WORKER * self.num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except futures.BrokenExecutor as error:
            self.close()
            raise DataError(self.what, "a worker process was killed, or ran out of memory", self.hint) from error
        finally:
            # After an error, or when the caller stops early, the rest is not needed.
            for future in waiting:
                future.cancel()

    def _submit(self, items):
        if self._executor is None:
            method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
            self._executor = futures.ProcessPoolExecutor(
                self.num_workers, multiprocessing.get_context(method), _start_worker, (self.function,))
        with sigterm_blocked():  # a submission may fork workers
            return self._executor.submit(_call, items)

    def close(self):
        """End the workers."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


_function = None  # in a worker: the function of the pool


def _call(items):
    return _function(*items)


def _start_worker(function):
    global _function
    _function = function
    # Ctrl-C, and signals that a launcher sends to its process group, are for the parent, which finishes its step with
    # the workers and then ends them. No worker may outlive the parent, however the parent ends.
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=exit_with_parent, args=(os.getppid(),), daemon=True).start()


def exit_with_parent(parent):
    """End this process as soon as it has lost its parent process; runs in a thread."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_CHECK_INTERVAL)
    os._exit(1)


@contextmanager
def sigterm_blocked():
    """Workers forked in this block ignore SIGTERM until ``_start_worker`` makes it end them.

    An executor ends its workers by SIGTERM when one of them was killed. Paddle, if the parent has imported it, catches
    that signal and allocates memory in its handler. In a newly forked process the allocator may stay locked, and the
    parent would wait forever.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
