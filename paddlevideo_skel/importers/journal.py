"""What an import has read so far, on disk: a run that was interrupted goes on where it stopped."""
import json
import os
import shutil
import zlib
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, OutputError
from ..files import output_folder, parse_json

try:
    import fcntl
except ImportError:  # Windows: there, nothing keeps two imports apart
    fcntl = None

JOURNAL, SAMPLES = "journal.jsonl", "samples.bin"
TYPE = np.dtype("<f4")


@dataclass(frozen=True)
class Source:
    """A file to be read: what it is called, where it is, its size in bytes and its time of change in nanoseconds."""
    name: str
    path: str
    size: int
    mtime: int

    @classmethod
    def of(cls, name, path):
        """The source of a file as it is now.

        Raises:
            DataError: there is no such file, or it may not be looked at.
        """
        try:
            about = os.stat(path)
        except OSError as error:
            raise DataError(path, f"cannot be read ({error.strerror})", "Check the path, and who may read it"
                            ) from error
        return cls(name, str(path), about.st_size, about.st_mtime_ns)


def list_sources(folder, suffix):
    """The ``Source``s of a folder whose names end with ``suffix`` (which is left out of the name), sorted by name."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry, entry.stat()) for entry in entries if entry.name.endswith(suffix) and entry.is_file()]
    except OSError as error:
        raise DataError(folder, f"cannot be read ({error.strerror})", "Name the folder of the unpacked files"
                        ) from error
    sources = [Source(entry.name[:-len(suffix)], entry.path, about.st_size, about.st_mtime_ns)
               for entry, about in found]
    if not sources:
        raise DataError(folder, f"holds no file *{suffix}", "Name the folder in which the unpacked files are")
    return sorted(sources, key=lambda source: source.name)


class Work:
    """The samples read so far, and a journal of what became of each source; a context manager, which removes nothing.

    ``samples.bin`` holds the samples' arrays as float32 one after the other; ``journal.jsonl`` the settings, then a
    line a source: its name, size, time of change and result, and a checksum. A result is a dict: ``shape`` and other
    facts of a sample, or ``skipped``, the reason. A line is written when its sample is on the disk, so that all that
    the journal tells is true, whenever the run was ended. What was read with other settings, or from files that have
    changed since, is read again.

    Args:
        folder: where; made if missing.
        settings: JSON-like; what the samples depend on.
        sources: all the ``Source``s, in order.
        prefix: bytes to keep free at the beginning of ``samples.bin``, for a header.

    Attributes:
        results: of the sources that were read, from the first on.

    Raises:
        OutputError: the folder cannot be written, or another run is writing in it.
    """

    def __init__(self, folder, settings, sources, prefix=0):
        self.folder, self.sources, self.prefix, self.results = output_folder(folder), sources, prefix, []
        try:
            self._journal = open(self.folder / JOURNAL, "a+b")  # noqa: SIM115
            self._lock()
            self._samples = open(self.folder / SAMPLES, "a+b")  # noqa: SIM115
        except OSError as error:
            raise self._unwritable(error) from error
        self._begin(json.dumps(settings).encode() + b"\n")

    def _lock(self):
        if fcntl is None:
            return
        try:
            # Not flock: the workers of a run that was killed would hold it for a while.
            fcntl.lockf(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            self._journal.close()
            raise OutputError(self.folder, "another import is writing here", "Wait for it, or choose another output"
                              ) from error

    def _begin(self, settings):
        """Keep what was done with these settings and sources, and cut off the rest."""
        self._journal.seek(0)
        kept, size = len(settings), self.prefix
        if self._journal.readline() == settings:
            have = self._samples.seek(0, os.SEEK_END)
            for source in self.sources:
                line = self._journal.readline()
                result = _result(line, source)
                if result is None or size + nbytes(result) > have:
                    break
                self.results.append(result)
                kept, size = kept + len(line), size + nbytes(result)
        try:
            self._journal.truncate(kept if self.results else 0)
            if not self.results:
                self._journal.write(settings)
                self._journal.flush()
            self._samples.truncate(size)
        except OSError as error:
            raise self._unwritable(error) from error

    def append(self, results, arrays):
        """Note the results of the next sources, with the array of each sample (None where one was skipped)."""
        done = len(self.results)
        lines = [_with_checksum(json.dumps([source.name, source.size, source.mtime, result]).encode())
                 for source, result in zip(self.sources[done:], results)]
        try:
            for array in arrays:
                if array is not None:
                    self._samples.write(np.ascontiguousarray(array, TYPE))
            for file, text in ((self._samples, b""), (self._journal, b"".join(lines))):
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error
        self.results += results

    def outcome(self):
        """``(name, result)`` of the samples, and ``(file's name, reason)`` of the skipped."""
        both = list(zip(self.sources, self.results))
        return ([(source.name, result) for source, result in both if "shape" in result],
                [(os.path.basename(source.path), result["skipped"]) for source, result in both
                 if "skipped" in result])

    def samples(self, wanted=None):
        """``(source, result, array)`` of the samples in order; the arrays are read one at a time.

        Args:
            wanted: a function of the source's name; None: all.
        """
        with open(self.folder / SAMPLES, "rb") as file:
            file.seek(self.prefix)
            for source, result in zip(self.sources, self.results):
                if "shape" not in result:
                    continue
                if wanted is not None and not wanted(source.name):
                    file.seek(nbytes(result), os.SEEK_CUR)
                    continue
                array = np.fromfile(file, TYPE, int(np.prod(result["shape"])))
                yield source, result, array.reshape(result["shape"])

    def become(self, path, header):
        """Make ``samples.bin`` the file ``path``, with ``header`` in the place kept for it."""
        self._samples.close()
        try:
            with open(self.folder / SAMPLES, "r+b") as file:
                file.write(header)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.folder / SAMPLES, path)
        except OSError as error:
            raise OutputError(path, f"cannot be written ({error.strerror or error})") from error

    def remove(self):
        """Remove the folder: the outputs are written."""
        self.__exit__()
        shutil.rmtree(self.folder)

    def _unwritable(self, error):
        return OutputError(self.folder, f"cannot be written ({error.strerror or error})",
                           "Make room or choose another output; what was read is kept: the same command goes on")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for file in (self._samples, self._journal):
            with suppress(OSError):  # what could not be written was told by append
                file.close()


def nbytes(result):
    """Bytes of a result's sample in ``samples.bin``."""
    return TYPE.itemsize * int(np.prod(result["shape"])) if "shape" in result else 0


def _result(line, source):
    """The result in a line of the journal; None if it tells of another file, was cut short, or is damaged."""
    content, _, _ = line.rpartition(b"\t")
    if line != _with_checksum(content):
        return None
    try:
        name, size, mtime, result = parse_json(content)
    except (ValueError, TypeError):
        return None
    return result if [name, size, mtime] == [source.name, source.size, source.mtime] else None


def _with_checksum(content):
    """A line of the journal. A wrong shape in it would shift all samples that follow, and nothing else would tell."""
    return b"%s\t%08x\n" % (content, zlib.crc32(content))


