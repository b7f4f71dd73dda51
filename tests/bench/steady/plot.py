"""Three panels over the minutes of a run: memory, lag, latency."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")  # there is no screen
from matplotlib import pyplot as plt

from deploy.local.roles import SERVICES
from tests.bench.steady.sample import Row

_COLOURS = dict(zip(SERVICES, ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"), strict=True))
"""Okabe and Ito's, which all eyes tell apart."""
_GREY, _BLACK = "#999999", "#222222"
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text as text: small, and can be searched
    "svg.hashsalt": "qalqan",
}


def draw(rows: Sequence[Row], title: str, warmup_minutes: float, target: Path) -> None:
    """Writes the plot as SVG."""
    minutes = [row["minutes"] for row in rows]
    with plt.rc_context(_STYLE):
        figure, (memory, lag, latency) = plt.subplots(3, 1, figsize=(9, 9), sharex=True, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        for name, colour in _COLOURS.items():
            memory.plot(minutes, [row[f"{name}_mb"] for row in rows], color=colour, lw=1.3, label=name)
            lag.plot(minutes, [row[f"{name}_lag"] for row in rows], color=colour, lw=0.9, label=name)
        together = [sum(row[f"{name}_mb"] for name in SERVICES) for row in rows]
        memory.plot(minutes, together, color=_BLACK, lw=1.6, label="the five together")
        for name, dash in (("kafka", "--"), ("postgres", ":")):
            values = [row[f"{name}_rss_mb"] for row in rows]
            memory.plot(minutes, values, color=_GREY, ls=dash, lw=1.1, label=f"{name} (RSS)")
        latency.plot(minutes, [row["p99_ms"] for row in rows], color=_GREY, lw=0.9, label="p99 of each sample")
        latency.plot(minutes, [row["p50_ms"] for row in rows], color=_BLACK, lw=1.3, label="p50 of each sample")
        memory.set_ylabel("memory, MB (own pages)")
        lag.set_ylabel("lag, records not yet handled")
        latency.set_ylabel("last vote → authorised, ms")
        latency.set_xlabel("minutes")
        for panel in (memory, lag, latency):
            panel.set_ylim(bottom=0)
            panel.margins(x=0)
            panel.axvspan(0, warmup_minutes, color="#f5f5f5", lw=0)
            panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
        figure.savefig(target, format="svg", metadata={"Date": None})
        plt.close(figure)
