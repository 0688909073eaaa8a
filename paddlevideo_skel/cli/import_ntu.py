"""``paddlevideo-skel import-ntu`` and ``tools/data/ntu.py``: NTU RGB+D's raw files as data sets. Imports no paddle."""
from ..importers.journal import default_workers
from .parser import add_switch, whole_number

FORMS = {"npy": ("npy",), "pickle": ("pickle",), "both": ("npy", "pickle")}


def add_arguments(parser):
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folders with the unpacked .skeleton files")
    parser.add_argument("-o", "--output", default="data", metavar="FOLDER",
                        help="default data, where the configs expect ntu-rgb-d/ and ntu60_3danno.pkl, or "
                        "ntu-rgb-d120/ and ntu120_3danno.pkl")
    parser.add_argument("--classes", type=int, choices=(60, 120), default=60,
                        help="60 with the splits xsub and xview (default), or 120 with xsub and xset")
    parser.add_argument("--protocols", nargs="+", choices=("xsub", "xview", "xset"), default=(), metavar="NAME",
                        help="only these splits, to save space: each .npy pair of 60 classes takes 10 GB")
    parser.add_argument("--form", choices=FORMS, default="npy",
                        help="npy: (N, 3, 300, 25, 2) arrays for CTR-GCN and ST-GCN (default); pickle: annotations for "
                        "ST-GCN++; or both")
    parser.add_argument("--missing", metavar="FILE", help="the authors' list of samples with missing skeletons; these "
                        "are omitted")
    add_switch(parser, "centre", "move the first person's spine in the first frame to the origin; default: True for "
               "npy, as in CTR-GCN's data; False for pickle, because the pipelines of those models centre the data",
               default=None)
    add_switch(parser, "align", "rotate the spine onto the z axis and the shoulders onto the x axis; the data of "
               "CTR-GCN, ST-GCN and pyskl is not rotated")
    parser.add_argument("--pad", choices=("zeros", "repeat"), default="zeros",
                        help="npy: how sequences are padded to 300 frames; default zeros; 2s-AGCN's data repeats")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32",
                        help="pickle: type of the coordinates; float16 as in pyskl: accurate to 1 mm, half the size")
    add_switch(parser, "bystanders", "keep a second person in actions of one person, as in CTR-GCN's and pyskl's data")
    add_reading(parser)


def add_reading(parser):
    """The flags that importers share."""
    parser.add_argument("--workers", type=whole_number, default=default_workers(), metavar="N",
                        help="worker processes, 0 for none; default %(default)s")
    parser.add_argument("--strict", action="store_true",
                        help="stop at the first unusable file; by default, unusable files are skipped and listed")


def run(args):
    from ..importers.ntu import Choices, import_ntu

    choices = Choices(args.classes, tuple(args.protocols), FORMS[args.form], args.centre, args.align,
                      args.pad == "repeat", args.dtype, args.bystanders)
    import_ntu(args.folders, args.output, choices, args.missing, args.workers, args.strict)
