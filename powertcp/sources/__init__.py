"""What a provider has to give: supplies, the breaker that shares them, the samples they make."""

from powertcp.sources.breaker import Breaker
from powertcp.sources.explain import Explanation, Explanations
from powertcp.sources.generator import Generator, Tick
from powertcp.sources.holding import Admission, Change, Holding, held_mw
from powertcp.sources.lending import InfrastructureTerms, LendTerms
from powertcp.sources.reservoir import Drawn, Reservoir, ReservoirTerms, Split
from powertcp.sources.source import Disturbance, Source, Supply, make_source, parse_supply

__all__ = [
    "Admission",
    "Breaker",
    "Change",
    "Disturbance",
    "Drawn",
    "Explanation",
    "Explanations",
    "Generator",
    "Holding",
    "InfrastructureTerms",
    "LendTerms",
    "Reservoir",
    "ReservoirTerms",
    "Source",
    "Split",
    "Supply",
    "Tick",
    "held_mw",
    "make_source",
    "parse_supply",
]
