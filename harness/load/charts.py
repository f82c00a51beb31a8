"""Pictures of a load run as SVG: throughput and latency by second, and the curve. Real text, no script.

Everything drawn is a number of ours, and stands in a table beside the picture. Must not: decide anything, or draw a
text that an application sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from harness.load.results import Curve
from harness.load.scaling import ENOUGH
from harness.reporting.page import Markup

__all__ = ["by_second", "curve_picture"]

_WIDTH, _HEIGHT = 1000, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 14, 30
_TICKS = 4

Point = tuple[float, float]


def _nice(most: float) -> float:
    """A round step, so that about four of them reach `most`."""
    rough = max(most, 1e-9) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough)


class _Plane:
    """Maps values to the picture, and draws its axes."""

    def __init__(self, *, x_from: float, x_to: float, y_to: float, height: int = _HEIGHT) -> None:
        self._x_from, self._x_span = x_from, max(x_to - x_from, 1e-9)
        self.step = _nice(y_to)
        self._y_to = self.step * max(1, math.ceil(y_to / self.step - 1e-9))
        self.height = height

    def x(self, value: float) -> float:
        return round(_LEFT + (value - self._x_from) / self._x_span * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(self.height - _BOTTOM - value / self._y_to * (self.height - _TOP - _BOTTOM), 1)

    def line(self, points: Iterable[Point], name: str) -> Markup:
        """A line through points; a gap where one is missing begins a new one."""
        text = " ".join(f"{self.x(x)},{self.y(y)}" for x, y in points)
        return Markup('<polyline class="{}" points="{}"/>').format(name, text)

    def frame(self, x_ticks: Iterable[tuple[float, str]], *, unit: str) -> Markup:
        parts = []
        for number in range(round(self._y_to / self.step) + 1):
            value = number * self.step
            y = self.y(value)
            label = f"{value:,.10g}" + (f" {unit}" if number == round(self._y_to / self.step) else "")
            parts.append(
                Markup('<line class="rule" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(_LEFT, _WIDTH - _RIGHT, y, y)
            )
            anchor, at, up = (
                ("start", 4, y - 3) if unit and number * self.step == self._y_to else ("end", _LEFT - 6, y + 4)
            )
            parts.append(
                Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>').format(at, up, anchor, label)
            )
        for value, label in x_ticks:
            parts.append(
                Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                    self.x(value), self.height - 10, label
                )
            )
        return Markup("").join(parts)


def _picture(inside: Iterable[Markup], *, height: int, told: str) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, height, told, Markup("").join(inside)
    )


def _seconds_ticks(last: float) -> list[tuple[float, str]]:
    step = max(1.0, _nice(last * _TICKS / 8))
    return [(number * step, f"{number * step:g} s") for number in range(int(last / step) + 1)]


def by_second(
    series: Sequence[tuple[str, Sequence[Point]]], *, last: float, unit: str, told: str, bad: Sequence[Point] = ()
) -> Markup:
    """Lines over the seconds of a run. `series`: the class of each line and its points; `bad`: red bars from the floor."""
    most = max([1.0, *(y for _, points in series for _, y in points), *(y for _, y in bad)])
    plane = _Plane(x_from=0, x_to=max(last, 1.0), y_to=most)
    parts = [plane.frame(_seconds_ticks(last), unit=unit)]
    for x, y in bad:
        if y > 0:
            bar = '<line class="bad" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
            parts.append(Markup(bar).format(plane.x(x), plane.y(0), min(plane.y(y), plane.y(0) - 3)))
    parts += [plane.line(points, name) for name, points in series]
    return _picture(parts, height=plane.height, told=told)


def curve_picture(curve: Curve) -> Markup:
    """The medians with their intervals, every window as a dot, what proportion would be, and the knee."""
    levels = curve.levels
    first, last = levels[0].instances, levels[-1].instances
    each = levels[0].throughput.middle / first
    most = max([1.0, *(value for level in levels for value in level.windows)])
    plane = _Plane(x_from=first - 0.5, x_to=last + 0.5, y_to=most * 1.15, height=320)
    ticks = [(float(level.instances), f"{level.instances}") for level in levels[:-1]]
    ticks.append((float(last), f"{last} instances"))
    parts = [plane.frame(ticks, unit="good answers per second")]
    # As far as it stays in the picture: proportion soon leaves it.
    top = most * 1.15
    until = min(float(last), top / each) if each > 0 else float(last)
    parts.append(plane.line([(first, each * first), (until, each * until)], "proportion"))
    label = '<text class="tick" x="{}" y="{}" text-anchor="end">in proportion to the first</text>'
    parts.append(Markup(label).format(plane.x(until) - 6, plane.y(each * until) - 8))
    for level in levels:
        for number, value in enumerate(level.windows):
            # Beside each other, so that those alike can be counted.
            x = level.instances + 0.08 + 0.14 * number / max(1, len(level.windows) - 1)
            parts.append(Markup('<circle class="window" cx="{}" cy="{}" r="2.5"/>').format(plane.x(x), plane.y(value)))
        x, spread = plane.x(level.instances), level.throughput
        bar = '<line class="interval" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
        parts.append(Markup(bar).format(x, plane.y(spread.low), plane.y(spread.high)))
    parts.append(plane.line([(level.instances, level.throughput.middle) for level in levels], "good"))
    for level in levels:
        x, y = plane.x(level.instances), plane.y(level.throughput.middle)
        parts.append(Markup('<circle class="median" cx="{}" cy="{}" r="5"/>').format(x, y))
        text = '<text class="value" x="{}" y="{}" text-anchor="end">{}</text>'
        parts.append(Markup(text).format(x - 9, y - 8, f"{level.throughput.middle:,.0f}"))
    if curve.knee.instances is not None:
        x = plane.x(curve.knee.instances)
        parts.append(Markup('<line class="knee" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(x, _TOP, plane.y(0)))
        word = "knee" if curve.knee.sure else "knee?"
        parts.append(Markup('<text class="value" x="{}" y="{}">{}</text>').format(x + 5, plane.y(0) - 6, word))
    told = "; ".join(
        f"{level.instances} instances {level.throughput.middle:,.0f} per second ({level.throughput.low:,.0f} to "
        f"{level.throughput.high:,.0f})"
        for level in levels
    )
    return _picture(parts, height=plane.height, told=f"Throughput: {told}; enough is {ENOUGH:.0%} of the first")
