"""Train → evaluate → export → inference sweep: ``test_train_inference_python.sh``.

The lines of a params file, counted from 1: 2 model, 3 python, 4 gpu_list, 5 use_gpu, 6 auto_cast, 7 epochs, 8 output
folder, 9 batch size, 10 pretrained, 12 and 13 further parameters, 15 trainer, 16 to 21 its commands, 24 evaluation, 25
its weights, 28 folder of the export, 29 its weights, 30 to 35 exports, 37 weights for whole_infer, 38 their exports, 39
whether quantised, 40 inference, 41 to 51 its arguments.
"""
import itertools
import os
import shutil
from pathlib import Path

from paddlevideo_skel.errors import ConfigError, near_miss

from . import FOLDER, MODES
from .chain import SKIPPED, Chain, shown
from .host import Host, interpreter, is_x86
from .params import NULL, Params

HEADERS = {1: "train_params", 23: "eval_params", 27: "infer_params"}
TRAINERS = {16: 30, 17: 31, 18: 32, 19: 33, 20: 30, 21: 35}  # line of a trainer's command → line of its export
LITE_ITERATIONS = 30  # per epoch, as in PaddleVideo's script


def read(path, mode):
    """The params file of this chain; checks the mode too."""
    if mode not in MODES:
        raise ConfigError("mode", f"found {mode!r}", near_miss(mode, MODES))
    return Params(path, HEADERS)


def run(path, mode, gpus=None, npu=False):
    """The whole chain; returns the exit status.

    Args:
        path: params file.
        mode: one of ``MODES``.
        gpus: ``CUDA_VISIBLE_DEVICES`` for whole_infer, or None.
        npu: run the file's GPU rows on the NPU.
    """
    params = read(path, mode)
    if npu:
        copy = FOLDER / "output" / params.model / f"{mode}_npu" / params.path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(for_npu(params), encoding="utf-8")
        print(f"notice: {shown(copy)} has the GPU rows of {params.path} for the NPU", flush=True)
        params = Params(copy, HEADERS)
    return TrainInfer(params, mode, gpus, npu).run()


def for_npu(params):
    """The params file's text with the GPU rows for the NPU, and without oneDNN on CPUs that lack it."""
    lines = list(params.lines)
    count = len(params.options(4))
    lines[4] = "--use_npu:" + "|".join(["True"] * count)
    lines[40] = f"--use_npu:{params.value(41)}"
    lines[44] = f"{params.key(45)}:False"  # no TensorRT on an NPU
    if not is_x86():
        lines[41] = f"{params.key(42)}:False"
    return "\n".join(lines) + "\n"


def find_weights(folder, wanted):
    """The checkpoint of a training: the one with the wanted name, the best, or the last.

    Args:
        wanted: path in the params file; only its name counts.
    """
    named = folder / Path(wanted).name
    if named.is_file():
        return named
    best, last = (sorted(folder.glob(f"*_{kind}.pdparams")) for kind in ("best", "epoch_*"))
    return (best or last or [named])[-1]


class TrainInfer:
    """One params file in one mode."""

    def __init__(self, params, mode, gpus=None, npu=False):
        self.params, self.mode, self.gpus = params, mode, gpus
        self.python = interpreter(params.python)
        self.host = Host(self.python)
        self.chain = Chain(params.model, FOLDER / "output" / params.model / (mode + "_npu" * npu))
        self.environment = dict(os.environ)
        if gpus:
            self.environment["CUDA_VISIBLE_DEVICES"] = gpus

    def run(self):
        """All rows; returns the exit status."""
        if self.mode == "whole_infer":
            self.infer_only()
        else:
            runs = list(self.trainings())
            for prefix, *training in ([("", *runs[0][1:])] if len(runs) == 1 else runs):
                self.train_and_infer(prefix, *training)
        return self.chain.finish()

    # ---- training

    def trainings(self):
        """``(prefix, folder, command, number of devices, reason to skip, line of the export)`` of every training."""
        params = self.params
        uses = params.options(5)
        for i, devices in enumerate(params.options(4)):
            use = uses[i] if i < len(uses) else "null"
            for cast, trainer in itertools.product(params.options(6), params.options(15)):
                line = next((n for n in TRAINERS if params.key(n) == trainer), None)
                if line is None:
                    known = [params.key(n) for n in TRAINERS if params.key(n) not in NULL]
                    raise ConfigError(params.where(15), f"expected a command of {trainer!r} in lines 16 to 21",
                                      near_miss(trainer, known))
                if params.command(line) is None:
                    continue
                # An entry for several machines, ips;devices, is named by its devices.
                name = f"{trainer}_gpus_{devices.split(';')[-1]}_autocast_{cast}_nodes_1"
                folder = self.chain.folder / name
                command = self.train_command(line, folder, devices, use, cast)
                yield f"{name}_", folder, command, self.reason_to_skip(command, devices, use), TRAINERS[line]

    def train_command(self, line, folder, devices, use, cast):
        """The words of a training's command."""
        params = self.params
        output = params.arguments(8, shown(folder))
        if not output:
            raise ConfigError(params.where(8), "expected a key for the output folder", "Write -o output_dir:null")
        command = params.command(line) + ["--amp"] * (cast == "fp16") + params.arguments(5, use) + output
        if "whole_train" not in self.mode:
            command += params.arguments(7) + params.arguments(10) + params.arguments(9) + params.arguments(13)
            command += params.arguments(12)
            if not any(word.startswith("--max_iters") for word in command):
                command.append(f"--max_iters={LITE_ITERATIONS}")
        if "," in devices:
            return [self.python, "-B", "-m", "paddle.distributed.launch", f"--gpus={devices}", *command]
        return [self.python, *command]

    def reason_to_skip(self, command, devices, use):
        """Why a training cannot be run here, or None."""
        if ";" in devices:
            return "training on several machines is not supported"
        if "," in devices:
            reason = self.host.lacks("gpu", len(devices.split(",")))
            if reason:
                return reason
        if use == "True":
            reason = self.host.lacks("npu" if "npu" in self.params.key(5) else "gpu")
            if reason:
                return reason
        return self.host.lacks_half() if "--amp" in command else None

    def train_and_infer(self, prefix, folder, command, reason, export_line):
        """Train, evaluate, export and sweep. If training is skipped, so is everything that needs its weights."""
        params = self.params
        if reason is None and folder.exists():
            shutil.rmtree(folder)  # weights of an older run must not be mistaken for this run's
        row = self.run_or_skip(command, f"{prefix}train", reason)
        reason = f"needs the training that was skipped ({reason})" if row.status == SKIPPED else None
        weights = shown(find_weights(folder, params.value(25)))
        evaluation = params.command(24)
        if evaluation:
            rest = params.arguments(13) if "lite_infer" in self.mode else []
            use = [word for word in command if word.startswith("--use_")]
            self.run_or_skip([self.python, *evaluation, *use, *params.arguments(25, weights), *rest],
                             f"{prefix}eval", reason)
        if params.command(export_line):
            export = [self.python, *params.command(export_line), *params.arguments(29, weights),
                      *params.arguments(28, shown(folder))]
            self.run_or_skip(export, f"{prefix}export", reason)
            self.sweep(shown(folder), export_line == 31, prefix, reason)

    # ---- inference

    def infer_only(self):
        """whole_infer: export given weights, if there is an export, and sweep."""
        params = self.params
        models, exports, quantised = params.options(37), params.options(38), params.options(39)
        if not len(models) == len(exports) == len(quantised):
            raise ConfigError(params.where(37), f"{len(models)} models, {len(exports)} exports and {len(quantised)} "
                              "infer_quant", "Pass the same number of each")
        for i, (model, export, quant) in enumerate(zip(models, exports, quantised)):
            prefix, folder = f"{i}_" if len(models) > 1 else "", model
            if export not in NULL:
                folder = str(Path(model).parent)
                words = self.named(params.split(38, export))
                self.run_or_skip([self.python, *words, *params.arguments(29, model), *params.arguments(28, folder)],
                                 f"{prefix}export", None)
            self.sweep(folder, quant == "True", prefix, None)

    def named(self, export):
        """An export's command with the file name that inference expects.

        PaddleVideo's own params files omit it here and rely on files that another mode left under that name.
        """
        if self.params.value(47) in NULL or any(word.startswith("--save_name") for word in export):
            return export
        return [*export, "--save_name", Path(self.params.value(47)).stem]

    def sweep(self, folder, quantised, prefix, reason):
        """All inference rows with the model in ``folder``."""
        for use in self.params.options(41):
            if use in ("False", "cpu"):
                self.sweep_cpu(folder, use, quantised, prefix, reason)
            elif use in ("True", "gpu", "npu"):
                self.sweep_device(folder, use, quantised, prefix, reason)
            else:
                raise ConfigError(self.params.where(41), f"found {use!r}, expected True or False")

    def sweep_cpu(self, folder, use, quantised, prefix, reason):
        params = self.params
        for mkldnn, threads, batch, precision in itertools.product(*(params.options(n) for n in (42, 43, 44, 46))):
            if quantised and (mkldnn == "False" or precision != "int8"):
                continue
            why = reason or ("paddle has no fp16 on a CPU" if precision == "fp16" else None)
            log = (f"{prefix}python_infer_cpu_usemkldnn_{mkldnn}_threads_{threads}_precision_{precision}"
                   f"_batchsize_{batch}")
            self.infer(folder, log, why, [
                *params.arguments(41, use), *self.not_the_others(), *params.arguments(42, mkldnn),
                *params.arguments(43, threads), *params.arguments(44, batch), *params.arguments(46, precision)])

    def sweep_device(self, folder, use, quantised, prefix, reason):
        params = self.params
        kind = "npu" if "npu" in params.key(41) or use == "npu" else "gpu"
        for trt, precision, batch in itertools.product(*(params.options(n) for n in (45, 46, 44))):
            half = precision in ("fp16", "int8")
            if (half and trt == "False" and kind == "gpu") or (precision == "int8") != quantised:
                continue
            why = reason or self.host.lacks(kind) or (self.host.lacks_tensorrt() if trt == "True" else None)
            if kind == "npu" and precision != "fp32":
                why = why or f"{precision} is not supported on an NPU through paddle"
            log = f"{prefix}python_infer_{kind}_usetrt_{trt}_precision_{precision}_batchsize_{batch}"
            self.infer(folder, log, why, [
                *params.arguments(41, use), *params.arguments(45, trt), *params.arguments(46, precision),
                *params.arguments(44, batch)])

    def not_the_others(self):
        """Arguments that keep a CPU row off devices of this host that its own line does not mention."""
        return [f"--use_{kind}=False" for kind in ("gpu", "npu")
                if f"use_{kind}" not in self.params.key(41) and not self.host.lacks(kind)]

    def infer(self, folder, log, reason, arguments):
        params = self.params
        files = {n: "null" if params.value(n) in NULL else f"{folder}/{params.value(n)}" for n in (47, 51)}
        self.run_or_skip([
            self.python, *params.command(40), *arguments, *params.arguments(47, files[47]), *params.arguments(48),
            *params.arguments(50), *params.arguments(51, files[51])], log, reason)

    def run_or_skip(self, argv, log, reason):
        if reason:
            return self.chain.skip(argv, reason)
        return self.chain.run(argv, log, self.environment)
