"""Load a checkpoint's weights into a model, and save a model's state to a file."""
import logging
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import safetensors.numpy

from ..errors import CheckpointError, shorten_list
from ..files import replacing
from .load import Weights, split_models
from .mapping import check_numbers

logger = logging.getLogger(__name__)

MAX_LISTED_KEYS = 6  # names in a message
# Entries that depend on the classes or on the skeleton, and may be re-initialised where those differ.
REPLACEABLE = re.compile(r"head\..*|backbone\.(data_bn\..*|conv1\._conv\.weight|edge_importance\.\d+|(.*\.)?P?A)")


def fit_weights(model, weights, where, allow_mismatch=False):
    """Load a checkpoint's weights into a recognizer; each may be a single model or a distillation.

    Args:
        model: a recognizer. A distillation takes a file with the same names model by model; from a single model's
            file, frozen models take all of it, and the others the entries that fit by name and shape.
        weights: from ``load_weights``, or a dict of arrays.
        where: the file, for messages.
        allow_mismatch: entries that depend on the classes or the skeleton (head, data BatchNorm, adjacency, the first
            convolution over heatmaps) keep their initial values where their shapes differ, and are listed; so does
            the head if the checkpoint is a backbone alone.

    Raises:
        CheckpointError: listing the keys that are missing, unexpected, or have other shapes.
    """
    weights = _with_prefix(model.single(model.names[0]) if model.names else model, Weights.of(weights), where)
    found = split_models(weights)
    if not model.names:
        _fit_single(model, _pick(found, where), where, allow_mismatch)
        return
    if set(model.names) <= set(found):
        for name in model.names:
            _fit_single(model.single(name), found[name], f"{where}: {name}", allow_mismatch)
        return
    if set(found) != {""}:
        raise CheckpointError(where, f"contains the models {sorted(found)}, the config has {list(model.names)}")
    for name in model.names:
        single = model.single(name)
        if name in model.frozen or len(model.names) == 1:
            _fit_single(single, found[""], f"{where}: {name}", allow_mismatch)
        else:
            _fit_what_fits(single, found[""], name)


def _with_prefix(model, weights, where):
    """The weights; a backbone that was saved without its recognizer gets the prefix ``backbone.``."""
    bare = {name.removeprefix("backbone.") for name in model.state_dict() if name.startswith("backbone.")}
    if not bare & set(weights):
        return weights
    logger.info("%s: a backbone without a head", where)
    return Weights({f"backbone.{name}": value for name, value in weights.items()}, weights.needs)


def fit_main(recognizer, weights, where):
    """Load a checkpoint's weights into the model that is tested and exported; return that model.

    It is ``recognizer.main``: the recognizer itself, or a distillation's student, from a file of all models or of the
    student alone.

    Raises:
        CheckpointError: see ``fit_weights``.
    """
    model = recognizer.main
    _fit_single(model, _pick(split_models(weights), where, recognizer.main_name or "Student"), where)
    return model


def _pick(found, where, name="Student"):
    if len(found) == 1:
        return next(iter(found.values()))
    if name in found:
        logger.info("%s contains the models %s; using %s", where, ", ".join(found), name)
        return found[name]
    raise CheckpointError(where, f"contains entries under {sorted(found)}, expected backbone.* and head.*, or {name}.*")


def _fit_single(model, weights, where, allow_mismatch=False):
    expected = model.state_dict()
    # PaddleVideo's ST-GCN++ neither trains nor saves the adjacency that the paper makes learnable.
    adjacency = [name for name in expected if name.endswith(".gcn.A") and name not in weights]
    missing = [name for name in expected if name not in weights and name not in adjacency]
    extra = [name for name in weights if name not in expected]
    others = [name for name, value in expected.items()
              if name in weights and tuple(weights[name].shape) != tuple(value.shape)]
    shapes = [f"{name} {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}" for name in others]
    headless = missing == [name for name in expected if name.startswith("head.")]
    replaceable = not extra and (headless or not missing) and all(
        REPLACEABLE.fullmatch(name) and _same_but_inputs(name, weights, expected) for name in others)
    problems = [f"{len(names)} {what}: {shorten_list(names, MAX_LISTED_KEYS)}" for what, names in
                (("missing", missing), ("not in the model", extra), ("with a different shape", shapes)) if names]
    if problems and not (allow_mismatch and replaceable):
        hint = "Use the config that it was trained with"
        if replaceable:
            hint += ("; or, to fine-tune it for other classes or joints, train with --allow_mismatch, which "
                     "re-initialises these entries")
        raise CheckpointError(where, "does not fit the model; " + "; ".join(problems), hint)
    for name, needed in weights.needs.items():
        found = vars(model.backbone).get(name)
        if found != needed:
            raise CheckpointError(where, f"needs {name}: {needed} in the config's backbone, found {found}",
                                  "Set it, or let tools/convert_weights.py write a config for this checkpoint")
    for name, value in weights.items():
        check_numbers(value, name, where)
    if adjacency:
        logger.info("%s has no learned adjacency (PaddleVideo does not save it); %d blocks use the graph's own",
                    where, len(adjacency))
    for line in (*shapes, *(f"{name} (missing)" for name in missing)):
        logger.info("%s: re-initialised (--allow_mismatch): %s", where, line)
    own = {name: expected[name].numpy() for name in [*adjacency, *others, *missing]}
    model.set_state_dict({**{name: value.astype("float32") for name, value in weights.items()}, **own})


def _same_but_inputs(name, weights, expected):
    """Whether shapes may differ: in PoseC3D's first convolution only the number of heatmaps may."""
    if not name.endswith("conv1._conv.weight"):
        return True
    theirs, ours = list(weights[name].shape), list(expected[name].shape)
    return theirs[:1] + theirs[2:] == ours[:1] + ours[2:]


def _fit_what_fits(model, weights, name):
    expected = model.state_dict()
    fitting = {k: v.astype("float32") for k, v in weights.items()
               if k in expected and tuple(v.shape) == tuple(expected[k].shape)}
    if not fitting:
        raise CheckpointError(name, "none of the checkpoint's entries fits this model")
    model.set_state_dict({**{k: v.numpy() for k, v in expected.items()}, **fitting})
    others = Counter(".".join(k.split(".")[:2]) for k in expected if k not in fitting)
    logger.info("%s takes %d of its %d entries from the checkpoint%s", name, len(fitting), len(expected),
                f"; initialised: {', '.join(others)}" if others else "")


def save_state(state, path):
    """Write a state dict atomically: as safetensors by that suffix (weights only), otherwise as paddle's pickle.

    A dict of NumPy arrays is written without importing paddle.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    arrays = all(isinstance(value, np.ndarray) for value in state.values())
    with replacing(path) as temporary:
        if path.suffix == ".safetensors":
            plain = {name: np.ascontiguousarray(value if arrays else value.numpy()) for name, value in state.items()}
            Path(temporary).write_bytes(safetensors.numpy.save(plain, metadata={"format": "pd"}))
        elif arrays:
            with open(temporary, "wb") as file:
                pickle.dump(state, file, protocol=4)
        else:
            import paddle

            paddle.save(state, str(temporary), protocol=4)
