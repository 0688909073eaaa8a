"""Data sets and a config for an export of ``tiny_export``."""
import numpy as np
from paths import ROOT
from tiny_export import SAMPLE, logits, samples

from paddlevideo_skel.config import load_config
from paddlevideo_skel.inference.runtime import RuntimeOptions

CONFIG = ROOT / "configs/recognition/ctrgcn/ctrgcn_lite_utkinect.yaml"
PIPELINE = {"sample": [{"AutoPadding": {"window_size": SAMPLE[1]}}], "transform": []}
CPU = RuntimeOptions(use_gpu=False, use_npu=False)


def write_data(folder, train, test, labels):
    """Two sets as .npy with labels; returns the overrides of a config that reads them."""
    overrides = []
    for split, array, label in (("train", train, np.zeros(len(train), int)), ("test", test, labels)):
        np.save(folder / f"{split}.npy", array)
        where = f"DATASET.{split}"
        overrides += [f"{where}.format=SkeletonDataset", f"{where}.file_path={folder / split}.npy",
                      f"{where}.test_mode=True", f"-{where}.split"]
        if label is not None:
            np.save(folder / f"{split}_label.npy", label)
            overrides.append(f"{where}.label_path={folder / split}_label.npy")
    return overrides


def read_config(folder, train=None, test=None, labels="right"):
    """A config whose test set a float32 model classifies rightly, unless other ``labels`` are given."""
    train, test = samples(20, 3) if train is None else train, samples(50, 4) if test is None else test
    labels = logits(test).argmax(axis=1) if isinstance(labels, str) else labels
    overrides = [word for word in write_data(folder, train, test, labels) if not word.startswith("-")]
    config = load_config(CONFIG, overrides)
    for split in ("train", "test"):
        config["DATASET"][split].pop("split")
    return config
