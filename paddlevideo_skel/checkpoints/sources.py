"""Known formats of PyTorch checkpoints for skeleton networks, recognised by their tensor names.

Each function takes a state dict and returns a ``Found``, or None if the format does not match. Structure is read from
names and shapes; what a state dict does not show (strides in time) is assumed to be as published, and noted.
"""
import numpy as np

from ..errors import CheckpointError
from .mapping import Found, Plan

ST_GCN_WIDTHS = [64] * 4 + [128] * 3 + [256] * 3
CTRGCN_FACTORS = [1, 1, 1, 1, 2, 2, 2, 4, 4, 4]
MM_HEAD = "cls_head."


def recognise(state, where):
    """Find the form of a state dict.

    Raises:
        CheckpointError: the form is unknown, or the state dict is incomplete.
    """
    if any(".origin_stream." in f".{name}" for name in state):
        raise CheckpointError(where, "is a two-stream ST-GCN (origin_stream, motion_stream), which is not supported",
                              "Convert each stream separately, and fuse their results with tools/ensemble.py")
    body, head = (prefix if any(name.startswith(prefix) for name in state) else "" for prefix in ("backbone.", MM_HEAD))
    for source in (st_gcn, pyskl_gcn, pyskl_ctrgcn, ctrgcn, posec3d):
        try:
            found = source(Plan(state, body, head), where)
        except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
            raise CheckpointError(where, f"looks like {source.__doc__.splitlines()[0].rstrip('.')}, but is incomplete "
                                  f"or has unexpected shapes ({type(error).__name__}: {error})") from error
        if found:
            return found
    raise CheckpointError(where, f"has an unknown format; its names look like {', '.join(list(state)[:6])}",
                          "Known: st-gcn and mmskeleton (ST-GCN), pyskl and mmaction2 (ST-GCN, ST-GCN++, CTR-GCN, "
                          "PoseC3D), CTR-GCN's own repository, and PaddleVideo")


def st_gcn(plan, where):
    """ST-GCN of st-gcn, mmskeleton or mmaction2 0.x."""
    unit = "st_gcn_networks.{}"
    units = plan.count(unit + ".gcn.conv.weight")
    if not units:
        return None
    graph = plan.array("A")
    joints = graph.shape[1]
    widths = [plan.shape(unit.format(i) + ".tcn.0.weight")[0] for i in range(units)]
    if widths != ST_GCN_WIDTHS:
        raise CheckpointError(where, f"is an ST-GCN of {units} units with {widths} channels, expected "
                              f"{ST_GCN_WIDTHS}")
    for i in range(units):
        at = unit.format(i)
        plan.conv(f"{at}.gcn.conv", f"{at}.gcn.conv")
        plan.norm(f"{at}.tcn.0", f"{at}.tcn.0")
        plan.conv(f"{at}.tcn.2", f"{at}.tcn.2")
        plan.norm(f"{at}.tcn.3", f"{at}.tcn.3")
        if i and widths[i] != widths[i - 1]:
            plan.conv(f"{at}.residual.0", f"{at}.residual.0")
            plan.norm(f"{at}.residual.1", f"{at}.residual.1")
    plan.put("A", "A")
    plan.norm("data_bn", "data_bn")
    importance = plan.has("edge_importance.0")
    for i in range(units if importance else 0):
        plan.put(f"edge_importance.{i}", f"edge_importance.{i}")
    layer = "fc" if f"{plan.head}fc.weight" in plan.state else "fcn"
    plan.classifier("fcn", layer, transposed=False)
    classes = plan.state[f"{plan.head}{layer}.weight"].shape[0]
    in_channels = plan.shape(unit.format(0) + ".gcn.conv.weight")[1]
    if plan.shape("data_bn.weight")[0] != in_channels * joints:
        raise ValueError(f"data_bn has {plan.shape('data_bn.weight')[0]} channels for {in_channels} × {joints}")
    return Found(
        "ST-GCN in the format of " + ("mmaction2 0.x" if plan.head else "st-gcn and mmskeleton"), plan,
        {"name": "STGCN", "in_channels": in_channels, "edge_importance_weighting": importance, "data_bn": True},
        {"name": "STGCNHead", "num_classes": classes, "in_channels": widths[-1]}, joints, graph, False, "layout",
        "strategy")


def pyskl_gcn(plan, where):
    """ST-GCN or ST-GCN++ of pyskl or mmaction2."""
    stages = plan.count("gcn.{}.gcn.conv.weight")
    if not stages or not plan.has("gcn.0.gcn.A"):
        return None
    graphs = np.stack([plan.array(f"gcn.{i}.gcn.A") for i in range(stages)])
    subsets, joints = graphs.shape[1:3]
    widths = [plan.shape(f"gcn.{i}.gcn.bn.weight")[0] for i in range(stages)]
    if plan.shape("gcn.0.gcn.conv.weight")[0] != subsets * widths[0]:
        raise CheckpointError(where, "is an ST-GCN with conv_pos 'post', which is not supported")
    multi_scale, with_res = plan.has("gcn.0.tcn.transform.0.weight"), plan.has("gcn.0.gcn.down.0.weight")
    adaptive = _adaptive(plan, graphs, with_res)
    for i in range(stages):
        at, new_width = f"gcn.{i}", i == 0 or widths[i] != widths[i - 1]
        plan.put(f"{at}.gcn.A", f"{at}.gcn.A")
        if adaptive in ("offset", "importance"):
            plan.put(f"{at}.gcn.PA", f"{at}.gcn.PA")
        plan.conv(f"{at}.gcn.conv", f"{at}.gcn.conv")
        plan.norm(f"{at}.gcn.bn", f"{at}.gcn.bn")
        if with_res and new_width:
            plan.conv(f"{at}.gcn.down.0", f"{at}.gcn.down.0")
            plan.norm(f"{at}.gcn.down.1", f"{at}.gcn.down.1")
        (_multi_scale if multi_scale else _unit_tcn)(plan, f"{at}.tcn")
        if i and (new_width or plan.has(f"{at}.residual.conv.weight")):
            _unit_tcn(plan, f"{at}.residual")
    if not multi_scale and plan.shape("gcn.0.tcn.conv.weight")[2] != 9:
        raise ValueError(f"its temporal convolutions span {plan.shape('gcn.0.tcn.conv.weight')[2]} frames, expected 9")
    in_channels = plan.shape("gcn.0.gcn.conv.weight")[1]
    kind, persons = None, 2
    if plan.has("data_bn.weight"):
        plan.norm("data_bn", "data_bn")
        share = plan.shape("data_bn.weight")[0] / (in_channels * joints)
        kind, persons = ("VC", 2) if share == 1 else ("MVC", int(share))
    inflations = [i + 1 for i in range(1, stages) if widths[i] != widths[i - 1]]
    ratio = widths[inflations[0] - 1] / widths[0] if inflations else 2
    down = [i + 1 for i in range(1, stages) if plan.has(f"gcn.{i}.residual.conv.weight")]
    classes = _mm_classifier(plan, "fc_cls")
    backbone = {
        "name": "STGCNPlusPlus", "in_channels": in_channels, "base_channels": widths[0], "ch_ratio": _plain(ratio),
        "num_stages": stages, "inflate_stages": inflations, "down_stages": down, "data_bn_type": kind,
        "num_person": persons, "gcn_adaptive": adaptive, "gcn_with_res": with_res,
        "tcn_type": "mstcn" if multi_scale else "unit_tcn"}
    return Found(
        f"{'ST-GCN++' if multi_scale and with_res else 'ST-GCN'} in the format of pyskl and mmaction2", plan, backbone,
        {"name": "STGCNPlusPlusHead", "num_classes": classes, "in_channels": widths[-1]}, joints, graphs.mean(axis=0),
        adaptive == "init", "layout", "strategy", {"spatial": "partition"}, "pyskl",
        [f"the number of frames is assumed to halve in the stages {down}, as published"],
        ("gcn_adaptive",) if adaptive in ("offset", "importance") else ())


def _adaptive(plan, graphs, with_res):
    """How the adjacency is learned.

    Where the graph has no edge, an importance gets no gradient and stays uniform; an offset changes.
    """
    if plan.has("gcn.0.gcn.PA"):
        outside = np.concatenate([plan.array(f"gcn.{i}.gcn.PA")[graph == 0] for i, graph in enumerate(graphs)])
        return "importance" if np.ptp(outside) < 1e-6 * np.abs(outside).max() or outside.mean() > 0.5 else "offset"
    return "init" if with_res or not np.array_equal(graphs, graphs[:1].repeat(len(graphs), axis=0)) else None


def _unit_tcn(plan, at):
    plan.conv(f"{at}.conv", f"{at}.conv")
    plan.norm(f"{at}.bn", f"{at}.bn")


def _multi_scale(plan, at):
    for branch in range(5):
        plan.conv(f"{at}.branches.{branch}.0", f"{at}.branches.{branch}.0")
        plan.norm(f"{at}.branches.{branch}.1", f"{at}.branches.{branch}.1")
        if branch < 4:
            plan.conv(f"{at}.branches.{branch}.3.conv", f"{at}.branches.{branch}.3.conv")
    plan.conv(f"{at}.branches.5", f"{at}.branches.5")
    plan.norm(f"{at}.transform.0", f"{at}.transform.0")
    plan.conv(f"{at}.transform.2", f"{at}.transform.2")
    plan.norm(f"{at}.bn", f"{at}.bn")


def _mm_classifier(plan, target):
    """Move the head's layer: pyskl calls it ``fc_cls``, mmaction2 ``fc`` (but PoseC3D's ``fc_cls``)."""
    layer = next(name for name in ("fc_cls", "fc", "") if f"{plan.head}{name}.weight" in plan.state or not name)
    plan.classifier(target, layer or "fc_cls")
    return plan.state[f"{plan.head}{layer or 'fc_cls'}.weight"].shape[0]


def _plain(number):
    return int(number) if number == int(number) else float(number)


def ctrgcn(plan, where):
    """CTR-GCN of its authors' repository."""
    if not plan.has("l1.gcn1.convs.0.conv1.weight"):
        return None
    units = plan.count("l{}.gcn1.alpha", first=1)
    adaptive = plan.has("l1.gcn1.PA")
    for unit in range(1, units + 1):
        _ctrgcn_unit(plan, f"l{unit}", f"l{unit}")
        if adaptive:
            plan.put(f"l{unit}.gcn1.PA", f"l{unit}.gcn1.PA")
    plan.classifier("fc", "fc")
    classes = plan.state[f"{plan.head}fc.weight"].shape[0]
    graph = np.mean([plan.array(f"l{unit}.gcn1.PA") for unit in range(1, units + 1)], axis=0) if adaptive else None
    return _ctrgcn(plan, where, "CTR-GCN in the format of its own repository", units, "l{}", classes, graph, adaptive)


def pyskl_ctrgcn(plan, where):
    """CTR-GCN of pyskl or mmaction2.

    It multiplies by the transposed topology. In the authors' form that is: the adjacency transposed, query and key
    exchanged, and ``conv4`` negated, because the difference of query and key changes its sign.
    """
    units = plan.count("net.{}.gcn1.convs.0.conv1.weight")
    if not units:
        return None
    for unit in range(1, units + 1):
        target, source = f"l{unit}", f"net.{unit - 1}"
        _ctrgcn_unit(plan, target, source, ("conv2", "conv1", "conv3", "conv4"))
        for subset in range(3):
            at = f"gcn1.convs.{subset}.conv4.weight"
            plan.put(f"{target}.{at}", f"{source}.{at}", np.negative)
        plan.put(f"{target}.gcn1.PA", f"{source}.gcn1.A", lambda graph: graph.transpose(0, 2, 1))
    graph, learned = plan.array("net.0.gcn1.A"), True
    if plan.has("A"):
        plan.ignore("A")
        graph, learned = plan.array("A"), False
    classes = _mm_classifier(plan, "fc")
    found = _ctrgcn(plan, where, "CTR-GCN in the format of pyskl and mmaction2", units, "net.{}", classes, graph, True)
    found.learned, found.style = learned, "pyskl"
    found.backbone["tcn_act"] = True
    found.notes.append("a sample is one clip; pyskl's tests average over several")
    return found


def _ctrgcn_unit(plan, target, source, convs=("conv1", "conv2", "conv3", "conv4")):
    for subset in range(3):
        for ours, theirs in zip(("conv1", "conv2", "conv3", "conv4"), convs):
            plan.conv(f"{target}.gcn1.convs.{subset}.{ours}", f"{source}.gcn1.convs.{subset}.{theirs}")
    plan.put(f"{target}.gcn1.alpha", f"{source}.gcn1.alpha")
    plan.norm(f"{target}.gcn1.bn", f"{source}.gcn1.bn")
    if plan.has(f"{source}.gcn1.down.0.weight"):
        plan.conv(f"{target}.gcn1.down.0", f"{source}.gcn1.down.0")
        plan.norm(f"{target}.gcn1.down.1", f"{source}.gcn1.down.1")
    for branch in range(4):
        at, theirs = f"{target}.tcn1.branches.{branch}", f"{source}.tcn1.branches.{branch}"
        plan.conv(f"{at}.0", f"{theirs}.0")
        plan.norm(f"{at}.1", f"{theirs}.1")
        if branch < 2:
            plan.conv(f"{at}.3.conv", f"{theirs}.3.conv")
            plan.norm(f"{at}.3.bn", f"{theirs}.3.bn")
        elif branch == 2:
            plan.norm(f"{at}.4", f"{theirs}.4")
    if plan.has(f"{source}.residual.conv.weight"):
        plan.conv(f"{target}.residual.conv", f"{source}.residual.conv")
        plan.norm(f"{target}.residual.bn", f"{source}.residual.bn")


def _ctrgcn(plan, where, source, units, name, classes, graph, adaptive):
    first = 1 if name == "l{}" else 0
    widths = [plan.shape(name.format(first + i) + ".gcn1.bn.weight")[0] for i in range(units)]
    if not 8 <= units <= 10 or widths != [widths[0] * factor for factor in CTRGCN_FACTORS[:units]]:
        raise CheckpointError(where, f"is a CTR-GCN of {units} units with {widths} channels, expected 8 to 10 units "
                              f"of 64, 128 and 256 channels, or in that proportion")
    plan.norm("data_bn", "data_bn")
    in_channels = plan.shape(name.format(first) + ".gcn1.convs.0.conv1.weight")[1]
    joints = None if graph is None else graph.shape[-1]
    backbone = {"name": "CTRGCN" if units == 10 else "CTRGCNLite", "in_channels": in_channels,
                "base_channel": widths[0], "adaptive": adaptive, "tcn_act": False}
    if joints:
        backbone["num_point"] = joints
        backbone["num_person"] = plan.shape("data_bn.weight")[0] // (in_channels * joints)
    if units == 8:
        backbone["remove_l9"] = True
    return Found(source, plan, backbone, {"name": "CTRGCNHead", "num_classes": classes, "in_channels": widths[0]},
                 joints, graph, True, "graph", unseen=("tcn_act",),
                 notes=["the number of frames is assumed to halve in the units 5 and 8, as published"])


def posec3d(plan, where):
    """PoseC3D (SlowOnly) of pyskl or mmaction2."""
    if not plan.has("layer1.0.conv1.conv.weight") or len(plan.shape("layer1.0.conv1.conv.weight")) != 5:
        return None
    stages = plan.count("layer{}.0.conv1.conv.weight", first=1)
    _conv_bn(plan, "conv1")
    blocks = [plan.count(f"layer{stage}.{{}}.conv1.conv.weight") for stage in range(1, stages + 1)]
    inflate, styles = [], set()
    for stage, count in enumerate(blocks, 1):
        frames = []
        for block in range(count):
            at = f"layer{stage}.{block}"
            for part in ("conv1", "conv2", "conv3", *(["downsample"] if block == 0 else [])):
                _conv_bn(plan, f"{at}.{part}")
            first, second = (plan.shape(f"{at}.{part}.conv.weight")[2] for part in ("conv1", "conv2"))
            frames.append(int(max(first, second) > 1))
            styles |= {"3x1x1"} if first > 1 else {"3x3x3"} if second > 1 else set()
        inflate.append(frames[0] if len(set(frames)) == 1 else frames)
    if len(styles) > 1:
        raise ValueError("some blocks span several frames in the first convolution, others in the second")
    shape, out_channels = plan.shape("conv1.conv.weight"), plan.shape(f"layer{stages}.0.conv3.conv.weight")[0]
    early = stages == 4  # the full SlowOnly network halves its input, PoseC3D's does not
    backbone = {
        "name": "ResNet3dSlowOnly", "depth": 50, "in_channels": shape[1], "base_channels": shape[0],
        "conv1_kernel": list(shape[2:]), "num_stages": stages, "out_indices": [stages - 1], "stage_blocks": blocks,
        "conv1_stride_s": 1 + early, "pool1_stride_s": 1 + early, "inflate": inflate,
        "inflate_style": next(iter(styles), "3x1x1"), "with_pool2": False,
        "spatial_strides": [1, 2, 2, 2] if early else [2] * stages,
        "temporal_strides": [1, 1, 1, 1] if early else [1, 1, 2][:stages], "dilations": [1] * stages}
    classes = _mm_classifier(plan, "fc")
    return Found("PoseC3D in the format of pyskl and mmaction2", plan, backbone,
                 {"name": "I3DHead", "num_classes": classes, "in_channels": out_channels}, style="pyskl",
                 notes=[f"strides are assumed as published: {backbone['spatial_strides']} in space, "
                        f"{backbone['temporal_strides']} in time"])


def _conv_bn(plan, at):
    plan.conv(f"{at}._conv", f"{at}.conv", bias=False)
    plan.norm(f"{at}._batch_norm", f"{at}.bn")
