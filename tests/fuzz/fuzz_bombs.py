"""Pickles and checkpoints that would fill the memory, or take for ever, if they were read the ordinary way."""
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
from fuzz_documents import zipped
from fuzz_payloads import PICKLES, Call
from fuzz_seeds import entry, torch_file
from torch_writer import Name, Storage, tensor

# Values that stand for billions, in a few bytes.


def laughs(depth=9, width=10, leaf=0, kind=list):
    value = kind([leaf] * width)
    for _ in range(depth):
        value = kind([value] * width)
    return value


def with_one_more(content, raw):
    """A pickle of a dict with one more key, whose value is a piece of a pickle."""
    return pickle.dumps(content, 2)[:-1] + b"X\x01\x00\x00\x00x" + raw + b"s."


def cyclic():
    value = [1]
    value.append(value)
    return value


def hostile_values():
    """Name → a value that no field has, and that stumbles or swells when it is looked at."""
    surrogate = "a\ud800b"
    return {
        "a billion by references": laughs(),
        "a billion in tuples": laughs(kind=tuple),
        "a billion texts": laughs(leaf="x"),
        "itself": cyclic(),
        "a number of 5000 digits": 10**5000,
        "a number of 100,000 digits": 1 << 332_000,
        "a negative one": -(10**5000),
        "a nest": json.loads("[" * 400 + "]" * 400),
        "surrogates": surrogate,
        "zero bytes": "a\0b",
        "lines": "a\nb\r\nc",
        "long": "n" * 100_000,
        "up": "../../etc/passwd",
        "root": "/etc/passwd",
        "nothing": "",
        "dots": "..",
        "bytes": b"\xff\x00",
        "infinity": float("inf"),
        "no number": float("nan"),
        "a set": {1, 2},
        "a dict": {"a": {"b": 1}},
        "true": True,
        "minus": -1,
        "half": 0.5,
        "2^70": 1 << 70,
        "a scalar array": np.array("text"),
        "a scalar number": np.array(3),
        "an empty one": np.empty(0),
        "a long empty one": np.empty((0, 1 << 40), "i1"),
        "texts": np.array(["a", "b"]),
        "bytes in an array": np.array([b"x"]),
        "booleans": np.ones((2, 6, 5, 2), bool),
        "longdoubles": np.ones((2, 6, 5, 2), "f16"),
        "infinite ones": np.full((2, 6, 5, 2), np.inf, "f4"),
        "extremes": np.full((2, 6, 5, 2), 1 << 63, "u8"),
        "big-endian": np.ones((2, 6, 5, 2), ">f4"),
        "a float128": np.longdouble(1),
        "a complex number": "1j",
        "a column": np.ones((3, 1)),
        "one more axis": np.ones((1, 2, 6, 5, 2)),
        "32 axes": np.ones((1,) * 32),
        "uneven lists": [[1, 2], [3]],
        "huge numbers in lists": [[[1.0, 10**400]]],
        "texts in lists": [["a"]],
        "none": None,
        "ordered": OrderedDict(a=1),
    }


def swollen_values():
    """``(reader, file, bytes, what)``: hostile values in each place of a data set and a checkpoint."""
    for name, value in hostile_values().items():
        for key in (
            "keypoint",
            "keypoint_score",
            "label",
            "img_shape",
            "total_frames",
            "frame_dir",
            "filename",
            "other",
        ):
            data = pickle.dumps([entry(0, **{key: value}), entry(1)], 4)
            yield "inspected_pickle" if key == "other" else "annotations", "x.pkl", data, f"{key} is {name}"
        for key, content in {
            "split": {"split": value, "annotations": [entry(0)]},
            "a split": {"split": {"train": value, "val": ["s0"]}, "annotations": [entry(0)]},
            "annotations": {"split": {"train": ["s0"]}, "annotations": value},
            "padded_to": {"padded_to": value, "annotations": [entry(0)]},
            "an extra": {"x": value, "annotations": [entry(0)]},
            "the content": value,
        }.items():
            data = pickle.dumps(content, 4)
            for reader in ("split_of_annotations", "inspected_pickle"):
                yield reader, "x.pkl", data, f"{key} is {name}"
        for what, content in {
            "labels": (["a", "b", "c"], value),
            "names": (value, [0, 1, 3]),
            "all": value,
            "a label": (["a", "b", "c"], [0, 1, value]),
            "a name": (["a", "b", value], [0, 1, 3]),
        }.items():
            data = pickle.dumps(content, 4)
            for reader in ("array_set", "examined_array"):
                yield reader, "x_label.pkl", data, f"{what} are {name}"
        for key in ("raw_file", "frame_inds", "box_score", "total_frames", "frame_dir", "label", "img_shape"):
            kp = {
                "frame_dir": "v0",
                "label": 0,
                "img_shape": (48, 64),
                "total_frames": 4,
                "raw_file": "0.pkl",
                "frame_inds": np.array([0, 0, 1, 2, 3]),
                "box_score": np.full(5, 0.9, "f4"),
                key: value,
            }
            yield (
                "kpfiles",
                "x.pkl",
                pickle.dumps({"split": {"train": ["v0"]}, "annotations": [kp]}, 4),
                f"{key} is {name}",
            )
        for what, content in {
            "the video": {"v0": value},
            "its keypoint": {"v0": {"keypoint": value}},
            "all": value,
        }.items():
            yield "kpfiles", "kp/0.pkl", pickle.dumps(content, 4), f"{what} is {name}"
        for what, content in {
            "an entry": {"a": np.ones(2), "b": value},
            "a key": {"a": np.ones(2), "k": {"x": value}},
            "wrapped": {"state_dict": value},
            "all": value,
        }.items():
            yield "weights", "x.pdparams", pickle.dumps(content, 4), f"{what} is {name}"


def swollen_machines(tmp):
    """The same for what makes the machines that read pickles, and archives, work too much."""
    for depth in (90, 200, 3_000, 20_000):
        for what, piece in {
            "lists": b"]" * depth + b"a" * (depth - 1),
            "tuples": b")" + b"\x85" * depth,
            "dicts": b"}X\x01\x00\x00\x00a" * depth + b"N" + b"s" * depth,
        }.items():
            for reader, file, content in (
                ("annotations", "x.pkl", {"annotations": [entry(0)]}),
                ("inspected_pickle", "x.pkl", {"annotations": [entry(0)]}),
                ("weights", "x.pdparams", {"a": np.ones(2)}),
                ("state", "x.pdparams", {}),
            ):
                yield reader, file, with_one_more(content, piece), f"{depth} {what}"
            for key in (b"keypoint", b"label", b"img_shape"):
                raw = b"\x80\x02]}(X" + struct.pack("<I", len(key)) + key + piece + b"ua."
                yield "annotations", "x.pkl", raw, f"{key.decode()} is {depth} {what}"
    yield from machine_bombs()
    yield from torch_bombs(tmp)


def machine_bombs():
    """Pickles that make the machine itself work, or copy, or hash too much."""
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
    modulus = (1 << 61) - 1
    colliding = b"".join(
        b"\x8a" + bytes([n]) + (i * modulus).to_bytes(n, "little", signed=True) + b"N"
        for i in range(1, 20_000)
        for n in [(i * modulus).bit_length() // 8 + 1]
    )
    bombs = {
        "colliding keys": b"\x80\x02}(" + colliding + b"u.",
        "an index of the memo": b"\x80\x02]r\xff\xff\xff\xff.",
        "text index": b"\x80\x02]p99999999999\n0g99999999999\n.",
        "bytes' length": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
        "text's length": b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"x.",
        "short": b"\x80\x02X\xff\xff\xff\xffx.",
        "a negative length": b"T\xff\xff\xff\xffx.",
        "a number's length": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
        "a negative one": b"\x80\x02\x8b\xff\xff\xff\xffx.",
        "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**31) + b"x.",
        "a frame's length": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
        "frames in a frame": b"\x80\x04" + b"\x95\x09\x00\x00\x00\x00\x00\x00\x00" * 1000 + b"N.",
        "many frames": b"\x80\x04" + b"\x95\x01\x00\x00\x00\x00\x00\x00\x00N" * 20_000 + b".",
        "a long number as text": b"I" + b"9" * 100_000 + b"\n.",
        "and as long": b"L" + b"9" * 100_000 + b"L\n.",
        "a float as text": b"F" + b"9" * 100_000 + b"\n.",
        "a text without end": b"S'" + b"a" * 100_000,
        "marks": b"(" * 100_000 + b".",
        "doubled": b"\x80\x02]" + b"2" * 100_000 + b".",
        "appended to itself": b"\x80\x02]q\x00" + b"h\x00a" * 20_000 + b".",
        "doubling tuples": b"\x80\x02)" + b"2\x86" * 20_000 + b".",
        "buffers": b"\x80\x05\x97\x98" * 1000 + b".",
        "bytes again and again": b"\x80\x02"
        + text
        + b"q\x000(c__builtin__\nbytearray\nq\x010"
        + b"h\x01h\x00\x85R" * 20_000
        + b"l.",
        "encoding's name": b"\x80\x02"
        + text
        + b"q\x000(c_codecs\nencode\nq\x010X\x00\x00\x00\x00q\x020"
        + b"h\x01h\x02h\x00\x86R" * 20_000
        + b"l.",
        "a codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
        "sets again and again": b"\x80\x02("
        + b"K\x01" * 50_000
        + b"lq\x000(c__builtin__\nset\nq\x010"
        + b"h\x01h\x00\x85R" * 5_000
        + b"l.",
        "arrays of one buffer": b"\x80\x02"
        + text
        + b"q\x000"
        + b"("
        + b"".join(
            b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x07\x00\x00\x00S100000\x85Rh\x00\x86R"
            for _ in range(1_000)
        )
        + b"l.",
        "a shape": b"\x80\x02cnumpy.core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R(K\x00"
        b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x0ftX\x01\x00\x00\x00CtR.",
        "a dtype's name": b"\x80\x02cnumpy\ndtype\n" + text + b"\x85R.",
        "a dtype from a nest": pickle.dumps(Call(np.dtype, laughs()), 2),
        "an encoding from a nest": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00a"
        + pickle.dumps(laughs(), 2)[2:-1]
        + b"\x86R.",
        "calling ndarray": b"\x80\x02cnumpy\nndarray\n(\x8a\x06\x00\x00\x00\x00\x00\x10\x85tR.",
        "a method as content": b"\x80\x02c__builtin__\nset\n.",
        "ndarray as content": b"\x80\x02cnumpy\nndarray\n.",
        "a method as keypoint": b"\x80\x02]}X\x08\x00\x00\x00keypointc__builtin__\nset\nsa.",
        "a global without name": b"\x80\x04NN\x93.",
        "a nest as global": b"\x80\x04" + pickle.dumps(laughs(), 2)[2:-1] + b"\x8c\x01a\x93.",
        "its text": b"\x80\x04\x8c\x01a" + pickle.dumps(laughs(), 2)[2:-1] + b"\x93.",
        "state of a dtype": b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R"
        + pickle.dumps(laughs(), 2)[2:-1]
        + b"b.",
    }
    for what, bomb in bombs.items():
        for reader, file in PICKLES:
            yield reader, file, bomb, what
        yield "torch_weights", "x.pth", _legacy_with(bomb), f"{what} in a checkpoint of the legacy form"


def _legacy_with(bomb):
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in parts) + bomb + pickle.dumps([], 2)


def torch_bombs(tmp):
    """Checkpoints of PyTorch's forms: archives with odd entries, and pickles that the machine for them must bear."""
    plain = {"w": np.ones((2, 3), "f4")}
    whole = torch_file(tmp, "zip", plain)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    data = dict(entries)["archive/data.pkl"]
    deflated = zipfile.ZIP_DEFLATED
    link = zipfile.ZipInfo("archive/data/0")
    link.external_attr = 0o120777 << 16
    bombs = {
        "1000:1 beside": zipped([*entries, ("archive/data/9", bytes(1 << 26))], deflated),
        "1000:1 as data.pkl": zipped([("archive/data.pkl", b"(" * (1 << 26))], deflated),
        "1000:1 as a storage": zipped(
            [(name, bytes(1 << 26) if name == "archive/data/0" else content) for name, content in entries], deflated
        ),
        "1000:1 as the byte order": zipped(
            [*entries[:1], ("archive/byteorder", bytes(1 << 26)), *entries[2:]], deflated
        ),
        "up": zipped([(f"../{name}", content) for name, content in entries]),
        "root": zipped([(f"/{name}", content) for name, content in entries]),
        "back": zipped([(name.replace("/", "\\"), content) for name, content in entries]),
        "twice": zipped([*entries, ("archive/data/x", bytes(24))]).replace(b"data/x", b"data/0"),
        "two data.pkl": zipped([*entries, ("other/data.pkl", data)]),
        "a link": zipped(
            [(link, b"/etc/passwd") if name == "archive/data/0" else (name, content) for name, content in entries]
        ),
        "no entries": zipped([]),
        "a folder": zipped([("archive/data.pkl/", b"")]),
        "script": zipped([*entries, ("archive/code/x.py", b"1/0")]),
        "many entries": zipped([*entries, *((f"archive/x{i}", b"") for i in range(5_000))]),
        "encrypted": whole.replace(b"PK\x01\x02\x14\x00\x14\x00\x00\x00", b"PK\x01\x02\x14\x00\x14\x00\x01\x00"),
        "overlapping": _overlapping(entries),
        "a tar": b"\0" * 257 + b"ustar" + b"\0" * 250,
        "a comment without end": whole + b"x" * 70_000,
        "in front": b"x" * 1000 + whole,
    }
    for what, content in bombs.items():
        yield "torch_weights", "x.pth", content, what
        yield "weights", "x.pdparams", content, what
    storage = Storage(np.ones(6, "f4"))
    broadcast = {"w": tensor(storage, (1 << 14, 1 << 14), (0, 0))}
    objects = {
        "a tensor of billions": broadcast,
        "two": {f"w{i}": tensor(storage, (1 << 10, 1 << 10), (0, 0)) for i in range(300)},
        "100 axes": {"w": tensor(storage, (1,) * 100, (0,) * 100)},
        "negative": {"w": tensor(storage, (-1, 2), (1, 1))},
        "a size from a nest": {"w": tensor(storage, laughs(kind=tuple), (1,) * 10)},
        "a storage from a nest": {
            "w": Name("torch._utils", "_rebuild_tensor_v2")(laughs(), 0, (1,), (1,), False, None)
        },
        "a size": {"w": Name("torch", "Size")(laughs())},
        "a subclass": {"w": Name("torch._tensor", "_rebuild_from_type_v2")(laughs(), laughs(), laughs(), laughs())},
        "a parameter": {"w": Name("torch._utils", "_rebuild_parameter")(laughs(), True, None)},
        "a key": {laughs(2, 2, kind=tuple): np.ones(2, "f4")},
        "names": {"w": np.ones(2, "f4"), 10**5000: np.ones(2, "f4")},
        "v3": {"w": Name("torch._utils", "_rebuild_tensor_v3")(storage, 0, (1,), (1,), False, None, laughs())},
    }
    for what, content in objects.items():
        for form in ("zip", "legacy"):
            yield "torch_weights", "x.pth", torch_file(tmp, form, content), f"{what}, {form} form"
    items = b"(" + b"N" * 50_000 + b"lq\x000"
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
    codes = {
        "sizes again and again": items + b"(ctorch\nSize\nq\x010" + b"h\x01h\x00\x85R" * 2_000 + b"l.",
        "long names": text + b"q\x000(" + b"h\x00h\x00\x93" * 20_000 + b"l.",
        "growing names": b"(ctorch._utils\n_rebuild_tensor_v2\nq\x000ca\nb\nq\x010"
        + b"".join(b"h\x00(h\x01K\x00))tRq\x01" for _ in range(16_000))
        + b"l.",
        "long sizes": b"("
        + b"K\x01" * 100_000
        + b"tq\x000(ctorch._utils\n_rebuild_tensor_v2\nq\x010(X\x07\x00\x00\x00storage"
        b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQq\x020"
        + b"h\x01(h\x02K\x00h\x00h\x00tR" * 300
        + b"l.",
        "a key from a nest": b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        + pickle.dumps(laughs(), 2)[2:-1]
        + b"X\x03\x00\x00\x00cpuK\x06tQ.",
        "calling a nest": pickle.dumps(laughs(), 2)[2:-1] + b")R.",
        "a nest as id": pickle.dumps(laughs(), 2)[2:-1] + b"Q.",
    }
    for what, code in codes.items():
        yield "torch_weights", "x.pth", _legacy_with(b"\x80\x04" + code), what
        yield "torch_weights", "x.pth", zipped([("archive/data.pkl", b"\x80\x04" + code)]), f"{what}, zip form"


def _overlapping(entries):
    """An archive whose storages all lie at the same place of the file: each could be unpacked again."""
    content = zipped([(name, part) for name, part in entries])
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    directory = content[start:end]
    last = directory[directory.rindex(b"PK\x01\x02") :]
    many = directory + last * 1_000
    tail = bytearray(content[end:])
    tail[8:12] = struct.pack("<HH", *(len(entries) + 1_000,) * 2)
    tail[12:16] = struct.pack("<I", len(many))
    return content[:start] + many + bytes(tail)
