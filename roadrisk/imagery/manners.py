"""Manners: how servers are treated, whatever is asked of them."""

from __future__ import annotations

import asyncio
import logging
import os
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeVar

import httpx

from roadrisk import __version__
from roadrisk.errors import SourceError

CONTACT = "ROADRISK_CONTACT"
MOVED = (301, 302, 303, 307, 308)
T = TypeVar("T")


class NotTaken(Exception):  # noqa: N818
    """Why the bytes of an answer are not taken."""


@dataclass(frozen=True)
class Manners:
    """How a server is treated.

    Parameters
    ----------
    connections, rate_per_s : requests at a time and a second, at most.
    answer_s : in which one answer must be whole, from the look-up of its host's name to the last byte.
    connect_s : of those, until there is a connection.
    tries : of a tile.
    tries_at_first : of a tile while the server has answered for none.
    backoff_s : before the second try, doubled for each later one; half of it is up to chance.
    wait_at_most_s : of what a server asks to wait.
    bytes_at_most : of an answer, unpacked.
    redirects : that are followed.
    alike_at_most : tiles that fail in one way before the server has answered for any, then the rest is not
        asked for.
    failures_at_most : of tiles in all, then the rest is not asked for.
    """

    connections: int = 4
    rate_per_s: float = 10.0
    answer_s: float = 60.0
    connect_s: float = 4.0
    tries: int = 5
    tries_at_first: int = 3
    backoff_s: float = 1.0
    wait_at_most_s: float = 120.0
    bytes_at_most: int = 20 << 20
    redirects: int = 3
    alike_at_most: int = 4
    failures_at_most: int = 200


POLITE = Manners()


def user_agent() -> str:
    """Who asks: this library, and `ROADRISK_CONTACT` so that a server's owner can write before blocking.

    Raises
    ------
    SourceError : a contact that no header can carry.
    """
    contact = os.environ.get(CONTACT) or "roadway-risk maps; no contact given"
    if not (contact.isascii() and contact.isprintable()):
        raise SourceError(
            f"{CONTACT} has characters that a request cannot carry; use an e-mail or web address"
        )
    return f"roadrisk/{__version__} (+{contact})"


def asked_wait_s(header: str) -> float:
    """What `Retry-After` says, in seconds or as a date (RFC 9110, 10.2.3); 0 where it says nothing."""
    if header.strip().isdecimal():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
        wait = until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, wait.total_seconds())


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep httpx from logging each request, with the keys in its address."""

    def nothing(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("httpx")
    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)


def in_own_loop(work: Callable[[], Coroutine[None, None, T]]) -> T:
    """The result of `work` in an event loop of its own thread, since a notebook's thread has a loop."""
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []
    stopped = False

    async def watched() -> T:
        task = asyncio.get_running_loop().create_task(work())
        running.append((asyncio.get_running_loop(), task))
        if stopped:
            task.cancel()
        return await task

    with ThreadPoolExecutor(1) as pool:
        try:
            return pool.submit(asyncio.run, watched()).result()
        except BaseException:
            # the user's interrupt comes to this thread, and the loop knows nothing of it
            stopped = True
            for loop, task in running:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(task.cancel)
            raise


@asynccontextmanager
async def client_of(manners: Manners) -> AsyncIterator[httpx.AsyncClient]:
    """What asks, with our name on it, at most so many times at once."""
    headers = {"User-Agent": user_agent(), "Accept": "image/*", "Accept-Encoding": "identity"}
    limits = httpx.Limits(max_connections=manners.connections)
    # the time of an answer is kept for all of it, which httpx does only for each read
    time_s = httpx.Timeout(None, connect=manners.connect_s)
    with unlogged():
        async with httpx.AsyncClient(headers=headers, limits=limits, timeout=time_s) as client:
            yield client


def is_web(address: httpx.URL) -> bool:
    """Whether an address can be asked: http or https, and a host and a port that may be.

    >>> [is_web(httpx.URL(text)) for text in ("https://[::1]:443/", "ftp://a.example", "http://a:99999")]
    [True, False, False]
    """
    # half a bracket is escaped by httpx, as by no name of a host
    may_be = not address.host.startswith("%") and (address.port or 0) < 1 << 16
    return address.scheme in ("http", "https") and may_be


async def body_of(response: httpx.Response, manners: Manners) -> bytes:
    """The bytes of an answer, unpacked where a server packs them though it is asked not to.

    Raises
    ------
    NotTaken : too many, packed in another way than gzip, or damaged.
    """
    # httpx would unpack them layer by layer without a bound
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("", "identity", "gzip", "x-gzip"):
        raise NotTaken(f"an answer packed as {packing[:40]!r}")
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if "gzip" in packing else None
    most, body, received = manners.bytes_at_most, bytearray(), 0
    async for piece in response.aiter_raw():
        received += len(piece)
        try:
            body += unpacking.decompress(piece, most + 1 - len(body)) if unpacking else piece
        except zlib.error:
            raise NotTaken("an answer of damaged gzip") from None
        if max(len(body), received) > most:
            raise NotTaken(f"an answer of more than {most:,} bytes")
    # to a HEAD there is a packing and no body
    if unpacking and received and not unpacking.eof:
        raise NotTaken("an answer of damaged gzip")
    return bytes(body)


def named_status(status: int) -> str:
    """A status as people know it.

    >>> named_status(404)
    '404 Not Found'
    """
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
