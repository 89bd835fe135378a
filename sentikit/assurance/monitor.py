"""A monitor of a certified error rate, valid at any time."""

from __future__ import annotations

import math

from sentikit.assurance.certificates import check_rate

#: Error rates to bet on, as multiples of the certified one, with their shares of the capital. Most
#: of it is on moderate growth, which takes longest to detect.
BETS = ((1.25, 0.15), (1.5, 0.55), (2.0, 0.2), (3.0, 0.1))


class Monitor:
    """An e-process over checked accepted labels, valid at any stopping time.

    For each bet on an error rate q = r·α, with the share w of the capital,

        E_t = Σ w · Π_i (1 + λ(x_i − α)),   λ = (q − α)/(α(1 − α)),

    where x_i = 1 for a wrong label: the likelihood ratio of q against α. Under an error rate of at
    most α it is a non-negative supermartingale that starts at 1, so it reaches 1/δ with probability
    at most δ, ever (Ville 1939). The bets were fixed by simulation on the study's validation
    predictions.

    Attributes:
        error_rate: α, the certified error rate.
        level: 1 − δ; the probability of ever giving a false alarm is at most δ.
        checked: number of labels seen so far.
        wrong: number of wrong labels seen so far.
        alarm: whether E_t has ever reached 1/δ.
    """

    def __init__(self, error_rate: float, level: float = 0.95) -> None:
        check_rate("error_rate", error_rate)
        check_rate("level", level)
        self.error_rate = error_rate
        self.level = level
        self.checked = 0
        self.wrong = 0
        self.alarm = False
        self._rates = [min(r * error_rate, (1 + error_rate) / 2) for r, _ in BETS]
        self._logs = [math.log(part) for _, part in BETS]

    def update(self, correct: bool) -> bool:
        """Add one checked label, in the order of checking, and return whether there is an alarm."""
        self.checked += 1
        self.wrong += not correct
        alpha = self.error_rate
        for bet, rate in enumerate(self._rates):
            self._logs[bet] += math.log((1 - rate) / (1 - alpha) if correct else rate / alpha)
        if self.evidence * (1 - self.level) >= 1:
            self.alarm = True
        return self.alarm

    @property
    def evidence(self) -> float:
        """E_t, the evidence that the error rate is above the certified one; 1 at the start."""
        highest = max(self._logs)
        if highest > 700:
            return math.inf
        return math.exp(highest) * sum(math.exp(log - highest) for log in self._logs)
