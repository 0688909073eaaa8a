"""``paddlevideo-skel preprocess-bin`` and ``tools/preprocess_bin.py``: a data set as .bin files. Imports no paddle."""
from ..config import load_config
from ..config_schema import SPLITS
from ..errors import ConfigError
from ..workers import available_cores
from .parser import add_config

MAX_WORKERS = 4  # default: a worker for heatmaps takes a gigabyte


def add_arguments(parser):
    add_config(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder for the .bin files; an "
                        "interrupted run in it is resumed")
    parser.add_argument("--split", choices=SPLITS, default="test",
                        help="samples of DATASET.<split>, default test; always preprocessed by PIPELINE.test")
    parser.add_argument("--model", metavar="EXPORT", help="an export whose recorded pre-processing is used instead")
    parser.add_argument("--num_workers", type=int, default=min(available_cores(), MAX_WORKERS), metavar="N",
                        help="worker processes, 0 for none; default %(default)s")
    parser.add_argument("--shard", metavar="I/N", help="process only every N-th sample, starting with the I-th")


def run(args):
    from ..inference.bin_writer import write_bins
    from ..inference.bins import parse_shard

    if args.num_workers < 0:
        raise ConfigError("--num_workers", f"found {args.num_workers}, expected an integer >= 0")
    write_bins(load_config(args.config, args.override), args.output, args.split, args.model, args.num_workers,
               parse_shard(args.shard))
