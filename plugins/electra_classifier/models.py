"""Short names of the study's published models."""

from __future__ import annotations

from sentikit.extension import HubClassifier


class ElectraBase(HubClassifier):
    """ELECTRA Base, fine-tuned by the study: row E1."""

    model = "jbeno/electra-base-classifier-sentiment"


class ElectraLarge(HubClassifier):
    """ELECTRA Large, fine-tuned by the study: row E2."""

    model = "jbeno/electra-large-classifier-sentiment"
