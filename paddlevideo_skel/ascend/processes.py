"""Programs that work for minutes: their output in a file, their end ours to choose."""
import contextlib
import os
import shlex
import signal
import subprocess
import threading

from ..errors import ExportError, OutputError

GRACE = 10  # seconds between asking a process to end and ending it


@contextlib.contextmanager
def terminable():
    """Within it SIGTERM is like Ctrl-C, so that what was started ends too, and nothing half-done stays."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_logged(words, folder, log, time_limit):
    """Run a command in a folder; everything it prints goes to a file, after the command itself.

    Returns:
        its exit status, or None if it took too long. Whatever it started ends with it, also at Ctrl-C.
    """
    try:
        log.write_text(shlex.join(words) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(log, f"cannot be written ({error.strerror})") from error
    with open(log, "a", encoding="utf-8") as file:
        try:
            # A session of its own: atc is a script that starts compilers, all of which have to end with it.
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
    """End a process that is still there, with all that it started."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):  # nothing is left of the group
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
