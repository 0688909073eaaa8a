"""Models compiled for an NPU, with stand-ins for ais_bench and pyACL: no NPU has been here."""
import importlib.machinery
import subprocess
import sys
import types

import numpy as np
import pytest
from paths import ROOT

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from ascend_stand_ins import Breach, Chip, install_acl, install_ais_bench
from tiny_export import CLASSES, SAMPLE, logits, samples, write_export

from paddlevideo_skel.errors import ConfigError, ExportError, SelfCheckError, UnavailableError
from paddlevideo_skel.inference import om_runtime
from paddlevideo_skel.inference.artifact import find_export, relative_error
from paddlevideo_skel.inference.om_runtime import AclSession, AisBenchSession
from paddlevideo_skel.inference.runtime import RuntimeOptions, open_runtime

BATCH = 4
INSTALL = {"ais_bench": install_ais_bench, "acl": install_acl}


def all_released(stand_in):
    """Whether nothing is in use; each release was checked when it was made."""
    return not stand_in.live and not getattr(stand_in, "initialised", False)


@pytest.fixture
def export(tmp_path):
    """An export of a fixed batch, with what stands for an ``.om`` beside the ONNX model."""
    export = write_export(tmp_path, "tiny_bs4", BATCH)
    export.file(".om").write_bytes(b"stands for a compiled model")
    return export


@pytest.fixture(params=INSTALL)
def install(request, monkeypatch):
    """Installs one of the stand-ins, with the chip given."""
    return lambda chip=None: INSTALL[request.param](monkeypatch, chip)


@pytest.mark.parametrize("input_type", ["float32", "float16"])
def test_answers_are_those_of_the_model(export, install, input_type):
    stand_in = install(Chip(input_type=input_type))
    array = samples(3)
    with open_runtime(export.file(".om"), "om", RuntimeOptions(precision="fp16" if input_type == "float16" else "fp32",
                                                        device_id=2)) as runtime:
        answers = runtime.run(array)
        assert (runtime.device, runtime.kind, runtime.files) == ("npu:2", "om", [export.file(".om")])
        assert runtime.seconds > 0
        assert set(runtime.errors) == {BATCH}
    assert answers.dtype == np.float32 and answers.shape == (3, CLASSES)
    assert relative_error(answers, logits(array)) < (2e-3 if input_type == "float16" else 1e-6)
    assert all_released(stand_in)


def test_the_time_is_the_chips(export, monkeypatch):
    session = install_ais_bench(monkeypatch)
    with open_runtime(export, "om") as runtime:
        runtime.run(samples(BATCH))
        assert runtime.seconds == pytest.approx(0.0025)
        monkeypatch.setattr(session, "summary", lambda self: types.SimpleNamespace(exec_time_list=[9.0, 3.5]))
        runtime.run(samples(BATCH))
        assert runtime.seconds == pytest.approx(0.0035)


def test_ais_bench_comes_first_and_old_releases_are_served(export, monkeypatch):
    session, acl = install_ais_bench(monkeypatch), install_acl(monkeypatch)
    session.sumary, session.finalize = session.summary, session.free_resource
    closed = []
    monkeypatch.setattr(session, "finalize", lambda self: closed.append(self.live.remove(self)))
    for name in ("summary", "free_resource"):
        monkeypatch.setattr(session, name, property(lambda self: self.none))
    with open_runtime(export, "om") as runtime:
        assert runtime.version.startswith("ais_bench") and not acl.calls
    assert closed and all_released(session)


def test_every_answer_of_acl_is_its_own(export, monkeypatch):
    """The memory on the device is used again; what was answered before must not change."""
    install_acl(monkeypatch)
    array = samples(2 * BATCH)
    with open_runtime(export, "om") as runtime:
        first, second = runtime.run(array[:BATCH]), runtime.run(array[BATCH:])
    assert relative_error(np.concatenate([first, second]), logits(array)) < 1e-6


def test_wrong_answers_are_refused_and_the_device_is_released(export, install):
    stand_in = install(Chip(wrong=1.01))
    with pytest.raises(SelfCheckError, match=r"relative error 0.01, allowed 1e-04\. If it was compiled for float16"):
        open_runtime(export, "om")
    with pytest.raises(SelfCheckError, match=r"relative error 0.01, allowed 5e-03"):
        open_runtime(export, "om", RuntimeOptions(precision="fp16"))
    assert all_released(stand_in)


def test_float16_must_be_requested_and_must_be_used(export, install):
    install(Chip(rounding=True))
    with pytest.raises(SelfCheckError, match="use --precision fp16"):
        open_runtime(export, "om")
    with open_runtime(export, "om", RuntimeOptions(precision="fp16")) as runtime:
        assert 1e-4 < runtime.errors[BATCH] < 5e-3
    install()
    with pytest.raises(UnavailableError, match=r"is ignored: .* computes in float32"):
        open_runtime(export, "om", RuntimeOptions(precision="fp16"))


@pytest.mark.parametrize("onnx", [None, {}, {"relative_error": {}}, {"relative_error": {"batch 4": 0.002}},
                                  {"relative_error": {"batch 4": 1e-7, "batch 8": float("nan")}}])
def test_rounding_is_allowed_only_where_the_onnx_model_was_right(tmp_path, install, onnx):
    export = write_export(tmp_path, "tiny_bs4", BATCH, onnx=onnx)
    export.file(".om").touch()
    install(Chip(rounding=True))
    with pytest.raises(ExportError, match="does not record that the ONNX model was verified in float32"):
        open_runtime(export, "om", RuntimeOptions(precision="fp16"))


@pytest.mark.parametrize(("batch", "chip", "words"), [
    (2, {}, r"expected an input \(2, 3, 4, 5, 1\) of .*, got \(4, 3, 4, 5, 1\) of float32"),
    (None, {}, r"its metadata has no batch size\. Make an ONNX model with a fixed batch size"),
    (4, {"input_type": "int32"}, r"of float32 or float16, as its metadata says, got \(4, 3, 4, 5, 1\) of int32"),
    (4, {"outputs": 2}, r"expected one (input and one )?output, got (1 and )?2")])
def test_a_model_that_does_not_match_its_metadata(tmp_path, install, batch, chip, words):
    export = write_export(tmp_path, "tiny_bs4", BATCH)
    export.file(".om").touch()
    export.metadata["input"]["shape"] = [batch or -1, *SAMPLE]
    stand_in = install(Chip(**chip))
    with pytest.raises(ExportError, match=words):
        open_runtime(export, "om")
    assert all_released(stand_in)


@pytest.mark.parametrize(("name", "result"), [
    ("get_input_dims", ({"dims": [-1, *SAMPLE]}, 0)), ("get_output_dims", ({"dims": []}, 0)),
    ("get_input_size_by_index", 10), ("get_output_data_type", 27)])
def test_a_model_of_another_form_through_acl(export, monkeypatch, name, result):
    stand_in = install_acl(monkeypatch)
    setattr(stand_in.module.mdl, name, lambda description, index: result)
    with pytest.raises(ExportError, match="which do not match"):
        open_runtime(export, "om")
    assert all_released(stand_in)


def test_missing_packages_devices_and_files(export, install, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(om_runtime.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UnavailableError, match=r"neither ais_bench nor pyACL .*set_env\.sh.*--runtime onnxruntime"):
            open_runtime(export, "om")
    install()
    for options in ({"use_gpu": True}, {"use_npu": False}):
        with pytest.raises(ConfigError, match="computes on an NPU"):
            open_runtime(export, "om", RuntimeOptions(**options))
    with pytest.raises(ConfigError, match="--device_id"):
        RuntimeOptions(device_id=-1)
    export.file(".om").unlink()
    with pytest.raises(ExportError, match=r"no compiled model\. Compile it with tools/atc.py"):
        open_runtime(find_export(tmp_path), "om")


@pytest.mark.parametrize("package", INSTALL)
def test_a_package_that_cannot_be_imported(export, monkeypatch, package):
    INSTALL[package](monkeypatch)
    name = {"ais_bench": "ais_bench.infer.interface", "acl": "acl"}[package]
    spec = importlib.machinery.ModuleSpec(package, None)
    monkeypatch.setattr(om_runtime.importlib.util, "find_spec", lambda name: spec if name == package else None)
    monkeypatch.setitem(sys.modules, name, None)  # import raises ImportError then
    with pytest.raises(UnavailableError, match=f"{package} is installed but cannot be imported .*set_env.sh"):
        open_runtime(export, "om")


@pytest.mark.parametrize("failure", ["open", "infer"])
def test_failures_of_ais_bench_are_reported(export, monkeypatch, failure):
    session = install_ais_bench(monkeypatch)
    session.failure = failure
    with pytest.raises(UnavailableError, match=r"ais_bench cannot open.*100000|in ais_bench: failed: .*507011"):
        open_runtime(export, "om")
    assert all_released(session)


CALLS = ["acl.init", "acl.rt.set_device", "acl.rt.create_context", "acl.mdl.load_from_file", "acl.mdl.create_desc",
         "acl.mdl.get_desc", "acl.mdl.get_input_dims", "acl.rt.malloc", "acl.mdl.create_dataset",
         "acl.create_data_buffer", "acl.mdl.add_dataset_buffer", "acl.mdl.get_output_dims", "acl.rt.memcpy",
         "acl.mdl.execute", "acl.rt.malloc_host"]


@pytest.mark.parametrize("call", CALLS)
def test_every_failing_call_is_reported_and_everything_released(export, monkeypatch, call):
    stand_in = install_acl(monkeypatch)
    makes = call.rpartition(".")[2].startswith("create_") and call != "acl.rt.create_context"
    stand_in.fail[call] = 0 if makes else 507899  # those return a pointer: none is their failure
    with pytest.raises(UnavailableError, match=f"{call} " + ("returned a null" if makes else "failed with 507899")):
        open_runtime(export, "om")
    assert call in stand_in.calls and all_released(stand_in)


@pytest.mark.parametrize("call", ["acl.rt.free", "acl.mdl.unload", "acl.mdl.destroy_dataset"])
def test_a_failing_release_is_reported_and_the_others_still_run(export, monkeypatch, call):
    """The stand-in then objects that something is left; the calls after the failed one show that they were tried."""
    stand_in = install_acl(monkeypatch)
    runtime = open_runtime(export, "om")
    stand_in.fail.update(dict.fromkeys(("acl.rt.destroy_context", "acl.rt.reset_device", "acl.finalize"), 0))
    stand_in.fail[call] = 507899
    with pytest.raises(UnavailableError, match=f"{call} failed with 507899"):
        runtime.close()
    assert stand_in.calls[-1] == "acl.finalize"
    runtime.close()  # once more does nothing
    assert stand_in.calls[-1] == "acl.finalize"


# What follows shows that the stand-ins catch a caller's faults.

@pytest.mark.parametrize("order", [lambda undo: undo.reverse(), lambda undo: undo.insert(3, undo.pop()),
                                   lambda undo: undo.append(undo[-1]), lambda undo: undo.pop(4)])
def test_the_stand_in_catches_a_wrong_order_of_release_and_a_leak(export, monkeypatch, order):
    install_acl(monkeypatch)
    runtime = open_runtime(export, "om")
    order(runtime.session.undo)
    with pytest.raises(Breach):
        runtime.close()


def test_the_stand_in_catches_use_after_release(export, monkeypatch):
    stand_in = install_acl(monkeypatch)
    session = AclSession(export.file(".om"), 0)
    session.close()
    for use in (lambda: session.run(samples(BATCH)), lambda: stand_in.module.mdl.execute(1, 2, 3),
                lambda: stand_in.module.rt.set_device(0), lambda: stand_in.module.rt.create_context(0)):
        with pytest.raises(Breach):
            use()
    bench = install_ais_bench(monkeypatch)
    session = AisBenchSession(export.file(".om"), 0)
    session.close()
    for use in (lambda: session.run(samples(BATCH)), session.close):
        with pytest.raises(Breach):
            use()
    assert not bench.live


def test_the_stand_ins_catch_a_wrong_input(export, monkeypatch):
    install_ais_bench(monkeypatch)
    bench = AisBenchSession(export.file(".om"), 0)
    array = samples(BATCH)
    for wrong in (array.astype("float64"), array[1:], np.asfortranarray(array), array.tolist()):
        with pytest.raises(Breach):
            bench.run(wrong)
    stand_in = install_acl(monkeypatch)
    session = AclSession(export.file(".om"), 0)
    with pytest.raises(Breach, match="memcpy"):
        session.run(samples(BATCH + 1))
    dataset = session.input[0]
    stand_in.module.mdl.add_dataset_buffer(dataset, stand_in.live[dataset].buffers[0])
    with pytest.raises(Breach, match="2 buffers"):
        session.run(samples(BATCH))


def test_no_paddle_and_no_onnx_runtime_are_needed(export):
    code = f"""import sys
sys.modules.update(paddle=None, onnxruntime=None, onnx=None)
from paddlevideo_skel.cli import run_command
sys.exit(run_command("infer-bin", ["--model", {str(export.file(".om"))!r}, "--loop", "2"]))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 2
    assert "error: --runtime om: neither ais_bench nor pyACL is installed here" in done.stderr
