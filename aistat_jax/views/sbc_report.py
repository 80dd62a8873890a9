"""What does a person read about a model's calibration? One self-contained page."""

from __future__ import annotations

import os
from pathlib import Path

import aistat_jax
from aistat_jax.uncertainty.sbc import FALSE_ALARM, SBCResult, in_time
from aistat_jax.views.checks import plot_ranks
from aistat_jax.views.ecdf import plot_ecdf
from aistat_jax.views.page import figure, grid, safe, write_page

ABOUT = (
    "A truth was drawn from the prior, data were simulated from the truth, and the model was "
    "fitted to the data, again and again (Talts et al. 2018). If the computation is right, and the "
    "prior and likelihood are those that the data were simulated from, the rank of the truth among "
    "posterior draws is as often one number as any other. Ranks at both ends tell of posteriors "
    "that are too narrow, in the middle of too wide ones, at one end of shifted ones. The band of "
    "the ECDF holds the whole line with probability 95% for each quantity by itself (Säilynoja, "
    "Bürkner & Vehtari 2022); p-values are of a chi-square test in ten bins and of the ECDF, and "
    "the verdict counts all of them together (Bonferroni). To pass says that no fault large enough "
    "for so many replications was seen, and nothing about data that are unlike the simulated ones."
)


def write_sbc_report(
    path: str | os.PathLike[str], found: SBCResult, *, title: str = "Calibration"
) -> Path:
    """One HTML page, with its pictures inside: verdict, rank histograms, ECDF bands, coverage.

    Everything is escaped, nothing is fetched, and the file is moved into place when complete.
    Returns the path written.
    """
    ranks, wrong = found.ranks, found.findings
    count = len(ranks.values)
    named = f"Not calibrated: {', '.join(wrong) or 'see the tests below'}."
    verdict = "No fault was seen." if found.passed else named
    tests = [
        [name, f"{chi:.3g}", f"{ecdf:.3g}", wrong.get(name, "-")]
        for name, (chi, ecdf) in ranks.p_values().items()
    ]
    covered = [
        [
            name, f"{one.level:.3g}", f"{one.share:.3f} ± {one.error:.3f}",
            f"{one.low:.3f} to {one.high:.3f}",
        ]
        for name, rows in ranks.central_coverage().items()
        for one in rows
    ]  # fmt: skip
    total, first = found.seconds.sum(), found.seconds[0]
    parts = [
        f"<h1>{safe(title)}</h1>",
        f'<p class="meta">aistat_jax {safe(aistat_jax.__version__)} · {count} replications, ranks '
        f"among {ranks.draws} draws · {safe(in_time(total))}, of which the first took "
        f"{safe(in_time(first))}</p>",
        f'<p><span class="grade {"green" if found.passed else "red"}">'
        f"{'passed' if found.passed else 'failed'}</span> {safe(verdict)} Over all "
        f"{len(ranks.names)} quantities and both tests p = {ranks.p:.2g} (alarm below "
        f"{FALSE_ALARM:g}).</p>",
        "<h2>Ranks of the truths</h2>",
        figure("Rank histograms; the stripe holds a count of even ranks in 99%.",
               plot_ranks(ranks)),
        figure("ECDF of the ranks less that of even ranks.", plot_ecdf(ranks)),
        grid(["Quantity", "p, chi-square", "p, ECDF", "What is wrong"], tests),
        "<h2>Coverage of central intervals</h2>",
        grid(["Quantity", "Level", "Share held ± Monte-Carlo error", "95% interval"], covered),
        f'<h2>How to read this</h2><p class="about">{safe(ABOUT)}</p>',
    ]  # fmt: skip
    return write_page(path, title, parts)
