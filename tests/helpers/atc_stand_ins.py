"""Stand-ins for Ascend's ``atc`` and ``npu-smi``, and tiny ONNX models for them.

The stand-in for atc refuses what ATC's manual says that ATC refuses, leaves files in its folder as ATC does, and
writes an ``.om`` that only tells how it was called. ``STAND_IN_ATC`` makes it fail in the ways that ATC may.
"""
import json
import os
import stat
import sys

import numpy as np

from paddlevideo_skel.inference.artifact import SelfCheck, write_metadata

ATC = '''#!{python}
"""STAND-IN for Ascend's atc: no model is compiled here."""
import json, os, re, sys
import onnx

KNOWN = {{"framework", "model", "output", "input_format", "input_shape", "soc_version", "log", "precision_mode",
         "precision_mode_v2", "op_select_implmode", "input_fp16_nodes", "output_type", "dynamic_batch_size",
         "insert_op_conf", "modify_mixlist"}}
PATH = re.compile("[A-Za-z0-9_./\u4e00-\u9fa5-]+")


def fail(code, text):
    print("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
    print(f"{{code}}: [PID: 1] 2026-01-01-00:00:00.000.000 {{text}}")
    print("        Solution: Try again.")
    sys.exit(1)


print("ATC start working now, please wait for a moment.")
options = {{}}
for word in sys.argv[1:]:
    name, equals, value = word.partition("=")
    if not word.startswith("--") or not equals or name[2:] not in KNOWN or name[2:] in options:
        fail("E10001", f"Value {{word}} for parameter is invalid. Reason: unknown or given twice")
    options[name[2:]] = value
for name in ("framework", "model", "output", "soc_version"):
    if not options.get(name):
        fail("E10054", f"The required parameter {{name}} for ATC is empty.")
if not re.fullmatch("Ascend[0-9][0-9A-Z]+(_[0-9]+)?", options["soc_version"]):
    fail("EE1001", f"The argument is invalid.Reason: Soc version [{{options['soc_version']}}] is invalid")
for name in ("model", "output"):
    if not PATH.fullmatch(os.path.realpath(options[name])):
        fail("E13026", f"Input path {{options[name]}} is invalid.")
if options["framework"] != "5" or options["input_format"] != "ND":
    fail("E10007", "--framework is required. The value must be 5.")
if "precision_mode" in options and "precision_mode_v2" in options:
    fail("E10056", "Cannot configure both parameters precision_mode and precision_mode_v2 simultaneously.")
for name in ("insert_op_conf", "modify_mixlist"):
    if name in options and not os.path.isfile(options[name]):
        fail("E10410", f"File {{options[name]}} does not exist.")
model = onnx.load(options["model"])
inputs = {{i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}}
given = {{}}
for part in options["input_shape"].split(";"):
    name, _, sizes = part.rpartition(":")
    given[name] = [int(size) for size in sizes.split(",")]
if set(given) != set(inputs):
    fail("E10016", f"Opname {{sorted(given)}} specified in --input_shape is not found in the model.")
for name, sizes in given.items():
    if len(sizes) != len(inputs[name]) or any(n > 0 and n != m for n, m in zip(inputs[name], sizes)):
        fail("E10049", "Dimension count configured in --input_shape does not match that of the node.")
    if any(size < 1 for size in sizes[1:]) or (sizes[0] < 1 and "dynamic_batch_size" not in options):
        fail("E10011", "Shape values must be positive integers.")
if "dynamic_batch_size" in options:
    profiles = options["dynamic_batch_size"].split(",")
    if all(sizes[0] != -1 for sizes in given.values()):
        fail("E10031", "--dynamic_batch_size is included, but no batch size is -1.")
    if not 2 <= len(profiles) <= 100 or len(set(profiles)) != len(profiles):
        fail("E10035", "--dynamic_batch_size has a wrong number of profiles.")
if any(name not in inputs for name in filter(None, options.get("input_fp16_nodes", "").split(";"))):
    fail("E10016", "Opname specified in --input_fp16_nodes is not found in the model.")
os.makedirs("kernel_meta", exist_ok=True)
open("fusion_result.json", "w").close()
how, _, only = os.environ.get("STAND_IN_ATC", "").partition(":")
how = how if only in options["output"] else ""
om = options["output"] + ".om"
if how == "fail":
    open(om, "w").write("half")
    fail("E19010", "No parser is registered for Op [node1, optype [ai.onnx::13::Gelu]].")
if how == "killed":
    os.kill(os.getpid(), 9)
if how == "suffix":
    om = options["output"] + "_linux_x86_64.om"
if how == "empty":
    open(om, "w").close()
elif how != "nothing":
    json.dump({{"options": options, "environment": os.environ.get("STAND_IN_ENVIRONMENT")}}, open(om, "w"))
print("ATC run success, welcome to the next use.")
'''

SLOW_ATC = """#!/bin/sh
# STAND-IN for an atc that works for minutes, with a compiler of its own, and has half a model by then
for word; do
    case $word in --output=*) echo half >"${word#--output=}.om" ;; esac
done
sleep 600 &
echo $$ $! >"$STAND_IN_PIDS.tmp"
mv "$STAND_IN_PIDS.tmp" "$STAND_IN_PIDS"
wait
"""

SMI = """#!/bin/sh
# STAND-IN for Ascend's npu-smi
[ "$1" = info ] || exit 9
cat <<'TABLE'
{table}
TABLE
exit {status}
"""


def executable(path, text):
    """A program of this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def put_atc(folder):
    """The stand-in for atc in a folder, that somebody then puts on PATH."""
    return executable(folder / "atc", ATC.format(python=sys.executable))


def put_slow_atc(folder):
    """One that has to be ended; it writes its and its child's process ids to the file ``$STAND_IN_PIDS``."""
    return executable(folder / "atc", SLOW_ATC)


def put_npu_smi(folder, table, status=0):
    return executable(folder / "npu-smi", SMI.format(table=table, status=status))


def path_of(*folders):
    """PATH with these folders, and what a shell needs."""
    return os.pathsep.join([*map(str, folders), "/usr/bin", "/bin"])


def called(om):
    """How the stand-in was called."""
    return json.loads(om.read_text())["options"]


CLASSES, SHAPE = 5, (3, 4)


def write_onnx(path, batch="N", name="data_batch_0", opset=13, classes=CLASSES):
    """A model ``(batch, 3, 4) -> (batch, classes)``: the sum over the channels, times a matrix. Returns the matrix."""
    from onnx import TensorProto, helper, numpy_helper, save

    matrix = np.arange(SHAPE[1] * classes, dtype="float32").reshape(SHAPE[1], classes) - 7
    nodes = [helper.make_node("ReduceMean", [name], ["mean"], "node0", axes=[1], keepdims=0),
             helper.make_node("MatMul", ["mean", "matrix"], ["logits"], "node1")]
    graph = helper.make_graph(nodes, "tiny", [helper.make_tensor_value_info(name, TensorProto.FLOAT, (batch, *SHAPE))],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (batch, classes))],
                              [numpy_helper.from_array(matrix, "matrix")])
    path.parent.mkdir(parents=True, exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return matrix


def write_onnx_export(path, batch="N"):
    """The same with its metadata and self-check, as tools/export_onnx.py leaves them."""
    matrix = write_onnx(path, batch)
    array = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")
    stem = path.with_suffix("")
    SelfCheck(array, array.mean(1) @ matrix).save(f"{stem}.selfcheck.npz")
    write_metadata({"format": 1, "model_name": "tiny", "pipeline": {}, "output": {"num_classes": CLASSES},
                    "input": {"name": "data_batch_0", "shape": [-1 if batch == "N" else batch, *SHAPE],
                              "dtype": "float32"},
                    "selfcheck": {"file": f"{stem.name}.selfcheck.npz", "tolerance": 1e-4}},
                   f"{stem}.metadata.json")
    return path
