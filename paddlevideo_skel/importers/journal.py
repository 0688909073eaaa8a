"""The progress of an import on disk: an interrupted import resumes where it stopped."""
import json
import logging
import os
import shutil
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from ..errors import DataError, OutputError
from ..files import output_folder, parse_json
from ..manifest import Manifest, lock
from ..workers import OrderedPool, available_cores

logger = logging.getLogger(__name__)

MANIFEST_FILE, JOURNAL_FILE, SAMPLES_FILE = "manifest.json", "journal.jsonl", "samples.bin"
SAMPLE_DTYPE = np.dtype("<f4")
FILES_PER_STEP = 32  # files that a worker reads at a time; at most this many are lost on an interruption
MAX_DEFAULT_WORKERS = 8
GET_AGAIN = "Get the file from the data set again"
WITHOUT_STRICT = "Get the file again, or import without --strict: then such files are skipped and listed"


@dataclass(frozen=True)
class Source:
    """A file to read: its name, path, size in bytes, and modification time in nanoseconds."""
    name: str
    path: str
    size: int
    mtime: int

    @classmethod
    def of(cls, name, path):
        """The source of a file.

        Raises:
            DataError: the file is missing, or its folder is not readable.
        """
        try:
            about = os.stat(path)
        except OSError as error:
            raise DataError(path, f"cannot be read ({error.strerror})", "Check the path and its permissions"
                            ) from error
        return cls(name, str(path), about.st_size, about.st_mtime_ns)


def list_sources(folder, suffix):
    """The ``Source``s of a folder's files with this suffix, sorted by name; names are without the suffix."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry, entry.stat()) for entry in entries if entry.name.endswith(suffix) and entry.is_file()]
    except OSError as error:
        raise DataError(folder, f"cannot be read ({error.strerror})", "Pass the folder of the unpacked files"
                        ) from error
    sources = [Source(entry.name[:-len(suffix)], entry.path, about.st_size, about.st_mtime_ns)
               for entry, about in found]
    if not sources:
        raise DataError(folder, f"has no file *{suffix}", "Pass the folder of the unpacked files")
    return sorted(sources, key=lambda source: source.name)


class Journal:
    """A folder with the samples read so far, and one result per source; a context manager, which removes nothing on
    exit.

    ``samples.bin`` holds the samples' arrays as float32, one after the other. ``journal.jsonl`` holds one line per
    source: its name, size, modification time and result, and a checksum. A result is a dict: ``shape`` and other facts
    of a sample, or ``skipped``, the reason. A line is written after its sample, so the journal is valid whenever the
    import is interrupted. Sources that were read with other settings (see ``manifest``), or that have changed since,
    are read again.

    Args:
        folder: created if missing.
        settings: JSON-like; everything that the samples depend on.
        sources: all the ``Source``s, in order.
        header_size: bytes reserved at the beginning of ``samples.bin``.

    Attributes:
        results: of the sources that were read, in the order of ``sources``.

    Raises:
        OutputError: the folder cannot be written, or another import is writing to it.
    """

    def __init__(self, folder, settings, sources, header_size=0):
        self.folder, self.sources, self.results = output_folder(folder), sources, []
        self.header_size = header_size
        self._lock = lock(self.folder, "import", "Wait for it to end, or choose another output")
        try:
            self._journal = open(self.folder / JOURNAL_FILE, "a+b")  # noqa: SIM115
            self._samples = open(self.folder / SAMPLES_FILE, "a+b")  # noqa: SIM115
            self._resume(settings)
        except OSError as error:
            self._lock.release()
            raise self._unwritable(error) from error
        except OutputError:
            self._lock.release()
            raise

    def _resume(self, settings):
        """Keep what was read with these settings from these sources, and remove the rest."""
        manifest = Manifest(self.folder / MANIFEST_FILE)
        try:
            resumed = manifest.check(settings)
        except DataError as error:
            logger.info("Starting over: %s", error.problem)
            resumed = False
        self._journal.seek(0)
        kept, size = 0, self.header_size
        if resumed:
            have = self._samples.seek(0, os.SEEK_END)
            for source in self.sources:
                line = self._journal.readline()
                result = _result(line, source)
                if result is None or size + nbytes(result) > have:
                    break
                self.results.append(result)
                kept, size = kept + len(line), size + nbytes(result)
        self._journal.truncate(kept)
        self._samples.truncate(size)
        if not resumed:
            # After the truncation, so that the manifest never describes results of other settings.
            manifest.start(settings)

    def append(self, results, arrays):
        """Record the results of the next sources, and the array of each sample (None where it was skipped)."""
        done = len(self.results)
        lines = [_with_checksum(json.dumps([source.name, source.size, source.mtime, result]).encode())
                 for source, result in zip(self.sources[done:], results)]
        try:
            for array in arrays:
                if array is not None:
                    self._samples.write(np.ascontiguousarray(array, SAMPLE_DTYPE))
            for file, text in ((self._samples, b""), (self._journal, b"".join(lines))):
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error
        self.results += results

    def outcome(self):
        """Lists of ``(name, result)`` of the samples, and of ``(file name, reason)`` of the skipped files."""
        both = list(zip(self.sources, self.results))
        return ([(source.name, result) for source, result in both if "shape" in result],
                [(os.path.basename(source.path), result["skipped"]) for source, result in both
                 if "skipped" in result])

    def samples(self, wanted=None):
        """Iterate over ``(source, result, array)`` of the samples, in order; arrays are read one at a time.

        Args:
            wanted: a function of the source's name that selects samples; None: all.
        """
        with open(self.folder / SAMPLES_FILE, "rb") as file:
            file.seek(self.header_size)
            for source, result in zip(self.sources, self.results):
                if "shape" not in result:
                    continue
                if wanted is not None and not wanted(source.name):
                    file.seek(nbytes(result), os.SEEK_CUR)
                    continue
                array = np.fromfile(file, SAMPLE_DTYPE, int(np.prod(result["shape"])))
                yield source, result, array.reshape(result["shape"])

    def move_samples(self, path, header):
        """Move ``samples.bin`` to ``path``, with ``header`` in the bytes reserved for it."""
        self._samples.close()
        try:
            with open(self.folder / SAMPLES_FILE, "r+b") as file:
                file.write(header)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.folder / SAMPLES_FILE, path)
        except OSError as error:
            raise OutputError(path, f"cannot be written ({error.strerror or error})") from error

    def remove(self):
        """Remove the folder, once the outputs are written."""
        self.__exit__()
        shutil.rmtree(self.folder)

    def _unwritable(self, error):
        return OutputError(self.folder, f"cannot be written ({error.strerror or error})",
                           "Free some disk space, or choose another output. The same command resumes the import")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for file in (self._samples, self._journal):
            with suppress(OSError):  # append has already reported write errors
                file.close()
        self._lock.release()


def nbytes(result):
    """Size of a result's sample in ``samples.bin``, bytes."""
    return SAMPLE_DTYPE.itemsize * int(np.prod(result["shape"])) if "shape" in result else 0


def _result(line, source):
    """The result in a line of the journal; None if the line belongs to another file, is incomplete or damaged."""
    content, _, _ = line.rpartition(b"\t")
    if line != _with_checksum(content):
        return None
    try:
        name, size, mtime, result = parse_json(content)
    except (ValueError, TypeError):
        return None
    return result if [name, size, mtime] == [source.name, source.size, source.mtime] else None


def _with_checksum(content):
    """A line of the journal. Without the checksum, a damaged shape would shift all samples after it unnoticed."""
    return b"%s\t%08x\n" % (content, zlib.crc32(content))


def default_workers():
    """One worker process per core, at most ``MAX_DEFAULT_WORKERS``."""
    return min(available_cores(), MAX_DEFAULT_WORKERS)


def read_all(journal, read, workers, strict, unit, hint=WITHOUT_STRICT):
    """Read the sources of a ``Journal`` that were not read before.

    Args:
        read: a function of a ``Source`` that returns ``(array, facts)``, where ``facts`` is a dict for its result, or
            raises a ``DataError``, whose problem begins with its kind and a colon.
        workers: number of processes; 0: this one.
        strict: stop at the first file that cannot be read; otherwise skip such files.
        unit: name of a source in the log.
        hint: of the error of ``strict``; None: the hint of ``read``'s own error.

    Raises:
        DataError: with ``strict``.
    """
    done = len(journal.results)
    if done:
        logger.info("Resuming: %d of %d %ss were read before", done, len(journal.sources), unit)
    if strict:
        for source, result in zip(journal.sources, journal.results):
            if "skipped" in result:
                raise DataError(source.path, result["skipped"], hint or "")
    steps = [journal.sources[i:i + FILES_PER_STEP] for i in range(done, len(journal.sources), FILES_PER_STEP)]
    pool = OrderedPool(partial(_read_step, read), workers, "reading",
                       "The same command resumes the import; --workers 0 needs the least memory")
    with pool, tqdm(total=len(journal.sources), initial=done, desc="reading", unit=unit, leave=False,
                    disable=None) as progress:
        for sources, answers in zip(steps, pool.map(steps)):
            bad = [i for i, (result, _) in enumerate(answers) if strict and isinstance(result, DataError)]
            good = answers[:bad[0]] if bad else answers
            journal.append([{"skipped": result.problem} if isinstance(result, DataError) else result
                            for result, _ in good], [array for _, array in good])
            if bad:
                error = answers[bad[0]][0]
                raise error if hint is None else DataError(sources[bad[0]].path, error.problem, hint)
            progress.update(len(sources))


def _read_step(read, sources):
    """``(result, array)`` of each source; ``(error, None)`` where it cannot be used."""
    answers = []
    for source in sources:
        try:
            array, facts = read(source)
            answers.append(({"shape": list(array.shape), **facts}, array))
        except DataError as error:
            answers.append((error, None))
    return answers
