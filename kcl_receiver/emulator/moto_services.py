"""DynamoDB, S3, CloudWatch and STS: moto's WSGI application, called one request at a time.

moto keeps its state in globals of the process, by account. Each emulator therefore has an account of its own, given to
moto with every request, and two emulators in one process do not meet. All requests run on one thread: moto's checks and
changes of an item are two steps, and a conditional write must be one.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast
from urllib.parse import unquote_to_bytes

from moto import backends
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from kcl_receiver.emulator.persist import Journal

log = logging.getLogger(__name__)

CHANGES = frozenset(
    {
        "BatchWriteItem",
        "CreateTable",
        "DeleteItem",
        "DeleteTable",
        "PutItem",
        "TagResource",
        "TransactWriteItems",
        "UntagResource",
        "UpdateContinuousBackups",
        "UpdateItem",
        "UpdateTable",
        "UpdateTimeToLive",
    }
)
"""Operations of DynamoDB that change what it holds, and are kept in the journal."""

_TABLE_CHANGES = frozenset({"CreateTable", "UpdateTable", "UpdateTimeToLive", "UpdateContinuousBackups"})
_DYNAMODB = "DynamoDB_20120810."
_COMPACT_LINES = 2_000
"""Lines of the journal before it is made shorter for the first time; later, three times what was left then."""
_FORGET_EVERY = 5_000


class UnknownService(Exception):
    """A request is for no service that moto has."""


class HttpRequest(NamedTuple):
    """One request. Header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class HttpResponse(NamedTuple):
    """One response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Dispatcher(DomainDispatcherApplication):
    """moto's choice of the service that a request is for; it takes it for granted that there is one."""

    def get_backend_for_host(self, host: str | None) -> Any:  # noqa: ANN401 - as in moto
        if host is None or host in ("moto_api", *backends.list_of_moto_modules()):
            return host
        for backend, pattern in self.backend_url_patterns:
            if pattern.match(f"http://{host}"):
                return backend
        raise UnknownService(host)


class Others:
    """All services that moto plays; not safe for threads, so call it from one.

    Args:
        account: The account that owns everything made here.
        region: Region of replayed requests.
        journal: Where changes of DynamoDB are kept, or None.
    """

    def __init__(self, account: str, region: str, journal: Journal | None) -> None:
        self.account = account
        self.region = region
        self._journal = journal
        self._dispatcher = _Dispatcher(create_backend_app)
        self._calls = 0
        self._compact_at = _COMPACT_LINES
        if journal is not None:
            for line in journal.replay():
                self._redo(line)

    def call(self, request: HttpRequest) -> HttpResponse:
        """Answer one request.

        Raises:
            UnknownService: It is for none that exists here.
        """
        response = self._run(request)
        target = request.headers.get("x-amz-target", "")
        if (
            self._journal is not None
            and response.status == 200
            and target.startswith(_DYNAMODB)
            and target.removeprefix(_DYNAMODB) in CHANGES
        ):
            line = {"region": _region(request.headers) or self.region, "target": target}
            self._journal.append({**line, "body": json.loads(request.body)})
            if self._journal.lines >= self._compact_at:
                self._compact(self._journal)
                self._compact_at = max(_COMPACT_LINES, 3 * self._journal.lines)
        return response

    def _run(self, request: HttpRequest) -> HttpResponse:
        self._calls += 1
        if self._calls % _FORGET_EVERY == 0:
            _forget_instances()
        environ = self._environ(request)
        status_line = ""
        headers: list[tuple[str, str]] = []

        def start(status: str, fields: list[tuple[str, str]], _error: object = None) -> Callable[[bytes], object]:
            nonlocal status_line, headers
            status_line, headers = status, fields
            return lambda _: None

        application = self._dispatcher.get_application(environ)
        chunks: Iterable[bytes] = application(environ, start)
        try:
            body = b"".join(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return HttpResponse(int(status_line.split(" ", 1)[0]), headers, body)

    def _environ(self, request: HttpRequest) -> dict[str, Any]:
        host, _, port = request.headers.get("host", "localhost:80").partition(":")
        raw_uri = request.path + ("?" + request.query if request.query else "")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
            "QUERY_STRING": request.query,
            "RAW_URI": raw_uri,
            "REQUEST_URI": raw_uri,
            "SERVER_NAME": host,
            "SERVER_PORT": port or "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            key = name.upper().replace("-", "_")
            if key == "CONTENT_TYPE":
                environ[key] = value
            elif key != "CONTENT_LENGTH":
                environ["HTTP_" + key] = value
        environ.setdefault("HTTP_HOST", "localhost")
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self.account
        return environ

    def _dynamodb(self, operation: str, body: dict[str, Any], region: str) -> HttpResponse:
        scope = f"emulator/20250101/{region}/dynamodb/aws4_request"
        headers = {
            "host": "localhost",
            "x-amz-target": _DYNAMODB + operation,
            "content-type": "application/x-amz-json-1.0",
            "authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        }
        return self._run(HttpRequest("POST", "/", "", headers, json.dumps(body).encode("utf-8")))

    def _redo(self, line: dict[str, Any]) -> None:
        operation = line["target"].removeprefix(_DYNAMODB)
        response = self._dynamodb(operation, line["body"], line["region"])
        if response.status != 200:
            log.error("the journal's %s was refused when replayed: %r", operation, response.body[:500])

    def _compact(self, journal: Journal) -> None:
        """Replace the journal by what makes the same tables: their own requests, then a PutItem for each item."""
        kept: list[dict[str, Any]] = []
        for line in journal.replay():
            operation = line["target"].removeprefix(_DYNAMODB)
            body = line["body"]
            if operation == "DeleteTable":
                gone = (line["region"], body["TableName"])
                kept = [one for one in kept if (one["region"], one["body"].get("TableName")) != gone]
            elif operation in _TABLE_CHANGES or operation in ("TagResource", "UntagResource"):
                kept.append(line)
        tables = [
            (line["region"], line["body"]["TableName"]) for line in kept if line["target"].endswith("CreateTable")
        ]
        for region, table in tables:
            kept.extend(self._items(region, table))
        journal.rewrite(kept)

    def _items(self, region: str, table: str) -> Iterable[dict[str, Any]]:
        start: dict[str, Any] = {}
        while True:
            page = json.loads(self._dynamodb("Scan", {"TableName": table, **start}, region).body)
            for item in page["Items"]:
                body = {"TableName": table, "Item": item}
                yield {"region": region, "target": _DYNAMODB + "PutItem", "body": body}
            if not page.get("LastEvaluatedKey"):
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def forget(self) -> None:
        """Remove everything of this account from moto."""
        for name in list(self._dispatcher.app_instances):
            if name not in backends.list_of_moto_modules():
                continue
            backend: Any = backends.get_backend(cast(Any, name))
            if not isinstance(backend, BackendDict) or self.account not in backend:
                continue
            owners: dict[str, Any] = getattr(backend, "bucket_accounts", {})
            for one in backend.pop(self.account).values():
                for bucket in getattr(one, "buckets", {}):
                    owners.pop(bucket, None)


def _forget_instances() -> None:
    """Let go of moto's list of every object it ever made, which it keeps for its dashboard."""
    reset_model_data()


def _region(headers: dict[str, str]) -> str | None:
    scope = service_scope(headers)
    return None if scope is None else scope[1]


def service_scope(headers: dict[str, str]) -> tuple[str, str] | None:
    """Return service and region from the scope of a request's signature, or None if it bears none."""
    _, _, credential = headers.get("authorization", "").partition("Credential=")
    parts = credential.split(",", 1)[0].split("/")
    return (parts[3], parts[2]) if len(parts) == 5 else None
