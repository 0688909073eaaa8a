"""Mixup against its formula."""
import numpy as np
import pytest

from paddlevideo_skel.data.mixup import MIXES, Mixup
from paddlevideo_skel.errors import ConfigError


def test_formula():
    rng = np.random.default_rng(3)
    array, label = rng.random((6, 3, 4)).astype("float32"), np.array([10, 11, 12, 13, 14, 15])
    before = array.copy()
    mixed, (other, lam) = Mixup(0.5)(array, label, np.random.default_rng(0))
    assert sorted(other) == sorted(label) and 0 <= lam <= 1
    for i in range(6):
        partner = int(other[i]) - 10
        np.testing.assert_allclose(mixed[i], lam * before[i] + (1 - lam) * before[partner], rtol=1e-6)
    assert mixed.dtype == np.float32
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_lambda_is_beta_distributed(alpha):
    rng, mix, array = np.random.default_rng(0), Mixup(alpha), np.zeros((2, 1), "float32")
    drawn = np.array([mix(array, np.arange(2), rng)[1][1] for _ in range(4000)])
    # Beta(a, a): mean 1/2, variance 1/(4(2a + 1)).
    assert abs(drawn.mean() - 0.5) < 0.02
    assert abs(drawn.var() * 4 * (2 * alpha + 1) - 1) < 0.06


def test_same_generator_same_mix():
    array, label = np.random.default_rng(1).random((5, 2)), np.arange(5)
    one, two = (Mixup(0.5)(array, label, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    assert one[1][1] == two[1][1]


@pytest.mark.parametrize("alpha", [0, -1, "x", True, float("nan"), float("inf"), None])
def test_wrong_alpha(alpha):
    with pytest.raises(ConfigError, match=r"MIX: Mixup: alpha"):
        MIXES.build("Mixup", {"alpha": alpha}, "MIX")


def test_from_config():
    assert isinstance(MIXES.build_spec({"name": "Mixup", "alpha": 0.5, "num_classes": 60}, "MIX"), Mixup)
