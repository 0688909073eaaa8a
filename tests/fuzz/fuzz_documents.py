"""Arrays, texts and archives that are not what they say, or hold what nobody expects."""
import io
import json
import pickle
import struct
import zipfile
from itertools import pairwise

import numpy as np
from fuzz_seeds import CONFIG, LAYOUT, entry, npy, numbers


def zipped(entries, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name) if isinstance(name, str) else name, content, compression)
    return file.getvalue()


# Arrays, text formats, archives of arrays.


def headers():
    """``.npy`` files with a header that is not true, or not a header."""
    plain = {"descr": "<f4", "fortran_order": False, "shape": (3, 6, 5, 2)}
    body = numbers(0, (3, 6, 5, 2)).tobytes()

    def file(header, version=1, length=None, content=body):
        header = header if isinstance(header, bytes) else repr(header).encode()
        size = struct.pack("<H" if version == 1 else "<I", len(header) if length is None else length)
        return b"\x93NUMPY" + bytes([version, 0]) + size + header + content

    shapes = [
        (1 << 40,),
        (1 << 28,),
        (1 << 20, 1 << 20, 1 << 20),
        (-1, 3),
        (-2, -90),
        (0, 1 << 62),
        (1 << 63,),
        (10**400,),
        (3.0, 6),
        ("a",),
        (),
        (True,),
        [3, 6, 5, 2],
        None,
        (1,) * 65,
        (180, 1 << 40),
    ]
    descrs = [
        "<f4, <f4",
        "O",
        "|O8",
        "V16",
        "<M8[ns]",
        "<c8",
        "<U99999999",
        "<f17",
        "",
        "x" * 5000,
        [("a", "<f4")],
        None,
        [("a", "O")],
        ("<f4", (1 << 30,)),
        ("<f4", (2,)),
        ">f4",
        "f4",
        {"names": ["a"], "formats": ["O"]},
        [("a", "<f4", (1 << 31,))],
        3,
        "os.system('true')",
        "<f2",
        "|b1",
        "<U2",
        "|S4",
    ]
    for shape in shapes:
        yield file({**plain, "shape": shape}), f"the shape {str(shape)[:40]}"
    for descr in descrs:
        yield file({**plain, "descr": descr}), f"the type {str(descr)[:40]}"
    for order in (True, None, 1, "C", []):
        yield file({**plain, "fortran_order": order}), f"the order {order}"
    for version in (0, 2, 3, 4, 255):
        yield file(plain, version), f"version {version}"
        yield file(plain, version, 0xFFFFFFF0 if version != 1 else 0xFFFF), f"version {version} and a long header"
    yield file(b" " * 60_000 + repr(plain).encode()), "a header of 60,000 characters"
    for what, header in {
        "a call": b"__import__('os').system('true')",
        "a nest": b"(" * 9_000 + b")" * 9_000,
        "minuses": b"-" * 9_000 + b"1",
        "a list": b"[" * 90 + b"]" * 90,
        "nothing": b"",
        "text": b"hello",
        "open": b"{'descr': '<f4', 'shape': (",
        "zero bytes": b"\0" * 100,
        "a number": b"9" * 9_000,
        "twice": b"{'descr': '<f4', 'descr': 'O', 'fortran_order': False, 'shape': (3,)}",
        "more": repr({**plain, "x": 1}).encode(),
        "long": b"{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 6L, 5L, 2L)}",
        "a power": b"9**9**9**9",
        "text times": b"'a' * 10**10",
        "no ascii": "{'descr': '<f4é'}".encode(),
        "half": "{'descr': '<f4é'}".encode("latin1"),
    }.items():
        for version in (1, 2, 3):
            yield file(header, version), f"{what} as header, version {version}"
    yield b"\x93NUMPY", "only a magic number"
    yield file(plain, content=body[:-1]), "a byte too few"
    yield file(plain, content=body + b"x"), "a byte too many"


def json_texts():
    """Texts that JSON's parser, or what comes after it, could stumble over."""
    yield b"[" * 100_000, "lists without end"
    yield b"[" * 900 + b"]" * 900, "900 lists"
    yield b'{"a":' * 900 + b"1" + b"}" * 900, "900 objects"
    yield b'{"a":' * 100_000, "objects without end"
    for word in (
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b"-0",
        b"null",
        b"true",
        b"3",
        b"1.5",
        b'"text"',
        b"[]",
        b"{}",
        b"9" * 4_000,
        b"9" * 100_000,
        b"1e" + b"9" * 4_000,
        b'"\\ud800"',
        b'"\\u0000"',
        b"[[]]",
        b"[null]",
        b"[{}]",
        b'{"": 1}',
        b'{"a": null}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\0}\0",
        b"",
        b" ",
        b"\0",
        b"[1,]",
        b'{"a": 1, "a": 2}',
    ):
        yield word, word[:20].decode("latin1")


# What stands in the place of an entry of a JSON or YAML document.
ODD = [
    None,
    True,
    -1,
    0,
    1,
    1.5,
    1e999,
    float("nan"),
    10**30,
    int("9" * 4_000),
    "",
    "text",
    "..",
    "../../x",
    "/etc/passwd",
    "a\0b",
    "n" * 300,
    "n" * 10_000,
    "\ud800",
    "a\nb",
    [],
    [1],
    [[1]],
    [None],
    {},
    {"a": 1},
    [[[[1]]]],
    ["x"] * 3,
    [-1, 3],
    [1 << 40, 1 << 40, 1 << 40],
    "٣",
    [1e999],
    [True],
    10**9,
    10**12,
]


def replaced(document):
    """A JSON document with each of its entries in turn left out, or in its place each of ``ODD``."""
    content = json.loads(document)
    for path in _paths(content):
        yield json.dumps(_with(content, path, None, remove=True)).encode(), f"{path} left out"
        for value in ODD:
            yield json.dumps(_with(content, path, value)).encode(), f"{path} is {str(value)[:40]!r}"


def _paths(content, path=(), deepest=3):
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(items)[:12]:
        yield (*path, key)
        if len(path) + 1 < deepest:
            yield from _paths(value, (*path, key), deepest)


def _with(content, path, value, remove=False):
    result = json.loads(json.dumps(content))
    node = result
    for key in path[:-1]:
        node = node[key]
    if remove:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return result


def yaml_texts():
    """YAML whose aliases, merges, tags, numbers or depth are too much."""
    names = "abcdefghij"
    lists = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in pairwise(names))
    dicts = "".join(f"{b}: &{b} {{{', '.join(f'k{i}: *{a}' for i in range(10))}}}\n" for a, b in pairwise(names))
    merges = "".join(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 10)}]}}\n" for a, b in pairwise(names))
    yield f"a: &a [x]\n{lists}", "a billion by aliases"
    yield f"a: &a {{x: y}}\n{dicts}", "a billion in mappings"
    yield f"a: &a {{x: y}}\n{merges}", "a billion by merges"
    yield "a: &a [*a]\n", "itself"
    yield "a: &a {b: *a}\n", "a mapping in itself"
    yield "a: &a {<<: *a}\n", "a mapping merged into itself"
    yield "[" * 65_000, "lists without end"
    yield "{a: " * 16_000, "mappings without end"
    yield "- " * 32_000 + "x", "items in items"
    yield "? " * 5_000 + "x", "keys of keys"
    yield "x: " + "[" * 300 + "]" * 300, "300 lists"
    yield "a: " + "x" * 3_000_000, "three million characters"
    yield "".join(f"k{i}: {i}\n" for i in range(60_000)), "60,000 keys"
    yield "a: [" + "1, " * 100_000 + "]", "300,000 numbers"
    for tag in (
        "!!int ''",
        "!!int x",
        "!!float ''",
        "!!float x",
        "!!bool maybe",
        "!!null x",
        "!!timestamp x",
        "!!binary '*'",
        "!!map x",
        "!!map [a]",
        "!!seq x",
        "!!seq {a: b}",
        "!!str [a]",
        "!!set [a]",
        "!!set {a: b}",
        "!!omap x",
        "!!omap [a]",
        "!!pairs {a: b}",
        "!!merge x",
        "!!value x",
        "! x",
        "!!x y",
        "!<tag:yaml.org,2002:int> 0x",
        "!!int 0b",
        "!!int 1:2:x",
        "!!float 1:x",
        "!!int -",
        "!!float -",
        "!!binary [a]",
        "!!timestamp 2001-99-99",
    ):
        yield f"a: {tag}", tag
        yield f"? {tag}\n: b", f"{tag} as a key"
        yield f"class_names: [{tag}]" if "[" not in tag else f"class_names: {tag}", f"{tag} in a list"
    for value in (
        "0x" + "f" * 20_000,
        "0b" + "1" * 90_000,
        "9" * 5_000,
        "2001-99-99",
        "1e999",
        ".nan",
        "'('",
        "(" + "-" * 5_000 + "1)",
        "(" + "-" * 60_000 + "1)",
        "(" + "1," * 50_000 + ")",
        "(1e999)",
        "(0123)",
        "(1 2)",
        "(,)",
        "(" + "9" * 5_000 + ",)",
        "0o9",
        "1:" * 5_000 + "1",
        "190:20:30",
        "=",
        "<<",
        "*x",
        "&x",
        "%",
        "@",
        "`",
        "\t",
        "|",
        ">",
        "2001-12-14t21:59:43.10-99:99",
        "'\\0'",
        '"\\0"',
        '"\\ud800"',
        "[1, 2",
        "{a",
        "\x07",
        "é",
    ):
        for key in ("model_name", "epochs", "class_names", "MODEL"):
            yield f"{key}: {value}", f"{key} is {value[:30]}"


def yaml_documents():
    """The seeds' documents with entries replaced: of a config, and of a layout."""
    for key, values in {
        "joints": ["1000000000", "0", "-1", "true", "[]", "[a, a]", "x", "{a: b}", "[1, [2]]", "100000", "null", "1.5"],
        "bones": [
            "3",
            "x",
            "[]",
            "[[0, 0]]",
            "[[0]]",
            "[[0, 9]]",
            "[[a, b]]",
            "[0, 1]",
            "{a: b}",
            "null",
            "[[0, 1, 2]]",
        ],
        "center": ["9", "-1", "x", "[0]", "true", "null", "1.5"],
        "left": ["3", "x", "[3, 3]", "{a: b}", "[[1]]", "true"],
        "right": ["3", "[9]", "null"],
        "one_based": ["true", "x", "3"],
        "bone_parents": ["3", "[0]", "[0, 1, 2, 3, 99]", "x"],
        "name": ["[1]", "3"],
        "unknown": ["1"],
    }.items():
        for value in values:
            lines = [line for line in LAYOUT.decode().splitlines() if not line.strip().startswith(f"{key}:")]
            text = "\n".join([*lines, f"    {key}: {value}", ""])
            yield "layout_file", "layout.yaml", text.encode(), f"{key} is {value}"
            yield "config", "x.yaml", CONFIG.replace(LAYOUT, text.encode()), f"the layout's {key} is {value}"
    for section in (
        "MODEL",
        "DATASET",
        "PIPELINE",
        "OPTIMIZER",
        "LAYOUT",
        "PRECISEBN",
        "METRIC",
        "INFERENCE",
        "MIX",
        "x",
        "3",
    ):
        for value in (
            "",
            "3",
            "x",
            "[]",
            "{}",
            "[1]",
            "{x: 1}",
            "{3: 4}",
            "{train: 3}",
            "{train: [x]}",
            "{name: [1]}",
            "{[1]: 2}",
            "{null: 1}",
            "{true: 1}",
            "{head: 3}",
            "{models: 3}",
            "{models: [3]}",
            "{models: [{a: {head: 3}}]}",
            "{backbone: {layout: [1]}}",
            "{mine: 3}",
            "{mine: []}",
            "{window_size: x}",
            "{batch_size: 0}",
            "2001-01-01",
        ):
            text = CONFIG.decode().split(f"\n{section}:")[0] if section != "LAYOUT" else "epochs: 1"
            yield "config", "x.yaml", f"{text}\n{section}: {value}\n".encode(), f"{section} is {value}"


def tables():
    """Text tables with zero bytes, giant fields, and rows and numbers that are none."""
    header = b"frame," + b",".join(f"{j}_{axis}".encode() for j in range(17) for axis in "xy")
    row = b",".join([b"0"] + [b"1.5"] * 34)
    for name, content in {
        "a zero byte": header + b"\n" + row.replace(b"1.5", b"1\x005", 1),
        "a giant field": header + b"\n" + b"9" * 100_000 + row,
        "a giant text": header + b'\n"' + b"x" * 100_000 + b'",' + row,
        "a quote": header + b'\n"' + row,
        "no rows": header,
        "rows alone": row,
        "frames far apart": header + b"\n" + row + b"\n" + row.replace(b"0", b"999999999", 1),
        "frames further": header + b"\n" + row + b"\n" + row.replace(b"0", b"1e18", 1),
        "a frame twice": header + b"\n" + row + b"\n" + row,
        "half a frame": header + b"\n" + row.replace(b"0", b"0.5", 1),
        "no frame": header + b"\n" + row.replace(b"0", b"", 1),
        "a frame that is none": header + b"\n" + row.replace(b"0", b"nan", 1),
        "infinite": header + b"\n" + row.replace(b"1.5", b"inf", 1),
        "too large": header + b"\n" + row.replace(b"1.5", b"1e39", 1),
        "underscores": header + b"\n" + row.replace(b"1.5", b"1_5", 1),
        "other digits": header + b"\n" + row.replace(b"1.5", "١".encode(), 1),
        "hexadecimal": header + b"\n" + row.replace(b"1.5", b"0x5", 1),
        "many columns": header + b"," * 100_000 + b"\n" + row,
        "many rows": header + b"\n" + b"\n".join(row.replace(b"0", str(i).encode(), 1) for i in range(3_000)),
        "one joint less": header.replace(b",16_y", b"") + b"\n" + row,
        "names twice": header.replace(b"16_x", b"15_x") + b"\n" + row,
        "person alone": header.replace(b"frame", b"person") + b"\n" + row,
        "old line ends": header + b"\r" + row,
        "utf-16": (header + b"\n" + row).decode().encode("utf-16"),
        "no text": bytes(range(256)),
        "nothing": b"",
        "commas": b",,,,",
        "long digits": header + b"\n" + row.replace(b"1.5", b"9" * 5_000, 1),
        "many persons": header.replace(b"frame", b"frame,person")
        + b"\n"
        + b"\n".join(f"{i},{i},".encode() + row[2:] for i in range(2_000)),
    }.items():
        for kind in ("csv", "tsv"):
            yield f"keypoints_{kind}", f"x.{kind}", content, name
        yield "keypoints_long_csv", "long.csv", content.replace(b"0_x", b"joint", 1), name
        for kind in ("csv", "txt"):
            yield f"label_list_{kind}", f"list.{kind}", content, name
    for label in ("9999999999", "9" * 5_000, "-1", "1.5", "²", "١", "0x1", "", '"', "a\0b", "nan", "1e5", "9" * 8):
        for kind, text in (
            ("csv", f"a,0\nb,{label}\n"),
            ("txt", f"a 0\nb {label}\n"),
            ("json", json.dumps({"a": 0, "b": label})),
        ):
            yield f"label_list_{kind}", f"list.{kind}", text.encode(), f"the label {label[:20]}"
        yield (
            "bin_labels",
            "label.txt",
            f"00000.bin 0\n00001.bin {label}\n00002.bin 1".encode(),
            f"the label {label[:20]}",
        )


def names():
    """Names of samples and files where a name becomes a path."""
    for name in (
        "../../etc/passwd",
        "/etc/passwd",
        "a/../b",
        "..",
        ".",
        "",
        "a\0b",
        "a\nb",
        "n" * 300,
        "n" * 10_000,
        "\ud800",
        "é",
        "con",
        "a\\b",
        "~",
        "~root",
        "*",
        "-rf",
        " ",
        "a b",
        "\u202e",
        "/dev/zero",
        "//x",
        "a/" * 3_000,
        "\x7f",
    ):
        shown = f"the name {name[:20]!r}"
        kp = {
            "frame_dir": "v0",
            "label": 0,
            "img_shape": (48, 64),
            "total_frames": 4,
            "raw_file": name,
            "frame_inds": np.array([0, 0, 1, 2, 3]),
            "box_score": np.full(5, 0.9, "f4"),
        }
        yield (
            "kpfiles",
            "x.pkl",
            pickle.dumps({"split": {"train": ["v0"]}, "annotations": [kp]}, 4),
            f"raw_file: {shown}",
        )
        del kp["raw_file"]
        yield (
            "kpfiles",
            "x.pkl",
            pickle.dumps({"split": {"train": [name]}, "annotations": [{**kp, "frame_dir": name}]}, 4),
            f"frame_dir: {shown}",
        )
        data = pickle.dumps({"split": {name: ["s0", "s1"]}, "annotations": [entry(0), entry(1)]}, 4)
        yield "pickle_as_arrays", "x.pkl", data, f"split: {shown}"
        yield "inspected_pickle", "x.pkl", data, f"split: {shown}"
        data = pickle.dumps({"split": {"train": [name]}, "annotations": [entry(0, frame_dir=name), entry(1)]}, 4)
        for reader in ("pickle_as_arrays", "pickle_split_anew", "inspected_pickle", "split_of_annotations"):
            yield reader, "x.pkl", data, f"frame_dir: {shown}"
        data = pickle.dumps(([name, "b", "c"], [0, 1, 3]), 4)
        for reader in ("array_set", "arrays_as_pickle", "array_split_anew"):
            yield reader, "x_label.pkl", data, shown
        listed = f"{name},0\nb,1\n".encode("utf-8", "surrogatepass")
        yield "listed_samples", "list.csv", listed, shown
        yield "label_list_csv", "list.csv", listed, shown
        yield (
            "bin_labels",
            "label.txt",
            f"00000.bin 0 {name}\n00001.bin 1\n00002.bin 1".encode("utf-8", "surrogatepass"),
            shown,
        )
        yield "class_names_file", "names.txt", f"a\n{name}\n".encode("utf-8", "surrogatepass"), shown
        if name.endswith("/etc/passwd"):
            continue  # a config may name a file of class names anywhere
        yield (
            "config",
            "x.yaml",
            CONFIG.replace(b'[wave, squat, "sit down"]', json.dumps(name).encode()),
            f"class_names: {shown}",
        )


def archives_of_arrays():
    """Self-checks that swell, or hold other things than the metadata says."""

    def npz(**entries):
        file = io.BytesIO()
        np.savez_compressed(file, **entries)
        return file.getvalue()

    right = {"input": numbers(0, (2, 3, 4, 5, 1)), "logits": numbers(1, (2, 6))}
    header = npy(np.zeros((1, 1), "f4"))[:128].replace(b"(1, 1)", b"(9999999, 9999)")
    yield npz(**right, x=np.zeros(1 << 20, "f4")), "another entry"
    yield npz(input=np.zeros(20 << 20, "f4"), logits=right["logits"]), "an input of 80 MiB"
    yield zipped([("input.npy", header), ("logits.npy", npy(right["logits"]))]), "a header that announces much"
    yield (
        zipped([("input.npy", b"\0" * (1 << 26)), ("logits.npy", npy(right["logits"]))], zipfile.ZIP_DEFLATED),
        "zeros",
    )
    yield zipped([("input.npy", b"hello"), ("logits.npy", b"hello")]), "no arrays"
    yield zipped([("input", npy(right["input"])), ("logits", npy(right["logits"]))]), "names without a suffix"
    yield zipped([("../input.npy", npy(right["input"]))]), "a path"
    yield npz(**{**right, "input": right["input"].astype("f8")}), "float64"
    yield npz(**{**right, "input": right["input"] * np.nan}), "no numbers"
    yield npz(**{**right, "logits": right["logits"] * 0}), "zeros as answers"
    yield npz(**{**right, "logits": np.array("text")}), "a text"
    yield npz(**right, scale=np.array("text")), "a text as scale"
    yield npz(**right, scale=np.zeros((1 << 20, 1, 1, 1, 1, 1), "f4")), "a scale that does not fit"
    yield npz(**{**right, "logits": np.zeros((2, 0), "f4")}), "no classes"
    yield npz(**{**right, "logits": np.float32(1)}), "one number"
    yield npz(), "nothing"
    yield b"PK\x05\x06" + bytes(18), "an empty archive"
    yield npy(right["input"]), "an array"
