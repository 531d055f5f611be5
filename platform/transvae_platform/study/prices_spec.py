"""What an hour of a device costs, and how often a cloud takes its cheap machines away: `resources.prices`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from transvae_platform.study.section import Section

Dollars = Annotated[float, Field(ge=0)]


class Price(Section):
    """Of one kind of device. The plan multiplies with it; nothing is bought or bid for by it."""

    on_demand: Dollars
    """US dollars for an hour of one device on demand."""
    spot: Dollars
    """The same of a machine that may be taken away."""
    preemptions: Annotated[float, Field(ge=0, le=10)] = 0.05
    """How often a spot machine is taken away in an hour (assumption: no cloud publishes it)."""
    notice: bool = True
    """Whether trials hear of it before and save (AWS: two minutes; Google: 30 seconds); without, they do half of what
    lies between two checkpoints again."""
    source: str
    """Where the numbers come from, with a date, or 'assumption'."""


class Prices(Section):
    """By kind of device; dollars are shown for kinds that have a price."""

    gpu: Price | None = Price(
        on_demand=6.9,
        spot=2.76,
        source="assumption: an eighth of an AWS p5.48xlarge at 55.04 dollars (published figures range from 31 to 98), "
        "spot at 0.4 of it",
    )
    """Of one GPU of 80 GB."""
    cpu: Price | None = None
    """Of one CPU core."""

    def at(self, on_demand: float | None) -> Prices:
        """With another price of a GPU on demand; a spot GPU keeps its share of it. None changes nothing."""
        if on_demand is None:
            return self
        was = self.gpu or Price(on_demand=1.0, spot=1.0, source="given")
        share = was.spot / was.on_demand if was.on_demand else 1.0
        given = {"on_demand": on_demand, "spot": on_demand * share, "source": "as given, spot at the same share of it"}
        return self.model_copy(update={"gpu": was.model_copy(update=given)})
