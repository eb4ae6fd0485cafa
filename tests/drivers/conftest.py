"""Async tests of this folder run under trio."""

from pytest_trio.enable_trio_mode import *  # noqa: F403
