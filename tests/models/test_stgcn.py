"""ST-GCN: its model against sums written out, its Kinetics transforms against plain loops and closed forms."""
import math

import numpy as np
import paddle
import pytest
from golden_fill import fill
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_cases import make, rng, sample

from paddlevideo_skel.build import build_recognizer, input_shape
from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.errors import ConfigError
from paddlevideo_skel.models import build_model
from paddlevideo_skel.models.heads import STGCNHead
from paddlevideo_skel.models.stgcn import STGCN, SpatialGraphConv
from paddlevideo_skel.skeleton import LAYOUTS, adjacency, get_layout

TREE = {"name": "tree", "joints": 5, "bones": [[0, 1], [1, 2], [1, 3], [3, 4]], "center": 1}


def network(**changes):
    return build_model({"framework": "RecognizerGCN", "head": {"name": "STGCNHead", "num_classes": 3},
                        "backbone": {"name": "STGCN", "layout": TREE, **changes}})


def logits(model, array):
    with paddle.no_grad():
        return model(paddle.to_tensor(np.asarray(array, "float32"))).numpy()


# The model.

@pytest.mark.parametrize("subsets", [1, 2, 3])
def test_the_graph_convolution_is_the_papers_sum(subsets):
    layer = fill(SpatialGraphConv(4, 6, subsets))
    x, A = rng(0).normal(size=(2, 4, 3, 5)), rng(1).normal(size=(subsets, 5, 5))
    weight = layer.conv.weight.numpy().reshape(subsets, 6, 4).astype("float64")
    bias = layer.conv.bias.numpy().reshape(subsets, 6, 1, 1)
    expected = 0
    for k in range(subsets):
        features = np.einsum("oc,nctv->notv", weight[k], x) + bias[k]
        expected = expected + np.einsum("notv,vw->notw", features, A[k])
    with paddle.no_grad():
        found = layer(paddle.to_tensor(x.astype("float32")), paddle.to_tensor(A.astype("float32"))).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_it_takes_any_number_of_persons_and_averages_them():
    model = fill(network())
    x = rng(2).normal(size=(2, 2, 12, 5, 3))
    alone = [logits(model, x[..., i:i + 1]) for i in range(3)]
    np.testing.assert_allclose(logits(model, x), np.mean(alone, axis=0), rtol=1e-4, atol=1e-5)
    assert [model.backbone.takes((2, 12, 5, persons)) for persons in (1, 2, 7)] == [True] * 3
    assert not any(model.backbone.takes(shape) for shape in [(3, 12, 5, 1), (2, 12, 6, 1), (2, 12, 5)])
    assert model.backbone.expects == "(2 channels, frames, 5 joints, persons)"


def test_features_have_a_quarter_of_the_frames():
    backbone = STGCN(layout=TREE)
    assert backbone(paddle.zeros([2, 2, 30, 5, 3])).shape == [2, 3, 256, 8, 5]


@pytest.mark.parametrize("strategy, subsets", [("spatial", 3), ("inward_outward", 3), ("distance", 2), ("uniform", 1)])
def test_importance_scales_the_adjacency(strategy, subsets):
    weighted, fixed = network(strategy=strategy), network(strategy=strategy, edge_importance_weighting=False)
    names = {name for name in weighted.state_dict() if "edge_importance" in name}
    assert names == {f"backbone.edge_importance.{i}" for i in range(10)}
    assert set(weighted.state_dict()) - names == set(fixed.state_dict())
    assert weighted.backbone.A.shape == [subsets, 5, 5]
    x = rng(3).normal(size=(1, 2, 12, 5, 1))
    state = {name: value for name, value in fill(weighted).state_dict().items() if name not in names}
    for importance in weighted.backbone.edge_importance:
        importance.set_value(np.full(importance.shape, 2.0, "float32"))
    fixed.set_state_dict({**state, "backbone.A": 2 * state["backbone.A"]})
    fixed.eval()
    np.testing.assert_allclose(logits(weighted, x), logits(fixed, x), rtol=1e-5, atol=1e-6)


def test_data_bn_and_dropout_are_where_they_were_asked_for():
    bare = network(data_bn=False, dropout=0.3).backbone
    assert bare.data_bn is None and not [name for name in bare.state_dict() if "data_bn" in name]
    assert [unit.tcn[4].p for unit in bare.st_gcn_networks] == [0.0] + [0.3] * 9
    assert network().backbone.data_bn.weight.shape == [10]


def test_weights_start_as_in_paddlevideo():
    paddle.seed(0)
    model = network()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, mean in (("st_gcn_networks.9.tcn.2.weight", 0), ("st_gcn_networks.9.tcn.3.weight", 1)):
        value = state[f"backbone.{name}"]
        assert abs(value.mean() - mean) < 0.005 and abs(value.std() - 0.02) < 0.003
    assert abs(state["head.fcn.weight"].std() - 0.02) < 0.003
    assert not any(value.any() for name, value in state.items() if name.endswith(".bias"))


def test_the_head_is_a_mean_and_a_matrix():
    head = fill(STGCNHead(7, 4))
    x = rng(4).normal(size=(2, 3, 7, 5, 6))
    mean = x.mean(axis=(3, 4)).mean(axis=1)
    expected = mean @ head.fcn.weight.numpy()[:, :, 0, 0].T + head.fcn.bias.numpy()
    np.testing.assert_allclose(logits(head, x), expected, rtol=1e-5, atol=1e-6)
    assert head.fcn.weight.shape == [4, 7, 1, 1]


@pytest.mark.parametrize("change, word", [
    ({"in_channels": 0}, "in_channels"), ({"dropout": 1.5}, "dropout"), ({"data_bn": 1}, "data_bn"),
    ({"edge_importance_weighting": "yes"}, "edge_importance_weighting"), ({"strategy": "spatail"}, "'spatial'"),
    ({"layout": "coco-keypoint"}, "'coco_keypoint'"), ({"num_person": 2}, "MODEL.backbone.num_person")])
def test_a_wrong_argument_is_told(change, word):
    with pytest.raises(ConfigError, match=word):
        network(**change)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_partition_divides_the_same_neighbourhood(name):
    layout = get_layout(name)
    uniform, = adjacency(layout, "uniform")
    reach = {(a, b) for bone in layout.bones for a, b in (bone, bone[::-1])} | {(j, j) for j in range(len(uniform))}
    for source in range(len(uniform)):
        targets = [target for target, s in reach if s == source]
        expected = [1 / len(targets) if target in targets else 0 for target in range(len(uniform))]
        np.testing.assert_allclose(uniform[:, source], expected, rtol=1e-6)
    own, others = adjacency(layout, "distance")
    np.testing.assert_array_equal(own, np.diag(np.diag(uniform)))
    np.testing.assert_array_equal(own + others, uniform)
    np.testing.assert_array_equal(adjacency(layout, "spatial").sum(axis=0), uniform)


# The Kinetics recipe.

def test_kinetics_trains_on_150_frames_and_tests_on_300():
    config = load_config("configs/recognition/stgcn/stgcn_kinetics.yaml")
    model = build_recognizer(config)
    shapes = [input_shape(config, model, split) for split in ("train", "valid", "test")]
    assert shapes == [(3, 150, 18, 2), (3, 300, 18, 2), (3, 300, 18, 2)]
    assert model.head.num_classes == 400


def test_where_nothing_chooses_frames_and_persons_inference_tells_them():
    overrides = [f"PIPELINE.{split}={{transform: [{{Iden: }}]}}" for split in ("train", "test")]
    config = load_config("configs/recognition/stgcn/stgcn_ntucs.yaml", overrides)
    model = build_recognizer(config)
    assert input_shape(config, model) == (3, 100, 25, 1)
    config["INFERENCE"].update(window_size=300, person_nums=2)
    assert input_shape(config, model) == (3, 300, 25, 2)
    assert input_shape(config, model, frames=64) == (3, 64, 25, 2)
    with pytest.raises(ConfigError, match=r"INFERENCE\.window_size.*'350'"):
        load_config("configs/recognition/stgcn/stgcn_ntucs.yaml", ["INFERENCE.window_size='350'"])


@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 1000))
def test_random_choose(frames, window, random_pad, seed):
    annotation = sample(2, frames, 3, 2, score=True)
    annotation.keypoint[..., 0] = annotation.keypoint_score[:] = 1 + np.arange(frames)[:, None]
    chosen = make("RandomChoose", window_size=window, random_pad=random_pad)(annotation, rng(seed))
    assert chosen.keypoint.shape == (2, window, 3, 2) and chosen.keypoint_score.shape == (2, window, 3)
    numbers = chosen.keypoint[0, :, 0, 0]
    np.testing.assert_array_equal(chosen.keypoint_score[0, :, 0], numbers)
    kept = numbers[numbers > 0]
    assert len(kept) == min(frames, window) and (np.diff(kept) == 1).all()
    begin = np.argmax(numbers > 0)
    assert (numbers[begin:begin + len(kept)] > 0).all() and (random_pad or begin == 0)


@pytest.mark.parametrize("frames, places", [(10, 7), (3, 2)])
def test_random_choose_reaches_every_place(frames, places):
    annotation = sample(1, frames, 1, 2)
    annotation.keypoint[..., 0] = 1 + np.arange(frames)[:, None]
    step = make("RandomChoose", window_size=4)
    assert len({step(annotation, rng(seed)).keypoint[0, :, 0, 0].tobytes() for seed in range(100)}) == places


def moved_in_words(keypoint, cuts, angles, scales, xs, ys):
    """st-gcn's ``random_move``, frame by frame."""
    result = keypoint.astype("float64")
    for i in range(len(cuts) - 1):
        for frame in range(cuts[i], cuts[i + 1]):
            last = cuts[i + 1] - cuts[i] - 1
            share = (frame - cuts[i]) / last if last else 0.0
            angle, scale, x, y = (v[i] + share * (v[i + 1] - v[i]) for v in (angles, scales, xs, ys))
            angle = math.radians(angle)
            old = keypoint[:, frame].astype("float64")
            result[:, frame, :, 0] = scale * (math.cos(angle) * old[..., 0] - math.sin(angle) * old[..., 1]) + x
            result[:, frame, :, 1] = scale * (math.sin(angle) * old[..., 0] + math.cos(angle) * old[..., 1]) + y
    return result


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 1000))
def test_random_move_is_the_loop_over_frames(frames, stretches, seed):
    annotation = sample(2, frames, 4, 3, seed=seed)
    candidates = ([-10, -5, 0, 5, 10], [0.9, 1.0, 1.1], [-0.2, -0.1, 0.0, 0.1, 0.2])
    moved = make("RandomMove", move_time_candidate=[stretches])(annotation, rng(seed)).keypoint
    draws = rng(seed)
    draws.choice([stretches])
    angles, scales, xs, ys = (draws.choice(candidates[i], stretches + 1) for i in (0, 1, 2, 2))
    cuts = [round(i * frames / stretches) for i in range(stretches + 1)]
    np.testing.assert_allclose(moved, moved_in_words(annotation.keypoint, cuts, angles, scales, xs, ys), atol=1e-5)


def test_random_move_at_the_cuts():
    keypoint = np.tile(np.array([1.0, 0.0, 0.7], "float32"), (2, 9, 4, 1))
    step = make("RandomMove", angle_candidate=[90], scale_candidate=[2], transform_candidate=[0.5],
                move_time_candidate=[3])
    moved = step(Annotation(keypoint, np.full((2, 9, 4), 0.3)), rng())
    # A quarter turn brings (1, 0) to (0, 1); twice that, and half a unit on.
    np.testing.assert_allclose(moved.keypoint, np.tile([0.5, 2.5, 0.7], (2, 9, 4, 1)), atol=1e-6)
    np.testing.assert_array_equal(moved.keypoint_score, np.full((2, 9, 4), 0.3))
    slow = make("RandomMove", angle_candidate=[0], scale_candidate=[1], transform_candidate=[-1, 1])
    x = slow(Annotation(0 * keypoint), rng(3)).keypoint[0, :, 0, 0]
    assert {x[0], x[-1]} <= {-1, 1}
    np.testing.assert_allclose(x, np.linspace(x[0], x[-1], 9), atol=1e-6)


def test_random_move_of_nothing_changes_nothing():
    annotation = sample(2, 20, 4, 3)
    still = make("RandomMove", angle_candidate=[0], scale_candidate=[1], transform_candidate=[0],
                 move_time_candidate=[1, 2, 5])
    np.testing.assert_array_equal(still(annotation, rng(1)).keypoint, annotation.keypoint)
    assert not np.allclose(make("RandomMove")(annotation, rng(1)).keypoint, annotation.keypoint)


@pytest.mark.parametrize("name, arguments, word", [
    ("RandomChoose", {"window_size": 0}, "window_size"),
    ("RandomChoose", {"window_size": 4, "random_pad": 1}, "random_pad"),
    ("RandomMove", {"angle_candidate": []}, "angle_candidate"),
    ("RandomMove", {"scale_candidate": 1.0}, "scale_candidate"),
    ("RandomMove", {"transform_candidate": ["a"]}, "transform_candidate"),
    ("RandomMove", {"move_time_candidate": [0]}, "move_time_candidate"),
    ("RandomMove", {"move_time_candidate": [1.5]}, "move_time_candidate")])
def test_a_wrong_transform_argument_is_told(name, arguments, word):
    with pytest.raises(ConfigError, match=word):
        make(name, **arguments)
