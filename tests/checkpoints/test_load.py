import json
import logging
import os
import pickle

import numpy as np
import paddle
import pytest
from golden_fill import MODELS, entry, fill, golden, network_input
from small_models import SMALL, arrays, distillation, same, small

from paddlevideo_skel.checkpoints.fit import fit_main, fit_weights, save_state
from paddlevideo_skel.checkpoints.load import load_weights, split_models
from paddlevideo_skel.errors import CheckpointError, OutputError
from paddlevideo_skel.models import build_model


@pytest.mark.parametrize("name", SMALL)
def test_what_is_saved_is_what_is_loaded(name, tmp_path):
    model = fill(small(name))
    path = tmp_path / "a.pdparams"
    save_state(model.state_dict(), path)
    other = small(name)
    fit_weights(other, load_weights(path), path)
    assert same(arrays(other), arrays(model))
    assert [p.name for p in tmp_path.iterdir()] == ["a.pdparams"]
    assert same({k: v.numpy() for k, v in paddle.load(str(path)).items()}, arrays(model))


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


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(("content", "words"), [
    (b"", ["is empty"]),
    (pickle.dumps({"backbone.a": np.zeros(3)})[:-9], ["damaged"]),
    (pickle.dumps([1, 2]), ["list", "state dict"]),
    (pickle.dumps({}), ["no weights"]),
    (pickle.dumps({"LR_Scheduler": {"last_epoch": 1}}), ["LR_Scheduler", ".pdopt"]),
    (b"PK\x03\x04 a zip file", ["damaged"]),
])
def test_a_damaged_checkpoint_is_an_error(content, words, tmp_path):
    path = tmp_path / "a.pdparams"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_weights(path)
    for word in [*words, str(path)]:
        assert word in str(error.value)


def test_nothing_in_a_checkpoint_is_run(tmp_path):
    path, made = tmp_path / "a.pdparams", tmp_path / "made"
    path.write_bytes(pickle.dumps({"backbone.a": Malice(made)}))
    with pytest.raises(CheckpointError, match="mkdir"):
        load_weights(path)
    assert not made.exists()


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_weights(tmp_path / "a.pdparams")


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pdparams"
    save_state({"a": paddle.ones([2])}, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save_state({"a": paddle.zeros([2])}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.pdparams"]


def test_a_distillations_student_is_tested_from_either_file():
    pair = fill(build_model(distillation()))
    for weights in (arrays(pair), arrays(pair.main)):
        other = build_model(distillation())
        assert same(arrays(fit_main(other, weights, "a.pdparams")), arrays(pair.main))
    with pytest.raises(CheckpointError, match="not in the model"):
        fit_main(build_model(distillation()), arrays(small("CTRGCN")), "a.pdparams")
