"""Asking a server for one tile, politely.

Requests are spaced evenly, and every answer has a time in which it must be whole. What may pass (403, 429,
5xx, no answer, a picture cut off) is asked again, each time later; what a server asks to wait, all wait.
No address with its keys filled in leaves this module.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import httpx

from roadrisk.imagery.manners import MOVED, Manners, NotTaken, asked_wait_s, body_of, is_web, named_status
from roadrisk.imagery.tiles.addresses import with_keys
from roadrisk.imagery.tiles.encoded import NotPicture, whole_picture
from roadrisk.imagery.tiles.tile_cache import Answer

NO_PICTURE = (204, 404, 410)
PASSING = (403, 408, 425, 429)


@dataclass(frozen=True)
class Wanted:
    """A tile to ask for.

    Parameters
    ----------
    address : with its keys masked.
    """

    x: int
    y: int
    address: str


@dataclass(frozen=True)
class Failure:
    """Why there is no answer.

    Parameters
    ----------
    passing : whether asking again may help.
    wait_s : as the server asks; 0 where it does not.
    """

    reason: str
    passing: bool
    wait_s: float = 0.0


class Pace:
    """Evenly spaced turns for all connections, held up while the server asks to wait."""

    def __init__(self, rate_per_s: float) -> None:
        self.step_s = 1.0 / rate_per_s
        self.next_s = 0.0

    async def turn(self) -> None:
        while (wait_s := self.next_s - self._now()) > 0:
            await asyncio.sleep(wait_s)
        self.next_s = self._now() + self.step_s

    def hold(self, wait_s: float) -> None:
        self.next_s = max(self.next_s, self._now() + wait_s)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


@dataclass(frozen=True)
class Asking:
    """How tiles are asked for.

    Parameters
    ----------
    said : told what the server asks for.
    """

    client: httpx.AsyncClient
    tile_px: int
    manners: Manners
    pace: Pace
    said: Callable[[str], None]

    async def answer(self, tile: Wanted) -> Answer | Failure:
        """The answer for a tile, after as many tries as it takes."""
        for number in range(1, self.manners.tries + 1):
            await self.pace.turn()
            outcome = await self._once(tile)
            if isinstance(outcome, Answer) or not outcome.passing or number == self.manners.tries:
                break
            if outcome.wait_s:
                self._wait(outcome.wait_s)
            await asyncio.sleep(self.manners.backoff_s * 2 ** (number - 1) * random.uniform(0.5, 1.0))
        return outcome

    def _wait(self, wait_s: float) -> None:
        most = self.manners.wait_at_most_s
        self.pace.hold(min(wait_s, most))
        waited = f", and {most:.0f} s are waited" if wait_s > most else ""
        self.said(f"the server asks to wait {wait_s:.0f} s{waited}")

    async def _once(self, tile: Wanted) -> Answer | Failure:
        asked = with_keys(tile.address)
        try:
            address = httpx.URL(asked)
            async with asyncio.timeout(self.manners.answer_s):
                for _ in range(self.manners.redirects + 1):
                    if not is_web(address):
                        return Failure("no web address", passing=False)
                    async with self.client.stream("GET", address) as response:
                        if response.status_code not in MOVED:
                            return await self._read(tile, response)
                        address = address.join(response.headers.get("location", ""))
                return Failure("redirected again and again", passing=False)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return Failure("no connection", passing=True)
        except (TimeoutError, httpx.TimeoutException):
            return Failure(f"no whole answer within {self.manners.answer_s:g} s", passing=True)
        except httpx.TransportError:
            return Failure("the connection broke off", passing=True)
        except httpx.RequestError:
            return Failure("an answer that is no HTTP", passing=False)
        except (httpx.InvalidURL, UnicodeError):
            return Failure("no web address", passing=False)

    async def _read(self, tile: Wanted, response: httpx.Response) -> Answer | Failure:
        status = response.status_code
        if status in NO_PICTURE:
            return Answer(tile.x, tile.y, status)
        if status != HTTPStatus.OK:
            passing = status in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR
            return Failure(
                named_status(status), passing, asked_wait_s(response.headers.get("retry-after", ""))
            )
        try:
            body = await body_of(response, self.manners)
            picture = await asyncio.to_thread(whole_picture, body, self.tile_px)
        except (NotTaken, NotPicture) as reason:
            return Failure(str(reason), passing=True)
        return Answer(tile.x, tile.y, status, picture.body, picture.form, response.headers.get("etag", ""))
