"""SIGTERM and Ctrl-C stop a training cleanly: the step is finished, the state saved, no process left."""
import os
import re
import signal
import time
from pathlib import Path

import pytest
from loader_cases import alive
from small_config import HARD
from training_runs import assert_same_end, content

from paddlevideo_skel.errors import StoppedError
from paddlevideo_skel.training import checkpointing

# Slow steps, so that there is time to send a signal during one.
SLOW = """
import time
from paddlevideo_skel.training import trainer
def slowly(real):
    def work(*arguments):
        time.sleep({seconds})
        return real(*arguments)
    return work
trainer.Trainer.{method} = slowly(trainer.Trainer.{method})
"""


def slow(method="train_step", seconds=0.3):
    return SLOW.format(method=method, seconds=seconds)


def no_process_is_left(group):
    deadline = time.monotonic() + 10
    while alive(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(group)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGINT, 2)])
def test_a_signal_finishes_the_step_and_the_run_resumes_later(runner, shared_config, unbroken, tmp_path, number,
                                                               workers):
    folder, overrides = tmp_path / "out", [*HARD, f"DATASET.num_workers={workers}"]
    run = runner.start(shared_config, folder, "--validate", overrides=overrides, prelude=slow())
    run.wait_for("train step:1 ")
    run.signal(number)
    status, output = run.end()
    assert status == 128 + number
    name = signal.Signals(number).name
    found = re.search(rf"error: training: was stopped by {name}; its state after step (\d+) of epoch 1 is in (\S+)",
                      output)
    done = len(re.findall("train step:", output))
    # Every step that was taken is in the state, and no other file was written.
    assert int(found[1]) == done >= 2
    assert content(folder)["small_last.pdstate"]["at"] == (1, done)
    assert {path.name for path in folder.iterdir()} == {"train.log", "vdl", "small_last.pdstate", "examined.json"}
    assert "Traceback" not in output
    assert no_process_is_left(run.pid)
    status, output = runner.run(shared_config, folder, "--validate", "--resume", overrides=overrides)
    assert status == 0, output
    assert len(re.findall("train step:", output)) == 2 * 4 - done
    assert_same_end(folder, unbroken)
    assert len(re.findall("train step:", (folder / "train.log").read_text())) == 2 * 4


@pytest.mark.parametrize(("prelude", "moment"), [
    pytest.param(slow("validate"), "END epoch:1 +train", id="validate"),
    pytest.param(slow("precise_bn"), "END epoch:1 +train", id="precise_bn", marks=pytest.mark.slow)])
def test_a_signal_between_trainings_of_two_epochs(runner, shared_config, unbroken, tmp_path, prelude, moment):
    folder = tmp_path / "out"
    run = runner.start(shared_config, folder, "--validate", overrides=HARD, prelude=prelude)
    run.wait_for(moment)
    run.signal(signal.SIGTERM)
    status, output = run.end()
    assert status == 143
    assert "its state after step 4 of epoch 1 is in" in output
    assert " val loss_avg" not in output
    status, output = runner.run(shared_config, folder, "--validate", "--resume", overrides=HARD)
    assert status == 0, output
    assert_same_end(folder, unbroken)


def test_a_signal_to_the_whole_group_spares_the_workers(runner, shared_config, tmp_path):
    run = runner.start(shared_config, tmp_path / "out", overrides=[*HARD, "DATASET.num_workers=2"], prelude=slow())
    run.wait_for("train step:1 ")
    os.killpg(run.pid, signal.SIGTERM)
    status, output = run.end()
    assert status == 143, output
    assert "was stopped by SIGTERM" in output
    assert no_process_is_left(run.pid)


@pytest.mark.slow
def test_killed_workers_after_a_signal_are_no_error_of_the_data(runner, shared_config, tmp_path):
    run = runner.start(shared_config, tmp_path / "out", overrides=[*HARD, "DATASET.num_workers=2"], prelude=slow())
    run.wait_for("train step:1 ")
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.signal(signal.SIGTERM)
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    status, output = run.end()
    assert (status, "was stopped by SIGTERM" in output) == (143, True), output


@pytest.mark.slow
def test_a_second_signal_ends_at_once(runner, shared_config, tmp_path):
    prelude = slow(seconds=60)
    run = runner.start(shared_config, tmp_path / "out", overrides=[*HARD, "DATASET.num_workers=2"], prelude=prelude)
    run.wait_for("trainable parameters")
    time.sleep(1)
    run.signal(signal.SIGTERM)
    run.wait_for("send the signal again to end it immediately")
    time.sleep(checkpointing.REPEATED + 0.2)
    run.signal(signal.SIGTERM)
    status, _ = run.end()
    assert status == -signal.SIGTERM
    assert no_process_is_left(run.pid)


def test_before_the_first_step_a_signal_ends_at_once(runner, shared_config, tmp_path):
    prelude = "import paddlevideo_skel.training.trainer as t, os\n" \
              "t.distributed.choose_device = lambda config: os.kill(os.getpid(), 15)"
    status, output = runner.run(shared_config, tmp_path / "out", prelude=prelude)
    assert status == 143
    assert "error: training: was stopped by SIGTERM before the first step" in output


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with checkpointing.StopSignals() as signals:
        signals.deferring = True
        signal.raise_signal(signal.SIGINT)
        # Several at once, as launchers send them, are one.
        signal.raise_signal(signal.SIGINT)
        assert signals.number == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    with checkpointing.StopSignals(), pytest.raises(StoppedError) as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.status == 143
