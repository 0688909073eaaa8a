"""A checkpoint's weights go into a model, whole or, where asked for, re-initialised where classes or joints differ."""
import json
import logging
import pickle
import re

import numpy as np
import paddle
import pytest
from golden_fill import MODELS, entry, fill, golden, network_input
from small_models import SMALL, arrays, distillation, same, small

from paddlevideo_skel.checkpoints.fit import fit_main, fit_weights
from paddlevideo_skel.checkpoints.load import load_weights, split_models
from paddlevideo_skel.cli import main
from paddlevideo_skel.config import load_config
from paddlevideo_skel.errors import CheckpointError, ConfigError
from paddlevideo_skel.models import build_model
from paddlevideo_skel.training.trainer import TrainOptions, train


def test_a_paddlevideo_stgcn_plusplus_checkpoint_takes_the_graphs_own_adjacency(caplog):
    figures = golden("stgcn_plusplus_coco")
    model = build_model(MODELS["stgcn_plusplus_coco"])
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    weights = {name: entry(name, shapes[name]) for name in figures["state_dict"]}
    model.backbone.gcn[3].gcn.A.set_value(np.zeros((3, 17, 17), "float32"))
    fresh = build_model(MODELS["stgcn_plusplus_coco"])
    with caplog.at_level(logging.INFO):
        fit_weights(fresh, weights, "a.pdparams")
    assert "no learned adjacency" in caplog.text
    fresh.eval()
    logits = fresh(paddle.to_tensor(network_input(figures["input_shape"]))).numpy()
    expected = np.array(figures["logits"])
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


def with_prefix(weights, backbone, head):
    return {key.replace("backbone.", backbone, 1).replace("head.", head, 1): value for key, value in weights.items()}


@pytest.mark.parametrize("form", [("backbone.", "head."), ("0.", "1."), ("Student.0.", "Student.1."),
                                  ("_layers.backbone.", "_layers.head.")])
def test_a_single_model_takes_every_form(form, tmp_path):
    model = fill(small("CTRGCN"))
    path = tmp_path / "a.pdparams"
    with open(path, "wb") as file:
        pickle.dump(with_prefix(arrays(model), *form), file, protocol=2)
    other = small("CTRGCN")
    fit_weights(other, load_weights(path), path)
    assert same(arrays(other), arrays(model))


def test_of_teacher_and_student_a_single_model_takes_the_student(caplog):
    pair = fill(build_model(distillation()))
    single = build_model({"framework": "RecognizerGCN", **distillation()["models"][1]["Student"]})
    with caplog.at_level(logging.INFO):
        fit_weights(single, arrays(pair), "a.pdparams")
    assert same(arrays(single), arrays(pair.main))
    assert "using Student" in caplog.text
    teacher = build_model({"framework": "RecognizerGCN", **SMALL["CTRGCN"]})
    with pytest.raises(CheckpointError, match="missing"):
        fit_weights(teacher, arrays(pair), "a.pdparams")


def test_teacher_and_student_take_a_file_of_both():
    pair, other = fill(build_model(distillation())), build_model(distillation())
    fit_weights(other, arrays(pair), "a.pdparams")
    assert same(arrays(other), arrays(pair))


def test_a_single_ctrgcn_initialises_the_teacher_and_every_student_layer_it_fits(caplog):
    teacher, pair = fill(small("CTRGCN"), seed=4), build_model(distillation())
    before = arrays(pair)
    with caplog.at_level(logging.INFO):
        fit_weights(pair, arrays(teacher), "a.pdparams")
    models, given = split_models(arrays(pair)), arrays(teacher)
    assert same(models["Teacher"], given)
    # All of the Lite model is part of CTR-GCN: nothing of its own is left.
    assert models["Student"]
    assert all(np.array_equal(value, given[name]) for name, value in models["Student"].items())
    assert not same(arrays(pair), before)
    assert "Student takes" in caplog.text


def test_a_student_of_another_number_of_classes_keeps_its_own_head(caplog):
    section = distillation((False, False))
    section["models"] = json.loads(json.dumps(section["models"]))
    for model in section["models"]:
        next(iter(model.values()))["head"]["num_classes"] = 7
    pair = build_model(section)
    head = pair.main.head.fc.weight.numpy()
    with caplog.at_level(logging.INFO):
        fit_weights(pair, arrays(fill(small("CTRGCN"))), "a.pdparams")
    np.testing.assert_array_equal(pair.main.head.fc.weight.numpy(), head)
    assert "initialised: head.fc" in caplog.text


@pytest.mark.parametrize(("change", "words"), [
    (lambda w: w.pop("head.fc.bias"), ["1 missing: head.fc.bias"]),
    (lambda w: w.update({"backbone.x": np.zeros(1)}), ["1 not in the model: backbone.x"]),
    (lambda w: w.update({"head.fc.weight": np.zeros((64, 7), "f4")}), ["head.fc.weight (64, 7) instead of (64, 3)"]),
    (lambda w: w.update({"head.fc.bias": np.array([0, np.nan, 0], "f4")}), ["head.fc.bias", "NaN"]),
    (lambda w: w.update({"head.fc.bias": np.array(["a", "b", "c"])}), ["head.fc.bias"]),
])
def test_a_checkpoint_that_does_not_fit_lists_its_keys(change, words):
    weights = arrays(small("CTRGCN"))
    change(weights)
    model = small("CTRGCN")
    before = arrays(model)
    with pytest.raises(CheckpointError) as error:
        fit_weights(model, weights, "some/file.pdparams")
    for word in [*words, "some/file.pdparams"]:
        assert word in str(error.value)
    assert same(arrays(model), before)


def test_many_wrong_keys_are_cut_short():
    with pytest.raises(CheckpointError, match=r"and \d+ more") as error:
        fit_weights(small("CTRGCN"), arrays(small("STGCNPlusPlus")), "a.pdparams")
    assert len(str(error.value)) < 1500


def test_models_of_other_names():
    pair = build_model(distillation())
    weights = {key.replace("Teacher.", "Big."): value for key, value in arrays(pair).items()}
    with pytest.raises(CheckpointError, match="Big"):
        fit_weights(pair, weights, "a.pdparams")


def test_a_distillations_student_is_tested_from_either_file():
    pair = fill(build_model(distillation()))
    for weights in (arrays(pair), arrays(pair.main)):
        other = build_model(distillation())
        assert same(arrays(fit_main(other, weights, "a.pdparams")), arrays(pair.main))
    with pytest.raises(CheckpointError, match="not in the model"):
        fit_main(build_model(distillation()), arrays(small("CTRGCN")), "a.pdparams")


def test_allow_mismatch_reinitialises_only_what_depends_on_classes_and_joints(caplog):
    other = {"name": "seven", "joints": 7, "bones": [[i, i + 1] for i in range(6)], "center": 0}
    for name in ("CTRGCN", "STGCN", "STGCNPlusPlus"):
        source = fill(small(name))
        key = "graph" if name == "CTRGCN" else "layout"
        target = small(name, **{key: other})
        before, theirs_then = arrays(target), arrays(source)
        with pytest.raises(CheckpointError, match="--allow_mismatch"):
            fit_weights(target, theirs_then, "a.pdparams")
        assert same(arrays(target), before)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            fit_weights(target, theirs_then, "a.pdparams", allow_mismatch=True)
        after = arrays(target)
        reinitialised = {k for k in after if after[k].shape != theirs_then[k].shape}
        assert {re.sub(r"\d+", "", k.rpartition(".")[0] if "data_bn" in k else k) for k in reinitialised} == {
            "CTRGCN": {"backbone.data_bn", "backbone.l.gcn.PA"},
            "STGCN": {"backbone.data_bn", "backbone.A", "backbone.edge_importance."},
            "STGCNPlusPlus": {"backbone.data_bn", "backbone.gcn..gcn.A"}}[name]
        for k in after:
            np.testing.assert_array_equal(after[k], before[k] if k in reinitialised else theirs_then[k], k)
            assert (f"{k} " in caplog.text) == (k in reinitialised)


def test_allow_mismatch_allows_nothing_else():
    source = arrays(small("CTRGCN"))
    wider = small("CTRGCN", in_channels=2)
    with pytest.raises(CheckpointError, match=r"l1\.gcn1") as error:
        fit_weights(wider, source, "a.pdparams", allow_mismatch=True)
    assert "--allow_mismatch" not in str(error.value)
    source.pop("head.fc.bias")
    with pytest.raises(CheckpointError, match=r"1 missing: head\.fc\.bias"):
        fit_weights(small("CTRGCN"), source, "a.pdparams", allow_mismatch=True)


def test_posec3d_for_other_heatmaps_gets_a_new_first_convolution():
    def slow_only(heatmaps):
        return build_model({"framework": "Recognizer3D",
                            "backbone": {"name": "ResNet3dSlowOnly", "in_channels": heatmaps, "base_channels": 4,
                                         "stage_blocks": [1, 1, 1]},
                            "head": {"name": "I3DHead", "num_classes": 3, "in_channels": 64}})
    source, target = arrays(fill(slow_only(17))), slow_only(25)
    before = arrays(target)
    fit_weights(target, source, "a.pdparams", allow_mismatch=True)
    for name, value in arrays(target).items():
        np.testing.assert_array_equal(value, (before if name == "backbone.conv1._conv.weight" else source)[name], name)


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("name", ["CTRGCN", "ResNet3dSlowOnly"])
def test_a_backbone_alone_is_fine_tuned_under_a_new_head(name, prefix, caplog):
    # As PaddleVideo's PoseC3D begins with the backbone of Kinetics: no head, and no names around it.
    source = {k.replace("backbone.", prefix): v for k, v in arrays(fill(small(name))).items() if "head." not in k}
    target = small(name)
    before = arrays(target)
    with pytest.raises(CheckpointError, match=r"2 missing: head\..*--allow_mismatch"):
        fit_weights(target, source, "a.pdparams")
    assert same(arrays(target), before)
    with caplog.at_level(logging.INFO):
        fit_weights(target, source, "a.pdparams", allow_mismatch=True)
    for key, value in arrays(target).items():
        right = before[key] if key.startswith("head.") else source[key.replace("backbone.", prefix)]
        np.testing.assert_array_equal(value, right, key)
        assert (f"{key} (missing)" in caplog.text) == key.startswith("head.")
    source.popitem()
    with pytest.raises(CheckpointError, match="3 missing"):
        fit_weights(target, source, "a.pdparams", allow_mismatch=True)


def test_training_saves_safetensors_and_fine_tunes_for_other_classes(config_file, tmp_path, caplog):
    def run(folder, *overrides, **arguments):
        config = load_config(config_file, [f"output_dir={tmp_path / folder}", "epochs=1", *overrides])
        return train(config, TrainOptions(seed=5, max_iters=1, **arguments))

    first = run("a", validate=True, weights_format="safetensors")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"small_epoch_00001.safetensors", "small_epoch_00001.pdopt", "small_best.safetensors",
            "small_best.pdopt"} <= names
    assert not [name for name in names if name.endswith(".pdparams")]
    assert first["last"].endswith("small_epoch_00001.safetensors")
    assert first["best_path"].endswith("small_best.safetensors")
    before = load_weights(first["last"])
    assert before["head.fc_cls.weight"].shape == (24, 4)
    more = ["MODEL.head.num_classes=6", "class_names=[a, b, c, d, e, f]",
            "OPTIMIZER.learning_rate.learning_rate=0.0"]
    with pytest.raises(CheckpointError, match="--allow_mismatch"):
        run("b", *more, weights=first["last"])
    after = load_weights(run("c", *more, weights=first["last"], allow_mismatch=True)["last"])
    assert after["head.fc_cls.weight"].shape == (24, 6)
    log = (tmp_path / "c" / "train.log").read_text()
    assert "re-initialised" in log and "head.fc_cls.weight (24, 4) instead of (24, 6)" in log
    kept = [name for name in before if name.startswith("backbone.") and not name.endswith(("_mean", "_variance"))]
    assert all(np.array_equal(after[name], before[name]) for name in kept)
    with pytest.raises(ConfigError, match="--format"):
        run("d", weights_format="pth")


def test_allow_mismatch_belongs_to_training_from_a_checkpoint(config_file, capsys):
    for flags in ([], ["--test", "-w", "a.pdparams"]):
        assert main(["train", "-c", str(config_file), "--allow_mismatch", *flags]) == 2
        assert "--allow_mismatch" in capsys.readouterr().err
