"""Writing files: whole or not at all, and found out early when it cannot be done; and what reading them shares."""
import json
import os
import re
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path

from .errors import DataError, OutputError

HINT = "See that there is room on the disk, or choose a folder that you may write to"


@contextmanager
def replacing(path):
    """A temporary path beside ``path``, moved onto it when the block ends well: no half-written files.

    What was written is on the disk before the move, and the move itself before this returns: neither an end of the
    process at any moment nor of the machine leaves anything but the old file or the new one.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(path, f"cannot be written ({error.strerror or error})", HINT) from error
    finally:
        # Gone after the move; and where the folder itself is missing there is nothing to remove.
        if os.path.exists(temporary):
            os.unlink(temporary)


def remove_unfinished(path):
    """Remove what a process that was killed while it wrote ``path`` left beside it: of a large file, a full disk."""
    path = Path(path)
    left = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    if path.parent.is_dir():
        for beside in path.parent.iterdir():
            if left.fullmatch(beside.name):
                beside.unlink(missing_ok=True)


def read_text(path):
    """The content of a UTF-8 text file.

    Raises:
        DataError: missing, unreadable, or not UTF-8 text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(path, "file not found", f"Check the path; the working directory is {Path.cwd()}") from error
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(path, f"is not UTF-8 text (byte {error.start})", "Save it as UTF-8") from error
    if "\0" in text:
        # NumPy would parse only the number before it.
        raise DataError(path, f"is not text: byte {text.index(chr(0))} is 0", "Save it as UTF-8")
    return text


def parse_json(text):
    """``json.loads``, whose every failure is a ``ValueError``."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def is_file(path):
    """Whether there is such a file; false, too, for a name that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def sync_folder(path):
    """Bring a folder's list of names onto the disk, where the system can do that for folders."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def output_folder(path):
    """Make a folder and see that files can be made in it, before anything long; returns it as a ``Path``.

    Raises:
        OutputError: it cannot be made or written.
    """
    path = Path(path)
    probe = path / f".{uuid.uuid4().hex[:8]}.tmp"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(path, f"the output folder cannot be written ({error.strerror or error})", HINT) from error
    return path


@contextmanager
def temporary_folder(output, name):
    """A new folder inside ``output``, from which files are moved there when all of them are right; removed at the end.

    ``output`` is made where it is missing, and removed again if nothing came into it.

    Raises:
        OutputError: ``output`` cannot be made or written.
    """
    output = Path(output)
    new = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f".{name}.", dir=output)
    except OSError as error:
        raise OutputError(output, f"cannot be written ({error.strerror})", HINT) from error
    try:
        with temporary:
            yield Path(temporary.name)
    finally:
        if new and not any(output.iterdir()):
            output.rmdir()
