"""Testing a checkpoint: ``main.py --test``."""
from pathlib import Path

import paddle
from tqdm import tqdm

from ..build import build_recognizer, check_fit, check_recipe, input_shape
from ..checkpoints.load import fit_main, load_weights
from ..config import class_names
from ..evaluation import save_results
from ..files import output_folder
from ..registry import split_name
from . import distributed
from .data import make_loader
from .device import choose_device
from .metrics import METRICS
from .trainer import as_float32


@paddle.no_grad()
def test(config, weights, out=None, max_iters=None):
    """Test a checkpoint on the config's test data; several clips of a sample are averaged by the model.

    Args:
        weights: checkpoint, in any of the forms of ``checkpoints``.
        out: JSON file for per-class accuracy, confusion matrix and per-sample scores; the confusion matrix is drawn
            beside it where matplotlib is installed.
        max_iters: at most so many batches, for trials.

    Returns:
        the results as a dict. Of several processes (``distributed``) every one tests its share, and the first has the
        results, the others None.
    """
    check_recipe(config, ("test",))
    name, arguments = split_name(config.get("METRIC", {"name": "SkeletonMetric"}), config.where("METRIC"))
    metric = METRICS.build(name, arguments, config.where("METRIC"))
    if out and distributed.is_main():
        output_folder(Path(out).parent)
    distributed.quiet_others()
    choose_device(config)
    model = fit_main(build_recognizer(config), load_weights(weights), weights)
    model.eval()
    input_shape(config, model, "test")
    names = class_names(config, model.head.num_classes)
    with make_loader(config, "test", model.head.num_classes) as loader, distributed.losing_others():
        check_fit(config, model, "test", loader.dataset)
        total = min(loader.total, max_iters or loader.total)
        for batch in tqdm(loader.batches(0), total=min(len(loader), total), desc="testing", leave=False,
                          disable=distributed.progress_hidden()):
            if batch.number >= total:
                break
            metric.update(batch.number, total, as_float32(model(paddle.to_tensor(batch.array))).numpy(), batch)
        metric.batches = [batch for share in distributed.gather(metric.batches) for batch in share]
    if not distributed.is_main():
        return None
    results = metric.accumulate(names)
    if out:
        save_results(results, out)
    return results
