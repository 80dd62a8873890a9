"""Which answers of planar images must a change of the code leave as they are?

`python -m tests.golden.fits` writes them anew, to fits.json: for a change that is meant to change
them, with a reason in its message.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import aistat_jax as aj

FILE = Path(__file__).with_name("fits.json")
EVERY = 16


def phantom_model(seed: int, **settings: Any) -> aj.BoundaryModel:
    """A lesion that does not change along z, with the evidence of both its images."""
    phantom = aj.pet_ct_phantom(seed, **settings)
    point = (*phantom.centre[:2], 0.0)
    target = aj.find_targets(phantom.image, point_mm=point, slices="point")[0]
    return aj.boundary_model(target, aj.intensity(phantom.image))


def _uneven() -> aj.BoundaryModel:
    return phantom_model(3, heterogeneity=0.3)


def _poisson() -> aj.BoundaryModel:
    phantom = aj.pet_ct_phantom(4)
    target = aj.find_targets(phantom.image, point_mm=(*phantom.centre[:2], 0.0))[0]
    return aj.boundary_model(target, aj.intensity(phantom.image, "PT", noise="poisson"))


def _rated() -> aj.BoundaryModel:
    phantom = aj.pet_ct_phantom(5)
    target = aj.find_targets(phantom.image, point_mm=(*phantom.centre[:2], 0.0))[0]
    drawn = [aj.Curve(phantom.truth.points + np.array(shift)) for shift in ([1.0, 0], [0, -1.5])]
    clicks = aj.anchors(phantom.truth.points[:3], kind="edge", sd=1.0)
    return aj.boundary_model(target, aj.raters(drawn) + clicks)


CASES: dict[str, Callable[[], aj.BoundaryModel]] = {
    "both images, seed 0": lambda: phantom_model(0),
    "both images, seed 1": lambda: phantom_model(1),
    "both images, seed 2": lambda: phantom_model(2),
    "uneven uptake": _uneven,
    "noise that grows": _poisson,
    "raters and clicks": _rated,
}


def answers(model: aj.BoundaryModel) -> dict[str, Any]:
    """What is kept: the evidence at three circles, and a Laplace fit in figures."""
    import jax

    rough = model.target.radius
    with jax.enable_x64(True):
        seen = [
            float(aj.log_likelihood(model.data.terms, np.full(len(model.chart.angles), rough * by)))
            for by in (0.8, 1.0, 1.25)
        ]
    posterior = aj.fit(model, draws=1000, seed=0)
    return {
        "centre": [float(x) for x in model.chart.centre],
        "rough_radius": float(rough),
        "log_likelihood": seen,
        "estimate": posterior.estimate[::EVERY].tolist(),
        "sd": posterior.draws.std(axis=0)[::EVERY].tolist(),
        "area": aj.area_posterior(posterior).quantiles,
        "grade": aj.grade(posterior).case,
        "khat": posterior.diagnostics.khat,
    }


if __name__ == "__main__":
    found = {name: answers(make()) for name, make in CASES.items()}
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, each in found.items():
        print(name, each["grade"], each["khat"], each["area"])
