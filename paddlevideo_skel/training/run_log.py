"""What training tells on its way: lines as PaddleVideo's users know them, and curves."""
import datetime
import logging

logger = logging.getLogger(__name__)


class RunLog:
    """Lines of the log and points of the curves.

    Args:
        epochs: of the run; ``iterations``: of an epoch.
        interval: steps from line to line.
        world: number of processes.
    """

    def __init__(self, epochs, iterations, interval, world):
        self.epochs, self.iterations, self.interval, self.world = epochs, iterations, interval, world
        self.curves = None  # of the first process, while it trains

    def step(self, at, rate, size):
        """A line every ``interval`` steps, a point on the curves every step.

        Args:
            at: ``Progress``, after the step.
            rate: the learning rate that the step took.
            size: its samples, of all processes.
        """
        last = {key: value.last for key, value in at.record.items()}
        at.step_time.add(last["batch_cost"])
        done = (at.epoch - 1) * self.iterations + at.step
        remaining = (self.epochs * self.iterations - done) * at.step_time.mean
        if (at.step - 1) % self.interval == 0:
            logger.info("epoch:[%3d/%-3d] train step:%-4d loss: %.5f lr: %.6f top1: %.5f top5: %.5f "
                        "batch_cost: %.5f sec, reader_cost: %.5f sec, ips: %.5f instance/sec, eta: %s",
                        at.epoch, self.epochs, at.step - 1, last["loss"], rate, last["top1"], last["top5"],
                        last["batch_cost"], last["reader_cost"], size / last["batch_cost"],
                        datetime.timedelta(seconds=int(remaining)))
        if self.curves:
            self.curves.add("train", done, lr=rate, eta=remaining, **last)

    def epoch(self, record, epoch, phase):
        """The line at the end of an epoch's training or validation."""
        seconds = record["batch_cost"].total
        logger.info("END epoch:%-3d %s loss_avg: %.5f top1_avg: %.5f top5_avg: %.5f avg_batch_cost: %.5f sec, "
                    "avg_reader_cost: %.5f sec, batch_cost_sum: %.5f sec, avg_ips: %.5f instance/sec.", epoch, phase,
                    record["loss"].mean, record["top1"].mean, record["top5"].mean, record["batch_cost"].mean,
                    record["reader_cost"].mean, seconds, record["loss"].weight / max(seconds, 1e-9))
        if self.curves and phase == "val":
            self.curves.add("val", epoch, **{key: record[key].mean for key in ("loss", "top1", "top5")})

    def fps(self, what, fps):
        """The throughput, under the name that tables of devices have it."""
        if fps is not None:
            logger.info("%s FPS: %.3f (samples a second, %d device%s, without the run's first steps)", what, fps,
                        self.world, "s" * (self.world > 1))

    def close(self):
        """Write out the curves."""
        if self.curves:
            self.curves.close()
            self.curves = None
