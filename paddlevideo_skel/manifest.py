"""Start or resume an output folder, or report what differs. All resumable folders use this module.

A folder that fills over hours (bins, results, an import, a run) should be resumable after an interruption, but never
with different settings. A JSON file in it, the manifest, records everything that its content depends on, the
fingerprint::

    manifest = Manifest(folder / "begun.json", produced="*_0.bin")
    manifest.start_or_resume({"model": digest_files(model), "data": digest_dataset(dataset)})

    with lock(folder):  # one process at a time
        ...

``differences`` compares fingerprints that are kept elsewhere, for example in the state of a training run.
"""
import contextlib
import datetime
import hashlib
import json
import logging
import os
import platform
import time
from pathlib import Path

import numpy as np
from filelock import lock_descriptor

from .errors import DataError, OutputError, shorten_list
from .files import WRITE_HINT, output_folder, parse_json, replacing

logger = logging.getLogger(__name__)

DIGEST_DIGITS = 16  # hexadecimal digits of a digest; 64 bits are enough to detect mix-ups
BLOCK = 1 << 20  # bytes read at once
PROBED_SAMPLES = 16
MAX_DIFFERENCES, MAX_VALUE_LENGTH = 6, 60
LOCK = ".run.lock"
PATIENCE, PAUSE = 1.0, 0.02  # seconds
_held = {}  # resolved folder → the ``FolderLock`` that this process holds


def digest(*parts):
    """Digest of strings, bytes and arrays, 16 hexadecimal digits of SHA-256; an array counts with its shape and
    type.
    """
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"{part.shape} {part.dtype}".encode())
            part = np.ascontiguousarray(part).tobytes()
        sha.update(part.encode() if isinstance(part, str) else part)
    return sha.hexdigest()[:DIGEST_DIGITS]


def digest_files(*paths):
    """Digest of the content of files, read in blocks."""
    sha = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                sha.update(block)
    return sha.hexdigest()[:DIGEST_DIGITS]


def digest_dataset(dataset):
    """Digest of a data set's names and labels, and of the skeletons of 16 samples spread over it.

    It does not depend on where the files are. Reading all skeletons of NTU RGB+D would take minutes.
    """
    labels = None if dataset.labels is None else dataset.labels.tolist()
    probed = np.unique(np.linspace(0, len(dataset) - 1, PROBED_SAMPLES).astype(int))
    annotations = (dataset[int(i)] for i in probed)
    arrays = (array for annotation in annotations for array in (annotation.keypoint, annotation.keypoint_score))
    return digest(json.dumps([dataset.names, labels]), *(array for array in arrays if array is not None))


def differences(old, new, form="was {}, is {}", path=""):
    """Lines ``key.path was 1, is 2`` for everything in which two JSON-like values differ.

    Lists of equal length are compared item by item. A missing key counts as null.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(key, old.get(key), new.get(key)) for key in dict.fromkeys((*old, *new))]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(key, *both) for key, both in enumerate(zip(old, new))]
    else:
        return [] if old == new else [f"{path or 'the content'} {form.format(_shorten(old), _shorten(new))}"]
    return [line for key, *both in pairs for line in differences(*both, form, f"{path}.{key}" if path else str(key))]


def summarize(lines):
    """The first lines of ``differences`` in one, and how many more there are."""
    return shorten_list(lines, MAX_DIFFERENCES, "; ")


def _shorten(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH - 1]}…"


def to_json_like(value):
    """A copy as JSON would return it: lists for tuples, strings for keys and for types that JSON does not have."""
    return json.loads(json.dumps(value, default=str))


class Manifest:
    """The JSON file that records what a folder contains.

    Args:
        path: the file, in the folder that it describes.
        produced: pattern, relative to the folder, of the files that fill it. Where there are such files but no
            manifest, they were not written by this tool. None: not looked at.
        compared: ``compared(content)`` selects the part of the content that must be equal; None: all of it.
        read: ``read()`` replaces the plain JSON reader, if entries must be checked.
    """

    def __init__(self, path, produced=None, compared=None, read=None):
        self.path, self.produced = Path(path), produced
        self._compared, self._read = compared or (lambda content: content), read or self._read_json
        self.folder = self.path.parent

    def start_or_resume(self, content):
        """Write the manifest, or check that the folder was started with the same content; returns whether it was.

        Raises:
            DataError: the folder was started with another content, or by something else; the manifest is damaged.
            OutputError: the manifest cannot be written.
        """
        resumed = self.check(content)
        if not resumed:
            self.start(content)
        return resumed

    def check(self, content):
        """Whether the folder was started with this content; false if it was not started.

        Raises:
            DataError: as ``start_or_resume``.
        """
        # In this order, because another process may be starting the folder, and writes the manifest before other files.
        filled = self.produced is not None and any(self.folder.glob(self.produced))
        if not self.path.is_file():
            if filled:
                raise DataError(self.folder, f"contains {self.produced} but no {self.path.name}: they were not "
                                "written by this tool",
                                "Choose another folder")
            return False
        lines = differences(self._compared(self._read()), self._compared(to_json_like(content)))
        if lines:
            raise DataError(self.path, f"the folder was started with different settings: {summarize(lines)}",
                            "Choose another folder, or remove this one")
        return True

    def start(self, content):
        """Write the manifest, an entry per line."""
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
                           for key, value in to_json_like(content).items())
        with replacing(self.path) as temporary:
            # File names may be invalid Unicode; invalid parts become JSON escapes.
            temporary.write_bytes(f"{{\n{lines}\n}}\n".encode(errors="backslashreplace"))

    def _read_json(self):
        try:
            content = parse_json(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(self.path, f"is damaged ({type(error).__name__}: {error})",
                            "Choose another folder, or remove this one") from error
        if not isinstance(content, dict):
            raise DataError(self.path, f"is damaged: expected a JSON object, got {_shorten(content)}",
                            "Choose another folder, or remove this one")
        return content


def lock(folder, kind="run", hint="Wait until it ends or stop it, or choose another output_dir"):
    """Lock a folder against other processes; the folder is created if missing. Returns the ``FolderLock`` to release.

    The lock ends with this process, even if it is killed and its forked workers live on.

    Args:
        folder: the folder. kind: of work, for the message. hint: what to do while another process holds the lock.

    Raises:
        OutputError: another process, or this one, holds the lock; or the folder cannot be written.
    """
    folder = output_folder(folder)
    taken = f"another {kind} is writing there"
    if folder.resolve() in _held:
        raise OutputError(folder, f"{taken} (in this process)", hint)
    mine = _held[folder.resolve()] = FolderLock(folder)
    try:
        if not mine.acquire():
            raise OutputError(folder, f"{taken} ({describe_holder(mine.path)})", hint)
    except BaseException:
        del _held[folder.resolve()]
        raise
    return mine


class FolderLock:
    """A lock file in a folder, which names the process that holds it; made by ``lock``. A context manager."""

    def __init__(self, folder):
        self.path, self._key, self._descriptor = Path(folder) / LOCK, Path(folder).resolve(), None

    def acquire(self):
        """Take the lock; returns False if another process holds it."""
        patient_until = time.monotonic() + PATIENCE
        while True:
            try:
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise OutputError(self.path, f"cannot be written ({error.strerror or error})", WRITE_HINT) from error
            try:
                if not lock_descriptor(self._descriptor, blocking=False):
                    self.close()
                    # A worker forked just before its process was killed releases its copy of the lock within moments.
                    if time.monotonic() > patient_until:
                        return False
                    time.sleep(PAUSE)
                    continue
            except OSError as error:
                self.close()
                logger.warning("%s: this file system has no locks (%s); make sure that no other process writes to "
                               "this folder",
                               self.path, error.strerror or error)
                return True
            # The previous holder removes its file when it ends; a lock on a removed file has no effect.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self.path)):
                    self._write_holder()
                    return True
            self.close()

    def _write_holder(self):
        holder = {"pid": os.getpid(), "host": platform.node(),
                  "since": datetime.datetime.now().isoformat(" ", "seconds")}
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, json.dumps(holder).encode())

    def close(self):
        """Close the lock file. The lock ends when no process has it open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def release(self):
        """Release the lock; no effect if already released, or in a forked child."""
        if _held.get(self._key) is not self:
            return
        del _held[self._key]
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # the folder may have been removed or made read-only meanwhile
                os.unlink(self.path)
            self.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.release()


def describe_holder(path):
    """Describe the process that holds a lock file."""
    try:
        holder = parse_json(Path(path).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has only just started"


def _drop_locks():
    for mine in _held.values():
        mine.close()
    _held.clear()


# A forked worker shares the open lock file, and with it the lock; it may outlive the process that took it.
if os.name == "posix":
    os.register_at_fork(after_in_child=_drop_locks)
