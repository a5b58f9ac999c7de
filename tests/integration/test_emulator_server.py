"""The server around the model: protocols, dispatch, faults, the control endpoint, restarts."""

from __future__ import annotations

import datetime as dt
import email.utils
import http.client
import json
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import boto3
import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from kcl_receiver.emulator.clients import Boto3
from kcl_receiver.emulator.kinesis import cbor
from kcl_receiver.emulator.kinesis.errors import ServiceError
from kcl_receiver.emulator.server import ACCESS_KEY, Emulator
from kcl_receiver.errors import EnvironmentProblem

ONCE = Config(retries={"total_max_attempts": 1}, read_timeout=60)
LEASES = "leases"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def control(emulator: Emulator, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60)
    connection.request(method, path, None if body is None else json.dumps(body))
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    connection.close()
    return response.status, answer


def over_http2(emulator: Emulator, requests: list[tuple[dict[str, str], bytes]]) -> list[tuple[int, bytes]]:
    """Send requests at once over one HTTP/2 connection, as KCL's client does, and return the answers in order."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**19})
    connection.increment_flow_control_window(2**20)
    answers: dict[int, tuple[int, bytes]] = {}
    bodies: dict[int, bytes] = {}
    statuses: dict[int, int] = {}
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=60) as sock:
        ids = []
        for headers, body in requests:
            stream = connection.get_next_available_stream_id()
            ids.append(stream)
            fields = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "localhost")]
            connection.send_headers(stream, [*fields, *headers.items()])
            connection.send_data(stream, body, end_stream=True)
        sock.sendall(connection.data_to_send())
        while len(answers) < len(requests):
            received = sock.recv(2**16)
            assert received, "the emulator closed the connection"
            for event in connection.receive_data(received):
                if isinstance(event, h2.events.ResponseReceived):
                    statuses[event.stream_id] = int(dict(event.headers)[":status"])
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    answers[event.stream_id] = (statuses[event.stream_id], bodies.get(event.stream_id, b""))
            sock.sendall(connection.data_to_send())
    return [answers[stream] for stream in ids]


def kinesis_call(operation: str, **fields: object) -> tuple[dict[str, str], bytes]:
    headers = {"x-amz-target": f"Kinesis_20131202.{operation}", "content-type": "application/x-amz-json-1.1"}
    return headers, json.dumps(fields).encode()


def make_lease_table(emulator: Emulator, table: str = LEASES) -> Boto3:
    dynamodb = emulator.client("dynamodb", config=ONCE)
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return dynamodb


def test_http2_without_tls_answers_many_requests_on_one_connection(emulator: Emulator) -> None:
    kinesis = emulator.client("kinesis")
    kinesis.create_stream(StreamName="s", ShardCount=1)
    kinesis.put_record(StreamName="s", Data=bytes(5 * 2**20), PartitionKey="k")
    token = kinesis.get_shard_iterator(StreamName="s", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")
    many = [kinesis_call("GetRecords", ShardIterator=token["ShardIterator"])] * 3
    answers = over_http2(emulator, [*many, kinesis_call("DescribeStreamSummary", StreamName="none")])
    assert [status for status, _ in answers] == [200, 200, 200, 400]
    assert len(json.loads(answers[0][1])["Records"][0]["Data"]) > 6 * 2**20
    assert json.loads(answers[3][1])["__type"] == "ResourceNotFoundException"


def test_dynamodb_answers_over_http2_too(emulator: Emulator) -> None:
    headers = {
        "x-amz-target": "DynamoDB_20120810.ListTables",
        "content-type": "application/x-amz-json-1.0",
        "authorization": "AWS4-HMAC-SHA256 Credential=emulator/20250101/us-east-1/dynamodb/aws4_request, Signature=0",
    }
    ((status, body),) = over_http2(emulator, [(headers, b"{}")])
    assert (status, json.loads(body)) == (200, {"TableNames": []})


def test_a_request_in_cbor_is_answered_in_cbor_faults_among_the_answers(emulator: Emulator) -> None:
    headers = {"x-amz-target": "Kinesis_20131202.ListStreams", "content-type": "application/x-amz-cbor-1.1"}
    ((status, body),) = over_http2(emulator, [(headers, cbor.encode({}))])
    assert (status, cbor.decode(body)) == (200, {"StreamNames": [], "StreamSummaries": [], "HasMoreStreams": False})
    emulator.faults.set_down("kinesis")
    ((status, body),) = over_http2(emulator, [(headers, cbor.encode({}))])
    assert (status, cbor.decode(body)["__type"]) == (503, "ServiceUnavailableException")


def test_two_emulators_in_one_process_do_not_meet() -> None:
    with Emulator() as one, Emulator() as other:
        assert one.account != other.account
        for emulator in (one, other):
            emulator.client("kinesis").create_stream(StreamName="s", ShardCount=1)
            make_lease_table(emulator)
        one.client("kinesis").delete_stream(StreamName="s")
        one.client("dynamodb").delete_table(TableName=LEASES)
        assert other.client("kinesis").list_streams()["StreamNames"] == ["s"]
        assert other.client("dynamodb").list_tables()["TableNames"] == [LEASES]


def test_without_a_directory_a_stop_forgets_everything() -> None:
    emulator = Emulator()
    emulator.start()
    emulator.client("kinesis").create_stream(StreamName="s", ShardCount=1)
    make_lease_table(emulator)
    emulator.client("s3").create_bucket(Bucket="bucket")
    url = emulator.url
    emulator.stop()
    emulator.start()
    assert emulator.url == url
    assert emulator.client("kinesis").list_streams()["StreamNames"] == []
    assert emulator.client("dynamodb").list_tables()["TableNames"] == []
    assert emulator.client("s3").list_buckets()["Buckets"] == []
    emulator.client("s3").create_bucket(Bucket="bucket")
    emulator.stop()
    with pytest.raises(EndpointConnectionError):
        emulator.client("kinesis", config=ONCE).list_streams()


def test_with_a_directory_streams_records_and_leases_outlive_a_restart(tmp_path: Path) -> None:
    emulator = Emulator(directory=tmp_path)
    emulator.start()
    kinesis, dynamodb = emulator.client("kinesis"), make_lease_table(emulator)
    make_lease_table(emulator, "gone")
    dynamodb.delete_table(TableName="gone")
    kinesis.create_stream(StreamName="s", ShardCount=1)
    kinesis.put_record(StreamName="s", Data=b"1", PartitionKey="k")
    kinesis.split_shard(StreamName="s", ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127))
    token = kinesis.get_shard_iterator(StreamName="s", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")
    before = kinesis.get_records(ShardIterator=token["ShardIterator"])
    summary = kinesis.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]
    dynamodb.put_item(TableName=LEASES, Item={"leaseKey": {"S": "a"}, "n": {"N": "1"}})
    for row in range(3):
        dynamodb.update_item(
            TableName=LEASES,
            Key={"leaseKey": {"S": "a"}},
            UpdateExpression="SET n = n + :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
            ConditionExpression="n = :was" if row == 5 else "attribute_exists(n)",
        )
    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.delete_item(TableName=LEASES, Key={"leaseKey": {"S": "a"}}, ConditionExpression="n = leaseKey")
    emulator.stop()

    emulator.start()
    kinesis, dynamodb = emulator.client("kinesis"), emulator.client("dynamodb")
    assert kinesis.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"] == summary
    after = kinesis.get_records(ShardIterator=token["ShardIterator"])
    assert after["Records"] == before["Records"]
    assert len(after["ChildShards"]) == 2
    assert dynamodb.list_tables()["TableNames"] == [LEASES]
    assert dynamodb.scan(TableName=LEASES)["Items"] == [{"leaseKey": {"S": "a"}, "n": {"N": "4"}}]
    emulator.stop()


def test_dynamodbs_journal_stays_short_however_often_leases_are_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kcl_receiver.emulator.moto_services._COMPACT_LINES", 20)
    emulator = Emulator(directory=tmp_path)
    emulator.start()
    dynamodb = make_lease_table(emulator)
    dynamodb.update_time_to_live(
        TableName=LEASES, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"}
    )
    for row in range(150):
        dynamodb.put_item(TableName=LEASES, Item={"leaseKey": {"S": f"k{row % 3}"}, "n": {"N": str(row)}})
    lines = (tmp_path / "dynamodb.log").read_text().count("\n")
    assert lines < 40
    wanted = sorted(item["n"]["N"] for item in dynamodb.scan(TableName=LEASES)["Items"])
    emulator.stop()
    with emulator:
        dynamodb = emulator.client("dynamodb")
        items = dynamodb.scan(TableName=LEASES)["Items"]
        assert sorted(item["n"]["N"] for item in items) == wanted == ["147", "148", "149"]
        found = dynamodb.describe_time_to_live(TableName=LEASES)["TimeToLiveDescription"]
        assert found["TimeToLiveStatus"] == "ENABLED"


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from kcl_receiver.emulator.server import ACCESS_KEY, Emulator\n"
        "emulator = Emulator(directory=sys.argv[1])\n"
        "emulator.start()\n"
        "print(emulator.url, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        outside = Emulator()
        outside.port = urlparse(url).port or 0
        kinesis = outside.client("kinesis")
        kinesis.create_stream(StreamName="s", ShardCount=1)
        numbers = [kinesis.put_record(StreamName="s", Data=b"", PartitionKey="k")["SequenceNumber"] for _ in range(50)]
        make_lease_table(outside)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    with Emulator(directory=tmp_path) as emulator:
        (shard,) = emulator.kinesis.shards("s")
        assert (shard["records"], str(shard["last"])) == (50, numbers[-1])
        assert emulator.client("dynamodb").list_tables()["TableNames"] == [LEASES]


def test_two_emulators_do_not_share_a_directory_or_a_port(tmp_path: Path) -> None:
    with Emulator(directory=tmp_path) as one:
        with pytest.raises(EnvironmentProblem, match="another emulator runs on"):
            Emulator(directory=tmp_path).start()
        with pytest.raises(EnvironmentProblem, match="cannot listen") as error:
            Emulator(port=one.port).start()
        assert error.value.hint == "name another port with --port; 0 takes one that is free"
        with pytest.raises(RuntimeError, match="runs already"):
            one.start()


def test_a_damaged_directory_is_named_and_let_go(tmp_path: Path) -> None:
    with Emulator(directory=tmp_path):
        pass
    for name in ("kinesis.log", "dynamodb.log"):
        (tmp_path / name).write_text("{\n{}\n")
        for _ in range(2):
            with pytest.raises(EnvironmentProblem, match=f"{name} is damaged"):
                Emulator(directory=tmp_path).start()
        (tmp_path / name).write_text("")
    with Emulator(directory=tmp_path):
        pass


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kcl_receiver.emulator.server.PACKAGES", ("h2", "no_such_package_anywhere"))
    with pytest.raises(EnvironmentProblem, match="no_such_package_anywhere") as error:
        Emulator().start()
    assert error.value.hint == "pip install 'kcl-receiver[emulator]'"


def test_a_service_that_is_down_answers_503_and_the_others_go_on(emulator: Emulator) -> None:
    emulator.faults.set_down("dynamodb")
    with pytest.raises(ClientError) as error:
        emulator.client("dynamodb", config=ONCE).list_tables()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    emulator.client("kinesis").list_streams()
    emulator.faults.clear()
    emulator.client("dynamodb").list_tables()


def test_a_service_that_hangs_answers_when_it_is_let_go(emulator: Emulator) -> None:
    emulator.faults.set_hang("*")
    impatient = Config(retries={"total_max_attempts": 1}, read_timeout=0.2)
    with pytest.raises(ReadTimeoutError):
        emulator.client("kinesis", config=impatient).list_streams()
    answers: list[list[str]] = []
    client = emulator.client("kinesis", config=ONCE)
    thread = threading.Thread(target=lambda: answers.append(client.list_streams()["StreamNames"]))
    thread.start()
    assert control(emulator, "GET", "/_emulator/health")[0] == 200
    assert answers == []
    emulator.faults.clear()
    thread.join(60)
    assert answers == [[]]


def test_a_hanging_emulator_stops(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    emulator.faults.set_hang("*")
    hangs, arrived = emulator.faults.hangs, threading.Event()

    def seen(service: str) -> bool:
        arrived.set()
        return hangs(service)

    monkeypatch.setattr(emulator.faults, "hangs", seen)
    errors: list[Exception] = []
    client = emulator.client("kinesis", config=ONCE)

    def ask() -> None:
        try:
            client.list_streams()
        except (ClientError, ConnectionClosedError, EndpointConnectionError) as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert arrived.wait(60), "what is still on its way when the emulator stops hangs for another reason"
    emulator.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert hangs("kinesis")


def test_an_operation_fails_as_often_as_told_before_or_after_it_was_done(emulator: Emulator) -> None:
    kinesis = emulator.client("kinesis", config=ONCE)
    kinesis.create_stream(StreamName="s", ShardCount=1)
    emulator.faults.fail("kinesis", "PutRecord", "LimitExceededException", status=400)
    with pytest.raises(kinesis.exceptions.LimitExceededException):
        kinesis.put_record(StreamName="s", Data=b"", PartitionKey="k")
    assert emulator.kinesis.shards("s")[0]["records"] == 0
    emulator.faults.fail("kinesis", "PutRecord", after=True)
    with pytest.raises(ClientError):
        kinesis.put_record(StreamName="s", Data=b"", PartitionKey="k")
    assert emulator.kinesis.shards("s")[0]["records"] == 1
    kinesis.put_record(StreamName="s", Data=b"", PartitionKey="k")
    s3 = emulator.client("s3", config=ONCE)
    s3.create_bucket(Bucket="bucket")
    emulator.faults.fail("s3", "PUT")
    with pytest.raises(ClientError):
        s3.put_object(Bucket="bucket", Key="k", Body=b"")
    emulator.faults.fail("sts", "GetCallerIdentity", status=400)
    with pytest.raises(ClientError):
        emulator.client("sts", config=ONCE).get_caller_identity()
    emulator.faults.set_down("*")
    for call in (s3.list_buckets, emulator.client("sts", config=ONCE).get_caller_identity):
        with pytest.raises(ClientError) as error:
            call()
        assert error.value.response["Error"]["Code"] == "ServiceUnavailableException"


def test_the_control_endpoint_does_what_python_can_do(emulator: Emulator) -> None:
    kinesis = emulator.client("kinesis", config=ONCE)
    kinesis.create_stream(StreamName="s", ShardCount=1)
    number = kinesis.put_record(StreamName="s", Data=b"x", PartitionKey="k")["SequenceNumber"]
    status, health = control(emulator, "GET", "/_emulator/health")
    assert (status, health["status"], health["account"]) == (200, "ok", emulator.account)
    _, streams = control(emulator, "GET", "/_emulator/streams")
    assert (streams["s"][0]["records"], streams["s"][0]["last"]) == (1, number)
    shard = {"stream": "s", "shard": "shardId-000000000000", "through": number}
    assert control(emulator, "POST", "/_emulator/trim", shard) == (200, {"dropped": 1})
    assert control(emulator, "POST", "/_emulator/trim", {"stream": "s"}) == (200, {"dropped": 0})
    before = emulator.kinesis.now()
    assert control(emulator, "POST", "/_emulator/advance", {"seconds": 3600})[0] == 200
    assert emulator.kinesis.now() >= before + 3_600_000
    assert control(emulator, "POST", "/_emulator/settings", {"iterator_lifetime": 5}) == (200, {})
    assert emulator.kinesis.model.settings.iterator_lifetime == 5
    assert control(emulator, "POST", "/_emulator/faults", {"down": "kinesis"})[1]["down"] == ["kinesis"]
    with pytest.raises(ClientError):
        kinesis.list_streams()
    assert control(emulator, "POST", "/_emulator/faults", {"down": False})[0] == 200
    assert control(emulator, "GET", "/_emulator/faults")[1] == {"down": [], "hang": [], "errors": []}
    kinesis.list_streams()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/_emulator/settings", {"nonsense": 1}, 400),
        ("POST", "/_emulator/faults", {"nonsense": 1}, 400),
        ("POST", "/_emulator/faults", [1], 400),
        ("POST", "/_emulator/advance", {}, 400),
        ("POST", "/_emulator/advance", {"seconds": -1}, 400),
        ("POST", "/_emulator/advance", {"seconds": 1e308}, 400),
        ("POST", "/_emulator/advance", {"seconds": float("nan")}, 400),
        ("POST", "/_emulator/trim", {"stream": "none"}, 400),
        ("GET", "/_emulator/nonsense", None, 404),
        ("GET", "/_emulator/advance", None, 404),
    ],
)
def test_what_the_control_endpoint_cannot_do_it_says(
    emulator: Emulator, method: str, path: str, body: object, status: int
) -> None:
    found, answer = control(emulator, method, path, body)
    assert found == status
    assert answer["error"]


def raw_get(emulator: Emulator, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_the_date_of_every_answer_is_that_of_the_emulators_clock() -> None:
    moment = dt.datetime(2031, 5, 6, 7, 8, 9, tzinfo=dt.timezone.utc)
    with Emulator(clock=moment.timestamp) as emulator:
        for ahead in (dt.timedelta(0), dt.timedelta(days=3)):
            emulator.kinesis.advance(ahead.total_seconds())
            wanted = [email.utils.format_datetime(moment + ahead, usegmt=True)]
            scope = "emulator/20250101/us-east-1/{}/aws4_request"
            for service in ("kinesis", "dynamodb", "s3", "monitoring", "sts"):
                headers = {"authorization": f"AWS4-HMAC-SHA256 Credential={scope.format(service)}, Signature=0"}
                assert raw_get(emulator, "/", headers).headers.get_all("date") == wanted, service
            assert raw_get(emulator, "/_emulator/health", {}).headers.get_all("date") == wanted
            emulator.faults.set_down("*")
            assert raw_get(emulator, "/", {}).headers.get_all("date") == wanted
            emulator.faults.clear()
            answer = emulator.client("dynamodb").list_tables()["ResponseMetadata"]["HTTPHeaders"]
            assert [answer["date"]] == wanted


def test_the_key_that_signed_is_counted_for_each_service_and_operation(emulator: Emulator) -> None:
    sts = emulator.client("sts")
    role = {"RoleArn": "arn:aws:iam::123456789012:role/reader", "RoleSessionName": "session"}
    first, second = (sts.assume_role(**role)["Credentials"] for _ in range(2))
    third = sts.assume_role_with_web_identity(**role, WebIdentityToken="t" * 20)["Credentials"]
    keys = [one["AccessKeyId"] for one in (first, second, third)]
    assert len({*keys, ACCESS_KEY}) == 4
    for one in (first, second):
        session = boto3.session.Session(one["AccessKeyId"], one["SecretAccessKey"], one["SessionToken"], "us-east-1")
        session.client("kinesis", endpoint_url=emulator.url).list_streams()
        session.client("dynamodb", endpoint_url=emulator.url).list_tables()
        session.client("sts", endpoint_url=emulator.url).get_caller_identity()
    s3 = session.client("s3", endpoint_url=emulator.url)
    s3.create_bucket(Bucket="bucket")
    url = s3.generate_presigned_url("list_objects_v2", Params={"Bucket": "bucket"})
    with urllib.request.urlopen(url) as response:
        assert response.status == 200
    emulator.faults.set_down("kinesis")
    with pytest.raises(ClientError):
        emulator.client("kinesis", config=ONCE).list_streams()
    wanted = {
        "sts": {
            "AssumeRole": {ACCESS_KEY: 2},
            "AssumeRoleWithWebIdentity": {"unsigned": 1},
            "GetCallerIdentity": {keys[0]: 1, keys[1]: 1},
        },
        "kinesis": {"ListStreams": {keys[0]: 1, keys[1]: 1, ACCESS_KEY: 1}},
        "dynamodb": {"ListTables": {keys[0]: 1, keys[1]: 1}},
        "s3": {"PUT": {keys[1]: 1}, "GET": {keys[1]: 1}},
    }
    assert emulator.signers.counts() == wanted
    assert control(emulator, "GET", "/_emulator/signers") == (200, wanted)


@pytest.mark.parametrize("target", [None, "Nothing_20200101.List", "Kinesis_20131202.Nothing", "Kinesis_20131202."])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_a_request_for_nothing_that_exists_is_refused_and_no_failure(
    emulator: Emulator, method: str, target: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    scope = "emulator/20250101/us-east-1/nothing/aws4_request"
    headers = {"authorization": f"AWS4-HMAC-SHA256 Credential={scope}, Signature=0"}
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60)
    connection.request(method, "/", b"x", headers if target is None else {**headers, "x-amz-target": target})
    response = connection.getresponse()
    assert (response.status, b"UnknownOperationException" in response.read()) == (400, True)
    connection.close()
    assert caplog.text == ""


def test_an_error_inside_the_emulator_is_answered_and_logged(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(emulator.kinesis, "call", broken)
    with pytest.raises(ClientError) as error:
        emulator.client("kinesis", config=ONCE).list_streams()
    assert error.value.response["Error"]["Code"] == "InternalFailure"
    assert "failed inside the emulator" in caplog.text


def test_the_model_is_there_before_the_start_and_is_in_use_after_it() -> None:
    emulator = Emulator()
    with pytest.raises(ServiceError):
        emulator.kinesis.shards("s")
    with emulator:
        emulator.client("kinesis").create_stream(StreamName="s", ShardCount=2)
        assert len(emulator.kinesis.shards("s")) == 2
