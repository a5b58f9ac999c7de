"""The ASGI application: which service a request is for, the faults in its way, and the control endpoint.

Kinesis is answered in the event loop, since each call is a matter of microseconds to a few milliseconds; all else goes
to moto on its own thread. The control endpoint, for tests and curious users:

    GET  /_emulator/health      {"status": "ok", "account": ..., "region": ..., "directory": ...}
    GET  /_emulator/streams     streams, with a look at each shard
    GET  /_emulator/signers     how many requests each access key signed: {service: {operation: {key: count}}}
    GET  /_emulator/faults      the faults that are on
    POST /_emulator/faults      {"down": true | false | "dynamodb" | [...], "hang": ..., "errors": [{"service",
                                "operation", "error", "status", "times", "after"}]}; {} changes nothing
    POST /_emulator/settings    {"empty_pages": 0.3, "iterator_lifetime": 2, "limits": true, "put_failures": 0.1,
                                "transition": 1}
    POST /_emulator/advance     {"seconds": 3600}: moves the clock of Kinesis and of every Date header
    POST /_emulator/trim        {"stream": "...", "shard": "...", "through": "..."}: the last two may be left out
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any
from urllib.parse import parse_qs
from wsgiref.handlers import format_date_time
from xml.sax.saxutils import escape

from kcl_receiver.emulator.faults import Failure, Faults
from kcl_receiver.emulator.kinesis import api
from kcl_receiver.emulator.kinesis.errors import ServiceError
from kcl_receiver.emulator.kinesis.service import Kinesis
from kcl_receiver.emulator.moto_services import HttpRequest, HttpResponse, Others, UnknownService, service_scope
from kcl_receiver.emulator.signers import Signers, access_key

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

CONTROL = "/_emulator/"
_UNSIGNED_STS = ("AssumeRoleWithSAML", "AssumeRoleWithWebIdentity")
"""Operations of STS whose requests bear no signature, and hence no service's name."""
_JSON = "application/x-amz-json-1.1"
_CBOR = "application/x-amz-cbor-1.1"
_NOT_PASSED_ON = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length", "date"})


class Application:
    """One emulator's ASGI application.

    Args:
        kinesis: The model.
        others: Returns moto; called on the executor's thread only.
        executor: One thread, for moto.
        faults: Misbehaviour that is switched on.
        signers: Where the access key of each request is counted.
        about: What /_emulator/health says.
    """

    def __init__(
        self,
        kinesis: Kinesis,
        others: Callable[[], Others],
        executor: Executor,
        faults: Faults,
        signers: Signers,
        about: dict[str, Any],
    ) -> None:
        self._kinesis = kinesis
        self._others = others
        self._executor = executor
        self._faults = faults
        self._signers = signers
        self._about = about
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()
        self._stopping = False

    def stop(self) -> None:
        """Let requests that hang go; call it in the event loop."""
        self._stopping = True
        self.faults_changed()

    def faults_changed(self) -> None:
        """Let waiting requests look at the faults again; call it in the event loop."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or say yes to the server's start and stop."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"the emulator does not speak {scope['type']}")
        body = await _body(receive)
        if body is None:
            return
        request = _request(scope, body)
        try:
            response = await self._answer(request)
        except Exception:
            log.exception("%s %s failed inside the emulator", request.method, request.path)
            error = ServiceError("InternalFailure", "the emulator failed; see its log", 500)
            response = _error(error, name_request(request)[0], request)
        await self._send(response, request.method, send)

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(CONTROL):
            return self._control(request)
        service, operation = name_request(request)
        self._signers.add(service, operation, access_key(request.headers, request.query))
        while self._faults.hangs(service) and not self._stopping:
            await self._changed.wait()
        if self._faults.is_down(service):
            down = ServiceError("ServiceUnavailableException", f"{service} is down (a fault)", 503)
            return _error(down, service, request)
        failure = self._faults.take(service, operation)
        if failure is not None and not failure.after:
            return _failed(failure, service, request)
        response = await self._serve(request, service, operation)
        return response if failure is None else _failed(failure, service, request)

    async def _serve(self, request: HttpRequest, service: str, operation: str) -> HttpResponse:
        if service != "kinesis":
            loop = asyncio.get_running_loop()
            try:
                return await loop.run_in_executor(self._executor, lambda: self._others().call(request))
            except UnknownService as unknown:
                error = ServiceError("UnknownOperationException", f"This emulator has no service {unknown}.")
                return _error(error, service, request)
        in_cbor = _in_cbor(request)
        status, body = self._kinesis.call(operation, request.body, in_cbor)
        return HttpResponse(status, [("content-type", _CBOR if in_cbor else _JSON)], body)

    async def _send(self, response: HttpResponse, method: str, send: Send) -> None:
        headers = [(name.lower(), value) for name, value in response.headers]
        length = next((value for name, value in headers if name == "content-length"), None)
        kept = [(name, value) for name, value in headers if name not in _NOT_PASSED_ON]
        if not any(name == "x-amzn-requestid" for name, _ in kept):
            kept.append(("x-amzn-requestid", f"emulator-{next(self._numbers):012d}"))
        # Never the machine's date: a client may take the service's time from it, and that is the model's.
        kept.append(("date", format_date_time(self._kinesis.now() / 1000)))
        head_length = length if method == "HEAD" and length is not None else str(len(response.body))
        if response.status != 204:
            kept.append(("content-length", head_length))
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept]
        await send({"type": "http.response.start", "status": response.status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})

    def _control(self, request: HttpRequest) -> HttpResponse:
        action = (request.method, request.path.removeprefix(CONTROL).rstrip("/"))
        try:
            raw = json.loads(request.body) if request.body else {}
            if not isinstance(raw, dict):
                raise ValueError("the body must be a JSON object")
            result = self._act(action, raw)
        except (ValueError, KeyError, TypeError) as error:
            return _plain(400, {"error": f"{type(error).__name__}: {error}"})
        except ServiceError as error:
            return _plain(error.status, {"error": str(error)})
        if result is None:
            return _plain(404, {"error": f"no such control: {request.method} {request.path}"})
        return _plain(200, result)

    def _act(self, action: tuple[str, str], raw: dict[str, Any]) -> dict[str, Any] | None:
        if action == ("GET", "health"):
            return {"status": "ok", **self._about}
        if action == ("GET", "streams"):
            return {name: _shards(self._kinesis, name) for name in self._kinesis.streams()}
        if action == ("GET", "faults"):
            return self._faults.to_json()
        if action == ("GET", "signers"):
            return self._signers.counts()
        if action == ("POST", "faults"):
            self._faults.change(raw)
            return self._faults.to_json()
        if action == ("POST", "settings"):
            self._kinesis.configure(**raw)
            return {}
        if action == ("POST", "advance"):
            self._kinesis.advance(float(raw["seconds"]))
            return {"now": self._kinesis.now() / 1000}
        if action == ("POST", "trim"):
            through = raw.get("through")
            dropped = self._kinesis.trim(raw["stream"], raw.get("shard"), None if through is None else int(through))
            return {"dropped": dropped}
        return None


def name_request(request: HttpRequest) -> tuple[str, str]:
    """Return the service that a request is for, and its operation."""
    target = request.headers.get("x-amz-target", "")
    if target.startswith(api.TARGET):
        return "kinesis", target.removeprefix(api.TARGET)
    head, _, operation = target.rpartition(".")
    scope = service_scope(request.headers)
    if head.startswith("DynamoDB"):
        return "dynamodb", operation
    service = "s3" if scope is None else scope[0]
    if operation:
        return service, operation
    if "urlencoded" in request.headers.get("content-type", ""):
        action = parse_qs(request.body.decode("utf-8", "replace")).get("Action")
        if action:
            return "sts" if action[0] in _UNSIGNED_STS else service, action[0]
    return service, request.method


def _shards(kinesis: Kinesis, name: str) -> list[dict[str, Any]]:
    return [{**shard, "last": str(shard["last"])} for shard in kinesis.shards(name)]


def _request(scope: Scope, body: bytes) -> HttpRequest:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    path = scope.get("raw_path", scope["path"].encode("utf-8")).decode("latin-1").partition("?")[0]
    return HttpRequest(scope["method"], path, scope["query_string"].decode("latin-1"), headers, body)


async def _body(receive: Receive) -> bytes | None:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _failed(failure: Failure, service: str, request: HttpRequest) -> HttpResponse:
    return _error(ServiceError(failure.error, failure.message, failure.status), service, request)


def _error(error: ServiceError, service: str, request: HttpRequest) -> HttpResponse:
    """Return an error in the protocol of its request: CBOR, JSON where there is a target header, else XML."""
    if "x-amz-target" in request.headers:
        in_cbor = _in_cbor(request)
        headers = [("content-type", _CBOR if in_cbor else _JSON), ("x-amzn-errortype", error.name)]
        return HttpResponse(error.status, headers, api.error_body(error, in_cbor))
    body = f"<Error><Code>{escape(error.name)}</Code><Message>{escape(error.message)}</Message></Error>"
    if service != "s3":
        body = f"<ErrorResponse>{body}</ErrorResponse>"
    return HttpResponse(error.status, [("content-type", "application/xml")], body.encode("utf-8"))


def _in_cbor(request: HttpRequest) -> bool:
    return request.headers.get("content-type", "").startswith(_CBOR)


def _plain(status: int, body: dict[str, Any]) -> HttpResponse:
    return HttpResponse(status, [("content-type", "application/json")], json.dumps(body).encode("utf-8") + b"\n")
