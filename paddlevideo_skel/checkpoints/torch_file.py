"""Read PyTorch files without PyTorch and without executing anything in them.

There are two formats. Since PyTorch 1.6 a file is a zip archive: ``<name>/data.pkl``, whose tensors refer to the
storages ``<name>/data/<key>``. The legacy format, still available on request, is a series of pickles (a magic number,
the protocol's version, the machine, the content, the storages' keys) followed by the storages themselves. A tensor is a
view into a storage; several tensors may share one.

The pickles are read by the restricted unpickler of ``safe_pickle``. Objects of unknown classes (a config, an optimizer,
a history of losses) become inert ``Foreign`` objects; their classes are never imported.
"""
import io
import math
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CheckpointError, DataError
from ..safe_pickle import NDARRAY, PLAIN_HINT, SCALARS, PlainUnpickler, reading

LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")  # the pickle of 0x1950a86a20f9469cfc6c, without its header
LEGACY_PROTOCOL = 1001
STORAGES = {"DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "bf16",
            "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
            "BoolStorage": "b1", "UntypedStorage": "u1"}
DTYPES = {"torch.float64": "f8", "torch.float32": "f4", "torch.float16": "f2", "torch.bfloat16": "bf16",
          "torch.int64": "i8", "torch.int32": "i4", "torch.int16": "i2", "torch.int8": "i1", "torch.uint8": "u1",
          "torch.bool": "b1", "torch.uint16": "u2", "torch.uint32": "u4", "torch.uint64": "u8"}
MAX_AXES = 16
# PyTorch does not compress. Unpacked and copied data may be at most MAX_GROWTH times the file's size, plus FREE_BYTES.
MAX_GROWTH, FREE_BYTES = 16, 16 << 20
_HINT = "Download it again, or save it again with torch.save(model.state_dict(), ...)"


class Foreign:
    """Stands for an unknown class, for an object of it, and for the result of calling it."""

    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"an object of {self.name}"

    def _nothing(self, *_):
        """Accept whatever a pickle puts into such an object."""

    append = extend = add = __setitem__ = _nothing


@dataclass(frozen=True)
class _Storage:
    """A range of numbers in the file; ``kind`` is a NumPy code, ``bf16``, or the name of an unsupported type."""
    key: str
    kind: str
    numel: int
    part: tuple = None


@dataclass(frozen=True)
class Tensor:
    """A view into a storage, not read yet."""
    storage: _Storage
    kind: str
    offset: int
    size: tuple
    stride: tuple


def is_torch(head):
    """Whether a file is PyTorch's; ``head`` is its first 300 bytes, or all of it."""
    return head.startswith(b"PK\x03\x04") or LEGACY_MAGIC in head[:32] or _is_tar(head)


def _is_tar(head):
    return head[257:262] == b"ustar"


@contextmanager
def open_torch(path):
    """A PyTorch file for reading: ``content``, ``form`` and ``array(tensor)``.

    Raises:
        CheckpointError: damaged, truncated, in an unsupported format, or far larger in memory than on disk. Errors
            raised by the block itself pass through unchanged.
    """
    path = Path(path)
    with _checkpoint_errors(path), reading(path):
        file = open(path, "rb")  # noqa: SIM115  (closed below; only errors of opening belong here)
    with file:
        with _checkpoint_errors(path), reading(path):
            head = file.read(300)
            if _is_tar(head):
                raise DataError(path, "is a tar archive of PyTorch 0.1.10 or older, which is not supported",
                                "Load it with PyTorch 0.2 to 1.5 and save it again")
            kind = _Zip if head.startswith(b"PK") else _Legacy
            opened = kind(file, path)
        yield opened


@contextmanager
def _checkpoint_errors(path):
    try:
        yield
    except DataError as error:
        raise CheckpointError(path, error.problem, _HINT if error.hint == PLAIN_HINT else error.hint) from error


class _Machine(PlainUnpickler):
    """The restricted unpickler, extended by tensors, and by ``Foreign`` for unknown classes."""

    hashable = (*SCALARS, Foreign)

    def __init__(self, file, size, path):
        super().__init__(file, size, path)
        self.storages = {}
        self.rebuilds = {"_rebuild_tensor": self._tensor, "_rebuild_tensor_v2": self._tensor,
                         "_rebuild_tensor_v3": self._tensor_v3, "_rebuild_parameter": self._parameter,
                         "_rebuild_parameter_with_state": self._parameter}
        self.known["torch._utils"] = self.rebuilds
        self.known["torch._tensor"] = {"_rebuild_from_type_v2": self._subclass}
        self.known["torch"] = {"Size": self._size}
        for module in list(self.known):
            if module.split(".")[0] == "numpy":
                self.known[module] = {name: self._or_foreign(step) for name, step in self.known[module].items()}

    def find_class(self, module, name):
        known = self.known.get(module, {})
        if name in known:
            return known[name]
        self._spend(len(module) + len(name))
        return Foreign(f"{module}.{name}")

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or not pid or pid[0] not in ("storage", "module"):
            raise self._refused("a reference to an object outside the file")
        if pid[0] == "module":
            return pid[1]
        cls, key, numel = pid[1], pid[2], pid[4]
        if not isinstance(cls, Foreign) or not isinstance(key, (str, int)) or not _whole(numel):
            raise self._refused("a storage without a type or a length")
        key = str(key)
        module, _, name = cls.name.rpartition(".")
        kind = STORAGES.get(name.lstrip("_"), cls.name) if module.split(".")[0] == "torch" else cls.name
        root = self.storages.setdefault(key, _Storage(key, kind, numel))
        if (root.kind, root.numel) != (kind, numel):
            raise self._refused(f"the storage {key!r} twice, with different types or lengths")
        if len(pid) > 5 and pid[5] is not None:
            _, offset, length = pid[5]
            if not _whole(offset) or not _whole(length) or offset + length > numel:
                raise self._refused(f"a view outside the storage {key!r}")
            return _Storage(key, kind, numel, (offset, length))
        return root

    def _tensor(self, storage, offset, size, stride, *_):
        if not isinstance(storage, _Storage):
            of = storage.name if isinstance(storage, Foreign) else type(storage).__name__
            return Foreign(f"a tensor of {of}"[:80])  # nested tensors must not make it longer
        return self._view(storage, storage.kind, offset, size, stride)

    def _tensor_v3(self, storage, offset, size, stride, requires_grad, hooks, dtype, *_):
        if not isinstance(storage, _Storage) or not isinstance(dtype, Foreign):
            return Foreign("a tensor of an unknown type")
        return self._view(storage, DTYPES.get(dtype.name, dtype.name), offset, size, stride)

    def _view(self, storage, kind, offset, size, stride):
        if len(size) != len(stride) or len(size) > MAX_AXES or not all(map(_whole, (offset, *size, *stride))):
            raise self._refused("a tensor whose size and stride do not match")
        return Tensor(storage, kind, offset, tuple(size), tuple(stride))

    def _size(self, sizes=()):
        self._spend(8 * len(sizes))
        return tuple(sizes)

    def _parameter(self, data, *_):
        return data

    def _subclass(self, rebuild, cls, arguments, state):
        return rebuild(*arguments) if rebuild in self.rebuilds.values() else Foreign("torch.Tensor")

    def _or_foreign(self, step):
        """The step, or a ``Foreign`` for arrays that are not plain numbers, which may exist alongside the weights."""
        if step is NDARRAY:
            return step

        def tolerant(*arguments):
            try:
                return step(*arguments)
            except DataError:
                return self._put_aside()
        return tolerant

    def _put_aside(self):
        if self.budget < 0:
            self._spend(0)
        return Foreign("numpy.ndarray of objects")

    def load_build(self):
        state, target = self.stack[-1], self.stack[-2]
        if isinstance(target, (Foreign, dict)):
            # The state of a state dict is a dict of versions (``_metadata``); it contains no weights.
            self.stack.pop()
            return
        try:
            super().load_build()
        except DataError:
            self._put_aside()
            if self.stack[-1] is state:
                self.stack.pop()
            if isinstance(target, np.ndarray):
                target.__setstate__((1, (0,), np.dtype("V1"), False, b""))  # never mistaken for weights
            else:
                target.code = "O"

    def load_newobj(self):
        self.stack.pop()
        self._make(self.stack[-1])

    def load_newobj_ex(self):
        del self.stack[-2:]
        self._make(self.stack[-1])

    def _make(self, cls):
        if not isinstance(cls, Foreign):
            raise self._refused("an object")
        self.stack[-1] = Foreign(cls.name)

    def load_reduce(self):
        arguments, step = self.stack.pop(), self.stack[-1]
        if isinstance(step, Foreign):
            self.stack[-1] = Foreign(step.name)
        elif callable(step):
            self.stack[-1] = step(*arguments)
        else:
            raise self._refused(f"a call of a {type(step).__name__}")

    def _into(self, target, kind):
        if not isinstance(target, Foreign):
            super()._into(target, kind)

    dispatch = {**PlainUnpickler.dispatch, b"b"[0]: load_build, b"\x81"[0]: load_newobj, b"\x92"[0]: load_newobj_ex,
                b"R"[0]: load_reduce}


def _whole(number):
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


class _File:
    """Shared by both formats. ``content``: the unpickled object, with ``Tensor`` and ``Foreign`` in it."""

    def __init__(self, file, path):
        self.file, self.path = file, path
        self.length = file.seek(0, 2)
        self.budget = MAX_GROWTH * self.length + FREE_BYTES
        self.order, self.raw, self.storages = "<", {}, {}

    def array(self, tensor):
        """The tensor's numbers as a new array; float16 and bfloat16 as float32.

        Raises:
            CheckpointError: the tensor exceeds its storage, its type is not supported, or the storage is damaged.
        """
        with _checkpoint_errors(self.path), reading(self.path):
            return self._array(tensor)

    def _array(self, tensor):
        storage = tensor.storage
        for kind in (storage.kind, tensor.kind):
            if kind not in DTYPES.values():
                raise DataError(self.path, f"contains numbers of type {kind}, which is not supported", _HINT)
        if storage.key not in self.raw:
            self.raw[storage.key] = self.read_storage(storage)
        code = self.order + ("u2" if tensor.kind == "bf16" else tensor.kind)
        raw = memoryview(self.raw[storage.key])
        if storage.part:
            width = _width(storage.kind)
            raw = raw[storage.part[0] * width:sum(storage.part) * width]
        numbers = np.frombuffer(raw, code)
        count = math.prod(tensor.size)
        last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride)) if count else 0
        if last >= max(len(numbers), 1) or (count and not len(numbers)):
            raise DataError(self.path, f"contains a tensor {tensor.size} that lies outside its storage of "
                            f"{len(numbers)} numbers", _HINT)
        self.spend(count * 8)
        steps = [step * numbers.itemsize for step in tensor.stride]
        view = np.lib.stride_tricks.as_strided(numbers[tensor.offset:] if count else numbers, tensor.size, steps)
        if tensor.kind == "bf16":
            return (view.astype("<u4") << 16).view("<f4")
        return view.astype("f4" if tensor.kind == "f2" else numbers.dtype.newbyteorder("="), order="C")

    def spend(self, amount):
        self.budget -= amount
        if self.budget < 0:
            raise DataError(self.path, f"would expand to many times its {self.length} bytes in memory", _HINT)


def _width(kind):
    return 2 if kind == "bf16" else np.dtype(kind).itemsize


class _Zip(_File):
    form = "a PyTorch checkpoint (zip format)"

    def __init__(self, file, path):
        super().__init__(file, path)
        self.archive = zipfile.ZipFile(file)
        names = self.archive.NameToInfo
        found = [name for name in names if name.endswith("/data.pkl")]
        if len(found) != 1:
            raise DataError(path, "is a zip archive, but not PyTorch's (no data.pkl in it)", _HINT)
        self.prefix = found[0][:-len("data.pkl")]
        if any(name.startswith(f"{self.prefix}code/") or name == f"{self.prefix}constants.pkl" for name in names):
            raise DataError(path, "is a TorchScript program, not a checkpoint",
                            "Save the weights with torch.save(torch.jit.load(file).state_dict(), ...)")
        if f"{self.prefix}byteorder" in names:
            self.order = {b"little": "<", b"big": ">"}[self.read("byteorder")]
        data = self.read("data.pkl")
        self.content = _Machine(io.BytesIO(data), len(data), path).load()

    def read(self, name):
        """An entry, by its exact name."""
        info = self.archive.NameToInfo.get(self.prefix + name)
        if info is None:
            raise DataError(self.path, f"is incomplete: it has no entry {self.prefix + name!r}", _HINT)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(self.path, f"has the entry {info.filename!r} in an unknown compression", _HINT)
        self.spend(info.file_size)
        return self.archive.read(info)

    def read_storage(self, storage):
        raw = self.read(f"data/{storage.key}")
        if len(raw) != storage.numel * _width(storage.kind):
            raise DataError(self.path, f"has {len(raw)} bytes for the storage {storage.key!r}, expected "
                            f"{storage.numel} numbers of type {storage.kind}", _HINT)
        return raw


class _Legacy(_File):
    form = "a PyTorch checkpoint (legacy format)"

    def __init__(self, file, path):
        super().__init__(file, path)
        file.seek(0)
        magic, protocol, system = self.load(), self.load(), self.load()
        if protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
            raise DataError(path, f"has the protocol {protocol!r}, expected {LEGACY_PROTOCOL} after {magic!r}", _HINT)
        self.order = "<" if system.get("little_endian", True) else ">"
        machine = _Machine(file, self.length, path)
        self.content = machine.load()
        self.storages = machine.storages
        self.places = {}
        for key in self.load():
            storage = self.storages.get(str(key))
            numel = file.read(8)
            if storage is None or numel != storage.numel.to_bytes(8, "little"):
                raise DataError(path, f"is damaged: its storage {key!r} does not have the length that its tensors "
                                "require", _HINT)
            width = _width(storage.kind) if storage.kind in DTYPES.values() else 0
            if not width:
                raise DataError(path, f"contains numbers of type {storage.kind}, which is not supported", _HINT)
            self.places[storage.key] = file.tell()
            if file.seek(storage.numel * width, 1) > self.length:
                raise DataError(path, "is incomplete", _HINT)

    def load(self):
        return _Machine(self.file, self.length, self.path).load()

    def read_storage(self, storage):
        if storage.key not in self.places:
            raise DataError(self.path, f"is incomplete: it has no storage {storage.key!r}", _HINT)
        self.file.seek(self.places[storage.key])
        return self.file.read(storage.numel * _width(storage.kind))
