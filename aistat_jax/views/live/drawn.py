"""Which drawn contours belong to which targets of a session, whatever comes and goes in it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aistat_jax.editing import Session
from aistat_jax.uncertainty.contour import Reference


class SessionReferences:
    """References, and other readings, of the targets of the session that they came with.

    They are found again by id (and place, where a target was placed by hand, whose id may be given
    anew), never by number: targets are placed, removed, and opened from files.
    """

    def __init__(
        self, session: Session, references: Sequence[Any], others: Sequence[Reference] = ()
    ) -> None:
        self._with = session
        self._each = list(zip(references, list(others) or [None] * len(session), strict=True))
        self._found: tuple[Session, list[tuple[Any, Reference]]] = session, self._each

    def references(self, session: Session) -> list[Any]:
        """One for each target of a session: that of the same target, None where there is none."""
        return [reference for reference, _ in self._joined(session)]

    def others(self, session: Session) -> list[Reference]:
        """What another reading shows, as `references`."""
        return [other for _, other in self._joined(session)]

    def _joined(self, session: Session) -> list[tuple[Any, Reference]]:
        known, found = self._found
        if known is not session:
            places = (same_target(self._with, session, n) for n in range(len(session)))
            found = [(None, None) if m is None else self._each[m] for m in places]
            self._found = session, found
        return found


def same_target(before: Session, after: Session, n: int) -> int | None:
    """Which target of `before` is target `n` of `after`; None for one that was not there.

    Ids may be those of several, such as posteriors that were given without names: then it is the
    one with the same draws.
    """
    own, placed = after.given[n].posterior, after.placed_as(n)
    same = [m for m, edit in enumerate(before.given) if edit.posterior is own]
    if len(same) != 1:
        same = [
            m
            for m, edit in enumerate(before.given)
            if edit.posterior.target_id == own.target_id and before.placed_as(m) == placed
        ]
    if len(same) > 1:
        same = [m for m in same if np.array_equal(before.given[m].posterior.draws, own.draws)]
    return same[0] if len(same) == 1 else None
