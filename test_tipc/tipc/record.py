"""``record_results.sh``: run whole_infer with seeded weights and record the answers in ``results/<Model>/``."""
import shutil

from paddlevideo_skel.errors import ConfigError, near_miss

from . import FOLDER, prepare, train_infer

MODE = "whole_infer"


def run(*models):
    """Record the named models, or all; returns the exit status."""
    known = sorted(path.parent.name for path in (FOLDER / "configs").glob("*/train_infer_python.txt"))
    for model in models:
        if model not in known:
            raise ConfigError(model, "has no train_infer_python.txt", near_miss(model, known))
    status = 0
    for model in models or known:
        params = FOLDER / "configs" / model / "train_infer_python.txt"
        output = FOLDER / "output" / model / MODE
        shutil.rmtree(output, ignore_errors=True)  # logs of an older run must not be recorded
        prepare.run(params, MODE)
        failed = train_infer.run(params, MODE)
        status = status or failed
        if not failed:
            record(model, output)
    return status


def record(model, output):
    """Write the answers of the first row of each precision, with which the others are compared."""
    folder = FOLDER / "results" / model
    folder.mkdir(parents=True, exist_ok=True)
    for precision in ("fp32", "fp16"):
        logs = sorted(output.glob(f"python_infer_*_precision_{precision}_*.log"))
        if not logs:
            print(f"not recorded: {model} in {precision}, because none of its rows could be run here", flush=True)
            continue
        lines = [line for line in logs[0].read_text(encoding="utf-8").splitlines()
                 if line.startswith("Current video file") or line.lstrip().startswith("top-")]
        path = folder / f"python_ppvideo_{model}_results_{precision}.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"recorded {path.relative_to(FOLDER.parent)}", flush=True)
