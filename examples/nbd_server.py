"""Serve the images of a pool, and their snapshots, to NBD clients.

    python examples/nbd_server.py --pool rbd                       # nbd://localhost/IMAGE, nbd://localhost/IMAGE@SNAPSHOT
    python examples/nbd_server.py --pool rbd --socket /run/rbd.sock --read-only

All connections to an image share one open image, with its cache and its exclusive lock. So a client may use several
connections at once, and a flush on one of them makes the writes of all of them durable.

Clients see the ranges with data as ``base:allocation``, and the ranges that changed since a snapshot as
``qemu:dirty-bitmap:SNAPSHOT``.

SIGINT and SIGTERM end the program: it finishes the requests that it has received, flushes and closes the images. If the
cluster does not answer, the program ends after ``--stop-timeout`` seconds.

Exit codes: 0 success, 1 an error, or the last writes may be lost, 2 wrong usage.
"""

import argparse
import logging
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import TaskGroup
from nbd_handshake import Exports, negotiated
from nbd_requests import Connection
from nbd_wire import ProtocolError

import aiorbd

logger = logging.getLogger("nbd_server")


class Server:
    """The images of a pool, and the connections to them."""

    def __init__(
        self,
        shared: aiorbd.SharedConnection,
        cluster: aiorbd.Cluster,
        pool: str,
        namespace: str,
        *,
        read_only: bool,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._shared = shared
        self._cluster = cluster
        self._pool = pool
        self._namespace = namespace
        self._read_only = read_only
        self._exports = Exports(self._open, self._names, tls, self._lost)
        #: The connections; None during the handshake.
        self._connections: dict[socket.socket, Connection | None] = {}
        #: Whether the last writes to an image may be lost.
        self.failed = False
        #: Set when the server has to end.
        self.ending = anyio.Event()

    @asynccontextmanager
    async def _open(self, export: str) -> AsyncIterator[aiorbd.Image]:
        name, at, snapshot = export.partition("@")
        read_only = self._read_only or bool(at)
        async with self._shared.open_image(
            self._pool, name, namespace=self._namespace, snapshot=snapshot if at else None, read_only=read_only
        ) as image:
            if self._cluster.blocklisted:
                self._lost()
                raise ProtocolError("the cluster has blocklisted this server")
            yield image

    def _lost(self) -> None:
        """End the server, because writes may be lost. On a new image, a flush would succeed without them."""
        if not self.ending.is_set():
            logger.error("the cluster has blocklisted this server: writes that were not flushed may be lost")
        self.failed = True
        self.ending.set()

    async def _names(self) -> list[str]:
        found: list[str] = []
        limiter = anyio.CapacityLimiter(8)

        async def look(ioctx: aiorbd.IoCtx, name: str) -> None:
            async with limiter:
                with suppress(aiorbd.Error):  # for example, it was removed in the meantime
                    async with ioctx.open_image(name, read_only=True) as image:
                        found.extend([name, *(f"{name}@{one.name}" for one in await image.snapshots())])

        async with self._shared.open_ioctx(self._pool, self._namespace) as ioctx, anyio.create_task_group() as tasks:
            for spec in await ioctx.images():
                if not spec.removing:
                    tasks.start_soon(look, ioctx, spec.name)
        return sorted(found)

    async def accept(self, listener: socket.socket, limiter: anyio.CapacityLimiter, tasks: TaskGroup) -> None:
        """Serve each client that connects, in a task of its own. At the limit, clients wait."""
        while True:
            await limiter.acquire_on_behalf_of(token := object())
            while (connected := await self._accepted(listener)) is None:
                pass
            if connected.family != socket.AF_UNIX:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # finds clients without power
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
            tasks.start_soon(self._serve, connected, partial(limiter.release_on_behalf_of, token))

    async def _accepted(self, listener: socket.socket) -> socket.socket | None:
        await anyio.wait_readable(listener)
        try:
            return listener.accept()[0]
        except BlockingIOError:
            return None
        except OSError as error:  # for example too many open files
            logger.warning("cannot accept a connection: %s", error)
            await anyio.sleep(0.1)
            return None

    async def _serve(self, connected: socket.socket, release: Callable[[], None]) -> None:
        self._connections[connected] = connection = None
        try:
            with connected:
                async with negotiated(self._exports, connected) as choice:
                    if choice is not None:
                        logger.info("%r: a client connects", choice.image)
                        self._connections[connected] = connection = Connection(choice)
                        await connection.serve()
        except anyio.get_cancelled_exc_class():  # the end did not wait for the requests, or for the flush
            if connection is not None and (connection.abandoned or connection.dirty):
                logger.error("%r: the last writes may be lost", connection)  # noqa: TRY400 - a cancellation is no news
                self.failed = True
            raise
        except aiorbd.Error as error:  # for example from the flush at the end
            logger.error("a connection ends: %s", error)  # noqa: TRY400 - the error says it all
            self.failed = True
        except (EOFError, OSError, ProtocolError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            logger.warning("a connection ends: %s", str(error) or type(error).__name__)
        except Exception:  # the other clients go on
            logger.exception("a connection ends")
            self.failed = True
        finally:
            del self._connections[connected]
            release()

    def stop(self) -> None:
        """Receive no more requests."""
        for connected, connection in self._connections.items():
            if connection is not None:
                connection.ended = True
            with suppress(OSError):  # the client may be gone already
                connected.shutdown(socket.SHUT_RD)  # ends the wait for a request


def tls_context(certificate: Path | None, key: Path | None, authority: Path | None) -> ssl.SSLContext | None:
    """Return what TLS needs, or None without a certificate."""
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    if authority is not None:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def listening(host: str, port: int, path: Path | None) -> Iterator[socket.socket]:
    """Open the listening socket. A path is removed at the end."""
    with ExitStack() as stack:
        if path is None:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = stack.enter_context(socket.create_server(address[:2], family=family, backlog=128))
        else:
            if path.is_socket() and not answers(path):  # a killed server left it
                path.unlink()
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            stack.callback(path.unlink)
            listener.listen(128)
        listener.setblocking(False)
        yield listener


def answers(path: Path) -> bool:
    """Tell whether a server listens at a path."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


async def main(options: argparse.Namespace) -> int:
    """Serve until a signal arrives. Return the exit code."""
    bound = options.stop_timeout / 2  # half for the requests, half to close the images
    tls = tls_context(options.tls_certificate, options.tls_key, options.tls_clients)
    connect = partial(aiorbd.connect, options.conf, close_timeout=bound)
    with listening(options.host, options.port, options.socket) as listener:
        async with aiorbd.SharedConnection(connect, idle_timeout=5) as shared, shared.connect() as cluster:
            async with shared.open_ioctx(options.pool, options.namespace):
                pass  # the pool exists
            place = options.pool, options.namespace
            server = Server(shared, cluster, *place, read_only=options.read_only, tls=tls)
            async with anyio.create_task_group() as clients:
                async with anyio.create_task_group() as accepting:
                    limiter = anyio.CapacityLimiter(options.connections)
                    accepting.start_soon(server.accept, listener, limiter, clients)
                    accepting.start_soon(end_at_signals, server.ending)
                    print("ready:", listener.getsockname(), flush=True)
                    await server.ending.wait()
                    accepting.cancel_scope.cancel()
                server.stop()
                clients.cancel_scope.deadline = anyio.current_time() + bound
    return int(server.failed)


async def end_at_signals(ending: anyio.Event) -> None:
    """Set an event when a signal asks for the end."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            ending.set()


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default=aiorbd.DEFAULT_CONF_FILES)
    parser.add_argument("--pool", default="rbd")
    parser.add_argument("--namespace", default="")
    parser.add_argument("--read-only", action="store_true", help="refuse writes, also to images")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=10809)
    parser.add_argument("--socket", type=Path, help="listen at this path instead of a port")
    parser.add_argument("--connections", type=int, default=32, help="connections at once; other clients wait")
    parser.add_argument("--tls-certificate", type=Path, help="serve with TLS only, with this certificate")
    parser.add_argument("--tls-key", type=Path, help="the key, if it is not in the file of the certificate")
    parser.add_argument("--tls-clients", type=Path, help="the CA that must have signed the clients' certificates")
    parser.add_argument("--stop-timeout", type=float, default=20, help="the longest time to stop, in seconds")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args()
    if (options.tls_clients or options.tls_key) and not options.tls_certificate:
        parser.error("--tls-clients and --tls-key need --tls-certificate: without it, there is no TLS")
    return options


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    chosen = arguments()
    try:
        sys.exit(anyio.run(main, chosen, backend=chosen.backend))
    except (aiorbd.Error, OSError) as error:  # for example a wrong pool, or a port in use
        sys.exit(f"error: {error}")
