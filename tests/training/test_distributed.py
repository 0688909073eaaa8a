"""A process's share of the data, BatchNorm over processes, devices and precision, in a single process."""
import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loader_cases import Made

from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.loader import BatchLoader
from paddlevideo_skel.data.mixup import Mixup
from paddlevideo_skel.data.pipeline import Pipeline
from paddlevideo_skel.errors import ConfigError, DataError
from paddlevideo_skel.training import batch_norm, distributed
from paddlevideo_skel.training import metrics as metrics_module
from paddlevideo_skel.training.amp import Precision
from paddlevideo_skel.training.metrics import Throughput


@pytest.mark.parametrize(("kind", "shape"), [("1D", (4, 3)), ("1D", (4, 3, 5)), ("2D", (4, 3, 5, 2)),
                                             ("3D", (2, 3, 4, 2, 3))])
def test_synchronised_batch_norm_in_one_process_is_paddles(monkeypatch, kind, shape):
    monkeypatch.setattr(batch_norm, "_sum", lambda x: x.clone())
    rng = np.random.default_rng(0)
    x, up = (rng.normal(3, 2, shape).astype("float32") for _ in range(2))
    results = []
    for synchronised in (False, True):
        layer = paddle.nn.Sequential(getattr(paddle.nn, f"BatchNorm{kind}")(3))
        layer[0].weight.set_value(paddle.to_tensor([0.5, 1.0, 2.0]))
        if synchronised:
            batch_norm.synchronise(layer)
            assert type(layer[0]).__name__ == f"SyncBatchNorm{kind}"
        inputs = paddle.to_tensor(x, stop_gradient=False)
        y = layer(inputs)
        (y * paddle.to_tensor(up)).sum().backward()
        layer.eval()
        results.append([y, inputs.grad, layer[0].weight.grad, layer[0].bias.grad, layer[0]._mean, layer[0]._variance,
                        layer(inputs)])
    for ours, paddles in zip(*results):
        assert np.abs(ours.numpy() - paddles.numpy()).max() <= 1e-5 * np.abs(paddles.numpy()).max()


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.booleans())
def test_parts_of_training_batches_are_those_of_one_process(samples, batch_size, world, epoch, drop_last):
    whole_size = batch_size * world
    if samples < (whole_size if drop_last else world):
        with pytest.raises(DataError, match=str(samples)):
            BatchLoader(Made(samples), Pipeline({}), batch_size, shuffle=True, drop_last=drop_last, share=(0, world))
        return
    arguments = {"shuffle": True, "drop_last": drop_last, "seed": 3}
    whole = list(BatchLoader(Made(samples), Pipeline({}), whole_size, **arguments).batches(epoch))
    loaders = [BatchLoader(Made(samples), Pipeline({}), batch_size, share=(rank, world), **arguments)
               for rank in range(world)]
    parts = [list(loader.batches(epoch)) for loader in loaders]
    assert {len(loader) for loader in loaders} == {len(part) for part in parts} == {loaders[0].total}
    used = 0
    for number, batches in enumerate(zip(*parts)):
        assert {batch.number for batch in batches} == {number}
        assert len({len(batch.index) for batch in batches}) == 1
        index = np.concatenate([batch.index for batch in batches])
        used += len(index)
        np.testing.assert_array_equal(index, whole[number].index[:len(index)])
        np.testing.assert_array_equal(np.concatenate([batch.array for batch in batches]),
                                      whole[number].array[:len(index)])
    rest = samples % whole_size
    assert samples - used == (rest if drop_last else rest % world)


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4))
def test_testing_deals_out_every_batch_once(samples, batch_size, world):
    alone = list(BatchLoader(Made(samples), Pipeline({}), batch_size).batches(0))
    loaders = [BatchLoader(Made(samples), Pipeline({}), batch_size, share=(rank, world)) for rank in range(world)]
    assert {loader.total for loader in loaders} == {len(alone)}
    dealt = [list(loader.batches(0)) for loader in loaders]
    assert [len(loader) for loader in loaders] == [len(part) for part in dealt]
    batches = sorted((batch for part in dealt for batch in part), key=lambda batch: batch.number)
    assert [batch.index.tolist() for batch in batches] == [batch.index.tolist() for batch in alone]
    assert [batch.number for batch in batches] == list(range(len(alone)))


def test_processes_mix_with_numbers_of_their_own():
    def drawn(share):
        loader = BatchLoader(Made(24), Pipeline({}), 4, shuffle=True, seed=1, mix=Mixup(0.5), share=share)
        return [batch.mix[1] for batch in loader.batches(2)]
    alone, first, second = drawn((0, 1)), drawn((0, 2)), drawn((1, 2))
    assert first == alone[:3]
    assert not set(first) & set(second)


def test_wrong_shares():
    for share in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ConfigError, match="share"):
            BatchLoader(Made(4), Pipeline({}), 2, share=share)


def test_a_process_alone_is_rank_0_and_changes_nothing():
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.process_mean(0.1, 0.2) == (0.1, 0.2)
    assert distributed.gather([1]) == [[1]]
    parameter = paddle.nn.Linear(1, 1).weight
    (3 * parameter).sum().backward()
    distributed.average_gradients([parameter])
    assert parameter.grad.item() == 3


def test_the_launchers_device_is_taken(monkeypatch):
    assert distributed.local_device("npu") == "npu"
    monkeypatch.setenv("FLAGS_selected_npus", "3")
    assert distributed.local_device("npu") == "npu:3"
    assert distributed.local_device("gpu") == "gpu"


@pytest.mark.parametrize(("variables", "words"), [
    ({"PADDLE_TRAINERS_NUM": "2"}, "PADDLE_TRAINER_ID is not set.*launch"),
    ({"PADDLE_TRAINERS_NUM": "two"}, "PADDLE_TRAINERS_NUM: found 'two'"),
])
def test_variables_of_the_launcher_that_are_wrong(config_file, monkeypatch, variables, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words):
        distributed.choose_device(load_config(config_file))


def test_mixed_precision_on_a_cpu_is_float32_and_says_so(caplog):
    for level in ("O1", "O2"):
        with caplog.at_level("WARNING"):
            precision = Precision(level, "cpu")
        assert f"level {level} is ignored" in caplog.text
        assert str(precision) == "float32"
        assert precision.scaler is None
    assert str(Precision("O2", "npu")) == "mixed precision O2, float16"


def test_throughput_counts_neither_the_first_steps_nor_the_time_between_epochs(monkeypatch):
    clock = iter([0.0, 9.0, 11.0, 13.0, 50.0, 51.0])
    monkeypatch.setattr(metrics_module.time, "perf_counter", lambda: next(clock))
    throughput = Throughput(1)
    throughput.start()
    assert throughput.since() is None
    for _ in range(3):
        throughput.step(10)
    assert throughput.since() == pytest.approx(20 / 4)
    counted = throughput.samples, throughput.seconds
    throughput.start()
    throughput.step(10)
    assert throughput.since(*counted) == pytest.approx(10 / 1)
    assert throughput.since() == pytest.approx(30 / 5)
