"""How does a person sign contours from a terminal? `aistat sign`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aistat_jax._errors import InputError
from aistat_jax.cli.options import in_flags
from aistat_jax.cli.terminal import complain, keep, say


def sign(
    folder: Annotated[Path, typer.Argument(help="A folder of results, with summary.json.")],
    by: Annotated[
        str, typer.Option(help="Name of the person who signs, such as Doe^Jane.", metavar="NAME")
    ] = "",
    accept: Annotated[
        list[str] | None,
        typer.Option(help="A lesion to accept, or all; may be given again.", metavar="ID"),
    ] = None,
    reject: Annotated[
        list[str] | None,
        typer.Option(help="A lesion to reject, or all; may be given again.", metavar="ID"),
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="A lesion to accept as a person has changed it, or all; may be given again.",
            metavar="ID",
        ),
    ] = None,
    edited_from: Annotated[
        Path | None,
        typer.Option(
            help="The folder of results that edited lesions were computed in, from which what has "
            "changed is measured.",
            metavar="FOLDER",
        ),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(help="Why, in words; of those rejected, where any is.", metavar="TEXT"),
    ] = None,
) -> None:
    """Accept or reject the lesions of a case, by name; without a decision, say what is signed.

    A lesion that a person has changed is accepted by --edit, with what it was computed as.

    Decisions are added to signatures.jsonl, and rtstruct.dcm is APPROVED once all are accepted.
    """
    from aistat_jax import signoff
    from aistat_jax.dicom.approval import APPROVED, approval_of
    from aistat_jax.fhir_status import FHIR, FINAL, report_status
    from aistat_jax.signature_file import RECORD
    from aistat_jax.signed_parts import RTSTRUCT

    decisions = [(each, "accept") for each in accept or ()]
    decisions += [(each, "reject") for each in reject or ()]
    decisions += [(each, "edit") for each in edit or ()]
    if bool(edit) != (edited_from is not None):
        raise InputError(
            "--edit ID and --edited-from FOLDER go together: a lesion that was changed, and the "
            "results that it was changed from"
        )
    if decisions:
        if not by.strip():
            raise InputError("--by NAME is missing: the name of the person who signs")
        before = {}
        if edited_from is not None:
            before = signoff.computed_in(edited_from, folder, edit or ())
        with in_flags(before="--edited-from"):
            new = signoff.sign_several(folder, decisions, by=by, reason=reason, before=before)
        keep(f"{len(new)} decisions are in {folder / RECORD}")
    elif by or reason:
        raise InputError("nothing is decided; pass --accept ID, --reject ID or --edit ID")
    last, status = signoff.standing(folder)
    for target, signature in last.items():
        say(f"{target:>6}  {signature or 'not signed'}")
    structures = folder.expanduser() / RTSTRUCT
    if structures.exists():
        say(f"{RTSTRUCT} is {(there := approval_of(structures))}")
        if there != status:
            complain(f"{RTSTRUCT} is {there}, but by signatures it is {status}: sign again")
    report = folder.expanduser() / FHIR
    if report.exists():
        try:
            there = report_status(report)
        except (InputError, OSError) as error:
            complain(f"{FHIR} cannot be read: {error}")
            return
        say(f"{FHIR} is {there}")
        if (there == FINAL) != (status == APPROVED):
            complain(f"{FHIR} is {there}, but what it tells of is {status}: sign again")
