"""Paths that go at the worst moment: providers that hang up, loads that end meanwhile."""

import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
import trio

from powertcp.drivers import path, quest
from powertcp.drivers.consumer import Consumer, Wishes
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import connect, parse_address
from powertcp.drivers.guide import Named, Place
from powertcp.dve import encode_block
from powertcp.loads import SupplyChannel
from powertcp.potcp import ConnectionConfig, PowerConnection
from powertcp.potcp.events import Ask, PowerAccepted, PowerRequested
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import data_header
from tests.drivers.test_consumer import Said, consumer, providing

Answer = Callable[[trio.SocketStream], Awaitable[None]]
MANY = 12


@asynccontextmanager
async def answering(answer: Answer, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Do `answer` on each connection to `address`, then close it; yields the address."""
    host, port = parse_address(address)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(_serve, answer, host, port)
        yield "{}:{}".format(*listeners[0].socket.getsockname())
        nursery.cancel_scope.cancel()


async def _serve(
    answer: Answer, host: str, port: int, *, task_status: trio.TaskStatus[list[trio.SocketListener]]
) -> None:
    async def close_after(stream: trio.SocketStream) -> None:
        async with stream:
            await answer(stream)

    await trio.serve_tcp(close_after, port, host=host, task_status=task_status)


async def read_once(stream: trio.SocketStream) -> None:
    assert await stream.receive_some()


async def reset_at_once(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.lowlevel.checkpoint()


async def test_a_provider_that_hangs_up_on_every_syn_is_exit_3() -> None:
    said = Said()
    async with answering(read_once) as address:
        with trio.fail_after(20):
            assert await consumer(address, said, "12V/1A", "5V/1A", mux=True).run() == 3
    assert said.names().count("disconnected") == 2 * quest.LOSSES
    assert said.names().count("lost") == 2


async def test_a_provider_that_resets_every_path_at_once_is_exit_3(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def connect_and_wait(host: str, port: int) -> socket.socket:
        sock = await connect(host, port)
        # the reset is there before the SYN leaves
        await trio.lowlevel.wait_readable(sock)
        return sock

    monkeypatch.setattr(path, "connect", connect_and_wait)
    async with answering(reset_at_once) as address:
        statuses: list[int] = []

        async def run() -> None:
            statuses.append(await consumer(address, Said(), "12V/1A").run())

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(MANY):
                    nursery.start_soon(run)
    assert statuses == [3] * MANY


async def test_a_lost_provider_behind_a_door_that_opens_and_shuts_is_given_up() -> None:
    said = Said()
    async with trio.open_nursery() as nursery:
        async with providing("12V/5A") as (_, address):
            sink = consumer(address, said, "12V/1A,lease=5s", give_up_ns=2 * NS_PER_S)
            statuses: list[int] = []

            async def run() -> None:
                statuses.append(await sink.run())

            nursery.start_soon(run)
            await said.until_powered()
        async with answering(read_once, address):
            with trio.fail_after(20):
                await said.until("done")
    assert statuses == [3]
    # it waits longer from time to time
    assert said.names().count("disconnected") <= 6


@pytest.mark.requirement("PTCP-4-07")
async def test_after_a_cut_a_path_is_made_when_the_next_syn_is_due() -> None:
    times: list[int] = []

    async def refuse(stream: trio.SocketStream) -> None:
        times.append(now_ns())
        machine = PowerConnection(client=False, config=ConnectionConfig(), entropy=os.urandom)
        machine.receive_data(await stream.receive_some(), now_ns())
        later = Refusal(Reason.BUDGET, 12_000, 0, retry_ms=1_500)
        machine.refuse(1, later, now=now_ns())
        await stream.send_all(machine.data_to_send())

    async with answering(refuse) as address, trio.open_nursery() as nursery:
        said = Said()
        sink = consumer(address, said, "12V/1A")
        nursery.start_soon(sink.run)
        with trio.fail_after(20):
            await said.until("refused", 2)
        sink.abort()
    assert len(times) == 2
    assert times[1] - times[0] > NS_PER_S


class Brief:
    """A load that ends by itself as soon as the flow trips."""

    name = "brief"
    wants_samples = False

    def __init__(self, said: Said) -> None:
        self._said = said

    async def run(self, supply: SupplyChannel) -> int:
        await self._said.until("tripped")
        return 7


@pytest.mark.requirement("PTCP-8-02")
async def test_a_load_that_ends_after_a_trip_ends_with_its_own_status() -> None:
    async def overvolt(stream: trio.SocketStream) -> None:
        """Grant what is asked, send a block of 10 kV, and read on without a word."""
        machine = PowerConnection(client=False, config=ConnectionConfig(), entropy=os.urandom)
        machine.start(now_ns())
        is_ready = False
        async for octets in stream:
            if is_ready:
                continue
            machine.receive_data(octets, now_ns())
            for event in machine.take_events():
                match event:
                    case PowerRequested(flow=flow, asks=asks):
                        machine.grant(flow, asks[0].desired, now=now_ns())
                    case PowerAccepted(flow=flow):
                        machine.ready(flow, now=now_ns())
                        is_ready = True
            await stream.send_all(machine.data_to_send())
            if is_ready:
                block = encode_block(0, np.array([[10_000_000, 1_000_000]]))
                await stream.send_all(data_header(1, 0, len(block), ece=False) + block)

    said = Said()
    async with answering(overvolt) as address:
        host, port = parse_address(address)
        config = ConnectionConfig(drain_ns=NS_PER_S)
        wishes = Wishes(
            guide=Named(Place(host=host, port=port)),
            asks=[Ask(PowerProfile.parse("12V/1A"))],
            connection=config,
        )
        with trio.fail_after(20):
            assert await Consumer(wishes, [Brief(said)], said).run() == 7
    assert "closed" in said.names()
