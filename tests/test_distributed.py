"""Several processes: what they compute together is what one computes, and none waits for ever for one that failed."""
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import CONFIG
from hypothesis import given
from hypothesis import strategies as st
from test_loader import ROOT, Made, Pipeline

from paddlevideo_skel.checkpoints import load_weights, split_models
from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.loader import BatchLoader
from paddlevideo_skel.data.mixup import Mixup
from paddlevideo_skel.errors import ConfigError, DataError
from paddlevideo_skel.recipe import build_recognizer
from paddlevideo_skel.training import distributed
from paddlevideo_skel.training import metrics as metrics_module
from paddlevideo_skel.training.device import choose_device
from paddlevideo_skel.training.metrics import Throughput
from paddlevideo_skel.training.precision import Precision
from paddlevideo_skel.training.tester import test as run_test
from paddlevideo_skel.training.trainer import make_loader

# What main.py does, and a digest of the weights that each process ends with.
SCRIPT = """
import hashlib, sys
from pathlib import Path
from paddlevideo_skel.config import load_config
from paddlevideo_skel.training import distributed
from paddlevideo_skel.training.trainer import Trainer

folder, config, *overrides = sys.argv[1:]
trainer = Trainer(load_config(config, overrides), None, True, None, None, 5, None)
start = trainer.recognizer.head.fc_cls.weight.numpy().tobytes()
trainer.run()
trainer.close()
weights = b"".join(p.numpy().tobytes() for p in trainer.recognizer.parameters() if not p.stop_gradient)
Path(folder, f"rank{distributed.rank()}").write_text(
    hashlib.sha256(start).hexdigest() + hashlib.sha256(weights).hexdigest())
"""


def launch(folder, *command, options=(), **environment):
    """Run a script in two processes on the CPU; returns (exit status, each process's log)."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PADDLE", "FLAGS"))}
    environment = {**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    logs = folder / "log"
    call = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", logs, *options,
            *command]
    with subprocess.Popen([str(part) for part in call], cwd=folder, env=environment, start_new_session=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            shown, _ = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise
    deadline = time.monotonic() + 10
    while left(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left(folder)
    found = [(logs / f"workerlog.{i}").read_text() for i in range(2)]
    assert "Computing on" in found[0] or process.returncode, shown
    return process.returncode, found


def left(folder):
    """Command lines of processes that still run and name the folder; the launcher gives each a group of its own."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [line for line in lines if str(folder) in line]


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
    assert names == {"train.log"} | {f"small_{suffix}.{kind}" for kind in ("pdparams", "pdopt")
                                     for suffix in ("best", "epoch_00001", "epoch_00002", "epoch_00003")}
    assert "train step" not in logs[1]
    log = (folder / "out" / "train.log").read_text()
    assert "2 processes, 8 samples an iteration, 4 in each" in log
    assert len(re.findall(r"train step:", log)) == 3 * (32 * 3 // 8)
    assert len(re.findall(r"epoch \d FPS: [\d.]+ \(samples a second, 2 devices", log)) == 3
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


def test_a_process_that_fails_ends_all(config_file, sample_set, tmp_path):
    data = np.load(sample_set / "ntu" / "xsub" / "train_data.npy")
    second = BatchLoader(Made(len(data)), Pipeline({}), 4, shuffle=True, drop_last=True, seed=5, share=(1, 2))
    bad = list(second.batches(1))[2].index[0]
    data[bad, 0, 1, 2, 0] = np.nan
    np.save(tmp_path / "bad.npy", data)
    labels = sample_set / "ntu" / "xsub" / "train_label.pkl"
    overrides = [f"output_dir={tmp_path / 'out'}", "DATASET.batch_size=4",
                 f"DATASET.train={{format: SkeletonDataset, file_path: {tmp_path}/bad.npy, label_path: {labels}}}"]
    options = [part for override in overrides for part in ("-o", override)]
    status, logs = launch(tmp_path, ROOT / "main.py", "-c", config_file, *options, "--seed", "5")
    assert status != 0
    assert "frame 1, joint 2" in logs[1]
    assert "error: process 0: has lost another one" in logs[0]
    assert '  File "' not in logs[0] + logs[1]  # no traceback
    assert not list((tmp_path / "out").glob("*.pdparams"))


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.booleans())
def test_parts_of_training_batches_are_those_of_one_process(samples, batch_size, world, epoch, drop_last):
    whole_size = batch_size * world
    if samples < (whole_size if drop_last else world):
        with pytest.raises(DataError, match=str(samples)):
            BatchLoader(Made(samples), Pipeline({}), batch_size, shuffle=True, drop_last=drop_last, share=(0, world))
        return
    arguments = {"shuffle": True, "drop_last": drop_last, "seed": 3}
    whole = list(BatchLoader(Made(samples), Pipeline({}), whole_size, **arguments).batches(epoch))
    loaders = [BatchLoader(Made(samples), Pipeline({}), batch_size, share=(rank, world), **arguments)
               for rank in range(world)]
    parts = [list(loader.batches(epoch)) for loader in loaders]
    assert {len(loader) for loader in loaders} == {len(part) for part in parts} == {loaders[0].total}
    used = 0
    for number, batches in enumerate(zip(*parts)):
        assert {batch.number for batch in batches} == {number}
        assert len({len(batch.index) for batch in batches}) == 1
        index = np.concatenate([batch.index for batch in batches])
        used += len(index)
        np.testing.assert_array_equal(index, whole[number].index[:len(index)])
        np.testing.assert_array_equal(np.concatenate([batch.array for batch in batches]),
                                      whole[number].array[:len(index)])
    rest = samples % whole_size
    assert samples - used == (rest if drop_last else rest % world)


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4))
def test_testing_deals_out_every_batch_once(samples, batch_size, world):
    alone = list(BatchLoader(Made(samples), Pipeline({}), batch_size).batches(0))
    loaders = [BatchLoader(Made(samples), Pipeline({}), batch_size, share=(rank, world)) for rank in range(world)]
    assert {loader.total for loader in loaders} == {len(alone)}
    dealt = [list(loader.batches(0)) for loader in loaders]
    assert [len(loader) for loader in loaders] == [len(part) for part in dealt]
    batches = sorted((batch for part in dealt for batch in part), key=lambda batch: batch.number)
    assert [batch.index.tolist() for batch in batches] == [batch.index.tolist() for batch in alone]
    assert [batch.number for batch in batches] == list(range(len(alone)))


def test_processes_mix_with_numbers_of_their_own():
    def drawn(share):
        loader = BatchLoader(Made(24), Pipeline({}), 4, shuffle=True, seed=1, mix=Mixup(0.5), share=share)
        return [batch.mix[1] for batch in loader.batches(2)]
    alone, first, second = drawn((0, 1)), drawn((0, 2)), drawn((1, 2))
    assert first == alone[:3]
    assert not set(first) & set(second)


def test_wrong_shares():
    for share in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ConfigError, match="share"):
            BatchLoader(Made(4), Pipeline({}), 2, share=share)


def test_a_process_alone_is_rank_0_and_changes_nothing():
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.mean(0.1, 0.2) == (0.1, 0.2)
    assert distributed.gather([1]) == [[1]]
    model = paddle.nn.Linear(1, 1)
    assert distributed.parallel(model) is model


def test_the_launchers_device_is_taken(monkeypatch):
    assert distributed.local_device("npu") == "npu"
    monkeypatch.setenv("FLAGS_selected_npus", "3")
    assert distributed.local_device("npu") == "npu:3"
    assert distributed.local_device("gpu") == "gpu"


@pytest.mark.parametrize(("variables", "words"), [
    ({"PADDLE_TRAINERS_NUM": "2"}, "PADDLE_TRAINER_ID is not set.*launch"),
    ({"PADDLE_TRAINERS_NUM": "two"}, "PADDLE_TRAINERS_NUM: is 'two'"),
])
def test_variables_of_the_launcher_that_are_wrong(config_file, monkeypatch, variables, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words):
        choose_device(load_config(config_file))


def test_mixed_precision_on_a_cpu_is_float32_and_says_so(caplog):
    for level in ("O1", "O2"):
        with caplog.at_level("WARNING"):
            precision = Precision(level, "cpu")
        assert f"level {level} is ignored" in caplog.text
        assert str(precision) == "float32"
        assert precision.scaler is None
    assert str(Precision("O2", "npu")) == "mixed precision O2, float16"


def test_throughput_counts_neither_the_first_steps_nor_the_time_between_epochs(monkeypatch):
    clock = iter([0.0, 9.0, 11.0, 13.0, 50.0, 51.0])
    monkeypatch.setattr(metrics_module.time, "perf_counter", lambda: next(clock))
    throughput = Throughput(1)
    throughput.start()
    assert throughput.since() is None
    for _ in range(3):
        throughput.step(10)
    assert throughput.since() == pytest.approx(20 / 4)
    counted = throughput.samples, throughput.seconds
    throughput.start()
    throughput.step(10)
    assert throughput.since(*counted) == pytest.approx(10 / 1)
    assert throughput.since() == pytest.approx(30 / 5)
