"""A conversion is believed after ONNX Runtime gave the right answers, and leaves nothing when it did not."""
import numpy as np
import pytest

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.errors import ConfigError, ExportError, OutputError
from paddlevideo_skel.export import onnx_convert as onnx_module
from paddlevideo_skel.export.onnx_convert import convert_to_onnx
from paddlevideo_skel.inference.artifact import find_export
from paddlevideo_skel.inference.runtime import open_runtime

onnx = pytest.importorskip("onnx")
pytest.importorskip("paddle2onnx")


@pytest.fixture
def folder(exports, tmp_path):
    """A copy of an export without ONNX."""
    for path in exports("tiny").stem.parent.iterdir():
        if path.suffix != ".onnx":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return find_export(tmp_path)


def content(path):
    return {p.name: p.read_bytes() for p in path.iterdir()}


def test_the_model_is_valid_and_keeps_the_metadata(folder):
    convert_to_onnx(folder, opset=15)
    model = onnx.load(folder.file(".onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [15]
    assert [i.name for i in model.graph.input] == [folder.metadata["input"]["name"]]
    assert find_export(folder.file(".onnx")).metadata["onnx"]["opset"] == 15


def test_elsewhere_it_is_an_export_of_its_own(folder, tmp_path):
    before = content(tmp_path)
    made = convert_to_onnx(folder, save_file=tmp_path / "device" / "m.onnx")
    assert {p.name for p in (tmp_path / "device").iterdir()} == {"m.onnx", "m.metadata.json", "m.selfcheck.npz"}
    (tmp_path / "device").rename(tmp_path / "moved")
    assert open_runtime(tmp_path / "moved" / "m.onnx", "onnxruntime").errors[1] < 1e-5
    assert made.metadata["selfcheck"]["file"] == "m.selfcheck.npz"
    after = content_of_files(tmp_path)
    assert after == before


def content_of_files(path):
    return {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}


def test_a_wrong_conversion_is_refused_and_nothing_is_left(folder, tmp_path, monkeypatch):
    before, run = content(tmp_path), onnx_module.run_paddle2onnx

    def convert_wrongly(graph, params, path, opset):
        run(graph, params, path, opset)
        model = onnx.load(path)
        weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
        weight.raw_data = (np.frombuffer(weight.raw_data, "float32") * 1.01).tobytes()
        onnx.save(model, path)

    monkeypatch.setattr(onnx_module, "run_paddle2onnx", convert_wrongly)
    with pytest.raises(ExportError, match=r"wrongly at opset 13.*relative error \S+, allowed 1e-04"):
        convert_to_onnx(folder)
    assert content(tmp_path) == before


@pytest.mark.parametrize("child, problem", [
    ("import os; print('Oops'); os.abort()", "killed by signal 6.*Oops"),
    ("import sys; open(sys.argv[3], 'w').close()", "left no model"),
    ("import sys; open(sys.argv[3], 'w').write('nonsense')", "not write a valid ONNX model"),
    ("raise SystemExit('not supported')", r"failed \(1\).*not supported"),
    ("import time; time.sleep(60)", "more than 1 s")])
def test_what_paddle2onnx_may_do(folder, tmp_path, monkeypatch, child, problem):
    before = content(tmp_path)
    monkeypatch.setattr(onnx_module, "CONVERSION", child)
    monkeypatch.setattr(onnx_module, "CONVERSION_TIME_LIMIT", 1 if "sleep" in child else 60)
    with pytest.raises(ExportError, match=problem):
        convert_to_onnx(folder)
    assert content(tmp_path) == before


def test_what_cannot_be(folder, tmp_path):
    with pytest.raises(ConfigError, match="7 to 20"):
        convert_to_onnx(folder, opset=99)
    with pytest.raises(ConfigError, match=r"\.onnx"):
        convert_to_onnx(folder, save_file=tmp_path / "model")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        convert_to_onnx(folder, save_file=tmp_path / "file" / "m.onnx")
    folder.file(".pdiparams").unlink()
    with pytest.raises(ExportError, match="weights are missing"):
        convert_to_onnx(folder)


def test_the_command(folder, tmp_path, capsys):
    assert run_command("convert", ["--model_dir", str(tmp_path), "--model_filename", "inference.pdmodel",
                                   "--params_filename=inference.pdiparams", "--opset_version=11",
                                   f"--save_file={tmp_path / 'out/m.onnx'}", "--enable_onnx_checker=True"]) == 0
    assert "ONNX Runtime agrees" in capsys.readouterr().out
    assert run_command("convert", ["--model_dir", str(tmp_path / "out" / "nothing")]) == 2
    assert run_command("convert", []) == 2
    other = tmp_path / "other.pdiparams"
    other.touch()
    assert run_command("convert", ["--model_file", str(folder.graph), "--params_file", str(other)]) == 2
    assert "does not belong" in capsys.readouterr().err
