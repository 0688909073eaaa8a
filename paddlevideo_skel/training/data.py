"""The data of a config's splits: examined before training, and as batches."""
import logging

from ..build import build_pipeline
from ..data.checks import BadSample, Examination, one_round, without, write_list
from ..data.datasets import build_dataset
from ..data.loader import BatchLoader
from ..errors import DataError
from ..workers import available_cores
from . import distributed
from .run_dir import BAD_SAMPLES, EXAMINED

logger = logging.getLogger(__name__)

SHOWN = 3


def examined_data(config, splits, model, folder, skip_bad):
    """The data sets of a training, every sample looked at; the first process looks and writes.

    Args:
        model: that will be trained; its classes and joints count.
        folder: for ``bad_samples.csv``, the list of what cannot be used, and ``examined.json``, which keeps what was
            found in files for the next time.
        skip_bad: leave out what cannot be used; otherwise it is an error.

    Returns:
        ``(data sets, content)`` by split; the content is a dict that tells the data from any other.

    Raises:
        DataError: with the first samples that cannot be used.
    """
    datasets, content, bad, left = {}, {}, [], []
    memory = Examination(folder / EXAMINED, distributed.progress_hidden())
    classes, joints = model.head.num_classes, model.backbone.layout.num_joints
    for split in splits:
        where, unread = config.where(f"DATASET.{split}"), []
        dataset = build_dataset(config["DATASET"][split], where, bad=unread)
        file = str(dataset.files[0])
        reasons, digest = distributed.from_main(lambda: memory.examine(dataset, classes, joints))  # noqa: B023
        bad += [BadSample(split, file, name, reason) for name, reason in unread]
        bad += [BadSample(split, file, dataset.names[i], reason) for i, reason in reasons.items()]
        left += [split] if len(reasons) < one_round(dataset) else []
        datasets[split] = without(dataset, reasons)
        content[split] = {"samples": len(datasets[split]), "digest": digest}
    if distributed.is_main():
        write_list(bad, folder / BAD_SAMPLES)
    if bad and not (skip_bad and left == list(splits)):
        first = "; ".join(f"{sample.file}: {sample.sample}: {sample.reason}" for sample in bad[:SHOWN])
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise DataError("training data", f"{len(bad)} samples cannot be used: {first}{more}. All of them are listed in "
                        f"{folder / BAD_SAMPLES}", "Correct or remove them, or train without them: --skip_bad"
                        if left == list(splits) else "Correct them: no sample would be left without them")
    if bad:
        logger.warning("%d samples cannot be used and are left out; they are listed in %s", len(bad),
                       folder / BAD_SAMPLES)
    return datasets, content


def make_loader(config, split, num_classes, seed=0, mix=None, dataset=None):
    """The batches of a split, as its sections of the config say; ``mix`` is for training batches only.

    ``batch_size`` is for one device, as in PaddleVideo. ``dataset``: None for the one that the config says.
    """
    section = config["DATASET"]
    kind = "" if split == "train" else f"{split}_"
    batch_size = section.get(f"{kind}batch_size", section.get("batch_size", 8))
    workers = section.get(f"{kind}num_workers", section.get("num_workers", 0))
    if dataset is None:
        dataset = build_dataset(section[split], config.where(f"DATASET.{split}"), num_classes)
    training, share = split == "train", (distributed.rank(), distributed.world_size())
    if training and dataset.labels is None:
        raise DataError(config.where("DATASET.train"), "the training data has no labels")
    return BatchLoader(
        dataset, build_pipeline(config, split), batch_size, shuffle=training,
        # The short last batch of an epoch is left out, as in PaddleVideo, unless it is the only one.
        drop_last=training and len(dataset) >= batch_size * share[1], num_workers=min(workers, available_cores()),
        seed=seed, mix=mix if training else None, share=share)
