"""How probable is the second reading of a point, and is it right so often?

A reading is right if no other is nearer to the truth by Dice: an expert's mask of a patient, or
what is known of a phantom. The phantoms are a lesion with a cold core, one of two lobes, and one
that touches what does not belong to it. Every one of them was made to be doubtful, patients were
not: as from cases and controls that are drawn apart, an intercept is learned for each, all else is
common, and the patients' ships (Prentice & Pyke 1979, Biometrika 66, 403-411).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from aistat_jax.boundary.alternatives import alternatives, joined, unlike
from aistat_jax.boundary.meant import largest
from aistat_jax.boundary.odds import TERMS, groups_beside
from aistat_jax.boundary.readings import Readings, readings_at
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.space.image import Channel
from aistat_jax.uncertainty.reliability import Reliability, reliability
from benchmarks._table import Row

RIDGE = 1.0  # over the sum of log losses; of terms of sd one
LEARNED, TESTED, FRESH = 150, 500, 10_000  # phantoms, and the first seed of those tested on
SHAPE, SPACING = (56, 48, 18), (2.5, 3.0, 4.0)


class Choice(NamedTuple):
    """What a point may mean: TERMS of the groups beside the vote, shares of the vote, and Dice.

    Of `share` and `dice` the first is that of the region that was voted for.
    """

    source: str
    terms: np.ndarray
    share: np.ndarray
    dice: np.ndarray

    @property
    def right(self) -> int:
        return int(self.dice.argmax())


def choice_at(
    source: str, channel: Channel, index: np.ndarray, readings: Readings, truth: np.ndarray
) -> Choice:
    """The readings of a point that stand apart, and how near each is to the truth."""
    vote = largest(readings.vote)
    others = alternatives(channel, index, readings, vote)
    wider = joined(readings, vote, others)
    apart = unlike(wider, vote, len(others))
    groups = groups_beside(wider, apart, len(others))
    whole = int(truth.sum())

    def near(mask: np.ndarray) -> float:
        return 2 * float((mask & truth[readings.box]).sum()) / (mask.sum() + whole)

    return Choice(
        source,
        np.array([each.terms for each in groups]).reshape(-1, len(TERMS)),
        np.array([float(wider.share[~apart].sum()), *(each.share for each in groups)]),
        np.array([near(vote), *(near(each.mask) for each in groups)]),
    )


def phantom(seed: int) -> tuple[str, Channel, np.ndarray, np.ndarray]:
    """A kind, its image, a voxel that is pointed at, and the mask of what is meant.

    Of even seeds a cold core (40 to 90% colder, its radius .3 to .7 of the lesion's); of odd ones
    a ball that touches, which is as likely a lobe of the lesion (uptake alike, sd .1 in the log)
    as not (sd .5).
    """
    rng = np.random.default_rng([seed, 18])
    middle = np.array(SHAPE) * SPACING / 2 + rng.uniform(-2.0, 2.0, 3)
    uptake = float(np.exp(rng.uniform(np.log(3.0), np.log(8.0))))
    if seed % 2 == 0:
        kind, radius = "cold core", rng.uniform(13.0, 24.0)
        lesion = Ball(tuple(middle), radius, uptake)
        off = rng.uniform(-0.15, 0.15, 3) * radius
        size, less = rng.uniform(0.3, 0.7) * radius, rng.uniform(0.4, 0.9)
        balls, meant = [lesion, Ball(tuple(middle + off), size, -less * uptake)], [lesion]
    else:
        radius, turn = rng.uniform(10.0, 20.0), rng.uniform(0.0, 2 * np.pi)
        beside, gap = radius * rng.uniform(0.6, 1.2), rng.uniform(-1.0, 3.0)
        way = np.array([np.cos(turn), np.sin(turn), 0.2 * rng.normal()])
        way *= (radius + beside + gap) / np.linalg.norm(way) / 2
        lobe = bool(rng.random() < 0.5)
        kind = "two lobes" if lobe else "touching neighbour"
        lesion = Ball(tuple(middle - way), radius, uptake)
        alike = float(np.exp(rng.normal(0.0, 0.1 if lobe else 0.5)))
        other = Ball(tuple(middle + way), beside, uptake * alike)
        balls, meant = [lesion, other], [lesion, other] if lobe else [lesion]
    channel = image_of_balls(balls, seed=seed, shape=SHAPE, spacing_mm=SPACING).primary
    points = channel.grid.points()
    away = [np.linalg.norm(points - ball.centre, axis=-1) / ball.radius for ball in meant]
    truth = np.min(away, axis=0) <= 1.0
    inner = np.argwhere(away[0] <= 0.5)
    return kind, channel, inner[rng.integers(len(inner))], truth


def phantoms(seeds: Iterable[int]) -> list[Choice]:
    found = []
    for seed in seeds:
        kind, channel, index, truth = phantom(seed)
        found.append(choice_at(kind, channel, index, readings_at(channel, index), truth))
    return found


def learned(patients: Sequence[Choice], made: Sequence[Choice]) -> tuple[np.ndarray, np.ndarray]:
    """Weights of TERMS under which the right readings are likeliest: of patients, of phantoms.

    They differ in the intercept alone.
    """
    from scipy.optimize import minimize

    some = [(each.terms, each.right, n) for n, of in enumerate((patients, made)) for each in of]
    rows = [
        np.vstack([np.zeros(len(TERMS) + 1), np.column_stack([terms, np.full(len(terms), n)])])
        for terms, _, n in some
    ]
    sd = np.concatenate([each[1:] for each in rows]).std(axis=0)
    sd[sd == 0] = 1.0

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = 0.5 * RIDGE * weights @ weights, RIDGE * weights
        for each, (_, right, _) in zip(rows, some, strict=True):
            score = (each / sd) @ weights
            odds = np.exp(score - score.max())
            odds /= odds.sum()
            value -= np.log(odds[right])
            slope = slope + (odds @ each - each[right]) / sd
        return float(value), slope

    found = minimize(loss, np.zeros(len(TERMS) + 1), jac=True, method="L-BFGS-B").x / sd
    of_patients = found[:-1]
    return of_patients, of_patients + np.where(np.array(TERMS) == "other", found[-1], 0.0)


class Second(NamedTuple):
    """The second reading of a point: its share of the vote, its probability, and the truth."""

    source: str
    share: float
    probability: float
    right: bool


def second_of(choice: Choice, weights: np.ndarray) -> Second | None:
    """The most probable reading beside the vote's; None where nothing stands apart."""
    if not len(choice.terms):
        return None
    odds = np.exp(np.append(0.0, choice.terms @ weights))
    odds /= odds.sum()
    n = 1 + int(odds[1:].argmax())
    share = choice.share[n] / choice.share.sum()
    return Second(choice.source, float(share), float(odds[n]), choice.right == n)


def patients_left_out(patients: Sequence[Choice], made: Sequence[Choice]) -> list[Second]:
    """The second readings of patients, by weights learned from the others and from phantoms."""
    found = []
    for name in dict.fromkeys(each.source for each in patients):
        rest = [each for each in patients if each.source != name]
        weights, _ = learned(rest, made)
        found += [second_of(each, weights) for each in patients if each.source == name]
    return [each for each in found if each is not None]


class Judged(NamedTuple):
    """Second readings with their reliability; the control is that of shares of the vote."""

    seconds: list[Second]
    found: Reliability
    control: Reliability
    loss: tuple[float, float]  # log losses, of both


def judged(seconds: Sequence[Second], *, by_patient: bool) -> Judged:
    right = np.array([each.right for each in seconds])
    units = np.array([each.source for each in seconds]) if by_patient else None
    by = [np.array(each) for each in zip(*((s.probability, s.share) for s in seconds), strict=True)]
    found, control = (reliability(p, right, units, bins=min(10, len(p))) for p in by)
    clear = [np.clip(p, 1e-6, 1 - 1e-6) for p in by]
    losses = [float(-np.log(np.where(right, p, 1 - p)).mean()) for p in clear]
    return Judged(list(seconds), found, control, (losses[0], losses[1]))


def rows_of(name: str, one: Judged) -> list[Row]:
    """What is said of second readings, the control beside it."""
    found, control = one.found, one.control

    def words(each: Reliability) -> str:
        return f"± {each.sd:.3f}; {each.chance:.3f} where every probability is right"

    return [
        Row(f"{name}: calibration error of the second reading", found.error, note=words(found)),
        Row(f"{name}: of its share of the vote (control)", control.error, note=words(control)),
        Row(f"{name}: log loss of the second reading", one.loss[0], "nats"),
        Row(f"{name}: of its share of the vote (control)", one.loss[1], "nats"),
        Row(f"{name}: second readings that are right",
            float(np.mean([each.right for each in one.seconds])), note=f"of {len(one.seconds)}"),
    ]  # fmt: skip


def odds_of(patients: Sequence[Choice], quick: bool) -> tuple[dict[str, Judged], dict[str, Any]]:
    """How the odds of second readings are judged, and what is kept of those learned from all."""
    made = phantoms(range(5 if quick else LEARNED))
    fresh = phantoms(range(FRESH, FRESH + (12 if quick else TESTED)))
    of_patients, of_phantoms = learned(patients, made)
    known = [second_of(each, of_phantoms) for each in fresh]
    found = {
        "patients left out": judged(patients_left_out(patients, made), by_patient=True),
        "phantoms": judged([each for each in known if each is not None], by_patient=False),
    }
    return found, odds_kept(of_patients, of_phantoms, len(patients), len(made), found)


def odds_kept(
    of_patients: np.ndarray,
    of_phantoms: np.ndarray,
    points: int,
    made: int,
    sets: dict[str, Judged],
) -> dict[str, Any]:
    """What is kept of the odds: weights, what they were learned from, and how they were judged."""
    at = TERMS.index("other")
    return {
        "weights": dict(zip(TERMS, (round(float(w), 3) for w in of_patients), strict=True)),
        "intercept of phantoms": round(float(of_phantoms[at]), 3),
        "learned from": f"{points} points in patients, {made} phantoms",
        "right": "no other reading is nearer to the truth by Dice",
        **{
            name: {
                "second readings": len(one.seconds),
                "right": round(float(np.mean([each.right for each in one.seconds])), 3),
                "calibration error": round(one.found.error, 3),
                "its sd": round(one.found.sd, 3),
                "where every probability is right": round(one.found.chance, 3),
                "calibration error of shares of the vote": round(one.control.error, 3),
                "log loss": round(one.loss[0], 3),
                "log loss of shares of the vote": round(one.loss[1], 3),
            }
            for name, one in sets.items()
        },
    }
