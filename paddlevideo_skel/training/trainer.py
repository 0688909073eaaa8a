"""The training loop, in one process or in one of several (``distributed``)."""
import contextlib
import logging
import random
import time
from dataclasses import dataclass

import numpy as np
import paddle
from tqdm import tqdm

from ..build import build_recognizer, check_first_sample, check_parts, input_shape
from ..checkpoints.fit import fit_weights, save_state
from ..checkpoints.load import WEIGHTS_FORMATS, load_weights
from ..errors import ConfigError, DataError
from ..evaluation import hits
from ..logs import setup_logging
from . import distributed, resume
from .amp import Precision
from .batch_norm import precise_bn, synchronise
from .checkpointing import Checkpointer, StopSignals, parse_interval
from .data import build_checked_datasets, make_loader
from .log import Curves, Progress, RunLog, new_record
from .losses import mixed, recognizer_losses
from .optim import build_optimizer, build_schedule, check_optimizer
from .profiling import StepProfiler
from .run_dir import RunDir

logger = logging.getLogger(__name__)

WARM_UP = 5  # steps of a run that its throughput leaves out


@dataclass(frozen=True)
class TrainOptions:
    """Training options besides the config: the flags of ``main.py`` without ``--test``.

    Attributes:
        weights: checkpoint to start from.
        allow_mismatch: re-initialise layers that depend on the classes or the skeleton where ``weights`` has other
            shapes.
        validate: validate every ``val_interval`` epochs and keep the best checkpoint.
        seed: the same seed gives the same numbers, to the bit on a CPU with the same number of threads. None: the
            config's ``seed``, or the default.
        max_iters: at most this many iterations per epoch, for trials.
        amp_level: None, ``O1`` or ``O2``.
        weights_format: ``pdparams``, or ``safetensors`` to save weights without any pickle.
        resume: True to resume the run in ``output_dir`` if there is one, or the path of a ``.pdstate`` file or its
            folder.
        overwrite: start over in a folder that contains another run.
        skip_bad: omit samples that cannot be used; otherwise they are an error before the first step.
        profiler_options: see ``StepProfiler``.
    """
    weights: str | None = None
    allow_mismatch: bool = False
    validate: bool = False
    seed: int | None = None
    max_iters: int | None = None
    amp_level: str | None = None
    weights_format: str = WEIGHTS_FORMATS[0]
    resume: bool | str | None = None
    overwrite: bool = False
    skip_bad: bool = False
    profiler_options: str | None = None

    def __post_init__(self):
        if self.weights_format not in WEIGHTS_FORMATS:
            raise ConfigError("--format", f"found {self.weights_format!r}, expected {' or '.join(WEIGHTS_FORMATS)}")


def train(config, options=None):
    """Train from a config.

    Args:
        config: from ``load_config``.
        options: ``TrainOptions``; None: the defaults.

    Returns:
        dict with ``output_dir``, ``best`` (top-1, None without validation), ``last``, ``best_path`` and ``fps``
        (samples per second over all devices).

    Raises:
        StoppedError: by SIGTERM or SIGINT, after the state was saved.
    """
    with distributed.losing_others(), StopSignals() as signals:
        trainer = Trainer(config, options or TrainOptions(), signals)
        try:
            return trainer.run()
        finally:
            trainer.close()


class Trainer:
    """One training run. Everything is built and checked in ``__init__``, before long work starts."""

    def __init__(self, config, options, signals=None):
        self.config, self.options, self.signals = config, options, signals or StopSignals()
        self.seed = config.value("seed") if options.seed is None else options.seed
        self.epochs = config.section("epochs")
        self.save_every = parse_interval(config.value("save_every"), config.where("save_every"))
        self.splits = ("train", "valid") if options.validate else ("train",)
        self.loaders, self.log, self.profiler = {}, None, None
        check_parts(config, self.splits)
        check_optimizer(config.section("OPTIMIZER"), config.where("OPTIMIZER"))
        self.is_main, self.world_size = distributed.is_main(), distributed.world_size()
        name = config.section("model_name")
        self.run_dir = RunDir(config.get("output_dir", f"./output/{name}"), name, f".{options.weights_format}")
        try:
            if self.is_main:
                self.run_dir.open()
                setup_logging(config.value("log_level"), self.run_dir.path / "train.log")
            distributed.quiet_others()
            if options.profiler_options and self.is_main:
                self.profiler = StepProfiler(options.profiler_options)
            data = self.build()
            fingerprint = resume.run_fingerprint(
                config, self.splits, seed=self.seed, max_iters=options.max_iters, validate=options.validate,
                format=options.weights_format, processes=self.world_size, device=self.device,
                amp_level=self.precision.level, data=data)
            state = distributed.from_main(lambda: resume.resume_or_start(
                options.resume, options.overwrite, self.run_dir, fingerprint))
            self.start(state, fingerprint)
        except BaseException:
            self.close()
            raise

    def build(self):
        """Build model, data and schedule as they are at the start of a run; returns the data's fingerprints."""
        config = self.config
        # Python's and NumPy's global generators are seeded for user code; this package does not use them.
        random.seed(self.seed)
        np.random.seed(self.seed % 2 ** 32)
        paddle.seed(self.seed)
        self.device = distributed.choose_device(config)
        self.precision = Precision(self.options.amp_level, self.device)
        self.recognizer = build_recognizer(config)
        main = self.recognizer.main
        for split in self.splits:
            input_shape(config, main, split)
        self.losses = recognizer_losses(self.recognizer, config.where("MODEL.loss"))
        datasets, fingerprints = build_checked_datasets(config, self.splits, main, self.run_dir.path,
                                                        self.options.skip_bad)
        for split, dataset in datasets.items():
            check_first_sample(config, main, split, dataset)
            self.loaders[split] = make_loader(config, split, main.head.num_classes, self.seed, dataset)
        self.iterations = min(len(self.loaders["train"]), self.options.max_iters or len(self.loaders["train"]))
        self.schedule, self.iter_step = build_schedule(
            config["OPTIMIZER"]["learning_rate"], self.iterations, config.where("OPTIMIZER.learning_rate"))
        return fingerprints

    def start(self, state, fingerprint):
        """Load a checkpoint's weights or the state to resume from, and build the optimizer."""
        weights = self.options.weights
        if weights and state is None:
            fit_weights(self.recognizer, load_weights(weights), weights, self.options.allow_mismatch)
            logger.info("Finetune from checkpoint: %s", weights)
        elif weights:
            logger.info("%s is ignored: the run resumes from its own state", weights)
        if self.config.value("sync_bn") and self.world_size > 1:
            synchronise(self.recognizer)
        self.trainable = [p for p in self.recognizer.parameters() if not p.stop_gradient]
        self.optimizer = build_optimizer(self.config["OPTIMIZER"], self.schedule, self.trainable)
        self.recognizer, self.optimizer = self.precision.decorate(self.recognizer, self.optimizer)
        distributed.share_weights(self.recognizer)
        if not self.is_main:
            # The same weights, but each process its own dropout.
            paddle.seed(self.seed + distributed.rank())
        self.progress = Progress(min(WARM_UP, self.epochs * self.iterations // 2))
        parts = self.recognizer, self.optimizer, self.precision.scaler, self.progress
        self.checkpointer = Checkpointer(self.run_dir, fingerprint, parts, self.save_every, self.signals)
        self.log = RunLog(self.epochs, self.iterations, self.config.value("log_interval"), self.world_size)
        batch_size = self.loaders["train"].batch_size
        logger.info("Training in %s: %d samples, %d iterations per epoch, %d epochs, %.2f M trainable parameters",
                    self.precision, len(self.loaders["train"].dataset), self.iterations, self.epochs,
                    sum(int(np.prod(p.shape)) for p in self.trainable) / 1e6)
        if self.world_size > 1:
            logger.info("%d processes, %d samples per iteration, %d in each; the learning rate applies to all of them",
                        self.world_size, self.world_size * batch_size, batch_size)
        if state is not None:
            self.checkpointer.restore(state)

    def run(self):
        """Train to the end from the current position."""
        self.signals.deferring = True
        if self.is_main and not self.checkpointer.saved:
            # An older run's state must not be mistaken for this run's.
            self.run_dir.state.unlink(missing_ok=True)
        if self.progress.epoch > self.epochs:
            logger.info("This run is already finished")
        elif self.is_main:
            self.log.curves = Curves(self.run_dir.path / "vdl", self.checkpointer.saved is not None)
        while self.progress.epoch <= self.epochs:
            if self.progress.step < self.iterations:
                self.train_epoch()
            self.end_epoch()
        fps = self.progress.throughput.since()
        self.log.fps("run", fps)
        logger.info("training %s finished", self.run_dir.name)
        return {"output_dir": str(self.run_dir.path), "best": self.progress.best, "best_path": self.progress.best_path,
                "fps": fps, "last": str(self.run_dir.checkpoint(f"epoch_{self.epochs:05d}"))}

    def train_epoch(self):
        """One pass over the training data, or over the rest of it."""
        progress, throughput = self.progress, self.progress.throughput
        self.recognizer.train()
        started = time.time()
        throughput.start()
        bar = tqdm(total=self.iterations, initial=progress.step, desc=f"epoch {progress.epoch}/{self.epochs}",
                   leave=False, disable=distributed.progress_hidden())
        with bar, contextlib.closing(self.batches()) as batches:
            for batch in batches:
                reader_cost = time.time() - started
                if self.profiler:
                    self.profiler.step()
                size = len(batch.label) * self.world_size
                loss, top1, top5, should_save, should_stop = self.train_step(batch)
                for key, value in (("loss", loss), ("top1", top1), ("top5", top5)):
                    progress.record[key].add(value, size)
                rate = self.schedule.get_lr()
                if self.iter_step:
                    self.schedule.step()
                progress.record["batch_cost"].add(time.time() - started)
                progress.record["reader_cost"].add(reader_cost)
                progress.step += 1
                if self.is_main:
                    self.log.step(progress, rate, size)
                bar.update()
                throughput.step(size)
                if progress.step == self.iterations:
                    break
                if should_save or should_stop:
                    self.checkpointer.save()
                self.checkpointer.stop_if(should_stop)
                started = time.time()
        if not self.iter_step:
            self.schedule.step()
        self.log.epoch(progress.record, progress.epoch, "train")
        self.log.fps(f"epoch {progress.epoch}", throughput.since(*progress.counted))
        self.checkpointer.save()
        self.checkpointer.stop_if(should_stop)

    def batches(self):
        """The training batches that this epoch still needs."""
        try:
            yield from self.loaders["train"].batches(self.progress.epoch, self.progress.step)
        except DataError:
            if not self.checkpointer.should_stop or self.world_size > 1:
                raise
            # The loader's workers received the signal too, so there is no next batch.
            self.checkpointer.save()
            self.checkpointer.stop_if(True)

    def train_step(self, batch):
        """Forward pass, loss, backward pass, update.

        Returns:
            (loss, top1, top5, should_save, should_stop): means of the main model over all processes, and their
            common decision after this step.
        """
        label = paddle.to_tensor(batch.label)
        mix = batch.mix and (paddle.to_tensor(batch.mix[0]), batch.mix[1])
        with self.precision.autocast():
            logits = self.recognizer(paddle.to_tensor(batch.array))
        logits = as_float32(logits)
        loss = self.losses["Train"](logits, label, mix)
        value = float(loss)
        if not np.isfinite(value):
            raise self.checkpointer.diverged(f"the loss is {value} for the samples {', '.join(batch.names)}")
        scores = self.recognizer.main_logits(logits).numpy()
        top1, top5 = (mixed(lambda s, y, k=k: float(hits(s, y, k).mean()), scores, batch.label, batch.mix)
                      for k in (1, 5))
        # Before the backward pass, because paddle would abort there if another process has failed. All of them must
        # save and stop after the same step.
        loss_mean, top1, top5, save, stop = distributed.process_mean(
            value, top1, top5, self.checkpointer.should_save, self.checkpointer.should_stop)
        self.precision.step(loss, self.optimizer, lambda: distributed.average_gradients(self.trainable))
        return loss_mean, top1, top5, save > 0, stop > 0

    @paddle.no_grad()
    def validate(self, epoch):
        """Top-1 over the whole validation set; each process computes its share of the batches."""
        self.recognizer.eval()
        distributed.share_statistics(self.recognizer)
        record, loader, started, rows = new_record(), self.loaders["valid"], time.time(), []
        for batch in tqdm(loader.batches(0), total=len(loader), desc="validating", leave=False,
                          disable=distributed.progress_hidden()):
            if self.options.max_iters is not None and batch.number >= self.options.max_iters:
                break
            reader_cost = time.time() - started
            with self.precision.autocast():
                logits = self.recognizer(paddle.to_tensor(batch.array))
            logits, label = as_float32(logits), paddle.to_tensor(batch.label)
            scores = self.recognizer.main_logits(logits).numpy()
            rows.append((batch.number, len(scores), float(self.losses["Val"](logits, label, None)),
                         *(float(hits(scores, batch.label, k).mean()) for k in (1, 5))))
            record["batch_cost"].add(time.time() - started)
            record["reader_cost"].add(reader_cost)
            started = time.time()
            if self.checkpointer.should_stop:
                break
        self.stop_if_any()
        for _, size, *values in sorted(row for share in distributed.gather(rows) for row in share):
            for key, value in zip(("loss", "top1", "top5"), values):
                record[key].add(value, size)
        self.log.epoch(record, epoch, "val")
        return record["top1"].mean

    def end_epoch(self):
        """After the training steps of an epoch: precise statistics, validation, checkpoints, and the state."""
        epoch, last = self.progress.epoch, self.progress.epoch == self.epochs
        self.precise_bn(epoch)
        if "valid" in self.loaders and (last or (epoch - 1) % self.config.value("val_interval") == 0):
            self.keep_best(self.validate(epoch))
        if last or epoch % self.config.value("save_interval") == 0:
            self.save(f"epoch_{epoch:05d}")
            if self.is_main and "keep" in self.config:
                weights = self.options.weights
                self.run_dir.keep_last(self.config["keep"], epoch, keep=[weights] if weights else [])
        self.progress.next_epoch()
        self.checkpointer.save()
        if not last:
            self.stop_if_any()

    def stop_if_any(self):
        """Stop the run here if any process received a signal."""
        self.checkpointer.stop_if(distributed.any_of(self.checkpointer.should_stop))

    def precise_bn(self, epoch):
        """PRECISEBN, in the epochs set in the config."""
        section = self.config.get("PRECISEBN")
        if section and (epoch == self.epochs or (epoch - 1) % section["preciseBN_interval"] == 0):
            precise_bn(self.recognizer, self.loaders["train"].batches(epoch),
                       self.config.value("PRECISEBN.num_iters_preciseBN"), self.precision.autocast, self.stop_if_any)

    def keep_best(self, top1):
        """Save the checkpoint if it is the best so far; for a distillation, also save the student alone."""
        if self.progress.best is not None and top1 <= self.progress.best:
            return
        self.progress.best, self.progress.best_path = top1, str(self.save("best"))
        if self.recognizer.names and self.is_main:
            save_state(state_of(self.recognizer.main), self.run_dir.checkpoint("best_student"))
        logger.info("Already save the best model (top1 acc)%.4f", top1)

    def save(self, what):
        """Write the checkpoint ``what``, weights and ``.pdopt``; the first process writes, the others wait."""
        path = self.run_dir.checkpoint(what)
        if self.is_main:
            save_state(self.optimizer.state_dict(), path.with_suffix(".pdopt"))
            save_state(state_of(self.recognizer), path)
        distributed.barrier()
        return path

    def close(self):
        """End worker processes, flush open files, and unlock the folder."""
        for loader in self.loaders.values():
            loader.close()
        if self.profiler:
            self.profiler.close()
        if self.log:
            self.log.close()
        self.run_dir.close()


def as_float32(logits):
    """Logits, or a dict of them, in float32."""
    if isinstance(logits, dict):
        return {name: y.astype("float32") for name, y in logits.items()}
    return logits.astype("float32")


def state_of(model):
    """A model's state dict in float32."""
    return {name: value if value.dtype == paddle.float32 else value.astype("float32")
            for name, value in model.state_dict().items()}
