"""Curves for VisualDL, where it is installed."""
import logging
import os
from pathlib import Path

from ..files import output_folder

logger = logging.getLogger(__name__)


class Curves:
    """Writes scalars for ``visualdl --logdir <output_dir>/vdl``; does nothing, and says so, without VisualDL.

    Args:
        folder: for the file of records.
        go_on: add to the file that is there, as VisualDL shows only one of a folder.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder, go_on=False):
        self.writer = None
        try:
            from visualdl import LogWriter
        except ImportError:
            logger.info("VisualDL is not installed, no curves are written (pip install paddlevideo_skel[curves])")
            return
        except OSError as error:  # it makes a folder in the user's home, which may not be writable
            logger.warning("VisualDL cannot be used, no curves are written (%s: %s)", error.filename, error.strerror)
            return
        # VisualDL itself would write nothing, without a word.
        output_folder(folder)
        files = sorted(Path(folder).glob("vdlrecords.*"), key=lambda path: path.stat().st_mtime) if go_on else []
        if files:
            cut_to_whole_records(files[-1])
        self.writer = LogWriter(logdir=str(folder), file_name=files[-1].name if files else "")

    def add(self, phase, step, **values):
        """Add one point to each curve ``<phase>/<name>``."""
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(tag=f"{phase}/{name}", value=float(value), step=step)

    def close(self):
        if self.writer:
            self.writer.close()


def cut_to_whole_records(path):
    """Drop a last record that a killed process left incomplete: nothing after it could be read.

    A record is its length in 8 bytes, little-endian, and so many bytes.
    """
    size, whole = os.path.getsize(path), 0
    with open(path, "rb+") as file:
        while len(head := file.read(8)) == 8 and (end := whole + 8 + int.from_bytes(head, "little")) <= size:
            file.seek(end)
            whole = end
        file.truncate(whole)
