"""The state dict inside what a checkpoint holds: trainers wrap it, and models that wrap models prefix its names."""
import numpy as np

from ..errors import CheckpointError
from .torch_file import Foreign, Tensor

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
EMA_WRAPPERS = ("state_dict_ema", "ema_state_dict", "model_ema", "ema", "averaged_model")
PREFIXES = ("_layers.", "module.", "_orig_mod.", "averaged_model.", "ema_model.", "ema.", "model.")
# Beside the weights: paddle's table of names, and how many models an average is made of.
BOOKKEEPING = ("StructuredToParameterName@@", "n_averaged", "steps")
MAX_DEPTH = 4


def unwrap(content, where):
    """The state dict in ``content``.

    Returns:
        name → ``Tensor`` or array, and a list of words that say what was taken off.

    Raises:
        CheckpointError: there is none, or something else than arrays stands in it.
    """
    words = []
    for _ in range(MAX_DEPTH):
        wrapper = _wrapper(content, where)
        if wrapper is None:
            break
        ema = [name for name in EMA_WRAPPERS if isinstance(content.get(name), dict) and name != wrapper]
        words.append(f"wrapped in {wrapper!r}" + (", which holds averaged weights (EMA)" if wrapper in EMA_WRAPPERS
                                                  else f" (not {ema[0]!r}, which is there too)" if ema else ""))
        content = content[wrapper]
    weights = {name: value for name, value in _arrays(content, where).items() if name not in BOOKKEEPING}
    copies = {"ema_" + name.replace(".", "_") for name in weights} & set(weights)
    if copies:
        words.append(f"beside an average of {len(copies)} entries ('ema_…'), which was not taken")
        weights = {name: value for name, value in weights.items() if name not in copies}
    for _ in range(MAX_DEPTH):
        prefix = next((p for p in ("ema_", *PREFIXES) if weights and all(n.startswith(p) for n in weights)), None)
        if prefix is None:
            break
        words.append(f"names with {prefix!r}" + (", averaged weights (EMA)" if "ema" in prefix else ""))
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights, words


def _wrapper(content, where):
    """The key under which the state dict stands, or None where ``content`` is one itself."""
    if isinstance(content, Foreign):
        raise CheckpointError(where, f"holds a whole model, {content!r}, expected a state dict",
                              "Load it with the code that it was made with, and save model.state_dict()")
    if not isinstance(content, dict):
        raise CheckpointError(where, f"holds a {type(content).__name__}, expected a state dict")
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
            value = value[1]  # paddle's form of a single tensor: (its name, its value)
        if name not in BOOKKEEPING and not (isinstance(name, str) and _is_numeric(value)):
            kind = value if isinstance(value, Foreign) else (
                f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}")
            raise CheckpointError(where, f"the entry {name!r} is {kind}, expected an array of numbers",
                                  "Is this an optimizer's state (.pdopt), or a checkpoint wrapped in an unusual way? "
                                  f"The wrappers that are known: {', '.join(map(repr, WRAPPERS + EMA_WRAPPERS))}")
        weights[name] = value
    return weights
