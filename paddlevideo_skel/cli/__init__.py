"""The command line: arguments in, one call into the package, exit status out.

Each command is a module of this package with ``HELP``, ``add_arguments(parser)`` and ``run(args)``; ``run`` returns
None, or an exit status. Modules are imported only when their command is called, so that prediction with ONNX
Runtime never imports paddle.
"""
import argparse
import contextlib
import importlib
import io
import os
import sys
import warnings

from ..errors import OutputError, SkelError
from ..logs import setup_logging

COMMANDS = {
    "train": "train a model from a config",
    "test": "test a checkpoint",
    "ensemble": "fuse the results of several tests",
    "export": "export a checkpoint for inference, ordinary or minimal",
    "convert": "convert an export to ONNX",
    "convert-weights": "convert a checkpoint of another project, with a config to match",
    "predict": "classify skeleton sequences with an export",
    "samples": "generate the sample data set",
    "demo": "train, test, export and predict on generated samples, and print one table",
}


def command_line():
    """Console command ``paddlevideo-skel``."""
    sys.exit(main())


def main(argv=None):
    """``paddlevideo-skel <command> …``; returns the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in ("-h", "--help") or argv[0] not in COMMANDS:
        parser = argparse.ArgumentParser("paddlevideo-skel", description="Skeleton-based action recognition.")
        commands = parser.add_subparsers(metavar="command", required=True)
        for name, text in COMMANDS.items():
            commands.add_parser(name, help=text)
        parser.parse_args(argv)
    return run_command(argv[0], argv[1:])


def run_command(name, argv=None, prog=None):
    """Run one command; ``tools/*.py`` call this. Returns the exit status: 0, or 2 with one line of error."""
    use_all_cores()
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog or f"paddlevideo-skel {name}", description=COMMANDS[name])
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    module.add_arguments(parser)
    args = parser.parse_args(argv)
    setup_logging()
    try:
        return module.run(args) or 0
    except SkelError as error:
        if args.debug:
            raise
        return _fail(error)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone; keep Python from complaining again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if args.debug:
            raise
        return _fail(OutputError(error.filename or name, error.strerror or str(error)))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _fail(error):
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def load_paddle():
    """Import paddle without its advice on variables that this package sets and tools that it does not need."""
    # Warnings of its C++ side, such as one at every export that Paddle's own mean cannot take an output tensor.
    os.environ.setdefault("GLOG_minloglevel", "2")
    heard = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(heard):
        warnings.filterwarnings("ignore", message="No ccache found")
        importlib.import_module("paddle")
    warnings.filterwarnings("ignore", message="When training, we now always track")
    for line in heard.getvalue().splitlines():
        if "OMP_NUM_THREADS" not in line:
            print(line, file=sys.stderr)


def use_all_cores():
    """Let paddle's CPU kernels use every core, unless the user said otherwise.

    Paddle sets ``OMP_NUM_THREADS=1`` when nothing is set; training then uses one core.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault("OMP_NUM_THREADS", str(cores or 1))
