"""What ATC prints when it fails, in words.

Codes, and what they are about, are those of CANN's documents ("GE Errors", "Public Operator Errors" and the like) and
of the messages that users reported; the words are ours.
"""
import re

CODE = re.compile(r"\bE(?:[0-9]{5}|[A-Z][0-9]{4})\b")
SHOWN = 3
LENGTH = 240  # of a line that is shown
UNKNOWN_OPERATOR = ("this CANN does not know the operator at the model's opset: export the model at a lower --opset, "
                    "11 is what every CANN knows, or install a newer CANN")
NO_KERNEL = "the chip has no such operator, or not for these shapes and types"
ENVIRONMENT = "CANN's environment is incomplete: source its set_env.sh, or give it with --set_env"
PYTHON = "CANN's compiler does not find a Python that it can use, with numpy, decorator, sympy, scipy, psutil, attrs"
MEANINGS = {
    "E10001": "an option's value is wrong",
    "E10002": "--input_shape is not written as name:1,2,3",
    "E10003": "an option's value is wrong",
    "E10004": "an option's value is empty",
    "E10007": "an option is missing",
    "E10009": "options for dynamic shapes exclude each other",
    "E10011": "a size in --input_shape is not positive",
    "E10014": "an option's value is wrong",
    "E10016": "a name in the options is not one of the model's nodes",
    "E10017": "a name in the options is not one of the model's inputs",
    "E10018": "only the batch may be open with --dynamic_batch_size",
    "E10031": "no input has an open batch, but --dynamic_batch_size is given",
    "E10034": "an input cannot have both --input_fp16_nodes and --insert_op_conf",
    "E10035": "too few sizes in --dynamic_batch_size",
    "E10036": "too many sizes in --dynamic_batch_size",
    "E10039": "--dynamic_batch_size names a size twice",
    "E10041": "the file is no valid ONNX model, or its weights are not beside it",
    "E10047": "options exclude each other",
    "E10049": "--input_shape has another number of axes than the input",
    "E10054": "an option is missing, or was not in quotes",
    "E10055": "this combination of options is not supported",
    "E10056": "options exclude each other",
    "E10501": "an operator's prototype is not registered: ASCEND_OPP_PATH may be wrong",
    "E13000": "a path does not exist",
    "E13001": "a file cannot be opened",
    "E13003": "a file cannot be read",
    "E13004": "a file cannot be written",
    "E13009": "two nodes of the model have the same name",
    "E13010": UNKNOWN_OPERATOR,
    "E13026": "a path does not exist, or holds characters that ATC does not take",
    "E16002": UNKNOWN_OPERATOR,
    "E16005": "the model names several operator sets, ATC takes one",
    "E19010": UNKNOWN_OPERATOR,
    "E19999": "an error inside ATC; more is in its own logs, ~/ascend/log/debug/plog",
    "E20002": ENVIRONMENT,
    "E40000": PYTHON,
    "E40002": PYTHON,
    "EC0010": PYTHON,
    "EE1001": "the runtime refuses an argument; with a chip's name in it, this CANN does not know that chip",
    "EZ3002": NO_KERNEL,
    "EZ3003": NO_KERNEL,
    "EZ9010": UNKNOWN_OPERATOR,
    "EZ9999": "an error inside an operator's compilation; more is in ATC's own logs, ~/ascend/log/debug/plog",
}
# Failures before ATC itself speaks.
PHRASES = {
    "libascend_hal.so": "on a host without an Ascend driver, CANN's devlib folder has to be on LD_LIBRARY_PATH: "
                        "export LD_LIBRARY_PATH=$ASCEND_TOOLKIT_HOME/$(uname -m)-linux/devlib:$LD_LIBRARY_PATH",
    "error while loading shared libraries": ENVIRONMENT,
    "No space left on device": "the disk is full",
    "ModuleNotFoundError": PYTHON,
}


def explain(text, status):
    """The telling lines of what ATC printed, each with what it means, as one line.

    Args:
        text: everything it printed. status: its exit status; a negative one, or a shell's above 128, tells the signal
            that ended it.
    """
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    told, seen = [], set()
    for line in lines:
        codes = [code for code in CODE.findall(line) if code not in seen]
        phrase = next((words for words in PHRASES if words in line and words not in seen), None)
        if codes or phrase:
            seen.update(codes or [phrase])
            meaning = next((MEANINGS[code] for code in codes if code in MEANINGS), None) or PHRASES.get(phrase)
            told.append(line[:LENGTH] + (f" (that is: {meaning})" if meaning else ""))
    if not told and status in (-9, 128 + 9):
        told = ["it was killed, which is what Linux does when memory runs out"]
    return " | ".join((told or [line[:LENGTH] for line in lines[-SHOWN:]] or ["it printed nothing"])[:SHOWN])
