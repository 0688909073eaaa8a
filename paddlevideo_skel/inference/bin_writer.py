"""Data set → bin folder, on the same path as ``main.py --test``; can be interrupted, resumed and sharded."""
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
from .bins import BINS_FILE, BINS_FORMAT, LABEL_FILE, SAMPLES_FOLDER, TYPE, BinFolder, file_names, read_manifest
from .predict import warn_if_pipeline_differs

logger = logging.getLogger(__name__)

HEATMAPS = "GeneratePoseTarget"


class BinWriter:
    """Takes the place of a pipeline in a ``BatchLoader``, so that the worker processes write the files.

    A sample may have 205 MB. An array never leaves the process that made it, and each process holds one.
    """

    def __init__(self, folder, dataset, pipeline):
        self.folder, self.dataset, self.pipeline = folder, dataset, pipeline

    def __call__(self, number, rng):
        """Write a sample's file unless it exists; returns the number of files written, ``[1]`` or ``[0]``."""
        name, shape = self.folder.names[number], self.folder.sample_shape
        if self.folder.is_whole(name):
            return np.array([0])
        array = self.pipeline(self.dataset[number], rng)
        if array.shape != shape:
            raise DataError(self.dataset.names[number],
                            f"expected shape {shape} like the other samples, got {array.shape}",
                            "All samples must have the same shape: fix the number of frames and persons in the "
                            "pipeline")
        try:
            with replacing(self.folder.file(name)) as temporary:
                np.asarray(array, TYPE).tofile(temporary)
        except OutputError:
            # Another run may have written it meanwhile and removed this run's temporary file.
            if not self.folder.is_whole(name):
                raise
        return np.array([1])


class SampleNumbers:
    """Takes the place of a data set: sample i is the number i, so that only missing samples are read."""

    labels = None

    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return index


def write_bins(config, output, split="test", model=None, num_workers=0, share=(0, 1)):
    """Write the samples of a data set as a bin folder; complete files are kept.

    Args:
        config: the ``Config``; ``DATASET.<split>`` is preprocessed by ``PIPELINE.test``, as in ``main.py --test``.
        output: the folder.
        model: an export, whose pipeline, input shape and classes replace the config's; or None.
        num_workers: worker processes; 0: none.
        share: (rank, W): only the samples i with i % W = rank.

    Returns:
        the ``BinFolder``.

    Raises:
        DataError: a sample is unusable, or the folder was started with another pipeline, data set or model.
        OutputError: the folder cannot be written, or the disk is too full.
    """
    export = None if model is None else find_export(model)
    if export is None:
        name, classes, pipeline = config.get("model_name", ""), num_classes(config), config.section("PIPELINE.test")
        names, pipeline = class_names(config, classes), Pipeline(pipeline, config.where("PIPELINE.test"))
    else:
        warn_if_pipeline_differs(config, export.metadata)
        name, classes, names = export.metadata["model_name"], export.num_classes, export.metadata.get("class_names")
        pipeline = Pipeline(export.metadata["pipeline"], f"{export.stem}: pipeline")
    where = config.where(f"DATASET.{split}")
    dataset = build_dataset(config.section(f"DATASET.{split}"), where, classes)
    shape = pipeline(dataset[0], sample_numbers(0)).shape
    if export is not None and shape != export.sample_shape:
        raise ConfigError(where, f"the first sample becomes an input of shape {shape}, but {export.stem} takes "
                          f"{export.sample_shape}", "Use the kind of data that the model was trained on")
    source = {"section": f"DATASET.{split}", **config.section(f"DATASET.{split}"), "digest": digest_dataset(dataset)}
    folder = start_or_resume_bins(output, dataset, {
        "format": BINS_FORMAT, "model_name": name, "shape": list(shape), "type": TYPE.name, "count": len(dataset),
        "num_classes": classes, "class_names": names, "labels": dataset.labels is not None,
        "average": find_average(pipeline), "source": source, "pipeline": pipeline.spec})
    made = write_files(folder, dataset, pipeline, num_workers, share)
    rank, world = share
    logger.info("%s: %d files%s of %s bytes, %d of them written now", folder.path, len(folder.names[rank::world]),
                f" of shard {rank + 1}/{world}" if world > 1 else "", f"{folder.size:,}", made)
    return folder


def find_average(pipeline):
    """How several answers per sample are averaged: models of heatmaps average scores, models of skeletons logits."""
    steps = [name for name, *_ in list_steps(pipeline.spec, pipeline.where)]
    return "scores" if HEATMAPS in steps else "logits"


def start_or_resume_bins(output, dataset, content):
    """Start a bin folder with ``label.txt`` and ``bins.json``, or check that it was started with the same; opens it."""
    path = output_folder(output)
    output_folder(path / SAMPLES_FOLDER)
    if dataset.labels is None:
        content = {**content, "sample_names": dataset.names}
    manifest = Manifest(path / BINS_FILE, f"{SAMPLES_FOLDER}/*.bin", compared=without_paths,
                        read=lambda: read_manifest(path))
    resumed = manifest.check(content)
    if dataset.labels is not None:
        write_labels(path / LABEL_FILE, dataset)
    if not resumed:
        manifest.start(content)
    return BinFolder(path)


def without_paths(content):
    """The content of ``bins.json`` without the location of the data set: the same data may be elsewhere."""
    return {**content, "source": {"digest": content["source"].get("digest")}}


def write_labels(path, dataset):
    """Write ``label.txt``, or check that it has the same content."""
    names = (" ".join(name.split()) for name in dataset.names)  # keep each name on one line
    text = "".join(f"{stem}.bin {label} {name}\n" for stem, label, name in
                   zip(file_names(len(dataset)), dataset.labels, names)).encode(errors="backslashreplace")
    if not path.is_file():
        with replacing(path) as temporary:
            temporary.write_bytes(text)
    elif path.read_bytes() != text:
        raise DataError(path, "contains the labels of another data set", "Choose another folder, or remove it")


def write_files(folder, dataset, pipeline, num_workers, share):
    """Write the missing files of a share; returns their number."""
    rank, world = share
    names = folder.names[rank::world]
    missing = sum(not folder.is_whole(name) for name in names) * folder.size
    free = shutil.disk_usage(folder.path).free
    if missing > free:
        raise OutputError(folder.path, f"needs {missing / 1e9:.1f} GB, but the disk has {free / 1e9:.1f} GB left",
                          "Choose a folder on another disk, or write shards to several disks")
    remove_temporary_bins(folder, names)
    writer, samples = BinWriter(folder, dataset, pipeline), SampleNumbers(dataset.names)
    with BatchLoader(samples, writer, 1, num_workers=num_workers, share=share) as loader:
        made = sum(int(batch.array[0, 0]) for batch in tqdm(loader.batches(0), total=len(loader), desc="bins",
                                                             unit="sample", leave=False, disable=None))
    # Once more: workers of a killed run live on for a moment and may have started files.
    remove_temporary_bins(folder, names)
    return made


def remove_temporary_bins(folder, names):
    """Remove the temporary files that a killed run left for these names; other shards may be writing at the same
    time.
    """
    own = {f".{name}.bin" for name in names}
    for path in (folder.path / SAMPLES_FOLDER).glob(".*.tmp"):
        if path.name.rsplit(".", 2)[0] in own:
            path.unlink(missing_ok=True)
