"""The readers of the importers and converters.

What ``checks`` say of a value is what the reader's own documentation promises, written here once more.
"""
import numpy as np
from fuzz_data_readers import are_annotations
from fuzz_reader import READERS, Reader, checks, reader

from paddlevideo_skel.data.readers import read_annotations
from paddlevideo_skel.errors import ConfigError, DataError, OutputError
from paddlevideo_skel.importers import kinetics, ntu
from paddlevideo_skel.importers.convert import arrays_to_pickle, pickle_to_arrays
from paddlevideo_skel.importers.journal import Journal, Source
from paddlevideo_skel.importers.keypoint_files import CHANNEL_NAMES, read_keypoints
from paddlevideo_skel.importers.keypoints import clean, find_recordings
from paddlevideo_skel.importers.kinetics_hrnet import join_kpfiles
from paddlevideo_skel.importers.labels import number_labels, read_class_names, read_label_list
from paddlevideo_skel.importers.ntu_skeleton import read_bodies
from paddlevideo_skel.importers.split import split_array, split_pickle
from paddlevideo_skel.safe_pickle import load_npy
from paddlevideo_skel.skeleton import get_layout, read_layout

SOURCES = [Source(f"s{i}", f"s{i}.skeleton", 10 + i, 7) for i in range(3)]


@reader(DataError, OutputError)
def kpfiles(folder):
    output = folder / "out.pkl"
    join_kpfiles(folder / "x.pkl", folder / "kp", output, splits=["train"])
    return read_annotations(output, "train")


@checks("kpfiles")
def are_few_annotations(found):
    are_annotations(found)
    assert all(len(a.keypoint) <= 2 for a in found)


@reader(DataError, ConfigError, OutputError)
def pickle_as_arrays(folder):
    shapes = pickle_to_arrays(folder / "x.pkl", folder / "out", allow_loss=True)
    return {name: (shape, load_npy(folder / "out" / (f"{name}_data.npy" if name else "data.npy"), mmap=False))
            for name, shape in shapes.items()}


@checks("pickle_as_arrays")
def shapes_are_those_told(found):
    assert all(shape == array.shape for shape, array in found.values())


@reader(DataError, ConfigError, OutputError)
def arrays_as_pickle(folder):
    arrays_to_pickle([folder / "x_data.npy"], folder / "out.pkl", [folder / "x_label.pkl"])
    return read_annotations(folder / "out.pkl", "x")


@checks("arrays_as_pickle")
def are_three_annotations(found):
    are_annotations(found)
    assert len(found) == 3


@reader(DataError, ConfigError, OutputError)
def pickle_split_anew(folder):
    split_pickle(folder / "x.pkl", folder / "out.pkl", {"one": "0.5", "two": "0.5"}, by="random")
    return read_annotations(folder / "out.pkl", "one"), read_annotations(folder / "out.pkl", "two")


@checks("pickle_split_anew")
def are_two_parts(found):
    one, two = found
    are_annotations(one + two)


@reader(DataError, ConfigError, OutputError)
def array_split_anew(folder):
    split_array(folder / "x_data.npy", folder / "out", {"one": "0.5", "two": "0.5"}, folder / "x_label.pkl",
                replace=True, by="random")
    return [load_npy(folder / "out" / f"{part}_data.npy", mmap=False) for part in ("one", "two")]


@checks("array_split_anew")
def are_three_in_two_parts(found):
    assert sum(map(len, found)) == 3


@reader(DataError)
def ntu_skeleton(folder):
    return ntu.read_persons(Source("S001C001P001R001A050", str(folder / "x.skeleton"), 0, 0), False)[0]


@checks("ntu_skeleton")
def are_persons(persons):
    assert persons.dtype == np.float32 and persons.ndim == 4 and persons.shape[2:] == (25, 3) and len(persons) in (1, 2)
    assert persons.shape[1] and (np.abs(persons) <= 1000).all()


@reader(DataError)
def ntu_bodies(folder):
    return [(body.frames, body.joints) for body in read_bodies(folder / "x.skeleton")]


@checks("ntu_bodies")
def are_bodies(bodies):
    assert bodies
    for frames, joints in bodies:
        assert joints.shape == (len(frames), 25, 3) and joints.dtype == np.float32 and (np.abs(joints) <= 1000).all()
        assert (np.diff(frames) > 0).all()


@reader(DataError)
def ntu_missing(folder):
    return ntu.load_missing(folder / "missing.txt")


@checks("ntu_missing")
def are_recordings(names):
    assert names and all(ntu.Recording.of(name) for name in names)


@reader(DataError)
def kinetics_clip(folder):
    return kinetics.read_clip(Source("clip", str(folder / "clip.json"), 0, 0), {"clip": 2})


@checks("kinetics_clip")
def is_clip(found):
    array, facts = found
    assert array.shape == (3, 300, 18, 2) and array.dtype == np.float32 and (np.abs(array) <= 11).all() and array.any()
    assert facts["persons"] in (1, 2) and 1 <= facts["frames"] <= 300


@reader(DataError)
def kinetics_labels(folder):
    return kinetics.load_clip_labels(folder / "kinetics_train_label.json")


@checks("kinetics_labels")
def are_kinetics_labels(labels):
    for name, about in labels.items():
        assert isinstance(name, str) and about["label_index"] >= 0 and about["has_skeleton"] in (True, False)


def _keypoints(folder, name):
    keypoint, channels = read_keypoints(folder / name, get_layout("coco"))
    cleaned = clean(keypoint, channels or {2: "xy", 3: "xys", 4: "xyzs"}[keypoint.shape[3]])
    return keypoint, channels, cleaned


for _kind in ("csv", "tsv", "npy", "json"):
    READERS[f"keypoints_{_kind}"] = Reader(lambda folder, kind=_kind: _keypoints(folder, f"x.{kind}"), (DataError,))
READERS["keypoints_long_csv"] = Reader(lambda folder: _keypoints(folder, "long.csv"), (DataError,))


def _is_keypoints(found):
    keypoint, channels, (coordinates, score, lost) = found
    assert keypoint.ndim == 4 and keypoint.shape[2] == 17 and channels in (None, *CHANNEL_NAMES)
    assert coordinates.dtype == np.float32 and np.isfinite(coordinates).all() and lost.shape == keypoint.shape[:3]
    assert score is None or np.isfinite(score).all()


for _name in [name for name in READERS if name.startswith("keypoints_")]:
    READERS[_name].check = _is_keypoints


def _labels(folder, name):
    pairs = read_label_list(folder / name)
    numbers, names = number_labels([label for _, label in pairs], name)
    return pairs, numbers, names


for _kind in ("csv", "txt", "json"):
    READERS[f"label_list_{_kind}"] = Reader(lambda folder, kind=_kind: _labels(folder, f"list.{kind}"), (DataError,))


@checks("label_list_csv")
@checks("label_list_txt")
@checks("label_list_json")
def are_labels(found):
    pairs, numbers, names = found
    assert all(isinstance(text, str) and text for pair in pairs for text in pair)
    assert len(numbers) == len(pairs) and all(0 <= number < len(names) for number in numbers)


@reader(DataError)
def listed_samples(folder):
    return find_recordings(folder / "list.csv").names


@reader(DataError)
def class_names_file(folder):
    return read_class_names(folder / "names.txt")


@checks("class_names_file")
def are_names(names):
    assert names and len(set(names)) == len(names) and all(name.strip() == name != "" for name in names)


@reader(DataError, ConfigError)
def layout_file(folder):
    return read_layout(str(folder / "layout.yaml"))


@checks("layout_file")
def is_layout(layout):
    joints = range(layout.num_joints)
    assert layout.num_joints and all(a in joints and b in joints and a != b for a, b in layout.bones)
    assert layout.center in joints and len(layout.left) == len(layout.right)


@reader(OutputError)
def import_journal(folder):
    """What an interrupted import had read is used again only as it was written: the results and their samples."""
    with Journal(folder, {"format": 1}, SOURCES) as journal:
        if len(journal.results) < len(SOURCES):
            rest = SOURCES[len(journal.results):]
            journal.append([{"shape": [1, 2]} for _ in rest], [np.ones((1, 2), "<f4") for _ in rest])
        good, bad = journal.outcome()
        return good, bad, [array for *_, array in journal.samples()]


@checks("import_journal")
def are_results(found):
    good, bad, arrays = found
    assert len(good) + len(bad) == 3 and len(arrays) == len(good)
    assert all(isinstance(reason, str) for _, reason in bad)
    assert all(list(array.shape) == result["shape"] for (_, result), array in zip(good, arrays))
