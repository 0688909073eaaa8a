"""Every sample of a data set is looked at once, before anything long begins: what cannot be used is listed."""
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
from .readers import check_usable, from_data

BLOCK = 1 << 24  # bytes that are read at once


@dataclass(frozen=True)
class BadSample:
    """A sample that cannot be used: its split, file and name, and why."""
    split: str
    file: str
    sample: str
    reason: str


class Subset:
    """Some samples of a data set, those numbered in ``kept``."""

    def __init__(self, dataset, kept):
        self.dataset, self.kept = dataset, kept
        self.names = [dataset.names[i] for i in kept]
        self.labels = None if dataset.labels is None else dataset.labels[np.asarray(kept, np.int64)]

    def __len__(self):
        return len(self.kept)

    def __getitem__(self, index):
        return self.dataset[self.kept[index]]


class Examination:
    """Looks at data sets, and keeps what it found in a JSON file: no file is read through again until it changes.

    Args:
        path: the JSON file.
        hidden: what ``tqdm`` takes as ``disable``.
    """

    def __init__(self, path, hidden=None):
        self.path, self.hidden = Path(path), hidden
        try:
            known = parse_json(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None  # not there yet, or damaged: it only saves time
        self.known = {path: entry for path, entry in known.items() if _whole(entry)} if isinstance(known, dict) else {}

    def examine(self, dataset, num_classes, joints):
        """Look at every sample once: its joints, labels, numbers that are none, and whether anybody is there.

        Args:
            dataset: from ``build_dataset``.
            num_classes: that labels must be among.
            joints: that a sample must have.

        Returns:
            ``(reasons, digest)``: number of a sample → why it cannot be used; and a digest of the files' content. Of
            a data set that repeats itself, only its first round is numbered.
        """
        found = [self._file(path, dataset) for path in dataset.files]
        # The content's own reason goes before the label's.
        reasons = _label_reasons(dataset, num_classes)
        for _, bad in found:
            reasons.update({int(number): reason for number, reason in bad.items()})
        if hasattr(dataset, "annotations"):
            reasons.update(_annotation_reasons(dataset.annotations, joints))
        elif dataset.data.shape[3] != joints:
            raise DataError(dataset.files[0], f"has {dataset.data.shape[3]} joints, the model takes {joints}",
                            "Choose the data's layout in MODEL, or the data of that layout")
        digest = " ".join(digest for digest, _ in found)
        return dict(sorted(reasons.items())), digest

    def _file(self, path, dataset):
        """``(digest, reasons)`` of a file, from the JSON file if it is still the same."""
        path = os.path.abspath(path)
        stamp = [os.path.getsize(path), os.stat(path).st_mtime_ns]
        known = self.known.get(path)
        if known is None or known["stamp"] != stamp:
            scanned = path == os.path.abspath(dataset.files[0]) and hasattr(dataset, "data")
            with tqdm(total=stamp[0], unit="B", unit_scale=True, desc=f"examining {os.path.basename(path)}",
                      leave=False, disable=self.hidden) as progress:
                digest, reasons = _scan(dataset, progress) if scanned else (_digest(path, progress), {})
            known = self.known[path] = {"stamp": stamp, "digest": digest, "reasons": reasons}
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(self.known), encoding="utf-8")
        return known["digest"], known["reasons"]


def _whole(entry):
    """Whether what was kept of a file is all there."""
    return (isinstance(entry, dict) and isinstance(entry.get("stamp"), list) and isinstance(entry.get("digest"), str)
            and isinstance(entry.get("reasons"), dict)
            and all(number.isdecimal() and len(number) < 20 and isinstance(reason, str)
                    for number, reason in entry["reasons"].items()))


def _digest(path, progress):
    # It tells files apart that changed by mistake; a cryptographic digest would take most of the time.
    digest = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest = zlib.crc32(block, digest)
            progress.update(len(block))
    return f"{digest:08x}"


def _scan(dataset, progress):
    """Digest and reasons of an array ``(N, C, T, V, M)``, read block by block: a map of it would stay in memory."""
    digest, reasons = zlib.crc32(f"{dataset.data.dtype} {dataset.data.shape}".encode()), {}
    count = max(1, BLOCK // (dataset.data[0].nbytes or 1))
    for start in range(0, len(dataset), count):
        block = np.ascontiguousarray(dataset.read(start, min(start + count, len(dataset))))
        digest = zlib.crc32(block, digest)
        flat = block.reshape(len(block), -1)
        # NaN is the largest and the smallest of its sample.
        low, high = flat.min(axis=1), flat.max(axis=1)
        usable = np.isfinite(low) & np.isfinite(high) & ((low != 0) | (high != 0))
        for i in np.flatnonzero(~usable).tolist():
            reasons[str(start + i)] = _reason(check_usable, from_data(block[i], "sample"))
        progress.update(block.nbytes)
    return f"{digest:08x}", reasons


def _annotation_reasons(annotations, joints):
    """Of annotations that were read, and so are finite."""
    forms = [(a.keypoint.shape[3], a.keypoint_score is not None) for a in annotations]
    (channels, scored), _ = Counter(forms).most_common(1)[0] if forms else ((3, False), 0)
    reasons = {}
    for i, (annotation, form) in enumerate(zip(annotations, forms)):
        if annotation.keypoint.shape[2] != joints:
            reasons[i] = f"has {annotation.keypoint.shape[2]} joints, the model takes {joints}"
        elif form != (channels, scored):
            reasons[i] = (f"has {form[0]} coordinates {'with' if form[1] else 'without'} scores, most others "
                          f"{channels} {'with' if scored else 'without'}")
        elif not annotation.keypoint.any():
            reasons[i] = _reason(check_usable, annotation)
    return reasons


def _label_reasons(dataset, num_classes):
    if dataset.labels is None:
        return {}
    labels = dataset.labels[:one_round(dataset)]
    return {i: f"its label is {labels[i]}, expected 0..{num_classes - 1} for {num_classes} classes"
            for i in np.flatnonzero((labels < 0) | (labels >= num_classes)).tolist()}


def _reason(check, annotation):
    try:
        check(annotation)
    except DataError as error:
        return error.problem
    raise RuntimeError(f"{annotation.name}: a sample that was found bad is good")


def one_round(dataset):
    """How many samples there are before a data set repeats itself."""
    return len(getattr(dataset, "annotations", dataset))


def without(dataset, reasons):
    """The data set without the samples of ``reasons``, in any of its rounds; itself, if there is none."""
    if not reasons:
        return dataset
    kept = [i for i in range(len(dataset)) if i % one_round(dataset) not in reasons]
    return Subset(dataset, kept)


def write_list(bad, path):
    """Write ``BadSample``s as CSV; none: no file."""
    if not bad:
        Path(path).unlink(missing_ok=True)
        return
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(BadSample)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, bad))
