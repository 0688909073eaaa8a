"""When the state of a run is saved, and how a run stops early: on a signal, or when it diverges."""
import logging
import os
import re
import signal
import threading
import time

from ..errors import ConfigError, DataError, StoppedError
from ..manifest import differences
from . import distributed, resume

logger = logging.getLogger(__name__)

SECONDS = {"s": 1, "m": 60, "h": 3600}
REPEATED = 2.0  # seconds: launchers and terminals may send one signal several times


def parse_interval(value, where):
    """``(steps, seconds)``, one of them None, from ``200`` steps, ``90s``, ``10m`` or ``1h``."""
    found = re.fullmatch(r"([1-9]\d{0,8})([smh]?)", str(value))
    if not found or isinstance(value, bool):
        raise ConfigError(where, f"found {value!r}, expected a number of steps, or a time such as 90s, 10m or 1h")
    count, unit = int(found[1]), found[2]
    return (None, count * SECONDS[unit]) if unit else (count, None)


class Checkpointer:
    """Keeps the state file of a run up to date.

    Args:
        run_dir: ``RunDir``.
        fingerprint: from ``resume.run_fingerprint``.
        parts: model, optimizer, scaler, ``Progress``: everything that has a state.
        interval: ``(steps, seconds)`` between two saves within an epoch, one of them None.
        signals: ``StopSignals``.
    """

    def __init__(self, run_dir, fingerprint, parts, interval, signals):
        self.run_dir, self.fingerprint, self.parts, self.signals = run_dir, fingerprint, parts, signals
        self.interval, self.progress = interval, parts[-1]
        self.saved, self.saved_at = None, time.monotonic()  # (epoch, step) of the last save, and its time

    @property
    def should_save(self):
        """Whether the state is to be saved after the current step. Only the first process watches the clock."""
        steps, seconds = self.interval
        due = (self.progress.step + 1) % steps == 0 if steps else time.monotonic() - self.saved_at >= seconds
        return due and distributed.is_main()

    @property
    def should_stop(self):
        """Whether this process received a signal to stop."""
        return self.signals.number is not None

    def restore(self, state):
        """Continue from a state, possibly from another folder; it is saved in this one."""
        resume.restore(state, *self.parts)
        self.save()
        logger.info("Resumed at epoch %d after step %d", *self.saved)
        for line in differences(resume.recorded_environment(state), resume.environment()):
            logger.warning("%s: results may differ in the last bits from those of an uninterrupted run", line)

    def save(self):
        """Replace the state file; all processes call it together.

        Raises:
            DataError: a weight is NaN or infinite.
        """
        try:
            state = resume.capture(*self.parts, self.fingerprint)
        except DataError as error:
            raise self.diverged(error.problem) from error
        if distributed.is_main():
            resume.write_state(state, self.run_dir.state)
        self.saved, self.saved_at = (self.progress.epoch, self.progress.step), time.monotonic()

    def stop_if(self, stop):
        """Stop the run here if a process received a signal.

        Raises:
            StoppedError: with the position from which the run resumes.
        """
        if stop:
            number, (epoch, step) = self.signals.number or signal.SIGTERM, self.saved
            raise StoppedError("training", f"was stopped by {signal.Signals(number).name}; its state after step {step} "
                               f"of epoch {epoch} is in {self.run_dir.state}", "Run the same command with "
                               "--resume to continue", number)

    def diverged(self, problem):
        """The error for a run with NaN or infinity; ``problem`` says where."""
        if self.saved:
            epoch, step = self.saved
            good = (f"{self.run_dir.state} is intact (saved after step {step} of epoch {epoch}), but --resume would "
                    "run into the same problem. Start over")
        else:
            good = "No checkpoint was saved before. Start over"
        return DataError("training", f"{problem}, at epoch {self.progress.epoch} after {self.progress.step} of its "
                         "steps", f"{good} with a lower learning rate, a longer warm-up or ClipGradByGlobalNorm, and "
                         "check the data")


class StopSignals:
    """A context that records SIGTERM and SIGINT; the training loop checks ``number`` between its steps.

    The same signal again, more than ``REPEATED`` seconds later, ends the process immediately. Until ``deferring`` is
    set there is nothing to finish: the first signal raises ``StoppedError`` immediately.

    Attributes:
        number: of the signal received, or None.
        deferring: set by the training loop once it checks ``number``.
    """

    def __init__(self):
        self.number, self.deferring = None, False
        self._since, self._before = 0.0, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            self._before = {number: signal.signal(number, self._record) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            # None: a handler of C++, here paddle's for SIGTERM, which cannot be restored and only adds a stack trace.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _record(self, number, frame):
        now = time.monotonic()
        name = signal.Signals(number).name
        if not self.deferring:
            raise StoppedError("training", f"was stopped by {name} before the first step", number=number)
        if self.number is None:
            self.number, self._since = number, now
            # Neither print nor the log is safe here: the signal may interrupt one of their own calls.
            os.write(2, f"\n{name}: training stops after this step; send the signal again to end it "
                     "immediately\n".encode())
        elif now - self._since > REPEATED:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
