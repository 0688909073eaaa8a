"""A compiled model (``.om``) through pyACL, the Python interface of CANN's runtime.

Functions, arguments, results and the order of release are those of CANN's documentation (pyACL API reference, CANN 6.0
to 8.0: chapters "acl.rt", "acl.mdl", "acl.util"); nothing of it has been run on hardware. A session belongs to the
thread that made it, for so does its context.
"""
import operator
import time

import numpy as np

from ..errors import ExportError, UnavailableError

TYPES = {0: "float32", 1: "float16", 2: "int8", 3: "int32", 4: "uint8", 9: "int64", 11: "float64"}  # aclDataType
HUGE_FIRST, TO_DEVICE, TO_HOST = 0, 1, 2  # ACL_MEM_MALLOC_HUGE_FIRST, ACL_MEMCPY_HOST_TO_DEVICE, …_DEVICE_TO_HOST


class AclSession:
    """One model on one device: one input, one output, of fixed shape.

    Attributes:
        shape, dtype: of the input.
        seconds: how long the model ran for the last answer, without copying.

    Raises:
        UnavailableError: a call failed; with its number, which CANN's manual explains.
        ExportError: the model is not of the form above.
    """

    name = "pyACL"

    def __init__(self, path, device_id):
        import acl

        self.acl, self.path, self.device_id = acl, path, device_id
        self.undo = []  # (name, arguments) in the order of acquisition; undone from the end
        self.seconds = 0.0
        try:
            self._take_device()
            self._load()
        except BaseException:
            self.close(quiet=True)
            raise

    def _take_device(self):
        self._call("init")
        self._later("finalize")
        self._call("rt.set_device", self.device_id)
        self._later("rt.reset_device", self.device_id)
        self._later("rt.destroy_context", self._call("rt.create_context", self.device_id))

    def _load(self):
        self.model = self._call("mdl.load_from_file", str(self.path))
        self._later("mdl.unload", self.model)
        self.description = self._make("mdl.create_desc")
        self._later("mdl.destroy_desc", self.description)
        self._call("mdl.get_desc", self.description, self.model)
        counts = [self._get(f"mdl.get_num_{side}s", self.description) for side in ("input", "output")]
        if counts != [1, 1]:
            raise ExportError(self.path, f"has {counts[0]} inputs and {counts[1]} outputs, expected one of each",
                              "Compile it from an ONNX model of this project, without dynamic shapes")
        self.shape, self.dtype, self.input = self._place("input")
        self.out_shape, self.out_dtype, self.output = self._place("output")

    def _place(self, side):
        """Shape and type of the only input or output, and ``(data set, memory, bytes)`` on the device for it."""
        dims = self._call(f"mdl.get_{side}_dims", self.description, 0)["dims"]
        code = self._get(f"mdl.get_{side}_data_type", self.description, 0)
        size = self._get(f"mdl.get_{side}_size_by_index", self.description, 0)
        kind = TYPES.get(code, f"aclDataType {code}")
        if code not in TYPES or min(dims, default=0) < 1 or size < int(np.prod(dims)) * np.dtype(kind).itemsize:
            raise ExportError(self.path, f"its {side} is of the shape {tuple(dims)}, the type {kind} and {size} bytes, "
                              "which do not fit", "Compile it without dynamic shapes")
        memory = self._call("rt.malloc", size, HUGE_FIRST)
        self._later("rt.free", memory)
        dataset = self._make("mdl.create_dataset")
        self._later("mdl.destroy_dataset", dataset)
        buffer = self._make("create_data_buffer", memory, size)
        self._later("destroy_data_buffer", buffer)
        self._call("mdl.add_dataset_buffer", dataset, buffer)
        return tuple(dims), kind, (dataset, memory, size)

    def run(self, array):
        """The output for an input of ``shape`` and ``dtype`` in C order."""
        (inputs, in_memory, in_size), (outputs, out_memory, out_size) = self.input, self.output
        content = array.tobytes()  # the pointer below is good for as long as this lives
        self._call("rt.memcpy", in_memory, in_size, self._get("util.bytes_to_ptr", content), len(content), TO_DEVICE)
        start = time.perf_counter()
        self._call("mdl.execute", self.model, inputs, outputs)
        self.seconds = time.perf_counter() - start
        host = self._call("rt.malloc_host", out_size)
        try:
            self._call("rt.memcpy", host, out_size, out_memory, out_size, TO_HOST)
            content = self._get("util.ptr_to_bytes", host, out_size)
        finally:
            self._call("rt.free_host", host)
        return np.frombuffer(content, self.out_dtype, int(np.prod(self.out_shape))).reshape(self.out_shape)

    def close(self, quiet=False):
        """Give everything back, the last first. All is tried; then the first failure is told, unless ``quiet``."""
        failure = None
        while self.undo:
            name, arguments = self.undo.pop()
            try:
                self._call(name, *arguments)
            except UnavailableError as error:
                failure = failure or error
        if failure and not quiet:
            raise failure

    def _later(self, name, *arguments):
        self.undo.append((name, arguments))

    def _get(self, name, *arguments):
        """What a function returns."""
        return operator.attrgetter(name)(self.acl)(*arguments)

    def _call(self, name, *arguments):
        """The result of a function that returns ``code`` or ``(result, code)``."""
        result = self._get(name, *arguments)
        result, code = result if isinstance(result, tuple) else (None, result)
        if code != 0:
            raise UnavailableError(f"{self.path} on NPU {self.device_id}", f"acl.{name} failed with {code}",
                                   "CANN's manual explains the number (aclError); tools/doctor.py tells what this "
                                   "host has")
        return result

    def _make(self, name, *arguments):
        """What a function made that returns a pointer and no code."""
        pointer = self._get(name, *arguments)
        if not pointer:
            raise UnavailableError(f"{self.path} on NPU {self.device_id}", f"acl.{name} gave nothing",
                                   "Is its memory full?")
        return pointer
