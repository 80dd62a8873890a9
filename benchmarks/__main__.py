"""Which figures hold on this machine? `python -m benchmarks [names...] [--quick] [--out FOLDER]`.

Each benchmark asks one question; a rerun of one replaces only its own part of the results. A name
without its scenario (`bayesbd` for `bayesbd:S1` and the others) means all of them.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import time
from pathlib import Path

from benchmarks._table import save
from benchmarks.patients import WORKERS

NAMES = (
    "speed", "first_fit", "networks", "bayesbd:S1", "bayesbd:S2", "bayesbd:S3", "calibration",
    "surfaces", "charts:sphere", "charts:offset curve", "charts:offset mesh", "charts:ring",
    "charts:voxels", "objects", "representation", "trust", "uneven", "readings", "surface_head",
    "fusion:phantoms", "fusion:controls", "fusion:patients",
    "surface_bands:bands", "surface_bands:gestures", "surface_bands:tolerances",
    "real_pet:slices", "real_pet:chosen", "real_pet:told", "real_pet:corrected",
    "real_pet:expert corrected", "edges", "raters", "reading", "distances",
    "shift:lesion-pet-2d", "shift:lesion-pet-3d", "shift:nodule-ct-2d", "shift:phantom-petct-2d",
    "shipped:phantom-petct-2d", "shipped:lesion-pet-2d", "shipped:nodule-ct-2d", "browser",
    "cohort:throughput", "cohort:scale", "cohort:damaged", "cohort:killed", "backbones",
    "foreign:monai", "foreign:nodule-ct-2d", "foreign:phantom-petct-2d",
    "uncertainty:nodule-ct-2d", "uncertainty:phantom-petct-2d",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(NAMES)} (default all)")
    parser.add_argument("--quick", action="store_true", help="few replicates: does it run?")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--workers", type=int,
                        help="processes side by side, where one can choose (what takes seconds is "
                        "then not alone)")  # fmt: skip
    parser.add_argument("--replicates", type=int, help="how many, where one can choose")
    given = parser.parse_args()
    os.environ[WORKERS] = str(given.workers or 1)
    wanted = {"workers": given.workers, "replicates": given.replicates, "out": given.out}
    chosen = []
    for asked in given.names or NAMES:
        meant = [name for name in NAMES if asked in (name, name.split(":")[0])]
        if not meant:
            parser.error(f"unknown benchmark {asked}; choose from {', '.join(NAMES)}")
        chosen += meant
    failed = False
    for name in chosen:
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        module, *scenario = name.split(":")
        run = importlib.import_module(f"benchmarks.{module}").run
        known = inspect.signature(run).parameters
        settings = {key: n for key, n in wanted.items() if n is not None and key in known}
        result = run(given.quick, *scenario, **settings)
        save(given.out, name, result, given.quick, time.perf_counter() - start)
        for row in result.rows:
            verdict = {True: "yes", False: "NO", None: "-"}[row.met]
            print(f"{verdict:>4}  {row.figure}: {row.measured:.4g} {row.unit} ({row.asked or '-'})")
            failed |= row.met is False
        for note in result.notes:
            print(f"      {note}")
    print(f"wrote {given.out / 'results.json'} and {given.out / 'results.md'}")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
