"""What can be taken away from the explorer? Files, pictures, and the lines that make them again."""

from __future__ import annotations

from pathlib import Path

from aistat_jax._errors import InputError
from aistat_jax._files import write_whole
from aistat_jax.case import Case
from aistat_jax.editing import Edit
from aistat_jax.inference.store import save_posterior
from aistat_jax.views.figures import plot_contours
from aistat_jax.views.outputs import write_contours, write_probability
from aistat_jax.views.style import save_figure


def write_export(
    what: str, folder: str | Path, case: Case, lines: str, channel: str | None = None
) -> Path:
    """Write one kind of file for a case with one target; returns its path.

    `what` is "nifti" (probability of being inside, on the image's grid), "csv" (estimate and band
    as points), "png" or "svg" (the figure), "posterior" (NetCDF) or "python" (`lines`).
    Raises InputError when the folder cannot be written.
    """
    folder = Path(folder).expanduser()
    (posterior,), (band,), (grade,) = case.posteriors, case.bands, case.grades
    name = posterior.target_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if what == "nifti":
            return folder / write_probability(folder, case, f"{name}_")
        if what == "csv":
            return write_contours(folder / f"{name}.csv", case)
        if what in ("png", "svg"):
            reference = None if case.references is None else case.references[0]
            figure = plot_contours(
                case.image, posterior, band, grade, channel=channel, reference=reference
            )
            return save_figure(figure, folder / f"{name}.{what}")
        if what == "posterior":
            return save_posterior(folder / f"{name}.nc", posterior)
        return write_whole(folder / f"{name}.py", lines)
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{folder}: cannot be written ({why}); choose another folder") from error


def python_lines(edit: Edit, sd: float, level: float, channel: str, *, several: bool) -> str:
    """The lines that make a target as it is now, from the `image` and `posterior` explored.

    Where `several` were explored, they are called `posteriors`.
    """
    posterior = edit.posterior
    lines = ["import aistat_jax as aj", ""]
    if several:
        lines.append(f"posterior = posteriors[{edit.target}]")
    if edit.clicks:
        points = ", ".join(f"({u!r}, {v!r})" for u, v in (click.point for click in edit.clicks))
        kinds = ", ".join(repr(click.kind) for click in edit.clicks)
        settings = f"draws={len(posterior.draws)}, seed={posterior.seed}, fallback={edit.sampled}"
        lines += [
            f"clicks = aj.anchors([{points}], kind=[{kinds}], sd={sd!r})",
            f"posterior = aj.fit(posterior.model + clicks, {settings})",
        ]
    lines += [
        f"band = aj.simultaneous_band(posterior, level={level:g})",
        f"grade = aj.grade(posterior, tolerance_{edit.grade.unit}={edit.grade.tolerance:g})",
        f"aj.plot_contours(image, posterior, band, grade, channel={channel!r})",
    ]
    return "\n".join(lines) + "\n"
