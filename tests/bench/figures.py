"""A figure: what we measured, what it is compared with, and how both are printed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: its samples, in the figure's unit, and in words what was done."""

    samples: Sequence[float]
    what: str
    more_is_better: bool = False
    """Of a rate, the 99th percentile is the one that 99 of 100 samples reach: the slow end, as of a duration."""

    def quantile(self, share: float) -> float:
        """The sample that at least `share` of them are no worse than (nearest rank)."""
        ordered = sorted(self.samples, reverse=self.more_is_better)
        return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]

    def as_json(self) -> dict[str, Any]:
        """`{"p50","p99","samples","what"}`, rounded to four digits."""
        return {
            "p50": _rounded(self.quantile(0.50)),
            "p99": _rounded(self.quantile(0.99)),
            "samples": len(self.samples),
            "what": self.what,
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of `make bench` (CONTRACT "The runner"). `goal` is for people; `more` joins the JSON object.

    The ratios are ours / baseline, whatever the unit: where more is better, above 1 is.
    """

    name: str
    unit: str
    ours: Side
    baseline: Side
    goal: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Median over median."""
        return self.ours.quantile(0.50) / self.baseline.quantile(0.50)

    @property
    def ratio_p99(self) -> float:
        """99th percentile over 99th percentile."""
        return self.ours.quantile(0.99) / self.baseline.quantile(0.99)

    def as_line(self) -> str:
        """One JSON object on one line."""
        whole = {
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours.as_json(),
            "baseline": self.baseline.as_json(),
            "ratio": _rounded(self.ratio),
            "ratio_p99": _rounded(self.ratio_p99),
            "goal": self.goal,
            **self.more,
        }
        return json.dumps(whole, ensure_ascii=False)


def show(figures: Sequence[Figure], console: Console) -> None:
    """The same for people."""
    table = Table(title="Ours, the baseline, and ours / baseline, in one run", title_justify="left")
    table.add_column("figure")
    for column in ("unit", "ours p50", "p99", "baseline p50", "p99", "ratio", "ratio p99"):
        table.add_column(column, justify="right")
    table.add_column("goal")
    for figure in figures:
        sides = (figure.ours, figure.baseline)
        values = [f"{_rounded(side.quantile(share)):g}" for side in sides for share in (0.50, 0.99)]
        ratios = (f"{figure.ratio:.2f}", f"{figure.ratio_p99:.2f}")
        table.add_row(figure.name, figure.unit, *values, *ratios, figure.goal)
    console.print(table)
    for figure in figures:
        for role, side in (("ours", figure.ours), ("baseline", figure.baseline)):
            console.print(f"[bold]{figure.name}[/], {role}: {side.what}", soft_wrap=True, highlight=False)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
