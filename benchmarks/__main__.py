"""Which figures hold on this machine? `python -m benchmarks [names...] [--quick] [--out FOLDER]`.

Each benchmark asks one question; a rerun of one replaces only its own part of the results.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

from benchmarks._table import save

NAMES = ("speed", "bayesbd", "calibration", "real_pet")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(NAMES)} (default all)")
    parser.add_argument("--quick", action="store_true", help="few replicates: does it run?")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"unknown benchmark {sorted(unknown)[0]}; choose from {', '.join(NAMES)}")
    failed = False
    for name in given.names or NAMES:
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        result = importlib.import_module(f"benchmarks.{name}").run(given.quick)
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
