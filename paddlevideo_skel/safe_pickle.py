"""Read untrusted pickles and ``.npy`` files as plain data: nothing in them is ever executed.

A pickle is a program for a stack machine. This machine knows plain containers, scalars, and NumPy arrays of numbers and
text; it refuses everything else by name, before importing it. It is based on Python's own unpickler in pure Python:
only there can individual opcodes be restricted. The C unpickler lets a 40-byte file fill 64 GB (an index into its memo)
or kill the process (a deeply nested tuple as a key).
"""
import pickle
import re
import struct
from collections import OrderedDict
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np

from .errors import DataError

ARRAY_CODES = re.compile(r"[<>|=]?(b1|[iu][1248]|f(2|4|8|16)|[SU][1-9]\d{0,7})")
NPY_KINDS = "biufSU"
SCALARS = (str, bytes, int, float, bool, type(None), np.generic)
# Longer integers cannot be printed in a message.
MAX_NUMBER_BYTES = 255
# References let a few bytes stand for billions of values. With all references expanded, the content may be at most
# this many times as large as its file, plus a minimum.
MAX_PICKLE_GROWTH, MIN_GROWTH_BYTES = 16, 1 << 20
MAX_NESTING = 100
MAX_HEADER_BYTES = 10_000  # bytes of an .npy header; about 100 are usual
# In place of numpy.ndarray, which must not be callable: a call would return uninitialised memory of any size.
NDARRAY = object()
PLAIN_HINT = "Save a pickle of dicts, lists, numbers, texts and numeric arrays"


def load_pickle(path):
    """The content of a pickle of plain containers, scalars, and numeric or text arrays.

    Pickles of Python 2 (strings read as Latin-1) and of any NumPy version are read. Arrays may be read-only.

    Raises:
        DataError: the file is missing, unreadable, empty, damaged or not a pickle, needs far more memory than its
            size, or names anything that is not plain data (the message says what; it was not run).
    """
    path = Path(path)
    with reading(path), open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if not size:
            raise DataError(path, "is empty, expected a pickle", "Copy or download it again")
        return PlainUnpickler(file, size, path).load()


@contextmanager
def reading(path):
    """Turn every error inside the block, which reads a pickle, into a ``DataError``."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    except MemoryError as error:
        raise DataError(path, "needs more memory than is available", PLAIN_HINT) from error
    except RecursionError as error:
        raise DataError(path, "is nested too deeply for a data set", PLAIN_HINT) from error
    except Exception as error:
        # A file may contain any bytes, and the unpickler may fail on them in any way; all failures mean the same.
        raise DataError(path, f"is damaged, incomplete or not a pickle ({type(error).__name__}: {error})",
                        "Copy or download it again") from error


def load_npy(path, mmap=True):
    """The array of an ``.npy`` file, memory-mapped read-only unless ``mmap`` is false.

    Raises:
        DataError: missing, unreadable, damaged, incomplete, not an ``.npy`` file, or not of numbers or text.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(12)
        if head[:6] != b"\x93NUMPY":
            raise DataError(path, f"begins with {head[:6]!r}, which is not an .npy file" if head else "is empty",
                            "Write it with numpy.save")
        length = int.from_bytes(head[8:10] if head[6:7] == b"\x01" else head[8:12], "little")
        if length > MAX_HEADER_BYTES:
            raise DataError(path, f"is damaged: its header would have {length} bytes", "Copy or download it again")
        # Always memory-map first: this compares the header with the file size before memory is allocated.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        array = array if mmap else np.array(array)
    except DataError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    except Exception as error:
        # The header is a Python expression; invalid ones fail in many ways.
        objects = "Object arrays" in str(error) or "Python objects" in str(error)
        problem = "is an array of Python objects" if objects else f"is damaged or incomplete ({error})"
        raise DataError(path, f"{problem}, expected an array of numbers",
                        "Save one numeric array" if objects else "Copy or download it again") from error
    if array.dtype.kind not in NPY_KINDS:
        raise DataError(path, f"is an array of {array.dtype}, expected numbers", "Save one numeric array")
    return array


def _unreadable(path, error):
    if isinstance(error, FileNotFoundError):
        return DataError(path, "file not found", f"Check the path; the working directory is {Path.cwd()}")
    return DataError(path, f"cannot be read ({error.strerror or error})", "Check its kind and permissions")


class _Dtype:
    """A dtype as the pickle describes it, checked when it is used: NumPy's own would accept any state."""

    __slots__ = ("code", "order")

    def __init__(self, code):
        self.code, self.order = code, "="


class PlainUnpickler(pickle._Unpickler):
    """An unpickler with few globals and restricted opcodes. ``size``: of the file in bytes."""

    hashable = SCALARS

    def __init__(self, file, size, path):
        def read(count):
            if count > size:
                raise EOFError("requests more bytes than the file has")
            return file.read(count)

        self.path, self.size = path, size
        self.budget = 2 * size + MIN_GROWTH_BYTES
        bounded = type("Bounded", (), {"read": staticmethod(read), "readline": file.readline})
        super().__init__(bounded, encoding="latin1")
        builtin = {"set": self._set, "frozenset": self._frozenset, "bytearray": self._bytes, "bytes": self._bytes}
        array = {"_reconstruct": self._reconstruct, "scalar": self._scalar}
        self.known = {"builtins": builtin, "__builtin__": builtin, "_codecs": {"encode": self._bytes},
                      "collections": {"OrderedDict": self._ordered_dict},
                      "numpy": {"dtype": self._dtype, "ndarray": NDARRAY},
                      **{f"numpy.{core}.multiarray": array for core in ("core", "_core")},
                      **{f"numpy.{core}.numeric": {"_frombuffer": self._frombuffer} for core in ("core", "_core")}}

    def load(self):
        content = super().load()
        self._measure(content)
        return content

    def _measure(self, content):
        """Refuse content that is too deeply nested, contains itself, or expands through references."""
        most, counts, within = MAX_PICKLE_GROWTH * self.size + MIN_GROWTH_BYTES, {}, set()
        path = [(None, iter((content,)))]
        total = [0]
        while path:
            for value in path[-1][1]:
                if not isinstance(value, (list, tuple, dict, set, frozenset)):
                    total[-1] += 1 + (len(value) if isinstance(value, (str, bytes)) else 0)
                elif id(value) in counts:
                    total[-1] += counts[id(value)]
                elif id(value) in within or len(path) > MAX_NESTING:
                    raise DataError(self.path, "is nested too deeply for a data set", PLAIN_HINT)
                else:
                    within.add(id(value))
                    inside = chain(value, value.values()) if isinstance(value, dict) else iter(value)
                    path.append((value, inside))
                    total.append(1)
                    break
            else:
                value, _ = path.pop()
                counts[id(value)] = total.pop()
                within.discard(id(value))
                if counts[id(value)] > most:
                    self._refuse_growth()
                if path:
                    total[-1] += counts[id(value)]

    def find_class(self, module, name):
        if name not in self.known.get(module, ()):
            raise DataError(self.path, f"contains {module}.{name}, which is not plain data; it was not run", PLAIN_HINT)
        return self.known[module][name]

    def persistent_load(self, pid):
        raise self._refused("a reference to an object outside the file")

    def _refused(self, what):
        return DataError(self.path, f"contains {what}, which is not plain data", PLAIN_HINT)

    def _spend(self, amount):
        # Opcodes can be repeated on data that the file contains once: their results may not be much larger than the
        # file.
        self.budget -= amount
        if self.budget < 0:
            self._refuse_growth()

    def _refuse_growth(self):
        raise DataError(self.path, f"would expand to many times its {self.size} bytes in memory", PLAIN_HINT)

    def _keys(self, keys):
        # Hashing a deeply nested tuple would kill the process; long numbers can be chosen to have equal hashes.
        for key in keys:
            parts = key if type(key) is tuple else (key,)
            if not all(isinstance(part, self.hashable) and not isinstance(part, np.longdouble) for part in parts):
                raise self._refused(f"a {type(key).__name__} as a key")
            if any(isinstance(part, int) and part.bit_length() > 64 for part in parts):
                raise self._refused("a number of more than 64 bits as a key")

    # The known globals.

    def _bytes(self, value=b"", encoding="latin1"):
        if encoding not in ("latin1", "latin-1", "iso8859-1", "iso-8859-1"):
            raise self._refused("bytes in an encoding other than Latin 1")
        if not isinstance(value, (str, bytes, bytearray)):
            raise self._refused(f"bytes made from a {type(value).__name__}")
        self._spend(len(value))
        return value.encode("latin1") if isinstance(value, str) else bytes(value)

    def _set(self, items=()):
        self._spend(8 * len(items))
        self._keys(items)
        return set(items)

    def _frozenset(self, items=()):
        return frozenset(self._set(items))

    def _ordered_dict(self, pairs=()):
        self._spend(8 * len(pairs))
        self._keys(key for key, _ in pairs)
        return OrderedDict(pairs)

    def _dtype(self, code, align=False, copy=True):
        if not isinstance(code, str) or not ARRAY_CODES.fullmatch(code):
            shown = repr(code[:80]) if isinstance(code, str) else f"a {type(code).__name__}"
            raise DataError(self.path, f"contains an array of type {shown}, expected numbers or text", PLAIN_HINT)
        return _Dtype(code)

    def _real_dtype(self, dtype):
        if type(dtype) is not _Dtype:
            raise self._refused("an array without a type")
        real = np.dtype(dtype.code)
        return real.newbyteorder(dtype.order) if dtype.order in "<>" else real

    def _reconstruct(self, cls, shape, code):
        if cls is not NDARRAY:
            raise self._refused("a special kind of array")
        return np.empty(0, "i1")

    def _scalar(self, dtype, raw):
        return self._array(dtype, raw, ())[()]

    def _frombuffer(self, raw, dtype, shape, order, axes=None):
        array = self._array(dtype, raw, shape, "F" if order == "F" else "C")
        return array.transpose(*axes) if order == "K" and axes is not None else array

    def _array(self, dtype, raw, shape, order="C"):
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(raw, (bytes, bytearray)):
            raise self._refused("an array of Python objects")
        if type(shape) is not tuple or not all(type(count) is int for count in shape):
            raise self._refused("an array without a shape")
        self._spend(len(raw))
        return np.frombuffer(raw, self._real_dtype(dtype)).reshape(shape, order=order)

    # Restricted opcodes.

    def load_build(self):
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is _Dtype:
            if any(part is not None for part in state[2:5]):
                raise self._refused("an array of records")
            if state[1] not in ("<", ">", "=", "|"):
                raise ValueError("unknown byte order")
            target.order = state[1]
        elif type(target) is np.ndarray:
            _, shape, dtype, fortran, raw = state
            array = self._array(dtype, raw, shape, "F" if fortran else "C")
            # The machine has already stored this array for later references: fill it, do not replace it. NumPy gets
            # a state that was just checked, and keeps the bytes without a copy.
            raw = raw if isinstance(raw, bytes) else array.tobytes("A")
            target.__setstate__((1, array.shape, array.dtype, bool(fortran), raw))
        else:
            raise self._refused(f"a state for a {type(target).__name__}")

    def load_setitems(self):
        self._keys(self.stack[::2])
        self._into(self.metastack[-1][-1], dict)
        super().load_setitems()

    def load_setitem(self):
        self._keys(self.stack[-2:-1])
        self._into(self.stack[-3], dict)
        super().load_setitem()

    def load_appends(self):
        self._into(self.metastack[-1][-1], list)
        super().load_appends()

    def load_append(self):
        self._into(self.stack[-2], list)
        super().load_append()

    def load_additems(self):
        self._keys(self.stack)
        self._into(self.metastack[-1][-1], set)
        super().load_additems()

    def load_dict(self):
        self._keys(self.stack[::2])
        super().load_dict()

    def load_frozenset(self):
        self._keys(self.stack)
        super().load_frozenset()

    def _into(self, target, kind):
        if not isinstance(target, kind):
            raise self._refused(f"items put into a {type(target).__name__}")

    def load_bytearray8(self):
        count, = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(count)))

    def load_long4(self):
        count, = struct.unpack("<i", self.read(4))
        if not 0 <= count <= MAX_NUMBER_BYTES:
            raise self._refused(f"a whole number of {count} bytes")
        self.append(pickle.decode_long(self.read(count)))

    def load_object(self):
        raise self._refused("an object")

    dispatch = {**pickle._Unpickler.dispatch, **{
        pickle.BUILD[0]: load_build, pickle.SETITEMS[0]: load_setitems, pickle.SETITEM[0]: load_setitem,
        pickle.APPENDS[0]: load_appends, pickle.APPEND[0]: load_append, pickle.ADDITEMS[0]: load_additems,
        pickle.DICT[0]: load_dict, pickle.FROZENSET[0]: load_frozenset, pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.LONG4[0]: load_long4,
        **dict.fromkeys((code[0] for code in (pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1,
                                              pickle.EXT2, pickle.EXT4)), load_object),
    }}
