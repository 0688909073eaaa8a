"""Check every sample of a data set once before training; unusable samples are listed."""
import csv
import json
import os
import zlib
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import DataError
from ..files import parse_json, replacing
from .datasets import Dataset
from .readers import check_usable, from_data

BLOCK_BYTES = 1 << 24  # read at once


@dataclass(frozen=True)
class BadSample:
    """An unusable sample: its split, file and name, and the reason."""
    split: str
    file: str
    sample: str
    reason: str


class Subset(Dataset):
    """The samples of a data set whose indices are in ``kept``; it has neither ``data`` nor ``annotations`` itself."""

    def __init__(self, dataset, kept):
        self.dataset, self.kept = dataset, kept
        self.names = [dataset.names[i] for i in kept]
        self.labels = None if dataset.labels is None else dataset.labels[np.asarray(kept, np.int64)]
        self.files = dataset.files

    def __len__(self):
        return len(self.kept)

    def __getitem__(self, index):
        return self.dataset[self.kept[index]]


class SampleChecker:
    """Checks data sets, and keeps the results in a JSON file: a file is not read again until it changes.

    Args:
        path: the JSON file.
        hide_progress: ``disable`` of ``tqdm``.
    """

    def __init__(self, path, hide_progress=None):
        self.path, self.hide_progress = Path(path), hide_progress
        try:
            known = parse_json(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None  # missing or damaged: the file only saves time
        self.known = {path: entry for path, entry in known.items() if _whole(entry)} if isinstance(known, dict) else {}

    def check(self, dataset, num_classes, num_joints):
        """Check every sample: its joints and its label, no NaN or infinity, and at least one person.

        Args:
            dataset: a ``Dataset``.
            num_classes: labels must be below it.
            num_joints: that a sample must have.

        Returns:
            ``(reasons, digest)``: number of a sample → why it is unusable, for the ``num_distinct`` first samples; and
            a digest of the files' content.

        Raises:
            DataError: an array with another number of joints.
        """
        found = [self._file(path, dataset) for path in dataset.files]
        # A reason in the content takes precedence over one in the label.
        reasons = _label_reasons(dataset, num_classes)
        for _, bad in found:
            reasons.update({int(number): reason for number, reason in bad.items()})
        if not dataset.in_array:
            reasons.update(_annotation_reasons(dataset.annotations, num_joints))
        elif dataset.data.shape[3] != num_joints:
            raise DataError(dataset.files[0], f"has {dataset.data.shape[3]} joints, but the model takes {num_joints}",
                            "Set the layout of the data in MODEL, or use data of the model's layout")
        digest = " ".join(digest for digest, _ in found)
        return dict(sorted(reasons.items())), digest

    def _file(self, path, dataset):
        """``(digest, reasons)`` of a file, from the JSON file if it has not changed."""
        path = os.path.abspath(path)
        stamp = [os.path.getsize(path), os.stat(path).st_mtime_ns]
        known = self.known.get(path)
        if known is None or known["stamp"] != stamp:
            scanned = dataset.in_array and path == os.path.abspath(dataset.files[0])
            with tqdm(total=stamp[0], unit="B", unit_scale=True, desc=f"checking {os.path.basename(path)}",
                      leave=False, disable=self.hide_progress) as progress:
                digest, reasons = _scan(dataset, progress) if scanned else (_digest(path, progress), {})
            known = self.known[path] = {"stamp": stamp, "digest": digest, "reasons": reasons}
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(self.known), encoding="utf-8")
        return known["digest"], known["reasons"]


def _whole(entry):
    """Whether an entry of the JSON file is complete."""
    return (isinstance(entry, dict) and isinstance(entry.get("stamp"), list) and isinstance(entry.get("digest"), str)
            and isinstance(entry.get("reasons"), dict)
            and all(number.isdecimal() and len(number) < 20 and isinstance(reason, str)
                    for number, reason in entry["reasons"].items()))


def _digest(path, progress):
    # This detects accidental changes; a cryptographic digest would take most of the time.
    digest = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest = zlib.crc32(block, digest)
            progress.update(len(block))
    return f"{digest:08x}"


def _scan(dataset, progress):
    """Digest and reasons of an array ``(N, C, T, V, M)``, read block by block: a memory map would stay in memory."""
    digest, reasons = zlib.crc32(f"{dataset.data.dtype} {dataset.data.shape}".encode()), {}
    count = max(1, BLOCK_BYTES // (dataset.data[0].nbytes or 1))
    for start in range(0, len(dataset), count):
        block = np.ascontiguousarray(dataset.read(start, min(start + count, len(dataset))))
        digest = zlib.crc32(block, digest)
        flat = block.reshape(len(block), -1)
        # NaN is both the minimum and the maximum of its sample.
        low, high = flat.min(axis=1), flat.max(axis=1)
        usable = np.isfinite(low) & np.isfinite(high) & ((low != 0) | (high != 0))
        for i in np.flatnonzero(~usable).tolist():
            reasons[str(start + i)] = _reason(check_usable, from_data(block[i], "sample"))
        progress.update(block.nbytes)
    return f"{digest:08x}", reasons


def _annotation_reasons(annotations, num_joints):
    """Reasons for annotations, which are known to be finite since they were read."""
    forms = [(a.keypoint.shape[3], a.keypoint_score is not None) for a in annotations]
    (channels, scored), _ = Counter(forms).most_common(1)[0] if forms else ((3, False), 0)
    reasons = {}
    for i, (annotation, form) in enumerate(zip(annotations, forms)):
        if annotation.keypoint.shape[2] != num_joints:
            reasons[i] = f"has {annotation.keypoint.shape[2]} joints, but the model takes {num_joints}"
        elif form != (channels, scored):
            reasons[i] = (f"has {form[0]} coordinates {'with' if form[1] else 'without'} scores, but most "
                          f"others have {channels} {'with' if scored else 'without'}")
        elif not annotation.keypoint.any():
            reasons[i] = _reason(check_usable, annotation)
    return reasons


def _label_reasons(dataset, num_classes):
    if dataset.labels is None:
        return {}
    labels = dataset.labels[:dataset.num_distinct]
    return {i: f"its label is {labels[i]}, expected 0..{num_classes - 1} for {num_classes} classes"
            for i in np.flatnonzero((labels < 0) | (labels >= num_classes)).tolist()}


def _reason(check, annotation):
    try:
        check(annotation)
    except DataError as error:
        return error.problem
    raise RuntimeError(f"{annotation.name}: NaN or infinity found in the scan, but the check passes")


def drop_samples(dataset, reasons):
    """The data set without the samples of ``reasons``, in every repetition; the same object if there are none."""
    if not reasons:
        return dataset
    return Subset(dataset, [i for i in range(len(dataset)) if i % dataset.num_distinct not in reasons])


def write_bad_samples(bad, path):
    """Write ``BadSample``s as CSV; if there are none, remove the file."""
    if not bad:
        Path(path).unlink(missing_ok=True)
        return
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(BadSample)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, bad))
