"""Checkpoints in every form that users hold, read without running anything in them, and fitted to a model.

A checkpoint is a ``.pdparams`` file (a pickled dict of NumPy arrays), a ``.safetensors`` file, or one of PyTorch's;
its content tells which, not its name. Its entries:

* one model: ``backbone.*`` and ``head.*``;
* several that learned together: ``Teacher.0.*`` (backbone), ``Teacher.1.*`` (head), ``Student.0.*`` …;
* one of these on its own: ``0.*`` and ``1.*``;
* a model of another project, in PyTorch's names: ``weights`` renames it.

No paddle is needed to read one.
"""
import logging
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from ..errors import CheckpointError, DataError
from ..files import replacing
from ..safe_pickle import load_pickle
from .foreign import is_foreign, rename
from .torch_file import Tensor, is_torch, open_torch
from .unwrap import unwrap

logger = logging.getLogger(__name__)

FORMATS = ("pdparams", "safetensors")
SAFE_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
              "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}
SHOWN = 6
# What depends on the classes or on the skeleton, and may begin anew where those are others.
REPLACEABLE = re.compile(r"head\..*|backbone\.(data_bn\..*|conv1\._conv\.weight|edge_importance\.\d+|(.*\.)?P?A)")


class Weights(dict):
    """Names and arrays. ``needs``: arguments of the backbone without which the same weights are another function."""

    needs = {}


def load_state(path):
    """The plain content of a ``.pdparams`` or ``.pdopt`` file, by the restricted reader.

    Raises:
        CheckpointError: missing, truncated, or holding anything but containers, numbers and arrays.
    """
    path = find_checkpoint(path)
    try:
        state = load_pickle(path)
    except DataError as error:
        raise CheckpointError(error.where, error.problem, error.hint) from error
    if not isinstance(state, dict):
        raise CheckpointError(path, f"holds a {type(state).__name__}, expected a state dict")
    return state


def find_checkpoint(path):
    """The file that a path means, whose suffix may be left out."""
    path = Path(path)
    for suffix in FORMATS:
        beside = path.with_name(f"{path.name}.{suffix}")
        if not path.is_file() and beside.is_file():
            return beside
    if not path.is_file():
        raise CheckpointError(path, "no such checkpoint", "Give the path of a .pdparams, .safetensors or .pth file")
    return path


def read_weights(path):
    """Names and arrays of a checkpoint as they stand in it, wrappers taken off, and words that say what it is."""
    path = find_checkpoint(path)
    with open(path, "rb") as file:
        head = file.read(300)
    if is_torch(head):
        with open_torch(path) as opened:
            weights, words = unwrap(opened.content, path)
            weights = {name: opened.array(value) if isinstance(value, Tensor) else value
                       for name, value in weights.items()}
            words = [opened.form, *words]
    elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        weights, words = unwrap(_read_safetensors(path), path)
        words = ["safetensors", *words]
    else:
        weights, words = unwrap(load_state(path), path)
        words = ["a pickle of paddle's", *words]
    if not weights:
        raise CheckpointError(path, "holds no weights")
    return weights, words


def load_weights(path):
    """Names and arrays of a checkpoint, under PaddleVideo's names; a line says what was recognised.

    Wrappers are taken off, and models of other projects renamed (see ``weights``).

    Raises:
        CheckpointError: missing, damaged, no weights in it, or of an unknown form.
    """
    weights, words = read_weights(path)
    if is_foreign(weights):
        renamed, found = rename(weights, path)
        weights = Weights(renamed)
        weights.needs = found.needs
        words.append(found.source)
    if len(words) > 1:
        logger.info("%s: %s", path, "; ".join(words))
    return weights


def _read_safetensors(path):
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise CheckpointError(path, f"is damaged or cut short ({error})", "Copy or download it again") from error
    arrays = {}
    for name, entry in entries:
        if entry["dtype"] not in SAFE_TYPES:
            raise CheckpointError(path, f"{name} holds numbers of the type {entry['dtype']}, which is not read")
        array = np.frombuffer(entry["data"], SAFE_TYPES[entry["dtype"]]).reshape(entry["shape"])
        # NumPy has no bfloat16: it is the upper half of a float32.
        arrays[name] = (array.astype("<u4") << 16).view("<f4") if entry["dtype"] == "BF16" else array
    return arrays


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
        models.setdefault(owner, Weights())[rest] = value
    for model in models.values():
        model.needs = getattr(weights, "needs", {})
    return models


def fit_weights(model, weights, where, allow_mismatch=False):
    """Put a checkpoint's weights into a model, whichever of the forms both are in.

    Args:
        model: a recognizer. One with several named models takes a file of the same names model by model; from a
            single model's file, frozen models take all of it, and the others what fits by name and shape.
        weights: from ``load_weights``.
        where: the file, for messages.
        allow_mismatch: entries that depend on the classes or the skeleton (head, data BatchNorm, adjacency, the first
            convolution over heatmaps) keep their new values where their shapes differ, and are listed; so does the
            head where the checkpoint is a backbone alone.

    Raises:
        CheckpointError: listing the keys that are missing, left over, or of other shapes.
    """
    several = bool(model.names)
    found = split_models(_backbone_alone(model.single(model.names[0]) if several else model, weights, where))
    if not several:
        _fit_single(model, _pick(found, where), where, allow_mismatch)
        return
    if set(model.names) <= set(found):
        for name in model.names:
            _fit_single(model.single(name), found[name], f"{where}: {name}", allow_mismatch)
        return
    if set(found) != {""}:
        raise CheckpointError(where, f"holds the models {sorted(found)}, the config has {list(model.names)}")
    for name in model.names:
        single = model.single(name)
        if name in model.frozen or len(model.names) == 1:
            _fit_single(single, found[""], f"{where}: {name}", allow_mismatch)
        else:
            _fit_what_fits(single, found[""], name)


def _backbone_alone(model, weights, where):
    """The weights; names of a backbone that was saved without its recognizer get ``backbone.`` before them."""
    bare = {name.removeprefix("backbone.") for name in model.state_dict() if name.startswith("backbone.")}
    if not bare & set(weights):
        return weights
    logger.info("%s: a backbone alone", where)
    renamed = Weights({f"backbone.{name}": value for name, value in weights.items()})
    renamed.needs = getattr(weights, "needs", {})
    return renamed


def fit_main(recognizer, weights, where):
    """Put a checkpoint's weights into the model that is tested and exported, and return that model.

    It is the recognizer itself or, of several that learned together, the student; a file of all of them and a file
    of the student alone both do.
    """
    model = recognizer.main
    _fit_single(model, _pick(split_models(weights), where, recognizer.main_name), where)
    return model


def _pick(found, where, name="Student"):
    if len(found) == 1:
        return next(iter(found.values()))
    if name in found:
        logger.info("%s holds the models %s; %s is taken", where, ", ".join(found), name)
        return found[name]
    raise CheckpointError(where, f"holds entries under {sorted(found)}, expected backbone.* and head.*, or {name}.*")


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
    problems = [f"{len(names)} {what}: {_shorten(names)}" for what, names in
                (("missing", missing), ("not in the model", extra), ("of another shape", shapes)) if names]
    if problems and not (allow_mismatch and replaceable):
        hint = "Use the config that it was trained with"
        if replaceable:
            hint += ("; or, to fine-tune it for other classes or joints, train with --allow_mismatch: these entries "
                     "then begin anew")
        raise CheckpointError(where, "does not fit the model; " + "; ".join(problems), hint)
    for name, value in weights.needs.items():
        if getattr(model.backbone, name, None) != value:
            raise CheckpointError(where, f"needs {name}: {value} in the config's backbone, found "
                                  f"{getattr(model.backbone, name, None)}", "Set it, or let tools/convert_weights.py "
                                  "write a config for this checkpoint")
    for name, value in weights.items():
        if not np.issubdtype(value.dtype, np.floating) or not np.isfinite(value).all():
            raise CheckpointError(where, f"{name} holds {value.dtype} with NaN or infinity, or no real numbers")
    if adjacency:
        logger.info("%s has no learned adjacency (PaddleVideo does not save it); the graph's own is used in %d blocks",
                    where, len(adjacency))
    for line in (*shapes, *(f"{name} is not there" for name in missing)):
        logger.info("%s: begins anew (--allow_mismatch): %s", where, line)
    own = {name: expected[name].numpy() for name in [*adjacency, *others, *missing]}
    model.set_state_dict({**{name: value.astype("float32") for name, value in weights.items()}, **own})


def _same_but_inputs(name, weights, expected):
    """Of PoseC3D's first convolution only the number of heatmaps may differ."""
    if not name.endswith("conv1._conv.weight"):
        return True
    theirs, ours = list(weights[name].shape), list(expected[name].shape)
    return theirs[:1] + theirs[2:] == ours[:1] + ours[2:]


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
    """Write a state dict whole or not at all: safetensors by that suffix (weights only), else paddle's pickle.

    A dict of NumPy arrays is written without paddle.
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
