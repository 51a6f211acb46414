"""Fetching: few answers of a server that are no tiles, as politely as tiles are asked for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx

from roadrisk.errors import SourceError
from roadrisk.imagery.manners import (
    MOVED,
    POLITE,
    Manners,
    NotTaken,
    asked_wait_s,
    body_of,
    client_of,
    in_own_loop,
    is_web,
    named_status,
)
from roadrisk.imagery.names import public_name

PASSING = (408, 425, 429)


@dataclass(frozen=True)
class Ask:
    """What is asked of a server."""

    address: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Fetched:
    """A whole answer.

    Parameters
    ----------
    headers : by name in small letters.
    address : where it was found, after redirects.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    address: str


def fetched(asks: Sequence[Ask], manners: Manners = POLITE) -> list[Fetched]:
    """The answer to each ask, in order.

    What may pass (429, 5xx, no answer, an answer cut off) is asked again, each time later; every other
    status is an answer.

    Raises
    ------
    SourceError : no whole answer after all tries, or redirects that lead nowhere.
    """
    return in_own_loop(lambda: _all_fetched(asks, manners))


@dataclass(frozen=True)
class _Failure:
    reason: str
    passing: bool = True
    wait_s: float = 0.0


async def _all_fetched(asks: Sequence[Ask], manners: Manners) -> list[Fetched]:
    at_once = asyncio.Semaphore(manners.connections)
    async with client_of(manners) as client:

        async def one(ask: Ask) -> Fetched:
            async with at_once:
                return await _fetched(client, ask, manners)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(ask)) for ask in asks]
        except* SourceError as errors:
            raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _fetched(client: httpx.AsyncClient, ask: Ask, manners: Manners) -> Fetched:
    failure = _Failure("not asked", passing=False)
    for number in range(manners.tries):
        outcome = await _once(client, ask, manners)
        if isinstance(outcome, Fetched):
            return outcome
        failure = outcome
        if not failure.passing or number + 1 == manners.tries:
            break
        backoff_s = manners.backoff_s * 2**number * random.uniform(0.5, 1.0)
        await asyncio.sleep(max(backoff_s, min(failure.wait_s, manners.wait_at_most_s)))
    raise SourceError(
        f"{public_name(ask.address)} could not be fetched ({failure.reason}); check the address, or try "
        "again later"
    )


async def _once(client: httpx.AsyncClient, ask: Ask, manners: Manners) -> Fetched | _Failure:
    try:
        address = httpx.URL(ask.address)
        async with asyncio.timeout(manners.answer_s):
            for _ in range(manners.redirects + 1):
                if not is_web(address):
                    return _Failure("no web address", passing=False)
                headers = {"Accept": "*/*", **ask.headers}
                async with client.stream(ask.method, address, headers=headers, content=ask.body) as response:
                    if response.status_code not in MOVED:
                        return await _read(response, manners)
                    address = address.join(response.headers.get("location", ""))
            return _Failure("redirected again and again", passing=False)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return _Failure("no connection")
    except (TimeoutError, httpx.TimeoutException):
        return _Failure(f"no whole answer within {manners.answer_s:g} s")
    except httpx.TransportError:
        return _Failure("the connection broke off")
    except httpx.RequestError:
        return _Failure("an answer that is no HTTP", passing=False)
    except (httpx.InvalidURL, UnicodeError):
        return _Failure("no web address", passing=False)


async def _read(response: httpx.Response, manners: Manners) -> Fetched | _Failure:
    status = response.status_code
    if status in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _Failure(named_status(status), wait_s=asked_wait_s(response.headers.get("retry-after", "")))
    try:
        body = await body_of(response, manners)
    except NotTaken as reason:
        return _Failure(str(reason), passing=False)
    return Fetched(status, dict(response.headers), body, str(response.url))
