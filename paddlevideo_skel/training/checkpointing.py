"""When a run's state is saved, and how a run ends before its time."""
import logging
import signal
import time

from ..errors import DataError, StoppedError
from . import distributed, resume

logger = logging.getLogger(__name__)


class Safekeeping:
    """Keeps the state file of a run up to date.

    Args:
        folder: ``RunFolder``.
        identity: from ``resume.identify``.
        parts: model, optimizer, scaler, ``Progress``.
        every: ``(steps, seconds)`` between two states within an epoch, one of them None.
        signals: ``StopSignals``.
    """

    def __init__(self, folder, identity, parts, every, signals):
        self.folder, self.identity, self.parts, self.every, self.signals = folder, identity, parts, every, signals
        self.at = parts[-1]
        self.saved, self.clock = None, time.monotonic()

    def wishes(self):
        """(Save after this step, stop after it), as this process alone sees it; the first one looks at the clock."""
        steps, seconds = self.every
        due = (self.at.step + 1) % steps == 0 if steps else time.monotonic() - self.clock >= seconds
        return due and distributed.is_main(), self.asked

    @property
    def asked(self):
        """Whether a signal came to this process."""
        return self.signals.number is not None

    def restore(self, state):
        """Go on from a state, which may be of another folder: from here on it is in this one."""
        resume.restore(state, *self.parts)
        self.save()
        logger.info("Resumed at epoch %d after step %d", *self.saved)
        for line in resume.differences(state["surroundings"], resume.surroundings()):
            logger.warning("%s: the last bits of numbers may be others than in a run without a break", line)

    def save(self):
        """Replace the state file; all processes call it together."""
        try:
            state = resume.capture(*self.parts, self.identity)
        except DataError as error:
            raise self.lost(error.problem) from error
        if distributed.is_main():
            resume.write_state(state, self.folder.state)
        self.saved, self.clock = (self.at.epoch, self.at.step), time.monotonic()

    def stop_if(self, asked):
        """End the run here, if a signal came to any of the processes.

        Raises:
            StoppedError: with what the run goes on from.
        """
        if asked:
            number, (epoch, step) = self.signals.number or signal.SIGTERM, self.saved
            raise StoppedError("training", f"was stopped by {signal.Signals(number).name}; its state after step {step} "
                               f"of epoch {epoch} is in {self.folder.state}", "The same command with --resume goes on "
                               "from there", number)

    def lost(self, problem):
        """The error of a training that has no good numbers any more: ``problem`` tells which."""
        if self.saved:
            epoch, step = self.saved
            good = (f"{self.folder.state} is good, from after step {step} of epoch {epoch}, but --resume would meet "
                    "the same again: begin again")
        else:
            good = "No checkpoint was saved before. Begin again"
        return DataError("training", f"{problem}, at epoch {self.at.epoch} after {self.at.step} of its steps",
                         f"{good} with a lower learning rate, a longer warm-up or ClipGradByGlobalNorm, and check "
                         "the data")
