"""The runtime that is chosen is installed, has its files, passes the self-check, and is the fastest of those."""
import logging
import subprocess
import sys
import time

import numpy as np
import pytest
from paths import ROOT
from tiny_export import samples, write_export

from paddlevideo_skel.errors import SelfCheckError, UnavailableError
from paddlevideo_skel.inference import runtime, select
from paddlevideo_skel.inference.benchmark import measure_in_turns
from paddlevideo_skel.inference.runtime import Runtime, RuntimeOptions
from paddlevideo_skel.inference.select import open_named

pytest.importorskip("onnx")


class Stand(Runtime):
    """Answers the self-check from its file, at a speed and with an error of its own."""

    wait, wrong, problem, opened, closed = 0.0, 1.0, None, 0, 0

    def load(self):
        if self.problem:
            raise UnavailableError(self.kind, self.problem)
        type(self).opened += 1
        return "cpu"

    def close(self):
        type(self).closed += 1

    def compute(self, array):
        time.sleep(self.wait)
        return np.resize(self.selfcheck.logits, (len(array), self.export.num_classes)) * np.float32(self.wrong)


class OnnxRuntime(Stand):
    kind = version = "onnxruntime"


class PaddleRuntime(Stand):
    kind = version = "paddle"
    with_onednn = 0.0

    def compute(self, array):
        time.sleep(self.with_onednn if self.onednn else 0)
        return super().compute(array)


@pytest.fixture
def export(tmp_path, monkeypatch, caplog):
    """A tiny export with both files, and stand-ins for both runtimes."""
    kinds = {"onnxruntime": ("stand", "OnnxRuntime"), "paddle": ("stand", "PaddleRuntime")}
    monkeypatch.setattr(runtime, "RUNTIMES", kinds)
    monkeypatch.setitem(sys.modules, f"{runtime.__package__}.stand", sys.modules[__name__])
    monkeypatch.setattr(select, "is_built_for_device", lambda: False)
    logger = logging.getLogger("paddlevideo_skel")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])  # another test's screen would stand in the table
    caplog.set_level(logging.INFO)
    for stand in (OnnxRuntime, PaddleRuntime):
        for name in ("opened", "closed"):
            monkeypatch.setattr(stand, name, 0)
    folder = write_export(tmp_path)
    folder.file(".json").write_text("{}")
    return folder


def test_onnx_runtime_is_taken_first_and_paddle_not_touched(export, caplog):
    prepared = []
    with open_named(export, "auto", RuntimeOptions(), prepare=prepared.append) as runtime:
        assert runtime.kind == "onnxruntime"
    assert prepared == ["onnxruntime"] and PaddleRuntime.opened == 0
    assert "Selected: onnxruntime" in caplog.text


@pytest.mark.parametrize("what, reason", [
    ("no file", "no ONNX model"), ("not installed", "onnxruntime: not installed"),
    ("wrong", "relative error 0.01"), ("problem", "cannot be used: onnxruntime: no such device")])
def test_what_cannot_answer_is_passed_over_with_its_reason(export, monkeypatch, caplog, what, reason):
    if what == "no file":
        export.file(".onnx").unlink()
    elif what == "not installed":
        util, find = select.importlib.util, select.importlib.util.find_spec
        monkeypatch.setattr(util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    elif what == "wrong":
        monkeypatch.setattr(OnnxRuntime, "wrong", 1.01)
    else:
        monkeypatch.setattr(OnnxRuntime, "problem", "no such device")
    assert open_named(export, "auto", RuntimeOptions()).kind == "paddle"
    assert "Selected: paddle" in caplog.text and reason in caplog.text


def test_no_runtime_is_left(export, monkeypatch):
    monkeypatch.setattr(OnnxRuntime, "wrong", 1.01)
    monkeypatch.setattr(PaddleRuntime, "problem", "no licence")
    for name in ("auto", "fastest"):
        with pytest.raises(UnavailableError, match=r"onnxruntime: .*relative error 0.01.*paddle: .*no licence"):
            open_named(export, name, RuntimeOptions())
    export.file(".json").unlink()  # one runtime is left to try: its own error is the answer
    with pytest.raises(SelfCheckError, match=r"relative error 0\.01"):
        open_named(export, "auto", RuntimeOptions())
    export.file(".onnx").unlink()
    with pytest.raises(UnavailableError, match=r"onnxruntime: .* no ONNX model .*paddle: .* no Paddle graph"):
        open_named(export, "auto", RuntimeOptions())


def test_paddle_first_where_it_is_built_is_built_for_device(export, monkeypatch):
    monkeypatch.setattr(select, "is_built_for_device", lambda: True)
    assert open_named(export, "auto", RuntimeOptions()).kind == "paddle"
    assert open_named(export, "auto", RuntimeOptions(use_gpu=False)).kind == "onnxruntime"


def test_a_paddle_for_a_gpu_is_recognised(tmp_path, monkeypatch):
    package = tmp_path / "paddle"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "paddle", raising=False)
    assert not select.is_built_for_device()
    (tmp_path / "paddlepaddle_gpu-3.3.1.dist-info").mkdir()
    assert select.is_built_for_device()


@pytest.mark.parametrize("waits, taken, onednn", [((0, 0.05, 0.05), "onnxruntime", False),
                                                  ((0.05, 0, 0.05), "paddle", False),
                                                  ((0.1, 0.05, -0.05), "paddle", True)])
def test_the_fastest_is_measured(export, monkeypatch, capsys, waits, taken, onednn):
    """Sleeping stand-ins: onnxruntime's seconds, paddle's, and what oneDNN adds to or takes from them."""
    ort, paddle, more = waits
    monkeypatch.setattr(OnnxRuntime, "wait", ort)
    monkeypatch.setattr(PaddleRuntime, "wait", paddle if more > 0 else 0)
    monkeypatch.setattr(PaddleRuntime, "with_onednn", max(more, 0))
    if more < 0:
        monkeypatch.setattr(PaddleRuntime, "compute", lambda self, array: (
            time.sleep(0 if self.onednn else paddle), Stand.compute(self, array))[1])
    runtime = open_named(export, "fastest", RuntimeOptions(), batch_size=2)
    assert (runtime.kind, runtime.onednn) == (taken, onednn)
    table = capsys.readouterr().out.splitlines()
    assert "batch 2" in table[0] and sum(line.endswith(" *") for line in table) == 1
    assert [line.split()[0] for line in table[1:]] == ["onnxruntime", "paddle", "paddle"]
    assert OnnxRuntime.closed + PaddleRuntime.closed == 2


def test_measuring_leaves_out_what_is_wrong(export, monkeypatch, capsys):
    monkeypatch.setattr(PaddleRuntime, "compute", lambda self, array: Stand.compute(self, array) * (1 + self.onednn))
    monkeypatch.setattr(OnnxRuntime, "wait", 0.02)
    assert not open_named(export, "fastest", RuntimeOptions()).onednn
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[1:3]] == ["onnxruntime", "paddle"]
    assert "paddle with oneDNN: cannot be used" in table and "fails its self-check" in table
    open_named(export, "fastest", RuntimeOptions(enable_mkldnn=False))
    assert "with oneDNN" not in capsys.readouterr().out


def test_runtimes_are_measured_in_turns(monkeypatch):
    asked, clock = [], [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    class Noted:
        def __init__(self, name):
            self.name = name

        def run(self, array):
            asked.append(self.name)
            clock[0] += 3.0 if self.name == "slow" else 0.5

    assert measure_in_turns([Noted("a"), Noted("slow")], samples(1), repeats=3) == [500, 3000]
    assert "".join(name[0] for name in asked) == "aaa" + "s" + "asaa"


def test_paddle_is_never_imported_for_onnx_runtime(tmp_path):
    """A host whose paddle cannot be imported is answered all the same, and asked for Paddle it is told."""
    export = write_export(tmp_path / "export", pipeline={"transform": ["Iden"]})
    export.file(".json").write_text("{}")
    np.save(tmp_path / "a.npy", samples(1)[0])
    (tmp_path / "broken" / "paddle").mkdir(parents=True)
    (tmp_path / "broken" / "paddle" / "__init__.py").write_text("raise ImportError('no paddle here')")
    code = (f"import sys\nsys.path.insert(0, {str(tmp_path / 'broken')!r})\n"
            "from paddlevideo_skel.cli import run_command\n"
            f"status = run_command('predict', ['--model_file', {str(tmp_path / 'export')!r}, '-i', "
            f"{str(tmp_path / 'a.npy')!r}])\n"
            "print('loaded', [n for n in ('paddle', 'yaml', 'tqdm', 'onnx', 'matplotlib') if n in sys.modules])\n"
            "sys.exit(status)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Selected: onnxruntime" in done.stdout and "loaded []" in done.stdout
