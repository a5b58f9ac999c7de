"""`Emulator`: an embedded AWS on one port, HTTP/2 without TLS (as KCL's client speaks it) and HTTP/1.1 (as boto3 does).

    with Emulator() as emulator:
        emulator.client("kinesis").create_stream(StreamName="orders", ShardCount=2)
        emulator.kinesis.advance(3600)

It runs in a thread of its own, with an event loop of its own, so that a test may use boto3 beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from kcl_receiver.emulator.clients import Boto3
from kcl_receiver.emulator.faults import Faults
from kcl_receiver.emulator.kinesis.service import Kinesis
from kcl_receiver.emulator.persist import Directory, drop_deleted_streams
from kcl_receiver.emulator.signers import Signers
from kcl_receiver.errors import EnvironmentProblem, ReceiverError

if TYPE_CHECKING:
    from kcl_receiver.emulator.moto_services import Others

log = logging.getLogger(__name__)

REGION = "us-east-1"
ACCESS_KEY = "emulator"
SECRET_KEY = "emulator"  # noqa: S105 - a word that stands where credentials must stand
PACKAGES = ("h2", "hypercorn", "moto.moto_server.werkzeug_app")
"""What the extra `emulator` brings."""
START_SECONDS = 60.0
STOP_SECONDS = 2.0
"""How long requests in progress may take at a stop before they are cut off."""

_accounts = itertools.count(1)


class Emulator:
    """An embedded AWS.

    Args:
        port: TCP port, or 0 for a free one.
        directory: Where Kinesis and DynamoDB are kept over a restart (see `persist`), or None to keep nothing.
        host: Address to listen on.
        seed: Decides sequence numbers and switched-on misbehaviour.
        clock: Returns seconds since the epoch. Kinesis and every `Date` header follow it, and `kinesis.advance` moves
            them ahead of it; moto, in what it answers, follows the machine's clock.

    Attributes:
        kinesis: The Kinesis model with its clock: `advance`, `configure`, `trim`, `shards`.
        faults: Misbehaviour of whole services: `set_down`, `set_hang`, `fail`, `clear`.
        signers: Which access key signed which operations: `counts`, `keys`, `clear`.
        account: Account that owns everything; kept with the directory.
        region: Always us-east-1.

    Raises:
        EnvironmentProblem: The extra `emulator` is not installed, the port is taken, or another emulator runs on the
            directory. Raised by `start`.
    """

    def __init__(
        self,
        port: int = 0,
        directory: str | Path | None = None,
        *,
        host: str = "127.0.0.1",
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._wanted_port = port
        self._host = host
        self._seed = seed
        self._clock = clock
        self._path = None if directory is None else Path(directory)
        self._directory: Directory | None = None
        self.region = REGION
        self.account = ""
        self.faults = Faults()
        self.signers = Signers()
        self.kinesis = Kinesis(seed=seed, clock=clock)
        self.port = 0
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._others: Others | None = None

    @property
    def url(self) -> str:
        """The endpoint for every service: `http://127.0.0.1:PORT`."""
        return f"http://{self._host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which AWS clients, and KCL's java, reach this emulator."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
        }

    def client(self, service: str, **options: object) -> Boto3:
        """Return a boto3 client for this emulator; `options` go to boto3."""
        import boto3  # noqa: PLC0415 - slow to load, and not needed to serve

        session = boto3.session.Session(
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name=self.region
        )
        return session.client(service, endpoint_url=self.url, **options)

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and return once it answers. After `stop` it can be started again, on the same port."""
        if self._thread is not None:
            raise RuntimeError("this emulator runs already")
        _require_packages()
        listener = self._listen()
        try:
            self._open_state()
        except BaseException:
            listener.close()
            self._close_state()
            raise
        self._ready.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, args=(listener,), name="emulator", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_SECONDS) or self._failure is not None:
            failure = self._failure
            self.stop()
            if isinstance(failure, ReceiverError):
                raise failure
            raise EnvironmentProblem(f"the emulator did not start: {failure!r}", "see its log") from failure

    def stop(self) -> None:
        """Stop it: requests in progress may end, then the port is free again."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None and thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it ends by itself, and its loop is closed already
                loop.call_soon_threadsafe(stopping.set)
        thread.join()
        self._close_state()

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = self.port or self._wanted_port
        try:
            listener.bind((self._host, port))
        except (OSError, TypeError, ValueError) as error:  # the latter two: a host that is no name
            listener.close()
            raise EnvironmentProblem(
                f"the emulator cannot listen on {self._host}:{port}: {error}",
                "name another port with --port; 0 takes one that is free",
            ) from error
        self.port = int(listener.getsockname()[1])
        return listener

    def _open_state(self) -> None:
        if self._path is None:
            self.account = self.account or f"{next(_accounts):012d}"
            self.kinesis = Kinesis(self.account, self.region, self._seed, clock=self._clock)
            return
        self._directory = Directory(self._path, f"{secrets.randbelow(9 * 10**11) + 10**11}", self.region)
        self.account = self._directory.account
        journal = self._directory.kinesis
        self.kinesis = Kinesis(self.account, self.region, self._seed, journal.append, self._clock)
        drop_deleted_streams(journal)
        for event in journal.replay():
            self.kinesis.replay(event)

    def _close_state(self) -> None:
        if self._others is not None:
            self._others.forget()
            self._others = None
        if self._directory is not None:
            self._directory.close()
            self._directory = None

    def _run(self, listener: socket.socket) -> None:
        try:
            asyncio.run(self._serve(listener))
        except BaseException as error:
            self._failure = error
            log.exception("the emulator ended")
        finally:
            listener.close()
            self._ready.set()

    async def _serve(self, listener: socket.socket) -> None:
        from hypercorn.asyncio import serve  # noqa: PLC0415 - the extra may be missing
        from hypercorn.config import Config  # noqa: PLC0415 - the extra may be missing

        from kcl_receiver.emulator.application import Application  # noqa: PLC0415 - the extra may be missing

        loop = self._loop = asyncio.get_running_loop()
        loop.set_exception_handler(_loop_error)
        stopping = self._stopping = asyncio.Event()
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="emulator-moto")
        # Before the first request, not during it: loading moto takes a second, and replay as long as it takes.
        self._others = await loop.run_in_executor(executor, self._make_others)
        directory = None if self._path is None else str(self._path)
        about = {"account": self.account, "region": self.region, "directory": directory}
        application = Application(self.kinesis, self._moto, executor, self.faults, self.signers, about)

        def faults_changed() -> None:
            loop.call_soon_threadsafe(application.faults_changed)

        self.faults.on_change = faults_changed
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.errorlog = None
        config.accesslog = None
        config.include_server_header = False
        config.include_date_header = False  # the application's own is that of the model's clock
        config.keep_alive_timeout = 600
        config.keep_alive_max_requests = 10**9
        config.graceful_timeout = STOP_SECONDS / 2
        config.backlog = 512

        async def until_stopped() -> None:
            self._ready.set()
            await stopping.wait()
            self.faults.on_change = lambda: None
            application.stop()

        server = asyncio.ensure_future(serve(cast(Any, application), config, shutdown_trigger=until_stopped))
        stopped = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({server, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        # From Python 3.12 on a server waits for idle connections of its clients as well: not for ever.
        _, late = await asyncio.wait({server}, timeout=STOP_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(server, return_exceptions=bool(late))
        await loop.run_in_executor(None, executor.shutdown)

    def _make_others(self) -> Others:
        from kcl_receiver.emulator.moto_services import Others  # noqa: PLC0415 - the extra may be missing

        return Others(self.account, self.region, None if self._directory is None else self._directory.dynamodb)

    def _moto(self) -> Others:
        if self._others is None:
            raise RuntimeError("the emulator is stopping")
        return self._others


def _loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what went wrong in the loop, but for connections that were cut off by a stop: that is what a stop does."""
    if not isinstance(context.get("exception"), asyncio.CancelledError):
        loop.default_exception_handler(context)


def _require_packages() -> None:
    try:
        for name in PACKAGES:
            importlib.import_module(name)
    except ImportError as error:
        raise EnvironmentProblem(
            f"the embedded AWS needs a package that is not installed: {error.name or error}",
            "pip install 'kcl-receiver[emulator]'",
        ) from error
