"""Room for large messages is given in the order it was asked for, and never more than there is."""

import asyncio
import random
from contextlib import suppress

import pytest

from mailserver.smtp.room import Room


class Crowd:
    """Tasks that hold room and count how much of it is held."""

    def __init__(self, octets: int) -> None:
        self.room = Room(octets)
        self.held = self.peak = 0
        self.order: list[int] = []

    async def hold(self, number: int, octets: int, rounds: int = 3) -> None:
        async with self.room.hold(octets):
            self.order.append(number)
            self.held += octets
            self.peak = max(self.peak, self.held)
            for _ in range(rounds):
                await asyncio.sleep(0)
            self.held -= octets


@pytest.mark.parametrize(("octets", "peak"), [(10, 100), (50, 100), (51, 51), (100, 100)])
async def test_no_more_is_held_than_there_is(octets, peak):
    crowd = Crowd(100)
    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(crowd.hold(number, octets))

    assert crowd.peak == peak
    assert crowd.order == list(range(30))


async def test_a_message_larger_than_all_is_alone():
    crowd = Crowd(100)
    async with asyncio.TaskGroup() as group:
        for number, octets in enumerate((40, 1000, 40)):
            group.create_task(crowd.hold(number, octets))

    assert crowd.peak == 1000
    assert crowd.order == [0, 1, 2]


async def test_a_small_one_does_not_pass_a_large_one_that_waits():
    crowd = Crowd(100)
    async with asyncio.TaskGroup() as group:
        for number, octets in enumerate((60, 60, 10)):
            group.create_task(crowd.hold(number, octets))

    assert crowd.order == [0, 1, 2]


async def test_who_goes_while_waiting_or_holding_leaves_the_room_as_it_was():
    chance = random.Random(7)
    for _ in range(50):
        crowd = Crowd(100)
        tasks = [
            asyncio.create_task(crowd.hold(number, chance.randint(1, 120), 2))
            for number in range(20)
        ]
        for _ in range(chance.randint(0, 12)):
            await asyncio.sleep(0)
        for task in chance.sample(tasks, 9):
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

        assert crowd.room._free == 100
        assert not crowd.room._waiting


async def test_an_error_gives_the_room_back():
    room = Room(10)
    with pytest.raises(OSError, match="full"):
        async with room.hold(10):
            raise OSError("full")

    async with asyncio.timeout(1), room.hold(10):
        pass
