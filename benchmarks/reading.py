"""How long does a DICOM folder take to become an image, and with how much memory?

A CT of 300 slices of 512^2 and a PET of 90 slices of 200^2, one file a slice, in one folder of a
patient; read as SUV and HU in a fresh process whose imports are done, files in the system's cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks._table import Result, Row
from tests.dicom.made import save_series

CT, PET = (512, 512, 300), (200, 200, 90)
ONE = """
import json, resource, sys, time
import aistat_jax as aj
aj.read_image  # loads what is loaded once
import pydicom, aistat_jax.dicom.image
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start, used = peak(), time.perf_counter(), time.process_time()
image = aj.read_image(PT=sys.argv[1] + "/pt", CT=sys.argv[1] + "/ct")
seconds, used = time.perf_counter() - start, time.process_time() - used
print(json.dumps({"seconds": seconds, "used": used, "MiB": peak() - before,
                  "shapes": [list(channel.values.shape) for channel in image.channels.values()]}))
"""


def run(quick: bool) -> Result:
    ct, pet = (tuple(s // 4 for s in shape) if quick else shape for shape in (CT, PET))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_series(folder / "ct", "CT", rng.integers(0, 3000, ct, dtype=np.int16))
        save_series(folder / "pt", "PT", rng.integers(0, 3000, pet, dtype=np.int16))
        found = [_read(folder) for _ in range(2 if quick else 5)]
    if any(one["shapes"] != [list(pet), list(ct)] for one in found):
        raise RuntimeError(f"read {found[0]['shapes']}, wrote {pet} and {ct}")
    bytes_held = 4 * (np.prod(ct) + np.prod(pet))
    rows = [
        Row("from the folder to an image in memory, median",
            float(np.median([one["seconds"] for one in found])), "s", at_most=3.0,
            note=f"{ct[2]} slices of CT and {pet[2]} of PET; of the processor "
            f"{np.median([one['used'] for one in found]):.2g} s"),
        Row("memory above the imports", float(np.median([one["MiB"] for one in found])), "MB",
            note=f"the values alone are {bytes_held / 2**20:.0f} MB"),
    ]  # fmt: skip
    return Result("Reading DICOM", rows, ["CT as 512^2 and PET as 200^2, uncompressed."])


def _read(folder: Path) -> dict:
    done = subprocess.run([sys.executable, "-c", ONE, str(folder)], capture_output=True, text=True,
                          check=True)  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])
