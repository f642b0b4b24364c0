"""A TCP forwarder on loopback whose link can be cut (connections break) or held (nothing arrives, for now)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

__all__ = ["Links", "Proxy"]


class Links:
    """The event loop that all proxies of a run share, in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="links", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


class Proxy:
    """Forwards one port of its own to another."""

    def __init__(self, links: Links, target: int) -> None:
        self._links = links
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._cut = False
        self._server: asyncio.Server = links.run(self._start())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        self._links.run(self._set(cut=True))

    def hold(self) -> None:
        """Deliver nothing for now; what was sent meanwhile arrives later."""
        self._links.run(self._set(flows=False))

    def mend(self) -> None:
        self._links.run(self._set(cut=False, flows=True))

    def close(self) -> None:
        self._links.run(self._close())

    async def _start(self) -> asyncio.Server:
        self._flows.set()
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _set(self, cut: bool | None = None, flows: bool | None = None) -> None:
        if cut is not None:
            self._cut = cut
        if cut:
            self._break()
        if flows is True:
            self._flows.set()
        elif flows is False:
            self._flows.clear()

    def _break(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _close(self) -> None:
        self._server.close()
        self._break()
        self._flows.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._writers.add(sink)
            task = asyncio.create_task(self._forward(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while data := await source.read(65536):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        self._writers.discard(sink)
        sink.close()
