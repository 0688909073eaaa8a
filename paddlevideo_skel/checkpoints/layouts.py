"""Recognise the skeleton of a checkpoint by its adjacency, and name it in a config."""
import numpy as np

from ..config_schema import LAYOUT_KEYS
from ..errors import CheckpointError
from ..skeleton import LAYOUTS, STRATEGIES, adjacency, get_layout

EXACT = 1e-4
# How far a learned adjacency may have moved, relative to its size, and how much closer it must be than to the next
# skeleton, as a share of the distance between both.
MAX_MOVED, MIN_NEARER = 0.8, 0.5


def find_layout(graph, learned, layout, where):
    """The layout and the strategy whose adjacency ``graph`` is, or was initialised with.

    Args:
        graph: ``(K, V, V)``.
        learned: whether training changed it.
        layout: a ``Layout`` that the user named, or None to search all known ones.
        where: the file, for messages.

    Returns:
        ``Layout``, strategy, and a line for the report.

    Raises:
        CheckpointError: none matches; the user must name it.
    """
    joints = graph.shape[-1]
    layouts = [layout] if layout else [known for known in LAYOUTS.values() if known.num_joints == joints]
    stacks = [(known, strategy, adjacency(known, strategy)) for known in layouts for strategy in STRATEGIES]
    candidates = [candidate for candidate in stacks if candidate[2].shape == graph.shape]
    distances = [np.square(graph - stack).sum() for _, _, stack in candidates]
    order = np.argsort(distances, kind="stable")
    hint = "Name the skeleton with --layout: a known name, or a YAML file with a LAYOUT section"
    if not candidates:
        raise CheckpointError(where, f"has an adjacency of shape {graph.shape}, which no known layout has", hint)
    found, strategy, stack = candidates[order[0]]
    off = np.sqrt(distances[order[0]] / np.square(stack).sum())
    if np.abs(graph - stack).max() < EXACT:
        return found, strategy, f"its adjacency is that of {found.name}, {strategy}"
    if layout:
        return found, strategy, f"its adjacency differs from that of {found.name}, {strategy} ({off:.2f}), and is kept"
    nearest = f"its adjacency is closest to {found.name}, {strategy} ({off:.2f} of its size away)"
    if not learned or off > MAX_MOVED:
        raise CheckpointError(where, f"its adjacency matches no known layout; {nearest}", hint)
    if len(order) > 1:
        rival, rival_strategy, other = candidates[order[1]]
        if distances[order[1]] - distances[order[0]] < MIN_NEARER * np.square(stack - other).sum():
            raise CheckpointError(where, f"{nearest}, but hardly closer than to {rival.name}, {rival_strategy}", hint)
    return found, strategy, nearest + ", and learned"


def config_value(layout):
    """A layout as written in a config: the name of a known layout, otherwise its description."""
    return layout.name if LAYOUTS.get(layout.name) == layout else layout.to_dict()


def pipeline_steps(pipeline):
    """Every transform of every split of a PIPELINE section as ``(name, arguments)``."""
    for split in pipeline.values():
        for steps in split.values():
            for step in steps if isinstance(steps, list) else [steps]:
                if isinstance(steps, dict):
                    yield steps.get("name"), steps
                else:
                    yield from ((name, arguments or {}) for name, arguments in step.items())


def name_layout(pipeline, layout):
    """Set ``layout`` in transforms that name a skeleton with a different number of joints."""
    for _, arguments in pipeline_steps(pipeline):
        for key in LAYOUT_KEYS:
            if key in arguments and _joints(arguments[key]) not in (None, layout.num_joints):
                arguments[key] = config_value(layout)


def _joints(spec):
    known = spec in ("coco", "nturgb+d", "openpose") or isinstance(spec, dict) or spec in LAYOUTS
    return get_layout(spec).num_joints if known or isinstance(spec, str) else None
