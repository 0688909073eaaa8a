"""The folder that a run writes into: the names of its files, and one run in it at a time."""
import logging
import re
from pathlib import Path

from ..manifest import lock

logger = logging.getLogger(__name__)

BAD_SAMPLES, EXAMINED = "bad_samples.csv", "examined.json"


class RunDir:
    """The output folder of a run.

    Args:
        path: the folder; created by ``open``.
        name: the model's name, with which the names of all checkpoints begin.
        suffix: of checkpoints, ``.pdparams`` or ``.safetensors``.
    """

    def __init__(self, path, name, suffix):
        self.path, self.name, self.suffix = Path(path), name, suffix
        self._lock = None

    @property
    def state(self):
        """The file from which the run resumes."""
        return self.path / f"{self.name}_last.pdstate"

    def checkpoint(self, what):
        """The path of a checkpoint: ``what`` is ``best`` or ``epoch_00001``."""
        return self.path / f"{self.name}_{what}{self.suffix}"

    def open(self):
        """Create the folder, lock it against other runs, and remove incomplete files that a killed run left.

        Raises:
            OutputError: the folder cannot be written, or another run is writing there.
        """
        self._lock = lock(self.path)
        written = "|".join([re.escape(self.name) + "_.*", *map(re.escape, (BAD_SAMPLES, EXAMINED))])
        half_written = re.compile(rf"\.({written})\.[0-9a-f]{{8}}\.tmp")
        for path in self.path.iterdir():
            if half_written.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def keep_last(self, count, epoch, keep=()):
        """Remove the checkpoints of epochs except the last ``count`` up to ``epoch``.

        Args:
            keep: paths of checkpoints that stay, whatever their epoch.
        """
        pattern = re.compile(rf"{re.escape(self.name)}_epoch_(\d+)\.(pdparams|safetensors|pdopt)")
        found = {path: int(match[1]) for path in self.path.iterdir() if (match := pattern.fullmatch(path.name))}
        last = sorted({number for number in found.values() if number <= epoch})[-count:]
        keep = {Path(path).resolve().with_suffix("") for path in keep}
        for path, number in found.items():
            if number <= epoch and number not in last and path.resolve().with_suffix("") not in keep:
                path.unlink(missing_ok=True)

    def close(self):
        """Let other runs in."""
        if self._lock:
            self._lock.release()
            self._lock = None
