"""Google's ELECTRA discriminators, small, base and large."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_encoders(register: Any) -> None:
    """Offer ``electra-small``, ``electra-base`` and ``electra-large``."""
    for size, parameters in (("small", "14 M"), ("base", "109 M"), ("large", "334 M")):
        register(
            f"electra-{size}",
            f"{__name__}.encoder:Electra{size.capitalize()}",
            summary=f"google/electra-{size}-discriminator, {parameters} parameters",
        )
