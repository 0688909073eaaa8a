"""Errors that a user can act on.

Every message says where the problem is, what was found and expected, and what to do. The
command line prints it in one line and exits with status 2; ``--debug`` shows the traceback.
"""
import difflib


class SkelError(Exception):
    """Base of all errors caused by input, not by bugs in this package.

    Args:
        where: file, sample or key path, e.g. ``configs/a.yaml: MODEL.backbone.name``.
        problem: what was found and what was expected.
        hint: what to do next; may be empty.

    ``status`` is the command line's exit status.
    """

    status = 2

    def __init__(self, where, problem, hint=""):
        self.where, self.problem, self.hint = str(where), problem, hint
        super().__init__(self.where, problem, hint)

    def __str__(self):
        text = f"{self.where}: {self.problem}"
        return f"{text}. {self.hint}" if self.hint else text


class ConfigError(SkelError):
    """A config file, an override or a command-line value is wrong."""


class DataError(SkelError):
    """A data file, or a sample in it, is missing, damaged or of the wrong kind."""


class CheckpointError(SkelError):
    """A checkpoint is missing, damaged or does not fit the model."""


class ExportError(SkelError):
    """An export or a conversion failed or gives wrong results."""


class SelfCheckError(SkelError):
    """A runtime failed an export's self-check."""


class OutputError(SkelError):
    """A result cannot be written."""


class StoppedError(SkelError):
    """A signal stopped the work, and its state is saved. The exit status is 128 + ``number``, the signal's."""

    def __init__(self, where, problem, hint="", number=15):
        super().__init__(where, problem, hint)
        self.status = 128 + number


class UnavailableError(SkelError):
    """An optional package or a requested device is not available."""


class ToolMissingError(UnavailableError):
    """A required program is not on this host; everything that does not need it was done."""

    status = 3


def shorten_list(items, limit=5, separator=", "):
    """The first ``limit`` items as text, and the number of the others: ``a, b, c and 7 more``."""
    items = [str(item) for item in items]
    text, others = separator.join(items[:limit]), len(items) - limit
    if others <= 0:
        return text
    return f"{text}{'' if separator == ', ' else separator.rstrip()} and {others} more"


def near_miss(word, known):
    """``"did you mean 'x'? "`` for the closest of ``known``, and the list of all when it is short."""
    known = sorted(str(k) for k in known)
    # Names also come from files, and comparing a long name with thousands would take very long.
    close = difflib.get_close_matches(str(word)[:100], known[:1000], n=2, cutoff=0.6)
    text = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    return text + (f"Known: {', '.join(known)}" if len(known) <= 40 else f"{len(known)} are known")
