"""Compiled models (``.om``) on an Ascend NPU, through ais_bench or, where that is not installed, pyACL.

Names, arguments, results and the order of release follow the documentation of ais_bench and of pyACL (CANN 6.0 to 8.0,
chapters "acl.rt", "acl.mdl", "acl.util"); **none of it has been run on an NPU.**
"""
import importlib.metadata
import importlib.util
import operator
import time

import numpy as np

from ..errors import ConfigError, ExportError, UnavailableError
from .artifact import OM
from .runtime import ROUNDING_TOLERANCE, Runtime, first_line

GET = ("Install CANN (toolkit or nnrt) and source its set_env.sh for pyACL (the module acl), or install ais_bench and "
       "aclruntime from Ascend's tools; without an NPU use --runtime onnxruntime")
COMPILE = "Compile it again with tools/atc.py from the ONNX model next to it"
ACL_TYPES = {0: "float32", 1: "float16", 2: "int8", 3: "int32", 4: "uint8", 9: "int64", 11: "float64"}  # aclDataType
# ACL_MEM_MALLOC_HUGE_FIRST, ACL_MEMCPY_HOST_TO_DEVICE, ACL_MEMCPY_DEVICE_TO_HOST
HUGE_FIRST, TO_DEVICE, TO_HOST = 0, 1, 2


class OmRuntime(Runtime):
    """An ``.om`` model on an NPU.

    ATC compiles for float16 by default, so ``precision`` states what the model was compiled for: ``fp32`` keeps the
    self-check's tolerance, ``fp16`` allows for rounding. An ``.om`` file computes in one precision only and cannot be
    verified in float32 itself; its ONNX model was, and the metadata holds the measured error. An error of ATC that is
    smaller than the rounding passes the self-check; ``tools/compare_outputs.py`` against ONNX Runtime shows it.
    """

    kind = "om"

    def load(self):
        options, path = self.options, self.export.file(OM)
        self.session = None
        if not path.is_file():
            raise ExportError(path, "the export has no compiled model", "Compile it with tools/atc.py")
        if options.use_gpu or options.use_npu is False:
            raise ConfigError("--runtime om", "computes on an NPU, but another device was requested",
                              "Omit --use_gpu and --use_npu")
        self.session = open_npu_session(path, options.device_id)
        self.version = self.session.name
        self._check_input(path)
        return f"npu:{options.device_id}"

    def _check_input(self, path):
        found, expected = self.session.shape, (self.export.batch, *self.export.sample_shape)
        if self.export.batch is None:
            raise ExportError(path, f"takes an input of shape {found}, but its metadata has no batch size",
                              "Make an ONNX model with a fixed batch size using tools/export_onnx.py and compile it "
                              "with tools/atc.py")
        if found != expected or self.session.dtype not in ("float32", "float16"):
            raise ExportError(path, f"expected an input {expected} of float32 or float16, as its metadata says, got "
                              f"{found} of {self.session.dtype}", COMPILE)

    @classmethod
    def verify_float32(cls, export, options):
        """See the class; an ``ExportError`` if the metadata has no measured error of an ONNX model."""
        errors = (export.metadata.get("onnx") or {}).get("relative_error")
        tolerance = export.selfcheck().tolerance
        if not isinstance(errors, dict) or not errors or not all(error <= tolerance for error in errors.values()):
            raise ExportError(export.stem, "its metadata does not record that the ONNX model was verified in float32, "
                              f"so with --precision {options.precision} rounding cannot be distinguished from wrong "
                              "results",
                              "Make the ONNX model with tools/export_onnx.py and compile it with tools/atc.py")

    @property
    def files(self):
        return [self.export.file(OM)]

    def compute(self, array):
        return self.compute_timed(array)[0]

    def compute_timed(self, array):
        """Logits, and the seconds on the chip, without copying."""
        logits = self.session.run(np.ascontiguousarray(array, self.session.dtype))
        return np.asarray(logits, "float32"), self.session.seconds

    def close(self):
        """Release the device."""
        if self.session is not None:
            session, self.session = self.session, None
            session.close()

    def advice(self):
        if self.options.precision == "fp32":
            return (f"If it was compiled for float16, ATC's default, use --precision fp16, which allows "
                    f"{ROUNDING_TOLERANCE['fp16']:.0e}; otherwise the files do not belong together: {COMPILE}")
        return f"The files do not belong together, or the model needs more precision: {COMPILE}"


class AisBenchSession:
    """ais_bench's ``InferSession`` with the attributes and methods of ``AclSession``."""

    def __init__(self, path, device_id):
        from ais_bench.infer.interface import InferSession

        self.path = path
        self.seconds = 0.0
        try:
            self.session = InferSession(device_id, str(path))
        except Exception as error:  # its C++ side raises RuntimeError and types of its own
            raise UnavailableError(f"{path} on NPU {device_id}", f"ais_bench cannot open it: {first_line(error)}",
                                   "tools/doctor.py shows what this host has") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            self.close()
            raise ExportError(path, f"expected one input, got {len(inputs)}", COMPILE)
        self.shape = tuple(inputs[0].shape)
        # An enumeration with the names of NumPy's types, or a text, depending on the release.
        self.dtype = getattr(inputs[0].datatype, "name", str(inputs[0].datatype))
        self.name = f"ais_bench {installed_version('ais_bench')}".strip()

    def run(self, array):
        """The output for an input of ``shape`` and ``dtype`` in C order."""
        try:
            outputs = self.session.infer(feeds=[array], mode="static")
        except RuntimeError as error:
            raise UnavailableError(f"{self.path} in ais_bench", f"failed: {first_line(error)}",
                                   "See CANN's log, by default in ~/ascend/log") from error
        if len(outputs) != 1:
            raise ExportError(self.path, f"expected one output, got {len(outputs)}", COMPILE)
        # Named ``sumary`` before release 0.0.2. Times are milliseconds, or pairs of start and end.
        summary = self.session.summary() if hasattr(self.session, "summary") else self.session.sumary()
        last = summary.exec_time_list[-1]
        self.seconds = (last[1] - last[0] if isinstance(last, (tuple, list)) else last) / 1000
        return outputs[0]

    def close(self):
        """Release the device."""
        if hasattr(self.session, "free_resource"):
            self.session.free_resource()
        else:
            self.session.finalize()


class AclSession:
    """A model with one input and one output of fixed shape on one device, through pyACL.

    The context, and with it the session, belongs to the thread that made it.

    Attributes:
        shape, dtype: of the input.
        seconds: time of the last ``run`` on the device, without copying.

    Raises:
        UnavailableError: a call failed; the message has its code, which CANN's manual explains.
        ExportError: the model has another form.
    """

    name = "pyACL"

    def __init__(self, path, device_id):
        import acl

        self.acl, self.path, self.device_id = acl, path, device_id
        self.undo = []  # (name, arguments) of releases, in the order of acquisition
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
            raise ExportError(self.path, f"expected one input and one output, got {counts[0]} and {counts[1]}",
                              "Compile it from an ONNX model of this project, without dynamic shapes")
        self.shape, self.dtype, self.input = self._place("input")
        self.out_shape, self.out_dtype, self.output = self._place("output")

    def _place(self, side):
        """Shape and type of the only input or output, and its ``(data set, memory, bytes)`` on the device."""
        dims = self._call(f"mdl.get_{side}_dims", self.description, 0)["dims"]
        code = self._get(f"mdl.get_{side}_data_type", self.description, 0)
        size = self._get(f"mdl.get_{side}_size_by_index", self.description, 0)
        kind = ACL_TYPES.get(code, f"aclDataType {code}")
        if code not in ACL_TYPES or min(dims, default=0) < 1 or size < int(np.prod(dims)) * np.dtype(kind).itemsize:
            raise ExportError(self.path, f"its {side} has the shape {tuple(dims)}, the type {kind} and {size} bytes, "
                              "which do not match", "Compile it without dynamic shapes")
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
        content = array.tobytes()  # must outlive the pointer to it
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
        """Release everything, in reverse order, and then raise the first failure, unless ``quiet``."""
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
        """The result of a function without an error code."""
        return operator.attrgetter(name)(self.acl)(*arguments)

    def _call(self, name, *arguments):
        """The result of a function that returns ``code`` or ``(result, code)``."""
        result = self._get(name, *arguments)
        result, code = result if isinstance(result, tuple) else (None, result)
        if code != 0:
            raise UnavailableError(f"{self.path} on NPU {self.device_id}", f"acl.{name} failed with {code}",
                                   "CANN's manual explains the code (aclError); tools/doctor.py shows what this "
                                   "host has")
        return result

    def _make(self, name, *arguments):
        """The pointer that a function without an error code returns."""
        pointer = self._get(name, *arguments)
        if not pointer:
            raise UnavailableError(f"{self.path} on NPU {self.device_id}", f"acl.{name} returned a null pointer",
                                   "Check whether the device is out of memory")
        return pointer


def open_npu_session(path, device_id):
    """An ``AisBenchSession``, or an ``AclSession`` where ais_bench is not installed.

    Raises:
        UnavailableError: neither is installed, or the installed one cannot be imported.
    """
    for package, session in (("ais_bench", AisBenchSession), ("acl", AclSession)):
        if importlib.util.find_spec(package):
            try:
                return session(path, device_id)
            except ImportError as error:
                raise UnavailableError("--runtime om", f"{package} is installed but cannot be imported "
                                       f"({first_line(error)})", GET) from error
    raise UnavailableError("--runtime om", "neither ais_bench nor pyACL is installed here", GET)


def installed_version(package):
    """The version of an installed package; empty where it does not say."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
