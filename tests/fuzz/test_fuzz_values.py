"""Generated content: what is right reads as what was written, what is wrong is refused; and anything at all."""
import json
import pickle

import numpy as np
import pytest
import safetensors.numpy
import yaml
from fuzz_bombs import hostile_values
from fuzz_harness import EXAMPLES, numbered
from fuzz_seeds import FOREIGN, entry, foreign_shapes, npy, torch_file
from fuzz_values import digest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from paddlevideo_skel.data.annotation import Annotation

# The same examples in every run. The session counts on from example to example.
generated = settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None,
                     suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
dtypes = st.sampled_from(["<f2", "<f4", ">f4", "<f8", "<i2", ">i4", "u1"])
scalars = st.none() | st.booleans() | st.integers(-2**63, 2**64 - 1) | st.floats(allow_nan=False) | names


def numbers(shape, dtype):
    dtype = np.dtype(dtype)
    limits = {"min_value": -100, "max_value": 100, "allow_nan": False} if dtype.kind == "f" else None
    return arrays(dtype, shape, elements=limits, fill=st.nothing())


@st.composite
def annotation(draw):
    """An annotation's fields, and what they must become."""
    persons, frames, joints = draw(st.tuples(*[st.integers(1, 3)] * 3))
    shape = (persons, frames, joints, draw(st.integers(2, 3)))
    keypoint = draw(numbers(shape, draw(dtypes)))
    keypoint = np.asfortranarray(keypoint) if draw(st.booleans()) else keypoint
    score = draw(st.none() | numbers(shape[:3], "<f4"))
    label, size = draw(st.none() | st.integers(0, 99)), draw(st.none() | st.tuples(*[st.integers(1, 4000)] * 2))
    total, alone = draw(st.none() | st.integers(1, frames)), persons == 1 and draw(st.booleans())
    fields = {"keypoint": keypoint[0] if alone else keypoint, "keypoint_score": score, "label": label,
              "img_shape": size, "total_frames": total}
    right = Annotation(keypoint[:, :total], None if score is None else score[:, :total], "", label, size)
    return {key: value for key, value in fields.items() if value is not None or draw(st.booleans())}, right


def folder_for(session, reader, files):
    """The folder of a reader in this session, made at its first example."""
    known = [folder for folder in session.folders if folder.name.startswith(f"{reader}-")]
    return known[0] if known else session.prepare(reader, files)


def reads_as(session, reader, target, content, value, files=None):
    """The file must read as ``value``."""
    folder = folder_for(session, reader, {**(files or {}), target: content})
    answer = session.read(reader, folder, target, content, "a right one", with_digest=True)
    assert answer["outcome"] == "value", answer
    assert answer["digest"] == digest(value)


def is_refused(session, reader, target, content, files=None):
    folder = folder_for(session, reader, {**(files or {}), target: content})
    answer = session.read(reader, folder, target, content, "a wrong one")
    assert answer["outcome"] == "refused", answer


@generated
@given(st.dictionaries(names, annotation(), min_size=1, max_size=3), st.integers(0, 5))
def right_annotations(session, content, protocol):
    entries = [{"frame_dir": name, **fields} for name, (fields, _) in content.items()]
    for name, (_, right) in content.items():
        right.name = name
    data = pickle.dumps({"split": {"train": list(content)}, "annotations": entries}, protocol)
    reads_as(session, "split_of_annotations", "x.pkl", data, [right for _, right in content.values()])


WRONG = {
    "keypoint": ("a nest", "surrogates", "bytes", "a set", "a dict", "half", "texts", "booleans", "infinite ones",
                 "none", "one more axis", "uneven lists", "huge numbers in lists", "a billion by references"),
    "label": ("a number of 5000 digits", "half", "minus", "true", "lines", "a dict", "texts", "infinity", "no number"),
    "total_frames": ("half", "minus", "true", "2^70", "texts", "a set"),
    "img_shape": ("half", "minus", "nothing", "texts", "a dict", "itself"),
    "frame_dir": ("bytes", "minus", "a set", "texts", "none"),
    "keypoint_score": ("texts", "half", "booleans", "infinite ones", "a dict", "a column"),
}
PAIRS = [(key, name) for key, values in WRONG.items() for name in values]


@generated
@given(st.sampled_from(PAIRS), st.integers(0, 2), st.integers(0, 5))
def wrong_annotations(session, wrong, place, protocol):
    entries = [entry(i) for i in range(3)]
    entries[place][wrong[0]] = hostile_values()[wrong[1]]
    is_refused(session, "annotations", "x.pkl", pickle.dumps(entries, max(2, protocol)))


@generated
@given(st.recursive(
    scalars | st.binary(max_size=9) | dtypes.flatmap(lambda dtype: numbers((2, 2), dtype)),
    lambda inner: (st.lists(inner, max_size=4) | st.dictionaries(names | st.integers(-9, 9), inner, max_size=4)
                   | st.tuples(inner, inner)), max_leaves=12), st.integers(0, 5))
def plain_data(session, content, protocol):
    reads_as(session, "pickle_file", "x.pkl", pickle.dumps(content, protocol), content)


@generated
@given(dtypes.flatmap(lambda dtype: array_shapes(min_dims=1, max_dims=5, max_side=4).flatmap(
    lambda shape: numbers(shape, dtype))), st.booleans(), st.sampled_from([None, (1, 0), (2, 0), (3, 0)]))
def npy_arrays(session, array, columns_first, version):
    array = np.asfortranarray(array) if columns_first else array
    reads_as(session, "npy_in_memory", "x.npy", npy(array, version), array)


def state_dicts(types=("<f4", "<f8", "<f2", "<i8", "u1")):
    array = st.sampled_from(types).flatmap(lambda dtype: array_shapes(max_dims=4, max_side=3).flatmap(
        lambda shape: numbers(shape, dtype)))
    return st.dictionaries(st.text("abc.01_", min_size=1, max_size=9).map("w".__add__), array, min_size=1, max_size=4)


@generated
@given(state_dicts(), st.sampled_from(["zip", "legacy"]), st.sampled_from([2, 3, 4]),
       st.sampled_from(["little", "big"]))
def torch_checkpoints(session, weights, form, protocol, order):
    content = torch_file(session.folder, form, {"state_dict": weights, "epoch": 3}, protocol=protocol, order=order)
    right = {name: array.astype("f4") if array.dtype == "f2" else array for name, array in weights.items()}
    reads_as(session, "torch_weights", "x.pth", content, right)


@generated
@given(state_dicts(("<f4", "<f8", "<f2", "<i8", "u1", "|b1")), st.booleans())
def paddle_checkpoints(session, weights, safe):
    content = safetensors.numpy.save(weights) if safe else pickle.dumps(weights, 4)
    answer = session.read("torch_weights", folder_for(session, "torch_weights", {"x.pth": content}), "x.pth", content,
                          "a right one", with_digest=True)
    # The order of names in a safetensors file is its own.
    assert answer["outcome"] == "value"
    assert safe or answer["digest"] == digest(weights)


@generated
@given(st.lists(st.lists(st.floats(-9999, 9999) | st.none(), min_size=34, max_size=34), min_size=1, max_size=4),
       st.sampled_from(["", "nan", "NA", "null"]), st.sampled_from([",", ";", "\t"]), st.booleans())
def keypoint_tables(session, rows, missing, mark, spaces):
    space = " " if spaces and mark != "\t" else ""
    text = "\n".join((mark + space).join(missing if x is None else repr(x) for x in row) for row in rows)
    array = np.array(rows, float).reshape(1, len(rows), 17, 2)
    lost = np.isnan(array).any(axis=-1) | ~array.any(axis=-1)
    clean = np.where(lost[..., None], 0, array).astype("f4")
    header = mark.join(f"{joint}_{axis}" for joint in range(17) for axis in "xy")
    reads_as(session, "keypoints_csv", "x.csv", f"{header}\n{text}\n".encode(), (array, "xy", (clean, None, lost)))


@generated
@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from(["1", "72057594037931101", "9" * 30]))
def ntu_recordings(session, seed, frames, body):
    joints = np.random.default_rng(seed).uniform(-9, 9, (frames, 25, 3)).astype("f4")
    text = [f"{frames}"]
    for frame in joints:
        text += ["1", f"{body} 0 1 1 0 0 0 0 0 2", "25"]
        text += [f"{float(x)!r} {float(y)!r} {float(z)!r} 0 0 0 0 0 0 0 0 2" for x, y, z in frame]
    reads_as(session, "ntu_bodies", "x.skeleton", "\n".join(text).encode(), [(np.arange(frames), joints)])


@generated
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9**20) | st.floats(-9, 9) | st.text("abc: ,#", max_size=6),
    lambda inner: (st.lists(inner, max_size=3)
                   | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)),
    max_leaves=8), max_size=4))
def configs(session, extra):
    head = {"name": "STGCNPlusPlusHead", "num_classes": 3}
    right = {"MODEL": {"framework": "RecognizerGCN", "head": head, "runtime_cfg": extra}, "epochs": 2}
    reads_as(session, "config", "x.yaml", yaml.safe_dump(right, sort_keys=False).encode(), (right, None))


@generated
@given(st.lists(st.tuples(st.text("abcd/", min_size=1, max_size=9), st.integers(0, 9)), min_size=1, max_size=6,
                unique_by=lambda pair: pair[0]), st.sampled_from(["csv", "txt", "json"]))
def label_lists(session, pairs, kind):
    text = json.dumps(dict(pairs)) if kind == "json" else "".join(
        f"{name}{',' if kind == 'csv' else ' '}{label}\n" for name, label in pairs)
    labels = [label for _, label in pairs]
    right = ([(name, str(label)) for name, label in pairs], labels, [f"class {i}" for i in range(max(labels) + 1)])
    reads_as(session, f"label_list_{kind}", f"list.{kind}", text.encode(), right)


RIGHT = {function.__name__: function for function in (
    right_annotations, wrong_annotations, plain_data, npy_arrays, torch_checkpoints, paddle_checkpoints,
    keypoint_tables, ntu_recordings, configs, label_lists)}


@pytest.mark.slow
@pytest.mark.parametrize("content", RIGHT)
def test_generated(session, content):
    session.folder.mkdir()
    RIGHT[content](session)
    session.finish(f"generated: {content}")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_anything_in_any_file(session, bases, part):
    """Bytes and texts that are nothing at all, in the place of every reader's every file."""
    targets = [(reader, target) for reader in sorted(bases) for target in sorted(bases[reader])][part::2]

    @generated
    @given(st.sampled_from(targets), st.binary(max_size=60) | st.text(max_size=60).map(str.encode)
           | st.recursive(scalars, st.lists, max_leaves=9).map(json.dumps).map(str.encode))
    def read(place, content):
        reader, target = place
        session.read(reader, folder_for(session, reader, bases[reader]), target, content, "anything")

    read()
    session.finish(f"generated: anything, part {part}")


@pytest.mark.slow
@pytest.mark.parametrize("model", FOREIGN)
def test_weights_of_other_projects(session, model):
    """State dicts of other projects with tensors left out, renamed, or of other shapes."""
    whole = foreign_shapes(model)
    folder = session.prepare("foreign_weights", {"shapes.json": json.dumps(whole).encode()})
    answer = session.read("foreign_weights", folder, "shapes.json", json.dumps(whole).encode(), "as it is")
    assert answer["outcome"] == "value", answer
    for number in range(EXAMPLES):
        rng, changed = numbered(model, number), dict(whole["shapes"])
        for name in rng.sample(sorted(changed), rng.choice((1, 1, 3, 30))):
            shape = changed.pop(name)
            changed.update(rng.choice(({}, {f"x.{name}": shape}, {name: [*shape, rng.choice((0, 1, 2))]}, {
                name: [rng.choice((0, 1, 2, 3, size)) for size in shape]}, {name: shape[1:]})))
        session.read("foreign_weights", folder, "shapes.json", json.dumps({**whole, "shapes": changed}).encode(),
                     f"case {number} of {model}")
    session.finish(f"generated: weights of {model}")
