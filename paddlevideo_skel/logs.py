"""The log: lines in PaddleVideo's format, ``[09/07 23:45:20] text``, on the screen and in a file."""
import contextlib
import logging
import sys
from pathlib import Path

from .errors import ConfigError, OutputError

ROOT = "paddlevideo_skel"
FULL = "Free some disk space"


class ScreenHandler(logging.Handler):
    """Writes to standard output, above a progress bar if there is one."""

    def emit(self, record):
        write_line(self.format(record))


def write_line(text):
    """Print a line to standard output, above a progress bar if there is one."""
    # A bar implies that tqdm is imported. Importing it here would add up to 100 ms to every start of `predict`.
    bars = sys.modules.get("tqdm")
    if bars is None:
        print(text)
    else:
        bars.tqdm.write(text, file=sys.stdout)


class FileHandler(logging.FileHandler):
    """Writes to a file; a line that cannot be written is an error, as for any other output."""

    def handleError(self, record):
        error = sys.exc_info()[1]
        # Remove the handler first, so that later log calls do not fail here again.
        logging.getLogger(ROOT).removeHandler(self)
        with contextlib.suppress(OSError):
            self.close()
        raise OutputError(self.baseFilename, f"the log cannot be written ({error})", FULL) from error


def setup_logging(level="INFO", file=None):
    """Send the package's log to standard output, and to ``file`` too where one is given."""
    number = logging.getLevelName(str(level).upper())
    if not isinstance(number, int):
        raise ConfigError("log_level", f"found {level!r}, expected DEBUG, INFO, WARNING or ERROR")
    logger = logging.getLogger(ROOT)
    logger.setLevel(number)
    logger.propagate = False
    close_logging()
    handlers = [ScreenHandler()]
    if file is not None:
        try:
            handlers.append(FileHandler(Path(file), encoding="utf-8"))
        except OSError as error:
            raise OutputError(file, f"the log cannot be written ({error.strerror})") from error
    for handler in handlers:
        handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%m/%d %H:%M:%S"))
        logger.addHandler(handler)
    return logger


def close_logging():
    """Detach and close the handlers that ``setup_logging`` attached."""
    logger = logging.getLogger(ROOT)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk was reported when the line was written
            handler.close()
