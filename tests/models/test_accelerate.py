"""The network out of matrix products is the network: plain layers are the reference, in double precision."""
import numpy as np
import paddle
import pytest
from golden_fill import fill
from small_models import SHAPES, SMALL, TRIANGLE, small

from paddlevideo_skel.errors import ConfigError
from paddlevideo_skel.models import cpu as formulations
from paddlevideo_skel.models.cpu import (
    FORMULATIONS,
    VARIABLE,
    _said,
    batch_norm,
    conv_norm,
    convolution,
    formulation,
    products,
)
from paddlevideo_skel.models.layers import conv1x1

CASES = [(name, {}, 16) for name in SMALL] + [
    ("CTRGCN", {"adaptive": False}, 13), ("CTRGCN", {"tcn_act": True}, 9), ("CTRGCNLite", {"remove_l9": True}, 5),
    *[("STGCNPlusPlus", {"gcn_adaptive": adaptive}, 11) for adaptive in (None, "offset", "importance")],
    ("STGCNPlusPlus", {"tcn_type": "unit_tcn", "gcn_with_res": False}, 13),
    ("STGCN", {"edge_importance_weighting": False}, 9)]


def everything(name, changes, frames, way, mode):
    """Logits, every gradient and the state after one forward and backward pass."""
    paddle.seed(0)
    model = fill(small(name, **changes))
    model.to(dtype="float64")
    getattr(model, mode)()
    shape = [frames if size == 16 else size for size in SHAPES[name]] if name != "ResNet3dSlowOnly" else SHAPES[name]
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(4, *shape)), stop_gradient=False)
    with formulation(way):
        logits = model(x)
    paddle.nn.functional.cross_entropy(logits, paddle.to_tensor([0, 1, 2, 0])).backward()
    found = {"logits": logits, "gradient of the input": x.grad, **model.state_dict()}
    found.update({f"gradient of {key}": p.grad for key, p in model.named_parameters() if not p.stop_gradient})
    return {key: value.numpy() for key, value in found.items()}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "changes", "frames"), CASES)
def test_both_formulations_agree(name, changes, frames, mode):
    plain, ours = (everything(name, changes, frames, way, mode) for way in FORMULATIONS)
    assert plain.keys() == ours.keys()
    scale = max(np.abs(value).max() for key, value in plain.items() if key.startswith("gradient"))
    for key, value in plain.items():
        limit = scale if key.startswith("gradient") else np.abs(value).max()
        assert np.abs(ours[key] - value).max() <= 1e-9 * limit, key


@pytest.mark.parametrize(("name", "frozen"), [
    ("CTRGCN", ".conv1."), ("CTRGCN", ".conv2."), ("CTRGCN", ".conv3.weight"), ("CTRGCN", ".conv3.bias"),
    ("CTRGCN", ".l1."), ("STGCNPlusPlus", ".gcn.conv.bias"), ("STGCNPlusPlus", ".A"), ("STGCN", "backbone.")])
def test_what_is_frozen_gets_no_gradient_and_the_rest_learns(name, frozen):
    model = small(name)
    for key, parameter in model.named_parameters():
        parameter.stop_gradient = parameter.stop_gradient or frozen in key
    x = paddle.to_tensor(np.random.default_rng(4).normal(size=(2, *SHAPES[name])).astype("float32"))
    with formulation("products"):
        model(x).sum().backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is None) == parameter.stop_gradient, key


def test_the_parts_of_a_gradient_that_are_shared_are_not_added_up_twice():
    """A sum hands one gradient to both of its summands; both are used again here."""
    model = small("CTRGCN")
    model.to(dtype="float64")
    x = paddle.to_tensor(np.random.default_rng(1).normal(size=(2, *SHAPES["CTRGCN"])), stop_gradient=False)
    gradients = []
    for way in FORMULATIONS:
        x.clear_gradient()
        with formulation(way):
            features = model.backbone(x)
        (features * features + features + x.sum()).sum().backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-9)


@pytest.mark.parametrize("at_a_time", [1, formulations.COLUMNS_BYTES], ids=["sample by sample", "all samples"])
@pytest.mark.parametrize(("frames", "kernel", "stride", "padding", "dilation"), [
    (13, 3, 1, 1, 1), (13, 3, 1, 4, 4), (12, 5, 2, 4, 2), (13, 9, 3, 4, 1), (3, 5, 1, 8, 4), (1, 9, 2, 4, 1),
    (10, 4, 2, 1, 1), (10, 3, 1, 0, 2)])
def test_a_convolution_over_time_is_paddles(monkeypatch, frames, kernel, stride, padding, dilation, at_a_time):
    """Values and both gradients, in double precision; also where a tap reads nothing but padding."""
    monkeypatch.setattr(formulations, "COLUMNS_BYTES", at_a_time)
    conv = paddle.nn.Conv2D(4, 6, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
    conv.to(dtype="float64")
    rng = np.random.default_rng(5)
    x = paddle.to_tensor(rng.normal(size=(3, 4, frames, 2)), stop_gradient=False)
    right = paddle.nn.functional.conv2d(x, conv.weight, None, (stride, 1), (padding, 0), (dilation, 1))
    dy = paddle.to_tensor(rng.normal(size=right.shape))
    found = []
    for y in (right, convolution(x, conv)):
        y.backward(dy)
        found.append([value.numpy() for value in (y, x.grad, conv.weight.grad)])
        x.clear_gradient()
        conv.weight.clear_gradient()
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_joined_batch_norms_keep_their_own_statistics(momentum):
    """Against NumPy: the convolution's bias is in the running mean, and nowhere else."""
    rng = np.random.default_rng(2)
    norms = [paddle.nn.BatchNorm2D(2, momentum), paddle.nn.BatchNorm2D(3, momentum)]
    for norm in norms:
        norm._mean.set_value(rng.normal(size=norm._mean.shape).astype("float32"))
        norm._variance.set_value(rng.uniform(1, 2, norm._variance.shape).astype("float32"))
    old = [np.concatenate([getattr(norm, name).numpy() for norm in norms]) for name in ("_mean", "_variance")]
    x, bias = rng.normal(size=(4, 5, 3, 2)).astype("float32"), rng.normal(size=5).astype("float32")
    y = batch_norm(paddle.to_tensor(x), norms, paddle.to_tensor(bias)).numpy()
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    np.testing.assert_allclose(y, (x - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5), rtol=1e-4,
                               atol=1e-5)
    new = [np.concatenate([getattr(norm, name).numpy() for norm in norms]) for name in ("_mean", "_variance")]
    np.testing.assert_allclose(new[0], momentum * old[0] + (1 - momentum) * (mean + bias), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new[1], momentum * old[1] + (1 - momentum) * variance, rtol=1e-4, atol=1e-5)


def test_a_bias_before_batch_norm_has_the_gradient_zero():
    conv, norm = conv1x1(3, 4), paddle.nn.BatchNorm2D(4)
    conv_norm(paddle.randn([2, 3, 5, 2]), conv, norm).pow(3).sum().backward()
    assert not conv.bias.grad.numpy().any()
    assert np.abs(conv.weight.grad.numpy()).max() > 0


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_half_of_a_batch_norm_is_frozen(frozen):
    conv, norm = conv1x1(3, 4), paddle.nn.BatchNorm2D(4)
    getattr(norm, frozen).stop_gradient = True
    conv_norm(paddle.randn([2, 3, 5, 2]), conv, norm).pow(3).sum().backward()
    for name in ("weight", "bias"):
        assert (getattr(norm, name).grad is None) == (name == frozen)
    assert conv.weight.grad is not None


def test_the_same_seed_gives_the_same_bits():
    states = []
    for _ in range(2):
        paddle.seed(7)
        model = small("CTRGCNLite")
        optimizer = paddle.optimizer.Momentum(0.05, parameters=model.parameters())
        x = paddle.to_tensor(np.random.default_rng(3).normal(size=(4, *SHAPES["CTRGCNLite"])).astype("float32"))
        for _ in range(3):
            paddle.nn.functional.cross_entropy(model(x), paddle.to_tensor([0, 1, 2, 0])).backward()
            optimizer.step()
            optimizer.clear_grad()
        states.append({key: value.numpy().tobytes() for key, value in model.state_dict().items()})
    assert states[0] == states[1]


def test_products_are_for_a_cpu_and_never_for_an_exported_graph():
    answers = []

    def forward(x):
        answers.append(products(x))
        return x + 1

    x = paddle.ones([2, 3])
    forward(x)
    with formulation("plain"):
        forward(x)
    forward(x)
    assert answers == [True, False, True]
    with formulation("products"):
        paddle.jit.to_static(forward, full_graph=True)(x)
    assert answers[3:] and not any(answers[3:])


@pytest.mark.slow
def test_an_exported_graph_is_made_of_convolutions_and_pooling(tmp_path):
    model = small("CTRGCN", graph=TRIANGLE)
    model.eval()
    x = paddle.static.InputSpec([-1, *SHAPES["CTRGCN"]], "float32")
    with formulation("products"):
        traced = paddle.jit.to_static(model, input_spec=[x], full_graph=True)
        program = str(traced.forward.concrete_program.main_program)
    assert program.count("pd_op.conv2d") > 100
    assert "pd_op.pool2d" in program


def test_an_unknown_formulation(monkeypatch):
    with pytest.raises(ValueError, match="'fast'"), formulation("fast"):
        pass
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ConfigError, match=f"{VARIABLE}.*'fast', expected plain or products"):
        _said()


@pytest.mark.parametrize("name", FORMULATIONS)
def test_the_environment_chooses(monkeypatch, name):
    monkeypatch.setenv(VARIABLE, name)
    assert _said() == name
