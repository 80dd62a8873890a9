"""Can these be the values of this quantity? A reason why not, in words, or none.

Only what no scanner can have made is doubted, whatever is shown: a crop of one organ, a phantom
or a noisy image must pass. SUV is 1 in the mean over a body that keeps what was injected; the
bladder reaches some hundreds, and noise lies a little below 0. HU is -1000 in air, about -100 in
fat and 0 in water; nothing fills a large share of a body above 800 but dense bone, and even a
uniform phantom has noise below 0.
"""

from __future__ import annotations

import numpy as np

from aistat_jax._typing import Float

LARGEST_SUV, LARGEST_MEDIAN_SUV, LOWEST_SUV = 1000.0, 50.0, -50.0
LOWEST_WITHOUT_WATER, PET_NINE_TENTHS, DENSE_BONE = -1.0, 20.0, 800.0  # HU


def implausible(values: Float[np.ndarray, "*shape"], quantity: str) -> str | None:
    """Why values cannot be SUV or HU; None where they can, and for any other quantity.

    Meant for images with a spacing: pictures hold grey values, whatever their channel is called.

    >>> print(implausible(np.linspace(0.0, 12.0, 50), "SUV"))
    None
    >>> implausible(np.linspace(0.0, 42000.0, 50), "SUV").split(",")[0]
    'values from 0 to 42000'
    """
    low, middle, high = (float(np.quantile(values, share)) for share in (0.0, 0.5, 1.0))
    if quantity == "SUV" and (
        low < LOWEST_SUV or high > LARGEST_SUV or middle > LARGEST_MEDIAN_SUV
    ):
        return (
            f"values from {low:.5g} to {high:.5g}, half of them above {middle:.5g}, cannot be SUV, "
            "which is about 1 over a whole body and below 0 by noise alone; "
        ) + (
            "those of a CT can, in HU"
            if low < -high / 4
            else "divide Bq/ml by the injected activity per gram of body weight"
        )
    if quantity == "HU" and low > LOWEST_WITHOUT_WATER:
        tenth, seventh = (float(np.quantile(values, share)) for share in (0.9, 0.85))
        if tenth < PET_NINE_TENTHS:
            return (
                f"values from {low:.3g}, nine tenths of them below {tenth:.3g}, cannot be HU, "
                "which is about -1000 in air, -100 in fat and 40 in muscle; those of a PET can"
            )
        if seventh > DENSE_BONE:
            return (
                f"values from {low:.5g}, a seventh of them above {seventh:.5g}, cannot be HU, "
                "which is about -1000 in air and 40 in muscle; add the rescale intercept (often "
                "-1024) if it was left out, or name what the image shows"
            )
    return None
