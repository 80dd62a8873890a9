"""What happens to one image? Targets, evidence, posteriors, bands and grades, in one go: a case."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._progress import progress_bar
from aistat_jax._record import record, static
from aistat_jax._typing import Bool
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.targets import Target
from aistat_jax.inference.batch import fit_many
from aistat_jax.inference.fit import fit
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.bands import Band, simultaneous_band
from aistat_jax.uncertainty.grading import Grade, grade
from aistat_jax.uncertainty.reference import Agreement, agreement, reference_curves

_CUT_OFF = (
    "the contour runs over the border of the image, where nothing is known of it; "
    "pass an image that covers the whole target, or choose other slices"
)


@record
class Case:
    """One image with everything found about its targets, in one order.

    `references` are contours to compare with, None where a slice has none; `agreement` compares
    the whole case; `skipped` maps the id of each target that could not be read to the reason.
    """

    image: Image
    posteriors: tuple[Posterior, ...]
    bands: tuple[Band, ...]
    grades: tuple[Grade, ...]
    references: tuple[Curve | None, ...] | None = None
    agreement: Agreement | None = None
    title: str = static(default="Posterior contours")
    inputs: tuple[str, ...] = static(default=())
    seed: int = static(default=0)
    skipped: tuple[tuple[str, str], ...] = static(default=())
    focus: int | None = static(default=None)


def contour_case(
    image: Image,
    targets: Sequence[Target],
    model_of: Callable[[Target], BoundaryModel],
    *,
    seed: int,
    method: str,
    draws: int,
    level: float,
    tolerance_mm: float | None = None,
    tolerance_px: float | None = None,
    reference: Bool[np.ndarray, "i j k"] | None = None,
    outlines: Sequence[Sequence[Curve]] | None = None,
    whole_volume: bool = True,
    near: tuple[float, float, float] | None = None,
    title: str,
    inputs: tuple[str, ...],
) -> Case:
    """Targets to a graded case. Targets cut off or without evidence are left out, and named.

    `model_of` states the posterior of each target. `reference` (i, j, k) is a mask to compare with,
    on the grid of the image's first channel; `outlines` its exact outlines slice by slice, if
    known; `whole_volume` compares slices without a target too. `near` is the point whose slice the
    case is shown at. Raises InputError when no target is left.
    """
    models, skipped = [], []
    for target in progress_bar(targets, "reading the evidence"):
        try:
            models.append(model_of(target))
        except InputError as error:
            skipped.append((target.id, str(error)))
    posteriors = []
    for posterior in _fit(models, method, draws, seed) if models else []:
        if _runs_over_the_border(posterior):
            skipped.append((posterior.target_id, _CUT_OFF))
        else:
            posteriors.append(posterior)
    if not posteriors:
        raise InputError(f"{inputs[0]}: target {skipped[0][0]}: {skipped[0][1]}")
    bands = [simultaneous_band(p, level) for p in posteriors]
    grades = [
        grade(p, tolerance_mm=tolerance_mm, tolerance_px=tolerance_px)
        for p in progress_bar(posteriors, "grading")
    ]
    drawn = found = None
    if reference is not None:
        exact = None
        if outlines is not None:
            slices = [outlines[p.chart.plane.index] for p in posteriors]
            exact = [curves[0] if curves else None for curves in slices]
        drawn = tuple(reference_curves(reference, posteriors) if exact is None else exact)
        found = agreement(
            posteriors, reference, image.primary, curves=exact, whole_volume=whole_volume
        )
    return Case(
        image, tuple(posteriors), tuple(bands), tuple(grades), drawn, found,
        title=title, inputs=inputs, seed=seed, skipped=tuple(skipped),
        focus=_focus(posteriors, near),
    )  # fmt: skip


def _fit(models: Sequence[BoundaryModel], method: str, draws: int, seed: int) -> list[Posterior]:
    if method == "laplace" and len(models) > 1:
        with progress_bar(None, "fitting", len(models)) as bar:
            return fit_many(models, draws=draws, seed=seed, progress=bar.update)
    return [fit(model, method, draws=draws, seed=seed) for model in progress_bar(models, "fitting")]


def image_evidence(image: Image, blur: float | None = None) -> Evidence:
    """Intensities of every channel; a stated blur is that of the first."""
    evidence = intensity(image, image.names[0], blur=blur)
    for name in image.names[1:]:
        evidence = evidence + intensity(image, name)
    return evidence


def _runs_over_the_border(posterior: Posterior) -> bool:
    """Whether the estimate leaves the image, so that part of the boundary was never seen."""
    u_min, u_max, v_min, v_max = posterior.chart.plane.extent
    u, v = posterior.chart.points(posterior.estimate).T
    return bool(u.min() < u_min or u.max() > u_max or v.min() < v_min or v.max() > v_max)


def _focus(posteriors: Sequence[Posterior], near: tuple[float, float, float] | None) -> int | None:
    """The slice nearest to the point that was given."""
    if near is None:
        return None
    planes = [posterior.chart.plane for posterior in posteriors]
    away = [abs(float((plane.frame.T @ near)[2]) - plane.offset) for plane in planes]
    return away.index(min(away))
