"""The process in which hostile files are read: it is watched, and ends when a case goes beyond its limits.

    python tests/fuzz/fuzz_child.py TABLE READER FOLDER        read one case that a test has kept

Without READER it takes cases from its standard input, a line of JSON each, and answers with a line of JSON each.
``TABLE`` is a module with a dict ``READERS``.
"""
import ast
import codecs
import importlib
import json
import logging
import os
import resource
import signal
import sys
import traceback
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[1:1] = map(str, (HERE.parent, HERE.parents[1], HERE.parents[1] / "test_tipc"))

from fuzz_values import digest  # noqa: E402

SECONDS = 2.0  # of processor time for a case; the kernel ends the process then, whatever it is doing
MEMORY = 1 << 30  # bytes of addresses beyond what the process has when all is imported
# Nothing that reads a file raises one of these events. A name that ends with a dot stands for all that begin with it.
FORBIDDEN = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.kill",
             "os.putenv", "os.unsetenv", "os.startfile", "pty.", "socket.", "ctypes.", "pickle.find_class", "marshal.",
             "code.__new__", "function.__new__", "exec", "import", "builtins.input", "sys.settrace", "sys.setprofile",
             "cpython.", "urllib.", "http.", "ftplib.", "smtplib.", "poplib.", "imaplib.", "telnetlib.",
             "webbrowser.", "setopencodehook", "os.add_dll_directory")
CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown",
            "os.truncate", "os.utime", "os.mkfifo", "shutil.", "tempfile.")
# Codecs that Python imports when a text is first decoded with them: of JSON, of pickles, of the names in an archive.
CODECS = ("cp437", "latin-1", "raw_unicode_escape", "unicode_escape", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be",
          "utf-32", "utf-32-le", "utf-32-be")


class Watch:
    """An audit hook that notes whatever no reader may do while it is on."""

    def __init__(self):
        self.folder, self.notes = None, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.folder is None:
            return
        folder, self.folder = self.folder, None  # what is done here itself does not count
        try:
            if self.is_forbidden(event, arguments, folder):
                self.notes.append(f"{event} {str(arguments)[:200]}")
        finally:
            self.folder = folder

    def is_forbidden(self, event, arguments, folder):
        if _among(event, FORBIDDEN):
            return True
        if event == "open":
            return not _inside(arguments[0], folder)
        return _among(event, CHANGING) and not all(
            _inside(path, folder) for path in arguments if isinstance(path, (str, bytes, os.PathLike)))


def _among(event, names):
    return any(event.startswith(name) if name.endswith(".") else event == name for name in names)


def _inside(path, folder):
    if isinstance(path, int):
        return True  # a file that is open already
    path = os.path.realpath(os.fsdecode(path))
    return path == folder or path.startswith(folder + os.sep)


class Formatting(logging.Handler):
    """Log lines are made, as a user would see them, and go nowhere."""

    def emit(self, record):
        self.format(record)

    def handleError(self, record):
        raise RuntimeError(f"the log line {record.msg!r} cannot be made")


def limit_memory():
    """No more than ``MEMORY`` beyond what the process has now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def read(watch, reader, folder, with_digest=False, watched=True):
    """Read one case.

    Args:
        watched: without it the first case of a reader may import what it needs.

    Returns:
        dict: ``outcome``: ``value``, ``refused`` (by the documented error) or ``broken``; ``text``: why; ``notes``:
        what the watch saw; ``digest``: of the value, if asked for.
    """
    watch.notes, watch.folder = [], os.path.realpath(folder) if watched else None
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    found, error, value = "value", None, None
    try:
        value = reader.read(Path(folder))
    except reader.errors as caught:
        found, error = "refused", caught
    except BaseException as caught:
        found, error = "broken", caught
    finally:
        watch.folder = None
    answer = {"outcome": found, "notes": watch.notes, "text": ""}
    try:
        if error is None:
            reader.check(value)
            answer["digest"] = digest(value) if with_digest else ""
        else:
            answer["text"] = _told(error, found)
            if any(isinstance(cause, MemoryError) and not _of_the_parser(cause) for cause in _causes(error)):
                answer.update(outcome="broken", text=f"needed more than {MEMORY >> 20} MiB: {answer['text']}")
    except BaseException as caught:
        answer.update(outcome="broken", text=f"{found}, but: {_told(caught, 'broken')}")
    signal.setitimer(signal.ITIMER_PROF, 0)
    if watch.notes:
        answer["outcome"] = "broken"
    return answer


def _told(error, found):
    if found == "refused":
        return f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()[:2000]
    return "".join(traceback.format_exception(error, limit=-8))[-3000:].encode("utf-8", "backslashreplace").decode()


def _of_the_parser(error):
    """Whether Python's parser says so of an expression that is nested too deeply: it has asked for no memory."""
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    return place.tb_frame.f_code.co_filename == ast.__file__


def _causes(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def main(table, name=None, folder=None):
    readers = importlib.import_module(table).READERS
    warnings.simplefilter("ignore")  # to show one, Python opens the source's file
    logging.basicConfig(level=logging.INFO, handlers=[Formatting()])
    for codec in CODECS:
        codecs.lookup(codec)
    watch = Watch()
    limit_memory()
    if name is not None:
        read(watch, readers[name], folder, watched=False)  # which may import what it needs
        print(json.dumps(read(watch, readers[name], folder), indent=1))
        return
    # Readers may print; answers must not get among that.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        answer = read(watch, readers[case["reader"]], case["folder"], case["digest"], case["watched"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
