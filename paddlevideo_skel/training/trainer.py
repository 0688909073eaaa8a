"""The training loop, in one process or in one of several (``distributed``)."""
import datetime
import logging
import os
import time
from pathlib import Path

import numpy as np
import paddle
from tqdm import tqdm

from ..checkpoints import FORMATS, fit_weights, load_weights, save_state
from ..data.datasets import build_dataset
from ..data.loader import BatchLoader
from ..data.mixup import MIXES
from ..errors import ConfigError, DataError
from ..files import output_folder
from ..logs import setup_logging
from ..recipe import build_pipeline, build_recognizer, check_recipe, input_shape, main_model
from ..results import hits
from . import distributed
from .curves import Curves
from .device import choose_device
from .losses import build_losses, cross_entropy, mixed
from .metrics import Mean, Throughput
from .optimizers import build_optimizer, check_optimizer
from .precision import Precision
from .profiling import StepProfiler
from .schedules import build_schedule

logger = logging.getLogger(__name__)

WARM_UP = 5  # steps of a run that its throughput leaves out


def train(config, weights=None, validate=False, amp_level=None, max_iters=None, seed=1234, profiler_options=None,
          weights_format="pdparams", allow_mismatch=False):
    """Train from a config; the whole of ``main.py`` without ``--test``.

    Args:
        config: from ``load_config``.
        weights: checkpoint to start from.
        validate: validate every ``val_interval`` epochs and keep the best.
        amp_level: None, ``O1`` or ``O2``.
        max_iters: at most so many iterations an epoch, for trials.
        seed: the same seed gives the same numbers, to the bit on a CPU with the same number of threads.
        profiler_options: see ``StepProfiler``.
        weights_format: ``pdparams``, or ``safetensors`` to save weights without any pickle.
        allow_mismatch: what depends on the classes or the skeleton begins anew where ``weights`` has other shapes.

    Returns:
        dict with ``output_dir``, ``best`` (top-1, None without validation), ``last``, ``best_path`` and ``fps``
        (samples a second over all devices).
    """
    with distributed.losing_others():
        trainer = Trainer(config, weights, validate, amp_level, max_iters, seed, profiler_options, weights_format,
                          allow_mismatch)
        try:
            return trainer.run()
        finally:
            trainer.close()


class Trainer:
    """One training run: everything is built and checked in ``__init__``, before anything long begins."""

    def __init__(self, config, weights, validate, amp_level, max_iters, seed, profiler_options,
                 weights_format="pdparams", allow_mismatch=False):
        if weights_format not in FORMATS:
            raise ConfigError("--format", f"found {weights_format!r}, expected {' or '.join(FORMATS)}")
        self.config, self.max_iters, self.suffix = config, max_iters, f".{weights_format}"
        self.name = config.section("model_name")
        self.epochs = config.section("epochs")
        splits = ("train", "valid") if validate else ("train",)
        check_recipe(config, splits)
        check_optimizer(config.section("OPTIMIZER"), config.where("OPTIMIZER"))
        self.mix = MIXES.build_spec(config["MIX"], config.where("MIX")) if config.get("MIX") else None
        self.main, self.world = distributed.is_main(), distributed.world_size()
        self.folder = Path(config.get("output_dir", f"./output/{self.name}"))
        if self.main:
            output_folder(self.folder)
            setup_logging(config.get("log_level", "INFO"), self.folder / "train.log")
        distributed.quiet_others()
        self.profiler = StepProfiler(profiler_options) if profiler_options and self.main else None
        self.loaders = {}
        self.curves = None
        paddle.seed(seed)
        device = choose_device(config)
        self.precision = Precision(amp_level, device)
        self.recognizer = build_recognizer(config)
        student = main_model(self.recognizer)
        for split in splits:
            input_shape(config, student, split)
        self.compute_loss = self._losses()
        if weights:
            fit_weights(self.recognizer, load_weights(weights), weights, allow_mismatch)
            logger.info("Finetune from checkpoint: %s", weights)
        for split in splits:
            self.loaders[split] = make_loader(config, split, student.head.num_classes, seed, self.mix)
        self.iterations = min(len(self.loaders["train"]), max_iters or len(self.loaders["train"]))
        self.schedule, self.iter_step = build_schedule(
            config["OPTIMIZER"]["learning_rate"], self.iterations, config.where("OPTIMIZER.learning_rate"))
        learning = [p for p in self.recognizer.parameters() if not p.stop_gradient]
        self.optimizer = build_optimizer(config["OPTIMIZER"], self.schedule, learning)
        self.recognizer, self.optimizer = self.precision.decorate(self.recognizer, self.optimizer)
        self.network = distributed.parallel(self.recognizer)
        if not self.main:
            paddle.seed(seed + distributed.rank())  # the same weights, but each process its own dropout
        self.best, self.best_path, self.step_time = None, None, Mean()
        self.throughput = Throughput(min(WARM_UP, self.epochs * self.iterations // 2))
        logger.info("Training in %s: %d samples, %d iterations an epoch, %d epochs, %.2f M parameters that learn",
                    self.precision, len(self.loaders["train"].dataset), self.iterations, self.epochs,
                    sum(int(np.prod(p.shape)) for p in learning) / 1e6)
        if self.world > 1:
            logger.info("%d processes, %d samples an iteration, %d in each; the learning rate is for all of them",
                        self.world, self.world * self.loaders["train"].batch_size, self.loaders["train"].batch_size)

    def _losses(self):
        """``{"Train": f, "Val": f}``, each ``f(logits, label, mix)`` of what the recognizer returns."""
        if hasattr(self.recognizer, "names"):
            return build_losses(self.recognizer.loss, self.recognizer, self.config.where("MODEL.loss"))

        def loss(logits, label, mix):
            return mixed(lambda y, t: cross_entropy(y, t, self.recognizer.head.ls_eps), logits, label, mix)
        return {"Train": loss, "Val": loss}

    def run(self):
        """Train to the end."""
        if self.main:
            self.curves = Curves(self.folder / "vdl")
        for epoch in range(1, self.epochs + 1):
            self.train_epoch(epoch)
            self.precise_bn(epoch)
            last = epoch == self.epochs
            if "valid" in self.loaders and (last or (epoch - 1) % self.config.get("val_interval", 1) == 0):
                self.keep_best(self.validate(epoch))
            if last or epoch % self.config.get("save_interval", 1) == 0:
                self.save(f"epoch_{epoch:05d}")
        fps = self.throughput.since()
        self.log_fps("run", fps)
        logger.info("training %s finished", self.name)
        return {"output_dir": str(self.folder), "best": self.best, "best_path": self.best_path, "fps": fps,
                "last": str(self.folder / f"{self.name}_epoch_{self.epochs:05d}{self.suffix}")}

    def train_epoch(self, epoch):
        """One pass over the training data."""
        self.recognizer.train()
        record = {key: Mean() for key in ("loss", "top1", "top5", "batch_cost", "reader_cost")}
        started = time.time()
        counted = self.throughput.samples, self.throughput.seconds
        self.throughput.start()
        batches = self.loaders["train"].batches(epoch)
        progress = tqdm(total=self.iterations, desc=f"epoch {epoch}/{self.epochs}", leave=False,
                        disable=distributed.progress_hidden())
        with progress:
            for i, batch in enumerate(batches):
                if i == self.iterations:
                    batches.close()
                    break
                reader_cost = time.time() - started
                if self.profiler:
                    self.profiler.step()
                size = len(batch.label) * self.world
                for key, value in zip(("loss", "top1", "top5"), self.train_step(batch)):
                    record[key].add(value, size)
                rate = self.schedule.get_lr()
                if self.iter_step:
                    self.schedule.step()
                record["batch_cost"].add(time.time() - started)
                record["reader_cost"].add(reader_cost)
                if self.main:
                    self.log_step(record, epoch, i, rate, size)
                progress.update()
                self.throughput.step(size)
                started = time.time()
        if not self.iter_step:
            self.schedule.step()
        self.log_epoch(record, epoch, "train")
        self.log_fps(f"epoch {epoch}", self.throughput.since(*counted))

    def log_step(self, record, epoch, i, rate, size):
        """A line every ``log_interval`` steps, a point on the curves every step."""
        last = {key: value.last for key, value in record.items()}
        self.step_time.add(last["batch_cost"])
        done = (epoch - 1) * self.iterations + i + 1
        remaining = (self.epochs * self.iterations - done) * self.step_time.mean
        if i % self.config.get("log_interval", 10) == 0:
            logger.info("epoch:[%3d/%-3d] train step:%-4d loss: %.5f lr: %.6f top1: %.5f top5: %.5f "
                        "batch_cost: %.5f sec, reader_cost: %.5f sec, ips: %.5f instance/sec, eta: %s",
                        epoch, self.epochs, i, last["loss"], rate, last["top1"], last["top5"], last["batch_cost"],
                        last["reader_cost"], size / last["batch_cost"], datetime.timedelta(seconds=int(remaining)))
        self.curves.add("train", done, lr=rate, eta=remaining, **last)

    def train_step(self, batch):
        """Forward, backward, update; returns the loss and the main model's top-1 and top-5, over all processes."""
        label = paddle.to_tensor(batch.label)
        mix = batch.mix and (paddle.to_tensor(batch.mix[0]), batch.mix[1])
        with self.precision.autocast():
            logits = self.network(paddle.to_tensor(batch.array))
        logits = as_float32(logits)
        loss = self.compute_loss["Train"](logits, label, mix)
        value = float(loss)
        if not np.isfinite(value):
            raise DataError("training", f"the loss is {value} for the samples {', '.join(batch.names)}",
                            "A lower learning rate or ClipGradByGlobalNorm often helps; check these samples")
        scores = self.main_logits(logits).numpy()
        right = (mixed(lambda s, y, k=k: float(hits(s, y, k).mean()), scores, batch.label, batch.mix) for k in (1, 5))
        # Before the backward pass: should another process have failed, paddle could only abort there.
        means = distributed.mean(value, *right)
        self.precision.step(loss, self.optimizer)
        return means

    def main_logits(self, logits):
        return logits[self.recognizer.student_name] if isinstance(logits, dict) else logits

    @paddle.no_grad()
    def validate(self, epoch):
        """Top-1 over the whole validation set; each process computes its share of the batches."""
        self.recognizer.eval()
        distributed.share_statistics(self.recognizer)
        record = {key: Mean() for key in ("loss", "top1", "top5", "batch_cost", "reader_cost")}
        loader, started, rows = self.loaders["valid"], time.time(), []
        for batch in tqdm(loader.batches(0), total=len(loader), desc="validating", leave=False,
                          disable=distributed.progress_hidden()):
            if self.max_iters is not None and batch.number >= self.max_iters:
                break
            reader_cost = time.time() - started
            with self.precision.autocast():
                logits = self.recognizer(paddle.to_tensor(batch.array))
            logits, label = as_float32(logits), paddle.to_tensor(batch.label)
            scores = self.main_logits(logits).numpy()
            rows.append((batch.number, len(scores), float(self.compute_loss["Val"](logits, label, None)),
                         *(float(hits(scores, batch.label, k).mean()) for k in (1, 5))))
            record["batch_cost"].add(time.time() - started)
            record["reader_cost"].add(reader_cost)
            started = time.time()
        for _, size, *values in sorted(row for share in distributed.gather(rows) for row in share):
            for key, value in zip(("loss", "top1", "top5"), values):
                record[key].add(value, size)
        self.log_epoch(record, epoch, "val")
        if self.main:
            self.curves.add("val", epoch, **{key: record[key].mean for key in ("loss", "top1", "top5")})
        return record["top1"].mean

    def keep_best(self, top1):
        """Save the best so far; the student alone beside a distillation's models."""
        if self.best is not None and top1 <= self.best:
            return
        self.best, self.best_path = top1, str(self.save("best"))
        if hasattr(self.recognizer, "names") and self.main:
            save_state(state_of(main_model(self.recognizer)), self.folder / f"{self.name}_best_student{self.suffix}")
        logger.info("Already save the best model (top1 acc)%.4f", top1)

    def save(self, suffix):
        """Write ``<model_name>_<suffix>``, weights and ``.pdopt``; the first process does, the others wait."""
        path = self.folder / f"{self.name}_{suffix}{self.suffix}"
        if self.main:
            save_state(self.optimizer.state_dict(), path.with_suffix(".pdopt"))
            save_state(state_of(self.recognizer), path)
        distributed.barrier()
        return path

    @paddle.no_grad()
    def precise_bn(self, epoch):
        """PRECISEBN: replace running statistics by their plain mean over many batches (Wu & Johnson, 2021)."""
        section = self.config.get("PRECISEBN")
        if not section or ((epoch - 1) % section["preciseBN_interval"] and epoch != self.epochs):
            return
        norms = [layer for layer in self.recognizer.sublayers()
                 if isinstance(layer, paddle.nn.layer.norm._BatchNormBase) and layer.training]
        momenta = [layer._momentum for layer in norms]
        for i, batch in enumerate(self.loaders["train"].batches(epoch)):
            if i >= section.get("num_iters_preciseBN", 200):
                break
            for layer in norms:
                layer._momentum = i / (i + 1)  # paddle's momentum is the share of the old value
            with self.precision.autocast():
                self.recognizer(paddle.to_tensor(batch.array))
        for layer, momentum in zip(norms, momenta):
            layer._momentum = momentum

    def log_epoch(self, record, epoch, phase):
        seconds = record["batch_cost"].total
        logger.info("END epoch:%-3d %s loss_avg: %.5f top1_avg: %.5f top5_avg: %.5f avg_batch_cost: %.5f sec, "
                    "avg_reader_cost: %.5f sec, batch_cost_sum: %.5f sec, avg_ips: %.5f instance/sec.", epoch, phase,
                    record["loss"].mean, record["top1"].mean, record["top5"].mean, record["batch_cost"].mean,
                    record["reader_cost"].mean, seconds, record["loss"].weight / max(seconds, 1e-9))

    def log_fps(self, what, fps):
        """The throughput, under the name that tables of devices have it."""
        if fps is not None:
            logger.info("%s FPS: %.3f (samples a second, %d device%s, without the run's first steps)", what, fps,
                        self.world, "s" * (self.world > 1))

    def close(self):
        """End worker processes, write out what is open."""
        for loader in self.loaders.values():
            loader.close()
        if self.profiler:
            self.profiler.close()
        if self.curves:
            self.curves.close()


def as_float32(logits):
    """Logits, or a dict of them, in float32."""
    if isinstance(logits, dict):
        return {name: y.astype("float32") for name, y in logits.items()}
    return logits.astype("float32")


def state_of(model):
    """A model's state dict in float32."""
    return {name: value if value.dtype == paddle.float32 else value.astype("float32")
            for name, value in model.state_dict().items()}


def make_loader(config, split, num_classes, seed=0, mix=None):
    """The batches of a split, as its sections of the config say; ``mix`` is for training batches only.

    ``batch_size`` is for one device, as in PaddleVideo.
    """
    section = config["DATASET"]
    kind = "" if split == "train" else f"{split}_"
    batch_size = section.get(f"{kind}batch_size", section.get("batch_size", 8))
    workers = section.get(f"{kind}num_workers", section.get("num_workers", 0))
    dataset = build_dataset(section[split], config.where(f"DATASET.{split}"), num_classes)
    training, share = split == "train", (distributed.rank(), distributed.world_size())
    if training and dataset.labels is None:
        raise DataError(config.where("DATASET.train"), "the training data has no labels")
    return BatchLoader(
        dataset, build_pipeline(config, split), batch_size, shuffle=training,
        # The short last batch of an epoch is left out, as in PaddleVideo, unless it is the only one.
        drop_last=training and len(dataset) >= batch_size * share[1], num_workers=min(workers, max_workers()),
        seed=seed, mix=mix if training else None, share=share)


def max_workers():
    """More worker processes than cores only cost memory."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
