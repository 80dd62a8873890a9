"""Are whole surfaces of new patients held as often as a conformal band promises?

Coverage in the mean over 200 random splits by patient is exact but for the splits, whose standard
error is below 1 point: gates lie 2.5 points below the nominal level.
"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.space.curve import Curve
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.by_patient import patients_needed
from aistat_jax.uncertainty.conformal import (
    BandScores,
    ConformalBand,
    band_scores,
    conformal_band,
)
from aistat_jax.uncertainty.contour import Contour, contour_of
from tests.helpers import make_posterior, make_surface

SPLITS = 200


def patients(rng: np.random.Generator, count: int, scale: float = 1.0) -> tuple[np.ndarray, list]:
    """Scores of 1 to 8 lesions each of patients who differ more than their lesions do."""
    sizes = rng.integers(1, 9, count)
    whose = np.repeat(np.arange(count), sizes)
    level = rng.standard_normal(count)[whose]
    return scale * np.exp(level + 0.3 * rng.standard_normal(len(whose))), [str(n) for n in whose]


def held(
    rng: np.random.Generator,
    scores: np.ndarray,
    whose: np.ndarray,
    calibrated: int,
    *,
    per: str = "patient",
    coverage: float = 0.9,
    new_scale: float = 1.0,
) -> float:
    """Mean over random splits of the share of the other patients (or of theirs lesions) held."""
    found = []
    names = np.unique(whose)
    for _ in range(SPLITS):
        known = np.isin(whose, rng.permutation(names)[:calibrated])
        record = BandScores(scores[known], tuple(whose[known]))
        margin = conformal_band(record, coverage=coverage, per=per).margin
        inside, new = new_scale * scores[~known] <= margin, whose[~known]
        each = [inside[new == name] for name in np.unique(new)]
        found.append(np.mean([one.all() if per == "patient" else one.mean() for one in each]))
    return float(np.mean(found))


@pytest.mark.parametrize("calibrated", [20, 30])
@pytest.mark.parametrize("per", ["patient", "lesion"])
def test_new_patients_are_held_as_often_as_promised(rng, calibrated, per):
    scores, whose = patients(rng, 120)
    assert held(rng, scores, np.array(whose), calibrated, per=per) >= 0.9 - 0.025


def test_lesions_are_no_patients(rng):
    """Negative control: every lesion taken for a patient of its own, five patients of 40 lesions.

    Five patients cannot promise 95%; two hundred slices of theirs seem to.
    """
    found = []
    for _ in range(SPLITS):
        level = rng.standard_normal(30)
        slices = np.exp(level[:, None] + 0.3 * rng.standard_normal((30, 40)))
        known = slices[:5].ravel()
        names = tuple(str(n) for n in range(known.size))
        margin = conformal_band(BandScores(known, names), coverage=0.95).margin
        found.append((slices[5:] <= margin).mean())
    assert np.mean(found) < 0.9
    whose = tuple(np.repeat([str(n) for n in range(5)], 40))
    with pytest.raises(InputError, match="a risk of 0.05 needs 19 patients, got 5"):
        conformal_band(BandScores(known, whose), coverage=0.95)


def test_without_its_correction_it_holds_too_few(rng):
    """Negative control: the plain 90% point of the worst of 20 patients holds 18 of 21."""
    worst = rng.standard_normal((4000, 21))
    plain = np.sort(worst[:, :20])[:, 17]
    right = np.sort(worst[:, :20])[:, 18]  # ceil(21 * .9) = 19th
    assert (worst[:, 20] <= plain).mean() < 0.875
    assert (worst[:, 20] <= right).mean() >= 0.9 - 0.015


def test_under_shift_the_promise_is_lost_by_as_much_as_patients_differ(rng):
    """Errors twice as large in every new patient, and in 3 of 10: the loss is bounded by the share.

    What does not hold: 90% of the new patients. What does: of a mixture of which a share e comes
    from elsewhere at least 90% - e are held (total variation, Barber et al. 2023).
    """
    scores, whose = patients(rng, 120)
    all_new = held(rng, scores, np.array(whose), 20, new_scale=2.0)
    assert all_new < 0.85
    as_before = held(rng, scores, np.array(whose), 20)
    assert 0.7 * as_before + 0.3 * all_new >= 0.9 - 0.3 - 0.025


def test_margins_by_hand():
    """Ten patients, the worst lesions 1 .. 10: the ceil(11 * .8) = 9th; a patient of two lesions.

    Per lesion of patients a (1, 9), b 2, c 3, d 4 at a coverage of .7: weights of a fifth of
    (1/2, 1, 1, 1, 1/2): the cumulative weight first reaches 3.5 of 5 at 4.
    """
    ten = BandScores(np.arange(1.0, 11.0), tuple("abcdefghij"))
    assert conformal_band(ten, coverage=0.8).margin == 9
    two = BandScores(np.append(np.arange(1.0, 11.0), 20.0), tuple("abcdefghija"))
    assert conformal_band(two, coverage=0.8).margin == 10
    four = BandScores(np.array([1.0, 9.0, 2.0, 3.0, 4.0]), tuple("aabcd"))
    assert conformal_band(four, coverage=0.7, per="lesion").margin == 4
    assert conformal_band(four, coverage=0.7).margin == 9
    assert [patients_needed(risk) for risk in (0.01, 0.05, 0.3, 0.5)] == [99, 19, 3, 1]


# ---- bands of posteriors


def drawn(posterior, factor: float, seed: int):
    """A reference that errs as the posterior says, times a factor."""
    values = posterior.draws[seed % len(posterior.draws)]
    return posterior.chart.surface(posterior.estimate + factor * (values - posterior.estimate))


def cohort(count: int, factor: float) -> tuple[list[Contour], list[str]]:
    contours, names = [], []
    grade = contour_of(make_posterior(draws=100, rays=64)).grade  # which no band asks for
    for n in range(count):
        posterior = make_posterior(seed=n, draws=200, sd=0.04 + 0.002 * (n % 10), rays=64)
        band = simultaneous_band(posterior)
        for lesion in range(2):
            reference = drawn(posterior, factor, 17 * n + lesion)
            contours.append(Contour(posterior, band, grade, reference))
            names.append(f"patient {n}")
    return contours, names


@pytest.mark.parametrize("scale", ["length", "band"])
def test_bands_that_are_too_narrow_are_widened_until_they_hold(scale):
    """Experts err three times as far as the posteriors say."""
    contours, names = cohort(30, 3.0)
    scores = band_scores(contours[:40], names[:40], scale=scale)
    rule = conformal_band(scores, coverage=0.9)
    assert rule.margin > (0.0 if scale == "length" else 1.0)
    new = [rule.band(c.posterior).holds(c.reference) for c in contours[40:]]
    assert np.mean(new) > 0.7
    # negative control: the posteriors' own bands hold few
    assert np.mean([c.band.holds(c.reference) for c in contours]) < 0.5
    band = rule.band(contours[0].posterior)
    assert (band.kind, band.level) == ("conformal", 0.9)
    assert (band.lower <= band.centre).all()
    # to hold is to score no more than the margin
    again = band_scores(contours, names, scale=scale).scores <= rule.margin + 1e-9
    assert again.tolist() == [rule.band(c.posterior).holds(c.reference) for c in contours]


def test_bands_with_room_to_spare_are_narrowed():
    contours, names = cohort(12, 0.2)
    rule = conformal_band(band_scores(contours, names), coverage=0.9)
    assert rule.margin < 0
    band = rule.band(contours[0].posterior)
    assert (band.half_width < contours[0].band.half_width).all()


def test_surfaces_in_space_have_margins_too():
    posterior = make_surface(draws=100)
    grade = contour_of(make_posterior(draws=100, rays=64)).grade
    contour = Contour(posterior, simultaneous_band(posterior), grade, drawn(posterior, 3.0, 5))
    (score,) = band_scores([contour], ["a"]).scores
    band = contour.band
    moved = replace(band, lower=band.lower - score - 1e-6, upper=band.upper + score + 1e-6)
    assert moved.holds(contour.reference)
    assert not replace(moved, upper=moved.upper - 0.1, lower=moved.lower + 0.1).holds(
        contour.reference
    )


def test_a_rule_is_kept_as_text():
    rule = conformal_band(BandScores(np.arange(1.0, 11.0), tuple("abcdefghij")), coverage=0.8)
    assert ConformalBand.from_json(rule.to_json()) == rule
    assert "With probability 0.8 or more every lesion of a new patient" in rule.promise
    for text, why in (
        ("[", "no conformal band"),
        ('{"kind": "green rule"}', "no conformal band"),
        (rule.to_json().replace('"schema": 1', '"schema": 9'), "schema 9"),
        (rule.to_json().replace("margin", "marge"), "fields"),
        (rule.to_json().replace('"margin": 9.0', '"margin": "9"'), "the margin '9', which is none"),
    ):
        with pytest.raises(InputError, match=why):
            ConformalBand.from_json(text)


def test_what_promises_nothing_is_refused():
    ten = BandScores(np.arange(10.0), tuple("abcdefghij"))
    with pytest.raises(InputError, match="needs 19 patients, got 10; .* no less than 0.0909"):
        conformal_band(ten, coverage=0.95)
    with pytest.raises(InputError, match="coverage"):
        conformal_band(ten, coverage=1.0)
    with pytest.raises(InputError, match='per "lesion"'):
        conformal_band(ten, per="slice")
    with pytest.raises(InputError, match="10 lesions need as many patients, got 2"):
        conformal_band(replace(ten, patients=("a", "b")))
    with pytest.raises(InputError, match="NaN"):
        conformal_band(replace(ten, scores=np.full(10, np.nan)))
    with pytest.raises(InputError, match="cannot be seen"):
        conformal_band(replace(ten, scores=np.full(10, np.inf)))
    contour = contour_of(make_posterior(draws=100, rays=64))
    with pytest.raises(InputError, match="no reference"):
        band_scores([contour], ["a"])
    far = Curve(np.array([[500.0, 500.0], [510.0, 500.0], [500.0, 510.0]]))
    assert band_scores([replace(contour, reference=far)], ["a"]).scores == np.inf
    pixels = make_posterior(draws=200, spacing=None)
    rule = replace(conformal_band(ten, coverage=0.9), unit="mm")
    with pytest.raises(InputError, match="a margin in mm means nothing for a contour in px"):
        rule.band(pixels)
