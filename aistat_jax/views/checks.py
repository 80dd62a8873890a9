"""Can the numbers be believed? Traces and ranks of chains, ranks and coverage of known truths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.inference.diagnostics import chain_summary
from aistat_jax.inference.posterior import Posterior
from aistat_jax.uncertainty.calibration import Ranks, quantities
from aistat_jax.uncertainty.coverage import Coverage
from aistat_jax.uncertainty.uniformity import BINS, bin_counts
from aistat_jax.views.paper import Page, columns_for, page, settle, small_title
from aistat_jax.views.style import BAND, COMPARED, DRAW, ESTIMATE, OUTLINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any

_HEADROOM = 1.12  # above the highest count or stripe
_DASHES = ("-", "--", ":", "-.")


def plot_traces(
    posterior: Posterior, names: Sequence[str] | None = None, *, width_mm: float | None = None
) -> Figure:
    """Draws in the order they were made, chain after chain, and how often each value came up.

    `names` are quantities of `calibration.quantities`: "area", "radius 0°", and the model's
    scalar sites; by default area and sites. Chains that agree look alike from left to right; their
    rank-normalised R-hat and bulk effective sample size (Vehtari et al. 2021) stand beside them,
    for independent weighted draws their Pareto k and effective sample size.

    Raises InputError for a name that is not among them.
    """
    found = _scalars(posterior, names)
    chains, draws = posterior.radii.shape[:2]
    with page(width_mm, inches=7.4) as made:
        grid = made.figure.add_gridspec(
            len(found), 2, width_ratios=(4, 1), height_ratios=[_row(made)] * len(found)
        )
        row: list[Any] = []
        for n, (name, flat) in enumerate(found.items()):
            row = [made.figure.add_subplot(grid[n, 0])]
            row.append(made.figure.add_subplot(grid[n, 1], sharey=row[0]))
            values = flat.reshape(chains, draws)
            for chain, trace in enumerate(values):
                at = np.arange(chain * draws, (chain + 1) * draws)
                row[0].plot(
                    at, trace, lw=0.5 * max(made.scale, 0.6), color=(DRAW, OUTLINE)[chain % 2]
                )
            row[1].hist(
                values.ravel(), bins=40, orientation="horizontal", color="0.75", density=True
            )
            row[0].set_ylabel(_with_unit(name, posterior.unit))
            row[0].set_xlim(0, chains * draws)
            row[0].set_xticks(np.arange(chains + 1) * draws)
            row[1].set_xticks([])
            row[1].tick_params(labelleft=False)
            row[0].tick_params(labelbottom=n == len(found) - 1)
            told = _agreement(posterior, values, first=n == 0)
            row[1].set_title(told, **small_title() | {"fontweight": "normal"})
            if n == 0:
                _name_chains(row[0], chains, made.width_mm)
        row[0].set_xlabel("draw, chain after chain" if chains > 1 else "draw")
        row[1].set_xlabel("density")
        return settle(made)


def plot_chain_ranks(
    posterior: Posterior, names: Sequence[str] | None = None, *, width_mm: float | None = None
) -> Figure:
    """Each chain's share of the ranks among all draws: flat where the chains agree.

    A row a quantity (as in `plot_traces`), a step line a chain (Vehtari et al. 2021, sec. 4.4);
    the stripe holds a count with probability 99% where ranks are uniform and draws independent.

    Raises InputError for a name that is not known, or a posterior of one chain.
    """
    from matplotlib.lines import Line2D
    from scipy.stats import binom, rankdata

    chains, draws = posterior.radii.shape[:2]
    if chains < 2:
        raise InputError("ranks compare chains, and this posterior has one; see its khat instead")
    found = _scalars(posterior, names)
    edges = np.linspace(0.5, chains * draws + 0.5, BINS + 1)
    low, high = binom.interval(0.99, draws, 1 / BINS)
    with page(width_mm, inches=7.4) as made:
        panels = made.figure.subplots(
            len(found), 1, sharex=True, squeeze=False, height_ratios=[_row(made)] * len(found)
        )[:, 0]
        for panel, (name, values) in zip(panels, found.items(), strict=True):
            panel.axhspan(low, high, color=BAND, alpha=0.3, lw=0)
            panel.axhline(draws / BINS, color=ESTIMATE, lw=0.8)
            ranks = rankdata(values, method="ordinal").reshape(chains, draws)
            highest = high
            for row, dashes in zip(ranks, _DASHES * chains, strict=False):
                counts = np.histogram(row, edges)[0]
                highest = max(highest, counts.max())
                look = {"color": OUTLINE, "lw": 1.1 * max(made.scale, 0.7), "ls": dashes}
                panel.stairs(counts, edges, baseline=None, **look)
            panel.set_ylim(0, _HEADROOM * highest)
            panel.set_ylabel(name)
        panels[-1].set_xlabel(f"rank among all {chains * draws} draws")
        handles = [
            Line2D([], [], color=OUTLINE, lw=1.1, ls=_DASHES[n % 4], label=f"chain {n + 1}")
            for n in range(chains)
        ]
        return settle(made, [*handles, _stripe("99% where chains agree")])


def plot_ranks(
    ranks: Ranks, *, columns: int | None = None, width_mm: float | None = None
) -> Figure:
    """Ranks of simulated truths among posterior draws: flat where the posterior is right.

    A histogram of each quantity. The shaded stripe holds a count of a uniform rank with
    probability 99%; the p-value is the smaller of the chi-square and the ECDF test's. `columns` are
    four, or as many as have room.
    """
    from scipy.stats import binom

    count = len(ranks.values)
    columns = min(columns or columns_for(width_mm, 4), len(ranks.names))
    rows = -(-len(ranks.names) // columns)
    low, high = binom.interval(0.99, count, 1 / BINS)
    edges = np.linspace(0, ranks.draws + 1, BINS + 1)
    with page(width_mm, inches=1.9 * columns + 0.4) as made:
        panels = made.figure.subplots(
            rows, columns, squeeze=False, sharex=True, sharey=True,
            height_ratios=[0.9 if made.narrow else 1.25] * rows,
        )  # fmt: skip
        highest = high
        for n, panel in enumerate(panels.ravel()):
            if n >= len(ranks.names):
                panel.set_axis_off()
                continue
            p = min(ranks.p_values()[ranks.names[n]])
            heights = bin_counts(ranks.values[:, n], ranks.draws)
            highest = max(highest, heights.max())
            panel.axhspan(low, high, color=BAND, alpha=0.3, lw=0)
            panel.axhline(count / BINS, color=ESTIMATE, lw=0.8)
            look = {"color": OUTLINE, "lw": 1.2 * max(made.scale, 0.7)}
            panel.stairs(heights, edges, baseline=None, **look)
            made.title(panel, f"{ranks.names[n]}\np = {p:.2g}", **small_title())
            panel.set_xlim(0, ranks.draws + 1)
            lowest = n + columns >= len(ranks.names)
            panel.tick_params(labelbottom=lowest)
            panel.set_xlabel(f"rank, of {ranks.draws}" if lowest else "")
            panel.set_ylabel("" if n % columns else f"truths, of {count}")
        panels[0, 0].set_ylim(0, _HEADROOM * highest)
        return settle(made, [_stripe("99% where ranks are uniform")])


def plot_coverage(
    found: Coverage | Mapping[str, Coverage],
    *,
    title: str | None = None,
    width_mm: float | None = None,
) -> Figure:
    """Does the band hold the truth as often as it says, and how wide is it for that?

    Left: the share of truths that lie wholly inside the simultaneous band against its level, with
    95% binomial intervals (Clopper-Pearson); right on the diagonal, over-confident below it. Right:
    the half-width, median over the truths, with its middle half. `found` are results of `coverage`,
    by name where there are several.

    Raises InputError for none or more than five of them, or for mixed units.
    """
    from matplotlib.lines import Line2D

    several = {"": found} if isinstance(found, Coverage) else dict(found)
    if not 1 <= len(several) <= len(COMPARED):
        raise InputError(f"a coverage plot takes 1 to {len(COMPARED)} results, {len(several)}")
    units = {one.unit for one in several.values()}
    if len(units) > 1:
        raise InputError("a coverage plot needs one unit, got results in mm and in px")
    with page(width_mm, inches=7.2) as made:
        height = 1.5 if made.narrow else 2.6
        left, right = made.figure.subplots(1, 2, height_ratios=[height])
        left.plot([0, 1], [0, 1], color="0.6", lw=0.8, zorder=1)
        handles = [Line2D([], [], color="0.6", lw=0.8, label="as often as stated")]
        for n, ((name, one), look) in enumerate(zip(several.items(), COMPARED, strict=False)):
            look = look | {"lw": look["lw"] * made.scale, "marker": "os^Dv"[n]}
            look |= {"markersize": 5.0 * max(made.scale, 0.6)}
            low, high = one.interval()
            beside = one.levels + 0.004 * (n - (len(several) - 1) / 2)  # bars side by side
            bars = [one.share - low, high - one.share]
            left.errorbar(beside, one.share, bars, **look, elinewidth=0.9, capsize=1.5)
            quarter, middle, three = np.quantile(one.half_width, [0.25, 0.5, 0.75], axis=0)
            right.plot(one.levels, middle, **look)
            right.fill_between(one.levels, quarter, three, color=look["color"], alpha=0.15, lw=0)
            label = f"{name}, {one.count} truths" if name else f"{one.count} truths"
            handles.append(Line2D([], [], **look, label=label))
        lowest = min(float(one.levels.min()) for one in several.values())
        least = min(float(one.interval()[0].min()) for one in several.values())
        left.set_xlim(lowest - 0.03, 1.015)
        left.set_ylim(max(-0.02, min(lowest, least) - 0.05), 1.02)
        left.set_xlabel("level of the band")
        left.set_ylabel("truths held")
        right.set_xlim(left.get_xlim())
        right.set_ylim(0, None)
        right.set_xlabel("level of the band")
        right.set_ylabel(f"half-width ({units.pop()})")
        if title:
            made.figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        return settle(made, handles)


def _stripe(label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=BAND, alpha=0.3, label=label)


def _row(made: Page) -> float:
    """Inches of a row of traces or ranks."""
    return 0.75 if made.narrow else 1.05


def _agreement(posterior: Posterior, values: np.ndarray, *, first: bool) -> str:
    """R-hat and ESS of chains; of weighted draws, which have neither, what is known of all."""
    if len(values) > 1:
        ess, rhat = chain_summary(values)
        return f"R-hat {rhat:.3f}\nESS {ess:,.0f}"
    checks = posterior.diagnostics
    if not first:
        return ""
    khat = "" if checks.khat is None else f"khat {checks.khat:.2f}\n"
    return f"{khat}ESS ≥ {checks.ess_min:,.0f}"


def _name_chains(axes: Axes, chains: int, width_mm: float) -> None:
    """The chains' numbers above their traces, with the word where it has room."""
    if chains < 2:
        return
    room = 0.6 * width_mm / chains
    for chain in range(chains):
        axes.text(
            (chain + 0.5) / chains, 1.03, f"chain {chain + 1}" if room > 12 else f"{chain + 1}",
            ha="center", va="bottom", fontsize=small_title()["fontsize"], transform=axes.transAxes,
        )  # fmt: skip


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
