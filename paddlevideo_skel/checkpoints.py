"""Checkpoints in every form that users hold, read without running anything in them, and fitted to a model.

A checkpoint is a ``.pdparams`` file: a pickled dict of NumPy arrays. The forms:

* one model: ``backbone.*`` and ``head.*``;
* several that learned together: ``Teacher.0.*`` (backbone), ``Teacher.1.*`` (head), ``Student.0.*`` …;
* one of these on its own: ``0.*`` and ``1.*``.

No paddle is needed to read one.
"""
import logging
from collections import Counter
from pathlib import Path

import numpy as np

from .data.pickles import load_pickle
from .errors import CheckpointError, DataError
from .files import replacing

logger = logging.getLogger(__name__)

WRAPPERS = ("_layers.", "module.")
SHOWN = 6


def load_state(path):
    """The plain content of a ``.pdparams`` or ``.pdopt`` file, by the restricted reader.

    Raises:
        CheckpointError: missing, truncated, or holding anything but containers, numbers and arrays.
    """
    path = Path(path)
    if not path.is_file() and path.with_name(path.name + ".pdparams").is_file():
        path = path.with_name(path.name + ".pdparams")
    if not path.is_file():
        raise CheckpointError(path, "no such checkpoint", "Give the path of a .pdparams file")
    try:
        state = load_pickle(path)
    except DataError as error:
        raise CheckpointError(error.where, error.problem, error.hint) from error
    if not isinstance(state, dict):
        raise CheckpointError(path, f"holds a {type(state).__name__}, expected a state dict")
    return state


def load_weights(path):
    """Names and arrays of a ``.pdparams`` file, a dict of float arrays; wrappers' prefixes are taken off."""
    weights = {}
    for name, value in load_state(path).items():
        if name == "StructuredToParameterName@@":
            continue
        if isinstance(value, tuple) and len(value) == 2:
            value = value[1]  # paddle's form of a single tensor: (its name, its value)
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise CheckpointError(path, f"the entry {name!r} is a {type(value).__name__}, expected an array",
                                  "Is this an optimizer's state (.pdopt)?")
        for wrapper in WRAPPERS:
            name = name.removeprefix(wrapper)
        weights[name] = value
    if not weights:
        raise CheckpointError(path, "holds no weights")
    return weights


def split_models(weights):
    """The models in a checkpoint: name → weights under ``backbone.*`` and ``head.*``; a single one is called ""."""
    models = {}
    for name, value in weights.items():
        owner, _, rest = name.partition(".")
        if owner in ("backbone", "head"):
            owner, rest = "", name
        elif owner in ("0", "1"):
            owner, rest = "", ("backbone." if owner == "0" else "head.") + rest
        elif rest.split(".")[0] in ("0", "1"):
            rest = ("backbone." if rest[0] == "0" else "head.") + rest[2:]
        models.setdefault(owner, {})[rest] = value
    return models


def fit_weights(model, weights, where):
    """Put a checkpoint's weights into a model, whichever of the forms both are in.

    Args:
        model: a recognizer. One with several named models takes a file of the same names model by model; from a
            single model's file, frozen models take all of it, and the others what fits by name and shape.
        weights: from ``load_weights``.
        where: the file, for messages.

    Raises:
        CheckpointError: listing the keys that are missing, left over, or of other shapes.
    """
    found = split_models(weights)
    if not hasattr(model, "names"):
        _fit_single(model, _pick(found, where), where)
        return
    if set(model.names) <= set(found):
        for name in model.names:
            _fit_single(model.single(name), found[name], f"{where}: {name}")
        return
    if set(found) != {""}:
        raise CheckpointError(where, f"holds the models {sorted(found)}, the config has {model.names}")
    for name in model.names:
        single = model.single(name)
        if name in model.frozen or len(model.names) == 1:
            _fit_single(single, found[""], f"{where}: {name}")
        else:
            _fit_what_fits(single, found[""], name)


def fit_main(recognizer, weights, where):
    """Put a checkpoint's weights into the model that is tested and exported, and return that model.

    It is the recognizer itself or, of several that learned together, the student; a file of all of them and a file
    of the student alone both do.
    """
    model = getattr(recognizer, "student", recognizer)
    _fit_single(model, _pick(split_models(weights), where, getattr(recognizer, "student_name", "Student")), where)
    return model


def _pick(found, where, name="Student"):
    if len(found) == 1:
        return next(iter(found.values()))
    if name in found:
        logger.info("%s holds the models %s; %s is taken", where, ", ".join(found), name)
        return found[name]
    raise CheckpointError(where, f"holds entries under {sorted(found)}, expected backbone.* and head.*, or {name}.*")


def _fit_single(model, weights, where):
    expected = model.state_dict()
    # PaddleVideo's ST-GCN++ neither trains nor saves the adjacency that the paper makes learnable.
    adjacency = [name for name in expected if name.endswith(".gcn.A") and name not in weights]
    missing = [name for name in expected if name not in weights and name not in adjacency]
    extra = [name for name in weights if name not in expected]
    shapes = [f"{name} {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}" for name in expected
              if name in weights and tuple(weights[name].shape) != tuple(expected[name].shape)]
    problems = [f"{len(names)} {what}: {_shorten(names)}" for what, names in
                (("missing", missing), ("not in the model", extra), ("of another shape", shapes)) if names]
    if problems:
        raise CheckpointError(where, "does not fit the model; " + "; ".join(problems),
                              "Use the config that it was trained with")
    for name, value in weights.items():
        if not np.issubdtype(value.dtype, np.floating) or not np.isfinite(value).all():
            raise CheckpointError(where, f"{name} holds {value.dtype} with NaN or infinity, or no real numbers")
    if adjacency:
        logger.info("%s has no learned adjacency (PaddleVideo does not save it); the graph's own is used in %d blocks",
                    where, len(adjacency))
    own = {name: expected[name].numpy() for name in adjacency}
    model.set_state_dict({**own, **{name: value.astype("float32") for name, value in weights.items()}})


def _fit_what_fits(model, weights, name):
    expected = model.state_dict()
    fitting = {k: v.astype("float32") for k, v in weights.items()
               if k in expected and tuple(v.shape) == tuple(expected[k].shape)}
    if not fitting:
        raise CheckpointError(name, "nothing in the checkpoint fits this model")
    model.set_state_dict({**{k: v.numpy() for k, v in expected.items()}, **fitting})
    others = Counter(".".join(k.split(".")[:2]) for k in expected if k not in fitting)
    logger.info("%s takes %d of its %d entries from the checkpoint%s", name, len(fitting), len(expected),
                f"; new: {', '.join(others)}" if others else "")


def _shorten(names):
    return ", ".join(names[:SHOWN]) + (f" … and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def save_state(state, path):
    """Write a state dict whole or not at all."""
    import paddle

    with replacing(path) as temporary:
        paddle.save(state, str(temporary), protocol=4)
