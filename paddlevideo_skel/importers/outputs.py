"""What an import leaves besides its samples: the list of skipped files, and a summary."""
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
    """The header of an ``.npy`` file of ``count`` float32 arrays of ``shape``; as long for every count."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": SAMPLE_DTYPE.str, "fortran_order": False, "shape": (count, *shape)})
    return header.getvalue()


def need_room(folder, size):
    """Refuse a folder whose disk has less than ``size`` bytes left, before anything long."""
    free = shutil.disk_usage(output_folder(folder)).free
    if size > free:
        raise OutputError(folder, f"has {free / 1e9:.1f} GB left, {size / 1e9:.1f} GB are needed",
                          "Choose a folder with more room")


def write_skipped(path, skipped):
    """Write the list of skipped files: a line each, its name and the reason, with a tab between."""
    with replacing(path) as temporary:
        text = "".join(f"{name}\t{' '.join(reason.split())}\n" for name, reason in skipped)
        Path(temporary).write_text(f"file\treason\n{text}", encoding="utf-8", errors="backslashreplace")


def need_samples(samples, skipped, where):
    """Refuse a set of which nothing is left."""
    if not samples:
        name, reason = skipped[0]
        raise DataError(where, f"none of the {len(skipped)} files can be used; {name}: {reason}",
                        "Check that these are the files of this data set")


def log_summary(what, samples, skipped, files, listing):
    """Log what was imported.

    Args:
        what: the set's name.
        samples: of each sample ``(label, persons, frames)``.
        skipped: ``(name, reason)``; a reason begins with its kind and a colon.
        files: paths that were written.
        listing: where the skipped are listed.
    """
    labels, persons, frames = zip(*samples)
    several = sum(count > 1 for count in persons)
    logger.info("%s: %s samples of %d classes; %s with two persons; %s frames, %d to %d a sample", what,
                f"{len(samples):,}", len(set(labels)), f"{several:,}", f"{sum(frames):,}", min(frames), max(frames))
    kinds = Counter(reason.partition(":")[0] for _, reason in skipped)
    if kinds:
        logger.info("%s: %s files skipped (%s), listed in %s", what, f"{len(skipped):,}",
                    ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()), listing)
    for path in files:
        logger.info("%s  %s bytes", path, f"{path.stat().st_size:,}")


def array_paths(folder):
    """The keys of a config that name the ``.npy`` sets and labels of a folder."""
    return {f"DATASET.{part}.{key}_path": folder / f"{name}_{file}"
            for part, name in {"train": "train", "valid": "val", "test": "val"}.items()
            for key, file in (("file", "data.npy"), ("label", "label.pkl"))}


def training_line(config, overrides):
    """The command that trains with a config, some of its keys changed."""
    return " ".join([f"python main.py --validate -c configs/recognition/{config}",
                     *(f"-o {key}={value}" for key, value in overrides.items())])
