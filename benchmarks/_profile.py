"""Where does a compiled program spend its time? XLA's own trace, summed by part of the program.

Every operation of a compiled program carries the scopes (`jax.named_scope`) it was made in.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

_NAMED = re.compile(r'%?([\w.\-]+) = [^\n]*metadata=\{[^\n]*?op_name="([^"]+)"')


def seconds_by_part(
    compiled: Any, call: Callable[[], Any], part_of: Callable[[str], str], repeats: int
) -> Mapping[str, float]:
    """Seconds a call in each part of a program, the largest first; `part_of` names it by scopes.

    Threads are added up, so that the sum may pass the time that a clock shows. A loop is told by
    what is in it. Operations that the compiler made have no scopes: their name is "".
    """
    scopes = dict(_NAMED.findall(compiled.as_text()))
    call()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(repeats):
                call()
        (file,) = Path(folder).rglob("*.xplane.pb")
        trace = jax.profiler.ProfileData.from_file(str(file))
    found: Counter[str] = Counter()
    for event in (e for plane in trace.planes for line in plane.lines for e in line.events):
        name = dict(event.stats).get("hlo_op")
        if name is None or str(name).startswith(("while", "call", "conditional")):
            continue
        found[part_of(scopes.get(str(name), ""))] += event.duration_ns / 1e9 / repeats
    return dict(found.most_common())
