"""Intervals and tests against published figures, closed forms and scipy."""

import numpy as np
import pytest
from scipy import stats

from kdkeras import evaluation

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        # Airway hyper-responsiveness before and after transplantation (Bentur et al. 2009), and
        # complete response (Cavo et al. 2012): Fagerland, Lydersen and Laake, Statistical Analysis
        # of Contingency Tables, 2017, chapter 8, and the R package contingencytables.
        ((1, 7, 1, 12), (-0.507, -0.026)),
        ((6, 16, 59, 80), (-0.1186, -0.0046)),
    ],
)
def test_newcombe_gives_the_published_intervals(counts, interval):
    found = evaluation.newcombe(*counts)
    digits = len(str(interval[0])) - 3
    assert tuple(round(end, digits) for end in found) == interval


def test_newcombe_by_hand():
    # No second success: a column is empty, and phi is 0.
    low, high = evaluation.newcombe(3, 0, 0, 7)
    wilson = [stats.binomtest(k, 10).proportion_ci(0.95, "wilson") for k in (3, 0)]
    down = np.hypot(0.3 - wilson[0].low, wilson[1].high - 0.0)
    up = np.hypot(wilson[0].high - 0.3, 0.0 - wilson[1].low)
    assert (low, high) == pytest.approx((0.3 - down, 0.3 + up))
    # Turned round, the same interval turned round.
    assert evaluation.newcombe(2, 9, 30, 4) == pytest.approx(
        tuple(-end for end in reversed(evaluation.newcombe(9, 2, 30, 4)))
    )


def test_newcombe_at_the_ends():
    assert evaluation.newcombe(0, 0, 50, 0) == pytest.approx((-0.0714, 0.0714), abs=1e-3)
    assert evaluation.newcombe(50, 0, 0, 0)[1] == 1.0
    assert evaluation.newcombe(0, 50, 0, 0)[0] == -1.0
    # That the two are right together makes the interval narrower.
    width = [np.diff(evaluation.newcombe(5, 5, both, 90 - both))[0] for both in (45, 0)]
    assert width[0] < width[1]
    assert np.diff(evaluation.newcombe(5, 5, 45, 45))[0] < 0.15


def test_newcombe_errors():
    with pytest.raises(ValueError, match="`neither` must be an integer of at least 0"):
        evaluation.newcombe(1, 2, 3, -4)
    with pytest.raises(ValueError, match="`only_first` must be an integer"):
        evaluation.newcombe(0.5, 2, 3, 4)
    with pytest.raises(ValueError, match="the number of examples.*at least 1"):
        evaluation.newcombe(0, 0, 0, 0)


def test_mcnemar():
    assert evaluation.mcnemar(0, 0) == evaluation.mcnemar(4, 4) == 1.0
    # 2 (1 + 9) / 2^9, and 2 / 2^6.
    assert evaluation.mcnemar(8, 1) == evaluation.mcnemar(1, 8) == pytest.approx(20 / 512)
    assert evaluation.mcnemar(0, 6) == pytest.approx(2 / 64)
    with pytest.raises(ValueError, match="`only_second` must be an integer of at least 0"):
        evaluation.mcnemar(1, -1)


def test_bootstrap():
    values = np.random.default_rng(0).exponential(size=500)
    low, high = evaluation.bootstrap(np.mean, values)
    oracle = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000, rng=1
    ).confidence_interval
    assert (low, high) == pytest.approx(tuple(oracle), abs=0.01)
    assert evaluation.bootstrap(np.mean, values) == (low, high)
    assert evaluation.bootstrap(np.mean, values, seed=1) != (low, high)
    assert evaluation.bootstrap(np.mean, np.ones(5)) == (1.0, 1.0)


def test_bootstrap_keeps_rows_together_and_takes_several_figures():
    x = np.arange(50.0)
    low, high = evaluation.bootstrap(lambda x, y: [(x - y).max(), x.mean()], x, x + 1.0)
    assert (low[0], high[0]) == (-1.0, -1.0)
    assert low[1] < 24.5 < high[1]


def test_bootstrap_errors():
    for arrays in ((), (np.ones(3), np.ones(2)), (np.ones(0),)):
        with pytest.raises(ValueError, match="`arrays` must be of one length, at least 1"):
            evaluation.bootstrap(np.mean, *arrays)
    with pytest.raises(ValueError, match="`resamples` must be an integer of at least 2"):
        evaluation.bootstrap(np.mean, np.ones(3), resamples=1)


def test_across():
    found = evaluation.across([0.97, 0.98, np.float64(0.99)])
    assert found["values"] == [0.97, 0.98, 0.99]
    assert found["mean"] == pytest.approx(0.98)
    assert found["standard_deviation"] == pytest.approx(0.01)
    assert found["standard_error"] == pytest.approx(0.01 / 3**0.5)
    # 4.3027 is the 97.5 % quantile of Student's t with two degrees of freedom.
    half = 4.302653 * 0.01 / 3**0.5
    assert found["interval"] == pytest.approx([0.98 - half, 0.98 + half])
    assert evaluation.across([0.5]) == {
        "values": [0.5],
        "mean": 0.5,
        "standard_deviation": None,
        "standard_error": None,
        "interval": None,
    }
    assert evaluation.across([2, 2])["interval"] == [2.0, 2.0]
    with pytest.raises(ValueError, match="at least one number"):
        evaluation.across([])
    with pytest.raises(ValueError, match="`values` must be a finite number. Received: values=nan"):
        evaluation.across([1.0, float("nan")])
