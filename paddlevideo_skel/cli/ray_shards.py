"""``paddlevideo-skel ray-shards`` and ``tools/ray_shards.py``: the shards of a step on a Ray cluster."""
from ..errors import ConfigError
from . import load_command

PASSES_ON = True  # what follows -- is the command
SHARDED = ("preprocess-bin", "infer-bin")


def add_arguments(parser):
    parser.add_argument("--shards", type=int, required=True, metavar="N", help="how many parts")
    parser.add_argument("--address", metavar="ADDRESS",
                        help="Ray cluster: auto, or host:port; default: one of this host alone, for this run")
    parser.add_argument("--retries", type=int, default=2, metavar="N",
                        help="start a shard again up to N times if it fails or its worker dies, default 2")
    parser.add_argument("--cpus", type=int, default=1, metavar="N", help="cores that a shard takes, default 1")
    parser.add_argument("--npus", type=int, default=0, metavar="N", help="NPUs that a shard takes, default 0")
    parser.epilog = f"After --: {' or '.join(SHARDED)} with its arguments, without --shard."


def run(args):
    from ..inference.bins import BinFolder
    from ..inference.ray_shards import report_together, run_shards

    command = args.passed_on
    if not command or command[0] not in SHARDED:
        raise ConfigError("ray-shards", f"found {' '.join(command[:1]) or 'nothing'} after --, expected "
                          f"{' or '.join(SHARDED)}", "For example: --shards 8 -- preprocess-bin -c CONFIG -o FOLDER")
    _, parser = load_command(command[0])
    step = parser.parse_args(command[1:])  # what is wrong with them is told here, not by every shard
    if step.shard:
        raise ConfigError("--shard", "is given by this command", "Leave it away")
    if command[0] == "infer-bin" and not (step.input and step.output):
        raise ConfigError("--input, --output", "are both needed", "Speed alone is measured without shards")
    seconds = run_shards(command, args.shards, args.address, args.retries, args.cpus, args.npus)
    if command[0] == "preprocess-bin":
        BinFolder(step.output).check()
    else:
        report_together(step.output, args.shards, seconds)
