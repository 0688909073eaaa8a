"""Curves for VisualDL, where it is installed."""
import logging

logger = logging.getLogger(__name__)


class Curves:
    """Writes scalars for ``visualdl --logdir <output_dir>/vdl``; does nothing, and says so, without VisualDL."""

    def __init__(self, folder):
        try:
            from visualdl import LogWriter
        except ImportError:
            logger.info("VisualDL is not installed, no curves are written (pip install paddlevideo_skel[plot])")
            self.writer = None
        else:
            self.writer = LogWriter(logdir=str(folder))

    def add(self, phase, step, **values):
        """Add one point to each curve ``<phase>/<name>``."""
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(tag=f"{phase}/{name}", value=float(value), step=step)

    def close(self):
        if self.writer:
            self.writer.close()
