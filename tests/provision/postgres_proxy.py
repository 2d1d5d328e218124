"""Proxy between a journal and a PostgreSQL server, which loses connections at chosen moments."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import attrs


@attrs.define(eq=False)
class Proxy:
    """Forwards connections to a server on a Unix socket.

    - `lose_responses`: number of the next responses to statements that are lost, with their connections.
    - `silent`: nothing is forwarded to the client, and its connection stays open until it opens another one.
    """

    socket: str
    port: int = 0
    lose_responses: int = 0
    silent: bool = False
    connections: int = 0
    _clients: set[asyncio.StreamWriter] = attrs.field(factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side closes it."""
        self.connections += 1
        if self.silent:
            for client in (*self._clients, writer):
                client.close()
            return
        self._clients.add(writer)
        try:
            upstream, downstream = await asyncio.open_unix_connection(self.socket)
        except OSError:
            writer.close()
            return
        requests = asyncio.create_task(self._forward_requests(reader, downstream))
        try:
            while data := await upstream.read(1 << 20):
                if self.silent:
                    continue
                # "Z" ends every response; "I" is the state outside of a transaction, so it is committed.
                if self.lose_responses and data.endswith(b"Z\0\0\0\5I"):
                    self.lose_responses -= 1
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._clients.discard(writer)
            requests.cancel()
            writer.close()
            downstream.close()

    @staticmethod
    async def _forward_requests(reader: asyncio.StreamReader, downstream: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                downstream.write(data)
                await downstream.drain()
            downstream.close()


@contextlib.asynccontextmanager
async def proxy_to(server) -> AsyncIterator[Proxy]:
    """Run a proxy to a server of `postgres_server`, on a port of this machine."""
    proxy = Proxy(f"{server.folder}/.s.PGSQL.{server.port}")
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
