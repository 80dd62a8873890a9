"""How does an image become a case in one call? Read, find, fit, grade and compare."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import InputError, about
from aistat_jax._files import names_of
from aistat_jax._typing import Shaped
from aistat_jax.boundary.doors import checked_prior
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.experts import expert_read
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.hints import Points, clicks_on
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.boundary.networks import seen_by, seen_in_output
from aistat_jax.boundary.prior import BoundaryPrior
from aistat_jax.boundary.targets import Targets
from aistat_jax.calibrations import Calibration, load_calibration
from aistat_jax.case import EXPERT, Case, NoContourError, Settings, contour_case, image_evidence
from aistat_jax.data.phantoms import demo_phantom
from aistat_jax.dicom.marks import read_outlines
from aistat_jax.io.nifti import read_image, read_mask
from aistat_jax.nets.output_head import check_fits
from aistat_jax.nets.surface_net import SurfaceNet, is_surface_net, load_surface_net
from aistat_jax.nets.weights import Net, load_net
from aistat_jax.space.image import Image

PathLike = str | os.PathLike[str]
Mask = Shaped[np.ndarray, "i j k"] | PathLike
DEMO_NET = "phantom-petct-2d"
DIMS: int | str = 2
"""In slices (2), in space (3) or as suits the target ("auto"), where nobody says."""


def contour(
    image: Image | PathLike | Mapping[str, PathLike],
    *,
    ct: PathLike | None = None,
    point_mm: Points | None = None,
    radius_mm: float | None = None,
    outside_mm: Points | None = None,
    edge_mm: Points | None = None,
    box_mm: Points | None = None,
    mask: Mask | None = None,
    threshold: float | None = None,
    net: str | Net | SurfaceNet | None = None,
    probability: np.ndarray | PathLike | None = None,
    calibration: Calibration | PathLike | None = None,
    channel: str | None = None,
    slices: str | Sequence[int] = "all",
    dims: int | str | None = None,
    chart: str = "star",
    reference: Mask | None = None,
    mask_roi: str | None = None,
    reference_roi: str | None = None,
    prior: BoundaryPrior | None = None,
    evidence: Evidence | None = None,
    settings: Settings | None = None,
    title: str | None = None,
) -> Case:
    """Contour the targets of one image: all that `aistat contour` does, less its files.

    `image` is an `Image`, files by the names of their channels, {"PT": "pet.nii.gz", "CT": ...},
    the primary one first, or the file of a PET; `ct` one more channel on its own grid. Files are
    NIfTI or DICOM, of which a folder or a zip of a series will do (`read_image`). What to
    contour is a point inside (patient RAS mm; px without spacing), or several of one lesion, which
    `radius_mm` says the size of where it is known; with it, or alone, two corners of a box
    (`box_mm`); a rough `mask`, a `threshold` in the channel's quantity, or what a network finds
    (`net`, a shipped one's name or a folder), which then reads the boundary too; a point chooses
    among what a threshold or a network finds. A network that reads whole surfaces
    ("lesion-pet-3d") needs a point, and says where an expert would draw the lesion around it.
    `probability` is what another network says of this image (a file, or an array on its grid; see
    `io.outputs`), which the `calibration` that `calibrate` made for that network reads; the band's
    level and the tolerance are then the calibration's where `settings` says none.
    Points outside of the lesion (`outside_mm`) and on its edge (`edge_mm`) tell readings of the
    image apart, and are evidence of the boundary with a standard deviation of 1 mm. Where there are
    two readings of a point, the case keeps the `second`, and which point would tell. See
    `find_targets` for `channel`, `slices`,
    `dims` (2 slice by slice, the default, or 3 as one surface) and `chart` ("star", or
    "offset" from the target's outline); with "auto" they are as suits the target, and the case says
    what was `chosen`, by which `charts`, and why. `reference` is an expert's mask on the grid of
    the primary channel. Masks are files, or arrays (i, j, k) on the canonical grid, boolean or of 0
    and one label; where one is an RTSTRUCT or a SEG, `mask_roi` and `reference_roi` are the
    regions' names, and contours on the image's own slices are compared with as they were drawn.

    `prior` is what is known of every boundary beforehand, as `boundary_model` takes it.
    `evidence` is read in place of `intensity` of every channel, such as
    `intensity(image, "PT") + term(mine, data)`; points that were given still count. Both are for
    boundaries that no network reads; the blur is then that of `evidence`.

    `write_case` writes the files of a run. Raises InputError for what cannot be used as it is.

    >>> phantom = demo_phantom(1)
    >>> case = contour(phantom.image, point_mm=phantom.centre, settings=Settings(draws=200))
    >>> [each.id for each in case], case["z000"].grade.case
    (['z000', 'z001', 'z002'], 'green')
    """
    settings = settings or Settings()
    more = {"outside_mm": outside_mm, "edge_mm": edge_mm, "box_mm": box_mm}
    more = {name: value for name, value in more.items() if value is not None}
    head = surface_net(net)
    net = net if head is None else head  # read once
    reader = net if calibration is None else "calibration"
    asked = point_mm, mask, threshold, reader, settings, dims, chart, radius_mm, tuple(more), slices
    check_output(net, probability, calibration)
    word = "net" if calibration is None else "calibration"
    check_question(*asked, word=word)
    check_statement(prior, evidence, reader, settings, word)
    dims = DIMS if dims is None else dims
    picture, files = _read(image, ct)
    settings = settings.of(picture)
    where: dict[str, Any] = {"slices": slices, "dims": dims, "chart": chart, "channel": channel}
    where |= {"point_mm": point_mm, "threshold": threshold}
    where |= more | ({} if radius_mm is None else {"radius_mm": radius_mm})
    home = picture.primary if channel is None else picture[channel]
    if mask is not None:
        where["mask"] = mask if isinstance(mask, np.ndarray) else read_mask(mask, home, mask_roi)
        files += [] if isinstance(mask, np.ndarray) else [Path(mask)]
    drawn: Any = reference
    outlines = None
    if reference is not None and not isinstance(reference, np.ndarray):
        drawn = read_mask(reference, picture.primary, reference_roi)
        outlines = read_outlines(reference, picture.primary, reference_roi)
        files += [Path(reference)]
    names = names_of(files) or tuple(f"channel {name}" for name in picture.names)
    model_of: Callable[[Any], BoundaryModel]
    read = evidence or image_evidence(picture, settings.blur_mm or settings.blur_px)
    held: dict[str, Any] = {}
    if calibration is not None and probability is not None:
        known_by = (
            calibration if isinstance(calibration, Calibration) else load_calibration(calibration)
        )
        known_by.refuse_known(picture)
        check_fits(known_by.head, picture)
        odds = known_by.log_odds(probability, picture)
        files += [] if isinstance(probability, np.ndarray) else [Path(probability)]
        names = (*(names_of(files) or names), f"calibration of {known_by.name}")
        with about(f"network {known_by.name}"):
            seen = seen_in_output(
                known_by.head, picture, odds, **where | {"dims": 2, "chart": "star"}
            )
        targets, model_of = seen.targets, seen.by_network
        targets = _by_network(targets, dims, chart, (2, "a network reads contours slice by slice"))
        settings, held = known_by.settings(settings), {"held": known_by.hold}
    elif net is None:
        with about(files[0] if files else names[0]):
            targets = find_targets(picture, **where)
        model_of = partial(_model_of, targets, read, prior)
    elif head is not None:
        with about(files[0] if files else names[0]):
            known = expert_read(head, picture, point_mm, channel, **more)
        targets, model_of = known.targets, known.by_expert
        targets = _by_network(targets, dims, chart, (3, "a network reads whole surfaces"))
    else:
        loaded = net if isinstance(net, Net) else load_net(str(net))
        with about(f"network {net if not isinstance(net, Net) else 'given'}"):
            seen = seen_by(loaded, picture, **where | {"dims": 2, "chart": "star"})
        targets, model_of = seen.targets, seen.by_network
        targets = _by_network(targets, dims, chart, (2, "a network reads contours slice by slice"))
    fitted = partial(
        contour_case, picture, settings=settings, reference=drawn,
        outlines=outlines, whole_volume=slices == "all",
        title=title or (f"Contours of {names[0]}" if head is None else
                        f"{EXPERT}: {names[0]}"),
        inputs=names if head is None else (*names, f"network {head.name}"),
        near=_first(point_mm, box_mm), keep_cut_off=head is not None, **held,
    )  # fmt: skip
    try:
        return fitted(targets, model_of=model_of)
    except NoContourError as error:
        if not (dims == "auto" and error.cut_off and targets.chosen and targets.chosen[0] == 3):
            raise
        where["dims"] = 2
        reason = f"as one surface {error.why.split(';')[0]}"
        with about(names[0]):
            slicewise = find_targets(picture, **where)
        slicewise = replace(slicewise, chosen=(2, reason))
        return fitted(slicewise, model_of=partial(_model_of, slicewise, read, prior))


def demo_case(settings: Settings | None = None) -> Case:
    """The synthetic PET/CT lesion of `demo_phantom`, found by a shipped network, and contoured.

    What the image says of its boundary makes the posterior; the truth is known, and compared with.
    """
    settings = settings or Settings()
    phantom = demo_phantom(settings.seed)
    evidence = intensity(phantom.image)
    with about(f"network {DEMO_NET}"):
        seen = seen_by(load_net(DEMO_NET), phantom.image, point_mm=phantom.centre)
    return contour_case(
        phantom.image, seen.targets, partial(seen.by_image, evidence=evidence), settings,
        reference=phantom.mask, outlines=phantom.slices, whole_volume=False,
        title="Demonstration: a synthetic PET/CT lesion",
        inputs=(f"synthetic PET/CT, seed {settings.seed}", f"network {DEMO_NET}"),
        near=phantom.centre,
    )  # fmt: skip


def _model_of(
    targets: Targets, evidence: Evidence, prior: BoundaryPrior | None, target: Any
) -> BoundaryModel:
    """What the image and the points that were given say of a target."""
    return boundary_model(target, evidence + clicks_on(targets, target), prior=prior)


def _by_network(targets: Targets, dims: int | str, chart: str, reads: tuple[int, str]) -> Targets:
    """Targets that say what the network chose, where that was left to be chosen."""
    if dims == "auto":
        targets = replace(targets, chosen=reads)
    if chart == "auto":
        told = "star", "a network reads radii from a centre"
        targets = replace(targets, charts=tuple((each.id, *told) for each in targets))
    return targets


def _first(point_mm: Points | None, box_mm: Points | None) -> np.ndarray | None:
    """The first of the points, or else the middle of a box."""
    if point_mm is not None:
        return np.asarray(point_mm, dtype=float).reshape(-1, 3)[0]
    return None if box_mm is None else np.asarray(box_mm, dtype=float).reshape(2, 3).mean(axis=0)


def check_output(net: Any, probability: Any, calibration: Any) -> None:
    """Refuse the output of another network without its calibration, and beside a network."""
    if (probability is None) != (calibration is None):
        missing = "calibration" if calibration is None else "probability"
        there = "probability" if calibration is None else "calibration"
        raise InputError(
            f"`{there}` is read together with `{missing}`; pass both, or calibrate the network "
            "first"
        )
    if calibration is not None and net is not None:
        raise InputError("`calibration` reads another network's output; drop `net`")


def check_statement(prior: Any, evidence: Any, net: Any, settings: Settings, word: str) -> None:
    """Refuse a prior or evidence that is none, and either beside a network, called `word`."""
    for name, value in (("prior", prior), ("evidence", evidence)):
        if value is not None and net is not None:
            raise InputError(f"`{word}` reads the boundary itself; drop `{name}`, or `{word}`")
    if prior is not None:
        checked_prior(prior)
    if evidence is None:
        return
    if not isinstance(evidence, Evidence):
        raise InputError(
            f"`evidence` is what `intensity`, `term` and the like make, or a sum of them, got a "
            f"{type(evidence).__name__}"
        )
    for name in ("blur_mm", "blur_px"):
        if getattr(settings, name) is not None:
            raise InputError(f"`evidence` has its own blur; drop `{name}`")


def check_question(
    point_mm: Any,
    mask: Any,
    threshold: float | None,
    net: Any,
    settings: Settings,
    dims: int | str | None = None,
    chart: str = "star",
    radius_mm: float | None = None,
    more: Sequence[str] = (),
    slices: str | Sequence[int] = "all",
    word: str = "net",
) -> None:
    """Refuse a target that is named in no way, or in two that exclude each other.

    `more` are the names of what else was said beside a point; `word` is what `net` is called in
    refusals.
    """
    head = surface_net(net)
    unmarked = mask is None and threshold is None and (net is None or head is not None)
    if "box_mm" in more and point_mm is None and unmarked:
        point_mm = "the middle of the box"
    if word == "calibration" and mask is not None:
        raise InputError("`calibration` speaks of targets that its network finds; drop `mask`")
    given = {"point_mm": point_mm, "mask": mask, "threshold": threshold}
    named = {name for name, value in given.items() if value is not None}
    if net is not None and threshold is not None:
        raise InputError(f"`{word}` finds the target itself; drop `threshold`")
    if head is not None:
        every = isinstance(slices, str) and slices == "all"
        if point_mm is None or mask is not None or not every or dims == 2:
            raise InputError(
                "`net` reads the whole surface of what lies around a point; pass `point_mm`, and "
                "neither `mask`, `slices` nor `dims=2`"
            )
    elif net is not None and dims not in (None, 2, "auto"):
        raise InputError(f"`{word}` reads contours slice by slice; drop `dims`, or `{word}`")
    several = head is None and isinstance(point_mm, np.ndarray | list | tuple) and _many(point_mm)
    if net is not None and several:
        raise InputError(f"`{word}` takes one point of a target; pass one `point_mm`")
    if net is not None and (radius_mm is not None or (more and head is None)):
        named_too = ["radius_mm"] * (radius_mm is not None) + list(more if head is None else ())
        also = " and ".join(f"`{name}`" for name in named_too)
        raise InputError(f"`{word}` finds the target itself; drop {also}")
    if net is not None and chart not in ("star", "auto"):
        raise InputError(f"`{word}` reads radii from a centre; drop `chart`, or `{word}`")
    for name in ("blur_mm", "blur_px"):
        if net is not None and getattr(settings, name) is not None:
            raise InputError(f"`{word}` reads the edge itself, whatever the blur; drop `{name}`")
    enough = len(named) == 1 or named == {"point_mm", "threshold"}
    if not enough and (named or net is None):
        raise InputError(
            "pass one of `point_mm`, `mask`, `threshold` and `net`, or `point_mm` together with "
            "`threshold` or `net`; or `box_mm`, alone or with `point_mm`"
        )


def _many(point_mm: Any) -> bool:
    """Whether more than one point was given."""
    try:
        return np.asarray(point_mm, dtype=float).size > 3
    except (TypeError, ValueError):  # as on the command line, where each is a text
        return len(point_mm) > 1 and all(isinstance(each, str) for each in point_mm)


def surface_net(net: str | Net | SurfaceNet | None) -> SurfaceNet | None:
    """What `net` names where it reads surfaces, or None. Raises InputError for a damaged one."""
    if isinstance(net, SurfaceNet):
        return net
    named = isinstance(net, str | Path) and is_surface_net(net)
    return load_surface_net(str(net)) if named else None


def _read(
    image: Image | PathLike | Mapping[str, PathLike], ct: PathLike | None
) -> tuple[Image, list[Path]]:
    """The image, and the files it was read from."""
    if isinstance(image, Image):
        channels = [image[name] for name in image.names]
        more = [] if ct is None else [read_image(CT=ct).primary]
        return Image.of(*channels, *more), [Path(c.source) for c in channels if c.source]
    files = dict(image) if isinstance(image, Mapping) else {"PT": image}
    if ct is not None and "CT" in files:
        raise InputError("image has a channel CT already; name it otherwise, or drop `ct`")
    files |= {} if ct is None else {"CT": ct}
    return read_image(**files), [Path(path) for path in files.values()]
