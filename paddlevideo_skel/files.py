"""Write files atomically and check outputs early; read text and JSON with actionable errors."""
import json
import os
import re
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path

from .errors import DataError, OutputError

WRITE_HINT = "Free some disk space, or choose a folder with write permission"


@contextmanager
def replacing(path):
    """A temporary path in the same folder, which replaces ``path`` when the block ends without an error.

    The content is on the disk before the file is replaced, and the replacement before this returns: whenever the
    process or the machine stops, either the old file or the new one exists.

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
        raise OutputError(path, f"cannot be written ({error.strerror or error})", WRITE_HINT) from error
    finally:
        # It does not exist after the replacement, or if the folder could not be created.
        if os.path.exists(temporary):
            os.unlink(temporary)


def remove_temporary_files(path):
    """Remove the temporary files that killed processes left of ``replacing``; large ones would fill the disk."""
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
    """``json.loads``, which raises a ``ValueError`` for every kind of invalid text."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def is_file(path):
    """Whether the file exists; false also for an impossible file name."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def sync_folder(path):
    """Write a folder's list of names to the disk, if the system supports it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def output_folder(path):
    """Create a folder and check that it is writable, before long work starts; returns it as a ``Path``.

    Raises:
        OutputError: the folder cannot be created or is not writable.
    """
    path = Path(path)
    probe = path / f".{uuid.uuid4().hex[:8]}.tmp"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(path, f"the output folder cannot be written ({error.strerror or error})",
                          WRITE_HINT) from error
    return path


@contextmanager
def temporary_folder(output, name):
    """A new folder inside ``output``, from which the caller moves files there; removed at the end of the block.

    ``output`` is created if it is missing, and removed again if it is still empty.

    Raises:
        OutputError: ``output`` cannot be created or is not writable.
    """
    output = Path(output)
    new = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f".{name}.", dir=output)
    except OSError as error:
        raise OutputError(output, f"cannot be written ({error.strerror})", WRITE_HINT) from error
    try:
        with temporary:
            yield Path(temporary.name)
    finally:
        if new and not any(output.iterdir()):
            output.rmdir()
