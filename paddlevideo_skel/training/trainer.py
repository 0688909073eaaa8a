"""The training loop, in one process or in one of several (``distributed``)."""
import contextlib
import logging
import random
import time

import numpy as np
import paddle
from tqdm import tqdm

from ..build import build_recognizer, check_fit, check_recipe, input_shape
from ..checkpoints.load import FORMATS, fit_weights, load_weights, save_state
from ..data.mixup import MIXES
from ..errors import ConfigError, DataError
from ..evaluation import hits
from ..logs import setup_logging
from ..models.cpu import formulation
from . import distributed, resume
from .amp import Precision
from .checkpointing import Safekeeping
from .curves import Curves
from .data import examined_data, make_loader
from .device import choose_device
from .losses import mixed, recognizer_losses
from .optimizers import build_optimizer, check_optimizer
from .precise_bn import precise_bn
from .profiling import StepProfiler
from .progress import Progress, new_record, parse_interval
from .run_dir import RunFolder
from .run_log import RunLog
from .schedules import build_schedule
from .stopping import StopSignals
from .sync_norm import synchronise

logger = logging.getLogger(__name__)

WARM_UP = 5  # steps of a run that its throughput leaves out
SAVE_EVERY = "10m"  # within an epoch; at its end the state is saved anyway


def train(config, weights=None, validate=False, amp_level=None, max_iters=None, seed=1234, profiler_options=None,
          weights_format="pdparams", allow_mismatch=False, resume_from=None, overwrite=False, skip_bad=False):
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
        resume_from: True to go on with the run in ``output_dir`` if there is one, or the path of a ``.pdstate`` file or
            its folder.
        overwrite: begin anew in a folder that holds another run's work.
        skip_bad: train without the samples that cannot be used; otherwise they are an error before the first step.

    Returns:
        dict with ``output_dir``, ``best`` (top-1, None without validation), ``last``, ``best_path`` and ``fps``
        (samples a second over all devices).

    Raises:
        StoppedError: by SIGTERM or SIGINT, after the state was saved.
    """
    with distributed.losing_others(), StopSignals() as signals:
        trainer = Trainer(config, weights, validate, amp_level, max_iters, seed, profiler_options, weights_format,
                          allow_mismatch, resume_from, overwrite, skip_bad, signals)
        try:
            return trainer.run()
        finally:
            trainer.close()


class Trainer:
    """One training run: everything is built and checked in ``__init__``, before anything long begins."""

    def __init__(self, config, weights, validate, amp_level, max_iters, seed, profiler_options,
                 weights_format="pdparams", allow_mismatch=False, resume_from=None, overwrite=False, skip_bad=False,
                 signals=None):
        if weights_format not in FORMATS:
            raise ConfigError("--format", f"found {weights_format!r}, expected {' or '.join(FORMATS)}")
        self.config, self.max_iters, self.signals = config, max_iters, signals or StopSignals()
        self.epochs = config.section("epochs")
        self.every = parse_interval(config.get("save_every", SAVE_EVERY), config.where("save_every"))
        self.splits = ("train", "valid") if validate else ("train",)
        self.loaders, self.log, self.profiler = {}, None, None
        check_recipe(config, self.splits)
        check_optimizer(config.section("OPTIMIZER"), config.where("OPTIMIZER"))
        self.mix = MIXES.build_spec(config["MIX"], config.where("MIX")) if config.get("MIX") else None
        self.main, self.world = distributed.is_main(), distributed.world_size()
        name = config.section("model_name")
        self.folder = RunFolder(config.get("output_dir", f"./output/{name}"), name, f".{weights_format}")
        try:
            if self.main:
                self.folder.open()
                setup_logging(config.get("log_level", "INFO"), self.folder.path / "train.log")
            distributed.quiet_others()
            self.profiler = StepProfiler(profiler_options) if profiler_options and self.main else None
            content = self.build(amp_level, seed, skip_bad)
            identity = resume.identify(
                config, self.splits, seed=seed, max_iters=max_iters, validate=validate, format=weights_format,
                processes=self.world, device=self.device, amp_level=self.precision.level, data=content)
            state = distributed.from_main(lambda: resume.admit(resume_from, overwrite, self.folder, identity))
            self.begin(state, identity, weights, allow_mismatch)
        except BaseException:
            self.close()
            raise

    def build(self, amp_level, seed, skip_bad):
        """Model, data and schedule, as they are at the start of a run; returns what tells the data from any other."""
        config = self.config
        # Python's and NumPy's own generators are for what a user may add: nothing here draws from them.
        random.seed(seed)
        np.random.seed(seed % 2 ** 32)
        paddle.seed(seed)
        self.device = choose_device(config)
        self.precision = Precision(amp_level, self.device)
        self.recognizer = build_recognizer(config)
        student = self.recognizer.main
        for split in self.splits:
            input_shape(config, student, split)
        self.compute_loss = recognizer_losses(self.recognizer, config.where("MODEL.loss"))
        datasets, content = examined_data(config, self.splits, student, self.folder.path, skip_bad)
        for split, dataset in datasets.items():
            check_fit(config, student, split, dataset)
            self.loaders[split] = make_loader(config, split, student.head.num_classes, seed, self.mix, dataset)
        self.iterations = min(len(self.loaders["train"]), self.max_iters or len(self.loaders["train"]))
        self.schedule, self.iter_step = build_schedule(
            config["OPTIMIZER"]["learning_rate"], self.iterations, config.where("OPTIMIZER.learning_rate"))
        return content

    def begin(self, state, identity, weights, allow_mismatch):
        """The optimizer, and the numbers to begin with: a checkpoint's, or those of the run that goes on."""
        if weights and state is None:
            fit_weights(self.recognizer, load_weights(weights), weights, allow_mismatch)
            logger.info("Finetune from checkpoint: %s", weights)
        elif weights:
            logger.info("%s is not read: the run goes on from its own state", weights)
        self.together = self.config.get("sync_bn", False) and self.world > 1  # BatchNorm, over all processes
        if self.together:
            synchronise(self.recognizer)
        self.learning = [p for p in self.recognizer.parameters() if not p.stop_gradient]
        self.optimizer = build_optimizer(self.config["OPTIMIZER"], self.schedule, self.learning)
        self.recognizer, self.optimizer = self.precision.decorate(self.recognizer, self.optimizer)
        distributed.share_weights(self.recognizer)
        if not self.main:
            # The same weights, but each process its own dropout.
            paddle.seed(identity["seed"] + distributed.rank())
        self.at = Progress(min(WARM_UP, self.epochs * self.iterations // 2))
        self.keeper = Safekeeping(self.folder, identity, (self.recognizer, self.optimizer, self.precision.scaler,
                                                          self.at), self.every, self.signals)
        self.spare = [weights] if weights else []
        self.log = RunLog(self.epochs, self.iterations, self.config.get("log_interval", 10), self.world)
        logger.info("Training in %s: %d samples, %d iterations an epoch, %d epochs, %.2f M parameters that learn",
                    self.precision, len(self.loaders["train"].dataset), self.iterations, self.epochs,
                    sum(int(np.prod(p.shape)) for p in self.learning) / 1e6)
        if self.world > 1:
            logger.info("%d processes, %d samples an iteration, %d in each; the learning rate is for all of them",
                        self.world, self.world * self.loaders["train"].batch_size, self.loaders["train"].batch_size)
        if state is not None:
            self.keeper.restore(state)

    def run(self):
        """Train to the end, from wherever the run is."""
        self.signals.holding = True
        if self.main and not self.keeper.saved:
            # Nobody may later take what an older run left in the folder for this one's.
            self.folder.state.unlink(missing_ok=True)
        if self.at.epoch > self.epochs:
            logger.info("This run was finished already")
        elif self.main:
            self.log.curves = Curves(self.folder.path / "vdl", self.keeper.saved is not None)
        with formulation("plain") if self.together else contextlib.nullcontext():
            while self.at.epoch <= self.epochs:
                if self.at.step < self.iterations:
                    self.train_epoch()
                self.end_epoch()
        fps = self.at.throughput.since()
        self.log.fps("run", fps)
        logger.info("training %s finished", self.folder.name)
        return {"output_dir": str(self.folder.path), "best": self.at.best, "best_path": self.at.best_path, "fps": fps,
                "last": str(self.folder.checkpoint(f"epoch_{self.epochs:05d}"))}

    def train_epoch(self):
        """One pass over the training data, or what is left of it."""
        at = self.at
        self.recognizer.train()
        started = time.time()
        at.throughput.start()
        progress = tqdm(total=self.iterations, initial=at.step, desc=f"epoch {at.epoch}/{self.epochs}", leave=False,
                        disable=distributed.progress_hidden())
        with progress, contextlib.closing(self.batches()) as batches:
            for batch in batches:
                reader_cost = time.time() - started
                if self.profiler:
                    self.profiler.step()
                size = len(batch.label) * self.world
                for key, value in zip(("loss", "top1", "top5"), self.train_step(batch)):
                    at.record[key].add(value, size)
                rate = self.schedule.get_lr()
                if self.iter_step:
                    self.schedule.step()
                at.record["batch_cost"].add(time.time() - started)
                at.record["reader_cost"].add(reader_cost)
                at.step += 1
                if self.main:
                    self.log.step(at, rate, size)
                progress.update()
                at.throughput.step(size)
                if at.step == self.iterations:
                    break
                if self.due or self.asked:
                    self.keeper.save()
                self.keeper.stop_if(self.asked)
                started = time.time()
        if not self.iter_step:
            self.schedule.step()
        self.log.epoch(at.record, at.epoch, "train")
        self.log.fps(f"epoch {at.epoch}", at.throughput.since(*at.counted))
        self.keeper.save()
        self.keeper.stop_if(self.asked)

    def batches(self):
        """The training batches that this epoch still needs."""
        try:
            yield from self.loaders["train"].batches(self.at.epoch, self.at.step)
        except DataError:
            if not self.keeper.asked or self.world > 1:
                raise
            # Whoever sent the signal sent it to the loader's workers as well: there is no next batch.
            self.keeper.save()
            self.keeper.stop_if(True)

    def end_epoch(self):
        """What follows an epoch's training: precise statistics, validation, checkpoints, and the state after them."""
        epoch, last = self.at.epoch, self.at.epoch == self.epochs
        self.precise_bn(epoch)
        if "valid" in self.loaders and (last or (epoch - 1) % self.config.get("val_interval", 1) == 0):
            self.keep_best(self.validate(epoch))
        if last or epoch % self.config.get("save_interval", 1) == 0:
            self.save(f"epoch_{epoch:05d}")
            if self.main and "keep" in self.config:
                self.folder.keep_last(self.config["keep"], epoch, self.spare)
        self.at.next_epoch()
        self.keeper.save()
        self.keeper.stop_if(not last and distributed.any_of(self.keeper.asked))

    def train_step(self, batch):
        """Forward, backward, update; returns the loss and the main model's top-1 and top-5, over all processes."""
        label = paddle.to_tensor(batch.label)
        mix = batch.mix and (paddle.to_tensor(batch.mix[0]), batch.mix[1])
        with self.precision.autocast():
            logits = self.recognizer(paddle.to_tensor(batch.array))
        logits = as_float32(logits)
        loss = self.compute_loss["Train"](logits, label, mix)
        value = float(loss)
        if not np.isfinite(value):
            raise self.keeper.lost(f"the loss is {value} for the samples {', '.join(batch.names)}")
        scores = self.recognizer.main_logits(logits).numpy()
        right = (mixed(lambda s, y, k=k: float(hits(s, y, k).mean()), scores, batch.label, batch.mix) for k in (1, 5))
        # Before the backward pass: should another process have failed, paddle could only abort there. All of them must
        # save and stop after the same step.
        *means, due, asked = distributed.mean(value, *right, *self.keeper.wishes())
        self.due, self.asked = due > 0, asked > 0
        self.precision.step(loss, self.optimizer, lambda: distributed.average_gradients(self.learning))
        return means

    @paddle.no_grad()
    def validate(self, epoch):
        """Top-1 over the whole validation set; each process computes its share of the batches."""
        self.recognizer.eval()
        distributed.share_statistics(self.recognizer)
        record, loader, started, rows = new_record(), self.loaders["valid"], time.time(), []
        for batch in tqdm(loader.batches(0), total=len(loader), desc="validating", leave=False,
                          disable=distributed.progress_hidden()):
            if self.max_iters is not None and batch.number >= self.max_iters:
                break
            reader_cost = time.time() - started
            with self.precision.autocast():
                logits = self.recognizer(paddle.to_tensor(batch.array))
            logits, label = as_float32(logits), paddle.to_tensor(batch.label)
            scores = self.recognizer.main_logits(logits).numpy()
            rows.append((batch.number, len(scores), float(self.compute_loss["Val"](logits, label, None)),
                         *(float(hits(scores, batch.label, k).mean()) for k in (1, 5))))
            record["batch_cost"].add(time.time() - started)
            record["reader_cost"].add(reader_cost)
            started = time.time()
            if self.keeper.asked:
                break
        self.keeper.stop_if(distributed.any_of(self.keeper.asked))
        for _, size, *values in sorted(row for share in distributed.gather(rows) for row in share):
            for key, value in zip(("loss", "top1", "top5"), values):
                record[key].add(value, size)
        self.log.epoch(record, epoch, "val")
        return record["top1"].mean

    def keep_best(self, top1):
        """Save the best so far; the student alone beside a distillation's models."""
        if self.at.best is not None and top1 <= self.at.best:
            return
        self.at.best, self.at.best_path = top1, str(self.save("best"))
        if self.recognizer.names and self.main:
            save_state(state_of(self.recognizer.main), self.folder.checkpoint("best_student"))
        logger.info("Already save the best model (top1 acc)%.4f", top1)

    def save(self, what):
        """Write the checkpoint ``what``, weights and ``.pdopt``; the first process does, the others wait."""
        path = self.folder.checkpoint(what)
        if self.main:
            save_state(self.optimizer.state_dict(), path.with_suffix(".pdopt"))
            save_state(state_of(self.recognizer), path)
        distributed.barrier()
        return path

    def precise_bn(self, epoch):
        """PRECISEBN, in the epochs that the config says."""
        section = self.config.get("PRECISEBN")
        if not section or ((epoch - 1) % section["preciseBN_interval"] and epoch != self.epochs):
            return
        precise_bn(self.recognizer, self.loaders["train"].batches(epoch), section.get("num_iters_preciseBN", 200),
                   self.precision.autocast, lambda: self.keeper.stop_if(distributed.any_of(self.keeper.asked)))

    def close(self):
        """End worker processes, write out what is open, let other runs into the folder."""
        for loader in self.loaders.values():
            loader.close()
        if self.profiler:
            self.profiler.close()
        if self.log:
            self.log.close()
        self.folder.close()


def as_float32(logits):
    """Logits, or a dict of them, in float32."""
    if isinstance(logits, dict):
        return {name: y.astype("float32") for name, y in logits.items()}
    return logits.astype("float32")


def state_of(model):
    """A model's state dict in float32."""
    return {name: value if value.dtype == paddle.float32 else value.astype("float32")
            for name, value in model.state_dict().items()}
