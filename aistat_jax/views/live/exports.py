"""What can be taken away from the explorer? Files, pictures, and the lines that make them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aistat_jax._errors import InputError
from aistat_jax._files import move_in, staged_folder, write_whole
from aistat_jax._folders import runs_in
from aistat_jax.case import Case, Settings
from aistat_jax.dicom.anonymous import is_anonymous
from aistat_jax.editing import Session
from aistat_jax.edits import Edit
from aistat_jax.fhir_status import FHIR
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.store import save_posterior
from aistat_jax.signature_file import RECORD
from aistat_jax.signed_parts import RTSTRUCT
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Channel, Image
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.ring import Ring
from aistat_jax.uncertainty.bands import Band, simultaneous_band
from aistat_jax.uncertainty.contour import Contour, Reference
from aistat_jax.uncertainty.grading import Grade, grades_of
from aistat_jax.views.anonymous import anonymous_case
from aistat_jax.views.figures import plot_contours
from aistat_jax.views.live.placing import placing_lines
from aistat_jax.views.outputs import (
    earlier_files,
    write_contours,
    write_files,
    write_probability,
)
from aistat_jax.views.style import save_figure
from aistat_jax.views.surfaces import plot_surface

SCRIPT = "edits.py"
PARTS = "nifti", "csv", "posterior"  # of what somebody may have signed


def write_export(
    what: str, folder: str | Path, case: Case, lines: str, channel: str | None = None
) -> Path:
    """Write a case with all its targets, or the one in focus as a figure; returns the path.

    `what` is "all" (the files of a run, and `lines`), "nifti" (probability of being inside, on the
    image's grid), "csv" (estimates and bands as points), "posterior" (NetCDF), "python" (`lines`),
    or of the target in focus "png" or "svg" (the figure). A folder without the patient stays so.
    Raises InputError when the folder cannot be written.
    """
    folder = Path(folder).expanduser()
    try:
        if what == "all":
            if runs_in(folder):
                raise InputError(
                    f"{folder}: results of a command lie there, which an export does not replace; "
                    "choose another folder"
                )
            if is_anonymous(folder / RTSTRUCT):
                case = anonymous_case(case)
            with staged_folder(folder) as staging:
                write_files(staging, case, fhir=(folder / FHIR).is_file())
                write_whole(staging / SCRIPT, lines)
                old = earlier_files(folder)
                move_in(staging, folder.absolute(), old=old, last=("summary.json",))
            return folder
        if what in PARTS and any((folder / name).exists() for name in (RTSTRUCT, RECORD)):
            raise InputError(
                f"{folder}: a case with contours for a planning system lies there, of which one "
                "file alone is not replaced; export all, or choose another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if what == "nifti":
            return folder / write_probability(folder, case)
        if what == "csv":
            return write_contours(folder / "contours.csv", case)
        if what in ("png", "svg"):
            one = case[case.focus or 0]
            figure = figure_of(
                case.image, one.posterior, one.band, one.grade,
                channel=channel, reference=one.reference,
            )  # fmt: skip
            return save_figure(figure, folder / f"{one.id}.{what}")
        if what == "posterior":
            return save_posterior(folder / "posterior.nc", case.posteriors)
        return write_whole(folder / SCRIPT, lines)
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{folder}: cannot be written ({why}); choose another folder") from error


def case_of(
    session: Session,
    image: Image,
    home: Channel,
    references: Sequence[Curve | Ring | Mesh | None],
    focus: int,
    level: float,
    tolerance: float,
) -> Case:
    """All targets of a session as they are now, on the grid of the channel they were found in."""
    edits = [session[n] for n in range(len(session))]
    others = [image[name] for name in image.names if name != home.name]
    contours = tuple(
        Contour(
            edit.posterior,
            simultaneous_band(edit.posterior, level),
            edit.grade
            if tolerance == edit.grade.tolerance
            else grades_of(edit.posterior)(tolerance),
            reference,
        )
        for edit, reference in zip(edits, references, strict=True)
    )
    settings = Settings(level=level, seed=session.given[0].posterior.seed)
    return Case(
        Image.of(home, *others), contours, settings=settings, title="Contours, edited", focus=focus
    )


def figure_of(
    image: Image,
    posterior: Posterior,
    band: Band,
    grade: Grade,
    *,
    channel: str | None,
    reference: Reference = None,
) -> Any:
    """The figure of one boundary: a contour in its slice, or a surface."""
    parts = image, posterior, band, grade
    if posterior.chart.dims == 3:
        drawn = reference if isinstance(reference, Mesh) else None
        return plot_surface(*parts, channel=channel, reference=drawn)
    drawn = reference if isinstance(reference, Curve | tuple) else None
    return plot_contours(*parts, channel=channel, reference=drawn)


def session_lines(session: Session, level: float, tolerance: float, channel: str) -> str:
    """The lines that make every target of a session as it is now, one after the other."""
    several = len(session) > 1
    each = [
        python_lines(session[n], session, level, tolerance, channel, several=several)
        for n in range(len(session))
        if n == 0 or session[n].clicks or session.placed_as(n)
    ]
    first, *others = each
    return first + "".join(text.removeprefix(_IMPORT) for text in others)


_IMPORT = "import aistat_jax as aj\n"


def python_lines(
    edit: Edit, session: Session, level: float, tolerance: float, channel: str, *, several: bool
) -> str:
    """The lines that make a target as it is now, from the `image` and `posterior` explored.

    Where `several` were explored, they are called `posteriors`.
    """
    posterior, sd, solid = edit.posterior, session.sd, edit.posterior.chart.dims == 3
    lines = [_IMPORT]
    placed = session.placed_as(edit.target)
    if placed is not None:
        lines += placing_lines(placed, session, edit.target)
    elif several:
        lines.append(f"posterior = posteriors[{edit.target}]")
    if edit.clicks:
        points = ", ".join(repr(click.point) for click in edit.clicks)
        kinds = ", ".join(repr(click.kind) for click in edit.clicks)
        settings = f"draws={len(posterior.draws)}, seed={posterior.seed}, fallback={edit.sampled}"
        fitted = session.given[edit.target].posterior.model is not None
        model = "posterior.model" if fitted else "aj.model_from_draws(posterior)"
        settings += ", near=posterior" if fitted and solid else ""
        lines += [
            f"clicks = aj.anchors([{points}], kind=[{kinds}], sd={sd!r})",
            f"posterior = aj.fit({model} + clicks, {settings})",
        ]
    lines += [
        f"band = aj.simultaneous_band(posterior, level={level:g})",
        f"grade = aj.grade(posterior, tolerance_{edit.grade.unit}={tolerance:g})",
        f"aj.{'plot_surface' if solid else 'plot_contours'}"
        f"(image, posterior, band, grade, channel={channel!r})",
    ]
    return "\n".join(lines) + "\n"
