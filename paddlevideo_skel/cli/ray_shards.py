"""``paddlevideo-skel ray-shards`` and ``tools/ray_shards.py``: shards on a Ray cluster."""
from ..errors import ConfigError
from . import load_command

SHARDED = ("preprocess-bin", "infer-bin")


def add_arguments(parser):
    parser.passes_on = True
    parser.epilog = f"After --: {' or '.join(SHARDED)} and its arguments, without --shard."
    parser.add_argument("--shards", type=int, required=True, metavar="N", help="number of shards")
    parser.add_argument("--address", metavar="ADDRESS",
                        help="Ray cluster: auto or host:port; default: a temporary one on this host")
    parser.add_argument("--retries", type=int, default=2, metavar="N",
                        help="restart a shard up to N times if it fails or its worker dies, default 2")
    parser.add_argument("--cpus", type=int, default=1, metavar="N", help="cores per shard, default 1")
    parser.add_argument("--npus", type=int, default=0, metavar="N", help="NPUs per shard, default 0")


def run(args):
    from ..inference.bins import BinFolder
    from ..inference.ray_shards import run_shards, write_common_report

    command = args.passed_on
    if not command or command[0] not in SHARDED:
        raise ConfigError("ray-shards", f"found {' '.join(command[:1]) or 'nothing'} after --, expected "
                          f"{' or '.join(SHARDED)}", "For example: --shards 8 -- preprocess-bin -c CONFIG -o FOLDER")
    _, parser = load_command(command[0])
    step = parser.parse_args(command[1:])  # so that errors in them appear here, not in every shard
    if step.shard:
        raise ConfigError("--shard", "is set by ray-shards", "Omit it")
    if command[0] == "infer-bin" and not (step.input and step.output):
        raise ConfigError("--input, --output", "are both required", "Measure speed without shards")
    seconds = run_shards(command, args.shards, args.address, args.retries, args.cpus, args.npus)
    if command[0] == "preprocess-bin":
        BinFolder(step.output).check()
    else:
        write_common_report(step.output, args.shards, seconds)
