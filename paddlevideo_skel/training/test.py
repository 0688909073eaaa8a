"""Testing a checkpoint: ``main.py --test``."""
from pathlib import Path

import paddle
from tqdm import tqdm

from ..build import build_recognizer, check_first_sample, check_parts, input_shape
from ..checkpoints.fit import fit_main
from ..checkpoints.load import load_weights
from ..config import class_names
from ..evaluation import save_results
from ..files import output_folder
from ..registry import split_name
from . import distributed
from .data import make_loader
from .metrics import METRICS


@paddle.no_grad()
def test(config, weights, out=None, max_iters=None):
    """Test a checkpoint on the config's test data; the model averages over several clips of a sample.

    Args:
        config: from ``load_config``.
        weights: checkpoint, in any of the forms that ``checkpoints.load`` reads.
        out: JSON file for per-class accuracy, confusion matrix and per-sample scores; the confusion matrix is also
            plotted next to it if matplotlib is installed.
        max_iters: at most this many batches, for trials.

    Returns:
        dict of results. Of several processes (``distributed``), each tests its share; the first returns the results
        over all samples, the others None.
    """
    check_parts(config, ("test",))
    name, arguments = split_name(config.value("METRIC"), config.where("METRIC"))
    metric = METRICS.build(name, arguments, config.where("METRIC"))
    if out and distributed.is_main():
        output_folder(Path(out).parent)
    distributed.quiet_others()
    distributed.choose_device(config)
    model = fit_main(build_recognizer(config), load_weights(weights), weights)
    model.eval()
    input_shape(config, model, "test")
    names = class_names(config, model.head.num_classes)
    with make_loader(config, "test", model.head.num_classes) as loader, distributed.losing_others():
        check_first_sample(config, model, "test", loader.dataset)
        total = min(loader.total, max_iters or loader.total)
        for batch in tqdm(loader.batches(0), total=min(len(loader), total), desc="testing", leave=False,
                          disable=distributed.progress_hidden()):
            if batch.number >= total:
                break
            logits = model(paddle.to_tensor(batch.array)).astype("float32").numpy()
            metric.update(batch.number, total, logits, batch)
        metric.batches = [batch for share in distributed.gather(metric.batches) for batch in share]
    if not distributed.is_main():
        return None
    results = metric.accumulate(names)
    if out:
        save_results(results, out)
    return results
