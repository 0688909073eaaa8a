"""Compiled models (``.om``) on an Ascend NPU, through ais_bench or, where that is not installed, pyACL.

What is called of both is from their documentation; **it has not been run on an NPU.** Needs neither paddle nor ONNX.
"""
import importlib.metadata
import importlib.util

import numpy as np

from ..errors import ConfigError, ExportError, UnavailableError
from .acl_session import AclSession
from .artifact import OM
from .runtime import ROUNDING, Runtime, first_line

GET = ("Install CANN (toolkit or nnrt) and source its set_env.sh, which gives pyACL (the module acl), or install "
       "ais_bench and aclruntime from Ascend's tools; without an NPU use --runtime onnxruntime")
COMPILE = "Compile it again with tools/atc.py from the ONNX model beside it"


class OmRuntime(Runtime):
    """An ``.om`` model on an NPU.

    ATC computes in float16 unless it is told otherwise, so the user says with ``precision`` what it was compiled for:
    ``fp32`` keeps the self-check's own tolerance, ``fp16`` allows for rounding. One ``.om`` file computes in one
    precision only, so it cannot be shown to be right in float32 itself; the ONNX model that it was compiled from was,
    when it was made, and the metadata holds what was measured. An error of ATC's own that is smaller than the rounding
    allowed for is not found by the self-check; ``tools/compare_outputs.py`` against ONNX Runtime shows it.
    """

    kind = "om"

    def load(self):
        options, path = self.options, self.export.file(OM)
        self.session = None
        if not path.is_file():
            raise ExportError(path, "the export has no compiled model yet", "Compile it with tools/atc.py")
        if options.use_gpu or options.use_npu is False:
            raise ConfigError("--runtime om", "computes on an NPU, but another device was asked for",
                              "Leave --use_gpu and --use_npu away")
        self.session = open_session(path, options.device_id)
        self.version = self.session.name
        self._check_input(path)
        return f"npu:{options.device_id}"

    def _check_input(self, path):
        found, expected = self.session.shape, (self.export.batch, *self.export.sample_shape)
        if self.export.batch is None:
            raise ExportError(path, f"takes the input {found}; its metadata knows no batch size", "Make an ONNX model "
                              "of one batch size with tools/export_onnx.py and compile that with tools/atc.py")
        if found != expected or self.session.dtype not in ("float32", "float16"):
            raise ExportError(path, f"takes the input {found} of {self.session.dtype}, its metadata says {expected} of "
                              "float32 or float16", COMPILE)

    @classmethod
    def show_float32(cls, export, options):
        """See the class. Raises an ``ExportError`` where the metadata holds no measured error of an ONNX model."""
        errors = (export.metadata.get("onnx") or {}).get("relative_error")
        tolerance = export.selfcheck().tolerance
        if not isinstance(errors, dict) or not errors or not all(error <= tolerance for error in errors.values()):
            raise ExportError(export.stem, "its metadata does not say that its ONNX model was right in float32, so "
                              f"--precision {options.precision} cannot tell rounding from wrong answers",
                              "Make the ONNX model with tools/export_onnx.py and compile that with tools/atc.py")

    @property
    def files(self):
        return [self.export.file(OM)]

    def compute(self, array):
        return self.timed(array)[0]

    def timed(self, array):
        """Logits, and the seconds that the chip took, without copying."""
        logits = self.session.run(np.ascontiguousarray(array, self.session.dtype))
        return np.asarray(logits, "float32"), self.session.seconds

    def close(self):
        """Give the device back."""
        if self.session is not None:
            session, self.session = self.session, None
            session.close()

    def advice(self):
        if self.options.precision == "fp32":
            return (f"If it was compiled for float16, as ATC does unless told otherwise, use --precision fp16, which "
                    f"allows {ROUNDING['fp16']:.0e}; else the files do not belong together: {COMPILE}")
        return f"The files do not belong together, or this precision is too little for the model: {COMPILE}"


class AisBenchSession:
    """ais_bench's ``InferSession`` behind the attributes and methods of ``AclSession``."""

    def __init__(self, path, device_id):
        from ais_bench.infer.interface import InferSession

        self.path = path
        self.seconds = 0.0
        try:
            self.session = InferSession(device_id, str(path))
        except Exception as error:  # its C++ side raises RuntimeError, and others of its own
            raise UnavailableError(f"{path} on NPU {device_id}", f"ais_bench cannot open it: {first_line(error)}",
                                   "tools/doctor.py tells what this host has") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            self.close()
            raise ExportError(path, f"has {len(inputs)} inputs, expected one", COMPILE)
        self.shape = tuple(inputs[0].shape)
        # An enumeration whose members are called after NumPy's types; str() of it may have a class name in front.
        self.dtype = getattr(inputs[0].datatype, "name", str(inputs[0].datatype))
        self.name = f"ais_bench {installed_version('ais_bench')}".strip()

    def run(self, array):
        """The output for an input of ``shape`` and ``dtype``. ais_bench takes the memory as it is: C order only."""
        try:
            outputs = self.session.infer(feeds=[array], mode="static")
        except RuntimeError as error:
            raise UnavailableError(f"{self.path} in ais_bench", f"failed: {first_line(error)}",
                                   "CANN's log, by default in ~/ascend/log, tells more") from error
        if len(outputs) != 1:
            raise ExportError(self.path, f"has {len(outputs)} outputs, expected one", COMPILE)
        # ``sumary`` in releases before 0.0.2; a time in ms, or the start and the end of it.
        summary = self.session.summary() if hasattr(self.session, "summary") else self.session.sumary()
        last = summary.exec_time_list[-1]
        self.seconds = (last[1] - last[0] if isinstance(last, (tuple, list)) else last) / 1000
        return outputs[0]

    def close(self):
        """Give the device back."""
        if hasattr(self.session, "free_resource"):
            self.session.free_resource()
        else:
            self.session.finalize()


def open_session(path, device_id):
    """An ``AisBenchSession``, or an ``AclSession`` where ais_bench is not installed.

    Raises:
        UnavailableError: neither is installed, or what is cannot be imported.
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
