"""Film strips of stick figures, to look at what a network is given. Needs matplotlib (extra ``plot``)."""
import numpy as np

from ..errors import UnavailableError
from ..files import replacing
from ..skeleton import get_layout

_COLOURS = {"left": "tab:blue", "right": "tab:orange", "middle": "0.35"}


def draw_sequence(annotation, layout, path, frames=8):
    """Draws a sequence as a PNG: evenly chosen frames side by side, as the camera sees them.

    The left side of a body is blue, the right orange; a second person is paler. Joints that are zero, or
    whose score is below 0.3, are left out with their bones.

    Args:
        annotation: an ``Annotation``; 3D coordinates are shown along their z axis.
        layout: the name of its layout, or a ``Layout``.
        path: of the PNG.
        frames: how many frames to show.

    Raises:
        UnavailableError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.collections import LineCollection
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnavailableError("drawing", "matplotlib is not installed",
                               "pip install 'paddlevideo_skel[plot]'") from error
    layout = get_layout(layout)
    keypoint = np.asarray(annotation.keypoint, dtype=float)
    seen = (keypoint != 0).any(axis=-1)
    if annotation.keypoint_score is not None:
        seen &= np.asarray(annotation.keypoint_score) >= 0.3
    # A picture's y grows downwards; the Kinect's x grows to the left as the camera sees it.
    flat = keypoint[..., :2] * ((1, -1) if keypoint.shape[-1] == 2 else (-1, 1))
    chosen = np.linspace(0, annotation.total_frames - 1, min(frames, annotation.total_frames)).round().astype(int)
    low, high = (flat[seen].min(axis=0), flat[seen].max(axis=0)) if seen.any() else (np.zeros(2), np.ones(2))
    margin = 0.05 * (high - low).max()
    width, height = high - low + 2 * margin
    # Tall panels side by side; their width follows from the figures', within reason.
    panel = float(np.clip(3.2 * width / height, 1.2, 5))
    figure = Figure(figsize=(panel * len(chosen), 3.6))
    FigureCanvasAgg(figure)
    for i, frame in enumerate(chosen):
        axes = figure.add_axes(((i + 0.02) / len(chosen), 0.01, 0.96 / len(chosen), 0.88))
        for person in range(len(flat)):
            points, visible = flat[person, frame], seen[person, frame]
            bones = [bone for bone in layout.bones if visible[list(bone)].all()]
            colours = [_COLOURS[_side(layout, bone)] for bone in bones]
            axes.add_collection(LineCollection([points[list(bone)] for bone in bones], colors=colours,
                                               linewidths=2, alpha=0.45 if person else 1))
            axes.plot(*points[visible].T, ".", color="0.2", markersize=2.5)
        axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin),
                 xticks=[], yticks=[], aspect="equal")
        axes.set_title(f"frame {frame}", fontsize=8)
    figure.text(0.004, 0.99, annotation.name, fontsize=8, va="top")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


def _side(layout, bone):
    for side in ("left", "right"):
        if any(joint in getattr(layout, side) for joint in bone):
            return side
    return "middle"
