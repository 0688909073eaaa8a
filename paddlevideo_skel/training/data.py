"""The data of a config's splits: check it before training, and load it as batches."""
import logging

from ..build import build_pipeline
from ..config_schema import DEFAULT_SEED
from ..data.checks import BadSample, SampleChecker, drop_samples, write_bad_samples
from ..data.datasets import build_dataset
from ..data.loader import BatchLoader
from ..data.mixup import MIXES
from ..errors import DataError, shorten_list
from ..workers import available_cores
from . import distributed
from .run_dir import BAD_SAMPLES, EXAMINED

logger = logging.getLogger(__name__)

MAX_LISTED = 3  # bad samples in a message


def build_checked_datasets(config, splits, model, folder, skip_bad):
    """The data sets of a training, with every sample checked; the first process checks and writes.

    Args:
        model: the model to train; it defines the classes and joints.
        folder: for ``bad_samples.csv``, the list of samples that cannot be used, and ``examined.json``, which caches
            the files' checks for the next run.
        skip_bad: omit samples that cannot be used; otherwise they are an error.

    Returns:
        ``(data sets, fingerprints)``, both by split; a fingerprint is the number of samples and a digest.

    Raises:
        DataError: with the first samples that cannot be used.
    """
    datasets, fingerprints, bad, usable = {}, {}, [], []
    checker = SampleChecker(folder / EXAMINED, distributed.progress_hidden())
    classes, joints = model.head.num_classes, model.backbone.layout.num_joints
    for split in splits:
        where, unread = config.where(f"DATASET.{split}"), []
        dataset = build_dataset(config["DATASET"][split], where, bad=unread)
        file = str(dataset.files[0])
        reasons, digest = distributed.from_main(lambda: checker.check(dataset, classes, joints))  # noqa: B023
        bad += [BadSample(split, file, name, reason) for name, reason in unread]
        bad += [BadSample(split, file, dataset.names[i], reason) for i, reason in reasons.items()]
        usable += [split] if len(reasons) < dataset.num_distinct else []
        datasets[split] = drop_samples(dataset, reasons)
        fingerprints[split] = {"samples": len(datasets[split]), "digest": digest}
    if distributed.is_main():
        write_bad_samples(bad, folder / BAD_SAMPLES)
    if bad and not (skip_bad and usable == list(splits)):
        first = shorten_list([f"{sample.file}: {sample.sample}: {sample.reason}" for sample in bad], MAX_LISTED, "; ")
        raise DataError("training data", f"{len(bad)} samples cannot be used: {first}. {folder / BAD_SAMPLES} "
                        "lists all of them", "Correct or remove them, or skip them with --skip_bad"
                        if usable == list(splits) else "Correct them: no other samples are left")
    if bad:
        logger.warning("%d samples cannot be used and are omitted; %s lists them", len(bad), folder / BAD_SAMPLES)
    return datasets, fingerprints


def make_loader(config, split, num_classes, seed=DEFAULT_SEED, dataset=None):
    """The ``BatchLoader`` of a split, from the config's sections DATASET, PIPELINE and, for training, MIX.

    ``batch_size`` is per device, as in PaddleVideo. ``dataset``: None builds the config's.
    """
    section = config["DATASET"]
    prefix = "" if split == "train" else f"{split}_"
    batch_size = section.get(f"{prefix}batch_size", config.value("DATASET.batch_size"))
    workers = section.get(f"{prefix}num_workers", config.value("DATASET.num_workers"))
    if dataset is None:
        dataset = build_dataset(section[split], config.where(f"DATASET.{split}"), num_classes)
    mix = MIXES.build_spec(config["MIX"], config.where("MIX")) if split == "train" and config.get("MIX") else None
    training, share = split == "train", (distributed.rank(), distributed.world_size())
    if training and dataset.labels is None:
        raise DataError(config.where("DATASET.train"), "the training data has no labels")
    return BatchLoader(
        dataset, build_pipeline(config, split), batch_size, shuffle=training,
        # As in PaddleVideo, the short last batch of an epoch is omitted unless it is the only one.
        drop_last=training and len(dataset) >= batch_size * share[1], num_workers=min(workers, available_cores()),
        seed=seed, mix=mix, share=share)
