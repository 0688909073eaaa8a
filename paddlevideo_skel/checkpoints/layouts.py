"""Which skeleton a checkpoint was trained on, told from the adjacency in it."""
import numpy as np

from ..errors import CheckpointError
from ..skeleton import LAYOUTS, STRATEGIES, adjacency

EXACT = 1e-4
# A learned adjacency has moved: this far at most, and clearly less than towards the next skeleton.
FARTHEST, CLEARLY = 0.8, 0.5


def find_layout(graph, learned, layout, where):
    """The layout and the strategy whose adjacency ``graph`` is, or began as.

    Args:
        graph: ``(K, V, V)``.
        learned: whether training changed it.
        layout: a ``Layout`` that the user named, or None to look among all that are known.

    Returns:
        ``Layout``, strategy, and what to tell about it.

    Raises:
        CheckpointError: none fits; the user must name it.
    """
    joints = graph.shape[-1]
    layouts = [layout] if layout else [known for known in LAYOUTS.values() if known.num_joints == joints]
    stacks = [(known, strategy, adjacency(known, strategy)) for known in layouts for strategy in STRATEGIES]
    candidates = [candidate for candidate in stacks if candidate[2].shape == graph.shape]
    distances = [np.square(graph - stack).sum() for _, _, stack in candidates]
    order = np.argsort(distances, kind="stable")
    hint = "Name the skeleton with --layout: a known name, or a YAML file with a LAYOUT section"
    if not candidates:
        raise CheckpointError(where, f"has an adjacency {graph.shape}, and no known layout has one like it", hint)
    found, strategy, stack = candidates[order[0]]
    off = np.sqrt(distances[order[0]] / np.square(stack).sum())
    if np.abs(graph - stack).max() < EXACT:
        return found, strategy, f"its adjacency is that of {found.name}, {strategy}"
    if layout:
        return found, strategy, f"its adjacency differs from that of {found.name}, {strategy} ({off:.2f}), and is kept"
    nearest = f"its adjacency is nearest to {found.name}, {strategy} ({off:.2f} of its size away)"
    if not learned or off > FARTHEST:
        raise CheckpointError(where, f"its adjacency is that of no known layout; {nearest}", hint)
    if len(order) > 1:
        rival, rival_strategy, other = candidates[order[1]]
        if distances[order[1]] - distances[order[0]] < CLEARLY * np.square(stack - other).sum():
            raise CheckpointError(where, f"{nearest}, but hardly nearer than to {rival.name}, {rival_strategy}", hint)
    return found, strategy, nearest + ", and learned"
