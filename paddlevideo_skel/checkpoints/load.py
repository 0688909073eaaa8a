"""Read checkpoints of all supported kinds without executing anything in them. Never imports paddle.

A checkpoint is a ``.pdparams`` file (a pickled dict of NumPy arrays), a ``.safetensors`` file, or one of PyTorch's;
the content decides, not the file name. Wrappers around state dicts and prefixes of wrapped models are removed. The
result is one of:

* one model: ``backbone.*`` and ``head.*``;
* several models trained together: ``Teacher.0.*`` (backbone), ``Teacher.1.*`` (head), ``Student.0.*`` …;
* one of these alone: ``0.*`` and ``1.*``;
* a model of another project, under PyTorch's names: ``foreign`` renames it.
"""
import logging
from pathlib import Path

import numpy as np
import safetensors

from ..errors import CheckpointError, DataError
from ..safe_pickle import load_pickle
from .foreign import is_foreign, rename
from .torch_file import Foreign, Tensor, is_torch, open_torch

logger = logging.getLogger(__name__)

WEIGHTS_FORMATS = ("pdparams", "safetensors")
SAFE_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
              "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
EMA_WRAPPERS = ("state_dict_ema", "ema_state_dict", "model_ema", "ema", "averaged_model")
PREFIXES = ("_layers.", "module.", "_orig_mod.", "averaged_model.", "ema_model.", "ema.", "model.")
# Entries alongside the weights: paddle's table of names, and the number of averaged models.
BOOKKEEPING = ("StructuredToParameterName@@", "n_averaged", "steps")
MAX_WRAPPERS = 4


class Weights(dict):
    """Arrays by name.

    Attributes:
        needs: backbone arguments without which the same weights compute a different function.
    """

    def __init__(self, arrays=(), needs=None):
        super().__init__(arrays)
        self.needs = needs or {}

    @classmethod
    def of(cls, arrays):
        """A mapping as ``Weights``; ``Weights`` stay as they are."""
        return arrays if isinstance(arrays, cls) else cls(arrays)


def load_state(path):
    """The content of a ``.pdparams``, ``.pdopt`` or ``.pdstate`` file, by the restricted reader.

    Raises:
        CheckpointError: missing, truncated, or containing anything but containers, numbers and arrays.
    """
    path = find_checkpoint(path)
    try:
        state = load_pickle(path)
    except DataError as error:
        raise CheckpointError(error.where, error.problem, error.hint) from error
    if not isinstance(state, dict):
        raise CheckpointError(path, f"contains a {type(state).__name__}, expected a state dict")
    return state


def find_checkpoint(path):
    """The file that a path refers to; the suffix may be omitted.

    Raises:
        CheckpointError: there is no such file.
    """
    path = Path(path)
    for suffix in WEIGHTS_FORMATS:
        beside = path.with_name(f"{path.name}.{suffix}")
        if not path.is_file() and beside.is_file():
            return beside
    if not path.is_file():
        raise CheckpointError(path, "checkpoint not found", "Pass the path of a .pdparams, .safetensors or .pth file")
    return path


def read_weights(path):
    """Arrays by the checkpoint's own names, without wrappers and prefixes, and phrases that describe the file."""
    path = find_checkpoint(path)
    with open(path, "rb") as file:
        head = file.read(300)
    if is_torch(head):
        with open_torch(path) as opened:
            weights, words = _unwrap(opened.content, path)
            weights = {name: opened.array(value) if isinstance(value, Tensor) else value
                       for name, value in weights.items()}
            words = [opened.form, *words]
    elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        weights, words = _unwrap(_read_safetensors(path), path)
        words = ["safetensors", *words]
    else:
        weights, words = _unwrap(load_state(path), path)
        words = ["a paddle pickle", *words]
    if not weights:
        raise CheckpointError(path, "contains no weights")
    return weights, words


def load_weights(path):
    """The ``Weights`` of a checkpoint, under PaddleVideo's names; a log line says what was recognised.

    Raises:
        CheckpointError: missing, damaged, without weights, or of an unknown form.
    """
    weights, words = read_weights(path)
    if is_foreign(weights):
        renamed, found = rename(weights, path)
        weights = Weights(renamed, found.needs)
        words.append(found.source)
    if len(words) > 1:
        logger.info("%s: %s", path, "; ".join(words))
    return Weights.of(weights)


def _read_safetensors(path):
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise CheckpointError(path, f"is damaged or truncated ({error})", "Copy or download it again") from error
    arrays = {}
    for name, entry in entries:
        if entry["dtype"] not in SAFE_TYPES:
            raise CheckpointError(path, f"{name} has the type {entry['dtype']}, which is not supported")
        array = np.frombuffer(entry["data"], SAFE_TYPES[entry["dtype"]]).reshape(entry["shape"])
        # NumPy has no bfloat16, which is the upper half of a float32.
        arrays[name] = (array.astype("<u4") << 16).view("<f4") if entry["dtype"] == "BF16" else array
    return arrays


def split_models(weights):
    """The models in a checkpoint: name → ``Weights`` under ``backbone.*`` and ``head.*``; a single one is named ""."""
    weights, models = Weights.of(weights), {}
    for name, value in weights.items():
        owner, _, rest = name.partition(".")
        if owner in ("backbone", "head"):
            owner, rest = "", name
        elif owner in ("0", "1"):
            owner, rest = "", ("backbone." if owner == "0" else "head.") + rest
        elif rest.split(".")[0] in ("0", "1"):
            rest = ("backbone." if rest[0] == "0" else "head.") + rest[2:]
        models.setdefault(owner, Weights(needs=weights.needs))[rest] = value
    return models


def _unwrap(content, where):
    """The state dict inside a checkpoint's ``content``.

    Returns:
        name → ``Tensor`` or array, and a list of phrases that name the removed wrappers and prefixes.

    Raises:
        CheckpointError: there is no state dict, or it has entries that are not arrays.
    """
    words = []
    for _ in range(MAX_WRAPPERS):
        wrapper = _wrapper(content, where)
        if wrapper is None:
            break
        ema = [name for name in EMA_WRAPPERS if isinstance(content.get(name), dict) and name != wrapper]
        words.append(f"wrapped in {wrapper!r}" + (", which contains averaged weights (EMA)" if wrapper in EMA_WRAPPERS
                                                  else f" (not {ema[0]!r}, which is there too)" if ema else ""))
        content = content[wrapper]
    weights = {name: value for name, value in _arrays(content, where).items() if name not in BOOKKEEPING}
    copies = {"ema_" + name.replace(".", "_") for name in weights} & set(weights)
    if copies:
        words.append(f"alongside an average of {len(copies)} entries ('ema_…'), which was ignored")
        weights = {name: value for name, value in weights.items() if name not in copies}
    for _ in range(MAX_WRAPPERS):
        prefix = next((p for p in ("ema_", *PREFIXES) if weights and all(n.startswith(p) for n in weights)), None)
        if prefix is None:
            break
        words.append(f"names with {prefix!r}" + (", averaged weights (EMA)" if "ema" in prefix else ""))
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights, words


def _wrapper(content, where):
    """The key of the state dict, or None if ``content`` is one itself."""
    if isinstance(content, Foreign):
        raise CheckpointError(where, f"contains a whole model, {content!r}, expected a state dict",
                              "Load it with the code that saved it, and save model.state_dict()")
    if not isinstance(content, dict):
        raise CheckpointError(where, f"contains a {type(content).__name__}, expected a state dict")
    for name in (*WRAPPERS, *EMA_WRAPPERS):
        if isinstance(content.get(name), (dict, Foreign)):
            return name
    return None


def _is_numeric(value):
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")


def _arrays(content, where):
    weights = {}
    for name, value in content.items():
        if isinstance(value, tuple) and len(value) == 2:
            value = value[1]  # paddle stores a single tensor as (name, value)
        if name not in BOOKKEEPING and not (isinstance(name, str) and _is_numeric(value)):
            kind = value if isinstance(value, Foreign) else (
                f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}")
            raise CheckpointError(where, f"the entry {name!r} is {kind}, expected an array of numbers",
                                  "Is this an optimizer's state (.pdopt), or a checkpoint in an unknown wrapper? "
                                  f"Known wrappers: {', '.join(map(repr, WRAPPERS + EMA_WRAPPERS))}")
        weights[name] = value
    return weights
