"""Is every bad argument refused once, with one sentence?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.families import StepPrior
from aistat_jax.boundary.intensity import intensity, point_intensity
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.opinions import anchors, logits, raters
from aistat_jax.boundary.prior import Prior
from aistat_jax.boundary.targets import Target
from aistat_jax.space.basis import circle_basis
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image
from aistat_jax.space.star import star_chart
from tests.boundary import brute
from tests.helpers import circle

CHART = brute.a_chart()
TARGET = brute.a_target(CHART)
RNG = np.random.default_rng(0)
IMAGE = brute.step_image(RNG, CHART)
POINTS = CHART.centre + RNG.uniform(-20, 20, (50, 2))
VALUES = RNG.normal(size=50)
FLAT = np.where(np.arange(32)[:, None] < 31, 5.0, 6.0) * np.ones((32, 32))
FAR = replace(TARGET, centre=np.array([500.0, 0.0]))
EDGE = anchors(POINTS[:1])


def step_prior(rate: float) -> StepPrior:
    return StepPrior(np.zeros(2), np.ones(2), np.asarray(1.0), np.asarray(rate))


def model(evidence: Evidence = EDGE, target: Target = TARGET, **options):
    return boundary_model(target, evidence, **options)


AT_THE_DOOR = {
    "intensity channel": (lambda: intensity(IMAGE, "MR"), "no channel 'MR'; it has PT"),
    "intensity family": (lambda: intensity(IMAGE, family="cauchy"), "unknown intensity family"),
    "noise": (lambda: intensity(IMAGE, noise="white"), "noise must be 'constant' or 'poisson'"),
    "intensity blur": (lambda: intensity(IMAGE, blur=0.0), "blur must be positive"),
    "intensity blur inf": (lambda: intensity(IMAGE, blur=np.inf), "blur must be positive"),
    "intensity temper": (lambda: intensity(IMAGE, temper=1.5), "temper must be 'auto' or in"),
    "intensity temper word": (lambda: intensity(IMAGE, temper="some"), "temper must be 'auto'"),
    "intensity prior": (lambda: intensity(IMAGE, prior=step_prior(0.0)), "must be positive"),
    "intensity hyper": (
        lambda: intensity(IMAGE, family="poisson", hyper=(1.0, 0.0, 0.0, 0.0)),
        "hyper of the poisson family",
    ),
    "points shape": (lambda: point_intensity(POINTS[:, :1], VALUES), "points must be"),
    "points count": (lambda: point_intensity(POINTS[1:], VALUES), "points must be"),
    "points nan": (lambda: point_intensity(POINTS * np.nan, VALUES), "finite"),
    "values nan": (lambda: point_intensity(POINTS, VALUES * np.nan), "finite"),
    "points blur": (lambda: point_intensity(POINTS, VALUES, family="blurred"), "pass blur"),
    "points temper": (
        lambda: point_intensity(POINTS, VALUES, temper="auto"),
        "no automatic temper",
    ),
    "logits channel": (lambda: logits(IMAGE, "L"), "no channel 'L'"),
    "logits temper": (lambda: logits(IMAGE, temper=0.0), r"temper must be in \(0, 1\]"),
    "raters none": (lambda: raters([]), "at least one contour"),
    "raters sd": (lambda: raters([circle(9.0)], sd=0.0), "sd > 0"),
    "raters share": (lambda: raters([circle(9.0)], constant_share=1.0), "constant_share in"),
    "raters correlation": (lambda: raters([circle(9.0)], correlation=-1.0), "correlation > 0"),
    "anchors kind": (lambda: anchors(POINTS, kind="near"), "unknown anchor kind 'near'"),
    "anchors sd": (lambda: anchors(POINTS, sd=0.0), "positive sd"),
    "anchors nan": (lambda: anchors(POINTS * np.nan), "finite points"),
    "anchors shape": (lambda: anchors(np.zeros((3, 2, 2))), r"finite points \(click, 2\)"),
    "rays": (lambda: star_chart(np.zeros(2), 9.0, CHART.plane, 7), "at least 8 rays, got 7"),
    "radius max": (lambda: star_chart(np.zeros(2), 0.0, CHART.plane), "must be positive"),
    "harmonics": (lambda: circle_basis(CHART.angles, 32), "need at least 65 rays, got 64"),
    "no harmonics": (lambda: circle_basis(CHART.angles, 0), "0 harmonics"),
    "centre outside": (lambda: CHART.values_of(circle(3.0)), "lies outside the contour"),
}

WHEN_TABULATED = {
    "no radius": (lambda: model(target=replace(TARGET, radius=0.0)), "rough radius must be"),
    "nan centre": (
        lambda: model(target=replace(TARGET, centre=np.full(2, np.nan))),
        "centre must be finite",
    ),
    "prior": (lambda: model(prior=Prior(amplitude=-1.0)), "amplitude must be positive"),
    "far image": (lambda: model(intensity(IMAGE), FAR), "channel PT has only 0 voxels"),
    "far logits": (lambda: model(logits(IMAGE), FAR), "channel PT has only 0 voxels"),
    "constant blurred": (
        lambda: model(intensity(Image.from_arrays(A=FLAT, spacing_mm=2.0))),
        "constant around the target",
    ),
    "constant hard": (
        lambda: model(intensity(Image.from_arrays(A=FLAT, spacing_mm=2.0), family="gaussian")),
        "constant around the target",
    ),
    "not binary": (lambda: model(intensity(IMAGE, family="bernoulli")), "between 0 and 1"),
    "not counts": (
        lambda: model(point_intensity(POINTS, VALUES, family="poisson")),
        "counts of at least 0",
    ),
    "fine blur": (
        lambda: model(point_intensity(POINTS, VALUES, family="blurred", blur=1e-4)),
        "too fine for a region",
    ),
    "other unit": (
        lambda: model(raters([Curve(CHART.points(np.full(64, 9.0)), "px")])),
        "is in px but the image is in mm",
    ),
}


@pytest.mark.parametrize("name", [*AT_THE_DOOR, *WHEN_TABULATED])
def test_bad_input_is_refused_in_one_sentence(name):
    call, sentence = {**AT_THE_DOOR, **WHEN_TABULATED}[name]
    with pytest.raises(InputError, match=sentence) as refused:
        call()
    assert "\n" not in str(refused.value)
    assert not str(refused.value).endswith(".")


def test_good_input_is_not_refused():
    evidence = intensity(IMAGE) + logits(IMAGE) + EDGE
    evidence = evidence + raters([Curve(CHART.points(np.full(64, 9.0)), "mm")])
    evidence = evidence + point_intensity(POINTS, VALUES, family="blurred", blur=1.0)
    assert len(model(evidence).data.terms) == 5
