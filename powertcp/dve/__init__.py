"""Digital voltage: sample blocks, their synthesis, their exact energy and their readings."""

from powertcp.dve.block import (
    BLOCK_HEADER,
    BLOCK_HEADER_OCTETS,
    SIM,
    block_header,
    block_samples,
    block_samples_for,
    cut_block,
    default_sampling,
    encode_block,
    encode_rows,
    window_samples_for,
)
from powertcp.dve.measure import (
    BlockSums,
    EnergyRegister,
    Window,
    WindowSums,
    integrate,
    integrate_many,
)
from powertcp.dve.meter import BankReadings, MeterBank, Readings
from powertcp.dve.run import RunSums, integrate_run
from powertcp.dve.waveform import Harmonic, Synth, VoltageEvent, sag, spike, step, swell

__all__ = [
    "BLOCK_HEADER",
    "BLOCK_HEADER_OCTETS",
    "SIM",
    "BankReadings",
    "BlockSums",
    "EnergyRegister",
    "Harmonic",
    "MeterBank",
    "Readings",
    "RunSums",
    "Synth",
    "VoltageEvent",
    "Window",
    "WindowSums",
    "block_header",
    "block_samples",
    "block_samples_for",
    "cut_block",
    "default_sampling",
    "encode_block",
    "encode_rows",
    "integrate",
    "integrate_many",
    "integrate_run",
    "sag",
    "spike",
    "step",
    "swell",
    "window_samples_for",
]
