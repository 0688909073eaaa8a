"""``prepare.sh``: generate or link the files that a params file's commands read.

Lite modes use generated data. Whole modes need the user's own files, in place or linked from the folder in
``TIPC_DATA``.
"""
from . import ascend, ptq, to_onnx
from .needs import data_needs, example_need, provide, weights_need
from .params import NULL, Params
from .train_infer import HEADERS, TRAINERS, read

CHAINS = {chain.MODE: chain for chain in (to_onnx, ascend, ptq)}


def run(path, mode):
    """Prepare the files of a params file for a mode; returns the exit status."""
    if mode in CHAINS:
        return CHAINS[mode].prepare(path)
    params = Params(path, HEADERS) if mode == "benchmark_train" else read(path, mode)
    provide(train_infer_needs(params, mode))
    return 0


def train_infer_needs(params, mode):
    """The files of the chain of ``train_infer`` and of the benchmark."""
    needs = []
    if mode != "whole_infer":
        rest = params.arguments(13) if "whole_train" not in mode else []
        lines = [line for line in TRAINERS if params.key(line) in params.options(15) and params.command(line)]
        for line in lines:
            command = params.command(line) + rest
            splits = ["train"] + ["valid"] * ("--validate" in command)
            needs += data_needs(command, splits, own="whole_train" in mode)
        if params.command(24) and mode != "benchmark_train":
            lite = "lite_infer" in mode
            needs += data_needs(params.command(24) + (rest if lite else []), ["test"], own=not lite)
    else:
        needs += [weights_need(model, params.split(38, export)) for model, export in zip(
            params.options(37), params.options(38)) if export not in NULL]
    if mode != "benchmark_train":
        # If inference names no config, the training's says what a sample is.
        needs.append(example_need(params.value(48), (params.command(16) or []) + params.command(40)))
    return needs
