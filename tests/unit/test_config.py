from __future__ import annotations

from pathlib import Path

import pytest

from kcl_receiver.config import properties as module
from kcl_receiver.config.properties import InitialPosition, load
from kcl_receiver.errors import EXIT_USAGE, ConfigError

LEAST = {
    "applicationName": "landing",
    "streamName": "orders",
    "executableName": "kcl-receiver-processor --properties landing.properties",
    "receiver.store": "file:///var/lib/landing",
}


def write(tmp_path: Path, changes: dict[str, str | None] | None = None) -> Path:
    merged = {**LEAST, **(changes or {})}
    file = tmp_path / "landing.properties"
    file.write_text("".join(f"{key} = {value}\n" for key, value in merged.items() if value is not None), "latin-1")
    return file


def refused(tmp_path: Path, changes: dict[str, str | None]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, changes))
    return caught.value


def test_a_file_with_the_four_needed_keys_gets_the_documented_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    config = load(write(tmp_path))
    assert config.application_name == "landing"
    assert config.table_name == "landing"
    assert config.stream_name == "orders"
    assert config.stream_arn is None
    assert config.initial_position == InitialPosition("MISSING")
    assert config.shutdown_grace_millis is None
    assert config.graceful_lease_handoff_timeout_millis == 30_000
    assert config.failover_time_millis == 10_000
    assert config.timeout_in_seconds is None
    assert config.max_active_threads == 0
    assert config.retrieval_mode is None
    assert config.empty_calls is False
    assert config.store == "file:///var/lib/landing"
    assert config.store_directory == Path("/var/lib/landing")
    assert config.block_interval_millis == 1000
    assert config.block_max_bytes == 64 * 1024 * 1024
    assert config.window_bytes == 32 * 1024 * 1024
    assert config.checkpoint_interval_millis == 5000
    assert (config.compression, config.compression_level) == ("zstd", None)
    assert config.generator_timeout_millis == 60_000
    assert config.store_timeout_millis == 300_000
    assert config.store_again is False
    assert config.idle_exit_millis == 60_000
    assert config.java is None
    assert config.java_launch == "tuned"
    assert config.java_options == ()
    assert config.jars is None
    assert config.log_directory == Path("/state/kcl-receiver/landing")


@pytest.mark.parametrize("home", [None, "~", "nowhere"])
def test_a_user_without_a_home_has_its_logs_beside_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("os.getuid", lambda: 987_654)  # has no entry in passwd
    config = load(write(tmp_path))
    assert config.log_directory == Path("/tmp/kcl-receiver-987654/landing/log")
    assert load(write(tmp_path, {"receiver.logDirectory": "log"})).log_directory == tmp_path / "log"


def test_paths_are_relative_to_the_file_and_not_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, {"receiver.socket": "run/s.sock", "receiver.java": "../jre/bin/java", "receiver.jars": "/j"})
    monkeypatch.chdir("/")
    config = load(file)
    assert config.socket == tmp_path / "run" / "s.sock"
    assert config.java == tmp_path.parent / "jre" / "bin" / "java"
    assert config.jars == Path("/j")


def test_escapes_and_continuations_mean_what_java_makes_of_them(tmp_path: Path) -> None:
    file = tmp_path / "x.properties"
    file.write_bytes(
        b"! comment\napplicationName:landing\nstreamName or\\\n   ders\n"
        b"executableName=a\\u0020b\\:\\=c\nreceiver.store = file:///caf\\u00e9/\xe9\\\\x\n"
    )
    config = load(file)
    assert config.stream_name == "orders"
    assert config.executable_name == "a b:=c"
    assert config.store == "file:///café/é\\x"


def test_the_stream_comes_from_the_arn_as_in_kcl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    config = load(write(tmp_path, {"streamArn": "arn:aws:kinesis:eu-west-3:123456789012:stream/other"}))
    assert config.stream_name == "other"
    assert config.region == "eu-west-3"


def test_region_name_goes_before_arn_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert load(write(tmp_path)).region == "us-east-1"
    assert load(write(tmp_path, {"regionName": "eu-north-1"})).region == "eu-north-1"


def test_a_timestamp_is_read_in_seconds_and_kept_in_milliseconds(tmp_path: Path) -> None:
    config = load(write(tmp_path, {"initialPositionInStreamExtended": "1767225600"}))
    assert config.initial_position == InitialPosition("AT_TIMESTAMP", 1767225600_000)
    assert not config.initial_position.loses_data


@pytest.mark.parametrize(("word", "loses"), [("trim_horizon", False), ("LATEST", True), (None, True)])
def test_latest_and_a_missing_position_lose_data(tmp_path: Path, word: str | None, loses: bool) -> None:
    assert load(write(tmp_path, {"initialPositionInStream": word})).initial_position.loses_data is loses


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("512 KiB", 524288), ("8MiB", 8388608), ("1gib", 1073741824), ("10B", 10)],
)
def test_sizes_are_bytes_or_carry_a_suffix(tmp_path: Path, text: str, size: int) -> None:
    assert load(write(tmp_path, {"receiver.blockMaxBytes": text})).block_max_bytes == size


@pytest.mark.parametrize(
    ("text", "codec", "level"), [("none", "none", None), ("ZSTD:3", "zstd", 3), ("lz4", "lz4", None)]
)
def test_compression_has_an_optional_level(tmp_path: Path, text: str, codec: str, level: int | None) -> None:
    config = load(write(tmp_path, {"receiver.compression": text}))
    assert (config.compression, config.compression_level) == (codec, level)


def test_java_options_are_divided_at_blanks_outside_of_quotes(tmp_path: Path) -> None:
    config = load(write(tmp_path, {"receiver.javaOptions": "-Xmx512m '-Dx=a b'"}))
    assert config.java_options == ("-Xmx512m", "-Dx=a b")


@pytest.mark.parametrize(
    ("changes", "reason", "instead"),
    [
        ({"receiver.blockIntervalMillis": "0"}, "must be 1 or more", "receiver.blockIntervalMillis = 1000"),
        ({"receiver.blockIntervalMillis": "1s"}, "not a whole number", "receiver.blockIntervalMillis = 1000"),
        ({"receiver.blockMaxBytes": "64 MB"}, "not a size", "receiver.blockMaxBytes = 64MiB"),
        ({"receiver.windowBytes": "0"}, "more than 0", "receiver.windowBytes = 32MiB"),
        ({"receiver.windowBytes": ""}, "has no value", "receiver.windowBytes = 32MiB"),
        ({"receiver.storeAgain": "maybe"}, "neither true nor false", "receiver.storeAgain = false"),
        ({"receiver.compression": "gzip"}, "not one of none, snappy", "receiver.compression = zstd"),
        ({"receiver.compression": "zstd:99"}, "levels of zstd are 1 to 22", "receiver.compression = zstd"),
        ({"receiver.compression": "lz4:3"}, "lz4 has no levels", "receiver.compression = zstd"),
        ({"receiver.store": "s3://b/p"}, "S3 is not in this version", "receiver.store = file:///"),
        ({"receiver.store": "/var/x"}, "not the URL of a store", "receiver.store = file:///"),
        ({"receiver.store": "file://var/x"}, "three slashes", "receiver.store = file:///"),
        ({"receiver.store": None}, "where blocks go", "receiver.store = file:///"),
        ({"receiver.javaLaunch": "fast"}, "is not one of tuned, plain", "receiver.javaLaunch = tuned"),
        ({"receiver.javaOptions": "Xmx1g"}, "not an option of java", "receiver.javaOptions = -Xmx512m"),
        ({"receiver.javaOptions": "-D'x"}, "No closing quotation", "receiver.javaOptions"),
        ({"receiver.blockInterval": "1000"}, "no such key", "receiver.blockIntervalMillis = 1000"),
        ({"receiver.windowbytes": "1"}, "no such key", "receiver.windowBytes = 1"),
        ({"applicationName": None}, "lease table", "applicationName = "),
        ({"streamName": None}, "which stream", "streamName = "),
        ({"executableName": None}, "command of a processor", "executableName = kcl-receiver-processor"),
        ({"streamArn": "arn:aws:sqs:x"}, "not the ARN of a stream", "streamArn = arn:aws:kinesis"),
        ({"initialPositionInStream": "AT_TIMESTAMP"}, "by another key", "initialPositionInStreamExtended = "),
        (
            {"initialPositionInStream": "OLDEST"},
            "is not TRIM_HORIZON or LATEST",
            "initialPositionInStream = TRIM_HORIZON",
        ),
        (
            {"initialPositionInStream": "TRIM_HORIZON", "initialPositionInStreamExtended": "1"},
            "no fixed order",
            "one of the two",
        ),
        ({"shutdownGraceMillis": "20s"}, "not a whole number", "shutdownGraceMillis = 30000"),
        ({"retrievalMode": "PULL"}, "is not POLLING, FANOUT or DEFAULT", "retrievalMode = POLLING"),
    ],
)
def test_a_wrong_value_is_refused_with_file_key_value_and_what_to_write(
    tmp_path: Path, changes: dict[str, str | None], reason: str, instead: str
) -> None:
    error = refused(tmp_path, changes)
    key, value = next(iter(changes.items()))
    assert str(tmp_path / "landing.properties") in error.message
    assert key in error.message
    assert (value or "") in error.message
    assert reason in error.message
    assert instead in error.hint
    assert error.exit_code == EXIT_USAGE


def test_an_unknown_key_with_no_near_name_is_refused_without_a_guess(tmp_path: Path) -> None:
    assert refused(tmp_path, {"receiver.zzzzzz": "1"}).hint == ""


def test_all_problems_are_counted_and_inspect_returns_them_all(tmp_path: Path) -> None:
    file = write(tmp_path, {"receiver.storeAgain": "maybe", "receiver.windowBytes": "much"})
    with pytest.raises(ConfigError, match="1 more: see `kcl-receiver check`"):
        load(file)
    config, problems = module.inspect(file, module.read(file))
    assert config is not None
    assert {problem.key for problem in problems} == {"receiver.storeAgain", "receiver.windowBytes"}


def test_a_file_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.properties")


def test_a_broken_escape_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a = \\u12")
    with pytest.raises(ConfigError, match="Invalid"):
        load(tmp_path / "x")


def test_a_comment_after_a_lone_backslash_is_refused_because_parsers_differ(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a = b\n \\\r\n #c\n")
    with pytest.raises(ConfigError, match="nothing but a backslash"):
        load(tmp_path / "x")


def test_a_secret_among_options_of_java_is_not_repeated_whatever_the_key(tmp_path: Path) -> None:
    for key in ("receiver.javaOption", "receiver.javaLaunch", "failoverTimeMillis"):
        error = refused(tmp_path, {key: "-Daws.accessKeyId=AKIA -Daws.secretAccessKey=WORD"})
        assert key in str(error)
        assert "WORD" not in str(error)
