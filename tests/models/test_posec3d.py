"""PoseC3D: which frames see which, how clips become one answer, the head; and the self-check of its large samples."""
import json

import numpy as np
import paddle
import pytest
from deploy_cases import dynamic, filled, small_config
from golden_fill import fill, network_input
from small_models import SMALL, small

from paddlevideo_skel.errors import ConfigError, ExportError, SelfCheckError
from paddlevideo_skel.export import exporter
from paddlevideo_skel.export.exporter import export_model, make_selfcheck
from paddlevideo_skel.export.minimal import minimise
from paddlevideo_skel.export.onnx_convert import convert_to_onnx
from paddlevideo_skel.inference import artifact as folder_module
from paddlevideo_skel.inference.artifact import find_export
from paddlevideo_skel.inference.runtime import open_runtime
from paddlevideo_skel.models import build_model
from paddlevideo_skel.models.recognizers import Recognizer3D

NAME = "ResNet3dSlowOnly"
SAMPLE = (5, 8, 16, 16)


def softmax(logits):
    scores = np.exp(logits.astype("float64") - logits.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)


def features(backbone, x):
    """``(C', T', H', W')`` of one clip."""
    return dynamic(backbone, x[None])[0]


@pytest.mark.parametrize("given, reach", [
    ({"inflate": 0}, 0), ({"inflate": [0, 0, 1]}, 1), ({"inflate": [0, [1, 0], 1]}, 2), ({"inflate": [0, 1, 1]}, 3),
    ({"inflate": [0, 0, 1], "inflate_style": "3x3x3"}, 1), ({"inflate": 0, "conv1_kernel": [5, 7, 7]}, 2)])
def test_a_frame_is_seen_as_far_as_the_kernels_reach(given, reach):
    backbone = fill(small(NAME, temporal_strides=[1, 1, 1], **given)).backbone
    x = network_input((5, 12, 16, 16))
    changed = x.copy()
    changed[:, 6] += 1
    moved = np.abs(features(backbone, changed) - features(backbone, x)).max(axis=(0, 2, 3))
    assert np.flatnonzero(moved).tolist() == list(range(6 - reach, 6 + reach + 1))


@pytest.mark.parametrize("given, frames, sizes", [
    ({}, 9, (5, 2, 2)), ({"temporal_strides": [2, 1, 2]}, 9, (3, 2, 2)), ({"with_pool2": True}, 9, (2, 2, 2)),
    ({"conv1_stride_s": 2, "pool1_stride_s": 2}, 9, (5, 1, 1)),
    ({"conv1_stride_t": 3, "pool1_stride_t": 2}, 9, (1, 2, 2)),
    ({"spatial_strides": [1, 1, 2], "dilations": [1, 2, 3]}, 8, (4, 8, 8)),
    ({"num_stages": 2, "out_indices": [1], "stage_blocks": [1, 1], "spatial_strides": [2, 2],
      "temporal_strides": [1, 1], "dilations": [1, 1], "inflate": [0, 1]}, 8, (8, 4, 4))])
def test_strides_and_pools(given, frames, sizes):
    spec = {**SMALL[NAME]["backbone"], **given}
    head = {**SMALL[NAME]["head"], "in_channels": 8 * 4 * 2 ** (spec.get("num_stages", 3) - 1)}
    model = fill(build_model({"framework": "Recognizer3D", "backbone": spec, "head": head}))
    assert features(model.backbone, network_input((5, frames, 16, 16))).shape == (head["in_channels"], *sizes)


def test_dilation_reaches_further():
    def reach(dilation):
        backbone = fill(small(NAME, dilations=[dilation, 1, 1], spatial_strides=[1] * 3, stage_blocks=[1] * 3)).backbone
        x = network_input((5, 1, 33, 33))
        changed = x.copy()
        changed[:, :, 16, 16] += 1
        moved = np.abs(features(backbone, changed) - features(backbone, x)).max(axis=(0, 1))
        return np.abs(np.argwhere(moved) - 16).max()
    assert reach(1) == 3 + 1 + 3  # the first kernel, the pool, three blocks
    assert reach(3) == reach(1) + 2


def test_the_second_pool_takes_the_larger_of_two_frames():
    with_pool, without = (fill(one_stage(pool)).backbone for pool in (True, False))
    x = network_input((5, 7, 16, 16))
    every = features(without, x)
    np.testing.assert_array_equal(features(with_pool, x), np.maximum(every[:, 0:6:2], every[:, 1:6:2]))


def one_stage(pool):
    backbone = {**SMALL[NAME]["backbone"], "num_stages": 1, "out_indices": [0], "stage_blocks": [1],
                "spatial_strides": [2], "temporal_strides": [1], "dilations": [1], "inflate": 0, "with_pool2": pool}
    return build_model({"framework": "Recognizer3D", "backbone": backbone,
                        "head": {**SMALL[NAME]["head"], "in_channels": 32}})


@pytest.mark.parametrize("form", ["ordinary", "minimal"])
def test_the_scores_of_clips_are_averaged(form):
    model = fill(small(NAME))
    model = minimise(model) if form == "minimal" else model
    clips = network_input((2, 4, *SAMPLE))
    each = np.stack([dynamic(model, clips[:, i]) for i in range(4)], axis=1)
    together = dynamic(model, clips)
    mean = softmax(each).mean(axis=1)
    np.testing.assert_allclose(softmax(together), mean, rtol=1e-5)
    np.testing.assert_allclose(together, np.log(mean), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(dynamic(model, clips[:, :1]), each[:, 0])


def test_sure_clips_leave_finite_logits():
    logits = np.zeros((1, 2, 3), "float32")
    logits[0, :, 0] = 300, 500
    answer = Recognizer3D.average(paddle.to_tensor(logits)).numpy()
    # log(exp(-300) / 2) for the other classes: the surer clip adds nothing that float32 could hold.
    np.testing.assert_allclose(answer, [[0, -300 - np.log(2), -300 - np.log(2)]], rtol=1e-6, atol=1e-6)


def test_the_loss_of_several_clips_is_that_of_the_mean_score():
    model = small(NAME)
    model.train()
    x, label = paddle.to_tensor(network_input((3, 2, *SAMPLE))), np.array([2, 0, 1])
    logits = model(x)
    loss = paddle.nn.functional.cross_entropy(logits, paddle.to_tensor(label))
    loss.backward()
    np.testing.assert_allclose(float(loss), -np.log(softmax(logits.numpy())[np.arange(3), label]).mean(), rtol=1e-5)
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters() if not p.stop_gradient)


def test_a_block_starts_as_its_residual():
    plain, zero = small(NAME, zero_init_residual=False), small(NAME)
    def scales(model):
        return {v.item(0) for k, v in ((k, v.numpy()) for k, v in model.state_dict().items())
                if k.endswith("conv3._batch_norm.weight")}
    assert (scales(plain), scales(zero)) == ({1.0}, {0.0})


def test_the_head_is_a_mean_and_a_product_and_learns_ten_times_as_fast():
    head = fill(small(NAME)).head
    x = network_input((2, 3, 128, 4, 3, 2))
    weight, bias = head.fc.weight.numpy(), head.fc.bias.numpy()
    np.testing.assert_allclose(dynamic(head, x), x.mean(axis=(3, 4, 5)) @ weight + bias, rtol=1e-4, atol=1e-5)
    optimizer = paddle.optimizer.Momentum(0.01, momentum=0.0, parameters=head.parameters())
    head(paddle.to_tensor(x)).sum().backward()
    gradient = head.fc.weight.grad.numpy()
    optimizer.step()
    np.testing.assert_allclose(head.fc.weight.numpy(), weight - 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_what_a_sample_may_be():
    backbone = small(NAME).backbone
    assert backbone.takes((5, 8, 16, 16)) and backbone.takes((20, 5, 8, 16, 16))
    assert not any(backbone.takes(shape) for shape in ((17, 8, 16, 16), (5, 17, 8, 16, 16), (5, 8, 16), (1,) * 6))
    assert (backbone.layout.num_joints, backbone.out_channels) == (5, 128)
    assert "5 heatmaps" in backbone.expects


@pytest.mark.parametrize("given, words", [
    ({"depth": 18}, ["depth is 18", "50, 101, 152"]), ({"in_channels": "17"}, ["in_channels is '17'"]),
    ({"num_stages": 5}, ["num_stages is 5", "1 to 4"]), ({"out_indices": [1]}, ["out_indices is [1]", "[2]"]),
    ({"conv1_kernel": [1, 7]}, ["conv1_kernel"]), ({"conv1_kernel": [1, 6, 7]}, ["conv1_kernel", "odd"]),
    ({"stage_blocks": [3, 4]}, ["stage_blocks is (3, 4)", "3 positive"]), ({"spatial_strides": 2}, ["spatial_strides"]),
    ({"temporal_strides": [1, 0, 2]}, ["temporal_strides"]), ({"dilations": [1, 1, 1, 1]}, ["dilations"]),
    ({"inflate": [0, 1]}, ["inflate is [0, 1]"]), ({"inflate": [0, [1, 0, 1], 1]}, ["inflate"]),
    ({"inflate": 2}, ["inflate is 2"]), ({"inflate_style": "1x1x1"}, ["3x1x1 or 3x3x3"]),
    ({"conv1_stride_s": 0}, ["conv1_stride_s is 0"]), ({"style": "caffe"}, ["style is 'caffe'"]),
    ({"lateral": True}, ["lateral is True"]), ({"frozen_stages": 1}, ["frozen_stages is 1"]),
    ({"norm_eval": True}, ["norm_eval"]), ({"pretrained": "k400.pdparams"}, ["-w"]),
    ({"conv1_stride": [1, 1]}, ["conv1_stride", "Did you mean", "conv1_stride_s"])])
def test_a_wrong_argument_is_told(given, words):
    with pytest.raises(ConfigError) as error:
        small(NAME, **given)
    for word in ("MODEL.backbone", *words):
        assert word in str(error.value)


@pytest.mark.parametrize("given, words", [
    ({"spatial_type": "max"}, "spatial_type is 'max'"), ({"drop_ratio": 1}, "expected 0 <= dropout < 1"),
    ({"in_channels": 64}, "takes 64 features, but the backbone gives 128")])
def test_a_wrong_head_is_told(given, words):
    with pytest.raises(ConfigError, match=words):
        build_model({**SMALL[NAME], "head": {**SMALL[NAME]["head"], **given}})


@pytest.mark.parametrize("backbone, head, framework, right", [
    (NAME, NAME, "RecognizerGCN", "Recognizer3D"), ("STGCN", "STGCN", "Recognizer3D", "RecognizerGCN"),
    (NAME, "STGCN", "Recognizer3D", "RecognizerGCN"), ("STGCN", NAME, "RecognizerGCN", "Recognizer3D")])
def test_parts_of_another_framework_are_told(backbone, head, framework, right):
    with pytest.raises(ConfigError, match=f"does not fit this framework; set framework: {right}"):
        build_model({"framework": framework, "backbone": SMALL[backbone]["backbone"], "head": SMALL[head]["head"]})


def test_a_distillation_averages_as_its_models_do():
    part = {key: SMALL[NAME][key] for key in ("backbone", "head")}
    model = fill(build_model(json.loads(json.dumps({
        "framework": "RecognizerDistillation", "freeze_params_list": [True, False],
        "models": [{"Teacher": part}, {"Student": part}], "loss": {}}))))
    clips = network_input((2, 3, *SAMPLE))
    assert isinstance(model.main, Recognizer3D)
    answers = model(paddle.to_tensor(clips))
    student = [dynamic(model.main, clips[:, i]) for i in range(3)]
    np.testing.assert_allclose(softmax(answers["Student"].numpy()), softmax(np.stack(student)).mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(answers["Student"].numpy(), dynamic(model.main, clips))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export whose samples count as large."""
    config = small_config("posec3d")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_module, "LARGE", 100_000)
        yield export_model(config, filled(config), tmp_path_factory.mktemp("exported"), "inference", "minimal")


def test_an_export_answers_for_all_its_clips(exported):
    assert exported.metadata["clips"] == 4 and exported.sample_shape == (4, 17, 8, 16, 16)
    assert exported.metadata["layout"]["name"] == "coco"
    model, clips = filled(small_config("posec3d")), np.abs(network_input((2, *exported.sample_shape)))
    each = np.stack([dynamic(model, clips[:, i]) for i in range(4)])
    answers = softmax(open_runtime(exported, "paddle").run(clips))
    np.testing.assert_allclose(answers, softmax(each).mean(axis=0), rtol=1e-4)


def test_the_selfcheck_of_a_large_sample_is_small_and_whole(exported):
    selfcheck = exported.selfcheck()
    assert exported.file(".selfcheck.npz").stat().st_size < 20_000 < 4 * np.prod(exported.sample_shape) / 20
    array = selfcheck.array
    assert array.shape == selfcheck.shape == (1, *exported.sample_shape) and 0.3 < array.std() < 0.8
    frames = array[0].transpose(0, 2, 1, 3, 4).reshape(4 * 8, -1)
    assert len(np.unique(frames, axis=0)) == 4 * 8
    right = dynamic(filled(small_config("posec3d")), array)
    assert np.abs(selfcheck.logits - right).max() < 1e-5 * np.abs(right).max()
    assert set(exported.metadata["verified"]["relative_error"]) == {"batch 1", "batch 2"}
    twice, logits = selfcheck.repeated(2)
    np.testing.assert_array_equal(twice, np.concatenate([array, array]))
    np.testing.assert_array_equal(logits, np.concatenate([selfcheck.logits] * 2))


def test_a_conversion_elsewhere_keeps_the_whole_selfcheck(exported, tmp_path):
    pytest.importorskip("paddle2onnx")
    converted = convert_to_onnx(exported, save_file=tmp_path / "device" / "m.onnx")
    assert set(converted.metadata["onnx"]["relative_error"]) == {"batch 1", "batch 2"}
    np.testing.assert_array_equal(converted.selfcheck().array, exported.selfcheck().array)


def test_a_large_sample_without_clips(monkeypatch):
    monkeypatch.setattr(folder_module, "LARGE", 1_000)
    selfcheck = make_selfcheck(fill(small(NAME)), SAMPLE)
    assert selfcheck.stored.shape == (1, 5, 1, 16, 16) and selfcheck.scale.shape == (1, 1, 8, 1, 1)
    assert len(np.unique(selfcheck.scale)) == 8 and selfcheck.scale.min() > 0
    assert selfcheck.array.shape == (1, *SAMPLE)


@pytest.mark.parametrize("change, error", [
    (lambda c: {**c, "scale": c["scale"][:, :2]}, ExportError),
    (lambda c: {**c, "scale": c["scale"] * np.nan}, ExportError),
    (lambda c: {**c, "scale": c["scale"].astype("float64")}, ExportError),
    (lambda c: {**c, "scale": np.ones((1, 3, 1, 7, 1, 1), "float32")}, ExportError),
    (lambda c: {key: c[key] for key in ("input", "logits")}, ExportError),
    (lambda c: {**c, "scale": c["scale"][:, ::-1] * np.float32(1.25)}, SelfCheckError)])
def test_a_damaged_scale_is_told(exported, tmp_path, change, error):
    for path in exported.stem.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with np.load(exported.file(".selfcheck.npz")) as content:
        np.savez(tmp_path / "inference.selfcheck.npz", **change(dict(content)))
    with pytest.raises(error):
        open_runtime(find_export(tmp_path), "paddle")


class FirstClip(paddle.nn.Layer):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(paddle.concat([x[:, :1]] * x.shape[1], axis=1))


def test_a_clip_that_the_files_treat_otherwise_is_found(tmp_path, monkeypatch):
    """A graph that takes the first clip for all is refused: clips of the self-check differ."""
    monkeypatch.setattr(folder_module, "LARGE", 100_000)
    config = small_config("posec3d")
    save = exporter.save_graph
    monkeypatch.setattr(exporter, "save_graph", lambda model, *rest: save(FirstClip(model), *rest))
    with pytest.raises(ExportError, match=r"relative error \S+, allowed 1e-04"):
        export_model(config, filled(config), tmp_path / "new", "inference", "ordinary")
