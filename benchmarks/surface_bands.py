"""Which band of a surface head holds what an expert drew, and at which tolerance is it green?

Heads of benchmarks/surface_head.py on the patients left out of them, by their law alone. The
pointwise band is of any one place, the simultaneous one of the whole surface: the first is asked
how many points it holds, the second how many surfaces.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax._typing import Float
from aistat_jax.inference.posterior import Diagnostics, Posterior
from aistat_jax.nets.surface_head import FARTHEST
from aistat_jax.nets.surface_law import COUNT, FREQUENCY, SCALE, SurfaceEdge, waves
from aistat_jax.nets.surface_net import SurfaceNet, surface_at
from aistat_jax.nets.surface_training import Lesion, drawn_edge
from aistat_jax.space.sphere import sphere_chart
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import grades_of
from benchmarks._table import Result, Row
from benchmarks.patients import patients
from benchmarks.readings import asked
from benchmarks.surface_head import learned, lesion

LEVELS, SLACKS = (0.5, 0.8, 0.9, 0.95), (0.0, 0.5, 1.0)
KINDS = {"pointwise": aj.pointwise_band, "whole surface": aj.simultaneous_band}
TOLERANCES = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0)
GREEN = 0.95  # of a surface, within the tolerance
DRAWS, MANY = 4000, 40_000
# Edge points have an sd of a voxel, and one is not asked for this near (a cosine) to another.
NEAR = 0.5


class Judged(NamedTuple):
    """What a law says of a lesion, and the radii (ray,) at which the expert drew it; voxel in mm.

    many: a posterior of so many draws that what is told later can be weighed in.
    """

    many: Posterior
    drawn: np.ndarray
    voxel: float

    @property
    def posterior(self) -> Posterior:
        return replace(self.many, radii=self.many.radii[:, :DRAWS])


def judged(net: SurfaceNet, one: Lesion) -> Judged:
    """A lesion by a head that has not seen its patient."""
    law, centre, radius = surface_at(net, one.field, one.centre, one.radius)
    radii = radius * np.exp(surfaces_of(law, MANY, np.random.default_rng(0)))
    chart = sphere_chart(centre, FARTHEST * radius, frequency=FREQUENCY)
    sure = Diagnostics(converged=True, ess_min=float(MANY))
    posterior = Posterior(chart, radii[None], {}, sure, "prior", 0)
    drawn = radius * np.exp(drawn_edge(one, centre, radius))
    return Judged(posterior, drawn, float(one.field.grid.spacing.min()))


def surfaces_of(
    law: SurfaceEdge, count: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw ray"]:
    """Draws of a law, as log radii relative to the rough one."""
    degrees = np.asarray(law.degrees)
    inflation = degrees / rng.chisquare(degrees, (count, len(degrees)))
    errors = np.sqrt(inflation[:, SCALE]) * rng.standard_normal((count, COUNT))
    return np.asarray(law.mean) + errors @ np.asarray(waves(law), float).T


def rough(posterior: Posterior) -> float:
    """The radius of the ball of the median volume, in mm."""
    return float(np.cbrt(0.75 * np.median(posterior.chart.content(posterior.draws)) / np.pi))


def off_by(band: Band, drawn: np.ndarray) -> np.ndarray:
    """How far a surface leaves a band along each ray (ray,), in mm; below 0 inside."""
    return np.maximum(drawn - band.upper, band.lower - drawn)


def held(one: Judged, kind: str, level: float) -> dict[str, float]:
    """Points of what was drawn in a band, whether the whole is, by slack, and how wide it is."""
    posterior = one.posterior
    band = KINDS[kind](posterior, level)
    beyond, share = off_by(band, one.drawn), posterior.chart.weights(one.drawn)
    whole = {
        f"whole, slack {slack:g}": float(beyond.max() <= slack * one.voxel) for slack in SLACKS
    }
    width = float(np.median(band.half_width))
    return {"points": float(share @ (beyond <= 0) / share.sum()), **whole,
            "half-width / radius": width / rough(posterior)}  # fmt: skip


def multiple_needed(one: Judged) -> float:
    """How many times as wide the 95% band of the whole surface had to be, to hold it."""
    band = aj.simultaneous_band(one.posterior)
    above = (one.drawn - band.centre) / (band.upper - band.centre)
    below = (band.centre - one.drawn) / np.maximum(band.centre - band.lower, 1e-9)
    return float(np.maximum(above, below).max())


def conformal(values: Sequence[float], level: float) -> float:
    """What holds the next one with this probability: an order statistic, infinite for too few."""
    at = int(np.ceil((len(values) + 1) * level)) - 1
    return float(np.sort(values)[at]) if at < len(values) else np.inf


def trusted(one: Judged) -> dict[str, float]:
    """Expected, and met, shares of the surface within every tolerance; half the volume's interval.

    The least tolerance at which as much is expected as a green asks for is that of a grade which
    knows nothing against the lesion, not even that its volume is unsure.
    """
    posterior = one.posterior
    at, chart = grades_of(posterior), posterior.chart
    away = chart.gap(one.drawn[None], posterior.estimate[None])[0]
    share = chart.weights(one.drawn)
    fine = np.arange(0.5, 60.0, 0.1)
    least = bisect_left(fine, GREEN, key=lambda t: at(float(t)).expected_surface_dice)
    low, middle, high = np.quantile(chart.content(posterior.draws), [0.025, 0.5, 0.975])
    found = {"trusted to": float(fine[least]) if least < len(fine) else np.inf,
             "radius": rough(posterior), "volume": (high - low) / 2 / middle}  # fmt: skip
    for t in TOLERANCES:
        found[f"green at {t:g}"] = float(found["trusted to"] <= t)
        found[f"met at {t:g}"] = float(share @ (away <= t) / share.sum())
        found[f"graded at {t:g}"] = float(at(t).case == "green")
    return found


def weighed(posterior: Posterior, log_weight: np.ndarray, rng: np.random.Generator) -> Posterior:
    """Draws taken anew by their weights."""
    weight = np.exp(log_weight - log_weight.max())
    chosen = rng.choice(len(weight), DRAWS, p=weight / weight.sum())
    return replace(posterior, radii=posterior.draws[None, chosen])


def gestures(one: Judged, rng: np.random.Generator) -> dict[str, Posterior]:
    """The posterior when more is told: a radius with an error, or points of the edge.

    A radius is that of the ball of the drawn volume, off by a log-normal factor; a point lies where
    the band is widest, not near one told before, with an error of a voxel.
    """
    draws, chart = one.many.draws, one.many.chart
    size = np.log(chart.content(draws)) / 3
    truth = float(np.log(chart.content(one.drawn[None])[0])) / 3
    found = {"nothing more": one.posterior}
    for name, sd in (("radius, error of 25%", 0.25), ("radius, error of 10%", 0.1),
                     ("radius, exactly", 0.01)):  # fmt: skip
        told = truth + sd * rng.standard_normal()
        found[name] = weighed(one.many, -0.5 * ((size - told) / sd) ** 2, rng)
    log_weight, now, apart = np.zeros(len(draws)), one.posterior, np.ones(chart.sites, bool)
    for count in (1, 2, 3):
        ray = int(np.where(apart, now.draws.std(axis=0), 0.0).argmax())
        apart &= chart.directions @ chart.directions[ray] < NEAR
        told = one.drawn[ray] + one.voxel * rng.standard_normal()
        log_weight = log_weight - 0.5 * ((draws[:, ray] - told) / one.voxel) ** 2
        now = found[f"edge points: {count}"] = weighed(one.many, log_weight, rng)
    return found


def by_gesture(one: Judged, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """What each gesture leaves: both bands at 95%, the volume, and how near the mean is."""
    rows = {}
    for name, posterior in gestures(one, rng).items():
        again, chart = one._replace(many=posterior), posterior.chart
        low, middle, high = np.quantile(chart.content(posterior.draws), [0.025, 0.5, 0.975])
        truth, mean = chart.content(one.drawn[None])[0], posterior.estimate
        common = chart.content(np.minimum(one.drawn, mean)[None])[0]
        both = {kind: held(again, kind, 0.95) for kind in KINDS}
        rows[name] = {
            "Dice": float(2 * common / (truth + chart.content(mean[None])[0])),
            "volume, half-width": (high - low) / 2 / middle,
            "volume held": float(low <= truth <= high),
            "points, pointwise": both["pointwise"]["points"],
            "half-width / radius, pointwise": both["pointwise"]["half-width / radius"],
            "whole, slack 0.5": both["whole surface"]["whole, slack 0.5"],
            "half-width / radius, whole surface": both["whole surface"]["half-width / radius"],
        }
    return rows


def averaged(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over lesions; of widths medians, and where that is another the mean beside it."""
    found = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        if "half-width" in name:
            found[f"{name}, median"] = float(np.median(values))
            found[f"{name}, mean"] = float(values.mean())
        else:
            found[name] = float(values.mean())
    return found


def bands_of(cases: Sequence[Judged]) -> Result:
    """Both bands at several levels."""
    details, at95 = [], {}
    for kind in KINDS:
        for level in LEVELS:
            at95[kind] = averaged([held(one, kind, level) for one in cases])
            details.append({"band": kind, "level": level, **at95[kind]})
    point, whole = at95.values()
    needed = [multiple_needed(one) for one in cases]
    rows = [
        Row("pointwise 95% band: points held", point["points"], at_least=0.93, at_most=0.97),
        Row("pointwise 95% band: half-width over the radius, median",
            point["half-width / radius, median"], at_most=0.5),
        Row("95% band of the whole surface: surfaces held", whole["whole, slack 0.5"],
            at_least=0.85, note="within half a voxel"),
        Row("95% band of the whole surface: half-width over the radius, median",
            whole["half-width / radius, median"], at_most=0.5),
        *(Row(f"times its width to hold {level:.0%} of new surfaces", conformal(needed, level),
              note="split conformal, by patient") for level in (0.85, 0.9, 0.95)),
    ]  # fmt: skip
    return Result("The bands of a surface head: pointwise, and of the whole surface", rows,
                  details=details)  # fmt: skip


def gestures_of(cases: Sequence[Judged]) -> Result:
    """Both bands when more is told than a point."""
    rng = np.random.default_rng(0)
    told = [by_gesture(one, rng) for one in cases]
    details = [{"told": name, **averaged([each[name] for each in told])} for name in told[0]]
    note = "What is told is weighed into the same law; its errors are made up, as stated."
    return Result("The bands of a surface head when more is told", [], [note], details)


def tolerances_of(cases: Sequence[Judged]) -> Result:
    """How many lesions are green at a tolerance, and how many of them wrongly."""
    found, details = [trusted(one) for one in cases], []
    for t in TOLERANCES:
        green = [each for each in found if each[f"green at {t:g}"]]
        wrong = [each[f"met at {t:g}"] < GREEN for each in green]
        details.append(
            {
                "tolerance, mm": t,
                "graded green": float(np.mean([each[f"graded at {t:g}"] for each in found])),
                "green but for its volume": len(green) / len(found),
                "of these wrong": float(np.mean(wrong)) if wrong else None,
                "of all within it along 95%": float(
                    np.mean([each[f"met at {t:g}"] >= GREEN for each in found])
                ),
            }
        )
    limits = np.array([each["trusted to"] for each in found])

    def limit(share: float) -> float:
        return float(np.quantile(limits, share, method="inverted_cdf"))

    rows = [
        *(Row(f"trusted to, but for the volume: {name}", limit(q), "mm")
          for name, q in (("least", 0.0), ("lower quartile", 0.25), ("median", 0.5),
                          ("upper quartile", 0.75), ("most", 1.0))),
        Row("the same over the lesion's radius, median",
            float(np.median(limits / [each["radius"] for each in found]))),
        Row("lesions whose volume is known to 25%",
            float(np.mean([each["volume"] <= 0.25 for each in found])), at_least=0.5,
            note="half its 95% interval; without it none is green at any tolerance"),
    ]  # fmt: skip
    note = ("Wrong: over 5% of what the expert drew is further than the tolerance from the "
            "estimate.")  # fmt: skip
    return Result("At which tolerance a surface head's lesions are green", rows, [note], details)


ASKED: dict[str, Callable[[Sequence[Judged]], Result]] = {
    "bands": bands_of,
    "gestures": gestures_of,
    "tolerances": tolerances_of,
}


@cache
def all_judged(few: int | None) -> list[Judged]:
    """The lesion of each patient from its deepest point, by a head that has not seen it."""
    nets = learned(few).left_out
    found = [one for each in asked(few)[::3] if (one := lesion(each, few)) is not None]
    return [judged(nets[one.patient], one) for one in found]


def run(quick: bool, scenario: str) -> Result:
    if not patients():
        said = "Skipped: the sarcoma collection was not found; set AISTAT_DATA to its folder."
        return Result(f"A surface head: {scenario}", [], [said])
    cases = all_judged(5 if quick else None)
    found = ASKED[scenario](cases)
    note = (
        f"{len(cases)} sarcomas from the deepest point, patients left out: the law alone, "
        f"{DRAWS:,} draws. What was drawn is taken as the star about the law's middle that holds "
        "as much in every direction; a voxel is its shortest side."
    )
    return dataclasses.replace(found, notes=[note, *found.notes])
