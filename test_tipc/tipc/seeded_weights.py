"""Weights for inference without a training before it: seeded by name, so that they are the same on every host.

    python test_tipc/tipc/seeded_weights.py CONFIG FILE [A.B=VALUE …]
"""
import math
import sys
import zlib
from pathlib import Path

import numpy as np


def draw(name, initial):
    """The value of one entry of a state dict, of the shape of ``initial``; a graph's adjacency keeps its own."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    noise, shape = rng.standard_normal(initial.shape), initial.shape
    if name.endswith("_variance"):
        value = 0.75 + 0.5 * rng.random(shape)
    elif name.endswith(("_mean", ".bias")):
        value = 0.1 * noise
    elif name.endswith(".weight") and initial.ndim == 1:
        value = 1 + 0.1 * noise
    elif name.endswith(".weight"):
        # A Linear's first axis is its inputs, a convolution's its outputs. A Linear is a head: its weights are small
        # enough that no class dominates the softmax, which would hide wrong answers.
        value = 0.4 * noise / math.sqrt(shape[0]) if initial.ndim == 2 else noise / math.sqrt(math.prod(shape[1:]))
    else:
        value = initial
    return np.asarray(value, initial.dtype)


def main(config, path, overrides):
    """Write the weights of a config's model; of several that learn together, of the student."""
    from paddlevideo_skel.checkpoints.fit import save_state
    from paddlevideo_skel.cli import load_paddle
    from paddlevideo_skel.config import load_config

    load_paddle()
    from paddlevideo_skel.build import build_recognizer

    model = build_recognizer(load_config(config, overrides)).main
    state = {name: draw(name, value.numpy()) for name, value in model.state_dict().items()}
    model.set_state_dict(state)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_state(model.state_dict(), path)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
