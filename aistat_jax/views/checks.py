"""Can the numbers be believed? Traces and ranks of chains, and ranks of simulated truths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.inference.posterior import Posterior
from aistat_jax.uncertainty.calibration import BINS, Ranks, bin_counts, quantities
from aistat_jax.views.style import BAND, DRAW, ESTIMATE, OUTLINE, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any


def plot_traces(posterior: Posterior, names: Sequence[str] | None = None) -> Figure:
    """Draws in the order they were made, chain after chain, and how often each value came up.

    `names` are quantities of `calibration.quantities`: "area", "radius 0°", and the model's
    scalar sites; by default area and sites. Chains that agree look alike from left to right.

    Raises InputError for a name that is not among them.
    """
    found = _scalars(posterior, names)
    chains, draws = posterior.radii.shape[:2]
    with style():
        figure = new_figure(7.4, 1.35 * len(found) + 0.6)
        panels = figure.subplots(len(found), 2, sharey="row", width_ratios=(5, 1), squeeze=False)
        for row, (name, flat) in zip(panels, found.items(), strict=True):
            values = flat.reshape(chains, draws)
            for chain, trace in enumerate(values):
                at = np.arange(chain * draws, (chain + 1) * draws)
                row[0].plot(at, trace, lw=0.5, color=(DRAW, OUTLINE)[chain % 2])
            row[1].hist(
                values.ravel(), bins=40, orientation="horizontal", color="0.75", density=True
            )
            row[0].set_ylabel(_with_unit(name, posterior.unit))
            row[0].set_xlim(0, chains * draws)
            row[0].set_xticks(np.arange(chains + 1) * draws)
            row[1].set_xticks([])
        for chain in range(chains):
            panels[0, 0].text(
                (chain + 0.5) / chains, 1.02, f"chain {chain + 1}", ha="center", va="bottom",
                fontsize=8, transform=panels[0, 0].transAxes,
            )  # fmt: skip
        panels[-1, 0].set_xlabel("draw, chain after chain")
        panels[-1, 1].set_xlabel("density")
    return figure


def plot_chain_ranks(posterior: Posterior, names: Sequence[str] | None = None) -> Figure:
    """Each chain's share of the ranks among all draws: flat where the chains agree.

    A row a quantity (as in `plot_traces`), a step line a chain (Vehtari et al. 2021, sec. 4.4);
    the stripe holds a count with probability 99% where ranks are uniform and draws independent.

    Raises InputError for a name that is not known, or a posterior of one chain.
    """
    from scipy.stats import binom, rankdata

    chains, draws = posterior.radii.shape[:2]
    if chains < 2:
        raise InputError("ranks compare chains, and this posterior has one; see its khat instead")
    found = _scalars(posterior, names)
    edges = np.linspace(0.5, chains * draws + 0.5, BINS + 1)
    low, high = binom.interval(0.99, draws, 1 / BINS)
    with style():
        figure = new_figure(7.4, 1.35 * len(found) + 0.6)
        panels = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
        for panel, (name, values) in zip(panels, found.items(), strict=True):
            panel.axhspan(low, high, color=BAND, alpha=0.3, lw=0)
            panel.axhline(draws / BINS, color=ESTIMATE, lw=0.8)
            ranks = rankdata(values, method="ordinal").reshape(chains, draws)
            for row, dashes in zip(ranks, ("-", "--", ":", "-.") * chains, strict=False):
                panel.stairs(np.histogram(row, edges)[0], edges, color=OUTLINE, lw=1.1, ls=dashes)
            panel.set_ylim(0, None)
            panel.set_ylabel(name)
        panels[-1].set_xlabel(f"rank among all {chains * draws} draws")
    return figure


def plot_ranks(ranks: Ranks, *, columns: int = 4) -> Figure:
    """Ranks of simulated truths among posterior draws: flat where the posterior is right.

    A histogram of each quantity. The shaded stripe holds a count of a uniform rank with
    probability 99%; the p-value is the smaller of the chi-square and the ECDF test's.
    """
    from scipy.stats import binom

    count = len(ranks.values)
    columns = min(columns, len(ranks.names))
    rows = -(-len(ranks.names) // columns)
    low, high = binom.interval(0.99, count, 1 / BINS)
    edges = np.linspace(0, ranks.draws + 1, BINS + 1)
    with style():
        figure = new_figure(1.9 * columns + 0.4, 1.7 * rows + 0.5)
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for n, panel in enumerate(panels.ravel()):
            if n >= len(ranks.names):
                panel.set_axis_off()
                continue
            p = min(ranks.p_values()[ranks.names[n]])
            heights = bin_counts(ranks.values[:, n], ranks.draws)
            panel.axhspan(low, high, color=BAND, alpha=0.3, lw=0)
            panel.axhline(count / BINS, color=ESTIMATE, lw=0.8)
            panel.stairs(heights, edges, color=OUTLINE, lw=1.2)
            panel.set_title(f"{ranks.names[n]}\np = {p:.2g}", fontsize=8.5)
            panel.set_xlim(0, ranks.draws + 1)
            panel.tick_params(labelbottom=n + columns >= len(ranks.names))
        panels[0, 0].set_ylim(0, None)
        figure.supxlabel(f"rank of the truth among {ranks.draws} draws", fontsize=9)
        figure.supylabel(f"truths, of {count}", fontsize=9)
    return figure


def _scalars(posterior: Posterior, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """The quantities asked for, by default the area and the model's scalar sites."""
    found = quantities(posterior)
    if names is None:
        return {n: v for n, v in found.items() if n == "area" or not n.startswith("radius ")}
    if unknown := [name for name in names if name not in found]:
        raise InputError(f"no quantity {unknown[0]!r}; there are {', '.join(found)}")
    return {name: found[name] for name in names}


def _with_unit(name: str, unit: str) -> str:
    units = {"area": f" ({unit}²)", "lengthscale": " (rad)"}
    return name + (f" ({unit})" if name.startswith("radius ") else units.get(name, ""))
