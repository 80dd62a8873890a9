"""What happens to one image? Targets, evidence, posteriors, bands and grades, in one go: a case."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._progress import progress_bar
from aistat_jax._record import record, static
from aistat_jax._record import replace as replaced
from aistat_jax._threads import on_every_core
from aistat_jax._typing import Shaped
from aistat_jax.boundary.alternatives import SecondReading
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.hints import CLICK_SD
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.targets import AnyTarget
from aistat_jax.inference.batch import fit_many
from aistat_jax.inference.finish import MIN_DRAWS
from aistat_jax.inference.fit import fit
from aistat_jax.inference.methods import Laplace, Method, method_of
from aistat_jax.inference.posterior import Finding, Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image, one_region
from aistat_jax.space.mesh import Mesh
from aistat_jax.uncertainty.contour import Contour, contour_of
from aistat_jax.uncertainty.reference import Agreement, agreement, with_references
from aistat_jax.uncertainty.tolerance import Tolerance, default_tolerance

EXPERT = "Where an expert would draw it"
"""What a case is called whose posterior is of an expert's contour, not of the edge in the image."""

_BEYOND = "the contour runs over the border of the image, where nothing is known of it"
_CUT_OFF = (
    f"{_BEYOND}; "
    "pass an image that covers the whole target, or choose other slices (of a surface: dims=2)"
)
LEVEL = 0.95
"""That of a band where nobody says another."""
# Of the machine's memory, what tables and draws of all targets may take.
MOST_OF_MEMORY = 0.6
_FAILED = "its fit failed: some draws of the posterior are not finite; leave this target out"


class NoContourError(InputError):
    """None of the targets could be contoured; `why` says what was wrong with the first."""

    def __init__(self, where: str, target: str, why: str) -> None:
        super().__init__(where, target, why)
        self.why = why

    def __str__(self) -> str:
        return "{}: target {}: {}".format(*self.args)

    @property
    def cut_off(self) -> bool:
        """Whether its contour left the image."""
        return self.why == _CUT_OFF


@dataclass(frozen=True)
class Settings:
    """How a case is fitted and graded.

    `method` is one of `fit`, or its short name; `level` is the band's,
    without one 0.95, or that of a calibration. A tolerance, and a blur (the
    sd of the point spread), are in mm, or in px for images without spacing; without a tolerance it
    is the image's own (`default_tolerance`). Raises InputError for a value that cannot be meant.
    """

    method: str | Method = "laplace"
    draws: int = 1000
    level: float | None = None
    tolerance_mm: float | None = None
    tolerance_px: float | None = None
    blur_mm: float | None = None
    blur_px: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        method_of(self.method)
        if self.level is not None and not 0 < self.level < 1:
            raise InputError(
                f"`level` {self.level:g} must lie strictly between 0 and 1, such as 0.95"
            )
        if self.draws < MIN_DRAWS:
            raise InputError(
                f"`draws` {self.draws} is too few for a band; ask for at least {MIN_DRAWS}"
            )
        if self.seed < 0:
            raise InputError(f"`seed` {self.seed} must be 0 or a positive whole number")
        for name in ("tolerance_mm", "tolerance_px", "blur_mm", "blur_px"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"`{name}` {value:g} must be a positive length")

    def of(self, image: Image) -> Settings:
        """These settings, for an image in mm or px.

        Raises InputError for lengths in the other unit.
        """
        unit, other = image.unit, "mm" if image.unit == "px" else "px"
        state = "has no spacing" if unit == "px" else "is in millimetres"
        for name in ("tolerance", "blur"):
            if getattr(self, f"{name}_{other}") is not None:
                raise InputError(
                    f"the image {state}, so `{name}_{other}` means nothing; use `{name}_{unit}`"
                )
        return self


@record
class Case:
    """One image with a contour of each of its targets: a sequence, and by id, `case["z003"]`.

    `agreement` compares the whole case with a reference; `skipped` maps the id of each target that
    could not be contoured to the reason; `focus` is the place of the contour to show first;
    `chosen` the dimensions that were chosen for it, and why, where nobody had said; `charts` the
    kind of boundary that was chosen for each contour, (id, "star" or "offset", reason);
    `tolerance` the one that was chosen, with its reason, where nobody had said one; `second`
    another reading of the point, which `SecondReading.question` asks about.
    """

    image: Image
    contours: tuple[Contour, ...]
    agreement: Agreement | None = None
    settings: Settings = static(default=Settings())
    title: str = static(default="Posterior contours")
    inputs: tuple[str, ...] = static(default=())
    skipped: tuple[tuple[str, str], ...] = static(default=())
    focus: int | None = static(default=None)
    chosen: tuple[int, str] | None = static(default=None)
    charts: tuple[tuple[str, str, str], ...] = static(default=())
    tolerance: Tolerance | None = static(default=None)
    second: SecondReading | None = None

    def __getitem__(self, which: str | int) -> Contour:
        if isinstance(which, int):
            return self.contours[which]
        found = [contour for contour in self.contours if contour.id == which]
        if not found:
            there = ", ".join(contour.id for contour in self.contours)
            why = dict(self.skipped).get(which)
            raise InputError(
                f"target {which} was left out: {why}"
                if why
                else f"there is no target {which}; there are {there}"
            )
        return found[0]

    def __len__(self) -> int:
        return len(self.contours)

    def __iter__(self) -> Iterator[Contour]:
        return iter(self.contours)

    @property
    def posteriors(self) -> tuple[Posterior, ...]:
        return tuple(contour.posterior for contour in self.contours)


def contour_case(
    image: Image,
    targets: Sequence[AnyTarget],
    model_of: Callable[[Any], BoundaryModel],
    settings: Settings,
    *,
    reference: Shaped[np.ndarray, "i j k"] | None = None,
    outlines: Sequence[Sequence[Curve]] | None = None,
    whole_volume: bool = True,
    near: Sequence[float] | np.ndarray | None = None,
    title: str = "Posterior contours",
    inputs: tuple[str, ...] = (),
    keep_cut_off: bool = False,
    held: Callable[[Contour], Contour] = lambda contour: contour,
) -> Case:
    """Targets to a graded case. Targets cut off or without evidence are left out, and named.

    `model_of` states the posterior of each target. `reference` (i, j, k) is a mask to compare with,
    on the grid of the image's first channel; `outlines` its exact outlines slice by slice, if
    known; `whole_volume` compares slices without a target too. A contour that leaves the image is
    left out, or with `keep_cut_off` kept and red. `held` holds bands and grades to what is promised
    of them. `near` is the point whose slice the case is shown
    at. What `find_targets` has left out is named as well.
    Raises NoContourError, an InputError, when no target is left, and InputError for more targets
    than the machine's memory holds, and for a reference of several labels.
    """
    settings = settings.of(image)
    if reference is not None and reference.shape != image.primary.values.shape:
        raise InputError(
            f"the reference's grid {reference.shape} does not match channel {image.primary.name}'s "
            f"{image.primary.values.shape}; resample the mask onto the image"
        )
    reference = None if reference is None else one_region(reference, "the reference")
    models, skipped, unfit = [], [], getattr(targets, "skipped", ())

    def read(target: Any) -> Any:
        """A model, or the name of what is left out and why."""
        try:
            return model_of(target)
        except InputError as error:
            return target.id, str(error)

    made = on_every_core(read, targets)
    for each in progress_bar(made, "reading the evidence", len(targets)):
        if isinstance(each, tuple):
            skipped.append(each)
        else:
            models.append(each)
        if len(models) == 1:
            _check_room(models[0], len(targets), settings.draws)
    posteriors, clicks = [], getattr(targets, "clicks", ())
    for fitted in _fit(models, settings) if models else []:
        posterior = _against(fitted, clicks)
        if not np.isfinite(posterior.draws).all():
            skipped.append((posterior.target_id, _FAILED))
        elif _runs_over_the_border(posterior, image):
            if keep_cut_off:
                posteriors.append(_doubted(posterior, Finding("red", _BEYOND, "target")))
                continue
            skipped.append((posterior.target_id, _CUT_OFF))
        else:
            posteriors.append(posterior)
    if not posteriors:
        raise NoContourError(inputs[0] if inputs else title, *(*skipped, *unfit)[0])
    settings, tolerance = _with_tolerance(settings, image, posteriors)
    level = LEVEL if settings.level is None else settings.level
    settings = replace(settings, level=level)
    given = {f"tolerance_{image.unit}": getattr(settings, f"tolerance_{image.unit}")}
    graded = on_every_core(partial(contour_of, level=level, **given), posteriors)
    contours = [held(each) for each in progress_bar(graded, "grading", len(posteriors))]
    found = None
    if reference is not None:
        contours = with_references(contours, reference, image.primary, outlines)
        found = agreement(
            contours, reference, image.primary,
            exact=outlines is not None, whole_volume=whole_volume,
        )  # fmt: skip
    there, second = {contour.id for contour in contours}, getattr(targets, "second", None)
    if second is not None:
        contours = [replaced(contour, other=other_in(second, contour)) for contour in contours]
    return Case(
        image, tuple(contours), found, settings, title=title, inputs=inputs,
        skipped=(*skipped, *unfit), focus=_focus(contours, near),
        chosen=getattr(targets, "chosen", None),
        charts=tuple(each for each in getattr(targets, "charts", ()) if each[0] in there),
        tolerance=tolerance,
        second=second,
    )  # fmt: skip


def _with_tolerance(
    settings: Settings, image: Image, posteriors: Sequence[Posterior]
) -> tuple[Settings, Tolerance | None]:
    """Settings with a tolerance, and that tolerance where nobody had said it."""
    name = f"tolerance_{image.unit}"
    if getattr(settings, name) is not None:
        return settings, None
    chosen = default_tolerance(image, posteriors)
    return replace(settings, **{name: chosen.value}), chosen


def other_in(second: SecondReading, contour: Contour) -> tuple[Curve, ...] | Mesh:
    """What another reading shows in the slice of a contour, or beside a surface."""
    if contour.chart.dims == 3:
        return second.surface
    return tuple(second.outline(contour.posterior.chart.plane))


def _check_room(model: BoundaryModel, count: int, draws: int) -> None:
    """Refuse more targets like this one than the machine's memory holds, before it is full."""
    tables = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(model.data))
    needed, memory = count * (tables + 8 * draws * model.chart.sites), memory_bytes()
    if memory is not None and needed > MOST_OF_MEMORY * memory:
        raise InputError(
            f"{count} targets need about {needed / 2**30:.1f} GiB, and this machine has "
            f"{memory / 2**30:.1f} GiB of memory; contour fewer at a time, such as some of the "
            "slices, or crop the image"
        )


def memory_bytes() -> int | None:
    """How much memory the machine has, None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _fit(models: Sequence[BoundaryModel], settings: Settings) -> list[Posterior]:
    draws, seed = settings.draws, settings.seed
    if method_of(settings.method) == Laplace() and len(models) > 1:
        with progress_bar(None, "fitting", len(models)) as bar:
            return fit_many(models, draws=draws, seed=seed, progress=bar.update)
    return [
        fit(model, settings.method, draws=draws, seed=seed)
        for model in progress_bar(models, "fitting")
    ]


def image_evidence(image: Image, blur: float | None = None) -> Evidence:
    """Intensities of every channel; a stated blur is that of the first."""
    evidence = intensity(image, image.names[0], blur=blur)
    for name in image.names[1:]:
        evidence = evidence + intensity(image, name)
    return evidence


def _doubted(posterior: Posterior, finding: Finding) -> Posterior:
    diagnostics = posterior.diagnostics
    findings = (finding, *diagnostics.findings)
    return replace(posterior, diagnostics=replace(diagnostics, findings=findings))


def _against(
    posterior: Posterior, clicks: Sequence[tuple[str, str, tuple[float, ...]]]
) -> Posterior:
    """A posterior, red where it passes by a point that was given of it (`Targets.clicks`).

    That is a point on the edge out of the 95% interval along its ray, or one inside or outside on
    the other side of the median, by more than a click's own error.
    """
    chart = posterior.chart
    for name, kind, point in reversed(clicks):
        if name != posterior.target_id:
            continue
        place = np.array(point)[None]
        shared, value = chart.share(place), float(chart.position(place)[0])
        low, middle, high = np.quantile(
            posterior.draws[:, shared.site] @ shared.share, (0.025, 0.5, 0.975)
        )
        short, beyond = {
            "edge": (value - high, low - value),
            "inside": (value - middle, -np.inf),
            "outside": (-np.inf, middle - value),
        }[kind]
        if max(short, beyond) > CLICK_SD:
            where = ", ".join(f"{x:.1f}" for x in point)
            said = "put on its edge" if kind == "edge" else f"said to be {kind}"
            text = (
                f"the contour lies {abs(middle - value):.1f} {chart.unit} from the point ({where}) "
                f"that was {said}, along its ray: no boundary of this kind is near to that and to "
                "what else is known"
            )
            posterior = _doubted(posterior, Finding("red", text, "target"))
    return posterior


def _runs_over_the_border(posterior: Posterior, image: Image) -> bool:
    """Whether the estimate leaves the image, so that part of the boundary was never seen."""
    chart = posterior.chart
    points = chart.points(posterior.estimate)
    if chart.dims == 3:
        whole = [image[name].grid.contains(points).all() for name in image.names]
        return not any(whole)
    u_min, u_max, v_min, v_max = chart.plane.extent
    u, v = points.T
    return bool(u.min() < u_min or u.max() > u_max or v.min() < v_min or v.max() > v_max)


def _focus(contours: Sequence[Contour], near: Sequence[float] | np.ndarray | None) -> int | None:
    """The contour whose slice is nearest to the point that was given, and of these its centre."""
    if near is None:
        return None
    point = np.asarray(near, dtype=float)

    def away(n: int) -> tuple[float, float]:
        chart = contours[n].posterior.chart
        if chart.dims == 3:
            return 0.0, float(chart.position(point[None])[0])
        height = abs(float((chart.plane.frame.T @ point)[2]) - chart.plane.offset)
        return round(height, 6), float(chart.position(chart.plane.to_uv(point)))

    return min(range(len(contours)), key=away)
