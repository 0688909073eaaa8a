"""Readers that do what no reader may do: they show that the watch, the limits and the payloads work."""
import os
import pickle
import subprocess
import time

import numpy as np
import yaml
from fuzz_reader import Reader
from fuzz_readers import READERS as SAFE

from paddlevideo_skel.errors import DataError


def as_numpy_does(folder):
    return np.load(folder / "x.npy", allow_pickle=True)


def as_yaml_does(folder):
    return yaml.unsafe_load((folder / "x.yaml").read_text())


def hang(folder):
    return sum(float(np.sort(np.random.default_rng(0).random(1 << 24))[0]) for _ in range(100))


def hoard(folder):
    # Never written to: the address space is limited, and a slow machine would spend its seconds on mapping pages.
    return [np.empty(1 << 28, "uint8") for _ in range(8)]


def hoard_and_say_no(folder):
    try:
        return hoard(folder)
    except MemoryError as error:
        raise DataError(folder, "is too large") from error


def abort(folder):
    os.abort()


def look_elsewhere(folder):
    return open("/etc/hostname", encoding="utf-8").read()


def write_elsewhere(folder):
    (folder.parent / "elsewhere").write_text("x")


def start(folder):
    subprocess.run(["true"], check=True)


def stumble(folder):
    return {}["x"]


def leave(folder):
    raise SystemExit(0)


def half(folder):
    annotation, = SAFE["annotations"].read(folder)
    annotation.keypoint[0, 0, 0, 0] = np.nan
    return [annotation]


def wait(folder):
    time.sleep(3600)


READERS = {function.__name__: Reader(function, (DataError,)) for function in (
    as_numpy_does, as_yaml_does, hang, hoard, hoard_and_say_no, abort, look_elsewhere, write_elsewhere,
    start, stumble, leave, wait)}
READERS["as_pickle_does"] = Reader(lambda folder: pickle.loads((folder / "x.pkl").read_bytes()), (DataError,))
READERS["half"] = Reader(half, (DataError,), SAFE["annotations"].check)
READERS["nothing"] = Reader(lambda folder: None, (DataError,))
