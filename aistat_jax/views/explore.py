"""Where does one walk around in a posterior? The doors to what moves; figures where it cannot."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.case import Case
from aistat_jax.editing import Session, session_of
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.store import load_posterior
from aistat_jax.sessions import load_session
from aistat_jax.space.chart import LINKS
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Channel, Image
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.ring import Ring
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.contour import Reference
from aistat_jax.uncertainty.grading import grade
from aistat_jax.uncertainty.tolerance import default_tolerance
from aistat_jax.views.figures import plot_comparison, plot_contours, plot_gallery
from aistat_jax.views.style import COMPARED
from aistat_jax.views.surfaces import Body, body_of, plot_surface

Outline = Curve | Ring
LIVE = ("ipywidgets", "ipympl", "anywidget")
NEEDS = "for something that moves, install what it needs: pip install 'aistat_jax[lab]'"


def explore(
    image: Image,
    posterior: Posterior | Sequence[Posterior] | Case | Session | str | os.PathLike[str],
    *,
    reference: Outline | Body | Sequence[Outline | Body | None] | None = None,
    level: float = 0.95,
    tolerance_mm: float | None = None,
    tolerance_px: float | None = None,
    click_sd: float | None = None,
    channel: str | None = None,
) -> Any:
    """Look at a posterior, or one a slice, from every side, and correct it by clicks: a widget.

    Sliders choose slice, draw, credible level and tolerance; pointing at the boundary shows the
    image along that ray. Surfaces (`dims=3`) are shown in three planes of the patient that a
    cross-hair links, each with its section of the surface, and corrected in any of them. Clicks
    ("edge", "inside", "outside") are evidence with a standard deviation `click_sd` (a quarter of
    the tolerance unless told otherwise): the model that was fitted is fitted again with them.
    A drag from a middle to an edge ("place"), or page Target, adds a target that is fitted to the
    channel the others were found in, with as many rays and harmonics.
    `reference` is a contour to compare with (of a surface a mesh, a mask or a channel that holds
    one), or one for each posterior.
    A case (`contour`) brings its references, a second reading (dashed) and tolerance; posteriors
    are graded at the image's own (`default_tolerance`) unless told otherwise. Instead of posteriors
    a session of edits can be gone on with (`load_session`), which brings its own tolerance and
    `click_sd`, or the path of a file of either: posterior.nc of the command line, or a saved
    session. Posteriors read from a file are edited by their draws (`model_from_draws`). Where a
    package of `pip install "aistat_jax[lab]"` is missing, a figure comes back, with a sentence that
    says so.

    Raises InputError for a posterior of another image, and for whatever `grade` refuses.
    """
    given = _read(posterior) if isinstance(posterior, str | os.PathLike) else posterior
    others: list[Reference] = []
    if isinstance(given, Case):
        drawn = [
            one.reference if isinstance(one.reference, Curve | Ring | Mesh) else None
            for one in given
        ]
        reference = drawn if reference is None else reference
        if tolerance_mm is tolerance_px is None:
            tolerance_mm, tolerance_px = given.settings.tolerance_mm, given.settings.tolerance_px
        others = [one.other for one in given]
        given = given.posteriors
    if isinstance(given, Session):
        session = given
        several = [edit.posterior for edit in session.given]
        if not (tolerance_mm is tolerance_px is click_sd is None):
            raise InputError(
                "a session has a tolerance and a click_sd already; pass its posteriors, "
                "[edit.posterior for edit in session.given], to begin with others"
            )
    else:
        several = [given] if isinstance(given, Posterior) else list(given)
        tolerances = _tolerances(image, several, tolerance_mm, tolerance_px)
        session = session_of(several, click_sd=click_sd, **tolerances)
    home = home_of(image, several)
    references = references_for(reference, several, image)
    channel = image.names[0] if channel is None else channel
    image[channel]  # refuses an unknown one
    simultaneous_band(several[0], level)  # refuses a level that is none
    if missing := what_is_missing():
        several = [session[n].posterior for n in range(len(session))]
        bands = [simultaneous_band(p, level) for p in several]
        grades = [session[n].grade for n in range(len(session))]
        print(f"{missing} is not installed, so this is a figure; {NEEDS}")
        one, drawn = (image, several[0], bands[0], grades[0]), references[0]
        if several[0].chart.dims == 3:
            solid = drawn if isinstance(drawn, Mesh) else None
            return plot_surface(*one, channel=channel, reference=solid)
        if len(several) > 1:
            return plot_gallery(image, several, bands, grades, channel=channel)
        flat = drawn if isinstance(drawn, Curve | Ring) else None
        return plot_contours(*one, channel=channel, reference=flat)
    from aistat_jax.views.live.explorer import Explorer

    explorer = Explorer(
        image, session, home, references, level=level, channel=channel, others=others
    )
    if isinstance(posterior, str | os.PathLike):
        explorer.signing.of(posterior)
    return explorer


def compare(
    image: Image,
    posteriors: Mapping[str, Posterior],
    *,
    reference: Curve | None = None,
    level: float = 0.95,
    tolerance_mm: float | None = None,
    tolerance_px: float | None = None,
    channel: str | None = None,
) -> Any:
    """Several posteriors of one target side by side, with one set of sliders: a widget.

    `posteriors` maps what each is called to it: methods, modalities, with and without a network.
    Where ipympl or ipywidgets are missing, the figure of `plot_comparison` comes back.

    Raises InputError for fewer than one or more than five posteriors, or one of another image.
    """
    if not 1 <= len(posteriors) <= len(COMPARED):
        raise InputError(f"a comparison takes 1 to {len(COMPARED)} posteriors, {len(posteriors)}")
    for posterior in posteriors.values():
        if posterior.chart.dims == 3:
            raise InputError(
                "these are surfaces in space, and a comparison shows contours in slices; explore "
                "them, or contour slice by slice (dims=2)"
            )
        if LINKS[posterior.chart.link].layers > 1:
            raise InputError(
                f"{posterior.target_id} is a ring, and this comparison shows one boundary of each; "
                "see plot_comparison, or explore it"
            )
    several = list(posteriors.values())
    tolerances = _tolerances(image, several, tolerance_mm, tolerance_px)
    channel = image.names[0] if channel is None else channel
    image[channel]  # refuses an unknown one
    grades = {name: grade(posterior, **tolerances) for name, posterior in posteriors.items()}
    if missing := what_is_missing():
        print(f"{missing} is not installed, so this is a figure; {NEEDS}")
        return plot_comparison(image, posteriors, reference=reference, channel=channel, level=level)
    from aistat_jax.views.live.comparison import Comparison

    return Comparison(image, posteriors, grades, reference, level=level, channel=channel)


def _tolerances(
    image: Image, posteriors: Sequence[Posterior], mm: float | None, px: float | None
) -> dict[str, float | None]:
    """The tolerance asked for, or else the image's own. Refuses posteriors of another image."""
    for posterior in posteriors:
        home_of(image, [posterior])
    if mm is px is None and posteriors:
        chosen = default_tolerance(image, posteriors)
        return {f"tolerance_{chosen.unit}": chosen.value}
    return {"tolerance_mm": mm, "tolerance_px": px}


def _read(path: str | os.PathLike[str]) -> Session | list[Posterior]:
    """A session, or the posteriors, of a file."""
    if str(path).endswith(".npz"):
        return load_session(path)
    return load_posterior(path)


def what_is_missing() -> str:
    """The first package that widgets need and that is not there; nothing if all are."""
    from importlib.util import find_spec

    return next((name for name in LIVE if find_spec(name) is None), "")


def references_for(
    reference: Outline | Body | Sequence[Outline | Body | None] | None,
    posteriors: Sequence[Posterior],
    image: Image,
) -> list[Outline | Mesh | None]:
    """One reference, or None, for each posterior; bodies as their surfaces."""
    count = len(posteriors)
    if reference is None:
        return [None for _ in range(count)]
    one = isinstance(reference, Outline | Mesh | np.ndarray | Channel)
    given: list[Any] = [reference] if one else list(reference)
    if len(given) != count:
        raise InputError(f"{count} posteriors need as many references, or none, got {len(given)}")
    for each, posterior in zip(given, posteriors, strict=True):
        if each is not None and isinstance(each, Outline) != (posterior.chart.dims == 2):
            raise InputError(
                "a contour is compared with a Curve (or Ring) of its slice, a surface with a Mesh, "
                f"a mask or a Channel; got {type(each).__name__} for {posterior.target_id}"
            )
    return [
        each if isinstance(each, Outline | Mesh | None) else body_of(each, image) for each in given
    ]


def home_of(image: Image, posteriors: Sequence[Posterior]) -> Channel:
    """The channel on whose slices the posteriors were fitted; the first one that holds surfaces.

    Raises InputError when there is none: the posteriors are of another image.
    """
    solid = [posterior.chart.dims == 3 for posterior in posteriors]
    if any(solid):
        if not all(solid):
            raise InputError(
                "some of these are surfaces in space and some contours in slices; explore either"
            )
        return _holds(image, posteriors)
    home = image.home_of([posterior.chart.plane for posterior in posteriors])
    if home is not None:
        return home
    if all(image.home_of([posterior.chart.plane]) for posterior in posteriors):
        raise InputError(
            "the posteriors were fitted on slices of several channels; explore those of one"
        )
    plane = posteriors[0].chart.plane
    sizes = ", ".join(f"{name} {image[name].grid.shape}" for name in image.names)
    raise InputError(
        f"the posterior of {posteriors[0].target_id} is of another image: it was fitted on slice "
        f"{plane.index}, of {plane.shape[0]} x {plane.shape[1]} pixels at {plane.offset:.1f} "
        f"{plane.unit}, and this image has {sizes}; pass the image it was fitted on"
    )


def _holds(image: Image, posteriors: Sequence[Posterior]) -> Channel:
    """The first channel that all surfaces lie in."""
    for name in image.names:
        grid = image[name].grid
        if all(
            grid.unit == p.unit and grid.contains(p.chart.points(p.estimate)).mean() > 0.5
            for p in posteriors
        ):
            return image[name]
    raise InputError(
        f"the surface of {posteriors[0].target_id} does not lie in any channel of this image, "
        f"which has {', '.join(image.names)}; pass the image it was fitted on"
    )
