"""Outputs of an import other than its samples: the list of skipped files, the log's summary, and the next command."""
import io
import logging
import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from ..errors import DataError, OutputError
from ..files import output_folder, replacing
from .journal import SAMPLE_DTYPE

logger = logging.getLogger(__name__)


def npy_header(count, shape):
    """The header of an ``.npy`` file of ``count`` float32 arrays of ``shape``, of the same length for every count."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": SAMPLE_DTYPE.str, "fortran_order": False, "shape": (count, *shape)})
    return header.getvalue()


def require_space(folder, size):
    """Raise an ``OutputError`` if the folder's disk has less than ``size`` bytes left; called before long work."""
    free = shutil.disk_usage(output_folder(folder)).free
    if size > free:
        raise OutputError(folder, f"has {free / 1e9:.1f} GB of free space, expected {size / 1e9:.1f} GB",
                          "Choose a folder on a larger disk")


def write_skipped(path, skipped):
    """Write the list of skipped files, one line per file: its name, a tab and the reason."""
    with replacing(path) as temporary:
        text = "".join(f"{name}\t{' '.join(reason.split())}\n" for name, reason in skipped)
        Path(temporary).write_text(f"file\treason\n{text}", encoding="utf-8", errors="backslashreplace")


def require_samples(samples, skipped, where):
    """Raise a ``DataError`` if there are no samples; it says why the first file was skipped."""
    if not samples:
        name, reason = skipped[0]
        raise DataError(where, f"none of the {len(skipped)} files is usable; {name}: {reason}",
                        "Check that the files belong to this data set")


def log_summary(what, samples, skipped, files, listing):
    """Log what was imported.

    Args:
        what: the set's name.
        samples: ``(label, persons, frames)`` of each sample.
        skipped: ``(name, reason)``; a reason begins with its kind and a colon.
        files: paths of the files written.
        listing: path of the list of skipped files.
    """
    labels, persons, frames = zip(*samples)
    several = sum(count > 1 for count in persons)
    logger.info("%s: %s samples of %d classes; %s with two persons; %s frames, %d to %d per sample", what,
                f"{len(samples):,}", len(set(labels)), f"{several:,}", f"{sum(frames):,}", min(frames), max(frames))
    kinds = Counter(reason.partition(":")[0] for _, reason in skipped)
    if kinds:
        logger.info("%s: %s files skipped (%s), listed in %s", what, f"{len(skipped):,}",
                    ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()), listing)
    for path in files:
        logger.info("%s  %s bytes", path, f"{path.stat().st_size:,}")


def array_paths(folder):
    """Config overrides for the ``.npy`` sets and label files of a folder: key → path."""
    return {f"DATASET.{part}.{key}_path": folder / f"{name}_{file}"
            for part, name in {"train": "train", "valid": "val", "test": "val"}.items()
            for key, file in (("file", "data.npy"), ("label", "label.pkl"))}


def training_line(config, overrides):
    """The command that trains with a config and overrides."""
    return " ".join([f"python main.py --validate -c configs/recognition/{config}",
                     *(f"-o {key}={value}" for key, value in overrides.items())])
