"""Run long programs: their output goes to a file, and they end with this process."""
import contextlib
import os
import shlex
import signal
import subprocess
import threading

from ..errors import ExportError, OutputError

GRACE = 10  # seconds between SIGTERM and SIGKILL


@contextlib.contextmanager
def terminable():
    """Within the block SIGTERM acts like Ctrl-C, so that child processes end and temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_logged(words, folder, log, time_limit):
    """Run a command in a folder; the log gets the command itself and everything it prints.

    Returns:
        its exit status, or None if it took too long. Its child processes end with it, also after Ctrl-C.
    """
    try:
        log.write_text(shlex.join(words) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(log, f"cannot be written ({error.strerror})") from error
    with open(log, "a", encoding="utf-8") as file:
        try:
            # In its own session, because atc is a script and its compilers must end with it.
            process = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=file,
                                       stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            raise ExportError(words[0], f"cannot be started ({error.strerror})") from error
        try:
            return process.wait(time_limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process):
    """End a process and everything that it started, if it is still running."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):  # the group has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
