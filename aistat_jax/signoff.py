"""Who has accepted, edited or rejected which lesion? A person's decisions, beside the files.

Nothing is signed by default. Each decision is a line in a record that is only ever added to
(`signature_file`), and the last on a lesion counts, as long as what it speaks of is as it was. What
all of them come to stands in the RTSTRUCT and in the FHIR bundle too.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import numpy as np

from aistat_jax._errors import InputError, InputWarning
from aistat_jax._files import alone, why
from aistat_jax.dicom.approval import APPROVED, REJECTED, UNAPPROVED, approve
from aistat_jax.fhir_status import FHIR, conclude, is_concluded
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.store import load_posterior
from aistat_jax.signature_file import (
    RECORD,
    Change,
    Decision,
    Signature,
    add_signatures,
    digests_in,
    known_to,
    read_signatures,
    void_by,
)
from aistat_jax.signed_parts import (
    POSTERIOR,
    RTSTRUCT,
    others_of,
    parts_in,
    regions_of_lesions,
)

SUMMARY = "summary.json"
ALL = "all"
"""What stands for every lesion of a folder."""

_NAMED = 30  # lesions in a sentence


def sign(
    folder: str | os.PathLike[str],
    target: str | Sequence[str],
    decision: str,
    *,
    by: str,
    reason: str | None = None,
    before: Posterior | None = None,
) -> tuple[Signature, ...]:
    """Write a person's decision on a lesion (or several, or "all") beside the files of a case.

    `decision` is "accept" or "reject" of the contour that the files hold, or "edit": it is accepted
    after it was changed, and `before` is its posterior as computed, from which what has changed is
    measured. `by` is the person's name. Once every lesion is accepted, rtstruct.dcm becomes a new
    instance that is APPROVED, with the name and the time of the last of these decisions; it is
    REJECTED while any lesion is, and else UNAPPROVED. Its regions that hold contours of a lesion
    that was edited are SEMIAUTOMATIC. fhir.json becomes final with the acceptance of all, and is
    withdrawn (entered-in-error) where it was final and not all are accepted any more.

    Raises InputError for a folder that holds no case, a lesion that is not there (those that are,
    are named), no name, and a record that cannot be written.
    """
    targets = [target] if isinstance(target, str) else list(target)
    there = lesions(folder)
    targets = list(there) if targets == [ALL] and ALL not in there else targets
    if before is not None and len(targets) != 1:
        raise InputError(f"`before` is the posterior of one lesion, and {len(targets)} are named")
    edited = {} if before is None else {each: before for each in targets}
    return sign_several(
        folder, [(each, decision) for each in targets], by=by, reason=reason, before=edited
    )


def sign_several(
    folder: str | os.PathLike[str],
    decisions: Iterable[tuple[str, str]],
    *,
    by: str,
    reason: str | None = None,
    before: Mapping[str, Posterior] | None = None,
) -> tuple[Signature, ...]:
    """Write decisions on several lesions at once, all or none; see `sign`. `before` is by id.

    Where some are rejected and others not, `reason` is why those are, and stands with them alone.
    """
    out, name = Path(folder).expanduser(), " ".join(by.split())
    there = lesions(out)
    if not name:
        raise InputError("`by` is empty; pass the name of the person who signs")
    wanted = _decided(out, decisions, there)
    said = " ".join((reason or "").split()) or None
    with alone(out):
        changed = _changes(out, wanted, before or {})
        digests, earlier, parts = digests_in(out), signatures(out), parts_in(out, there)
        when = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        meant = {"reject"} & set(wanted.values()) or set(wanted.values())
        new = tuple(
            Signature(
                each, what, name, when, said if what in meant else None, changed[each], digests,
                own=tuple(parts[each].items()), others=others_of(parts, each),
            )
            for each, what in wanted.items()
        )  # fmt: skip
        status, last = _status([*earlier, *new], there, digests)
        edited = {o.target for o in (*earlier, *new) if o.decision == "edit" and not o.void}
        if status != APPROVED:
            _say(out, status, last, edited)
        add_signatures(out / RECORD, new)
        if status == APPROVED:  # which is never said before it is recorded
            _say(out, status, last, edited)
    return new


def signatures(folder: str | os.PathLike[str]) -> tuple[Signature, ...]:
    """Every decision on the lesions of a folder, in order; none where nobody has signed.

    Those on lesions that have changed since are `void`, and those on files that have, unless
    another lesion has. A line that is not whole is an InputWarning.
    Raises InputError for a folder that holds no case, and a record of a newer version.
    """
    out = Path(folder).expanduser()
    there, found = lesions(out), read_signatures(out / RECORD)
    if not found:
        return ()
    now, parts = dict(digests_in(out)), parts_in(out, there)
    return tuple(replace(one, void=void_by(one, now, parts)) for one in found)


def standing(folder: str | os.PathLike[str]) -> tuple[dict[str, Signature | None], str]:
    """Of each lesion the decision that counts, the last, or None; and what they come to together.

    That is APPROVED, REJECTED or UNAPPROVED.
    """
    given, there = signatures(folder), lesions(folder)
    last = {one.target: one for one in given}
    files = digests_in(Path(folder).expanduser()) if given else ()
    return {each: last.get(each) for each in there}, _status(given, there, files)[0]


def is_reported(folder: str | os.PathLike[str]) -> bool:
    """Whether fhir.json says what signatures come to, by whom and when. InputError for none.

    What is said of a record by `signatures` is not said again.
    """
    out = Path(folder).expanduser()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        given = signatures(out)
    status, last = _status(given, lesions(out), digests_in(out) if given else ())
    return is_concluded(out / FHIR, status == APPROVED, *_who(last))


def lesions(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The ids of the targets of a case, by its summary.json. Raises InputError where none is."""
    path = Path(folder).expanduser() / SUMMARY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return tuple(str(each["id"]) for each in content["targets"])
    except OSError as error:
        raise InputError(
            f"{folder}: there is no case to sign, for {SUMMARY} cannot be read ({why(error)}); "
            "pass the folder of its results"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: this is not the summary of a case") from error


def change_between(before: Posterior, after: Posterior) -> Change:
    """How far the estimate of one posterior lies from that of another of the same target.

    Distances are the chart's own, from each to the other, weighed by the boundary's length or area.
    Raises InputError for posteriors of other charts.
    """
    chart, one, two = after.chart, before.estimate, after.estimate
    same = type(before.chart) is type(chart) and one.shape == two.shape
    if not same or not np.allclose(before.chart.points(two), chart.points(two)):
        raise InputError(
            f"`before` is not the posterior that {after.target_id} was edited from; pass that one"
        )
    away = np.concatenate([chart.gap(one[None], two[None])[0], chart.gap(two[None], one[None])[0]])
    weight = np.concatenate([chart.weights(one), chart.weights(two)])
    solid, unit = chart.dims == 3, after.unit
    ml = solid and unit == "mm"
    first, second = (float(chart.content(values)) / (1000 if ml else 1) for values in (one, two))
    content_unit = "ml" if ml else f"{unit}{chart.dims}"
    return Change(
        float(away @ weight / weight.sum()), float(away.max()), unit, first, second, content_unit
    )


def computed_in(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], targets: Sequence[str]
) -> dict[str, Posterior]:
    """What lesions of a folder were edited from: their posteriors in another one, by id.

    `targets` may be "all". Lesions that `folder` does not have are left to `sign_several`.
    Raises InputError for a folder that holds no posteriors, or lacks that of a lesion.
    """
    there, known = lesions(folder), _posteriors(Path(source).expanduser())
    wanted = there if ALL in targets and ALL not in there else targets
    if missing := [each for each in wanted if each in there and each not in known]:
        raise InputError(
            f"{Path(source) / POSTERIOR}: there is no posterior of lesion {missing[0]}; there are: "
            f"{', '.join(list(known)[:_NAMED])}"
        )
    return {each: known[each] for each in wanted if each in there}


def held(folder: str | os.PathLike[str], posteriors: Sequence[Posterior]) -> bool:
    """Whether the files of a folder are of these very posteriors."""
    try:
        there = _posteriors(Path(folder).expanduser())
    except InputError:
        return False
    known = [there.get(each.target_id) for each in posteriors]
    return all(
        one is not None and np.array_equal(one.radii, each.radii)
        for one, each in zip(known, posteriors, strict=True)
    )


# ---------------------------------------------------------------------------------- the decisions


def _decided(
    out: Path, decisions: Iterable[tuple[str, str]], there: Sequence[str]
) -> dict[str, Decision]:
    """What is decided of each lesion. Raises InputError for what cannot be meant."""
    wanted: dict[str, Decision] = {}
    for target, word in decisions:
        decision = next((each for each in get_args(Decision) if each == word), None)
        if decision is None:
            known = ", ".join(get_args(Decision))
            raise InputError(f"decision {word!r} is not known; it is one of {known}")
        if target not in (ALL, *there):
            named = ", ".join(there[:_NAMED]) + (", ..." if len(there) > _NAMED else "")
            raise InputError(f"{out}: there is no lesion {target!r}; there are: {named}")
        for each in there if target == ALL and ALL not in there else (target,):
            if wanted.setdefault(each, decision) != decision:
                raise InputError(f"{out}: there are two decisions on lesion {each}; pass one")
    if not wanted:
        raise InputError(f"{out}: no lesion is named; there are: {', '.join(there[:_NAMED])}")
    return wanted


def _changes(
    out: Path, wanted: Mapping[str, Decision], before: Mapping[str, Posterior]
) -> dict[str, Change | None]:
    """What each edit has changed, None for other decisions."""
    edited = {each for each, decision in wanted.items() if decision == "edit"}
    if extra := sorted(before.keys() - edited):
        raise InputError(f"`before` means nothing to {wanted.get(extra[0])}; pass it with edit")
    if missing := sorted(edited - before.keys()):
        raise InputError(f"`before` is missing: what lesion {missing[0]} was edited from; pass it")
    after = _posteriors(out) if edited else {}
    if lost := sorted(edited - after.keys()):
        raise InputError(f"{out / POSTERIOR}: there is no posterior of lesion {lost[0]}")
    return {
        each: change_between(before[each], after[each]) if each in edited else None
        for each in wanted
    }


def _posteriors(out: Path) -> dict[str, Posterior]:
    return {each.target_id: each for each in load_posterior(out / POSTERIOR)}


def _status(
    given: Sequence[Signature], there: Sequence[str], files: Sequence[tuple[str, str]]
) -> tuple[str, Signature | None]:
    """What decisions come to, and the last of those that make it so.

    Each signature that counts is of its own lesion; files as a whole, of which `files` are the
    digests, are approved only as one of them was given: one of the newest schema among them, for
    an older one says nothing of some files.
    """
    last = {one.target: one for one in given}
    counts = [one for one in given if last[one.target] is one and one.target in there]
    counts = [one for one in counts if not one.void]
    refused = [one for one in counts if one.decision == "reject"]
    if refused:
        return REJECTED, refused[-1]
    newest = max((one.schema for one in counts), default=0)
    told = [one for one in counts if one.schema == newest]
    whole = any(dict(one.digests) == known_to(one, dict(files)) for one in told)
    every = len(counts) == len(there) > 0
    return (APPROVED, counts[-1]) if every and whole else (UNAPPROVED, None)


def _who(last: Signature | None) -> tuple[str, datetime | None]:
    return (last.by, datetime.fromisoformat(last.when)) if last else ("", None)


def _say(out: Path, status: str, last: Signature | None, edited: Collection[str]) -> None:
    """Let the RTSTRUCT and the FHIR bundle of a folder, if any, say what signatures come to.

    A bundle that is damaged says nothing, so that it does not stop anybody: it is an InputWarning.
    """
    by, when = _who(last)
    if (out / RTSTRUCT).exists():
        regions = regions_of_lesions(out, lesions(out), edited) if edited else ()
        approve(out / RTSTRUCT, status, by, when, edited=regions)
    if (out / FHIR).exists():
        try:
            conclude(out / FHIR, status == APPROVED, by, when)
        except (InputError, OSError) as error:
            said = f"{FHIR} does not say so ({error})"
            warnings.warn(f"what is signed is {status}, and {said}", InputWarning, stacklevel=4)
