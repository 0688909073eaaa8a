"""Data set → bin folder, by the very path that ``main.py --test`` takes; can be interrupted, continued and shared out.

Needs no paddle.
"""
import logging
import shutil

import numpy as np
from tqdm import tqdm

from ..config import class_names, num_classes
from ..data.datasets import build_dataset
from ..data.loader import BatchLoader, sample_numbers
from ..data.pipeline import Pipeline, list_steps
from ..errors import ConfigError, DataError, OutputError
from ..files import output_folder, replacing
from ..manifest import Manifest, digest_dataset
from .artifact import find_export
from .bins import BINS, FORMAT, LABELS, MANIFEST, TYPE, BinFolder, file_names, read_manifest
from .predict import check_pipeline_given

logger = logging.getLogger(__name__)

HEATMAPS = "GeneratePoseTarget"


class BinWriter:
    """Stands where a pipeline does in a ``BatchLoader``, so that its worker processes write the files themselves.

    A sample may be 205 MB: an array never leaves the process that made it, and each process holds one.
    """

    def __init__(self, folder, dataset, pipeline):
        self.folder, self.dataset, self.pipeline = folder, dataset, pipeline

    def __call__(self, number, rng):
        """Write the file of a sample unless it is there; returns ``[1]`` or ``[0]``: how many were written."""
        name, shape = self.folder.names[number], self.folder.sample_shape
        if self.folder.is_whole(name):
            return np.array([0])
        array = self.pipeline(self.dataset[number], rng)
        if array.shape != shape:
            raise DataError(self.dataset.names[number], f"becomes {array.shape}, expected {shape} like the others",
                            "Every sample of a folder must have the same shape; choose frames and persons in the "
                            "pipeline")
        try:
            with replacing(self.folder.file(name)) as temporary:
                np.asarray(array, TYPE).tofile(temporary)
        except OutputError:
            # A run that was taken for dead may have made it meanwhile, and cleared away what was begun here.
            if not self.folder.is_whole(name):
                raise
        return np.array([1])


class Numbers:
    """Stands where a data set does: sample i is the number i. It is read only if its file is missing."""

    labels = None

    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return index


def write_bins(config, output, split="test", model=None, num_workers=0, share=(0, 1)):
    """Write the samples of a data set as a bin folder; files that are there and whole are kept.

    Args:
        config: the ``Config``: ``DATASET.<split>``, prepared by ``PIPELINE.test``, as for ``main.py --test``.
        output: the folder.
        model: an export, whose pipeline, input shape and classes are used in the place of the config's; or None.
        num_workers: processes; 0: this one.
        share: (rank, W): only samples whose number leaves the remainder ``rank`` by W.

    Returns:
        the ``BinFolder``.

    Raises:
        DataError: of a sample; or the folder was begun with another pipeline, data set or model.
        OutputError: it cannot be written, or there is no room.
    """
    export = None if model is None else find_export(model)
    if export is None:
        name, classes, pipeline = config.get("model_name", ""), num_classes(config), config.section("PIPELINE.test")
        names, pipeline = class_names(config, classes), Pipeline(pipeline, config.where("PIPELINE.test"))
    else:
        check_pipeline_given(config, export.metadata)
        name, classes, names = export.metadata["model_name"], export.num_classes, export.metadata.get("class_names")
        pipeline = Pipeline(export.metadata["pipeline"], f"{export.stem}: pipeline")
    where = config.where(f"DATASET.{split}")
    dataset = build_dataset(config.section(f"DATASET.{split}"), where, classes)
    shape = pipeline(dataset[0], sample_numbers(0)).shape
    if export is not None and shape != export.sample_shape:
        raise ConfigError(where, f"its first sample becomes {shape}, but {export.stem} takes {export.sample_shape}",
                          "Use the data that the model was trained for")
    source = {"section": f"DATASET.{split}", **config.section(f"DATASET.{split}"), "digest": digest_dataset(dataset)}
    folder = start_or_resume_bins(output, dataset, {
        "format": FORMAT, "model_name": name, "shape": list(shape), "type": TYPE.name, "count": len(dataset),
        "num_classes": classes, "class_names": names, "labels": dataset.labels is not None,
        "average": average_of(pipeline), "source": source, "pipeline": pipeline.spec})
    made = write_files(folder, dataset, pipeline, num_workers, share)
    rank, world = share
    logger.info("%s: %d files%s of %s bytes, %d of them made now", folder.path, len(folder.names[rank::world]),
                f" of shard {rank + 1}/{world}" if world > 1 else "", f"{folder.size:,}", made)
    return folder


def average_of(pipeline):
    """How several answers for one sample become one: a model of heatmaps averages scores, one of skeletons logits."""
    steps = [name for name, *_ in list_steps(pipeline.spec, pipeline.where)]
    return "scores" if HEATMAPS in steps else "logits"


def start_or_resume_bins(output, dataset, content):
    """Start a bin folder with ``label.txt`` and ``bins.json``, or check that it was started with the same; opens it."""
    path = output_folder(output)
    output_folder(path / BINS)
    if dataset.labels is None:
        content = {**content, "sample_names": dataset.names}
    manifest = Manifest(path / MANIFEST, f"{BINS}/*.bin", compared=without_paths, read=lambda: read_manifest(path))
    resumed = manifest.check(content)
    if dataset.labels is not None:
        write_labels(path / LABELS, dataset)
    if not resumed:
        manifest.start(content)
    return BinFolder(path)


def without_paths(content):
    """The content of ``bins.json`` without where the data set lies: the same data may be elsewhere."""
    return {**content, "source": {"digest": content["source"].get("digest")}}


def write_labels(path, dataset):
    """Write ``label.txt``; one that is there must hold the same."""
    names = (" ".join(name.split()) for name in dataset.names)  # a name is one line
    text = "".join(f"{stem}.bin {label} {name}\n" for stem, label, name in
                   zip(file_names(len(dataset)), dataset.labels, names)).encode(errors="backslashreplace")
    if not path.is_file():
        with replacing(path) as temporary:
            temporary.write_bytes(text)
    elif path.read_bytes() != text:
        raise DataError(path, "does not hold the labels of this data set", "Choose another folder, or remove it")


def write_files(folder, dataset, pipeline, num_workers, share):
    """Write the files of a share that are missing; returns how many."""
    rank, world = share
    names = folder.names[rank::world]
    missing = sum(not folder.is_whole(name) for name in names) * folder.size
    free = shutil.disk_usage(folder.path).free
    if missing > free:
        raise OutputError(folder.path, f"has {free / 1e9:.1f} GB left, {missing / 1e9:.1f} GB are needed",
                          "Choose a folder with more room, or write shards to several")
    remove_unfinished(folder, names)
    writer, samples = BinWriter(folder, dataset, pipeline), Numbers(dataset.names)
    with BatchLoader(samples, writer, 1, num_workers=num_workers, share=share) as loader:
        made = sum(int(batch.array[0, 0]) for batch in tqdm(loader.batches(0), total=len(loader), desc="bins",
                                                             unit="sample", leave=False, disable=None))
    # Again: workers live on for a moment after a run that was killed, and may have begun files.
    remove_unfinished(folder, names)
    return made


def remove_unfinished(folder, names):
    """Remove what a killed run left of these files; other shards may be writing theirs."""
    own = {f".{name}.bin" for name in names}
    for path in (folder.path / BINS).glob(".*.tmp"):
        if path.name.rsplit(".", 2)[0] in own:
            path.unlink(missing_ok=True)
