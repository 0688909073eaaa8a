"""A run's state in one file, from which it goes on to the same numbers, to the bit on a CPU.

Weights, optimizer, schedule, scaler, random numbers, position and running means of one moment are in one file that is
replaced as a whole: whenever a run is killed, what is there belongs together. It is read by the restricted reader.
"""
import json
import logging
import os
import pickle
import random
from pathlib import Path

import numpy as np
import paddle

from .. import __version__
from ..checkpoints.load import load_state
from ..errors import CheckpointError, DataError, OutputError, shorten_list
from ..files import replacing
from . import distributed

logger = logging.getLogger(__name__)

FORMAT = "training state 1 of paddlevideo_skel"
# Of the environment, what decides how numbers are rounded.
ROUNDING = ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "PADDLEVIDEO_SKEL_FORMULATION")
# What may be another when a run goes on. Of the data, what is in the files counts, not where they are.
FREE = {"output_dir", "log_level", "log_interval", "save_interval", "keep", "save_every", "METRIC", "INFERENCE",
        "class_names", "seed", "device", "use_gpu", "use_npu"}
FREE_DATA = {"num_workers", "valid_num_workers", "test_num_workers", "test_batch_size"}
FREE_FILES = {"file_path", "label_path"}
SHOWN = 6  # differences in a message


def identify(config, splits, **run):
    """What a run's numbers depend on, as plain data: two runs of the same identity give the same results.

    Args:
        splits: of the data, that the run uses.
        run: seed, number of processes and the like.
    """
    kept = {key: value for key, value in config.items() if key not in FREE}
    kept["PIPELINE"] = {split: kept["PIPELINE"][split] for split in splits}
    kept["DATASET"] = {key: value for key, value in kept["DATASET"].items()
                       if key not in (*FREE_DATA, "train", "valid", "test")}
    for split in splits:
        kept["DATASET"][split] = {key: value for key, value in config["DATASET"][split].items()
                                  if key not in FREE_FILES}
    return json.loads(json.dumps({"config": kept, **run}))


def surroundings():
    """What numbers may depend on in their last bits."""
    return {"paddle": paddle.__version__, "numpy": np.__version__, "paddlevideo_skel": __version__,
            **{name: os.environ.get(name) for name in ROUNDING}}


def differences(old, new, path=""):
    """Lines ``key.path was 1, is 2`` for everything that differs between two nested dicts."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys((*old, *new))
        return [line for key in keys for line in
                differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    return [] if old == new else [f"{path} was {_short(old)}, is {_short(new)}"]


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def capture(model, optimizer, scaler, progress, identity):
    """The state of a run as plain containers, numbers and arrays. All processes call it together.

    Args:
        scaler: of mixed precision, or None.
        progress: ``Progress``.
        identity: from ``identify``.

    Raises:
        DataError: a weight is no longer a finite number; nothing good could go on from that.
    """
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise DataError("training", f"{name} holds a number that is infinite or none")
    return {"format": FORMAT, "identity": identity, "surroundings": surroundings(), "weights": weights,
            "optimizer": _optimizer_state(model, optimizer), "scaler": scaler.state_dict() if scaler else {},
            "random": distributed.gather(_random_state()), "progress": progress.state()}


def restore(state, model, optimizer, scaler, progress):
    """Put a state into what ``capture`` took it from, built anew.

    Raises:
        CheckpointError: it is of another model, or something in it is missing or of the wrong kind.
    """
    try:
        _restore(state, model, optimizer, scaler, progress)
    except CheckpointError:
        raise
    except Exception as error:
        # Anything may be wrong in a damaged state, and Paddle's setters stumble over it in any way.
        raise CheckpointError("--resume", f"the state is damaged ({type(error).__name__}: {error})",
                              "Start another run with -w and the last checkpoint") from error


def _restore(state, model, optimizer, scaler, progress):
    tensors = dict((*model.named_parameters(), *model.named_buffers()))
    shapes = {name: tuple(value.shape) for name, value in state["weights"].items()}
    if shapes != {name: tuple(value.shape) for name, value in model.state_dict().items()}:
        raise CheckpointError("--resume", "the state's weights are not those of this model", "Another version of this "
                              "package wrote it: start another run with -w")
    for name, value in state["weights"].items():
        if not np.isfinite(value).all():
            raise ValueError(f"{name} holds a number that is infinite or none, which is never saved")
        tensors[name].set_value(value.astype(_dtype(tensors[name])))
    _set_optimizer_state(model, optimizer, state["optimizer"])
    if scaler and state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    _set_random_state(state["random"][distributed.rank()])
    progress.load(state["progress"])


def _dtype(tensor):
    return str(tensor.dtype).rpartition(".")[2]


# Paddle names an optimizer's arrays after parameters, and numbers those in the order in which a process makes them.
# In the file they have the names that the state dict gives to parameters.

def _velocity(parameter):
    return f"{parameter.name}_velocity_0"


def _optimizer_state(model, optimizer):
    state, parameters = optimizer.state_dict(), dict(model.named_parameters())
    master = state.pop("master_weights", {})
    kept = {"schedule": state.pop("LR_Scheduler"),
            "velocity": {name: state.pop(_velocity(p)).numpy() for name, p in parameters.items()
                         if _velocity(p) in state},
            "master_weights": {name: master[p.name].numpy() for name, p in parameters.items() if p.name in master}}
    if state:
        raise RuntimeError(f"the optimizer holds what would not be saved: {', '.join(state)}")
    return kept


def _set_optimizer_state(model, optimizer, state):
    parameters = dict(model.named_parameters())

    def named(value, name):
        tensor = paddle.to_tensor(value)
        tensor.name = name  # paddle.save writes it into .pdopt
        return tensor

    arrays = {}
    for name, value in state["velocity"].items():
        key = _velocity(parameters[name])
        arrays[key] = named(value, key)
    if state["master_weights"]:
        arrays["master_weights"] = {parameters[name].name: paddle.to_tensor(value)
                                    for name, value in state["master_weights"].items()}
    optimizer.set_state_dict({**arrays, "LR_Scheduler": state["schedule"]})


def _random_state():
    version, numbers, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    generators = [generator.__getstate__() for generator in paddle.get_rng_state()]
    return {"python": [version, list(numbers), gauss], "numpy": [kind, keys, *rest],
            "paddle": [[*numbers, bytes(text)] for *numbers, text in generators]}


def _set_random_state(state):
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(state["numpy"]))
    kind = type(paddle.get_rng_state()[0])
    generators = [kind.__new__(kind) for _ in state["paddle"]]
    for generator, (*numbers, text) in zip(generators, state["paddle"]):
        generator.__setstate__((*numbers, list(text)))
    paddle.set_rng_state(generators)


def write_state(state, path):
    """Replace the state file as a whole."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(state, file, protocol=4)


def read_state(path):
    """The content of a state file.

    Raises:
        CheckpointError: missing, damaged, or no state of a run.
    """
    state = load_state(path)
    if state.get("format") != FORMAT or not _complete(state):
        raise CheckpointError(path, f"is no {FORMAT}", "--resume takes the .pdstate file that training writes, "
                              "-w the weights of a checkpoint")
    return state


def _complete(state):
    """Whether all is there that is looked at before a model is filled."""
    def has(part, **kinds):
        return isinstance(part, dict) and all(isinstance(part.get(key), kind) for key, kind in kinds.items())

    return (has(state, identity=dict, surroundings=dict, weights=dict, optimizer=dict, scaler=dict, random=list,
                progress=dict) and has(state["identity"], config=dict, processes=int)
            and has(state["identity"]["config"], epochs=int) and has(state["progress"], epoch=int, step=int))


def state_to_resume(resume, folder):
    """The state from which ``--resume`` goes on, or None if there is none yet in the run's own folder.

    Args:
        resume: True for the run's own folder, or the path of a state file or of another run's folder.
        folder: ``RunFolder``.
    """
    if resume is True:
        return read_state(folder.state) if folder.state.exists() else None
    path = Path(resume)
    path = path / folder.state.name if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(path, "there is no such state to resume from", "Give the .pdstate file or its folder; "
                              "--resume alone takes the one in output_dir")
    return read_state(path)


def check_identity(state, identity, where):
    """Refuse to go on as another run.

    Raises:
        CheckpointError: listing what differs.
    """
    found = differences(state["identity"], identity)
    if found:
        found = shorten_list(found, SHOWN, "; ")
        raise CheckpointError(where, f"is of another run: {found}", "A run goes on only as it began, also "
                              "with as many epochs. Give what it began with, or start another run with -w")


def check_free(folder, identity):
    """Refuse to begin anew where another run's work would be lost.

    What may be written over: nothing yet, trials with ``--max_iters``, and a finished run of the same identity, whose
    results come out again.

    Raises:
        OutputError: the folder holds an unfinished run, or a finished one of another identity.
    """
    if not folder.state.exists():
        return
    try:
        state = read_state(folder.state)
    except CheckpointError as error:
        raise OutputError(folder.state, f"holds a run that cannot be read ({error.problem})",
                          "Choose another output_dir, or begin anew over it with --overwrite") from error
    found, at = state["identity"], state["progress"]
    if found.get("max_iters"):
        return
    if at["epoch"] <= found["config"]["epochs"]:
        raise OutputError(folder.path, f"holds an unfinished run, at epoch {at['epoch']} after step {at['step']}",
                          "Go on with --resume; or choose another output_dir, or begin anew over it with --overwrite")
    lines = differences(found, identity)
    if lines:
        lines = shorten_list(lines, SHOWN, "; ")
        raise OutputError(folder.path, f"holds a finished run that was another: {lines}",
                          "Choose another output_dir, or begin anew over it with --overwrite")


def admit(resume_from, overwrite, folder, identity):
    """The state from which a run goes on, or None if it begins; for the first process.

    Raises:
        CheckpointError: what is to be resumed is missing, damaged or another run's.
        OutputError: another run's work would be lost.
    """
    state = state_to_resume(resume_from, folder) if resume_from else None
    if state is not None:
        check_identity(state, identity, folder.state if resume_from is True else resume_from)
        if resume_from is True or Path(resume_from).resolve() in (folder.state.resolve(), folder.path.resolve()):
            return state
    elif resume_from:
        logger.info("There is nothing to resume in %s yet: the run begins", folder.path)
    if not overwrite:
        check_free(folder, identity)
    return state
