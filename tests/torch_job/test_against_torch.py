"""Checkpoints that PyTorch itself wrote, of the networks in ``reference``: converted, they answer as there.

A job of its own (``make test-torch``): skipped where PyTorch is absent.
"""
from collections import OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import paddle  # noqa: E402
from reference import CTRGCN, STGCN, PoseC3D, PysklCTRGCN, PysklSTGCN, randomise  # noqa: E402

from paddlevideo_skel.build import build_recognizer  # noqa: E402
from paddlevideo_skel.checkpoints.convert import convert_checkpoint  # noqa: E402
from paddlevideo_skel.checkpoints.fit import fit_weights  # noqa: E402
from paddlevideo_skel.checkpoints.load import load_weights  # noqa: E402
from paddlevideo_skel.checkpoints.torch_file import open_torch  # noqa: E402
from paddlevideo_skel.config import load_config  # noqa: E402
from paddlevideo_skel.skeleton import adjacency, get_layout  # noqa: E402


def graph(layout, strategy):
    return adjacency(get_layout(layout), strategy)


def plain(model):
    return model.state_dict()


def wrapped(model):
    """As mmengine writes it: among a config, a history of losses and an optimizer's state."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return {"meta": {"cfg": "model = dict()", "dtype": torch.float16, "seed": np.int64(3)}, "message_hub": History(),
            "optimizer": optimizer.state_dict(), "state_dict": model.state_dict()}


class History:
    def __init__(self):
        self.values, self.names = np.arange(4.0), np.array(["loss", None], object)


def parallel(model):
    return {"epoch": 3, "model_state_dict": OrderedDict((f"module.{k}", v) for k, v in model.state_dict().items())}


JOINTS_LAST, JOINTS_FIRST = (2, 2, 32, 17, 3), (2, 3, 32, 25, 2)
CASES = {
    "st-gcn, openpose": (lambda: STGCN(graph("openpose", "spatial"), 400), (2, 3, 32, 18, 2), plain, [], "openpose"),
    "st-gcn, ntu, no importance": (lambda: STGCN(graph("ntu-rgb+d", "spatial"), 60, importance=False), JOINTS_FIRST,
                                   parallel, [], "ntu-rgb+d"),
    "st-gcn, distance": (lambda: STGCN(graph("openpose", "distance"), 7, 2), (2, 2, 32, 18, 1), plain, [], "openpose"),
    "pyskl st-gcn": (lambda: PysklSTGCN(graph("coco", "spatial"), 60), JOINTS_LAST, wrapped, [], "coco"),
    "mmaction2 st-gcn, offset, MVC": (
        lambda: PysklSTGCN(graph("ntu-rgb+d-pyskl", "spatial"), 60, "fc", "offset", data_bn="MVC"),
        (2, 2, 32, 25, 3), wrapped, [], "ntu-rgb+d-pyskl"),
    "pyskl st-gcn, fixed graph, no data_bn": (
        lambda: PysklSTGCN(graph("coco", "spatial"), 5, adaptive=None, data_bn=None, base=16, channels=2),
        (2, 1, 32, 17, 2), plain, [], "coco"),
    "pyskl st-gcn++": (
        lambda: PysklSTGCN(graph("coco", "inward_outward"), 60, adaptive="init", with_res=True, multi_scale=True),
        JOINTS_LAST, wrapped, [], "coco"),
    "mmaction2 st-gcn++, other stages": (
        lambda: PysklSTGCN(graph("ntu-rgb+d-pyskl", "inward_outward"), 120, "fc", "init", True, True, base=24, stages=6,
                           inflate=(4,)), (2, 2, 32, 25, 3), plain, [], "ntu-rgb+d-pyskl"),
    "ctr-gcn": (lambda: CTRGCN(graph("ntu-rgb+d", "inward_outward"), 60), JOINTS_FIRST, plain, [], "ntu-rgb+d"),
    "ctr-gcn, nine units, one person": (lambda: CTRGCN(graph("kinect20", "inward_outward"), 10, 3, 1, 32, 9),
                                        (2, 3, 32, 20, 1), parallel, [], "kinect20"),
    "ctr-gcn, fixed topology": (lambda: CTRGCN(graph("ntu-rgb+d", "inward_outward"), 60, adaptive=False), JOINTS_FIRST,
                                plain, ["ntu-rgb+d"], "ntu-rgb+d"),
    "pyskl ctr-gcn": (lambda: PysklCTRGCN(graph("ntu-rgb+d-pyskl", "inward_outward"), 60), (2, 2, 32, 25, 3), wrapped,
                      [], "ntu-rgb+d-pyskl"),
    "mmaction2 ctr-gcn": (lambda: PysklCTRGCN(graph("coco", "inward_outward"), 60, "fc"), JOINTS_LAST, plain, [],
                          "coco"),
    "posec3d": (lambda: PoseC3D(51), (2, 17, 8, 56, 56), wrapped, [], None),
    "posec3d, limbs, other widths": (lambda: PoseC3D(7, 16, 16, (2, 1, 2)), (2, 16, 8, 32, 32), plain, [], None),
}


def as_here(array, name):
    """The input as the model here takes it: pyskl's CTR-GCN has (N, M, T, V, C), here it is (N, C, T, V, M)."""
    if "ctr-gcn" in name and ("pyskl" in name or "mmaction2" in name):
        return array.transpose(0, 4, 2, 3, 1)
    return array[:, None] if "pyskl" in name or "mmaction2" in name else array


def answer(model, array):
    model.eval()
    with paddle.no_grad():
        return model(paddle.to_tensor(np.ascontiguousarray(array))).numpy()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", CASES)
def test_the_logits_are_those_of_pytorch(name, zipped, tmp_path):
    make, shape, wrap, layout, expected_layout = CASES[name]
    model = randomise(make())
    path = tmp_path / "theirs.pth"
    torch.save(wrap(model), path, _use_new_zipfile_serialization=zipped)
    output, config = convert_checkpoint(path, tmp_path / "ours.pdparams", layout=layout[0] if layout else None)
    recognizer = build_recognizer(load_config(config))
    if expected_layout:
        assert recognizer.backbone.layout.name == expected_layout
    fit_weights(recognizer, load_weights(output), output)
    # Both compute in double precision, where rounding hides nothing: random weights amplify that of float32.
    array = np.random.default_rng(1).normal(size=shape)
    with torch.no_grad():
        expected = model.double()(torch.tensor(array)).numpy()
    found = answer(recognizer.to(dtype="float64"), as_here(array, name))
    error = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"{name}: relative error {error:.1e}")
    assert error < 1e-9
    assert np.ptp(expected, axis=0).max() > 1e-3  # the samples' answers differ: not only biases were compared


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_type_and_view_is_read(zipped, protocol, tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "transposed": base.t()[1:3], "strided": base[::2, 1::2], "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3), "half": base.half(), "bfloat16": torch.linspace(-3, 3, 7).bfloat16(),
        "double": base.double(), "parameter": torch.nn.Parameter(base), "expanded": torch.ones(1).expand(5),
        "bool": torch.tensor([True, False]),
        **{str(kind): torch.arange(5).to(kind) for kind in (torch.int8, torch.uint8, torch.int16, torch.int32,
                                                            torch.int64)}}
    path = tmp_path / "a.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    with open_torch(path) as opened:
        for name, tensor in tensors.items():
            found, expected = opened.array(opened.content[name]), tensor.detach()
            if expected.dtype in (torch.half, torch.bfloat16):
                expected = expected.float()
            assert found.dtype == expected.numpy().dtype, name
            np.testing.assert_array_equal(found, expected.numpy(), name)


def test_a_weight_average_of_pytorch_is_read(tmp_path):
    model = randomise(CTRGCN(graph("ntu-rgb+d", "inward_outward"), 5, base=16))
    averaged = torch.optim.swa_utils.AveragedModel(model)
    path = tmp_path / "a.pth"
    torch.save(averaged.state_dict(), path)
    found = load_weights(path)
    np.testing.assert_array_equal(found["head.fc.weight"], model.fc.weight.detach().numpy().T)
