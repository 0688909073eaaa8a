"""Plots as PNG files, and skeleton sequences as film strips and animations. Needs matplotlib."""
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from .errors import UnavailableError
from .files import replacing
from .skeleton import get_layout

SIDE_COLOURS = {"left": "tab:blue", "right": "tab:orange", "middle": "0.35"}
MIN_DRAWN_SCORE = 0.3  # joints with less are not drawn, nor are their bones
MAX_STRIP_WIDTH, MAX_PANEL_HEIGHT = 18, 3.2  # inches
MAX_ANIMATION_FRAMES = 120


def new_figure(width, height):
    """A matplotlib ``Figure`` without a window; width and height in inches.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnavailableError("matplotlib", "is not installed", "pip install paddlevideo_skel[plot]") from error
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    return figure


@contextmanager
def saved_figure(path, width, height):
    """A matplotlib ``Figure``; saved atomically as PNG when the block ends. Width and height in inches.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    figure = new_figure(width, height)
    yield figure
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


@dataclass
class _Scene:
    """What is drawn of a sequence.

    Attributes:
        points: joints as the camera sees them, ``(M, T, V, 2)``, y upwards.
        seen: which of them are drawn, ``(M, T, V)``.
        low, high: corners of the view.
    """
    points: np.ndarray
    seen: np.ndarray
    low: np.ndarray
    high: np.ndarray
    layout: object

    @property
    def frames(self):
        """Number of frames up to the last one with a joint; the rest is padding."""
        filled = np.flatnonzero(self.seen.any(axis=(0, 2)))
        return int(filled[-1]) + 1 if filled.size else 1


def _scene(annotation, layout):
    keypoint = np.asarray(annotation.keypoint, dtype=float)
    seen = (keypoint != 0).any(axis=-1)
    if annotation.keypoint_score is not None:
        seen &= np.asarray(annotation.keypoint_score) >= MIN_DRAWN_SCORE
    # An image's y axis points down; the Kinect's x axis points left as the camera sees it.
    points = keypoint[..., :2] * ((1, -1) if keypoint.shape[-1] == 2 else (-1, 1))
    low, high = (points[seen].min(axis=0), points[seen].max(axis=0)) if seen.any() else (np.zeros(2), np.ones(2))
    margin = 0.05 * (high - low).max() + 1e-6
    return _Scene(points, seen, low - margin, high + margin, get_layout(layout))


def _draw(axes, scene, frame, size):
    from matplotlib.collections import LineCollection

    for person in range(len(scene.points)):
        points, visible = scene.points[person, frame], scene.seen[person, frame]
        bones = [list(bone) for bone in scene.layout.bones if visible[list(bone)].all()]
        axes.add_collection(LineCollection([points[bone] for bone in bones], linewidths=size,
                                           colors=[SIDE_COLOURS[_side(scene.layout, bone)] for bone in bones],
                                           capstyle="round", alpha=0.45 if person else 1))
        axes.plot(*points[visible].T, ".", color="0.2", markersize=1.5 * size)
    axes.set(xlim=(scene.low[0], scene.high[0]), ylim=(scene.low[1], scene.high[1]), xticks=[], yticks=[],
             aspect="equal")
    for spine in axes.spines.values():
        spine.set_color("0.8")


def _title(figure, annotation, class_name):
    text = annotation.name if class_name is None else f"{annotation.name}: {class_name}"
    figure.suptitle(text, fontsize=9, x=0.01, ha="left")


def draw_sequence(annotation, layout, path, frames=8, class_name=None):
    """Draw evenly spaced frames of a sequence side by side, as the camera sees them, into a PNG file.

    The left side of a body is blue, the right orange; a second person is paler. Joints that are zero or whose score is
    below 0.3 are omitted with their bones, as are empty frames at the end.

    Args:
        annotation: an ``Annotation``; 3D coordinates are seen along their z axis.
        layout: the name of its layout, or a ``Layout``.
        path: of the PNG file.
        frames: number of frames to show.
        class_name: shown next to the sample's name; None: nothing.

    Raises:
        UnavailableError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    scene = _scene(annotation, layout)
    chosen = np.linspace(0, scene.frames - 1, min(frames, scene.frames)).round().astype(int)
    width, height = scene.high - scene.low
    panel = float(np.clip(MAX_PANEL_HEIGHT * width / height, 1.2, 5))
    columns = max(1, min(len(chosen), int(MAX_STRIP_WIDTH / panel)))
    # Rows of equal length: two of four frames, not one of six and one of two.
    rows = -(-len(chosen) // columns)
    columns = -(-len(chosen) // rows)
    row_height = min(MAX_PANEL_HEIGHT, panel * height / width) + 0.25
    with saved_figure(path, panel * columns, row_height * rows + 0.3) as figure:
        for axes, frame in zip(figure.subplots(rows, columns, squeeze=False).flat, chosen):
            _draw(axes, scene, frame, 2)
            axes.set_title(f"frame {frame} of {scene.frames}", fontsize=7, pad=3)
        for axes in figure.axes[len(chosen):]:
            axes.set_axis_off()
        _title(figure, annotation, class_name)


def animate_sequence(annotation, layout, path, fps=15, class_name=None):
    """Draw a sequence as an animated GIF of at most 120 evenly spaced frames; see ``draw_sequence``.

    Args:
        fps: frames per second of the animation, if all frames are shown.
    """
    scene = _scene(annotation, layout)
    step = -(-scene.frames // MAX_ANIMATION_FRAMES)
    width, height = scene.high - scene.low
    figure = new_figure(float(np.clip(4 * width / height, 2.5, 7)), float(np.clip(4 * height / width, 2.5, 4)) + 0.4)

    from PIL import Image  # matplotlib depends on it

    axes, images = figure.add_subplot(), []
    _title(figure, annotation, class_name)
    for frame in range(0, scene.frames, step):
        for artist in [*axes.collections, *axes.lines]:
            artist.remove()
        _draw(axes, scene, frame, 2.5)
        axes.set_title(f"frame {frame} of {scene.frames}", fontsize=8)
        figure.canvas.draw()
        figure.set_layout_engine("none")  # the first frame's layout is kept
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
        images.append(Image.fromarray(pixels).quantize(64, method=Image.Quantize.FASTOCTREE))
    with replacing(path) as temporary:
        images[0].save(temporary, format="GIF", save_all=True, append_images=images[1:], loop=0,
                       duration=round(1000 * step / fps))


def _side(layout, bone):
    for side, joints in (("left", layout.left), ("right", layout.right)):
        if any(joint in joints for joint in bone):
            return side
    return "middle"
