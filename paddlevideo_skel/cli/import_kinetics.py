"""``paddlevideo-skel import-kinetics`` and ``tools/data/kinetics.py``: Kinetics-skeleton as data sets.

Imports no paddle.
"""
from .import_ntu import add_reading

PARTS = {"train": ("train",), "val": ("val",), "both": ("train", "val")}


def add_arguments(parser):
    parser.add_argument("folder", metavar="FOLDER", help="folder of the unpacked kinetics-skeleton: "
                        "kinetics_train/ with kinetics_train_label.json, and the same for val")
    parser.add_argument("-o", "--output", default="data/Kinetics/kinetics-skeleton", metavar="FOLDER",
                        help="default %(default)s, where the config expects it")
    parser.add_argument("--part", choices=PARTS, default="both", help="train, val or both (default)")
    add_reading(parser)


def run(args):
    from ..importers.kinetics import import_kinetics

    import_kinetics(args.folder, args.output, PARTS[args.part], args.workers, args.strict)
