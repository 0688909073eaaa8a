"""ONNX Runtime's execution providers, with what onnxruntime-cann 1.24.4 was seen to do on a host without CANN."""
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnxruntime
from tiny_export import logits, samples, write_export

from paddlevideo_skel.errors import ExportError, SelfCheckError, UnavailableError
from paddlevideo_skel.inference import onnx_runtime, runtime
from paddlevideo_skel.inference.artifact import relative_error
from paddlevideo_skel.inference.runtime import RuntimeOptions, open_runtime

CANN, CUDA, CPU = "CANNExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
# What InferenceSession raised where CANN's libraries were missing, its beginning and its end.
RECORDED = ("/build/onnxruntime/python/onnxruntime_pybind_state.cc:1189 std::shared_ptr<onnxruntime::"
            "IExecutionProviderFactory> onnxruntime::python::CreateExecutionProviderFactoryInstance(const "
            "onnxruntime::SessionOptions&) create CANN ExecutionProvider fail\n")
LIBRARY = "libascendcl.so: cannot open shared object file: No such file or directory"


@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path)


@pytest.fixture
def provided(monkeypatch):
    """``provided(CANN, …)``: an ONNX Runtime with these providers; what it is asked for is in the list returned.

    ``answer`` is how a provider but the CPU's behaves: raises as recorded, is left out in silence, or computes (here on
    the CPU; ``factor`` makes it wrong).
    """
    real, asked = onnxruntime.InferenceSession, []

    def install(*names, answer="raises", factor=1.0):
        class Session:
            def __init__(self, path, settings, providers, enable_fallback):
                assert enable_fallback == 0  # else the CPU would be taken, and only a print would tell
                (self.name, options), = providers
                asked.append((self.name, options))
                if self.name != CPU and answer == "raises":
                    raise RuntimeError(RECORDED)
                self.session = real(path, settings, providers=[CPU])

            def get_providers(self):
                return [CPU] if answer == "silent" or self.name == CPU else [self.name, CPU]

            def run(self, names, feeds):
                found = self.session.run(names, feeds)
                return found if self.name == CPU else [logits * np.float32(factor) for logits in found]

            def __getattr__(self, name):
                return getattr(self.session, name)

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*names, CPU])
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        return asked

    return install


@pytest.mark.parametrize("answer", ["raises", "silent"])
def test_cann_that_was_asked_for_and_cannot_be_loaded(export, provided, monkeypatch, answer):
    provided(CANN, answer=answer)
    words = {"raises": "create CANN ExecutionProvider fail", "silent": "used CPUExecutionProvider instead"}[answer]
    with pytest.raises(UnavailableError, match=rf"--use_npu \(CANNExecutionProvider\): is built into this .*{words}.*"
                                               r"libascendcl\.so.*source its set_env\.sh"):
        open_runtime(export, "onnxruntime", RuntimeOptions(use_npu=True))
    monkeypatch.setattr(onnx_runtime, "library_problem", lambda provider: LIBRARY)
    with pytest.raises(UnavailableError, match=f"cannot be used: {LIBRARY}"):
        open_runtime(export, "onnxruntime", RuntimeOptions(use_npu=True))


@pytest.mark.parametrize("answer", ["raises", "silent"])
def test_cann_that_nobody_asked_for_and_cannot_be_loaded(export, provided, caplog, answer):
    """Nothing asked: what is there and works, which is the CPU; a line tells."""
    asked = provided(CANN, answer=answer)
    with caplog.at_level("WARNING"):
        runtime = open_runtime(export, "onnxruntime")
    assert runtime.device == "cpu" and [name for name, _ in asked] == [CANN, CPU]
    assert "CANNExecutionProvider is built into this ONNX Runtime but cannot be used" in caplog.text
    assert relative_error(runtime.run(samples(3)), logits(samples(3))) < 1e-6


def test_what_is_asked_of_cann(export, provided):
    asked = provided(CANN, CUDA, answer="computes", factor=1 + 1e-3)
    runtime = open_runtime(export, "onnxruntime", RuntimeOptions(use_npu=True, precision="fp16", device_id=3))
    assert (runtime.device, runtime.options.precision) == ("npu", "fp16")
    # The model is shown to be right in float32 on the CPU first.
    assert asked == [(CPU, {}), (CANN, {"device_id": "3", "precision_mode": "force_fp16"})]
    asked.clear()
    with pytest.raises(SelfCheckError, match=r"relative error 0.001, allowed 1e-04"):
        open_runtime(export, "onnxruntime", RuntimeOptions(use_npu=True))
    assert asked == [(CANN, {"device_id": "0", "precision_mode": "must_keep_origin_dtype"})]
    provided(CANN, answer="computes")
    with pytest.raises(UnavailableError, match=r"is ignored: .* computes in float32"):
        open_runtime(export, "onnxruntime", RuntimeOptions(use_npu=True, precision="fp16"))


def test_float16_through_cann_does_not_hide_a_wrong_model(export, provided, tmp_path):
    other = write_export(tmp_path / "other", seed=5)
    export.file(".onnx").write_bytes(other.file(".onnx").read_bytes())
    asked = provided(CANN, answer="computes")
    with pytest.raises(SelfCheckError, match="allowed 1e-04"):
        open_runtime(export, "onnxruntime", RuntimeOptions(use_npu=True, precision="fp16"))
    assert [name for name, _ in asked] == [CPU]


def test_a_gpu_comes_before_an_npu_and_both_can_be_declined(export, provided):
    for options, device in (({}, "gpu"), ({"use_gpu": False}, "npu"), ({"use_gpu": False, "use_npu": False}, "cpu"),
                            ({"use_npu": True}, "npu")):
        provided(CANN, CUDA, answer="computes")
        assert open_runtime(export, "onnxruntime", RuntimeOptions(**options)).device == device


def test_what_is_not_in_this_onnx_runtime(export, provided):
    provided(CUDA, answer="computes")
    with pytest.raises(UnavailableError, match=r"--use_npu: this ONNX Runtime has no CANNExecutionProvider, only CUDA.*"
                                               "pip install onnxruntime-cann"):
        open_runtime(export, "onnxruntime", RuntimeOptions(use_npu=True))
    for precision in ("fp16", "bf16"):
        with pytest.raises(UnavailableError, match=f"--precision {precision}: ONNX Runtime supports only fp32 here"):
            open_runtime(export, "onnxruntime", RuntimeOptions(precision=precision))


def test_a_damaged_model_is_no_fault_of_the_provider(export):
    export.file(".onnx").write_bytes(b"nonsense")
    with pytest.raises(ExportError, match=r"tiny\.onnx: ONNX Runtime cannot load it"):
        open_runtime(export, "onnxruntime")


def test_why_a_library_cannot_be_loaded(tmp_path, monkeypatch):
    real = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_shared.so"
    if not real.is_file():
        pytest.skip("this ONNX Runtime has no shared library for providers")
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "capi").mkdir()
    made = {which: tmp_path / "capi" / f"libonnxruntime_providers_{which}.so" for which in ("shared", "cann")}
    made["shared"].write_bytes(b"no library")
    assert onnx_runtime.library_problem(CANN) is None  # the provider has none
    made["cann"].write_bytes(b"no library")
    assert "libonnxruntime_providers_shared.so" in onnx_runtime.library_problem(CANN)
    made["shared"].unlink()
    made["shared"].symlink_to(real)
    assert "libonnxruntime_providers_cann.so" in onnx_runtime.library_problem(CANN)
    made["cann"].unlink()
    made["cann"].symlink_to(real)
    assert onnx_runtime.library_problem(CANN) is None


def test_an_onnx_runtime_that_cannot_be_imported(export, monkeypatch):
    """onnxruntime-cann 1.24.4 with NumPy 2: ``ImportError: import numpy failed``."""
    def fail(name, package=None):
        raise ImportError("import numpy failed")

    monkeypatch.setattr(runtime.importlib, "import_module", fail)
    with pytest.raises(UnavailableError, match=r"cannot be imported \(import numpy failed\).*'numpy<2'"):
        open_runtime(export, "onnxruntime")
