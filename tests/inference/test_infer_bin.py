"""A folder of samples through a model: the right answers in the right files, however often it is interrupted."""
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from paths import ROOT

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from ascend_stand_ins import install_acl, install_ais_bench
from tiny_export import CLASSES, PIPELINE, SAMPLE, logits, samples, write_bin_folder, write_export

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.errors import OutputError
from paddlevideo_skel.inference import bin_inference
from paddlevideo_skel.inference.artifact import relative_error, write_metadata
from paddlevideo_skel.inference.bin_inference import infer_bins, merge_reports, read_ahead
from paddlevideo_skel.inference.bin_results import ResultFolder
from paddlevideo_skel.inference.onnx_runtime import OnnxRuntime
from paddlevideo_skel.inference.runtime import RuntimeOptions, open_runtime

COUNT = 11


@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path / "model")


@pytest.fixture
def bins(tmp_path):
    return write_bin_folder(tmp_path / "bins", samples(COUNT))


def call(model, source, output, *more):
    return run_command("infer-bin", ["--model", str(model), "--input", str(source), "--output", str(output),
                                     "--cpu_threads=1", *map(str, more)])


def answers(folder):
    """(n, classes), read by NumPy alone."""
    return np.stack([np.fromfile(folder / f"{i:05d}_0.bin", "<f4") for i in range(COUNT)])


def files(folder):
    """Every file's content but for the times."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith("results")}


@pytest.mark.parametrize("batch", [None, 1, 4, 64])
def test_every_sample_gets_its_own_answer(export, bins, tmp_path, capsys, batch):
    out = tmp_path / "out"
    assert call(export.file(".onnx"), bins, out, *([] if batch is None else ["--batch_size", batch])) == 0
    assert {p.name for p in out.iterdir()} == {*(f"{i:05d}_0.bin" for i in range(COUNT)), "begun.json", "results.json"}
    assert relative_error(answers(out), logits(samples(COUNT))) < 1e-6
    report = json.loads((out / "results.json").read_text())
    assert (report["count"], report["computed"], report["batch"], report["answer_shape"]) == (
        COUNT, COUNT, batch or 1, [CLASSES])
    assert (report["runtime"], report["device"], report["precision"], report["model"]) == (
        "onnxruntime", "cpu", "fp32", "tiny")
    assert report["bins"]["path"] == str(bins)
    assert report["fps"] == pytest.approx(COUNT / report["seconds"])
    printed = capsys.readouterr().out
    assert f"FPS: {report['fps']:.2f} (batch {batch or 1}, onnxruntime on cpu)" in printed
    assert ResultFolder(out).num_classes == CLASSES


@pytest.mark.parametrize("install", [install_ais_bench, install_acl])
def test_the_same_files_from_an_om_model_of_a_fixed_batch(bins, tmp_path, monkeypatch, install):
    """11 samples in batches of 4: the last is padded, and the padding dropped."""
    export = write_export(tmp_path / "fixed", "tiny_bs4", 4)
    export.file(".om").touch()
    stand_in = install(monkeypatch)
    assert call(export.file(".om"), bins, tmp_path / "om") == 0
    assert call(export.file(".onnx"), bins, tmp_path / "onnx") == 0
    assert not stand_in.live
    assert {p.name for p in (tmp_path / "om").iterdir()} == {p.name for p in (tmp_path / "onnx").iterdir()}
    assert relative_error(answers(tmp_path / "om"), answers(tmp_path / "onnx")) < 1e-6
    report = json.loads((tmp_path / "om" / "results.json").read_text())
    assert (report["batch"], report["runtime"], report["device"], report["count"]) == (4, "om", "npu:0", COUNT)


def fixed_batch(export, folder, batch):
    """A copy of an ONNX export whose shapes say ``batch``, with what stands for an ``.om`` beside it."""
    import onnx

    stem = folder / f"fixed_bs{batch}"
    folder.mkdir()
    model = onnx.load(export.file(".onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(model, stem.with_suffix(".onnx"))
    stem.with_suffix(".om").touch()
    export.selfcheck().save(f"{stem}.selfcheck.npz")
    metadata = {**export.metadata, "selfcheck": {"file": f"{stem.name}.selfcheck.npz", "tolerance": 1e-4},
                "input": {**export.metadata["input"], "shape": [batch, *export.sample_shape]}}
    write_metadata(metadata, f"{stem}.metadata.json")
    return stem


def test_a_real_model_on_every_runtime(ctrgcn_export, tmp_path, monkeypatch):
    """A small CTR-GCN: Paddle, ONNX Runtime and both ways to an NPU write the same files with the same answers."""
    from deploy_cases import dynamic, filled, small_config

    config, export = small_config("ctrgcn"), ctrgcn_export
    model = fixed_batch(export, tmp_path / "fixed", 4)
    array = np.random.default_rng(5).normal(0, 0.4, (COUNT, *export.sample_shape)).astype("float32")
    bins = write_bin_folder(tmp_path / "bins", array, num_classes=export.num_classes,
                            pipeline=export.metadata["pipeline"])
    for name, path, more in (("paddle", export.graph, ["--runtime=paddle", "-b4"]),
                             ("onnx", model.with_suffix(".onnx"), ["--provider=cpu"])):
        assert call(path, bins, tmp_path / name, *more) == 0
    for name, install in (("ais_bench", install_ais_bench), ("acl", install_acl)):
        with monkeypatch.context() as patch:
            stand_in = install(patch)
            assert call(model.with_suffix(".om"), bins, tmp_path / name) == 0
            assert not stand_in.live
    right = dynamic(filled(config), array)
    names = {p.name for p in (tmp_path / "paddle").iterdir()}
    for name in ("paddle", "onnx", "ais_bench", "acl"):
        assert {p.name for p in (tmp_path / name).iterdir()} == names
        assert relative_error(answers(tmp_path / name), right) < 1e-5


def test_only_what_is_missing_or_broken_is_made_again(export, bins, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert call(export.stem, bins, out, "-b4", "--runtime=onnxruntime") == 0
    right = files(out)
    computed = []
    run = OnnxRuntime.run
    monkeypatch.setattr(OnnxRuntime, "run", lambda self, array: computed.append(len(array)) or run(self, array))
    assert call(export.stem, bins, out, "-b4", "--runtime=onnxruntime") == 0
    assert not computed and "all 11 results exist" in capsys.readouterr().out
    (out / "00005_0.bin").unlink()
    (out / "00010_0.bin").write_bytes(b"half")
    (out / ".00003_0.bin.123.tmp").write_bytes(b"of a run that was killed")
    kept = (out / "00004_0.bin").stat().st_mtime_ns
    assert call(export.stem, bins, out, "-b4", "--runtime=onnxruntime") == 0
    assert computed == [4, 3]  # the batches that they were in
    assert files(out) == right and (out / "00004_0.bin").stat().st_mtime_ns == kept
    assert json.loads((out / "results.json").read_text())["computed"] == 7


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_was_ended_half_way_resumes_to_the_same_folder(export, tmp_path, signal_number):
    count = 400
    bins = write_bin_folder(tmp_path / "many", samples(count))
    out = tmp_path / "out"
    slow = ("import sys, time\nfrom paddlevideo_skel.inference import onnx_runtime as o\n"
            "compute = o.OnnxRuntime.compute\n"
            "o.OnnxRuntime.compute = lambda self, array: time.sleep(0.02) or compute(self, array)\n"
            "from paddlevideo_skel.cli import run_command\nsys.exit(run_command('infer-bin', sys.argv[1:]))")
    arguments = ["--model", export.file(".onnx"), "--input", bins, "--output", out, "-b", "3"]
    process = subprocess.Popen([sys.executable, "-c", slow, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    while sum(1 for _ in out.glob("*_0.bin")) < 5 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal_number)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == (130 if signal_number == signal.SIGINT else -signal_number), printed
    assert 5 <= sum(1 for _ in out.glob("*_0.bin")) < count and not (out / "results.json").exists()
    assert call(export.file(".onnx"), bins, out, "-b3") == 0
    assert call(export.file(".onnx"), bins, tmp_path / "whole", "-b3") == 0
    assert files(out) == files(tmp_path / "whole")
    assert json.loads((out / "results.json").read_text())["count"] == count


def test_shards_make_the_whole_folder(export, bins, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    for number, made in ((2, range(1, COUNT, 3)), (3, range(2, COUNT, 3)), (1, range(0, COUNT, 3))):
        assert not (out / "results.json").exists()
        before = {p.name for p in out.glob("*_0.bin")}
        assert call(export.file(".onnx"), bins, out, "--shard", f"{number}/3") == 0
        assert {p.name for p in out.glob("*_0.bin")} - before == {f"{i:05d}_0.bin" for i in made}
    assert call(export.file(".onnx"), bins, whole) == 0
    assert files(out) == files(whole)
    report = json.loads((out / "results.json").read_text())
    parts = [json.loads((out / f"results-{i}-of-3.json").read_text()) for i in (1, 2, 3)]
    assert [part["count"] for part in parts] == [4, 4, 3] and report["count"] == COUNT
    assert report["seconds"] == pytest.approx(sum(part["seconds"] for part in parts))
    assert report["fps"] == pytest.approx(COUNT / report["seconds"]) and len(report["shards"]) == 3
    (out / "results-2-of-3.json").unlink()
    assert merge_reports(out, 3) is None


def test_a_plain_folder_in_natural_order(export, tmp_path, capsys):
    """As ModelZoo's scripts make: 0.bin, 1.bin, … 10.bin."""
    plain = tmp_path / "val_data"
    plain.mkdir()
    for i, sample in enumerate(samples(COUNT)):
        sample.tofile(plain / f"{i}.bin")
    assert call(export.file(".onnx"), plain, tmp_path / "out", "-b3") == 0
    made = np.stack([np.fromfile(tmp_path / "out" / f"{i}_0.bin", "<f4") for i in range(COUNT)])
    assert relative_error(made, logits(samples(COUNT))) < 1e-6
    assert "the preprocessing of its 11 files is unknown" in capsys.readouterr().out
    assert call(export.file(".onnx"), plain, tmp_path / "part", "-b1", "--shard=3/5") == 0
    assert {p.name for p in (tmp_path / "part").glob("*_0.bin")} == {"2_0.bin", "7_0.bin"}


def test_damaged_and_foreign_bin_folders(export, bins, tmp_path, capsys):
    def refused(source, *words):
        assert call(export.file(".onnx"), source, tmp_path / "out") == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ") and all(word in told for word in words), told
        assert not list((tmp_path / "out").glob("*_0.bin"))

    file = bins / "bin" / "00007.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    refused(bins, "00007.bin: expected 240 bytes", "got 236")
    file.write_bytes(whole + b"1234")
    refused(bins, "00007.bin: expected 240 bytes", "got 244")
    file.unlink()
    refused(bins, "00007.bin: file not found")
    file.write_bytes(np.full(SAMPLE, np.nan, "float32").tobytes())
    assert call(export.file(".onnx"), bins, tmp_path / "nan", "-b2") == 2
    assert "bins: 00006 to 00007: contains NaN or infinity" in capsys.readouterr().err
    refused(tmp_path / "gone", "gone: folder not found")
    refused(write_bin_folder(tmp_path / "shape", samples(2)[:, :, 1:]), "expected samples (3, 4, 5, 1)",
            "got (3, 3, 5, 1). This bin folder belongs to another model")
    other = {**PIPELINE, "transform": [{"FormatGCNInput": {"num_person": 2}}]}
    refused(write_bin_folder(tmp_path / "pipeline", samples(2), pipeline=other), "was not preprocessed as ",
            "tiny expects: transform.0.FormatGCNInput.num_person is 2, expected 1. This bin folder belongs to another")
    plain = tmp_path / "plain"
    plain.mkdir()
    refused(plain, "has neither bins.json nor .bin files")
    (plain / "0.bin").write_bytes(b"12345678")
    refused(plain, "0.bin: expected 240 bytes", "got 8")


def test_a_result_folder_that_something_else_began(export, bins, tmp_path, capsys):
    out = tmp_path / "out"

    def refused(model, source, *words, more=()):
        before = files(out)
        assert call(model, source, out, *more) == 2
        told = capsys.readouterr().err
        assert all(word in told for word in words) and files(out) == before, told

    assert call(export.file(".onnx"), bins, out) == 0
    capsys.readouterr()
    other = write_export(tmp_path / "other", seed=3)
    refused(other.file(".onnx"), bins, "was started with different settings: model_digest was", "is",
            "Choose another folder")
    refused(export.file(".onnx"), write_bin_folder(tmp_path / "b", samples(4)), "with different settings: bins was ")
    begun = json.loads((out / "begun.json").read_text())
    (out / "begun.json").write_text(json.dumps({**begun, "runtime": "om"}))
    refused(export.file(".onnx"), bins, 'settings: runtime was "om", is "onnxruntime"')
    (out / "begun.json").write_text("[]")
    refused(export.file(".onnx"), bins, "begun.json: is damaged: expected a JSON object, got []")
    (out / "begun.json").write_text("{")
    refused(export.file(".onnx"), bins, "begun.json: is damaged (JSONDecodeError")
    (out / "begun.json").unlink()
    refused(export.file(".onnx"), bins, "contains *_0.bin but no begun.json")


@pytest.mark.parametrize(("more", "words"), [
    (["--batch_size=0"], "--batch_size: expected at least 1, got 0"),
    (["--shard=4/3"], "--shard: expected i/n with i from 1 to n, got '4/3'"),
    (["--provider=cpu", "--use_gpu=False"], "--provider: conflicts with --use_gpu"),
    (["--provider=cpu", "--runtime=om"], "--provider: applies only to ONNX Runtime, but the runtime is om"),
    (["--precision=fp8"], "--precision: unknown precision 'fp8'"),
    (["--precision=fp16"], "--precision fp16: ONNX Runtime supports only fp32 here"),
    (["--device_id=-1"], "--device_id: expected an integer >= 0, got -1"),
    (["--loop=0"], "--loop: expected at least 1, got 0")])
def test_arguments_that_cannot_be(export, bins, tmp_path, capsys, more, words):
    assert call(export.file(".onnx"), bins, tmp_path / "out", *more) == 2
    assert words in capsys.readouterr().err


def test_arguments_that_are_missing_or_do_not_fit_the_model(tmp_path, bins, capsys):
    export = write_export(tmp_path / "fixed", "tiny_bs4", 4)
    assert run_command("infer-bin", ["--model", str(export.stem)]) == 2
    assert "--input, --output: are both required" in capsys.readouterr().err
    assert call(export.file(".onnx"), bins, tmp_path / "out", "-b2") == 2
    assert "expected 4, the batch size of the model, got 2" in capsys.readouterr().err
    assert call(tmp_path / "gone.om", bins, tmp_path / "out") == 2
    assert "export not found" in capsys.readouterr().err


def test_the_speed_alone(export, tmp_path, monkeypatch, capsys):
    seconds = iter([9.0, 0.001, 0.002, 0.006])  # the first warms up and does not count
    monkeypatch.setattr(OnnxRuntime, "compute_timed", lambda self, array: (self.compute(array), next(seconds)))
    assert run_command("infer-bin", ["--model", str(export.file(".onnx")), "--loop", "3", "-b", "8"]) == 0
    assert "3 runs of batch size 8, 3.000 ms (median 2.000, min 1.000), FPS: 2666.67" in capsys.readouterr().out


def test_a_batch_is_read_while_another_is_computed_and_no_more(tmp_path):
    """After taking batch k, batch k + 1 is being read and batch k + 2 is not."""
    begun = []

    class Folder:
        sample_shape = SAMPLE

        def array(self, name):
            begun.append(name)
            return np.full(SAMPLE, name, "float32")

    batches = [[0, 1], [2, 3], [4, 5], [6]]
    taken = []
    for names, array in read_ahead(Folder(), batches):
        taken += names
        assert np.array_equal(array[:, 0, 0, 0, 0], names)
        limit = time.monotonic() + 60
        while len(begun) < min(len(taken) + len(names), 7) and time.monotonic() < limit:
            time.sleep(0.001)
        assert len(taken) <= len(begun) <= min(len(taken) + 2, 7)
        assert len(begun) > len(taken) or len(taken) == 7
    assert taken == list(range(7))


def test_a_disk_that_is_full_is_told_and_leaves_no_part_of_an_answer(export, bins, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    with open_runtime(export, "onnxruntime", RuntimeOptions(cpu_threads=1)) as runtime:
        infer_bins(runtime, bins, tmp_path / "out", share=(0, 11))
        monkeypatch.setattr(bin_inference.os, "replace", full)
        with pytest.raises(OutputError, match=r"00001_0\.bin: cannot be written \(No space left"):
            infer_bins(runtime, bins, tmp_path / "out", share=(1, 11))
    assert sorted(os.listdir(tmp_path / "out")) == ["00000_0.bin", "begun.json", "results-1-of-11.json"]


def test_no_paddle_is_needed(export, bins, tmp_path):
    code = f"""import sys
sys.modules.update(paddle=None, onnx=None, paddle2onnx=None)
from paddlevideo_skel.cli import run_command
sys.exit(run_command("infer-bin", ["--model", {str(export.file(".onnx"))!r}, "--input", {str(bins)!r}, "--output",
                                   {str(tmp_path / "out")!r}, "--provider", "cpu"]))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert relative_error(answers(tmp_path / "out"), logits(samples(COUNT))) < 1e-6


def test_the_script(export, bins, tmp_path):
    done = subprocess.run([sys.executable, ROOT / "tools/infer_bin.py", "--model", export.file(".onnx"), "--input",
                           bins, "--output", "out"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Pure inference: 11 samples" in done.stdout
