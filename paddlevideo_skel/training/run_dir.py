"""The folder that a run writes into: its files' names, and one run in it at a time."""
import contextlib
import datetime
import errno
import json
import logging
import os
import re
import socket
from pathlib import Path

from ..errors import OutputError
from ..files import output_folder, parse_json

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

logger = logging.getLogger(__name__)

LOCK = ".run.lock"
NOTES = BAD_SAMPLES, EXAMINED = "bad_samples.csv", "examined.json"
_open = set()  # folders of this process: the system's locks are between processes only


class RunFolder:
    """The output folder of a run.

    Args:
        path: the folder; made by ``open``.
        name: the model's name, with which all files begin.
        suffix: of checkpoints, ``.pdparams`` or ``.safetensors``.
    """

    def __init__(self, path, name, suffix):
        self.path, self.name, self.suffix = Path(path), name, suffix
        self._lock, self._opened = None, False

    @property
    def state(self):
        """The file from which a run goes on."""
        return self.path / f"{self.name}_last.pdstate"

    def checkpoint(self, what):
        """The path of a checkpoint: ``what`` is ``best`` or ``epoch_00001``."""
        return self.path / f"{self.name}_{what}{self.suffix}"

    def open(self):
        """Make the folder, keep other runs out of it, and remove what a killed run left half-written.

        Raises:
            OutputError: it cannot be written, or another run is writing there.
        """
        output_folder(self.path)
        if self.path.resolve() in _open:
            raise self._taken("in this process")
        self._lock = self._locked()
        self._opened = True
        _open.add(self.path.resolve())
        written = "|".join([re.escape(self.name) + "_.*", *map(re.escape, NOTES)])
        half_written = re.compile(rf"\.({written})\.[0-9a-f]{{8}}\.tmp")
        for path in self.path.iterdir():
            if half_written.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _locked(self):
        """The open lock file. The lock ends with this process, however that ends, and is not its children's."""
        path = self.path / LOCK
        while fcntl:
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  (it stays open as long as the run)
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                with file:
                    if error.errno in (errno.EACCES, errno.EAGAIN):
                        raise self._taken(_told(file)) from None
                logger.warning("%s: this file system keeps no locks (%s); see that no other run writes here", path,
                               error.strerror)
                return None
            # The run before removes its lock file when it ends; a lock on a removed file keeps nobody out.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    file.truncate(0)
                    json.dump({"pid": os.getpid(), "host": socket.gethostname(),
                               "since": datetime.datetime.now().isoformat(" ", "seconds")}, file)
                    file.flush()
                    return file
            file.close()
        return None

    def _taken(self, who):
        return OutputError(self.path, f"another run is writing there ({who})",
                           "Wait for its end or stop it, or choose another output_dir")

    def keep_last(self, count, epoch, spare=()):
        """Remove the checkpoints of epochs but the last ``count`` up to ``epoch``; ``spare``: paths that stay."""
        pattern = re.compile(rf"{re.escape(self.name)}_epoch_(\d+)\.(pdparams|safetensors|pdopt)")
        found = {path: int(match[1]) for path in self.path.iterdir() if (match := pattern.fullmatch(path.name))}
        last = sorted({number for number in found.values() if number <= epoch})[-count:]
        spare = {Path(path).resolve().with_suffix("") for path in spare}
        for path, number in found.items():
            if number <= epoch and number not in last and path.resolve().with_suffix("") not in spare:
                path.unlink(missing_ok=True)

    def close(self):
        """Let others in."""
        if self._opened:
            _open.discard(self.path.resolve())
            self._opened = False
        if self._lock:
            with contextlib.suppress(OSError):  # the folder may have been removed or made read-only meanwhile
                os.unlink(self.path / LOCK)
            self._lock.close()
            self._lock = None


def _told(file):
    """What the lock file says of the run that holds it."""
    file.seek(0)
    try:
        holder = parse_json(file.read())
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "it has just begun"
