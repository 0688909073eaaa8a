"""A run that was killed at any moment and resumed ends like one that was not, to the bit."""
import random
import re
import signal
import time

import numpy as np
import paddle
import pytest
from small_config import HARD
from training_runs import assert_same_end, same

from paddlevideo_skel.training.log import Progress
from paddlevideo_skel.training.optim import build_optimizer, build_schedule
from paddlevideo_skel.training.resume import capture, read_state, recorded_environment, restore, write_state


# What a run replaces, in this order: the checks of the data; per epoch a state within it, one after its training, the
# optimizer and weights of the best epoch, those of this one, and the state after them. Each is two calls of fsync: file
# and folder.
@pytest.mark.parametrize("death", [
    ("replace", 2, "after"), ("replace", 5, "before"),
    *(pytest.param(death, marks=pytest.mark.slow) for death in (
        ("replace", 1, "before"), ("replace", 2, "before"), ("fsync", 5, "before"), ("replace", 5, "after"),
        ("fsync", 15, "after"), ("replace", 11, "before")))], ids=lambda death: "-".join(map(str, death)))
def test_killed_while_saving(runner, shared_config, unbroken, tmp_path, death):
    folder = tmp_path / "out"
    status, output = runner.run(shared_config, folder, "--validate", "--resume", overrides=HARD, death=death)
    assert status == -signal.SIGKILL, output
    status, output = runner.run(shared_config, folder, "--validate", "--resume", overrides=HARD)
    assert status == 0, output
    assert_same_end(folder, unbroken)


@pytest.mark.slow
def test_killed_ten_times_at_random_moments(runner, shared_config, unbroken, tmp_path):
    folder, killed, resumed, begun = None, 0, [], time.monotonic()
    assert runner.run(shared_config, tmp_path / "timed", "--validate", overrides=HARD)[0] == 0
    seconds, rng = time.monotonic() - begun, np.random.default_rng()
    for attempt in range(100):
        folder = folder or tmp_path / f"out{attempt}"
        run = runner.start(shared_config, folder, "--validate", "--resume", overrides=HARD)
        time.sleep(rng.uniform(0, seconds))
        run.signal(signal.SIGKILL)
        status, output = run.end()
        resumed += re.findall(r"Resumed at epoch \d after step \d", output)
        if status == 0:  # it was the faster: from the beginning, in another folder
            assert_same_end(folder, unbroken)
            folder = None
            continue
        assert status == -signal.SIGKILL, output
        killed += 1
        if killed == 10:
            break
    status, output = runner.run(shared_config, folder, "--validate", "--resume", overrides=HARD)
    assert status == 0, output
    assert killed == 10 and resumed
    assert_same_end(folder, unbroken)


@pytest.mark.slow
def test_a_distillation_with_workers(runner, distillation_file, tmp_path):
    """A frozen teacher, mixup, dropout, two workers, a validation in every other epoch."""
    overrides = ["MODEL.models.1.Student.head.drop_out=0.3", "DATASET.num_workers=2", "DATASET.batch_size=12",
                 "epochs=3", "val_interval=2", "save_every=1"]
    ends = []
    for name, death in (("whole", None), ("killed", ("replace", 6, "before"))):
        folder = tmp_path / name
        status, output = runner.run(distillation_file, folder, "--validate", "--resume", overrides=overrides,
                                      death=death)
        assert status == (-signal.SIGKILL if death else 0), output
        ends.append(folder)
    status, output = runner.run(distillation_file, folder, "--validate", "--resume", overrides=overrides)
    assert status == 0, output
    assert re.search(r"Resumed at epoch \d after step \d", output)
    assert_same_end(*ends)


class Scaler:
    """Stands in for paddle's scaler, which does nothing on a CPU."""

    def __init__(self, scale):
        self.state = {"scale": np.array([scale], "float32"), "incr_count": 7, "use_dynamic_loss_scaling": True}

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def test_the_state_of_a_scaler_and_of_the_optimizer(tmp_path):
    """Restored into a model whose parameters have other names, as in a new process."""
    def made(scale):
        model = paddle.nn.Sequential(paddle.nn.Linear(3, 2), paddle.nn.BatchNorm1D(2))
        schedule, _ = build_schedule({"name": "CustomCosineAnnealingDecay", "learning_rate": 0.1, "max_epoch": 9,
                                      "iter_step": True}, 4, "here")
        return model, build_optimizer({"momentum": 0.9}, schedule, model.parameters()), Scaler(scale), Progress(3)

    def step(model, optimizer, x):
        (model(x) ** 2).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
        optimizer._learning_rate.step()

    paddle.seed(1)
    one, two = made(512), made(1)
    for _ in range(3):
        step(*one[:2], paddle.randn([5, 3]))
    one[3].epoch, one[3].step, one[3].best = 2, 3, 0.25
    one[3].record["loss"].add(1.5, 8)
    path = tmp_path / "small_last.pdstate"
    write_state(capture(*one, {"config": {"epochs": 1}, "processes": 1}), path)
    expected = paddle.randn([5, 3]).numpy(), np.random.random(), random.random()
    restore(read_state(path), *two)
    assert same((paddle.randn([5, 3]).numpy(), np.random.random(), random.random()), expected)
    assert same(two[2].state, one[2].state)
    assert two[3].state() == one[3].state()
    for _ in range(2):
        x = paddle.randn([5, 3])
        step(*one[:2], x)
        step(*two[:2], x)
    assert same(*({name: value.numpy() for name, value in run[0].state_dict().items()} for run in (one, two)))
    assert one[1].get_lr() == two[1].get_lr() != 0.1


def test_the_keys_of_a_state_stay_so_that_older_ones_resume(unbroken):
    state = read_state(unbroken / "small_last.pdstate")
    assert state["format"] == "training state 1 of paddlevideo_skel"
    # Version 0.1 recorded the implementation under another name.
    old = {"numpy": "1", "PADDLEVIDEO_SKEL_FORMULATION": "products"}
    assert recorded_environment({"surroundings": old}) == {
        "numpy": "1", "PADDLEVIDEO_SKEL_IMPLEMENTATION": "matmul"}
    assert recorded_environment(state) == state["surroundings"]
    assert set(state) == {"format", "identity", "surroundings", "weights", "optimizer", "scaler", "random", "progress"}
    assert set(state["identity"]) == {"config", "seed", "max_iters", "validate", "format", "processes", "device",
                                      "amp_level", "data"}
    assert set(state["optimizer"]) == {"schedule", "velocity", "master_weights"}
    assert set(state["random"][0]) == {"python", "numpy", "paddle"}
    assert set(state["progress"]) == {"epoch", "step", "best", "best_path", "counted", "step_time", "record",
                                      "throughput"}
