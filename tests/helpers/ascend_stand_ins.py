"""Stand-ins for ais_bench and pyACL, for hosts without an NPU. They are not Ascend's software.

They compute with ONNX Runtime what the ``.onnx`` beside the ``.om`` says, and are strict about what Ascend's
documentation asks of a caller: types, shapes, memory in C order, the order of calls, and that everything taken is given
back once, in an order in which nothing is in use. A breach is a ``Breach``, which no code may catch.
"""
import ctypes
import enum
import importlib.machinery
import itertools
import sys
import types
from pathlib import Path

import numpy as np
import onnxruntime


class Breach(BaseException):
    """The caller did what the real software would not bear."""


def demand(condition, text):
    if not condition:
        raise Breach(text)


class DataType(enum.Enum):
    """aclDataType."""
    float32 = 0
    float16 = 1
    int32 = 3


class Chip:
    """What a model file does on the device.

    Args:
        rounding: answers are rounded to float16, as a chip that computes so. input_type: what the model takes.
        outputs: how many outputs it has. wrong: factor on its answers.
    """

    def __init__(self, rounding=False, input_type="float32", outputs=1, wrong=1.0):
        self.rounding, self.input_type, self.outputs, self.wrong = rounding, input_type, outputs, wrong

    def open(self, path):
        demand(isinstance(path, str) and Path(path).is_file() and path.endswith(".om"), f"{path!r} is no .om file")
        self.session = onnxruntime.InferenceSession(str(Path(path).with_suffix(".onnx")),
                                                    providers=["CPUExecutionProvider"])
        self.input, self.output = self.session.get_inputs()[0], self.session.get_outputs()[0]
        return self

    def compute(self, content):
        """Bytes of the input → bytes of the output."""
        array = np.frombuffer(content, self.input_type).reshape(self.input.shape).astype("float32")
        logits = self.session.run(None, {self.input.name: array})[0] * np.float32(self.wrong)
        return logits.astype("float16").astype("float32") if self.rounding else logits


def size_of(shape, kind):
    return int(np.prod(shape)) * np.dtype(kind).itemsize


class InferSession:
    """ais_bench's class of this name."""

    chip = Chip()  # set by ``install_ais_bench``
    live = []
    failure = None

    def __init__(self, device_id, model_path):
        demand(type(device_id) is int and device_id >= 0, f"device_id is {device_id!r}")
        if self.failure == "open":
            raise RuntimeError("[ERROR] load model failed, ret 100000")
        self.model, self.freed, self.times = self.chip.open(model_path), False, []
        self.live.append(self)

    def get_inputs(self):
        self._alive()
        shape = self.model.input.shape
        return [types.SimpleNamespace(name="x", shape=shape, datatype=DataType[self.chip.input_type],
                                      realsize=size_of(shape, self.chip.input_type))]

    def infer(self, feeds, mode="static"):
        self._alive()
        demand(mode == "static", f"mode {mode!r} for a model of fixed shape")
        demand(isinstance(feeds, list) and len(feeds) == 1 and isinstance(feeds[0], np.ndarray), "one array is due")
        array = feeds[0]
        demand(array.flags["C_CONTIGUOUS"], "the array is not in C order; its memory would be read as if it were")
        demand(array.dtype == self.chip.input_type and list(array.shape) == self.model.input.shape,
               f"{array.dtype} {array.shape} for {self.chip.input_type} {self.model.input.shape}")
        if self.failure == "infer":
            raise RuntimeError("[ERROR] execute failed, ret 507011")
        self.times.append((1000.0, 1002.5))
        return [self.model.compute(array.tobytes())] * self.chip.outputs

    def summary(self):
        self._alive()
        return types.SimpleNamespace(exec_time_list=list(self.times))

    def free_resource(self):
        self._alive()
        self.freed = True
        self.live.remove(self)

    def _alive(self):
        demand(not self.freed, "used or freed after free_resource()")


class Acl:
    """pyACL's functions over pretended memory; ``module`` is what ``import acl`` gives.

    Attributes:
        fail: name of a function → the code that it returns in the place of working.
        live: handle → what it is; empty when everything was given back. calls: names, in order.
    """

    def __init__(self, chip=None):
        self.chip, self.fail, self.live, self.calls = chip or Chip(), {}, {}, []
        self.numbers = itertools.count(0x5000)
        self.initialised = self.device = None
        module = types.ModuleType("acl")
        module.rt, module.mdl, module.util = (types.SimpleNamespace() for _ in range(3))
        for name in dir(self):
            place, _, function = name.partition("__")
            if place in ("acl", "rt", "mdl", "util") and function:
                target = module if place == "acl" else getattr(module, place)
                full = f"acl.{function}" if place == "acl" else f"acl.{place}.{function}"
                setattr(target, function, self._guarded(full, getattr(self, name)))
        self.module = module

    def _guarded(self, name, function):
        pairs = ("create_context", "load_from_file", "malloc", "malloc_host", "get_input_dims", "get_output_dims",
                 "add_dataset_buffer")

        def call(*arguments):
            self.calls.append(name)
            if name in self.fail:
                return (0, self.fail[name]) if name.rpartition(".")[2] in pairs else self.fail[name]
            return function(*arguments)

        return call

    def _new(self, kind, **content):
        handle = next(self.numbers)
        self.live[handle] = types.SimpleNamespace(kind=kind, **content)
        return handle

    def _get(self, handle, kind):
        found = self.live.get(handle)
        demand(found is not None and found.kind == kind, f"{handle!r} is no {kind} that is in use")
        return found

    def _drop(self, handle, kind):
        self._get(handle, kind)
        del self.live[handle]
        return 0

    def _kinds(self):
        return [entry.kind for entry in self.live.values()]

    def acl__init(self):
        demand(not self.initialised, "acl.init() twice in a process")
        self.initialised = True
        return 0

    def acl__finalize(self):
        demand(self.initialised and self.device is None and not self.live, f"finalize() with {self._kinds()} in use")
        self.initialised = False
        return 0

    def rt__set_device(self, device_id):
        demand(self.initialised and type(device_id) is int, "set_device() before init()")
        self.device = device_id
        return 0

    def rt__reset_device(self, device_id):
        demand(self.device == device_id and not self.live, f"reset_device({device_id}) with {self._kinds()} in use")
        self.device = None
        return 0

    def rt__create_context(self, device_id):
        demand(self.device == device_id, "create_context() before set_device()")
        return self._new("context"), 0

    def rt__destroy_context(self, context):
        demand(set(self._kinds()) == {"context"}, f"destroy_context() with {self._kinds()} in use")
        return self._drop(context, "context")

    def _in_context(self):
        demand("context" in self._kinds(), "no context")

    def mdl__load_from_file(self, path):
        self._in_context()
        return self._new("model", model=self.chip.open(path)), 0

    def mdl__unload(self, model):
        return self._drop(model, "model")

    def mdl__create_desc(self):
        self._in_context()
        return self._new("description", model=None)

    def mdl__destroy_desc(self, description):
        return self._drop(description, "description")

    def mdl__get_desc(self, description, model):
        self._get(description, "description").model = self._get(model, "model").model
        return 0

    def _described(self, description, index=0):
        model = self._get(description, "description").model
        demand(model is not None and index == 0, "a description that get_desc() did not fill, or an index over 0")
        return model

    def mdl__get_num_inputs(self, description):
        return 1 if self._described(description) else 0

    def mdl__get_num_outputs(self, description):
        return self.chip.outputs if self._described(description) else 0

    def mdl__get_input_dims(self, description, index):
        dims = list(self._described(description, index).input.shape)
        return {"name": "x", "dimCount": len(dims), "dims": dims}, 0

    def mdl__get_output_dims(self, description, index):
        dims = list(self._described(description, index).output.shape)
        return {"name": "y", "dimCount": len(dims), "dims": dims}, 0

    def mdl__get_input_data_type(self, description, index):
        self._described(description, index)
        return DataType[self.chip.input_type].value

    def mdl__get_output_data_type(self, description, index):
        self._described(description, index)
        return DataType.float32.value

    def mdl__get_input_size_by_index(self, description, index):
        return size_of(self._described(description, index).input.shape, self.chip.input_type)

    def mdl__get_output_size_by_index(self, description, index):
        return size_of(self._described(description, index).output.shape, "float32")

    def rt__malloc(self, size, policy):
        self._in_context()
        demand(size > 0 and policy in (0, 1, 2), f"malloc({size}, {policy})")
        return self._new("memory", content=bytearray(size)), 0

    def rt__free(self, memory):
        used = [entry for entry in self.live.values() if entry.kind == "buffer" and entry.memory == memory]
        demand(not used, "memory is freed while a data buffer points at it")
        return self._drop(memory, "memory")

    def rt__malloc_host(self, size):
        self._in_context()
        buffer = ctypes.create_string_buffer(size)
        address = ctypes.addressof(buffer)
        self.live[address] = types.SimpleNamespace(kind="host memory", content=buffer)
        return address, 0

    def rt__free_host(self, address):
        return self._drop(address, "host memory")

    def rt__memcpy(self, target, room, source, size, direction):
        demand(size <= room and direction in (1, 2), f"memcpy of {size} bytes into {room}, direction {direction}")
        memory = self._get(target if direction == 1 else source, "memory").content
        demand(size <= len(memory), f"memcpy of {size} bytes, the memory has {len(memory)}")
        if direction == 1:
            memory[:size] = ctypes.string_at(source, size)
        else:
            demand(room <= len(self._get(target, "host memory").content), "memcpy over the end of host memory")
            ctypes.memmove(target, bytes(memory[:size]), size)
        return 0

    def util__bytes_to_ptr(self, content):
        demand(isinstance(content, bytes), f"bytes_to_ptr() of {type(content).__name__}")
        return ctypes.cast(ctypes.c_char_p(content), ctypes.c_void_p).value

    def util__ptr_to_bytes(self, address, size):
        demand(size <= len(self._get(address, "host memory").content), "ptr_to_bytes() over the end")
        return ctypes.string_at(address, size)

    def mdl__create_dataset(self):
        return self._new("dataset", buffers=[])

    def mdl__destroy_dataset(self, dataset):
        used = [buffer for buffer in self._get(dataset, "dataset").buffers if buffer in self.live]
        demand(not used, "a data set is destroyed before its data buffers")
        return self._drop(dataset, "dataset")

    def acl__create_data_buffer(self, memory, size):
        demand(size == len(self._get(memory, "memory").content), "a data buffer of another size than its memory")
        return self._new("buffer", memory=memory)

    def acl__destroy_data_buffer(self, buffer):
        return self._drop(buffer, "buffer")

    def mdl__add_dataset_buffer(self, dataset, buffer):
        self._get(buffer, "buffer")
        self._get(dataset, "dataset").buffers.append(buffer)
        return dataset, 0

    def _memory(self, dataset, size):
        """The memory of a data set's only buffer, which must have this size."""
        buffers = self._get(dataset, "dataset").buffers
        demand(len(buffers) == 1, f"a data set of {len(buffers)} buffers, the model has one tensor on each side")
        memory = self._get(self._get(buffers[0], "buffer").memory, "memory").content
        demand(len(memory) == size, f"a buffer of {len(memory)} bytes, the model takes {size}")
        return memory

    def mdl__execute(self, model, inputs, outputs):
        loaded = self._get(model, "model").model
        source = self._memory(inputs, size_of(loaded.input.shape, self.chip.input_type))
        target = self._memory(outputs, size_of(loaded.output.shape, "float32"))
        demand(source is not target, "one memory for input and output")
        target[:] = loaded.compute(bytes(source)).tobytes()
        return 0


def install_ais_bench(monkeypatch, chip=None):
    """Put the stand-in in the place of ais_bench; returns its ``InferSession``."""
    session = type("InferSession", (InferSession,), {"chip": chip or Chip(), "live": []})
    for name in ("ais_bench", "ais_bench.infer", "ais_bench.infer.interface"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["ais_bench.infer.interface"].InferSession = session
    return session


def install_acl(monkeypatch, chip=None):
    """Put the stand-in in the place of pyACL; returns it."""
    stand_in = Acl(chip)
    stand_in.module.__spec__ = importlib.machinery.ModuleSpec("acl", None)
    monkeypatch.setitem(sys.modules, "acl", stand_in.module)
    return stand_in
