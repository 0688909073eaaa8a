"""Explanations of what ATC prints when it fails.

The codes and their subjects are from CANN's documents ("GE Errors", "Public Operator Errors" and others) and from
messages that users have reported; the explanations are our own.
"""
import re

CODE = re.compile(r"\bE(?:[0-9]{5}|[A-Z][0-9]{4})\b")
MAX_EXPLAINED_LINES = 3
MAX_LINE_LENGTH = 240
UNKNOWN_OPERATOR = ("this CANN does not support the operator at the model's opset: export the model at a lower --opset "
                    "(every CANN supports 11), or install a newer CANN")
NO_KERNEL = "the chip does not support the operator, or not with these shapes and types"
INCOMPLETE_CANN = "CANN's environment is incomplete: source its set_env.sh, or pass it with --set_env"
NO_PYTHON = "CANN's compiler finds no Python with numpy, decorator, sympy, scipy, psutil and attrs"
MEANINGS = {
    "E10001": "an option's value is wrong",
    "E10002": "--input_shape does not have the form name:1,2,3",
    "E10003": "an option's value is wrong",
    "E10004": "an option's value is empty",
    "E10007": "an option is missing",
    "E10009": "options for dynamic shapes exclude each other",
    "E10011": "a size in --input_shape is not positive",
    "E10014": "an option's value is wrong",
    "E10016": "a name in the options is not one of the model's nodes",
    "E10017": "a name in the options is not one of the model's inputs",
    "E10018": "only the batch axis may be dynamic with --dynamic_batch_size",
    "E10031": "no input has a dynamic batch, but --dynamic_batch_size is set",
    "E10034": "an input cannot have both --input_fp16_nodes and --insert_op_conf",
    "E10035": "too few sizes in --dynamic_batch_size",
    "E10036": "too many sizes in --dynamic_batch_size",
    "E10039": "--dynamic_batch_size contains a size twice",
    "E10041": "the file is not a valid ONNX model, or its weights are not next to it",
    "E10047": "options exclude each other",
    "E10049": "--input_shape has a different number of axes than the input",
    "E10054": "an option is missing or not quoted",
    "E10055": "this combination of options is not supported",
    "E10056": "options exclude each other",
    "E10501": "an operator's prototype is not registered: ASCEND_OPP_PATH may be wrong",
    "E13000": "a path does not exist",
    "E13001": "a file cannot be opened",
    "E13003": "a file cannot be read",
    "E13004": "a file cannot be written",
    "E13009": "two nodes of the model have the same name",
    "E13010": UNKNOWN_OPERATOR,
    "E13026": "a path does not exist, or contains characters that ATC does not accept",
    "E16002": UNKNOWN_OPERATOR,
    "E16005": "the model declares several operator sets, ATC accepts one",
    "E19010": UNKNOWN_OPERATOR,
    "E19999": "an internal error of ATC; see its own logs in ~/ascend/log/debug/plog",
    "E20002": INCOMPLETE_CANN,
    "E40000": NO_PYTHON,
    "E40002": NO_PYTHON,
    "EC0010": NO_PYTHON,
    "EE1001": "the runtime refuses an argument; if it is the name of a chip, this CANN does not support that chip",
    "EZ3002": NO_KERNEL,
    "EZ3003": NO_KERNEL,
    "EZ9010": UNKNOWN_OPERATOR,
    "EZ9999": "an internal error while an operator was compiled; see ATC's own logs in ~/ascend/log/debug/plog",
}
# Failures before ATC itself prints anything.
PHRASES = {
    "libascend_hal.so": "without an Ascend driver, CANN's devlib folder has to be on LD_LIBRARY_PATH: "
                        "export LD_LIBRARY_PATH=$ASCEND_TOOLKIT_HOME/$(uname -m)-linux/devlib:$LD_LIBRARY_PATH",
    "error while loading shared libraries": INCOMPLETE_CANN,
    "No space left on device": "the disk is full",
    "ModuleNotFoundError": NO_PYTHON,
}


def explain_output(text, status):
    """The relevant lines of ATC's output, each with an explanation, as one line.

    Args:
        text: the output. status: the exit status; negative, or above 128 from a shell, if a signal ended it.
    """
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    found, seen = [], set()
    for line in lines:
        codes = [code for code in CODE.findall(line) if code not in seen]
        phrase = next((words for words in PHRASES if words in line and words not in seen), None)
        if codes or phrase:
            seen.update(codes or [phrase])
            meaning = next((MEANINGS[code] for code in codes if code in MEANINGS), None) or PHRASES.get(phrase)
            found.append(line[:MAX_LINE_LENGTH] + (f" (meaning: {meaning})" if meaning else ""))
    if not found and status in (-9, 128 + 9):
        found = ["it was killed, probably because the host ran out of memory"]
    shown = found or [line[:MAX_LINE_LENGTH] for line in lines[-MAX_EXPLAINED_LINES:]] or ["it printed nothing"]
    return " | ".join(shown[:MAX_EXPLAINED_LINES])
