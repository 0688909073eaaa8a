"""An export is whole, small, and right, or it is not there."""
import json

import numpy as np
import paddle
import pytest
from deploy_cases import CLASSES, FRAMES, JOINTS, SMALL, dynamic, filled, small_config
from golden_fill import fill

from paddlevideo_skel.build import build_recognizer
from paddlevideo_skel.cli import run_command
from paddlevideo_skel.config import load_config
from paddlevideo_skel.errors import CheckpointError, ConfigError, ExportError, OutputError
from paddlevideo_skel.export import exporter
from paddlevideo_skel.export.exporter import export_checkpoint, export_model
from paddlevideo_skel.inference.artifact import find_export
from paddlevideo_skel.inference.paddle_runtime import PaddleRuntime
from paddlevideo_skel.inference.runtime import RuntimeOptions, open_runtime

FILES = {"inference.json", "inference.pdiparams", "inference.metadata.json", "inference.selfcheck.npz"}


def content(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def answers(folder, array):
    return PaddleRuntime(find_export(folder), RuntimeOptions()).run(array)


def slow(*case):
    """A case whose model and kind ``test_every_copy_answers_alike`` of the battery exports in the fast suite."""
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize("name, kind, form", [
    ("ctrgcn", "minimal", "json"), ("stgcn_plusplus", "minimal", "json"), ("stgcn", "minimal", "json"),
    ("posec3d", "minimal", "json"), ("stgcn", "ordinary", "json"), ("ctrgcn", "minimal", "pdmodel"),
    ("stgcn", "ordinary", "pdmodel"), slow("ctrgcn", "ordinary", "json"), slow("stgcn_plusplus", "ordinary", "json"),
    slow("posec3d", "ordinary", "json"), slow("ctrgcn", "ordinary", "pdmodel"), slow("stgcn", "minimal", "pdmodel"),
    slow("posec3d", "ordinary", "pdmodel"), slow("posec3d", "minimal", "pdmodel")])
def test_the_files_answer_like_the_dynamic_graph_at_any_batch_size(exports, name, kind, form):
    folder = exports(name, kind, form)
    graph = {"inference.pdmodel" if form == "pdmodel" else "inference.json"}
    onnx = {"inference.onnx"} if "onnx" in folder.metadata else set()
    assert content(folder.stem.parent) == FILES - {"inference.json"} | graph | onnx
    array = np.random.default_rng(5).normal(0, 0.4, (4, *folder.sample_shape)).astype("float32")
    right = dynamic(filled(small_config(name)), array)
    runtimes = [PaddleRuntime(folder, RuntimeOptions())]
    if onnx:
        runtimes.append(open_runtime(folder, "onnxruntime"))
        assert any(folder.metadata["onnx"]["rewrites"].values()) == (kind == "minimal")
        assert folder.metadata["onnx"]["opset"] == 13 and max(folder.metadata["onnx"]["relative_error"].values()) < 1e-5
    for runtime in runtimes:
        for batch in (1, 2, 4):
            assert np.abs(runtime.run(array[:batch]) - right[:batch]).max() < 1e-5 * np.abs(right).max()


def test_the_metadata_knows_everything(exports):
    config, export = small_config("ctrgcn"), exports("ctrgcn")
    metadata = export.metadata
    assert metadata["input"]["shape"] == [-1, 3, FRAMES, JOINTS, 1]
    assert metadata["output"]["num_classes"] == CLASSES == len(metadata["class_names"])
    assert metadata["class_names"][0] == "walk"
    assert (metadata["model_name"], metadata["kind"], metadata["top_k"]) == ("CTRGCNLite_utkinect", "minimal", 3)
    assert metadata["layout"]["joints"][0] == "hip_center" and len(metadata["layout"]["bones"]) == 19
    # The pipeline is complete in itself: a custom layout is its description, not a name from a config.
    assert metadata["pipeline"]["sample"][0]["PreNormalize3D"]["layout"]["center"] == 1
    assert metadata["selfcheck"]["tolerance"] == 1e-4
    assert max(metadata["verified"]["relative_error"].values()) < 1e-5
    assert metadata["tools"]["paddle"] == paddle.__version__
    stored = np.load(export.file(".selfcheck.npz"))
    right = dynamic(filled(config), stored["input"])
    np.testing.assert_allclose(stored["logits"], right, rtol=1e-5, atol=1e-5 * np.abs(right).max())
    assert 0.3 < stored["input"].std() < 0.7


def test_clips_are_averaged_inside_the_graph(exports):
    folder = exports("stgcn_plusplus")
    assert folder.metadata["clips"] == 2 and folder.sample_shape == (2, 1, FRAMES, JOINTS, 3)
    clips = np.random.default_rng(1).normal(0, 0.4, (2, 1, FRAMES, JOINTS, 3)).astype("float32")
    each = dynamic(filled(small_config("stgcn_plusplus")), np.stack([np.stack([clip, clip]) for clip in clips]))
    together = answers(folder.stem.parent, clips[None])
    np.testing.assert_allclose(together[0], each.mean(axis=0), rtol=1e-3, atol=1e-4 * np.abs(each).max())


def test_the_minimal_ctrgcn_lite_is_under_4_6_megabytes(tmp_path):
    config = load_config("configs/recognition/ctrgcn/ctrgcn_lite_ntucs_joint_dml.yaml")
    folder = export_model(config, filled(config), tmp_path, "CTRGCNLiteJoint", "minimal")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4.6e6
    assert folder.metadata["output"]["num_classes"] == 60


def test_a_name_with_the_other_form_finds_the_graph(exports):
    folder = exports("stgcn", "ordinary", "pdmodel")
    assert find_export(folder.stem.parent / "inference.json").graph == folder.stem.parent / "inference.pdmodel"


@pytest.mark.parametrize("wrong", ["values", "NaN"])
def test_a_wrong_graph_is_refused_and_nothing_is_left(tmp_path, monkeypatch, wrong):
    config = small_config("tiny")
    save = exporter.save_graph

    def save_another(model, shape, stem):
        bias = model.state_dict()["bias"]
        bias.set_value(bias.numpy() + (0.5 if wrong == "values" else np.nan))
        save(model, shape, stem)

    monkeypatch.setattr(exporter, "save_graph", save_another)
    with pytest.raises(ExportError, match=r"relative error \S+, allowed 1e-04"):
        export_model(config, filled(config), tmp_path / "new", "inference", "minimal")
    assert not (tmp_path / "new").exists()


def test_an_earlier_export_survives_a_failed_one_and_is_replaced_by_a_good_one(tmp_path, monkeypatch):
    config = small_config("tiny")
    export_model(config, filled(config), tmp_path, "inference", "minimal")
    (tmp_path / "inference.onnx").write_bytes(b"of the earlier export")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(exporter, "verify_graph", lambda export: (_ for _ in ()).throw(KeyboardInterrupt))
        export_model(config, filled(config, seed=3), tmp_path, "inference", "minimal")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    export_model(config, filled(config, seed=3), tmp_path, "inference", "minimal")
    assert content(tmp_path) == FILES
    assert (tmp_path / "inference.pdiparams").read_bytes() != before["inference.pdiparams"]


def test_an_output_that_cannot_be_written_is_told_first(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        export_checkpoint(small_config("tiny"), tmp_path / "no checkpoint", tmp_path / "file" / "folder")
    with pytest.raises(CheckpointError, match="checkpoint not found"):
        export_checkpoint(small_config("tiny"), tmp_path / "no checkpoint", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("form", ["both", "student"])
def test_the_student_of_a_distillation_is_exported(tmp_path, form):
    config = small_config("distilled")
    both = fill(build_recognizer(config))
    paddle.save((both if form == "both" else both.main).state_dict(), str(tmp_path / "a.pdparams"))
    folder = export_checkpoint(config, tmp_path / "a.pdparams", tmp_path / "out", kind="minimal")
    assert folder.stem.name == config["model_name"] and folder.metadata["backbone"] == "CTRGCNLite"
    array = np.random.default_rng(5).normal(0, 0.4, (1, *folder.sample_shape)).astype("float32")
    right = dynamic(both.main, array)
    assert np.abs(answers(folder.stem, array) - right).max() < 1e-5 * np.abs(right).max()


@pytest.mark.parametrize("override, name", [("INFERENCE.top_k=11", "inference"), ("INFERENCE.top_k=yes", "inference"),
                                            ("epochs=1", "a/b"), ("epochs=1", "..")])
def test_values_that_cannot_be(tmp_path, override, name):
    config = small_config("tiny", override)
    paddle.save(filled(config).state_dict(), str(tmp_path / "a.pdparams"))
    with pytest.raises(ConfigError, match="top_k" if "top_k" in override else "--save_name"):
        export_checkpoint(config, tmp_path / "a.pdparams", tmp_path / "out", name)


@pytest.mark.parametrize("command, kind", [([], "ordinary"), (["--minimal"], "minimal")])
def test_the_command(tmp_path, capsys, command, kind):
    config = small_config("tiny")
    paddle.save(filled(config).state_dict(), str(tmp_path / "a.pdparams"))
    path, overrides = SMALL["tiny"]
    given = [f"--override={text}" for text in overrides]
    assert run_command("export", [*command, "-c", f"configs/recognition/{path}", "--save_name", "inference", *given,
                                  f"-p={tmp_path / 'a.pdparams'}", f"-o={tmp_path / 'out'}"]) == 0
    assert json.loads((tmp_path / "out/inference.metadata.json").read_text())["kind"] == kind
    assert "agrees with the dynamic graph" in capsys.readouterr().out
    assert run_command("export", ["-c", f"configs/recognition/{path}", "-p", "nowhere", "-o", str(tmp_path)]) == 2
    assert "checkpoint not found" in capsys.readouterr().err
