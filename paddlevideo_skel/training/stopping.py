"""SIGTERM and Ctrl-C while training: what is under way is ended in good order."""
import os
import signal
import threading
import time

from ..errors import StoppedError

REPEATED = 2.0  # seconds: launchers and terminals send a signal several times at once, and mean one


class StopSignals:
    """A context in which SIGTERM and SIGINT are noted; the training loop looks at ``number`` between its steps.

    The same signal again, more than ``REPEATED`` seconds later, ends the process at once. Before ``holding`` is set
    there is nothing to bring to an end: the first signal raises ``StoppedError`` where the program is.

    Attributes:
        number: of the signal that came, or None.
        holding: set by the training loop once it looks at ``number``.
    """

    def __init__(self):
        self.number, self.holding = None, False
        self._since, self._before = 0.0, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            self._before = {number: signal.signal(number, self._take) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            # None: a handler of C++, here paddle's for SIGTERM, which cannot be put back and only adds a stack trace.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _take(self, number, frame):
        now = time.monotonic()
        name = signal.Signals(number).name
        if not self.holding:
            raise StoppedError("training", f"was stopped by {name} before its first step", number=number)
        if self.number is None:
            self.number, self._since = number, now
            # Not by print or the log: the signal may have come in the middle of one of theirs.
            os.write(2, f"\n{name}: training stops after this step; the same signal again ends it at once\n".encode())
        elif now - self._since > REPEATED:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
