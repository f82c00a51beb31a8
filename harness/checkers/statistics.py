"""The few formulas of statistics that checkers need, exact where that is cheap. Sources stand beside each.

Must not: know anything of histories. The standard library has no binomial tail and no chi-square.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from statistics import NormalDist

__all__ = [
    "binomial_critical",
    "binomial_tail",
    "chi_square_critical",
    "chi_square_power",
    "chi_square_sf",
    "clopper_pearson_upper",
    "g_statistic",
    "g_test",
    "rule_of_three",
    "wilson_interval",
    "zero_failures_in_words",
]

_TINY = 1e-300
_PRECISION = 1e-15


def binomial_tail(successes: int, n: int, p: float) -> float:
    """P(X >= successes) for X ~ Binomial(n, p), summed exactly term by term in logarithms.

    Source: the definition; Johnson, Kemp, Kotz, "Univariate Discrete Distributions", 3.1.
    """
    if successes <= 0:
        return 1.0
    if successes > n or p <= 0.0:
        return 0.0
    if p >= 1.0:
        return 1.0
    log_p, log_q = math.log(p), math.log1p(-p)
    log_n = math.lgamma(n + 1)

    def term(k: int) -> float:
        return math.exp(log_n - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_p + (n - k) * log_q)

    # They rise to the mode and fall after it; far from it they are too small for a double, and add nothing.
    mode = max(successes, min(n, int((n + 1) * p)))
    first = bisect_left(range(mode), True, lo=successes, key=lambda k: term(k) > 0.0)
    last = bisect_left(range(n + 1), True, lo=mode, key=lambda k: term(k) == 0.0)
    return min(1.0, math.fsum(term(k) for k in range(first, last)))


def binomial_critical(n: int, p: float, *, alpha: float) -> int:
    """The smallest count c with P(X >= c) <= alpha for X ~ Binomial(n, p): from c on, `p` or less is rejected.

    n + 1 when even n successes out of n would not be rejected.
    """
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        if binomial_tail(middle, n, p) <= alpha:
            high = middle
        else:
            low = middle + 1
    return low


def _gamma_p_series(a: float, x: float) -> float:
    """P(a, x) by its power series, for x < a + 1. Source: Numerical Recipes (3rd ed.) eq. 6.2.5, DLMF 8.7.1."""
    term = total = 1.0 / a
    k = a
    while abs(term) > abs(total) * _PRECISION:
        k += 1.0
        term *= x / k
        total += term
    return total * math.exp(-x + a * math.log(x) - math.lgamma(a))


def _gamma_q_fraction(a: float, x: float) -> float:
    """Q(a, x) by its continued fraction, for x >= a + 1, evaluated by Lentz's method.

    Source: Numerical Recipes (3rd ed.) eq. 6.2.7 and section 5.2.
    """
    b = x + 1.0 - a
    c = 1.0 / _TINY
    d = 1.0 / b
    fraction = d
    for i in range(1, 10_000):
        numerator = -i * (i - a)
        b += 2.0
        d = 1.0 / _away_from_zero(numerator * d + b)
        c = _away_from_zero(b + numerator / c)
        step = c * d
        fraction *= step
        if abs(step - 1.0) < _PRECISION:
            break
    return fraction * math.exp(-x + a * math.log(x) - math.lgamma(a))


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def chi_square_sf(x: float, df: int) -> float:
    """P(X >= x) for a chi-square with `df` degrees of freedom: the regularised incomplete gamma Q(df/2, x/2).

    Source: Numerical Recipes (3rd ed.) 6.14.8 with 6.2. Raises ValueError for df below 1.
    """
    if df < 1:
        raise ValueError(f"degrees of freedom must be 1 or more (got {df})")
    if x <= 0.0:
        return 1.0
    a, half = df / 2.0, x / 2.0
    q = 1.0 - _gamma_p_series(a, half) if half < a + 1.0 else _gamma_q_fraction(a, half)
    return min(1.0, max(0.0, q))


def chi_square_critical(df: int, *, alpha: float) -> float:
    """The x with P(X >= x) = alpha, by bisection."""
    low, high = 0.0, 1.0
    while chi_square_sf(high, df) > alpha:
        high *= 2.0
    for _ in range(200):
        middle = (low + high) / 2.0
        if chi_square_sf(middle, df) > alpha:
            low = middle
        else:
            high = middle
    return high


def chi_square_power(n: float, *, fair: Sequence[float], wrong: Sequence[float], alpha: float) -> float:
    """How surely `n` independent choices with the shares `wrong` are told from the shares `fair`.

    The statistic is then noncentral chi-square with noncentrality n * sum((wrong - fair)^2 / fair), which is a Poisson
    mixture of central ones. Source: Cohen, "Statistical Power Analysis", ch. 7; Johnson, Kotz, Balakrishnan,
    "Continuous Univariate Distributions" 2, ch. 29. Approximate, as the chi-square test itself is.
    """
    df = len(fair) - 1
    critical = chi_square_critical(df, alpha=alpha)
    half = n * math.fsum((w - f) ** 2 / f for w, f in zip(wrong, fair, strict=True)) / 2.0
    # Poisson weights more than ten standard deviations from their mean add nothing a double could hold.
    reach = 10.0 * math.sqrt(half) + 50.0
    low, high = max(0, int(half - reach)), int(half + reach)
    return min(
        1.0,
        math.fsum(
            math.exp(-half + (j * math.log(half) if j else 0.0) - math.lgamma(j + 1))
            * chi_square_sf(critical, df + 2 * j)
            for j in range(low, high + 1)
        )
        if half > 0.0
        else alpha,
    )


def g_statistic(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The likelihood-ratio statistic G = 2 sum(observed ln(observed / expected)).

    Source: Sokal and Rohlf, "Biometry", 17.2; Woolf 1957.
    """
    n = sum(counts)
    return 2.0 * math.fsum(
        count * math.log(count / (n * share)) for count, share in zip(counts, shares, strict=True) if count
    )


def g_test(counts: Sequence[int], shares: Sequence[float], *, requests_per_connection: float = 1.0) -> float:
    """p-value of the multinomial G-test that `counts` were drawn with `shares`.

    Requests on one kept-alive connection that is pinned to an instance are one choice, not many: the statistic is
    divided by the mean number of requests per connection (design effect, Kish, "Survey Sampling", 8.2; Rao and
    Scott 1981). Without that, 600 requests on 20 pinned connections give 78 % false alarms.
    """
    design_effect = max(1.0, requests_per_connection)
    return chi_square_sf(g_statistic(counts, shares) / design_effect, len(counts) - 1)


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The range in which the true share lies. Source: Wilson 1927, J. Am. Stat. Assoc. 22:209.

    (0, 1) for n = 0: nothing is known.
    """
    if n == 0:
        return (0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    share = successes / n
    centre = share + z * z / (2 * n)
    margin = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return (max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale))


def clopper_pearson_upper(successes: int, n: int, *, confidence: float = 0.95) -> float:
    """The largest true share that so few successes in `n` do not rule out: exact, one-sided.

    The p at which `successes` or fewer have the probability 1 - confidence; for none of them 1 - (1 - confidence)^(1/n),
    about 3/n at 95 % (`rule_of_three`). Source: Clopper and Pearson 1934, Biometrika 26:404. 1 for n = 0: nothing is
    known.
    """
    if successes >= n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):  # halved until a double can tell them apart no more
        middle = (low + high) / 2.0
        if binomial_tail(successes + 1, n, middle) < confidence:
            low = middle
        else:
            high = middle
    return high


def rule_of_three(n: int) -> float:
    """The failure rate that zero failures in `n` do not rule out at 95 %: 3/n, at most 1.

    Source: Hanley and Lippman-Hand 1983, JAMA 249:1743.
    """
    return 1.0 if n <= 3 else 3.0 / n


def zero_failures_in_words(n: int) -> str:
    """What zero failures in `n` requests prove, for the report."""
    if n == 0:
        return "no request, so nothing is proven"
    return f"zero failures in {n} requests proves only that fewer than {rule_of_three(n):.2%} fail (95 %)"
