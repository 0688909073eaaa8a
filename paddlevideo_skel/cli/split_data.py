"""``paddlevideo-skel split-data`` and ``tools/data/split.py``: split a data set into training and validation."""
from pathlib import Path

from ..errors import ConfigError


def add_arguments(parser):
    parser.add_argument("input", metavar="FILE", help="annotation pickle, or .npy with its label file")
    parser.add_argument("-o", "--output", required=True, metavar="PATH", help="pickle to write (may be the input); or, "
                        "for .npy, a folder for the _data.npy and _label.pkl of each part")
    parser.add_argument("--parts", nargs="+", default=["train=0.8", "val=0.2"], metavar="NAME=SHARE",
                        help="default train=0.8 val=0.2")
    parser.add_argument("--by", choices=("class", "subject", "random"), default="class", help="class (default): the "
                        "shares hold within every class; subject: no subject is in two parts; random: of all samples")
    parser.add_argument("--subject", metavar="REGEX|FILE", help="with --by subject: a regular expression whose "
                        "first group is the subject in a sample's name, or a list with lines name,subject")
    parser.add_argument("--first_subjects", nargs="+", metavar="S", help="subjects of the first part, instead of a "
                        "random choice; all others go to the second")
    parser.add_argument("--labels", metavar="FILE", help="labels of the .npy; default: _label.pkl or _label.npy "
                        "next to it")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0; the same seed gives the same "
                        "split")
    parser.add_argument("--replace", action="store_true", help="replace existing splits or files with the same names")


def run(args):
    from ..importers.split import read_shares, split_array, split_pickle

    if args.seed < 0:
        raise ConfigError("--seed", f"found {args.seed}, expected 0 or more")
    shares = read_shares(args.parts)
    choice = {"by": args.by, "seed": args.seed, "subject": args.subject, "first": args.first_subjects,
              "replace": args.replace}
    if Path(args.input).suffix == ".npy":
        lines = split_array(args.input, args.output, shares, args.labels, progress=True, **choice)
    elif args.labels:
        raise ConfigError("--labels", "is only for .npy files: a pickle includes its labels", "Omit it")
    else:
        lines = split_pickle(args.input, args.output, shares, **choice)
    for line in lines:
        print(line)
    print(f"written: {args.output}")
