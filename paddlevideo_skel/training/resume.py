"""The state of a run in one file, from which it resumes with the same results, bit for bit on a CPU.

Weights, optimizer, schedule, scaler, random states, position and running means are saved together in one file that is
replaced atomically: whenever a run is killed, the file is consistent. It is read by the restricted reader.

A run may resume only if its fingerprint equals that of the state. The fingerprint is the config without the keys that
do not affect results, plus seed, processes, device, precision, and a digest of the data.
"""
import logging
import os
import pickle
import random
from pathlib import Path

import numpy as np
import paddle

from .. import __version__
from ..checkpoints.load import load_state
from ..errors import CheckpointError, DataError, OutputError
from ..files import replacing
from ..manifest import differences, summarize, to_json_like
from ..models import cpu
from . import distributed

logger = logging.getLogger(__name__)

# States of version 0.1 resume too: the keys ``identity`` (the fingerprint) and ``surroundings`` (the environment) stay.
STATE_FORMAT = "training state 1 of paddlevideo_skel"
# Environment variables that affect rounding.
ROUNDING_VARIABLES = ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")
# Keys that may change when a run resumes. Of the data, the files' content counts, not where they are.
FREE_KEYS = {"output_dir", "log_level", "log_interval", "save_interval", "keep", "save_every", "METRIC", "INFERENCE",
             "class_names", "seed", "device", "use_gpu", "use_npu"}
FREE_DATA_KEYS = {"num_workers", "valid_num_workers", "test_num_workers", "test_batch_size"}
FREE_FILE_KEYS = {"file_path", "label_path"}


def run_fingerprint(config, splits, **run):
    """What the results of a run depend on, as plain data: two runs with the same fingerprint give the same results.

    Args:
        splits: the splits of the data that the run uses.
        run: seed, number of processes etc.
    """
    kept = {key: value for key, value in config.items() if key not in FREE_KEYS}
    kept["PIPELINE"] = {split: kept["PIPELINE"][split] for split in splits}
    kept["DATASET"] = {key: value for key, value in kept["DATASET"].items()
                       if key not in (*FREE_DATA_KEYS, "train", "valid", "test")}
    for split in splits:
        kept["DATASET"][split] = {key: value for key, value in config["DATASET"][split].items()
                                  if key not in FREE_FILE_KEYS}
    return to_json_like({"config": kept, **run})


def environment():
    """Versions and variables that may affect results in the last bits."""
    return {"paddle": paddle.__version__, "numpy": np.__version__, "paddlevideo_skel": __version__,
            **{name: os.environ.get(name) for name in ROUNDING_VARIABLES}, cpu.VARIABLE: cpu.requested_implementation()}


def recorded_environment(state):
    """The ``environment`` in which a state was saved; version 0.1 had another name for the implementation."""
    found = dict(state["surroundings"])
    if cpu.OLD_VARIABLE in found:
        old = found.pop(cpu.OLD_VARIABLE)
        found[cpu.VARIABLE] = cpu.OLD_NAMES.get(old, old)
    return found


def capture(model, optimizer, scaler, progress, fingerprint):
    """The state of a run as plain containers, numbers and arrays. All processes call it together.

    Args:
        scaler: of mixed precision, or None.
        progress: ``Progress``.
        fingerprint: from ``run_fingerprint``.

    Raises:
        DataError: a weight is NaN or infinite; such a state is not worth resuming.
    """
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise DataError("training", f"{name} contains NaN or infinity")
    return {"format": STATE_FORMAT, "identity": fingerprint, "surroundings": environment(), "weights": weights,
            "optimizer": _optimizer_state(model, optimizer), "scaler": scaler.state_dict() if scaler else {},
            "random": distributed.gather(_random_state()), "progress": progress.state()}


def restore(state, model, optimizer, scaler, progress):
    """Put a state into a newly built model, optimizer, scaler and ``Progress``.

    Raises:
        CheckpointError: the state is another model's, or something in it is missing or has the wrong type.
    """
    try:
        _restore(state, model, optimizer, scaler, progress)
    except CheckpointError:
        raise
    except Exception as error:
        # A damaged state may contain anything, and paddle's setters may raise any exception.
        raise CheckpointError("--resume", f"the state is damaged ({type(error).__name__}: {error})",
                              "Start a new run with -w and the last checkpoint") from error


def _restore(state, model, optimizer, scaler, progress):
    tensors = dict((*model.named_parameters(), *model.named_buffers()))
    shapes = {name: tuple(value.shape) for name, value in state["weights"].items()}
    if shapes != {name: tuple(value.shape) for name, value in model.state_dict().items()}:
        raise CheckpointError("--resume", "the state's weights do not fit this model", "It was written by "
                              "another version of this package: start a new run with -w and the last checkpoint")
    for name, value in state["weights"].items():
        if not np.isfinite(value).all():
            raise ValueError(f"{name} contains NaN or infinity, which is never saved")
        tensors[name].set_value(value.astype(_dtype(tensors[name])))
    _set_optimizer_state(model, optimizer, state["optimizer"])
    if scaler and state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    _set_random_state(state["random"][distributed.rank()])
    progress.load(state["progress"])


def _dtype(tensor):
    return str(tensor.dtype).rpartition(".")[2]


# Paddle names an optimizer's arrays after parameters, which it numbers in the order in which a process creates them.
# The file has the parameters' names in the state dict instead.

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
        raise RuntimeError(f"the optimizer has entries that cannot be saved: {', '.join(state)}")
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
        CheckpointError: missing, damaged, or not the state of a run.
    """
    state = load_state(path)
    if state.get("format") != STATE_FORMAT or not _complete(state):
        raise CheckpointError(path, f"is not a {STATE_FORMAT}", "--resume takes a run's .pdstate file, -w a "
                              "checkpoint's weights")
    return state


def _complete(state):
    """Whether all entries exist that are used before the model is filled."""
    def has(part, **types):
        return isinstance(part, dict) and all(isinstance(part.get(key), kind) for key, kind in types.items())

    return (has(state, identity=dict, surroundings=dict, weights=dict, optimizer=dict, scaler=dict, random=list,
                progress=dict) and has(state["identity"], config=dict, processes=int)
            and has(state["identity"]["config"], epochs=int) and has(state["progress"], epoch=int, step=int))


def resume_or_start(resume, overwrite, run_dir, fingerprint):
    """The state from which a run resumes, or None if it starts; the first process calls it.

    Args:
        resume: None; True for the run in its own folder; or the path of a state file or of another run's folder.
        overwrite: start even if another run's work in the folder is lost.
        run_dir: ``RunDir``.
        fingerprint: from ``run_fingerprint``.

    Raises:
        CheckpointError: the state to resume is missing, damaged or belongs to another run.
        OutputError: another run's work would be lost.
    """
    state = _state_to_resume(resume, run_dir) if resume else None
    if state is not None:
        _check_same_run(state, fingerprint, run_dir.state if resume is True else resume)
        if resume is True or Path(resume).resolve() in (run_dir.state.resolve(), run_dir.path.resolve()):
            return state
    elif resume:
        logger.info("Nothing to resume in %s: starting a new run", run_dir.path)
    if not overwrite:
        _check_nothing_lost(run_dir, fingerprint)
    return state


def _state_to_resume(resume, run_dir):
    """The state that ``--resume`` means, or None if there is none yet in the run's own folder."""
    if resume is True:
        return read_state(run_dir.state) if run_dir.state.exists() else None
    path = Path(resume)
    path = path / run_dir.state.name if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(path, "state file not found", "Pass the .pdstate file or its folder; --resume "
                              "without a path uses the one in output_dir")
    return read_state(path)


def _check_same_run(state, fingerprint, where):
    lines = differences(state["identity"], fingerprint)
    if lines:
        raise CheckpointError(where, f"belongs to another run: {summarize(lines)}", "A run resumes only with its "
                              "original settings, including epochs. Use those, or start a new run with -w")


def _check_nothing_lost(run_dir, fingerprint):
    """Refuse to start over another run's work.

    May be overwritten: trials with ``--max_iters``, and a finished run with the same fingerprint, because its results
    will be the same.
    """
    if not run_dir.state.exists():
        return
    hint = "Choose another output_dir, or start over with --overwrite"
    try:
        state = read_state(run_dir.state)
    except CheckpointError as error:
        raise OutputError(run_dir.state, f"contains a run that cannot be read ({error.problem})", hint) from error
    found, progress = state["identity"], state["progress"]
    if found.get("max_iters"):
        return
    if progress["epoch"] <= found["config"]["epochs"]:
        raise OutputError(run_dir.path, f"contains an unfinished run, at epoch {progress['epoch']} after step "
                          f"{progress['step']}", f"Continue it with --resume. {hint}")
    lines = differences(found, fingerprint)
    if lines:
        raise OutputError(run_dir.path, f"contains another, finished run: {summarize(lines)}", hint)
