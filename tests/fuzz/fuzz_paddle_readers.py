"""Readers of what only Paddle goes on with: the state of a run."""
import numpy as np
from fuzz_reader import Reader
from paddle.nn import BatchNorm1D, Linear, Sequential

from paddlevideo_skel.errors import CheckpointError
from paddlevideo_skel.training.log import Progress
from paddlevideo_skel.training.optim import build_optimizer, build_schedule
from paddlevideo_skel.training.resume import capture, read_state, restore, write_state

SCHEDULE = {"name": "CustomCosineAnnealingDecay", "iter_step": True, "learning_rate": 0.05, "max_epoch": 2}


def parts():
    """A model, its optimizer, no scaler, and the progress, as a run has them."""
    model = Sequential(Linear(3, 4), BatchNorm1D(4), Linear(4, 2))
    schedule, _ = build_schedule(SCHEDULE, 5, "OPTIMIZER")
    optimizer = build_optimizer({"momentum": 0.9}, schedule, model.parameters())
    return model, optimizer, None, Progress(0)


def training_state(folder):
    """The state put into a model; a folder without one gets it."""
    path, made = folder / "x.pdstate", parts()
    if not path.exists():
        write_state(capture(*made, {"config": {"epochs": 2}, "processes": 1}), path)
    state = read_state(path)
    restore(state, *made)
    model, optimizer, _, progress = made
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return state, weights, progress.state(), optimizer.get_lr()


def goes_on(found):
    state, weights, progress, rate = found
    assert all(np.array_equal(weights[name], state["weights"][name]) for name in weights)
    assert all(np.isfinite(array).all() for array in weights.values())
    assert type(progress["epoch"]) is int and type(progress["step"]) is int and np.isfinite(rate)


READERS = {"training_state": Reader(training_state, (CheckpointError,), goes_on)}
