"""The log: lines as PaddleVideo's users know them, ``[09/07 23:45:20] text``, on the screen and in a file."""
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from .errors import ConfigError, OutputError

ROOT = "paddlevideo_skel"


class ScreenHandler(logging.Handler):
    """Writes to standard output, above a progress bar if there is one."""

    def emit(self, record):
        tqdm.write(self.format(record), file=sys.stdout)


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
            handlers.append(logging.FileHandler(Path(file), encoding="utf-8"))
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
        handler.close()
