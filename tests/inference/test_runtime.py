"""No runtime answers before its self-check came out right; nothing is taken in the place of what was asked for."""
import json
import sys

import numpy as np
import pytest
from deploy_cases import dynamic, filled, small_config
from tiny_export import logits, samples, write_export

from paddlevideo_skel.config import load_config
from paddlevideo_skel.errors import ConfigError, DataError, ExportError, SelfCheckError, UnavailableError
from paddlevideo_skel.export.exporter import export_model
from paddlevideo_skel.inference import runtime as runtimes_module
from paddlevideo_skel.inference.artifact import METADATA, find_export, relative_error
from paddlevideo_skel.inference.paddle_runtime import PaddleRuntime
from paddlevideo_skel.inference.runtime import Runtime, RuntimeOptions, open_runtime

KINDS = ["paddle", "onnxruntime"]


@pytest.fixture
def exported(ctrgcn_export):
    return ctrgcn_export


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of it."""
    for path in exported.stem.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return find_export(tmp_path)


def batch(folder, size):
    return np.random.default_rng(5).normal(0, 0.4, (size, *folder.sample_shape)).astype("float32")


def spoil(folder, **changes):
    """Write another self-check."""
    with np.load(folder.file(".selfcheck.npz")) as stored:
        arrays = {**stored, **changes}
    np.savez(folder.file(".selfcheck.npz"), **arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_and_description(exported, kind):
    runtime = open_runtime(exported, kind, RuntimeOptions(cpu_threads=1))
    array = batch(exported, 5)
    right = dynamic(filled(small_config("ctrgcn")), array)
    for size in (1, 5, 2):
        assert relative_error(runtime.run(array[:size]), right[:size]) < 1e-5
    assert set(runtime.errors) == {1, 2, 5}
    described = runtime.describe()
    assert described["runtime"] == kind and described["device"] == "cpu" and described["cpu_threads"] == 1
    assert described["selfcheck_error"] < 1e-5 < described["selfcheck_tolerance"]


@pytest.mark.parametrize("kind, ending", [("paddle", ".pdiparams"), ("onnxruntime", ".onnx")])
def test_tampered_weights_are_refused(folder, kind, ending):
    weight = filled(small_config("ctrgcn")).head.fc.weight.numpy()
    content = folder.file(ending).read_bytes()
    assert content.count(weight.tobytes()) == 1
    folder.file(ending).write_bytes(content.replace(weight.tobytes(), (weight * np.float32(1.01)).tobytes()))
    with pytest.raises(SelfCheckError, match=r"relative error \S+, allowed 1e-04\. .*export the model again"):
        open_runtime(folder, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tampered_selfcheck_is_refused(folder, kind):
    with np.load(folder.file(".selfcheck.npz")) as stored:
        logits = stored["logits"]
    spoil(folder, logits=logits * 1.001)
    with pytest.raises(SelfCheckError, match=r"relative error 0.001, allowed 1e-04"):
        open_runtime(folder, kind)
    for damaged in ({"logits": logits * np.nan}, {"logits": logits[:, :3]}, {"input": logits}, {"logits": logits * 0}):
        spoil(folder, **{"logits": logits, **damaged})
        with pytest.raises(ExportError, match="all finite"):
            open_runtime(folder, kind)
    folder.file(".selfcheck.npz").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(ExportError, match="damaged"):
        open_runtime(folder, kind)


def test_what_is_missing_is_named(folder):
    with pytest.raises(ExportError, match="export not found"):
        find_export(folder.stem.with_name("other"))
    folder.file(".onnx").unlink()
    with pytest.raises(ExportError, match=r"tools/paddle2onnx.py"):
        open_runtime(folder, "onnxruntime")
    folder.file(".selfcheck.npz").unlink()
    with pytest.raises(ExportError, match=r"self-check is missing.*Export the model again"):
        open_runtime(folder, "paddle")
    folder.file(".metadata.json").unlink()
    with pytest.raises(ExportError, match=r"metadata is missing.*Export the model again"):
        open_runtime(folder.graph, "paddle")
    with pytest.raises(ExportError, match="contains no export"):
        open_runtime(folder.stem.parent, "paddle")


@pytest.mark.parametrize("change", [
    {"format": 99}, {"selfcheck": {"file": "inference.selfcheck.npz", "tolerance": 0.5}},
    {"selfcheck": {"file": "../elsewhere.npz", "tolerance": 1e-4}}, {"input": {"shape": [-1, "3"]}},
    {"pipeline": None}])
def test_a_metadata_that_was_changed_is_refused(folder, change):
    path = folder.file(".metadata.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ExportError, match=r"metadata|format"):
        find_export(path)


@pytest.mark.parametrize("ending", ["", ".json", ".pdmodel", ".onnx", ".pdiparams", ".metadata.json"])
def test_every_name_finds_the_export(exported, ending):
    assert find_export(f"{exported.stem}{ending}").stem == exported.stem
    assert find_export(exported.stem.parent).stem == exported.stem


class Scripted(Runtime):
    """A runtime that is right up to a batch size."""

    kind, right_up_to, load_error = "scripted", 2, None

    def load(self):
        if self.load_error:
            raise self.load_error
        return "cpu"

    def compute(self, array):
        logits = np.resize(self.selfcheck.logits, (len(array), self.export.num_classes))
        return logits if len(array) <= self.right_up_to else logits * np.float32(self.wrong)

    wrong = 1.01


@pytest.mark.parametrize("wrong", [1.01, np.nan, np.inf])
def test_a_runtime_that_is_right_at_batch_1_only_is_refused_at_others(exported, wrong):
    runtime = Scripted(exported, RuntimeOptions())
    runtime.wrong = wrong
    runtime.run(batch(exported, 2))
    with pytest.raises(SelfCheckError, match="batch size 3"):
        runtime.run(batch(exported, 3))


def test_nan_in_an_answer_is_refused(exported):
    runtime = Scripted(exported, RuntimeOptions())
    runtime.right_up_to, runtime.wrong = 0, np.nan
    with pytest.raises(SelfCheckError, match="NaN"):
        runtime.run(batch(exported, 1))


def test_a_runtime_that_cannot_open_the_model_says_so(exported, monkeypatch):
    monkeypatch.setattr(Scripted, "load_error", RuntimeError("C++ traceback\n\n(NotFound) no kernel"))
    with pytest.raises(SelfCheckError, match=r"\(NotFound\) no kernel"):
        Scripted(exported, RuntimeOptions())


@pytest.mark.parametrize("array, problem", [(np.zeros((1, 3, 4, 5)), "expected the shape"), (None, "NaN")])
def test_an_input_that_does_not_fit(exported, array, problem):
    runtime = Scripted(exported, RuntimeOptions())
    with pytest.raises(DataError, match=problem):
        runtime.run(batch(exported, 1) * np.nan if array is None else array)


@pytest.mark.parametrize("kind, options", [
    ("paddle", {"use_gpu": True}), ("paddle", {"use_npu": True}), ("paddle", {"use_tensorrt": True}),
    ("paddle", {"precision": "fp16"}), ("paddle", {"precision": "bf16"}),
    ("onnxruntime", {"use_gpu": True}), ("onnxruntime", {"use_npu": True}), ("onnxruntime", {"use_tensorrt": True}),
    ("onnxruntime", {"precision": "fp16"}), ("onnxruntime", {"enable_mkldnn": True})])
def test_what_is_not_here_is_an_error(exported, kind, options):
    import onnxruntime
    import paddle

    if paddle.is_compiled_with_cuda() or len(onnxruntime.get_available_providers()) > 2:
        pytest.skip("this machine has more than a CPU")
    with pytest.raises(UnavailableError):
        open_runtime(exported, kind, RuntimeOptions(**options))


def test_half_precision_does_not_hide_wrong_answers(exported, monkeypatch):
    """2 % off is within bf16's rounding; in float32 the same runtime shows that it is no rounding."""
    monkeypatch.setattr(Scripted, "right_up_to", 0)
    monkeypatch.setattr(Scripted, "wrong", 1.02)
    monkeypatch.setattr(runtimes_module, "RUNTIMES", {"scripted": ("scripted", "Scripted")})
    monkeypatch.setitem(sys.modules, f"{runtimes_module.__package__}.scripted", sys.modules[__name__])
    assert Scripted(exported, RuntimeOptions(precision="bf16")).errors[1] == pytest.approx(0.02, rel=0.01)
    with pytest.raises(SelfCheckError, match=r"relative error 0\.02, allowed 1e-04"):
        open_runtime(exported, "scripted", RuntimeOptions(precision="bf16"))


def test_half_precision_that_is_float32_is_told(exported, monkeypatch):
    monkeypatch.setattr(Scripted, "right_up_to", 9)
    with pytest.raises(UnavailableError, match=r"is ignored: .* computes in float32"):
        Scripted(exported, RuntimeOptions(precision="bf16"))


def test_options_that_cannot_be(exported):
    for wrong in ({"precision": "fp8"}, {"cpu_threads": 0}, {"gpu_mem": -1}, {"use_gpu": True, "use_npu": True}):
        with pytest.raises(ConfigError):
            RuntimeOptions(**wrong)
    with pytest.raises(ConfigError, match="paddle"):
        open_runtime(exported, "padle")


@pytest.mark.slow
def test_wrong_answers_of_onednn_are_refused(tmp_path, monkeypatch):
    """Paddle Inference with oneDNN is wrong for an ordinary CTR-GCN-Lite: relative error 0.9 with Paddle 3.3.1."""
    config = load_config("configs/recognition/ctrgcn/ctrgcn_lite_ntucs_joint_dml.yaml")
    folder = export_model(config, filled(config), tmp_path, "inference")
    with monkeypatch.context() as patch:
        patch.setattr(PaddleRuntime, "check", lambda self, batch: None)
        unchecked = PaddleRuntime(folder, RuntimeOptions(enable_mkldnn=True))
    error = relative_error(unchecked.compute(unchecked.selfcheck.array), unchecked.selfcheck.logits)
    if error <= 1e-4:
        pytest.skip(f"this Paddle answers rightly with oneDNN ({error:.1g})")
    with pytest.raises(SelfCheckError, match=r"relative error \S+, allowed 1e-04\. Use --enable_mkldnn=False"):
        open_runtime(folder, "paddle", RuntimeOptions(enable_mkldnn=True))


def test_an_export_of_an_older_version_opens(tmp_path):
    export = write_export(tmp_path / "export")
    export.file(METADATA).rename(export.file(".contract.json"))
    for path in (tmp_path / "export", export.file(".contract.json"), export.file(".onnx")):
        assert find_export(path).metadata == export.metadata
    with open_runtime(find_export(tmp_path / "export"), "onnxruntime") as runtime:
        assert relative_error(runtime.run(samples(2)), logits(samples(2))) < 1e-6
