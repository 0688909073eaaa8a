"""Pickles and .npy files: plain data comes through whole, and nothing else comes through at all."""
import os
import pickle
import resource
import struct
import subprocess
import sys
from collections import OrderedDict
from fractions import Fraction

import numpy as np
import pytest

from paddlevideo_skel.errors import DataError
from paddlevideo_skel.safe_pickle import load_npy, load_pickle

PLAIN = {
    "text": "走", "bytes": b"\xff\x00", "none": None, "numbers": [1, -2.5, 10**30, True], "tuple": (1, (2,)),
    "set": {1, 2}, "frozen": frozenset("ab"), "ordered": OrderedDict(a=1), 7: "seven", (1, 2): "pair",
}
ARRAYS = [
    np.arange(6, dtype=np.float16).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24, dtype=">f4").reshape(2, 3, 4).transpose(2, 0, 1), np.array(["a", "bc"]), np.array([b"x"]),
    np.array([True, False]), np.array(3), np.zeros((0, 3), np.int8), np.arange(300, dtype=np.int64),
]


@pytest.fixture
def save(tmp_path):
    def save(content, name="file.pkl"):
        path = tmp_path / name
        path.write_bytes(content)
        return path
    return save


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_through(save, protocol):
    assert load_pickle(save(pickle.dumps(PLAIN, protocol))) == PLAIN
    loaded = load_pickle(save(pickle.dumps([*ARRAYS, np.float32(1.5), np.str_("s")], protocol)))
    for expected, found in zip([*ARRAYS, np.float32(1.5), np.str_("s")], loaded, strict=True):
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)


def test_python_2_pickle(save):
    # Written by hand in protocol 2 as Python 2 has it: byte texts, numpy.core, an array's bytes as a text.
    content = (b"\x80\x02}(U\x04nameU\x02\xe9tU\x04datacnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
               b"(I0\ntU\x01btR(I1\n(I2\ntcnumpy\ndtype\n(U\x02f4I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntbI00\nU\x08"
               + struct.pack("<2f", 1.5, -2) + b"tbu.")
    loaded = load_pickle(save(content))
    assert loaded["name"] == "ét"
    assert loaded["data"].tolist() == [1.5, -2]


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("nest", [lambda evil: evil, lambda evil: {"annotations": [{"keypoint": evil}]},
                                  lambda evil: [np.zeros(2), evil]])
def test_nothing_is_executed(save, tmp_path, protocol, nest):
    mark = tmp_path / "ran"
    for function, argument in ((os.system, f"touch {mark}"), (eval, f"open({str(mark)!r}, 'w')"),
                               (subprocess.getoutput, f"touch {mark}")):
        path = save(pickle.dumps(nest(Evil(function, argument)), protocol))
        with pytest.raises(DataError, match=r"file.pkl.*not plain data; it was not run"):
            load_pickle(path)
        assert not mark.exists()
    pickle.loads(pickle.dumps(Evil(os.system, f"touch {mark}")))
    assert mark.exists()  # the same pickle does run when it is read the ordinary way


def test_the_refused_name_is_told(save):
    with pytest.raises(DataError, match=r"posix.system|nt.system"):
        load_pickle(save(pickle.dumps(Evil(os.system, "true"))))
    with pytest.raises(DataError, match=r"builtins.getattr"):
        load_pickle(save(pickle.dumps(Evil(getattr, "a", "b"))))
    with pytest.raises(DataError, match=r"fractions.Fraction"):
        load_pickle(save(pickle.dumps(Fraction(1, 2))))


@pytest.mark.parametrize("array", [np.array([None, {}]), np.array(["a", 1], object), np.zeros(2, "c16"),
                                   np.zeros(2, [("a", "i4")]), np.ma.masked_array([1], [0]), np.zeros(2, "M8[s]")])
@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_of_other_things_are_refused(save, array, protocol):
    with pytest.raises(DataError, match=r"file.pkl"):
        load_pickle(save(pickle.dumps({"keypoint": array}, protocol)))


def test_every_truncation_is_an_error_and_no_crash(save):
    whole = pickle.dumps({"split": {"a": ["x"]}, "annotations": [{"keypoint": ARRAYS[0], "frame_dir": "x"}]}, 2)
    for end in range(len(whole)):
        with pytest.raises(DataError, match=r"file.pkl"):
            load_pickle(save(whole[:end]))


def test_random_damage_is_an_error_or_plain_data(save):
    whole = pickle.dumps({"annotations": [{"keypoint": ARRAYS[0], "label": 3, "frame_dir": "x", "s": {1}}]}, 4)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(len(content))] = rng.integers(256)
        try:
            load_pickle(save(bytes(content)))
        except DataError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(("content", "what"), [(b"", "empty"), (b"hello", "not a pickle"),
                                               (b"PK\x03\x04zip", "outside the file")])
def test_what_is_no_pickle(save, content, what):
    with pytest.raises(DataError, match=what):
        load_pickle(save(content))


def test_missing_and_unreadable(tmp_path):
    with pytest.raises(DataError, match="file not found"):
        load_pickle(tmp_path / "absent.pkl")
    with pytest.raises(DataError, match="cannot be read"):
        load_pickle(tmp_path)
    with pytest.raises(DataError, match="file not found"):
        load_npy(tmp_path / "absent.npy")
    with pytest.raises(DataError, match="cannot be read"):
        load_npy(tmp_path)


def nested_tuple_as_key(depth):
    return b"\x80\x02}" + b")" + b"\x85" * depth + b"K\x01s."


BOMBS = {
    "memo index": b"\x80\x02]r\xff\xff\xff\xff.",
    "length of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "length of bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**31) + b"x.",
    "length of a frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "nested key": nested_tuple_as_key(1_000_000),
    "nested keys": b"\x80\x02}()" + b"\x85" * 1_000_000 + b"K\x01u.",
    "nested key of a dict": b"()" + b"\x85" * 1_000_000 + b"K\x01d.",
    "nested in a set": b"\x80\x04\x8f()" + b"\x85" * 1_000_000 + b"\x90.",
    "nested in a frozenset": b"\x80\x04()" + b"\x85" * 1_000_000 + b"\x91.",
    "calling ndarray": b"\x80\x02cnumpy\nndarray\n(\x8a\x06\x00\x00\x00\x00\x00\x10\x85tR.",
    "bytearray of a size": b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "text encoded again and again": (b"\x80\x02(X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x000"
                                     + b"c_codecs\nencode\nq\x010" + b"h\x01h\x00\x85R" * 20_000 + b"l."),
    "state for a list": b"\x80\x02]}b.",
    "object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "outside reference": b"\x80\x02K\x01Q.",
    "items into an array": pickle.dumps(np.zeros(2), 2)[:-1] + b"(K\x00K\x01u.",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_neither_fill_memory_nor_end_the_process(save, bomb):
    path = save(BOMBS[bomb])
    script = ("import sys, resource; from paddlevideo_skel.safe_pickle import load_pickle\n"
              "from paddlevideo_skel.errors import DataError\n"
              "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
              "try: load_pickle(sys.argv[1])\n"
              "except DataError as error: print(error)\n"
              "else: print('harmless')\n"
              "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
              "sys.exit(f'grew by {grown} KiB' if grown > 200_000 else 0)\n")
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30,) * 2))
    assert done.returncode == 0, done.stderr
    assert ("harmless" if bomb == "memo index" else "file.pkl") in done.stdout


def test_npy(tmp_path):
    path = tmp_path / "a.npy"
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.save(path, array)
    mapped = load_npy(path)
    assert isinstance(mapped, np.memmap) and not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, array)
    assert not isinstance(load_npy(path, mmap=False), np.memmap)


def test_damaged_npy(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(1000.0))
    whole = path.read_bytes()
    for end in (0, 3, 8, 40, 127, 128, 500, len(whole) - 1):
        path.write_bytes(whole[:end])
        for mmap in (True, False):
            with pytest.raises(DataError, match=r"a.npy"):
                load_npy(path, mmap)
    for content, what in ((b"hello world", "not an .npy"), (pickle.dumps([1]), "not an .npy")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=what):
            load_npy(path)
    np.save(path, np.array([{}, None]), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects"):
        load_npy(path)
    np.save(path, np.zeros(2, "c16"))
    with pytest.raises(DataError, match="complex"):
        load_npy(path)
    np.savez(tmp_path / "z.npz", a=np.ones(3))
    with pytest.raises(DataError, match=r"not an .npy"):
        load_npy(tmp_path / "z.npz")
