"""The atc command as text, and its success and failures through a stand-in executable: there is no real ATC here."""
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from atc_stand_ins import called, executable, path_of, put_atc, put_npu_smi, put_slow_atc, write_onnx, write_onnx_export
from paths import ROOT

from paddlevideo_skel.ascend import atc, soc
from paddlevideo_skel.ascend.atc_command import AtcOptions, atc_arguments, plan_jobs, to_shell_line
from paddlevideo_skel.ascend.atc_errors import MEANINGS, explain_output
from paddlevideo_skel.cli import run_command
from paddlevideo_skel.errors import ConfigError, ExportError, ToolMissingError, UnavailableError
from paddlevideo_skel.inference.artifact import ExportFolder

pytest.importorskip("onnx")
SEED_TABLE = """\
+-------------------+-----------------+------------------------------------------------------+
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 0       310P3     | OK              | 15.8         42                0    / 0              |
| 0       0         | 0000:82:00.0    | 0            1074 / 21534                            |
+===================+=================+======================================================+
| 1       310P3     | OK              | 15.4         43                0    / 0              |
| 0       1         | 0000:89:00.0    | 0            1070 / 21534                            |
+===================+=================+======================================================+"""
ROW = """\
| {number}     {name}               | {health}            | 93.2        39                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3355 / 65536         |
"""
PROCESSES = ("| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |\n"
             "| 0       0                 | 11111         | OK                       | 99                      |\n"
             "| No running processes found in NPU 1 |\n")


@pytest.fixture(autouse=True)
def no_ascend(tmp_path, monkeypatch):
    """No atc, no npu-smi, no CANN and no home, whatever the host has."""
    monkeypatch.setenv("PATH", path_of(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(atc, "TOOLKITS", ("~/Ascend/ascend-toolkit",))
    for name in ("ASCEND_TOOLKIT_HOME", "STAND_IN_ATC", "STAND_IN_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def with_atc(tmp_path):
    return put_atc(tmp_path / "bin")


def run(*argv):
    return run_command("atc", [str(word) for word in argv])


def names(folder):
    return {path.name for path in Path(folder).iterdir()}


# The command as text


def test_the_command_of_the_seed(tmp_path):
    write_onnx(Path("posec3d_bs4.onnx"), 4, "onnx::Reshape_0")
    [job] = plan_jobs(["posec3d_bs4.onnx"])
    assert to_shell_line(atc_arguments(job, AtcOptions("310P3"))) == (
        "atc --framework=5 --model=posec3d_bs4.onnx --output=posec3d_bs4 --input_format=ND "
        "--input_shape=onnx::Reshape_0:4,3,4 --soc_version=Ascend310P3 --log=error")


def test_every_option():
    write_onnx(Path("m.onnx"))
    options = AtcOptions("Ascend910B3", "mixed_float16", None, "high_precision", "FP16", True, None, "info",
                      ("--modify_mixlist=a b.json",))
    [job] = plan_jobs(["m.onnx"], "out", (1, 4, 8), dynamic_batch=True)
    assert atc_arguments(job, options) == [
        "atc", "--framework=5", "--model=m.onnx", "--output=out/m", "--input_format=ND",
        "--input_shape=data_batch_0:-1,3,4", "--soc_version=Ascend910B3", "--dynamic_batch_size=1,4,8",
        "--precision_mode_v2=mixed_float16", "--op_select_implmode=high_precision", "--output_type=FP16",
        "--input_fp16_nodes=data_batch_0", "--log=info", "--modify_mixlist=a b.json"]
    line = to_shell_line(atc_arguments(job, AtcOptions()))
    assert '--soc_version="$SOC"' in line
    assert shlex.split(to_shell_line(atc_arguments(job, options))) == atc_arguments(job, options)
    mixed = AtcOptions(precision_mode="allow_mix_precision")
    assert "--precision_mode=allow_mix_precision" in atc_arguments(job, mixed)


def test_an_open_batch_gives_an_om_each():
    write_onnx(Path("m.onnx"))
    jobs = plan_jobs(["m.onnx"], batch_sizes=(1, 64))
    assert [(str(job.stem), job.batch, job.inputs[0].shape) for job in jobs] == [
        ("m_bs1", 1, (1, 3, 4)), ("m_bs64", 64, (64, 3, 4))]


def test_a_folder_of_models():
    for batch in (1, 8):
        write_onnx(Path(f"models/m_bs{batch}.onnx"), batch)
    assert [str(job.om) for job in plan_jobs(["models"])] == ["models/m_bs1.om", "models/m_bs8.om"]
    assert [job.batch for job in plan_jobs(["models/m_bs8.onnx"], batch_sizes=(1, 8))] == [8]


@pytest.mark.parametrize("given, problem", [
    ({"precision_mode_v2": "fp17"}, "Did you mean 'fp16'"), ({"precision_mode": "fp16"}, "found 'fp16'"),
    ({"precision_mode_v2": "fp16", "precision_mode": "force_fp16"}, "exclude each other"),
    ({"op_select_implmode": "fast"}, "high_performance"), ({"log": "loud"}, "Known: debug"),
    ({"input_fp16": True, "insert_op_conf": "a.cfg"}, "exclude each other"),
    ({"soc_version": "chip"}, "expected a name like Ascend310P3"),
    ({"extra": ("modify",)}, "--name=value"), ({"extra": ("--input_shape=x:1",)}, "does not set itself"),
    ({"extra": ("--input-shape=x:1",)}, "does not set itself")])
def test_wrong_options(given, problem):
    with pytest.raises(ConfigError, match=problem):
        AtcOptions(**given)


@pytest.mark.parametrize("arguments, problem", [
    ((["m.onnx"],), "dynamic batch.*--batch_sizes 1,4,8"),
    ((["m.onnx"], None, (0, 1)), "different sizes from 1 to 2048"),
    ((["m.onnx"], None, (2, 2)), "different sizes"), ((["m.onnx"], None, (4,), True), "at least 2"),
    ((["m_bs4.onnx"], None, (1, 8)), "only takes batch size 4"),
    ((["m_bs4.onnx"], None, (1, 4), True), "only takes batch size 4"),
    ((["m.onnx"], None, (4,)), r"next to m_bs4\.onnx, which is a different model"),
    ((["m_bs4.onnx", "sub/m_bs4.onnx"], "out"), "two models would be compiled into"),
    ((["none.onnx"],), "ONNX model not found"), ((["empty"],), "contains no ONNX model"),
    ((["text.txt"],), r"not an .onnx file")])
def test_what_cannot_be_planned(arguments, problem):
    write_onnx(Path("m.onnx"))
    write_onnx(Path("m_bs4.onnx"), 4)
    write_onnx(Path("sub/m_bs4.onnx"), 4)
    Path("empty").mkdir()
    Path("text.txt").touch()
    with pytest.raises((ConfigError, ExportError), match=problem):
        plan_jobs(*arguments)


def test_a_metadata_of_another_model_is_refused():
    write_onnx_export(Path("m.onnx"))
    write_onnx(Path("m.onnx"), name="other")
    with pytest.raises(ExportError, match=r"takes other.*its metadata says data_batch_0"):
        plan_jobs(["m.onnx"], batch_sizes=(1,))


def test_a_damaged_self_check_is_found_before_anything_long():
    write_onnx_export(Path("m.onnx"))
    Path("m.selfcheck.npz").write_bytes(b"damaged")
    with pytest.raises(ExportError, match="self-check is damaged"):
        plan_jobs(["m.onnx"], batch_sizes=(1,))


def test_other_axes_must_be_static():
    from onnx import load, save
    write_onnx(Path("m.onnx"))
    model = load("m.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "V"
    save(model, "m.onnx")
    with pytest.raises(ExportError, match=r"not static: data_batch_0 \(-1, 3, None\)"):
        plan_jobs(["m.onnx"], batch_sizes=(1,))


# The chip


@pytest.mark.parametrize("table, found", [
    (SEED_TABLE, ["Ascend310P3"]), (ROW.format(number=0, name="910B3", health="OK") + PROCESSES, ["Ascend910B3"]),
    (ROW.format(number=3, name="310", health="Alarm"), ["Ascend310"]),
    (ROW.format(number=0, name="Ascend910_9392", health="Warning"), ["Ascend910_9392"]),
    (ROW.format(number=0, name="910B3", health="OK") + ROW.format(number=1, name="310P3", health="OK"),
     ["Ascend910B3", "Ascend310P3"]), (PROCESSES, []), ("dcmi module initialize failed", [])])
def test_names_in_npu_smi(table, found):
    assert soc.parse_npu_smi(table) == found


def test_the_chip_of_this_host(tmp_path):
    put_npu_smi(tmp_path / "bin", SEED_TABLE)
    assert soc.find_soc() == "Ascend310P3"


@pytest.mark.parametrize("table, status, problem", [
    (ROW.format(number=0, name="910B3", health="OK") + SEED_TABLE, 0, "several.*Ascend910B3, Ascend310P3.*--soc_"),
    (ROW.format(number=0, name="Ascend910", health="OK"), 0, "Ascend910, which is a chip family"),
    ("dcmi module initialize failed. ret is -8005", 255, r"shows no chip \(status 255\): dcmi.*-8005"),
    ("", 0, "nothing")])
def test_npu_smi_that_does_not_tell(tmp_path, table, status, problem):
    put_npu_smi(tmp_path / "bin", table, status)
    with pytest.raises(UnavailableError, match=problem):
        soc.find_soc()


def test_without_npu_smi():
    with pytest.raises(UnavailableError, match=r"npu-smi is not installed.*--soc_version Ascend310P3"):
        soc.find_soc()


# Running it


def test_an_export_becomes_an_export_of_its_own(tmp_path, with_atc, capsys):
    write_onnx_export(Path("in/m.onnx"))
    put_npu_smi(tmp_path / "bin", SEED_TABLE)
    assert run("in/m.onnx", "--batch_sizes=1,4", "-o", "out") == 0
    assert names("out") == {f"m_bs{n}.{e}" for n in (1, 4) for e in ("om", "metadata.json", "selfcheck.npz", "atc.log")}
    printed = capsys.readouterr().out
    assert "out/m_bs1.om: 0.00 MB, batch 1, " in printed and "out/m_bs4.om: 0.00 MB, batch 4, " in printed
    shutil.rmtree("in")
    export = ExportFolder("out/m_bs4")
    assert (export.batch, ExportFolder("out/m_bs1").batch, export.sample_shape) == (4, 1, (3, 4))
    assert export.metadata["om"] == {"file": "m_bs4.om", "batch_sizes": [4], "soc_version": "Ascend310P3",
                                     "precision": None, "input_fp16": False}
    assert export.selfcheck().logits.shape == (2, 5)
    options = called(Path("out/m_bs4.om"))
    assert options["input_shape"] == "data_batch_0:4,3,4" and options["soc_version"] == "Ascend310P3"
    assert "ATC run success" in Path("out/m_bs4.atc.log").read_text()
    assert not [path for path in tmp_path.iterdir() if path.name in ("kernel_meta", "fusion_result.json")]


def test_a_fixed_batch_beside_its_model(with_atc):
    write_onnx_export(Path("m_bs4.onnx"), 4)
    check = Path("m_bs4.selfcheck.npz").read_bytes()
    assert run("m_bs4.onnx", "--soc_version=310P3", "--precision_mode_v2=origin") == 0
    assert Path("m_bs4.selfcheck.npz").read_bytes() == check
    assert names(".") >= {"m_bs4.om", "m_bs4.onnx", "m_bs4.metadata.json", "m_bs4.atc.log"}
    metadata = ExportFolder("m_bs4").metadata
    assert metadata["input"]["shape"] == [4, 3, 4] and metadata["om"]["precision"] == "origin"


def test_a_bare_model_and_one_om_for_several_sizes(with_atc):
    write_onnx(Path("bare.onnx"))
    assert run("bare.onnx", "--soc_version=310P3", "--batch_sizes=1,4,8", "--dynamic_batch", "--input_fp16") == 0
    assert names(".") - {"bin"} == {"bare.onnx", "bare.om", "bare.atc.log"}
    options = called(Path("bare.om"))
    assert options["dynamic_batch_size"] == "1,4,8" and options["input_shape"] == "data_batch_0:-1,3,4"
    assert options["input_fp16_nodes"] == "data_batch_0"


def test_files_in_the_options_are_found(with_atc):
    write_onnx(Path("m.onnx"), 1)
    for name in ("aipp.cfg", "mix.json"):
        Path(name).touch()
    assert run("m.onnx", "--soc_version=310P3", "--insert_op_conf=aipp.cfg", "--", "--modify_mixlist=mix.json") == 0
    assert called(Path("m.om"))["modify_mixlist"] == str(Path("mix.json").resolve())
    assert run("m.onnx", "--soc_version=310P3", "--insert_op_conf=none.cfg") == 2
    assert run("m.onnx", "--soc_version=310P3", "--", "mix.json") == 2


@pytest.mark.parametrize("how, problem", [
    ("fail", r"failed \(status 1\): E19010: .*No parser is registered.*does not support the operator"),
    ("nothing", "produced no model"), ("empty", "produced no model"), ("killed", r"failed \(status -9\)")])
def test_failures_leave_the_log_only(with_atc, monkeypatch, capsys, how, problem):
    write_onnx_export(Path("in/m_bs4.onnx"), 4)
    monkeypatch.setenv("STAND_IN_ATC", how)
    assert run("in/m_bs4.onnx", "-o", "out", "--soc_version=310P3") == 2
    assert names("out") == {"m_bs4.atc.log"}
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(problem, error) and "Its log: out/m_bs4.atc.log" in error and "Traceback" not in error


def test_one_failure_does_not_stop_the_others(with_atc, monkeypatch, capsys):
    write_onnx(Path("m.onnx"))
    monkeypatch.setenv("STAND_IN_ATC", "fail:bs4")
    assert run("m.onnx", "--batch_sizes=1,4,8", "--soc_version=310P3") == 2
    assert Path("m_bs1.om").exists() and Path("m_bs8.om").exists() and not Path("m_bs4.om").exists()
    printed = capsys.readouterr()
    assert "m_bs4.om: FAILED" in printed.out
    assert "error: m_bs4.om: 1 of 3 models were not compiled" in printed.err and "m_bs4.atc.log" in printed.err


def test_an_older_om_stays_where_a_new_one_fails(with_atc, monkeypatch):
    write_onnx(Path("m.onnx"), 1)
    Path("m.om").write_text("older")
    monkeypatch.setenv("STAND_IN_ATC", "fail")
    assert run("m.onnx", "--soc_version=310P3") == 2 and Path("m.om").read_text() == "older"


def test_a_name_with_the_host_in_it(with_atc, monkeypatch):
    write_onnx(Path("m.onnx"), 1)
    monkeypatch.setenv("STAND_IN_ATC", "suffix")
    assert run("m.onnx", "--soc_version=310P3") == 0
    assert called(Path("m.om"))["framework"] == "5" and len(list(Path().glob("*.om"))) == 1


def gone(pid):
    """Whether a process has ended; a zombie has."""
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("nothing happened in a minute")


@pytest.fixture
def slow_atc(tmp_path, monkeypatch):
    """An atc that does not end by itself; the file to which it writes what processes there are."""
    put_slow_atc(tmp_path / "bin")
    monkeypatch.setenv("STAND_IN_PIDS", str(tmp_path / "pids"))
    write_onnx(Path("m.onnx"), 1)
    return tmp_path / "pids"


def assert_nothing_is_left(pids):
    wait_for(lambda: all(gone(pid) for pid in pids.read_text().split()))
    assert not list(Path().glob("*.om")) and not list(Path().glob(".m.*")) and Path("m.atc.log").exists()


def test_the_time_limit_ends_all_of_atc(slow_atc, capsys):
    assert run("m.onnx", "--soc_version=310P3", "--time_limit=2") == 2
    assert "exceeded the time limit of 2 s (--time_limit)" in capsys.readouterr().err
    assert_nothing_is_left(slow_atc)


def heed_ctrl_c():
    """What a shell starts in the background ignores Ctrl-C, and so would these tests there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_all_of_atc(slow_atc, number):
    process = subprocess.Popen([sys.executable, ROOT / "tools/atc.py", "m.onnx", "--soc_version=310P3"],
                               stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c)
    try:
        wait_for(slow_atc.exists)
        process.send_signal(number)
        assert "interrupted" in process.communicate(timeout=60)[1]
        assert process.returncode == 130
    finally:
        process.kill()
        process.wait()
    assert_nothing_is_left(slow_atc)


# What stops it before


def test_a_model_that_atc_would_refuse(with_atc, capsys):
    from onnx import load, save
    write_onnx(Path("m.onnx"), 4)
    write_onnx(Path("good.onnx"), 4)
    model = load("m.onnx")
    model.graph.node[1].op_type = "Frobnicate"
    save(model, "m.onnx")
    assert run("good.onnx", "m.onnx", "--soc_version=310P3") == 2
    error = capsys.readouterr().err
    assert "m.onnx: ATC would refuse it: operator Frobnicate is not on ATC's list for opset 13 (node node1)" in error
    assert not Path("good.om").exists() and not Path("m.atc.log").exists()
    # A user who knows better may let ATC decide.
    assert run("m.onnx", "--soc_version=310P3", "--ignore_check") == 0
    assert Path("m.om").exists()


def test_paths_that_atc_does_not_take(with_atc, capsys):
    write_onnx(Path("a b/m.onnx"), 1)
    assert run("a b/m.onnx", "--soc_version=310P3") == 2
    assert "contains ' ', but ATC accepts only letters" in capsys.readouterr().err
    write_onnx(Path("m(1).onnx"), 1)
    assert run("m(1).onnx", "--dry_run=go.sh") == 2
    assert "contains '(' ')'" in capsys.readouterr().err
    write_onnx(Path("模型/m.onnx"), 1)
    assert run("模型/m.onnx", "--soc_version=310P3") == 0


def test_wrong_arguments(with_atc, capsys):
    write_onnx(Path("m.onnx"), 1)
    assert run("m.onnx", "--soc_version=310P3", "--time_limit=0") == 2
    assert run("m.onnx") == 2
    assert "npu-smi is not installed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("m.onnx", "--batch_sizes=one")
    Path("file").touch()
    assert run("m.onnx", "--soc_version=310P3", "-o", "file") == 2
    assert not Path("m.om").exists()


def test_without_atc_the_commands_are_printed(capsys, with_atc):
    write_onnx(Path("m.onnx"))
    with_atc.rename(with_atc.with_name("elsewhere"))
    assert run("m.onnx", "--batch_sizes=1,4", "--soc_version=310P3") == 3
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert len(lines) == 2 and all(line.startswith("atc ") for line in lines)
    assert printed.err.startswith("error: atc: is not on this host") and "--dry_run FILE.sh" in printed.err
    assert len(printed.err.splitlines()) == 1 and names(".") == {"m.onnx", "bin"}
    # They are right: a shell that has it runs them.
    with_atc.with_name("elsewhere").rename(with_atc)
    for line in lines:
        subprocess.run(["bash", "-c", line], check=True, capture_output=True)
    assert called(Path("m_bs4.om"))["input_shape"] == "data_batch_0:4,3,4"
    with pytest.raises(ToolMissingError):
        os.environ["PATH"] = path_of()
        atc.find_atc()


def test_without_atc_and_without_a_chip(capsys):
    write_onnx(Path("m.onnx"), 4)
    assert run("m.onnx") == 3
    guard, command = capsys.readouterr().out.splitlines()
    assert command.startswith("atc ") and '--soc_version="$SOC"' in command
    assert subprocess.run(["bash", "-c", guard], capture_output=True).returncode != 0
    assert subprocess.run(["bash", "-c", f"SOC=Ascend310P3\n{guard}"], capture_output=True).returncode == 0


# The environment


def set_env(folder, tools):
    """A set_env.sh as CANN's: it reads unset variables, and its last command may fail."""
    return executable(folder / "set_env.sh", f'export PATH={tools}:$PATH OLD=$NEVER_SET\n'
                      'export STAND_IN_ENVIRONMENT=sourced\necho hello\nfalse\n')


@pytest.mark.parametrize("place", ["option", "variable", "home"])
def test_set_env_is_sourced(tmp_path, monkeypatch, place):
    write_onnx(Path("m.onnx"), 1)
    put_atc(tmp_path / "cann" / "bin")
    folder = tmp_path / ("home/Ascend/ascend-toolkit" if place == "home" else "toolkit")
    script = set_env(folder, tmp_path / "cann" / "bin")
    if place == "variable":
        monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(folder))
    assert run("m.onnx", "--soc_version=310P3", *(["--set_env", script] if place == "option" else [])) == 0
    assert json.loads(Path("m.om").read_text())["environment"] == "sourced"


def test_set_env_that_does_not_help(tmp_path, with_atc, capsys):
    write_onnx(Path("m.onnx"), 1)
    with_atc.unlink()
    assert run("m.onnx", "--soc_version=310P3", "--set_env=none.sh") == 2
    assert "file not found: none.sh" in capsys.readouterr().err
    assert run("m.onnx", "--soc_version=310P3", "--set_env", set_env(tmp_path / "t", "/nowhere")) == 2
    assert "does not put atc on PATH" in capsys.readouterr().err


# The script


def script_of(*argv):
    assert run("--dry_run=scripts/go.sh", *argv) == 0
    assert os.access("scripts/go.sh", os.X_OK)
    subprocess.run(["bash", "-n", "scripts/go.sh"], check=True)
    return Path("scripts/go.sh").resolve()


def execute(script, *argv, **environment):
    return subprocess.run([script, *argv], cwd="/", env={**os.environ, **environment}, capture_output=True, text=True)


def test_the_script_compiles_elsewhere(tmp_path):
    write_onnx_export(Path("in/m.onnx"))
    script_of("in/m.onnx", "--batch_sizes=1,4", "-o", "out", "--precision_mode_v2=origin")
    assert names("out") == {f"m_bs{n}.{e}" for n in (1, 4) for e in ("metadata.json", "selfcheck.npz")}
    # Everything moves to another place, and to a host that has atc.
    Path("else where").mkdir()
    for name in ("in", "out", "scripts"):
        Path(name).rename(Path("else where") / name)
    script = tmp_path / "else where" / "scripts" / "go.sh"
    refused = execute(script, "Ascend310P3")
    assert refused.returncode == 3 and "source the set_env.sh" in refused.stderr
    put_atc(tmp_path / "bin")
    refused = execute(script)
    assert refused.returncode == 2 and "does not show exactly one chip" in refused.stderr
    (tmp_path / "else where").rename(tmp_path / "elsewhere")
    script = tmp_path / "elsewhere" / "scripts" / "go.sh"
    done = execute(script, "Ascend310P3")
    assert done.returncode == 0, done.stderr
    options = called(tmp_path / "elsewhere/out/m_bs4.om")
    assert options["soc_version"] == "Ascend310P3" and options["precision_mode_v2"] == "origin"
    export = ExportFolder(tmp_path / "elsewhere/out/m_bs4")
    assert export.metadata["input"]["shape"][0] == 4 and len(export.selfcheck().logits) == 2


@pytest.mark.parametrize("table, soc_version", [
    (SEED_TABLE, "Ascend310P3"), (ROW.format(number=0, name="910B3", health="OK") + PROCESSES, "Ascend910B3"),
    (ROW.format(number=0, name="Ascend910", health="OK"), None), (PROCESSES, None),
    (ROW.format(number=0, name="910B3", health="OK") + SEED_TABLE, None)])
def test_the_script_asks_npu_smi_as_we_do(tmp_path, table, soc_version):
    write_onnx(Path("m.onnx"), 1)
    script = script_of("m.onnx")
    put_atc(tmp_path / "bin")
    put_npu_smi(tmp_path / "bin", table)
    done = execute(script)
    if soc_version is None:
        assert done.returncode == 2 and not Path("m.om").exists()
    else:
        assert done.returncode == 0 and called(Path("m.om"))["soc_version"] == soc_version


def test_the_script_with_a_chip_and_options_in_files(tmp_path):
    write_onnx(Path("m.onnx"), 1, "onnx::Reshape_0")
    Path("aipp.cfg").touch()
    script = script_of("m.onnx", "--soc_version=910B3", "--insert_op_conf=aipp.cfg", "--", "--modify_mixlist=aipp.cfg")
    put_atc(tmp_path / "bin")
    done = execute(script)
    assert done.returncode == 0, done.stderr
    options = called(Path("m.om"))
    assert options["soc_version"] == "Ascend910B3" and options["insert_op_conf"] == "../aipp.cfg"


def test_the_script_sources_set_env(tmp_path):
    write_onnx(Path("m.onnx"), 1)
    put_atc(tmp_path / "cann")
    set_env(tmp_path / "toolkit", tmp_path / "cann")
    script = script_of("m.onnx", "--soc_version=310P3")
    done = execute(script, ASCEND_TOOLKIT_HOME=str(tmp_path / "toolkit"))
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("m.om").read_text())["environment"] == "sourced"


@pytest.mark.parametrize("how", ["fail:bs4", "nothing:bs4", "empty:bs4", "killed:bs4"])
def test_the_script_goes_on_after_a_failure(tmp_path, how):
    write_onnx(Path("m.onnx"))
    Path("m_bs4.om").write_text("older")
    script = script_of("m.onnx", "--batch_sizes=4,8", "--soc_version=310P3")
    put_atc(tmp_path / "bin")
    done = execute(script, STAND_IN_ATC=how)
    assert done.returncode == 2 and "error: not compiled: ../m_bs4.om" in done.stderr
    assert Path("m_bs8.om").exists() and not Path("m_bs4.om").exists()
    assert execute(script, STAND_IN_ATC="suffix").returncode == 0 and Path("m_bs4.om").exists()


def test_a_script_that_cannot_be_written():
    write_onnx(Path("m.onnx"), 1)
    Path("file").touch()
    assert run("m.onnx", "--dry_run=file/go.sh") == 2


# What atc printed


@pytest.mark.parametrize("text, status, told", [
    ("ATC start working now\nE16005: The model has 2 domain_version fields\n", 1,
     "E16005.*(meaning: the model declares"),
    ("EE1001: The argument is invalid.Reason: Soc version [Ascend1] is invalid\n", 255, "does not support that chip"),
    ("atc.bin: error while loading shared libraries: libascend_hal.so: cannot open", 127, "devlib"),
    ("E99998: something new\n", 1, "E99998: something new"), ("one\n\ntwo\n", 1, "one | two"),
    ("", 1, "printed nothing"), ("working\n", 137, "ran out of memory"), ("working\n", -9, "ran out of memory")])
def test_explanations(text, status, told):
    for part in told.split(".*"):
        assert part in explain_output(text, status)


def test_explanations_are_short_and_tell_a_code_once():
    text = "\n".join(f"E19010: No parser is registered for Op [{'x' * 500}{n}]" for n in range(100))
    assert explain_output(text, 1).count("E19010") == 1 and len(explain_output(text, 1)) < 600
    assert all(code.startswith("E") and meaning and "|" not in meaning for code, meaning in MEANINGS.items())


# Without paddle


def test_it_needs_no_paddle(with_atc):
    write_onnx_export(Path("m.onnx"))
    code = ("import sys\nsys.modules['paddle'] = None\nfrom paddlevideo_skel.cli import run_command\n"
            "sys.exit(run_command('atc', ['m.onnx', '--batch_sizes=4', '--soc_version=310P3']))")
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.load("m_bs4.selfcheck.npz")["logits"].shape == (2, 5)
