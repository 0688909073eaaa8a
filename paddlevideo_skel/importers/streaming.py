"""Many files through one function, in order, in several processes, with memory that does not grow with their number."""
import logging
import multiprocessing
import os
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial

from tqdm import tqdm

from ..data.loader import AHEAD, prepare_worker, without_sigterm
from ..errors import DataError

logger = logging.getLogger(__name__)

CHUNK = 32  # files that a worker reads at a time, and that are lost at most when it is interrupted
MAX_WORKERS = 8  # by default
WITHOUT_STRICT = "Get the file again, or import without --strict: then such files are skipped and listed"


def default_workers():
    """One process a core, within reason."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


def in_order(function, items, workers):
    """``function`` of each item, in the order of the items; at most a few items a worker are under way.

    Args:
        function: can be pickled, as its answers can.
        workers: processes; 0: this one.

    Raises:
        DataError: a worker was killed; and whatever ``function`` raises.
    """
    if not workers:
        yield from map(function, items)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), prepare_worker)
    waiting = deque()
    try:
        for item in items:
            with without_sigterm():  # all workers are forked at the first submission
                waiting.append(pool.submit(function, item))
            if len(waiting) >= AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError("reading", "a worker process was ended from outside, or ran out of memory",
                        "The same command goes on where it stopped; --workers 0 needs the least memory") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def read_all(work, read, workers, strict, unit, hint=WITHOUT_STRICT):
    """Read the sources of a ``Work`` that were not read before.

    Args:
        read: of a ``Source``: ``(array, facts)``, where ``facts`` is a dict for its result; or a ``DataError``, whose
            problem begins with its kind and a colon.
        strict: the first file that cannot be read ends the run; otherwise it is skipped.
        hint: what that error says to do; None: what ``read``'s own error says.

    Raises:
        DataError: with ``strict``.
    """
    done = len(work.results)
    if done:
        logger.info("%d of %d %ss were read before; going on", done, len(work.sources), unit)
    if strict:
        for source, result in zip(work.sources, work.results):
            if "skipped" in result:
                raise DataError(source.path, result["skipped"], hint or "")
    chunks = [work.sources[i:i + CHUNK] for i in range(done, len(work.sources), CHUNK)]
    progress = tqdm(total=len(work.sources), initial=done, desc="reading", unit=unit, leave=False, disable=None)
    with progress, closing(in_order(partial(_read_chunk, read), chunks, workers)) as answered:
        for chunk, answers in zip(chunks, answered):
            bad = [i for i, (result, _) in enumerate(answers) if strict and isinstance(result, DataError)]
            good = answers[:bad[0]] if bad else answers
            work.append([{"skipped": result.problem} if isinstance(result, DataError) else result
                         for result, _ in good], [array for _, array in good])
            if bad:
                error = answers[bad[0]][0]
                raise error if hint is None else DataError(chunk[bad[0]].path, error.problem, hint)
            progress.update(len(chunk))


def _read_chunk(read, sources):
    """``(result, array)`` of each source; ``(error, None)`` where it cannot be used."""
    answers = []
    for source in sources:
        try:
            array, facts = read(source)
            answers.append(({"shape": list(array.shape), **facts}, array))
        except DataError as error:
            answers.append((error, None))
    return answers
