"""An accelerated network is the network: the papers' layers are the reference, in double precision."""
import copy

import numpy as np
import paddle
import pytest
from golden_fill import fill
from small_models import SHAPES, SMALL, TRIANGLE, sample, small

from paddlevideo_skel.errors import ConfigError
from paddlevideo_skel.models import cpu, cpu_ops
from paddlevideo_skel.models.cpu import (
    FORWARDS,
    IMPLEMENTATIONS,
    OLD_VARIABLE,
    VARIABLE,
    accelerate,
    apply_implementation,
    conv_norm,
    decelerate,
    requested_implementation,
)
from paddlevideo_skel.models.cpu_ops import batch_norm, conv_without_bias
from paddlevideo_skel.models.layers import conv1x1

CHANGE = {"conv": decelerate, "matmul": accelerate}
CASES = [(name, {}, 16) for name in SMALL] + [
    ("CTRGCN", {"adaptive": False}, 13), ("CTRGCN", {"tcn_act": True}, 9), ("CTRGCNLite", {"remove_l9": True}, 5),
    *[("STGCNPlusPlus", {"gcn_adaptive": adaptive}, 11) for adaptive in (None, "offset", "importance")],
    ("STGCNPlusPlus", {"tcn_type": "unit_tcn", "gcn_with_res": False}, 13),
    ("STGCN", {"edge_importance_weighting": False}, 9)]


def everything(name, changes, frames, implementation, mode):
    """Logits, every gradient and the state after one forward and backward pass."""
    paddle.seed(0)
    model = CHANGE[implementation](fill(small(name, **changes)))
    model.to(dtype="float64")
    getattr(model, mode)()
    shape = [frames if size == 16 else size for size in SHAPES[name]] if name != "ResNet3dSlowOnly" else SHAPES[name]
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(4, *shape)), stop_gradient=False)
    logits = model(x)
    paddle.nn.functional.cross_entropy(logits, paddle.to_tensor([0, 1, 2, 0])).backward()
    found = {"logits": logits, "gradient of the input": x.grad, **model.state_dict()}
    found.update({f"gradient of {key}": p.grad for key, p in model.named_parameters() if not p.stop_gradient})
    return {key: value.numpy() for key, value in found.items()}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "changes", "frames"), CASES)
def test_both_implementations_agree(name, changes, frames, mode):
    right, found = (everything(name, changes, frames, implementation, mode) for implementation in IMPLEMENTATIONS)
    assert right.keys() == found.keys()
    scale = max(np.abs(value).max() for key, value in right.items() if key.startswith("gradient"))
    for key, value in right.items():
        limit = scale if key.startswith("gradient") else np.abs(value).max()
        assert np.abs(found[key] - value).max() <= 1e-9 * limit, key


def test_every_layer_of_the_table_is_in_some_model():
    layers = {type(layer) for name, changes, _ in CASES for layer in small(name, **changes).sublayers()}
    assert set(FORWARDS.values()) <= layers


@pytest.mark.parametrize("name", SMALL)
def test_accelerating_changes_classes_and_nothing_else(name):
    model = decelerate(small(name))
    layers, keys, parameters = model.sublayers(), list(model.state_dict()), model.parameters()
    classes = [type(layer) for layer in layers]
    assert not set(classes) & set(FORWARDS.values())
    assert accelerate(accelerate(model)) is model
    assert [type(layer) for layer in model.sublayers()] == [FORWARDS.get(cls, cls) for cls in classes] != classes
    assert all(one is other for one, other in zip(model.sublayers(), layers, strict=True))
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == keys
    twin = copy.deepcopy(model)
    assert [type(layer) for layer in twin.sublayers()] == [type(layer) for layer in layers]
    assert [type(layer) for layer in decelerate(model).sublayers()] == classes


@pytest.mark.parametrize(("name", "frozen"), [
    ("CTRGCN", ".conv1."), ("CTRGCN", ".conv2."), ("CTRGCN", ".conv3.weight"), ("CTRGCN", ".conv3.bias"),
    ("CTRGCN", ".l1."), ("STGCNPlusPlus", ".gcn.conv.bias"), ("STGCNPlusPlus", ".A"), ("STGCN", "backbone.")])
def test_what_is_frozen_gets_no_gradient_and_the_rest_learns(name, frozen):
    model = small(name)
    for key, parameter in model.named_parameters():
        parameter.stop_gradient = parameter.stop_gradient or frozen in key
    x = paddle.to_tensor(np.random.default_rng(4).normal(size=(2, *SHAPES[name])).astype("float32"))
    model(x).sum().backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is None) == parameter.stop_gradient, key


def test_the_parts_of_a_gradient_that_are_shared_are_not_added_up_twice():
    """A sum hands one gradient to both of its summands; both are used again here."""
    model = small("CTRGCN")
    model.to(dtype="float64")
    x = paddle.to_tensor(np.random.default_rng(1).normal(size=(2, *SHAPES["CTRGCN"])), stop_gradient=False)
    gradients = []
    for implementation in IMPLEMENTATIONS:
        x.clear_gradient()
        features = CHANGE[implementation](model).backbone(x)
        (features * features + features + x.sum()).sum().backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-9)


@pytest.mark.parametrize("at_a_time", [1, cpu_ops.COLUMNS_BYTES], ids=["sample by sample", "all samples"])
@pytest.mark.parametrize(("frames", "kernel", "stride", "padding", "dilation"), [
    (13, 3, 1, 1, 1), (13, 3, 1, 4, 4), (12, 5, 2, 4, 2), (13, 9, 3, 4, 1), (3, 5, 1, 8, 4), (1, 9, 2, 4, 1),
    (10, 4, 2, 1, 1), (10, 3, 1, 0, 2)])
def test_a_convolution_over_time_is_paddles(monkeypatch, frames, kernel, stride, padding, dilation, at_a_time):
    """Values and both gradients, in double precision; also where a tap reads nothing but padding."""
    monkeypatch.setattr(cpu_ops, "COLUMNS_BYTES", at_a_time)
    conv = paddle.nn.Conv2D(4, 6, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
    conv.to(dtype="float64")
    rng = np.random.default_rng(5)
    x = paddle.to_tensor(rng.normal(size=(3, 4, frames, 2)), stop_gradient=False)
    right = paddle.nn.functional.conv2d(x, conv.weight, None, (stride, 1), (padding, 0), (dilation, 1))
    dy = paddle.to_tensor(rng.normal(size=right.shape))
    found = []
    for y in (right, conv_without_bias(x, conv)):
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shifted_features_are_aligned(dtype):
    """MKL's rounding depends on it, and NumPy's own memory is aligned to 16 bytes only."""
    for size in range(1, 60):
        array = cpu_ops._aligned_empty((2, size), dtype)
        assert (array.ctypes.data % 64, array.shape, array.dtype) == (0, (2, size), dtype)
        assert array.flags.c_contiguous and array.flags.writeable


def test_a_class_derived_from_an_accelerated_one_computes_with_its_own_forward():
    model = accelerate(small("CTRGCNLite"))
    model.eval()
    x = sample("CTRGCNLite", 2)
    with paddle.no_grad():
        before = model(x).numpy()

        class Doubled(type(model.head)):
            def forward(self, x):
                return 2 * super().forward(x)

        model.head.__class__ = Doubled
        np.testing.assert_allclose(model(x).numpy(), 2 * before, rtol=1e-4)


def test_a_traced_graph_is_that_of_the_papers_layers():
    """Of a model that computed by products before, and does so again afterwards."""
    model = fill(small("STGCNPlusPlus", tcn_type="unit_tcn"))
    x = paddle.to_tensor(np.random.default_rng(6).normal(size=(2, *SHAPES["STGCNPlusPlus"])).astype("float32"))
    before = model(x).numpy()
    found = [operators(model, "STGCNPlusPlus"), operators(decelerate(model), "STGCNPlusPlus")]
    assert found[0] == found[1] and found[0].count("pd_op.conv2d") >= 10
    np.testing.assert_array_equal(accelerate(model)(x).numpy(), before)


@pytest.mark.slow
def test_an_exported_graph_is_made_of_convolutions_and_pooling():
    found = operators(fill(small("CTRGCN", graph=TRIANGLE)), "CTRGCN")
    assert found.count("pd_op.conv2d") > 100
    assert "pd_op.pool2d" in found


def operators(model, name):
    """The operators of the graph that is traced from a model, in order."""
    spec = paddle.static.InputSpec([-1, *SHAPES[name]], "float32")
    traced = paddle.jit.to_static(copy.deepcopy(model), input_spec=[spec], full_graph=True)
    return [op.name() for op in traced.forward.concrete_program.main_program.global_block().ops]


@pytest.mark.parametrize(("variable", "value", "expected"), [
    (VARIABLE, "conv", "conv"), (VARIABLE, "matmul", "matmul"), (VARIABLE, "", None), (OLD_VARIABLE, "plain", "conv"),
    (OLD_VARIABLE, "products", "matmul"), (OLD_VARIABLE, "", None)])
def test_the_environment_chooses(monkeypatch, variable, value, expected):
    for name in (VARIABLE, OLD_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    assert requested_implementation() == expected


def test_the_new_variable_counts(monkeypatch):
    monkeypatch.setenv(VARIABLE, "conv")
    monkeypatch.setenv(OLD_VARIABLE, "products")
    assert requested_implementation() == "conv"


@pytest.mark.parametrize(("variable", "words"), [(VARIABLE, "expected conv or matmul"),
                                                 (OLD_VARIABLE, "expected plain or products")])
def test_an_unknown_implementation(monkeypatch, variable, words):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv(variable, "fast")
    with pytest.raises(ConfigError, match=f"{variable}.*'fast', {words}"):
        apply_implementation(paddle.nn.Sequential(conv1x1(2, 3)))


@pytest.mark.parametrize(("requested", "device", "expected"), [
    (None, "cpu", True), (None, "gpu:0", False), (None, "npu:1", False), ("conv", "cpu", False),
    ("matmul", "cpu", True), ("matmul", "gpu:0", True)])
def test_the_device_chooses_where_nobody_asks(monkeypatch, requested, device, expected):
    monkeypatch.setattr(cpu.paddle, "get_device", lambda: device)
    monkeypatch.setattr(cpu, "requested_implementation", lambda: requested)
    model = apply_implementation(paddle.nn.Sequential(conv1x1(2, 3)))
    assert isinstance(model[0], cpu.Matmul) == expected
