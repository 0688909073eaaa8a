"""Profile training steps: ``--profiler_options "batch_range=[10,20];sorted_key=total"``."""
import ast

from paddle import profiler

from ..errors import ConfigError, near_miss

KEYS = ("batch_range", "sorted_key", "profile_path", "state", "tracer_option", "exit_on_finished", "timer_only")
SORTED = {"total": profiler.SortedKeys.CPUTotal, "ave": profiler.SortedKeys.CPUAvg,
          "max": profiler.SortedKeys.CPUMax, "min": profiler.SortedKeys.CPUMin}


class StepProfiler:
    """Profiles the training steps of ``batch_range`` and prints paddle's table of operators, the most expensive first.

    The operators inside a custom gradient of this package (``GradNodePyLayer_…``) are listed on their own, too.

    Args:
        options: PaddleVideo's text ``key=value;key=value``. The keys ``batch_range``, ``sorted_key`` (total, ave, max,
            min) and ``profile_path``, a folder for the trace (chrome://tracing), have an effect; PaddleVideo's other
            keys are accepted.

    Raises:
        ConfigError: an unknown key, or a value that cannot be read.
    """

    def __init__(self, options):
        given = dict(item.partition("=")[::2] for item in options.split(";") if item.strip())
        for key in given:
            if key not in KEYS:
                raise ConfigError(f"--profiler_options {options}", f"unknown key {key!r}", near_miss(key, KEYS))
        try:
            self.first, self.last = ast.literal_eval(given.get("batch_range", "[10,20]"))
            self.sorted_by = SORTED[given.get("sorted_key", "total")]
            if not 0 <= self.first < self.last:
                raise ValueError
        except (ValueError, SyntaxError, TypeError, KeyError):
            raise ConfigError(f"--profiler_options {options}", "is invalid, expected for example "
                              "batch_range=[10,20];sorted_key=total") from None
        self.trace = given.get("profile_path")
        self.profiler, self.batch = None, 0

    def step(self):
        """Call once before each training step."""
        if self.batch == self.first:
            # By default paddle writes megabytes of trace into the working directory.
            keep = profiler.export_chrome_tracing(self.trace) if self.trace else (lambda _: None)
            self.profiler = profiler.Profiler(targets=[profiler.ProfilerTarget.CPU], on_trace_ready=keep)
            self.profiler.start()
        elif self.profiler and self.batch < self.last:
            self.profiler.step()
        elif self.profiler:
            self.close()
        self.batch += 1

    def close(self):
        """Stop and print, if something was recorded."""
        if self.profiler:
            self.profiler.stop()
            self.profiler.summary(sorted_by=self.sorted_by, op_detail=False, views=profiler.SummaryView.OperatorView)
            self.profiler = None
