"""If only the surest cases are kept, how large is their loss? Risk against coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Float


@record
class RiskCoverage:
    """The mean loss of the k surest cases, for k = 1, ..., n; cases that are equally sure share it.

    Shapes: coverage and risk (case,), coverage k / n.
    """

    coverage: Float[np.ndarray, " case"]
    risk: Float[np.ndarray, " case"]

    @property
    def aurc(self) -> float:
        """Area under the curve: the mean of the risks over k (smaller is better)."""
        return float(self.risk.mean())

    def risk_at(self, coverage: float) -> float:
        """The mean loss of that share of cases, rounded up to a whole case.

        Raises InputError for a share outside (0, 1].
        """
        if not 0 < coverage <= 1:
            raise InputError(f"a coverage must lie above 0 and up to 1, got {coverage}")
        return float(self.risk[max(1, int(np.ceil(coverage * len(self.risk) - 1e-9))) - 1])


def risk_coverage(
    losses: Sequence[float] | np.ndarray, confidence: Sequence[float] | np.ndarray
) -> RiskCoverage:
    """Risk-coverage curve of losses (1 - surface Dice, say) ordered by a confidence.

    Among cases of equal confidence the order is left to chance, and the risk is its expectation.
    El-Yaniv & Wiener 2010, JMLR 11, 1605-1641; area as in Geifman, Uziel & El-Yaniv 2019, ICLR.
    Raises InputError for no cases, as many of one as not of the other, or values that are no
    number.
    """
    loss, sure = np.asarray(losses, dtype=float), np.asarray(confidence, dtype=float)
    if loss.ndim != 1 or loss.shape != sure.shape or not len(loss):
        raise InputError(
            f"a risk-coverage curve needs a confidence for every loss, got {loss.shape} and "
            f"{sure.shape}"
        )
    if np.isnan(loss).any() or np.isnan(sure).any():
        raise InputError("losses and confidences must be numbers, got NaN")
    _, group = np.unique(-sure, return_inverse=True)
    mean = np.bincount(group, loss) / np.bincount(group)
    count = np.arange(1, len(loss) + 1)
    return RiskCoverage(count / len(loss), np.cumsum(mean[np.sort(group)]) / count)
