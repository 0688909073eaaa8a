"""Weights of other projects under PaddleVideo's names, with a matching config. Never imports paddle.

The input is a PyTorch state dict (as arrays) in one of the formats of ``sources``.
"""
from ..errors import CheckpointError
from ..skeleton import adjacency, get_layout
from .configs import complete_config
from .layouts import find_layout
from .sources import recognise


def is_foreign(names):
    """Whether a state dict uses PyTorch's names, recognised by its BatchNorms, which all networks have."""
    return any(name.endswith(".running_mean") for name in names)


def rename(state, where, layout=None):
    """The weights under PaddleVideo's names, without a config.

    Args:
        state: name → array of a PyTorch state dict.
        where: the file, for messages.
        layout: a layout's name or description, or None.

    Returns:
        name → float32 array, and the ``Found``.

    Raises:
        CheckpointError: an unknown format, or unknown or missing tensors, which are listed.
    """
    found = recognise(state, where)
    if found.graph is None and found.layout_key:
        _own_graph(found, layout, where)
    return found.plan.apply(where, found.source), found


def convert_state(state, where="checkpoint", layout=None):
    """The weights under PaddleVideo's names, and a config for them.

    Args:
        state: name → array of a PyTorch state dict.
        where: the file, for messages.
        layout: a layout's name or description. None: the known one whose adjacency is in the checkpoint.

    Returns:
        name → float32 array; the config as a dict, complete with data, pipeline and training settings of a packaged
        one; and lines that report what was found and assumed.

    Raises:
        CheckpointError: an unknown form, unknown or missing tensors, or an unknown skeleton.
        ConfigError: an unknown ``layout``.
    """
    weights, found = rename(state, where, layout)
    layout = get_layout(layout, "--layout") if layout else None
    if layout and found.joints not in (None, layout.num_joints):
        raise CheckpointError(where, f"has {found.joints} joints, the layout {layout.name} has {layout.num_joints}",
                              "Pass the layout that it was trained on")
    lines = []
    if found.layout_key and found.graph is not None:
        layout, strategy, line = find_layout(found.graph, found.learned, layout, where)
        lines.append(line)
        if found.strategy_key:
            found.backbone[found.strategy_key] = found.strategy_names.get(strategy, strategy)
    counters = found.plan.counters()
    report = [f"{found.source}: {len(weights)} tensors" + (f"; {counters} batch counters omitted" if counters
                                                           else ""), *lines, *found.notes]
    return weights, complete_config(found, layout), report


def _own_graph(found, layout, where):
    """Take the topology from the named skeleton: CTR-GCN with a fixed topology does not save it."""
    if layout is None:
        raise CheckpointError(where, "has no adjacency (CTR-GCN with adaptive false)",
                              "Convert it with tools/convert_weights.py and name the skeleton with --layout")
    layout = get_layout(layout, "--layout")
    found.graph, found.learned, found.joints = adjacency(layout, "inward_outward"), False, layout.num_joints
    width = len(found.plan.array("data_bn.weight"))
    persons, rest = divmod(width, found.backbone["in_channels"] * layout.num_joints)
    if rest or not persons:
        raise CheckpointError(where, f"its data_bn has {width} channels, which {layout.num_joints} joints of "
                              f"{found.backbone['in_channels']} channels do not divide", "Is this the right layout?")
    found.backbone.update(num_point=layout.num_joints, num_person=persons)
    for unit in range(1, found.plan.count("l{}.gcn1.alpha", first=1) + 1):
        found.plan.constant(f"l{unit}.gcn1.A", found.graph)
