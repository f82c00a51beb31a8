"""The formulas, against published values, against scipy where it is there, and against plain counting."""

from __future__ import annotations

import math
from random import Random

import pytest

from harness.checkers.statistics import (
    binomial_critical,
    binomial_tail,
    chi_square_critical,
    chi_square_power,
    chi_square_sf,
    clopper_pearson_upper,
    g_statistic,
    g_test,
    rule_of_three,
    wilson_interval,
    zero_failures_in_words,
)


@pytest.mark.parametrize(
    ("x", "df", "p"),
    # Abramowitz and Stegun, table 26.8.
    [(3.841459, 1, 0.05), (5.991465, 2, 0.05), (13.815511, 2, 0.001), (18.307038, 10, 0.05), (29.588298, 10, 0.001)],
)
def test_chi_square_matches_the_tables(x: float, df: int, p: float) -> None:
    """Upper tails to six digits, and back."""
    assert chi_square_sf(x, df) == pytest.approx(p, rel=1e-6)
    assert chi_square_critical(df, alpha=p) == pytest.approx(x, rel=1e-6)


def test_chi_square_at_its_edges() -> None:
    """Nothing below zero, no degrees of freedom below one, an exponential for two."""
    assert chi_square_sf(0.0, 3) == 1.0
    assert chi_square_sf(-1.0, 3) == 1.0
    assert chi_square_sf(7.0, 2) == pytest.approx(math.exp(-3.5), rel=1e-12)
    assert chi_square_sf(2000.0, 2) == 0.0
    with pytest.raises(ValueError, match="degrees of freedom"):
        chi_square_sf(1.0, 0)


def test_against_scipy() -> None:
    """Chi-square and binomial tails over a wide range; skipped where scipy is not installed."""
    stats = pytest.importorskip("scipy.stats")
    for df in (1, 2, 3, 5, 9, 30, 99):
        for x in (0.01, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0):
            assert chi_square_sf(x, df) == pytest.approx(stats.chi2.sf(x, df), rel=1e-9, abs=1e-290)
    for n in (1, 7, 80, 400, 3000):
        for p in (0.01, 0.05, 0.3, 0.9):
            for k in (0, 1, n // 20, n // 4, n // 2, n):
                assert binomial_tail(k, n, p) == pytest.approx(stats.binom.sf(k - 1, n, p), rel=1e-8, abs=1e-290)
    for n, fair, wrong in ((282, [1 / 3] * 3, [1 / 6, 5 / 12, 5 / 12]), (50, [0.2] * 5, [0.2, 0.2, 0.2, 0.1, 0.3])):
        effect = n * sum((w - f) ** 2 / f for w, f in zip(wrong, fair, strict=True))
        critical = stats.chi2.isf(0.001, len(fair) - 1)
        expected = stats.ncx2.sf(critical, len(fair) - 1, effect)
        assert chi_square_power(n, fair=fair, wrong=wrong, alpha=0.001) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("instances", "n"), [(2, 127), (3, 282), (5, 643), (10, 1736)])
def test_the_sample_for_half_a_share(instances: int, n: int) -> None:
    """Known sample sizes (alpha 0.001, power 0.99, one instance at half its share): enough, and one less is not."""
    fair = [1 / instances] * instances
    half = [0.5 / instances] + [(1 - 0.5 / instances) / (instances - 1)] * (instances - 1)
    assert chi_square_power(n, fair=fair, wrong=half, alpha=0.001) == pytest.approx(0.99, abs=0.002)
    assert chi_square_power(n * 0.9, fair=fair, wrong=half, alpha=0.001) < 0.985


def test_power_without_a_difference_is_the_false_alarm() -> None:
    """A balancer that is right is called wrong in alpha of all cases."""
    assert chi_square_power(500, fair=[0.5, 0.5], wrong=[0.5, 0.5], alpha=0.001) == 0.001


def test_binomial_tail_by_counting() -> None:
    """The definition, for a case that can be counted by hand."""
    assert binomial_tail(0, 4, 0.5) == 1.0
    assert binomial_tail(3, 4, 0.5) == pytest.approx(5 / 16)
    assert binomial_tail(4, 4, 0.5) == pytest.approx(1 / 16)
    assert binomial_tail(5, 4, 0.5) == 0.0
    assert binomial_tail(1, 3, 0.0) == 0.0
    assert binomial_tail(3, 3, 1.0) == 1.0


def test_the_critical_count_is_the_smallest() -> None:
    """From it on the tail is below alpha, one earlier it is not; where nothing rejects, it lies beyond n."""
    for n in (30, 100, 300):
        critical = binomial_critical(n, 0.05, alpha=0.001)
        assert binomial_tail(critical, n, 0.05) <= 0.001 < binomial_tail(critical - 1, n, 0.05)
    assert binomial_critical(2, 0.05, alpha=0.001) == 3


def test_wilson_interval_of_the_textbook() -> None:
    """15 of 148 (Newcombe 1998, table I): 0.0624 to 0.1605. Bounded, and honest about knowing nothing."""
    low, high = wilson_interval(15, 148)
    assert (low, high) == (pytest.approx(0.0624, abs=5e-5), pytest.approx(0.1605, abs=5e-5))
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 20)[0] == pytest.approx(0.0, abs=1e-12)
    assert wilson_interval(20, 20)[1] == pytest.approx(1.0)


def test_rule_of_three() -> None:
    """Zero failures in n leave 3/n open."""
    assert rule_of_three(300) == 0.01
    assert rule_of_three(2) == 1.0
    assert zero_failures_in_words(300) == "zero failures in 300 requests proves only that fewer than 1.00% fail (95 %)"
    assert "nothing is proven" in zero_failures_in_words(0)


def test_g_of_a_perfect_fit_is_zero() -> None:
    """Expected counts give no evidence; an empty cell adds nothing."""
    assert g_statistic([100, 100, 100], [1 / 3] * 3) == pytest.approx(0.0, abs=1e-9)
    assert g_statistic([0, 100], [0.5, 0.5]) == pytest.approx(200 * math.log(2))


def test_pinned_connections_need_the_design_effect() -> None:
    """600 requests on 20 pinned connections: the naive test cries wolf, divided by the design effect it does not."""
    random = Random(20)
    naive = corrected = 0
    for _ in range(300):
        counts = [0, 0, 0]
        for _ in range(20):
            counts[random.randrange(3)] += 30
        naive += g_test(counts, [1 / 3] * 3) < 0.001
        corrected += g_test(counts, [1 / 3] * 3, requests_per_connection=30) < 0.001
    assert naive > 150
    assert corrected <= 3


def test_the_g_test_keeps_its_alpha() -> None:
    """2,000 fair samples: about alpha of them are rejected, never many."""
    random = Random(7)
    rejected = 0
    for _ in range(2000):
        counts = [0, 0, 0]
        for _ in range(300):
            counts[random.randrange(3)] += 1
        rejected += g_test(counts, [1 / 3] * 3) < 0.01
    assert 5 <= rejected <= 40


@pytest.mark.parametrize("n", [1, 7, 300, 5_000])
@pytest.mark.parametrize("p", [0.01, 0.05, 0.5, 0.97])
def test_terms_too_small_for_a_double_add_nothing(n: int, p: float) -> None:
    """The tail leaves out what would be zero, and so is the very sum of all terms."""
    log_n = math.lgamma(n + 1)

    def term(k: int) -> float:
        log_p, log_q = math.log(p), math.log1p(-p)
        return math.exp(log_n - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_p + (n - k) * log_q)

    for successes in {1, n // 20 + 1, n // 2 + 1, n}:
        assert binomial_tail(successes, n, p) == min(1.0, math.fsum(term(k) for k in range(successes, n + 1)))


@pytest.mark.parametrize(
    ("successes", "n", "bound"),
    # Exact for none and for all; the others from the inverse of the beta distribution.
    [(0, 1, 0.95), (0, 10, 1 - 0.05**0.1), (0, 59, 1 - 0.05 ** (1 / 59)), (3, 3, 1.0), (0, 0, 1.0), (1, 10, 0.394163)],
)
def test_the_exact_upper_bound(successes: int, n: int, bound: float) -> None:
    """What so few in so many do not rule out at 95 %."""
    assert clopper_pearson_upper(successes, n) == pytest.approx(bound, rel=1e-6)


def test_the_exact_upper_bound_and_its_rule_of_thumb() -> None:
    """None in a hundred: about three in a hundred, and never more. With each success it grows."""
    for n in (30, 100, 1000):
        assert 0.9 * rule_of_three(n) < clopper_pearson_upper(0, n) < rule_of_three(n)
    bounds = [clopper_pearson_upper(k, 20) for k in range(21)]
    assert bounds == sorted(bounds)
    stats = pytest.importorskip("scipy.stats")
    for k in range(20):
        assert bounds[k] == pytest.approx(stats.beta.ppf(0.95, k + 1, 20 - k), rel=1e-9)
