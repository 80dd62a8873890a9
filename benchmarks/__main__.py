"""Which figures hold on this machine? `python -m benchmarks [names...] [--quick] [--out FOLDER]`.

Each benchmark asks one question; a rerun of one replaces only its own part of the results. A name
without its scenario (`bayesbd` for `bayesbd:S1` and the others) means all of them.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

from benchmarks._table import save

NAMES = (
    "speed", "first_fit", "networks", "bayesbd:S1", "bayesbd:S2", "bayesbd:S3", "calibration",
    "surfaces", "objects", "representation", "trust", "readings", "surface_head",
    "real_pet",
    "shipped:phantom-petct-2d", "shipped:lesion-pet-2d", "shipped:nodule-ct-2d", "browser",
    "cohort", "foreign",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(NAMES)} (default all)")
    parser.add_argument("--quick", action="store_true", help="few replicates: does it run?")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
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
        result = importlib.import_module(f"benchmarks.{module}").run(given.quick, *scenario)
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
