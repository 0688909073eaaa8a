"""Writes PyTorch's files without PyTorch, in both forms, from NumPy arrays and other objects of checkpoints."""
import io
import pickle
import sys
import zipfile
from collections import OrderedDict

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
TYPES = {"f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "i4": "IntStorage",
         "i2": "ShortStorage", "i1": "CharStorage", "u1": "ByteStorage", "b1": "BoolStorage"}


class Name:
    """A global by module and name, which need not exist here; ``Name(...)(...)`` in a pickle calls it."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, *arguments):
        return Call(self, *arguments)


class Call:
    """An object that unpickles as a call, and then takes ``state``."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce_ex__(self, protocol):
        return (self.function, self.arguments) + ((self.state,) if self.state is not None else ())


class Storage:
    """Numbers in a file; ``kind`` is the storage's class, ``part`` the view that old files could hold."""

    def __init__(self, array, kind=None, part=None):
        self.array = np.ascontiguousarray(array).reshape(-1)
        self.kind = kind or TYPES[self.array.dtype.str[1:]]
        self.part = part


def tensor(storage, size, stride=None, offset=0):
    """A tensor over a storage; strides are counted in numbers, by default C order."""
    if stride is None:
        stride = tuple(int(np.prod(size[i + 1:])) for i in range(len(size)))
    return Name("torch._utils", "_rebuild_tensor_v2")(storage, offset, tuple(size), tuple(stride), False, OrderedDict())


class _Pickler(pickle._Pickler):
    def __init__(self, file, protocol, storages):
        super().__init__(file, protocol)
        self.storages, self.kept = storages, []

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        key = next((k for k, s in self.storages.items() if s.array is obj.array), str(len(self.storages)))
        self.storages.setdefault(key, obj)
        module = "torch.storage" if obj.kind == "UntypedStorage" else "torch"
        pid = ("storage", Name(module, obj.kind), key, "cpu", len(obj.array))
        return pid + (("view", *obj.part),) if obj.part else pid

    def save_name(self, name):
        if self.proto >= 4:
            self.save(name.module)
            self.save(name.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{name.module}\n{name.name}\n".encode())

    def save_array(self, array):
        self.kept.append(tensor(Storage(array), array.shape))  # kept: the pickler remembers objects by their address
        self.save(self.kept[-1])

    dispatch = {**pickle._Pickler.dispatch, Name: save_name, np.ndarray: save_array}


def _pickled(obj, protocol, storages):
    file = io.BytesIO()
    _Pickler(file, protocol, storages).dump(obj)
    return file.getvalue()


def swapped(array, order):
    return array if order == sys.byteorder else array.byteswap()


def save(obj, path, form="zip", protocol=2, compression=zipfile.ZIP_STORED, order="little", extra=()):
    """``torch.save``: arrays become tensors. ``extra``: further entries of the zip, ``(name, bytes)``."""
    storages = {}
    data = _pickled(obj, protocol, storages)
    if form == "zip":
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("archive/data.pkl", data)
            archive.writestr("archive/byteorder", order)
            for key, storage in storages.items():
                archive.writestr(f"archive/data/{key}", swapped(storage.array, order).tobytes())
            archive.writestr("archive/version", "3\n")
            for name, content in extra:
                archive.writestr(name, content)
        return path
    with open(path, "wb") as file:
        for part in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": order == "little", "type_sizes": {}}):
            pickle.dump(part, file, protocol)
        file.write(data)
        pickle.dump(sorted(storages), file, protocol)
        for key in sorted(storages):
            file.write(len(storages[key].array).to_bytes(8, "little") + swapped(storages[key].array, order).tobytes())
    return path
