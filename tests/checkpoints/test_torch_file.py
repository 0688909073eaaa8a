"""PyTorch's files: what stands in them comes out, and nothing in them is run. PyTorch is not needed."""
import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from torch_writer import Call, Name, Storage, save, tensor

from paddlevideo_skel.checkpoints.load import load_weights
from paddlevideo_skel.checkpoints.torch_file import Foreign, Tensor, open_torch
from paddlevideo_skel.errors import CheckpointError

FORMS = ("zip", "legacy")
ARRAYS = {"double": np.arange(6.0).reshape(2, 3), "float": np.float32([[1.5, -2]]), "half": np.float16([1.5, 65504]),
          "long": np.arange(3), "int": np.arange(3, dtype="i4"), "short": np.arange(3, dtype="i2"),
          "char": np.arange(-1, 2, dtype="i1"), "byte": np.arange(3, dtype="u1"), "bool": np.array([True, False]),
          "empty": np.zeros((0, 3), "f4"), "scalar": np.array(2.5, "f4")}


def read(path):
    """All of a flat file's tensors."""
    with open_torch(path) as opened:
        return {name: opened.array(value) for name, value in opened.content.items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["little", "big"])
def test_every_type_is_read(form, protocol, order, tmp_path):
    found = read(save(ARRAYS, tmp_path / "a.pth", form, protocol, order=order))
    assert set(found) == set(ARRAYS)
    for name, expected in ARRAYS.items():
        assert found[name].dtype == ("float32" if name == "half" else expected.dtype), name
        assert found[name].shape == expected.shape
        np.testing.assert_array_equal(found[name], expected, name)


@pytest.mark.parametrize("form", FORMS)
def test_views_of_a_shared_storage(form, tmp_path):
    base = np.arange(24, dtype="f4").reshape(4, 6)
    storage = Storage(base)
    views = {"whole": (tensor(storage, (4, 6)), base), "transposed": (tensor(storage, (6, 4), (1, 6)), base.T),
             "part": (tensor(storage, (2, 3), (12, 2), 7), base[1::2, 1::2]),
             "repeated": (tensor(storage, (5, 2), (0, 1)), np.tile(base[0, :2], (5, 1))),
             "one": (tensor(storage, (), (), 23), base[3, 5])}
    path = save({name: view for name, (view, _) in views.items()}, tmp_path / "a.pth", form)
    for name, array in read(path).items():
        np.testing.assert_array_equal(array, views[name][1], name)


def test_a_storage_that_is_part_of_another_as_old_files_have_it(tmp_path):
    base = np.arange(10, dtype="f4")
    path = save({"a": tensor(Storage(base, part=(3, 4)), (2, 2))}, tmp_path / "a.pth", "legacy")
    np.testing.assert_array_equal(read(path)["a"], [[3, 4], [5, 6]])
    path = save({"a": tensor(Storage(base, part=(3, 4)), (2, 3))}, tmp_path / "b.pth", "legacy")
    with pytest.raises(CheckpointError, match="outside its storage"):
        read(path)


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_is_the_upper_half_of_a_float32(form, tmp_path):
    values = np.float32([0, -1.5, 3.140625, 1e38, np.inf])
    upper = (values.view("u4") >> 16).astype("u2")
    storage = Storage(upper.view("i2"), "BFloat16Storage")
    found = read(save({"a": tensor(storage, (5,))}, tmp_path / "a.pth", form))["a"]
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, (upper.astype("u4") << 16).view("f4"))
    np.testing.assert_array_equal(found[:3], values[:3])


@pytest.mark.parametrize("form", FORMS)
def test_parameters_and_the_older_and_newer_ways_to_build_a_tensor(form, tmp_path):
    storage = Storage(np.arange(4, dtype="f4"))
    old = Name("torch._utils", "_rebuild_tensor")(storage, 0, (4,), (1,))
    parameter = Name("torch._utils", "_rebuild_parameter")(tensor(storage, (2, 2)), True, OrderedDict())
    raw = Storage(np.arange(4, dtype="u2").view("u1"), "UntypedStorage")
    new = Name("torch._utils", "_rebuild_tensor_v3")(raw, 1, (3,), (1,), False, OrderedDict(), Name("torch", "uint16"))
    found = read(save({"old": old, "parameter": parameter, "new": new}, tmp_path / "a.pth", form))
    np.testing.assert_array_equal(found["old"], [0, 1, 2, 3])
    np.testing.assert_array_equal(found["parameter"], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(found["new"], [1, 2, 3])


def test_a_compressed_archive(tmp_path):
    path = save(ARRAYS, tmp_path / "a.pth", compression=zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(read(path)["double"], ARRAYS["double"])


class History:
    """Pickled by its module's name, as any class of a trainer's is."""

    def __init__(self):
        self.values, self.more = [1, 2], {"a": None}


def surroundings(mark):
    """What mmengine, Lightning and others save beside the weights, some of it harmful."""
    return {
        "meta": {"cfg": "model = dict()", "seed": 3, "iter": 7, "time": Name("datetime", "datetime")(b"x")},
        "message_hub": History(), "optimizer": {"state": {0: {"momentum": np.ones(3, "f4"), "step": 5}}},
        "buffer": Call(Name("mmengine.logging.history_buffer", "HistoryBuffer"), state={"_history": [1.0]}),
        "subclass": Call(Name("argparse", "Namespace"), state={"lr": 0.1}),
        "counter": Name("collections", "Counter")({"a": 1}), "function": Name("builtins", "eval"),
        "harm": Name("posix", "system")(f"touch {mark}"),
        "more_harm": Name("builtins", "exec")(f"open({str(mark)!r}, 'w')"),
        "got": Name("builtins", "getattr")(Name("os", "environ"), "copy"), "device": Name("torch", "device")("cuda:0"),
        "quantised": tensor(Storage(np.arange(4, dtype="u1"), "QUInt8Storage"), (4,)),
        "size": Name("torch", "Size")((2, 3)),
        "objects": Name("numpy.core.multiarray", "_reconstruct")(Name("numpy", "ndarray"), (0,), b"b"),
    }


@pytest.mark.parametrize("form", FORMS)
def test_objects_beside_the_weights_are_inert(form, tmp_path):
    mark = tmp_path / "ran"
    beside = surroundings(mark)
    if form == "legacy":
        beside.pop("quantised")  # of which the file's end could not be found
    path = save({**beside, "state_dict": {"backbone.a": np.float32([1, 2])}}, tmp_path / "a.pth", form)
    with open_torch(path) as opened:
        for name in ("message_hub", "buffer", "subclass", "counter", "harm", "more_harm", "got", "device", "function"):
            assert isinstance(opened.content[name], Foreign), name
        assert opened.content["harm"].name == "posix.system"
        assert opened.content["meta"]["cfg"] == "model = dict()"
        assert opened.content["size"] == (2, 3)
        assert isinstance(opened.content["optimizer"]["state"][0]["momentum"], Tensor)
    np.testing.assert_array_equal(load_weights(path)["backbone.a"], [1, 2])
    assert not mark.exists()


@pytest.mark.parametrize("form", FORMS)
def test_other_objects_among_the_weights_are_named(form, tmp_path):
    mark = tmp_path / "ran"
    for harm, name in ((Name("posix", "system")(f"touch {mark}"), "posix.system"), (History(), "History")):
        path = save({"state_dict": {"backbone.a": np.float32([1]), "backbone.b": harm}}, tmp_path / "a.pth", form)
        with pytest.raises(CheckpointError, match=rf"a\.pth.*'backbone\.b'.*{name}"):
            load_weights(path)
    assert not mark.exists()


def test_a_pickled_model_is_an_error(tmp_path):
    for content in (History(), {"epoch": 1, "model": History()}):
        with pytest.raises(CheckpointError, match=r"whole model.*History.*state_dict\(\)"):
            load_weights(save(content, tmp_path / "a.pth"))


@pytest.mark.parametrize("form", FORMS)
def test_unsupported_types_among_the_weights_are_named(form, tmp_path):
    path = save({"a": tensor(Storage(np.arange(4, dtype="u1"), "QUInt8Storage"), (4,))}, tmp_path / "a.pth", form)
    with pytest.raises(CheckpointError, match="QUInt8Storage"):
        load_weights(path)


# How far the places of damage are apart, of which a few are tried in the fast tests.
STEPS = pytest.mark.parametrize("step", [101, pytest.param(7, marks=pytest.mark.slow)])


@pytest.mark.parametrize("form", FORMS)
@STEPS
def test_every_truncation_is_an_error(form, step, tmp_path):
    whole = save(ARRAYS, tmp_path / "a.pth", form).read_bytes()
    path = tmp_path / "b.pth"
    for end in [*range(0, len(whole), step), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError, match=r"b\.pth"):
            read(path)


@STEPS
def test_damage_of_a_zip_is_found_or_harmless(tmp_path, step):
    whole = save({"a": np.arange(50, dtype="f4")}, tmp_path / "a.pth").read_bytes()
    path, found = tmp_path / "b.pth", 0
    for bit in range(0, 8 * len(whole), step + 4):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            np.testing.assert_array_equal(read(path)["a"], np.arange(50))
        except CheckpointError:
            found += 1
    assert found > 3300 / (step + 4)


@STEPS
def test_damage_of_the_legacy_form_ends_well(tmp_path, step):
    whole = save({"a": np.arange(50, dtype="f4"), "b": {"c": [1, "x"]}}, tmp_path / "a.pth", "legacy").read_bytes()
    path, rng, found = tmp_path / "b.pth", np.random.default_rng(0), 0
    for _ in range(2800 // step):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(len(content) - 200)] = rng.integers(256)
        path.write_bytes(content)
        try:
            with open_torch(path) as opened:
                value = opened.content["a"] if isinstance(opened.content, dict) and "a" in opened.content else None
                if isinstance(value, Tensor):
                    opened.array(value)
        except CheckpointError:
            found += 1
    assert found > 700 / step


BASE = np.arange(12, dtype="f4")
BAD_VIEWS = {
    "too long": ((13,), (1,), 0), "behind the end": ((3,), (1,), 10), "stride too wide": ((2, 2), (12, 1), 0),
    "negative stride": ((3,), (-1,), 11), "negative offset": ((3,), (1,), -1), "negative size": ((-3,), (1,), 0),
    "huge": ((2 ** 40,), (1,), 0), "bomb of no stride": ((2 ** 40,), (0,), 0), "no numbers": ((2.0,), (1,), 0),
    "unequal": ((2, 2), (1,), 0), "many axes": ((1,) * 60, (1,) * 60, 0), "wrapping": ((2 ** 33, 2 ** 33), (0, 0), 0),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("view", BAD_VIEWS)
def test_views_outside_their_storage(form, view, tmp_path):
    size, stride, offset = BAD_VIEWS[view]
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        read(save({"a": tensor(Storage(BASE), size, stride, offset)}, tmp_path / "a.pth", form))


def rewrite(path, change):
    """Write the zip again with ``change(name, content)``; None omits an entry."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, change(name, archive.read(name))) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            if content is not None:
                archive.writestr(name, content)


def test_bombs(tmp_path):
    path = save({"a": BASE}, tmp_path / "a.pth")
    rewrite(path, lambda name, content: bytes(1 << 26) if name.endswith("data/0") else content)
    assert path.stat().st_size < 2 << 20
    with pytest.raises(CheckpointError, match="many times its"):
        read(path)
    path = save({"a": BASE}, tmp_path / "b.pth")
    rewrite(path, lambda name, content: bytes(1 << 26) if name.endswith("data.pkl") else content)
    with pytest.raises(CheckpointError, match="many times its"):
        read(path)
    # An honest file of the same shape says 1 GB for 4 bytes.
    whole = bytearray(save({"a": BASE}, tmp_path / "c.pth").read_bytes())
    place = whole.rindex(b"archive/data/0") - 46
    whole[place + 20:place + 28] = (1 << 30).to_bytes(4, "little") * 2
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"b\.pth"):
        read(path)


def test_storages_are_found_by_their_exact_names_only(tmp_path):
    (tmp_path / "secret").write_bytes(BASE.tobytes())
    path = save({"a": BASE}, tmp_path / "a.pth")
    with zipfile.ZipFile(path) as archive:
        data = archive.read("archive/data.pkl")
    for key in (b"../../secret", str(tmp_path / "secret").encode()):
        changed = data.replace(b"X\x01\x00\x00\x000", b"X" + len(key).to_bytes(4, "little") + key)
        assert changed != data
        rewrite(path, lambda name, content, new=changed: new if name.endswith("data.pkl") else content)
        with pytest.raises(CheckpointError, match="no entry"):
            read(path)


def test_a_storage_of_another_length_or_left_out(tmp_path):
    for change in (lambda content: content[:-4], lambda content: content + b"1234", lambda content: None):
        path = save({"a": BASE}, tmp_path / "a.pth")
        rewrite(path, lambda name, content, c=change: c(content) if name.endswith("data/0") else content)
        with pytest.raises(CheckpointError, match=r"a\.pth"):
            read(path)


def test_other_files_are_errors(tmp_path):
    path = tmp_path / "a.pth"
    with open(path, "wb") as file:
        np.savez(file, a=np.ones(3))
    with pytest.raises(CheckpointError, match=r"no data\.pkl"):
        read(path)
    save({"a": BASE}, path, extra=[("archive/constants.pkl", b""), ("archive/code/model.py", b"")])
    with pytest.raises(CheckpointError, match="TorchScript"):
        read(path)
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("sys_info"), io.BytesIO())
    with pytest.raises(CheckpointError, match=r"tar archive of PyTorch 0\.1\.10"):
        read(path)
    with pytest.raises(CheckpointError, match="file not found"):
        read(tmp_path / "absent.pth")


def test_the_ordinary_unpickler_would_have_run_it(tmp_path):
    """The harm in these tests is real: pickle itself does it."""
    mark = tmp_path / "ran"
    path = save(Name(os.system.__module__, "system")(f"touch {mark}"), tmp_path / "a.pth")
    with zipfile.ZipFile(path) as archive:
        pickle.loads(archive.read("archive/data.pkl"))
    assert mark.exists()
