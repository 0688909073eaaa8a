"""Files that would run code if they were read the ordinary way."""
import importlib
import io
import os
import pickle
import runpy
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
from fuzz_seeds import CONFIG, LAYOUT, npy, numbers, torch_file


class Call:
    """Unpickles as a call, and then takes a state and items."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) + ((state,) if state is not None else ())

    def __reduce__(self):
        return self.parts


# Pickles that run something. Each would make the file ``mark``.


def calls(mark):
    """Name → an object whose pickle makes the file ``mark`` when it is loaded the ordinary way."""
    shell, code = f"touch {mark}", f"open({str(mark)!r}, 'w').close()"
    script = mark.with_name("script.py")
    script.write_text(code)
    return {
        "os.system": Call(os.system, shell),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "subprocess": Call(subprocess.getoutput, shell),
        "runpy": Call(runpy.run_path, str(script)),
        "open": Call(open, str(mark), "w"),
        "os.mkdir": Call(os.mkdir, str(mark)),
        "shutil.copy": Call(shutil.copy, str(script), str(mark)),
        "pathlib": Call(Path.touch, mark),
        "np.save": Call(np.save, str(mark), np.zeros(1)),
        "chain": Call(importlib.import_module, "os"),
        "numpy's tofile": Call(np.ndarray.tofile, np.zeros(1, "i1"), str(mark)),
    }


def placed(evil):
    """The places in a data set or a checkpoint where an object may stand."""
    objects = np.empty(1, object)
    objects[0] = evil
    return {
        "alone": evil,
        "keypoint": {"split": {}, "annotations": [{"frame_dir": "a", "keypoint": evil}]},
        "key": {"a": [evil, 1]},
        "in an array of objects": {"annotations": [{"frame_dir": "a", "keypoint": objects}]},
        "weights": {"backbone.w": evil, "head.b": numbers(1, (2,))},
        "tuple": (["a"], [evil]),
    }


SETSTATE = b"\x80\x02cfuzz_payloads\nCall\n)\x81}X\x05\x00\x00\x00partsK\x01sb."


def executing(mark):
    """``(reader, file, bytes, what)``: pickles in every file that can hold one."""
    for name, evil in calls(mark).items():
        for place, content in placed(evil).items():
            for protocol in (0, 2, 4):
                data = pickle.dumps(content, protocol)
                what = f"{name} as {place} in protocol {protocol}"
                for reader, file in PICKLES:
                    yield reader, file, data, what


PICKLES = (("annotations", "x.pkl"), ("array_set", "x_label.pkl"), ("weights", "x.pdparams"))


def executing_otherwise(tmp, mark):
    """The same inside of other formats, and through other opcodes."""
    evil = calls(mark)["os.system"]
    objects = np.empty(2, object)
    objects[:] = [evil, 1]
    yield "sample_npy", "x.npy", npy(objects), "an array of objects"
    yield "npy_in_memory", "x.npy", npy(objects, (3, 0)), "an array of objects"
    yield "array_set_with_npy_labels", "x_label.npy", npy(objects), "an array of objects"
    yield "keypoints_npy", "x.npy", npy(objects), "an array of objects"
    for name, call in calls(mark).items():
        for form in ("zip", "legacy"):
            for place, content in {
                "alone": call,
                "beside": {"state_dict": {"a": np.ones(2, "f4")}, "x": call},
                "among": {"a": np.ones(2, "f4"), "b": call},
            }.items():
                for protocol in (2, 4):
                    data = torch_file(tmp, form, content, protocol=protocol)
                    what = f"{name} {place} in the {form} form, protocol {protocol}"
                    reader, file = (("torch_weights", "x.pth"), ("weights", "x.pdparams"))[protocol == 4]
                    yield reader, file, data, what
    archive = io.BytesIO()
    np.savez(archive, input=objects, logits=objects)
    yield "export_folder", "tiny.selfcheck.npz", archive.getvalue(), "arrays of objects"
    shell = f"touch {mark}".encode()
    for what, code in {
        "INST": b"(S'" + shell + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + shell + b"'\no.",
        "REDUCE": b"cos\nsystem\n(S'" + shell + b"'\ntR.",
        "posix": b"cposix\nsystem\n(S'" + shell + b"'\ntR.",
        "NEWOBJ": b"\x80\x02cos\nsystem\nX" + struct.pack("<I", len(shell)) + shell + b"\x85\x81.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06systemX" + struct.pack("<I", len(shell)) + shell + b"\x93\x85R.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x16ctypeslib.os.system.xx\x93.",
        "BUILD": SETSTATE,
        "EXT1": b"\x80\x02\x82\x01.",
        "persistent id": b"\x80\x02X\x02\x00\x00\x00osQ.",
        "PERSID": b"Pos\n.",
        "np.load": b"\x80\x02cnumpy\nload\nX\x05\x00\x00\x00x.pkl\x85R.",
        "np.memmap": b"\x80\x02cnumpy\nmemmap\nX\x0b\x00\x00\x00/etc/passwd\x85R.",
        "np.fromfile": b"\x80\x02cnumpy\nfromfile\nX\x0b\x00\x00\x00/etc/passwd\x85R.",
        "np.zeros": b"\x80\x02cnumpy\nzeros\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
        "np.ones": b"\x80\x02cnumpy\nones\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
        "np.testing": b"\x80\x02cnumpy.testing._private.utils\nrunstring\nX\x01\x00\x00\x00x}\x86R.",
        "the machine's own": b"\x80\x02cpaddlevideo_skel.safe_pickle\nload_pickle\nX\x05\x00\x00\x00x.pkl\x85R.",
        "find_class": b"\x80\x02cbuiltins\ngetattr\ncnumpy\nndarray\nX\x06\x00\x00\x00tofile\x86R.",
    }.items():
        for reader, file in PICKLES:
            yield reader, file, code, f"the opcode {what}"
    for what, tag in {
        "apply": f"!!python/object/apply:os.system ['touch {mark}']",
        "new": "!!python/object/new:os.system [x]",
        "name": "!!python/name:os.system",
        "module": "!!python/module:os",
        "object": "!!python/object:fuzz_payloads.Call {parts: 1}",
        "tuple": "!!python/tuple [1]",
        "own": "!own x",
    }.items():
        for key in ("model_name", "MODEL", "class_names", "? ", "LAYOUT"):
            yield "config", "x.yaml", CONFIG + f"\n{key}: {tag}\n".encode(), f"the tag {what} as {key}"
            yield "layout_file", "layout.yaml", LAYOUT + f"\n{key}: {tag}\n".encode(), f"the tag {what} as {key}"
        yield "config_override", "override.txt", f"MODEL.a={tag}".encode(), f"the tag {what}"
