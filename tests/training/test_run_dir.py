"""A run's folder: one run at a time, none overwritten by mistake, and clear errors."""
import logging
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import paddle
import pytest
from paths import ROOT
from small_config import HARD, run
from training_runs import assert_same_end, content, same

from paddlevideo_skel import devices, files
from paddlevideo_skel.checkpoints.load import load_weights
from paddlevideo_skel.cli import run_command
from paddlevideo_skel.errors import CheckpointError, ConfigError, DataError, OutputError
from paddlevideo_skel.manifest import LOCK
from paddlevideo_skel.training import resume
from paddlevideo_skel.training.checkpointing import parse_interval
from paddlevideo_skel.training.log import Progress, cut_to_whole_records
from paddlevideo_skel.training.run_dir import RunDir

HOLDER = """
import os, sys, time
from paddlevideo_skel.training.run_dir import RunDir
folder = RunDir(sys.argv[1], "small", ".pdparams")
folder.open()
child = os.fork() or time.sleep(600)
print(child, flush=True)
time.sleep(600)
"""


@pytest.fixture
def finished(unbroken, tmp_path):
    """A copy of a finished run's folder."""
    return shutil.copytree(unbroken, tmp_path / "finished")


@pytest.fixture(scope="module")
def started(shared_config, runner, tmp_path_factory):
    """A run that was stopped after three steps of its first epoch."""
    folder = tmp_path_factory.mktemp("started") / "out"
    status, output = runner.run(shared_config, folder, "--validate", overrides=HARD, death=("replace", 2, "after"))
    assert status == -signal.SIGKILL, output
    return folder


@pytest.fixture
def stopped(started, tmp_path):
    """A copy of an unfinished run's folder."""
    return shutil.copytree(started, tmp_path / "stopped")


def test_another_process_keeps_a_run_out_until_it_ends(shared_config, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    torn = folder / ".small_last.pdstate.0123abcd.tmp"
    torn.write_bytes(b"half")
    others = folder / ".other.json.0123abcd.tmp"
    others.write_text("")
    with subprocess.Popen([sys.executable, "-c", HOLDER, folder], cwd=ROOT, stdout=subprocess.PIPE,
                          text=True) as holder:
        child = int(holder.stdout.readline())
        try:
            assert not torn.exists() and others.exists()
            for more in ({}, {"resume": True}, {"overwrite": True}):
                with pytest.raises(OutputError, match=rf"out: another run is writing there \(process {holder.pid} on "
                                                      r"\S+, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\)"):
                    run(shared_config, folder, **more)
        finally:
            holder.kill()
            holder.wait()
        # Its child lives on, as a loader's worker may for a moment: it keeps nobody out.
        os.kill(child, 0)
        mine = RunDir(folder, "small", ".pdparams")
        mine.open()
        os.kill(child, signal.SIGKILL)
        mine.close()
    assert not (folder / LOCK).exists()


def test_another_run_of_the_same_process(tmp_path):
    first, second = (RunDir(tmp_path, "small", ".pdparams") for _ in range(2))
    first.open()
    with pytest.raises(OutputError, match="in this process"):
        second.open()
    second.close()
    with pytest.raises(OutputError, match="in this process"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_an_unfinished_run_is_not_overwritten(shared_config, stopped):
    before = content(stopped)
    with pytest.raises(OutputError, match=r"unfinished run, at epoch 1 after step 3.*--resume.*--overwrite"):
        run(shared_config, stopped)
    assert same(content(stopped), before)
    assert not (stopped / LOCK).exists()


def test_overwrite_starts_over(shared_config, stopped, unbroken):
    run(shared_config, stopped, overwrite=True)
    assert_same_end(stopped, unbroken)


FROM_PYTHON = """
import sys
from paddlevideo_skel.config import load_config
from paddlevideo_skel.training.trainer import TrainOptions, train
train(load_config(sys.argv[1], sys.argv[2:]), TrainOptions(validate=True, seed=5))
"""


@pytest.mark.slow
def test_a_python_program_trains_to_the_same_bits_as_the_command(shared_config, tmp_path, unbroken):
    environment = {name: value for name, value in os.environ.items() if name != devices.MKL}
    subprocess.run([sys.executable, "-c", FROM_PYTHON, shared_config, f"output_dir={tmp_path / 'out'}", *HARD],
                   cwd=ROOT, env=environment, check=True, capture_output=True)
    assert_same_end(tmp_path / "out", unbroken)


def test_a_finished_run_may_be_repeated_but_not_with_other_settings(shared_config, finished, unbroken):
    run(shared_config, finished)
    assert_same_end(finished, unbroken)
    with pytest.raises(OutputError, match=r"another, finished run: config.OPTIMIZER.momentum was 0.9, is 0.8; "
                                          r"seed was 5, is 6\. .*--overwrite"):
        run(shared_config, finished, "OPTIMIZER.momentum=0.8", seed=6)
    assert_same_end(finished, unbroken)


def test_trials_may_be_overwritten(shared_config, tmp_path):
    folder = tmp_path / "out"
    run(shared_config, folder, "epochs=1", max_iters=1)
    run(shared_config, folder, "epochs=1", max_iters=2, seed=6)
    assert resume.read_state(folder / "small_last.pdstate")["identity"]["max_iters"] == 2


def test_a_finished_run_resumed_has_the_same_results(shared_config, finished, unbroken):
    log = (finished / "train.log").read_text()
    result = run(shared_config, finished, resume=True)
    assert_same_end(finished, unbroken)
    added = (finished / "train.log").read_text()[len(log):]
    assert "This run is already finished" in added
    assert "train step" not in added
    assert result["best"] == content(unbroken)["small_last.pdstate"]["best"]
    assert result["last"] == str(finished / "small_epoch_00002.pdparams")


def test_nothing_to_resume_yet(shared_config, tmp_path, unbroken):
    run(shared_config, tmp_path / "out", resume=True)
    assert "Nothing to resume" in (tmp_path / "out" / "train.log").read_text()
    assert_same_end(tmp_path / "out", unbroken)


@pytest.mark.parametrize("form", [lambda folder: folder, lambda folder: folder / "small_last.pdstate"])
def test_resuming_in_another_folder(shared_config, started, tmp_path, unbroken, form):
    run(shared_config, tmp_path / "out", resume=str(form(started)))
    one, two = content(tmp_path / "out"), content(unbroken)
    assert one.keys() == two.keys() and all(same(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("overrides", "arguments", "words"), [
    (["DATASET.batch_size=4"], {}, "config.DATASET.batch_size was 8, is 4"),
    (["epochs=3"], {}, "config.epochs was 2, is 3"),
    (["MODEL.head.dropout=0.1"], {}, "config.MODEL.head.dropout was 0.5, is 0.1"),
    (["PIPELINE.train.transform.2.UniformSampleFrames.clip_len=8"], {},
     "config.PIPELINE.train.transform.2.UniformSampleFrames.clip_len was 16, is 8"),
    (["DATASET.train.split=xsub_val"], {}, "xsub_train.*data.train.samples was 32, is 16"),
    (["DATASET.train.file_path={other}"], {}, "data.train.digest was "),
    ([], {"seed": 6}, "seed was 5, is 6"),
    ([], {"validate": False}, "validate was true, is false"),
    ([], {"weights_format": "safetensors"}, 'format was "pdparams", is "safetensors"'),
    ([], {"max_iters": 3}, "max_iters was null, is 3"),
])
def test_a_run_does_not_resume_as_another(shared_config, sample_set, stopped, tmp_path, overrides, arguments, words):
    other = tmp_path / "other.pkl"
    shutil.copy(sample_set / "ntu_3d.pkl", other)
    with open(other, "ab") as file:
        file.write(b"\0")  # after the pickle's end
    before = content(stopped)
    overrides = [override.format(other=other) if "{other}" in override else override for override in overrides]
    with pytest.raises(CheckpointError, match=f"belongs to another run: .*{words}"):
        run(shared_config, stopped, *overrides, resume=True, **arguments)
    assert same(content(stopped), before)


def test_settings_that_change_no_number_may_change(shared_config, sample_set, stopped, unbroken, tmp_path):
    moved = shutil.copy(sample_set / "ntu_3d.pkl", tmp_path / "moved.pkl")
    run(shared_config, stopped, f"DATASET.train.file_path={moved}", "DATASET.num_workers=2", "log_interval=2",
        "save_every=1", resume=True)
    assert same(content(stopped), content(unbroken))


def change_state(path, change):
    state = resume.read_state(path)
    change(state)
    resume.write_state(state, path)


@pytest.mark.parametrize(("change", "words"), [
    (lambda path: path.unlink(), "state file not found"),
    (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged"),
    (lambda path: shutil.copy(path.parent / "small_best.pdparams", path), "-w a checkpoint"),
    (lambda path: change_state(path, lambda state: state["progress"].pop("epoch")), "is not a training state"),
    (lambda path: change_state(path, lambda state: state["weights"].popitem()), "do not fit this model"),
])
def test_bad_states(shared_config, finished, tmp_path, change, words):
    change(finished / "small_last.pdstate")
    with pytest.raises(CheckpointError, match=words):
        run(shared_config, tmp_path / "out", resume=str(finished))


def test_an_unreadable_state_is_not_overwritten(shared_config, stopped):
    (stopped / "small_last.pdstate").write_bytes(b"half")
    with pytest.raises(OutputError, match=r"cannot be read.*--overwrite"):
        run(shared_config, stopped)


@pytest.mark.parametrize("keep", [1, 2])
def test_keep(shared_config, tmp_path, keep):
    folder = tmp_path / "out"
    start = run(shared_config, tmp_path / "start", "epochs=1", max_iters=1)["last"]
    shutil.copytree(tmp_path / "start", folder)
    mine = folder / "small_epoch_00001.pdparams"
    assert mine.name == os.path.basename(start)
    (folder / "small_epoch_00009.pdparams").write_bytes(b"of another, longer run")
    run(shared_config, folder, "epochs=4", f"keep={keep}", max_iters=1, weights=str(mine))
    names = {path.stem for path in folder.glob("*_epoch_*")}
    # What the run began with stays, though it is written over by its own first epoch.
    assert names == {"small_epoch_00001", "small_epoch_00009", *(f"small_epoch_{i:05d}" for i in range(5 - keep, 5))}
    assert (folder / "small_best.pdparams").is_file()


def test_keep_leaves_the_best(shared_config, tmp_path):
    folder = tmp_path / "out"
    result = run(shared_config, folder, "epochs=3", "keep=1")
    assert sorted(path.name for path in folder.glob("*.pdparams")) == ["small_best.pdparams",
                                                                       "small_epoch_00003.pdparams"]
    assert load_weights(result["best_path"])


@pytest.mark.parametrize(("text", "expected"), [
    (200, (200, None)), ("200", (200, None)), ("90s", (None, 90)), ("10m", (None, 600)), ("2h", (None, 7200))])
def test_intervals(text, expected):
    assert parse_interval(text, "save_every") == expected


@pytest.mark.parametrize("text", [0, -1, True, "", "1d", "1.5h", "m"])
def test_wrong_intervals(text):
    with pytest.raises(ConfigError, match=r"save_every: found .*expected a number of steps"):
        parse_interval(text, "save_every")


@pytest.mark.parametrize(("arguments", "words"), [
    (["--resume", "--overwrite"], "--overwrite: starts a new run, but --resume resumes an existing one"),
    (["--keep", "0"], "--keep: found 0, expected at least 1"),
    (["--save_every", "1d"], "save_every: found '1d'"),
    (["--test", "-w", "a.pdparams", "--resume"], "--test: does not start or resume a run"),
    (["-o", "keep=none"], "keep: found 'none', expected int"),
    (["-o", "DATASET.train.bad=1"], "takes no argument 'bad'"),
])
def test_wrong_arguments(shared_config, tmp_path, capsys, arguments, words):
    assert run_command("train", ["-c", str(shared_config), "-o", f"output_dir={tmp_path / 'out'}", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_diverged_training_names_its_samples_and_the_last_good_state(shared_config, tmp_path):
    wild = ["OPTIMIZER.learning_rate={name: PiecewiseDecay, boundaries: [1], values: [0.01, 1.0e+30]}", "save_every=9"]
    message = (r"the loss is \S+ for the samples S\d.*small_last.pdstate is intact \(saved after step 0 of epoch 2\), "
               r"but --resume would run into the same problem.*ClipGradByGlobalNorm")
    for where in (None, True):
        with pytest.raises(DataError, match=message):
            run(shared_config, tmp_path / "out", *wild, resume=where)
    assert resume.read_state(tmp_path / "out" / "small_last.pdstate")["progress"]["epoch"] == 2


def test_a_diverged_state_is_not_saved(shared_config, tmp_path):
    with pytest.raises(DataError, match=r"contains NaN or infinity, .*after step 1 of epoch 1\), but"):
        run(shared_config, tmp_path / "out", "OPTIMIZER.learning_rate.learning_rate=1e30", "save_every=1")
    with pytest.raises(DataError, match="No checkpoint was saved before"):
        run(shared_config, tmp_path / "other", "OPTIMIZER.learning_rate.learning_rate=1e30", "save_every=9")


def test_no_state_with_nan():
    model = paddle.nn.Linear(2, 2)
    model.weight.set_value(np.array([[1, np.nan], [0, 0]], "float32"))
    with pytest.raises(DataError, match="weight contains NaN or infinity"):
        resume.capture(model, None, None, Progress(0), {})


@pytest.mark.parametrize("failing", [2, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 4, 7))])
def test_a_full_disk_leaves_a_run_that_resumes(shared_config, unbroken, tmp_path, monkeypatch, failing):
    folder, real, calls = tmp_path / "out", os.fsync, [0]

    def full(number):
        calls[0] += 1
        if calls[0] == 2 * failing + 1:  # each file is one call, its folder another
            raise OSError(28, "No space left on device")
        return real(number)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match=r"small_\w+\.pd\w+: cannot be written \(No space left on device\)"):
        run(shared_config, folder)
    assert not list(folder.glob(".*.tmp"))
    run(shared_config, folder, resume=True)
    assert_same_end(folder, unbroken)


@pytest.mark.slow
def test_a_real_file_size_limit(runner, shared_config, unbroken, tmp_path):
    folder = tmp_path / "out"
    small = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
    status, output = runner.run(shared_config, folder, "--validate", overrides=HARD, prelude=small)
    assert status == 2, output
    error, = re.findall("^error: .*", output, re.M)
    assert re.search(r"small_last\.pdstate: cannot be written \(File too large\)", error)
    assert "Traceback" not in output
    status, output = runner.run(shared_config, folder, "--validate", "--resume", overrides=HARD)
    assert status == 0, output
    assert_same_end(folder, unbroken)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_log_that_cannot_be_written(shared_config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.log").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"the log cannot be written \(.*No space left"):
        run(shared_config, tmp_path / "out")
    logging.getLogger("paddlevideo_skel").info("the next line does not fail again")


def test_a_torn_record_of_the_curves_is_cut_off(tmp_path):
    records = [bytes([i]) * size for i, size in enumerate((3, 300, 1))]
    whole = b"".join(len(record).to_bytes(8, "little") + record for record in records)
    path = tmp_path / "vdlrecords.1.log"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        cut_to_whole_records(path)
        kept = path.read_bytes()
        assert kept == max((whole[:n] for n in (0, 11, 319) if n <= end), key=len)


def test_resumed_curves_stay_in_one_file(shared_config, stopped, unbroken):
    reader = pytest.importorskip("visualdl").LogReader

    def points(folder):
        file, = (folder / "vdl").iterdir()
        return {record.id: record.value for record in reader(file_path=str(file)).get_data("scalar", "train/loss")}

    run(shared_config, stopped, resume=True)
    assert points(stopped) == points(unbroken)
    assert len(points(unbroken)) == 2 * 4
