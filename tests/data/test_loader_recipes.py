"""The training loader of each recipe gives what plain loops over frames, persons and joints give: a second writing."""
import types

import numpy as np
import pytest

from benchmarks import loaders


@pytest.mark.parametrize("name", loaders.RECIPES)
def test_a_recipe_is_its_plain_loops(name):
    row = loaders.measure(name, seconds=0)
    assert row["difference"] < 2e-5, row
    assert row["samples_per_s"] > 0 and len(row["shape"]) in (4, 5)


def test_the_comparison_sees_other_random_numbers(monkeypatch):
    """The same recipe with its draws in another order is another result."""
    function, *rest = loaders.RECIPES["ctrgcn/ctrgcn_ntucs_joint"]

    def disturbed(annotation, rng):
        rng.random()
        return function(annotation, rng)

    monkeypatch.setitem(loaders.RECIPES, "ctrgcn/ctrgcn_ntucs_joint", (disturbed, *rest))
    assert loaders.measure("ctrgcn/ctrgcn_ntucs_joint", seconds=0)["difference"] > 0.01


def test_samples_a_second_are_of_whole_batches(monkeypatch):
    """A clock that goes one second a batch of 8: 8 samples a second."""
    ticks = iter(np.arange(100.0))
    monkeypatch.setattr(loaders, "time", types.SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert loaders.per_second(lambda epoch: [np.zeros(8)] * 3, seconds=10) == pytest.approx(8)
