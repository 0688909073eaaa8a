"""Two processes compute together what one computes, and neither waits for ever for the other if it failed."""
import hashlib
import json
import os
import re
import signal
import time

import numpy as np
import paddle
import pytest
from launcher import endless, launch, main_process, wait_for
from loader_cases import Made
from paths import ROOT
from small_config import CONFIG
from training_runs import content, metrics, same

from paddlevideo_skel.build import build_recognizer
from paddlevideo_skel.checkpoints.load import load_weights, split_models
from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.loader import BatchLoader
from paddlevideo_skel.data.pipeline import Pipeline
from paddlevideo_skel.models.cpu import VARIABLE
from paddlevideo_skel.training import resume
from paddlevideo_skel.training.data import make_loader
from paddlevideo_skel.training.test import test as run_test
from paddlevideo_skel.training.trainer import Trainer, TrainOptions, train

# What main.py does, and a digest of the weights that each process ends with.
SCRIPT = """
import hashlib, sys
from pathlib import Path
from paddlevideo_skel.config import load_config
from paddlevideo_skel.training import distributed
from paddlevideo_skel.training.trainer import Trainer, TrainOptions

folder, config, *overrides = sys.argv[1:]
trainer = Trainer(load_config(config, overrides), TrainOptions(validate=True, seed=5))
start = trainer.recognizer.head.fc_cls.weight.numpy().tobytes()
trainer.run()
trainer.close()
weights = b"".join(p.numpy().tobytes() for p in trainer.recognizer.parameters() if not p.stop_gradient)
Path(folder, f"rank{distributed.rank()}").write_text(
    hashlib.sha256(start).hexdigest() + hashlib.sha256(weights).hexdigest())
"""


@pytest.fixture(scope="module")
def together(sample_set, tmp_path_factory):
    """A training of two processes with validation: (folder, log, config's path, overrides)."""
    folder = tmp_path_factory.mktemp("together")
    config = folder / "small.yaml"
    config.write_text(CONFIG.format(folder=sample_set))
    script = folder / "train_and_tell.py"
    script.write_text(SCRIPT)
    # Three batches of 16 samples: one process has two of them, the other one. Dropout differs between them.
    overrides = ["DATASET.batch_size=4", "DATASET.valid_batch_size=6", "DATASET.test_batch_size=6",
                 "MODEL.head.dropout=0.5", "epochs=3", "DATASET.num_workers=1", "DATASET.train.repeat_times=3"]
    status, logs = launch(folder, script, folder, config, f"output_dir={folder / 'out'}", *overrides)
    assert status == 0, logs
    return folder, logs, config, overrides


def test_all_processes_end_with_the_same_weights(together):
    folder, *_ = together
    first, second = ((folder / f"rank{i}").read_text() for i in range(2))
    assert first == second
    assert first[:64] != first[64:]
    # They are those that were saved, in the same order.
    recognizer = build_recognizer(load_config(together[2]))
    saved = load_weights(folder / "out" / "small_epoch_00003.pdparams")
    weights = b"".join(saved[name].tobytes() for name, p in recognizer.named_parameters() if not p.stop_gradient)
    assert hashlib.sha256(weights).hexdigest() == first[64:]


def test_one_process_logs_and_writes(together):
    folder, logs, *_ = together
    names = {path.name for path in (folder / "out").iterdir()} - {"vdl"}
    checkpoints = {f"small_{suffix}.{kind}" for kind in ("pdparams", "pdopt")
                   for suffix in ("best", "epoch_00001", "epoch_00002", "epoch_00003")}
    assert names == {"train.log", "small_last.pdstate", "examined.json"} | checkpoints
    assert "train step" not in logs[1]
    log = (folder / "out" / "train.log").read_text()
    assert "2 processes, 8 samples per iteration, 4 in each" in log
    assert len(re.findall(r"train step:", log)) == 3 * (32 * 3 // 8)
    assert len(re.findall(r"epoch \d FPS: [\d.]+ \(samples per second, 2 devices", log)) == 3
    assert len(re.findall(r"run FPS: [\d.]+ \(", log)) == 1
    assert not any(name.startswith("_layers") for name in load_weights(folder / "out" / "small_best.pdparams"))


def test_validation_over_the_processes_is_that_of_the_checkpoint(together):
    folder, _, config, overrides = together
    log = (folder / "out" / "train.log").read_text()
    last = [line for line in log.splitlines() if " val loss_avg" in line][-1]
    tested = run_test(load_config(config, overrides), folder / "out" / "small_epoch_00003.pdparams")
    losses = [-np.log(sample["scores"][sample["label"]]) for sample in tested["samples"]]
    assert len(losses) == 16
    assert float(re.search(r"loss_avg: ([\d.]+)", last)[1]) == pytest.approx(np.mean(losses), abs=2e-5)
    assert float(re.search(r"top1_avg: ([\d.]+)", last)[1]) == pytest.approx(tested["top1"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [True, False])
def test_a_test_of_two_processes_gives_the_file_of_one(together, sample_set, tmp_path, labels):
    folder, _, config, overrides = together
    weights = folder / "out" / "small_best.pdparams"
    overrides = [*overrides, f"METRIC.out_file={tmp_path}/submission.csv"]
    if not labels:
        data = sample_set / "ntu" / "xsub" / "val_data.npy"
        overrides.append(f"DATASET.test={{format: SkeletonDataset, file_path: {data}, test_mode: True}}")
        overrides.append("PIPELINE.test.transform.2.UniformSampleFrames.num_clips=1")
    run_test(load_config(config, overrides), weights, tmp_path / "one.json")
    alone = (tmp_path / "submission.csv").read_text() if not labels else None
    options = [part for override in overrides for part in ("-o", override)]
    status, logs = launch(tmp_path, ROOT / "main.py", "--test", "-c", config, *options, "-w", weights, "--out",
                          tmp_path / "two.json")
    assert status == 0, logs
    assert json.loads((tmp_path / "one.json").read_text()) == json.loads((tmp_path / "two.json").read_text())
    assert "[TEST] Processing batch 2/3 ..." in logs[0]
    if labels:
        assert "[TEST] finished, avg_acc1=" in logs[0]
        assert (tmp_path / "two_confusion.png").exists() == (tmp_path / "one_confusion.png").exists()
    else:
        assert (tmp_path / "submission.csv").read_text() == alone
    assert "[TEST]" not in logs[1]


@pytest.mark.slow
def test_the_first_step_takes_the_mean_of_the_processes_gradients(config_file, tmp_path):
    overrides = ["DATASET.batch_size=4", "OPTIMIZER.learning_rate=0.05", "epochs=1"]
    options = [part for override in [*overrides, f"output_dir={tmp_path / 'out'}"] for part in ("-o", override)]
    status, logs = launch(tmp_path, ROOT / "main.py", "-c", config_file, *options, "--max_iters", "1", "--seed", "5",
                          "--fleet")
    assert status == 0, logs
    found = load_weights(tmp_path / "out" / "small_epoch_00001.pdparams")

    config = load_config(config_file, ["DATASET.batch_size=8"])
    whole = next(make_loader(config, "train", 4, seed=5).batches(1))
    paddle.seed(5)
    model = build_recognizer(config)
    learning = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
    start = {name: p.numpy().copy() for name, p in learning.items()}
    gradients, statistics = [], []
    for half in (slice(0, 4), slice(4, 8)):
        model.train()
        model.clear_gradients()
        for layer in model.sublayers():
            if hasattr(layer, "_mean"):
                layer._mean.set_value(paddle.zeros_like(layer._mean))
                layer._variance.set_value(paddle.ones_like(layer._variance))
        logits = model(paddle.to_tensor(whole.array[half]))
        paddle.nn.functional.cross_entropy(logits, paddle.to_tensor(whole.label[half])).backward()
        gradients.append({name: p.grad.numpy().copy() for name, p in learning.items()})
        statistics.append({name: p.numpy().copy() for name, p in model.named_parameters() if p.stop_gradient})
    for name, weight in start.items():
        # Nesterov's first step: the velocity is the gradient itself.
        gradient = (gradients[0][name] + gradients[1][name]) / 2 + 5e-4 * weight
        np.testing.assert_allclose(found[name], weight - 0.05 * (1 + 0.9) * gradient, atol=2e-6, rtol=1e-4)
    moved = max(np.abs(found[name] - weight).max() for name, weight in start.items())
    assert moved > 1e-2
    # Running statistics are each process's own; those of the first are saved.
    for name in ("backbone.data_bn._mean", "backbone.data_bn._variance"):
        np.testing.assert_allclose(found[name], statistics[0][name], atol=1e-6)
        assert np.abs(found[name] - statistics[1][name]).max() > 1e-4


@pytest.mark.slow
def test_distillation_with_workers_by_the_launcher_of_the_documentation(distillation_file, tmp_path):
    options = ["-o", f"output_dir={tmp_path / 'out'}", "-o", "DATASET.num_workers=2", "-o", "DATASET.batch_size=4"]
    status, logs = launch(tmp_path, ROOT / "main.py", "--validate", "-c", distillation_file, *options, "--seed", "5",
                          options=("--backend", "gloo"), PADDLE_DISTRI_BACKEND="gloo")
    assert status == 0, logs
    first, last = (split_models(load_weights(tmp_path / "out" / f"small_epoch_0000{i}.pdparams")) for i in (1, 2))
    assert set(first) == {"Teacher", "Student"}
    assert all(np.array_equal(first["Teacher"][key], last["Teacher"][key]) for key in last["Teacher"])
    assert not np.array_equal(first["Student"]["head.fc.weight"], last["Student"]["head.fc.weight"])
    assert (tmp_path / "out" / "small_best_student.pdparams").is_file()


@pytest.mark.slow
def test_a_process_that_fails_ends_all(config_file, sample_set, tmp_path):
    data = np.load(sample_set / "ntu" / "xsub" / "train_data.npy")
    second = BatchLoader(Made(len(data)), Pipeline({}), 4, shuffle=True, drop_last=True, seed=5, share=(1, 2))
    bad = list(second.batches(1))[2].index[0]
    # Numbers, but their difference is none: the examination passes them, the pipeline does not.
    data[bad, 0, 0, :, 0], data[bad, 0, 1, :, 0] = -3e38, 3e38
    np.save(tmp_path / "bad.npy", data)
    labels = sample_set / "ntu" / "xsub" / "train_label.pkl"
    overrides = [f"output_dir={tmp_path / 'out'}", "DATASET.batch_size=4",
                 f"DATASET.train={{format: SkeletonDataset, file_path: {tmp_path}/bad.npy, label_path: {labels}}}"]
    options = [part for override in overrides for part in ("-o", override)]
    status, logs = launch(tmp_path, ROOT / "main.py", "-c", config_file, *options, "--seed", "5")
    assert status != 0
    assert "the pipeline produced NaN or infinity" in logs[1]
    assert "error: process 0: lost the connection to another process" in logs[0]
    assert '  File "' not in logs[0] + logs[1]  # no traceback
    assert not list((tmp_path / "out").glob("*.pdparams"))


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_a_killed_process_ends_the_other_within_a_minute(shared_config, tmp_path, dead):
    ended = []

    def kill(process):
        wait_for(tmp_path / "log" / "workerlog.0", "train step:1 ", process)
        os.kill(main_process(tmp_path, dead), signal.SIGKILL)
        ended.append(time.monotonic())

    status, logs = launch(tmp_path, *endless(shared_config, tmp_path), meanwhile=kill)
    assert time.monotonic() - ended[0] < 60
    assert status != 0
    assert f"process {1 - dead}: lost the connection to another process" in logs[1 - dead], logs[1 - dead]
    # What was there is whole.
    state = resume.read_state(tmp_path / "out" / "small_last.pdstate")
    assert (state["progress"]["epoch"], state["progress"]["step"]) >= (1, 1)


@pytest.mark.slow
def test_a_signal_to_the_launcher_stops_all_after_the_same_step(shared_config, tmp_path):
    def terminate(process):
        wait_for(tmp_path / "log" / "workerlog.0", "train step:1 ", process)
        process.terminate()

    _, logs = launch(tmp_path, *endless(shared_config, tmp_path), meanwhile=terminate)
    told = [re.search(r"was stopped by SIGTERM; its state after step (\d+) of epoch (\d+)", log) for log in logs]
    assert told[0] and told[1], logs
    assert told[0].groups() == told[1].groups()
    state = resume.read_state(tmp_path / "out" / "small_last.pdstate")
    assert (str(state["progress"]["step"]), str(state["progress"]["epoch"])) == told[0].groups()
    assert len(state["random"]) == 2 and state["random"][0]["paddle"] != state["random"][1]["paddle"]


@pytest.mark.slow
def test_two_processes_killed_and_resumed_end_as_if_they_had_not_been(together, tmp_path):
    folder, _, config, overrides = together
    options = [part for o in [*overrides, f"output_dir={tmp_path / 'out'}", "save_every=5"] for part in ("-o", o)]
    command = [ROOT / "main.py", "--validate", "-c", config, *options, "--seed", "5", "--resume"]

    def kill(process):
        wait_for(tmp_path / "log" / "workerlog.0", r"\[  2/3  \] train step:6 ", process)
        for rank in (1, 0):
            os.kill(main_process(tmp_path, rank), signal.SIGKILL)

    status, _ = launch(tmp_path, *command, meanwhile=kill)
    assert status != 0
    status, logs = launch(tmp_path, *command)
    assert status == 0, logs
    assert re.search(r"Resumed at epoch 2 after step [5-9]", logs[0]), logs[0]
    one, two = content(tmp_path / "out"), content(folder / "out")
    assert metrics(tmp_path / "out") == metrics(folder / "out")
    assert one.keys() == two.keys() and not [name for name in one if not same(one[name], two[name])]


# As mixed precision leaves them on a GPU: some in float16, so large that their sum would be infinite.
MIXED = """
import sys
from types import SimpleNamespace
import paddle
from paddlevideo_skel.training import distributed

distributed.join_processes("cpu")
rank = distributed.rank()
model = paddle.nn.Linear(2, 2)
model.weight.set_value(paddle.full([2, 2], float(rank)))
distributed.share_weights(model)
assert not model.weight.numpy().any()
half, whole, none = (SimpleNamespace(grad=grad) for grad in (
    paddle.full([3, 2], 60000.0, "float16"), paddle.full([5], float(rank)), None))
distributed.average_gradients([half, none, whole])
assert half.grad.dtype == paddle.float16 and half.grad.shape == [3, 2] and (half.grad.numpy() == 60000).all()
assert whole.grad.dtype == paddle.float32 and (whole.grad.numpy() == 0.5).all() and none.grad is None
print("Computing on: what it was given")
"""


@pytest.mark.slow
def test_gradients_of_mixed_precision_are_averaged_in_float32(tmp_path):
    script = tmp_path / "mixed.py"
    script.write_text(MIXED)
    status, logs = launch(tmp_path, script, tmp_path)
    assert status == 0, logs


# Gradients of one batch of 8: of two processes with a half each, BatchNorm in evaluation.
GRADIENTS = """
import sys
import numpy as np, paddle
from paddlevideo_skel.config import load_config
from paddlevideo_skel.training import distributed
from paddlevideo_skel.training.trainer import Trainer, TrainOptions

folder, config, *overrides = sys.argv[1:]
trainer = Trainer(load_config(config, overrides), TrainOptions(seed=5))
trainer.recognizer.eval()
batch = next(trainer.loaders["train"].batches(1))
logits = trainer.recognizer(paddle.to_tensor(batch.array))
trainer.losses["Train"](logits, paddle.to_tensor(batch.label), None).backward()
distributed.average_gradients(trainer.trainable)
np.savez(f"{folder}/gradients{distributed.rank()}.npz", **{
    name: p.grad.numpy() for name, p in trainer.recognizer.named_parameters() if p.grad is not None})
trainer.close()
"""


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_one_with_twice_the_batch(shared_config, tmp_path):
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    status, logs = launch(tmp_path, script, tmp_path, shared_config, f"output_dir={tmp_path / 'two'}",
                          "DATASET.batch_size=4")
    assert status == 0, logs
    alone = Trainer(load_config(shared_config, [f"output_dir={tmp_path / 'one'}", "DATASET.batch_size=8"]),
                    TrainOptions(seed=5))
    alone.recognizer.eval()
    batch = next(alone.loaders["train"].batches(1))
    alone.losses["Train"](alone.recognizer(paddle.to_tensor(batch.array)), paddle.to_tensor(batch.label),
                                None).backward()
    expected = {name: p.grad.numpy() for name, p in alone.recognizer.named_parameters() if p.grad is not None}
    alone.close()
    for rank in (0, 1):
        found = np.load(tmp_path / f"gradients{rank}.npz")
        assert set(found) == set(expected) and len(expected) > 20
        for name, gradient in expected.items():
            assert np.abs(found[name] - gradient).max() <= 1e-5 * np.abs(gradient).max() + 1e-8, name


@pytest.mark.slow
def test_synchronised_batch_norm_trains_as_one_process_with_twice_the_batch(shared_config, tmp_path, monkeypatch):
    """The first step of ``main.py --sync_bn``, and its running statistics."""
    plain = ["OPTIMIZER.learning_rate=1.0", "OPTIMIZER.weight_decay.value=0.0", "epochs=1"]
    options = [part for o in [*plain, "DATASET.batch_size=4", f"output_dir={tmp_path / 'two'}"] for part in ("-o", o)]
    status, logs = launch(tmp_path, ROOT / "main.py", "-c", shared_config, *options, "--max_iters", "1", "--seed", "5",
                          "--sync_bn", "--fleet")
    assert status == 0, logs
    found = load_weights(tmp_path / "two" / "small_epoch_00001.pdparams")
    config = load_config(shared_config, [*plain, "DATASET.batch_size=8", f"output_dir={tmp_path / 'one'}"])
    monkeypatch.setenv(VARIABLE, "conv")
    expected = load_weights(train(config, TrainOptions(max_iters=1, seed=5))["last"])
    paddle.seed(5)
    start = {name: value.numpy() for name, value in build_recognizer(config).state_dict().items()}
    moved = {name: expected[name] - start[name] for name in start}
    assert max(np.abs(step).max() for step in moved.values()) > 0.1
    for name, step in moved.items():
        # Weights are float32: their sum with a step is rounded to 6e-8 of its size. Some means are 0 but for rounding.
        rounding = 2e-7 * np.abs(expected[name]).max() + 1e-7
        assert np.abs(found[name] - expected[name]).max() <= 1e-5 * np.abs(step).max() + rounding, name
