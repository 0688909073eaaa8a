"""The readers of configs, of the chains' params files, and of checkpoints.

What ``checks`` say of a value is what the reader's own documentation promises, written here once more.
"""
import json

import numpy as np
from compare_results import read_answers
from fuzz_data_readers import is_plain
from fuzz_reader import READERS, checks, reader
from tipc.params import Params

from paddlevideo_skel.checkpoints.foreign import rename
from paddlevideo_skel.checkpoints.load import load_state, load_weights, read_weights, split_models
from paddlevideo_skel.config import Config, apply_override, class_names, load_config, num_classes
from paddlevideo_skel.config_schema import TOP_LEVEL
from paddlevideo_skel.errors import CheckpointError, ConfigError


@reader(ConfigError)
def config(folder):
    found = load_config(folder / "x.yaml")
    return dict(found), class_names(found, num_classes(found))


@checks("config")
def is_config(found):
    content, names = found
    assert set(content) <= set(TOP_LEVEL)
    assert names is None or all(isinstance(name, str) for name in names)
    assert _values(content) <= 100_000


def _values(value):
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_values, items))


@reader(ConfigError)
def config_override(folder):
    found = Config(load_config(folder / "x.yaml"))
    apply_override(found, (folder / "override.txt").read_text(encoding="utf-8", errors="replace"))
    return dict(found)


@reader(ConfigError)
def tipc_params(folder):
    params = Params(folder / "params.txt", {1: "train_params"})
    for number in range(2, len(params.lines) + 1):
        if ":" in params.lines[number - 1]:
            params.key(number), params.options(number), params.arguments(number), params.command(number)
    return params.model


@reader()
def recorded_answers(folder):
    return read_answers(folder / "log.txt")


# Checkpoints.

@reader(CheckpointError)
def state(folder):
    return load_state(folder / "x.pdparams")


@checks("state")
def is_plain_dict(value):
    assert isinstance(value, dict)
    is_plain(value)


@reader(CheckpointError)
def weights(folder):
    return split_models(load_weights(folder / "x.pdparams"))


@reader(CheckpointError)
def torch_weights(folder):
    return read_weights(folder / "x.pth")[0]


@checks("weights")
def are_models(models):
    for entries in models.values():
        are_arrays(entries)


@checks("torch_weights")
def are_arrays(entries):
    assert entries
    for name, array in entries.items():
        assert isinstance(name, str) and isinstance(array, np.ndarray) and array.dtype.kind in "biuf", array.dtype
        array.tobytes()


@reader(CheckpointError, ConfigError)
def foreign_weights(folder):
    """Names and shapes from a JSON file, with ones for numbers: the tensors under our names."""
    told = json.loads((folder / "shapes.json").read_text())
    state = {name: np.broadcast_to(np.float32(1), shape) for name, shape in told["shapes"].items()}
    return rename(state, "checkpoint", told["layout"])[0]


READERS["foreign_weights"].check = are_arrays
