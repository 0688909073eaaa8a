"""Params files: lines of ``key:value``, known by their number; blank lines do not count."""
import re
import shlex
from pathlib import Path

from paddlevideo_skel.errors import ConfigError, near_miss

NULL = ("", "null")


class Params:
    """A params file.

    Args:
        path: the file.
        headers: line number → the name that this line must have between ``=``. A file of another kind, or one that
            lacks a line, fails this check.

    Attributes:
        model: ``model_name``, line 2. python: line 3.

    Raises:
        ConfigError: the file is missing or is not a params file of this kind.
    """

    def __init__(self, path, headers):
        self.path = Path(path)
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            near = self.path.parent.glob("*.txt") if self.path.parent.is_dir() else ()
            raise ConfigError(path, f"cannot be read ({getattr(error, 'strerror', error)})",
                              near_miss(self.path.name, [p.name for p in near]) if near else "") from error
        self.lines = [line.strip() for line in text.splitlines() if line.strip()]
        for number, name in headers.items():
            if name not in self._line(number):
                raise ConfigError(self.where(number), f"found {self._line(number)!r}, expected ==={name}===",
                                  "Every kind of params file has a fixed order of lines")
        self.model, self.python = self.value(2), self.value(3)
        if not re.fullmatch(r"[\w.+-]+", self.model):
            raise ConfigError(self.where(2), f"found {self.model!r}, expected a model's name")

    def where(self, number):
        """``file:number`` for messages."""
        return f"{self.path}:{number}"

    def _line(self, number):
        if number > len(self.lines):
            raise ConfigError(self.path, f"found {len(self.lines)} lines, line {number} is missing")
        return self.lines[number - 1]

    def pair(self, number):
        """``(key, value)`` of a line, split at the first colon."""
        key, colon, value = self._line(number).partition(":")
        if not colon:
            raise ConfigError(self.where(number), f"found {key!r}, expected key:value")
        return key.strip(), value.strip()

    def key(self, number):
        return self.pair(number)[0]

    def value(self, number):
        return self.pair(number)[1]

    def options(self, number):
        """The values to sweep, separated by ``|``."""
        return [option.strip() for option in self.value(number).split("|")]

    def arguments(self, number, value=None):
        """A line as arguments, ``key=value``; ``[]`` where either is null.

        Args:
            value: instead of the line's own; it may have spaces.
        """
        key, own = self.pair(number)
        if key in NULL or (own if value is None else value) in NULL:
            return []
        if value is None:
            return self.split(number, f"{key}={own}")
        *words, last = self.split(number, f"{key}=")
        return [*words, last + value]

    def command(self, number):
        """A line's command as a list of words, with quotes as in a shell; None for null."""
        return None if self.value(number) in NULL else self.split(number, self.value(number))

    def split(self, number, text):
        """``text`` of a line, split into words."""
        try:
            return shlex.split(text)
        except ValueError as error:
            raise ConfigError(self.where(number), f"{text!r} cannot be read as a command ({error})") from error

    def section(self, name):
        """The number of a section's header, e.g. ``train_benchmark_params``, or None."""
        return next((i for i, line in enumerate(self.lines, 1) if line.startswith("=") and name in line), None)

