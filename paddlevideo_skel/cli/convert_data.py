"""``paddlevideo-skel convert-data`` and ``tools/data/convert.py``: annotation pickles ↔ ``.npy`` with label files."""
from pathlib import Path

from ..errors import ConfigError


def add_arguments(parser):
    parser.add_argument("input", nargs="+", metavar="FILE", help="one annotation pickle, or .npy files; each .npy "
                        "becomes a split: train_data.npy becomes 'train'")
    parser.add_argument("-o", "--output", required=True, metavar="PATH", help="the .pkl to write; or a folder for the "
                        "_data.npy and _label.pkl of each split")
    parser.add_argument("--labels", nargs="+", metavar="FILE", help="labels of the .npy files; default: _label.pkl or "
                        "_label.npy next to each")
    parser.add_argument("--split", nargs="+", metavar="NAME", help="only these splits of the pickle")
    parser.add_argument("--frames", type=int, metavar="T", help="frames of the arrays; default: as in the original "
                        "arrays, or the longest sequence")
    parser.add_argument("--persons", type=int, metavar="M",
                        help="persons of the arrays; default: as in the original arrays, or the largest number")
    parser.add_argument("--with_score", action="store_true", help="store keypoint_score as the third coordinate, "
                        "or read the third coordinate as keypoint_score")
    parser.add_argument("--allow_loss", action="store_true", help="convert even if the arrays cannot hold everything")


def run(args):
    from ..importers.convert import arrays_to_pickle, pickle_to_arrays

    kinds = {Path(name).suffix for name in args.input}
    for name, value in (("frames", args.frames), ("persons", args.persons)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name}", f"found {value}, expected 1 or more")
    if kinds == {".npy"} and Path(args.output).suffix == ".pkl":
        if args.split or args.frames or args.persons:
            raise ConfigError("--split, --frames, --persons", "only apply when a pickle is converted to arrays",
                              "Omit them")
        counts = arrays_to_pickle(args.input, args.output, args.labels, args.with_score, progress=True)
        print(f"{args.output}: " + ", ".join(f"{split} {count} samples" for split, count in counts.items()))
    elif kinds == {".pkl"} and len(args.input) == 1 and Path(args.output).suffix == "":
        if args.labels:
            raise ConfigError("--labels", "only applies when arrays are converted to a pickle", "Omit it")
        shapes = pickle_to_arrays(args.input[0], args.output, args.split, args.frames, args.persons, args.with_score,
                                  args.allow_loss, progress=True)
        for split, shape in shapes.items():
            print(f"{Path(args.output) / (f'{split}_' if split else '')}data.npy: {shape}")
    else:
        raise ConfigError(f"{' '.join(args.input)} -o {args.output}",
                          "expected one .pkl and an output folder, or .npy files and an output .pkl")
