"""Flags: one parser for every command, and the flags that several commands share.

A command has two interfaces. As ``paddlevideo-skel NAME``, ``-o`` is where the result goes and ``-p`` is a checkpoint,
in every command. As ``main.py`` or ``tools/*.py`` it has PaddleVideo's short flags: ``main.py``'s and
``tools/predict.py``'s ``-o`` overrides a key of the config, ``main.py``'s ``-p`` sets the profiler. Those always take
``KEY=VALUE``, so ``paddlevideo-skel`` accepts them in that form too.
"""
import argparse
import re
import sys

PAIR = re.compile(r"\s*[\w.-]+\s*=")
PAIRED = ("-o", "-p")  # followed by KEY=VALUE in PaddleVideo's main.py


class Parser(argparse.ArgumentParser):
    """Shows ``--save_name``, as PaddleVideo spells its flags, and takes ``--save-name`` as well.

    Args:
        paddlevideo: whether the command is called as ``main.py`` or ``tools/*.py``.
    """

    def __init__(self, *args, paddlevideo=False, **options):
        self.paddlevideo = paddlevideo
        self.passes_on = False  # set by commands that pass everything after "--" to another program
        super().__init__(*args, **options)

    def parse_known_args(self, args=None, namespace=None):
        args = list(sys.argv[1:] if args is None else args)
        end = args.index("--") if "--" in args else len(args)
        return super().parse_known_args([*map(self._with_underscores, args[:end]), *args[end:]], namespace)

    def _with_underscores(self, word):
        """A flag, or its beginning, as it was added; an unknown one as it was typed, for the error."""
        name, equals, value = word.partition("=")
        flag = "--" + name[2:].replace("-", "_")
        known = word.startswith("--") and any(known.startswith(flag) for known in self._option_string_actions)
        return flag + equals + value if known else word


class PathOrPair(argparse.Action):
    """A path; but ``-o KEY=VALUE`` and ``-p KEY=VALUE``, as PaddleVideo's users write them, go to another action.

    Args:
        pairs: that action.
    """

    def __init__(self, option_strings, dest, pairs, **options):
        self.pairs = pairs
        super().__init__(option_strings, dest, **options)

    def __call__(self, parser, namespace, values, option_string=None):
        if option_string in PAIRED and PAIR.match(values):
            self.pairs(parser, namespace, values, option_string)
        else:
            setattr(namespace, self.dest, values)


def add_config(parser, text="config file", required=True, short=()):
    """``--config`` and ``--override``; returns the action of the latter.

    Args:
        short: ``["-o"]`` where PaddleVideo's script has that for overrides.
    """
    parser.add_argument("-c", "--config", required=required, metavar="FILE", help=text)
    return parser.add_argument(*(short if parser.paddlevideo else ()), "--override", action="append", default=[],
                               metavar="A.B=VALUE", help="override a config key; may be repeated")


def add_path(parser, *flags, pairs, **options):
    """A path whose short flag, ``-o`` or ``-p``, belongs to the action ``pairs`` in PaddleVideo's script."""
    if parser.paddlevideo:
        parser.add_argument(*(flag for flag in flags if flag not in PAIRED), **options)
    else:
        parser.add_argument(*flags, action=PathOrPair, pairs=pairs, **options)


def add_checkpoint(parser, text):
    """The checkpoint that a command needs, as ``args.pretrained_params``."""
    flags = ["-p", "--pretrained_params", "-w", "--weights"]
    parser.add_argument(*(flags if parser.paddlevideo else [*flags[2:], *flags[:2]]), dest="pretrained_params",
                        required=True, metavar="FILE", help=text)


def add_switch(parser, name, text, default=False):
    """``--name``, ``--name True`` or ``--name=False``."""
    parser.add_argument(f"--{name}", type=boolean, nargs="?", const=True, default=default, metavar="BOOL", help=text)


def boolean(text):
    """``True``, ``true``, ``1`` … as PaddleVideo's flags are written."""
    if text.lower() in ("true", "t", "1", "yes"):
        return True
    if text.lower() in ("false", "f", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"found {text!r}, expected True or False")


def whole_number(text):
    """A non-negative integer."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected an integer >= 0")
    return int(text)
