"""``paddlevideo-skel inspect-data`` and ``tools/data/inspect.py``: what is in a data set, and a plot of a sample."""
import json
from pathlib import Path

from ..errors import ConfigError, DataError, near_miss
from ..files import replacing


def add_arguments(parser):
    parser.add_argument("file", metavar="FILE", help="annotation pickle, or .npy of (N, C, T, V, M)")
    parser.add_argument("--split", metavar="NAME", help="only this split of a pickle")
    parser.add_argument("--labels", metavar="FILE", help="labels of the .npy; default: _label.pkl or _label.npy next "
                        "to it, if present")
    parser.add_argument("--class_names", metavar="FILE", help="class names, one per line")
    parser.add_argument("--layout", metavar="NAME", help="joint names and bones: the name of a layout, or a YAML or "
                        "JSON file that describes one; default: the usual layout for the number of joints")
    parser.add_argument("-o", "--output", "--json", dest="json", metavar="FILE", help="write all findings as JSON")
    parser.add_argument("--plot", metavar="FILE", help="draw a sample as .png or .gif (extra [plot])")
    parser.add_argument("--sample", metavar="NAME", help="the sample to draw; default: the first")
    parser.add_argument("--frames", type=int, default=8, metavar="N", help="frames in the .png, default 8")


def run(args):
    from ..importers.labels import read_class_names
    from ..importers.summary import inspect, inspection_text
    from ..skeleton import read_layout

    if args.plot and Path(args.plot).suffix not in (".png", ".gif"):
        raise ConfigError("--plot", f"found {args.plot!r}, expected a name that ends with .png or .gif")
    if args.sample and not args.plot:
        raise ConfigError("--sample", "is only for --plot", "Add --plot FILE")
    if args.frames < 1:
        raise ConfigError("--frames", f"found {args.frames}, expected 1 or more")
    layout = read_layout(args.layout) if args.layout else None
    names = read_class_names(args.class_names) if args.class_names else None
    labels = _labels(args)
    report = inspect(args.file, args.split, labels, layout, progress=True)
    print("\n".join(inspection_text(report, names)))
    if args.json:
        with replacing(args.json) as temporary:
            Path(temporary).write_text(json.dumps(report, indent=1), encoding="utf-8")
    if args.plot:
        _plot(args, labels, layout, names)


def _labels(args):
    from ..importers.convert import label_file

    if args.labels or Path(args.file).suffix != ".npy":
        return args.labels
    try:
        return label_file(args.file)
    except DataError:
        return None  # an .npy can be inspected without labels


def _plot(args, labels, layout, names):
    from ..importers.lenient import read_leniently
    from ..importers.summary import usual_layout
    from ..plotting import animate_sequence, draw_sequence

    known = {}
    for name, annotation, reason in read_leniently(args.file, args.split, labels)[2]:
        known[name] = reason
        if name == args.sample or (args.sample is None and annotation is not None):
            break
    else:
        annotation = None
    if annotation is None:
        raise DataError(args.file, f"has no sample {args.sample or ''!r} that can be drawn",
                        known.get(args.sample) or near_miss(args.sample, known))
    joints = annotation.keypoint.shape[2]
    layout = layout or usual_layout(joints)
    if layout is None or layout.num_joints != joints:
        raise ConfigError("--layout", f"expected a layout of {joints} joints, like the sample {annotation.name!r} "
                          "has", "Name one, or describe it in a YAML file")
    label = annotation.label
    title = names[label] if names and label is not None and label < len(names) else None
    if args.plot.endswith(".gif"):
        animate_sequence(annotation, layout, args.plot, class_name=title)
    else:
        draw_sequence(annotation, layout, args.plot, args.frames, title)
    print(f"plotted: {args.plot}, {annotation.name}, bones of the layout {layout.name}"
          f"{'' if args.layout else ' (--layout names another)'}")
