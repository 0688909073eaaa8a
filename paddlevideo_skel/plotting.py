"""Pictures as PNG files, by matplotlib where it is installed."""
from contextlib import contextmanager

from .errors import UnavailableError
from .files import replacing


def new_figure(width, height):
    """A matplotlib ``Figure`` of a size in inches, apart from any window.

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
def picture(path, width, height):
    """A matplotlib ``Figure`` of a size in inches; written when the block ends, whole or not at all.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    figure = new_figure(width, height)
    yield figure
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
