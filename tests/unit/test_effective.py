from __future__ import annotations

import stat
from pathlib import Path

import javaproperties
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_config import write

from kcl_receiver.config.properties import load
from kcl_receiver.daemon import daemon_properties as effective
from kcl_receiver.daemon.daemon_properties import is_own_worker, overrides, store_token, worker_id, write_effective
from kcl_receiver.errors import EnvironmentProblem, StoreRefused
from kcl_receiver.store.store import open_store

NOW = 1767225600_999


def test_the_daemon_gets_a_time_instead_of_latest(tmp_path: Path) -> None:
    config = load(write(tmp_path, {"initialPositionInStream": "LATEST"}))
    file = write_effective(config, overrides(config, NOW), tmp_path)
    keys = javaproperties.loads(file.read_bytes())
    assert "initialPositionInStream" not in keys
    assert keys["initialPositionInStreamExtended"] == "1767225600"


def test_another_position_stays_as_it_is(tmp_path: Path) -> None:
    config = load(write(tmp_path, {"initialPositionInStream": "TRIM_HORIZON"}))
    keys = javaproperties.loads(write_effective(config, overrides(config), tmp_path).read_bytes())
    assert keys["initialPositionInStream"] == "TRIM_HORIZON"


def test_the_processor_is_named_the_whole_path_of_the_users_own_file(tmp_path: Path) -> None:
    config = load(write(tmp_path, {"executableName": "/x/kcl-receiver-processor -p landing.properties"}))
    assert (
        overrides(config)["executableName"] == f"/x/kcl-receiver-processor --properties {tmp_path}/landing.properties"
    )


def test_keys_of_the_receiver_are_left_out_and_all_others_kept(tmp_path: Path) -> None:
    config = load(write(tmp_path, {"maxRecords": "500", "receiver.windowBytes": "1MiB"}))
    keys = javaproperties.loads(write_effective(config, {}, tmp_path).read_bytes())
    assert keys["maxRecords"] == "500"
    assert not [key for key in keys if key.startswith("receiver.")]


def test_the_file_is_private_and_replaced_as_a_whole(tmp_path: Path) -> None:
    config = load(write(tmp_path))
    out = tmp_path / "out"
    out.mkdir()
    first = write_effective(config, {"a": "1"}, out)
    held = first.open()
    second = write_effective(config, {"a": "2"}, out)
    assert first == second
    assert stat.S_IMODE(second.stat().st_mode) == 0o600
    assert "a=1" in held.read()
    assert [path.name for path in out.iterdir()] == ["daemon.properties"]
    held.close()


def test_a_directory_that_cannot_be_written_is_an_environment_problem(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        write_effective(load(write(tmp_path)), {}, tmp_path / "gone")


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=12), max_size=4))
def test_every_value_survives_the_copy(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> None:
    directory = tmp_path_factory.getbasetemp()
    config = load(write(directory))
    kept = {f"k{key}": value for key, value in keys.items()}
    found = javaproperties.loads(write_effective(config, kept, directory).read_bytes())
    assert {key: value for key, value in found.items() if key in kept} == kept


def test_the_worker_id_is_stable_and_differs_by_host_user_application_and_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(write(tmp_path))
    mine = worker_id(config, "store", "host-a")
    assert mine == worker_id(load(write(tmp_path)), "store", "host-a")
    assert mine.startswith("host-a-")
    others = {
        worker_id(config, "store", "host-b"),
        worker_id(config, "other store", "host-a"),
        worker_id(
            load(write(tmp_path, {"applicationName": "other", "receiver.socket": str(config.socket)})),
            "store",
            "host-a",
        ),
        worker_id(load(write(tmp_path, {"receiver.socket": "/x/y"})), "store", "host-a"),
    }
    monkeypatch.setattr(effective, "MACHINE_ID", tmp_path / "landing.properties")
    others.add(worker_id(config, "store", "host-a"))
    monkeypatch.setattr("os.getuid", lambda: 4242)
    others.add(worker_id(config, "store", "host-a"))
    assert len(others | {mine}) == 7


def test_two_stores_have_different_tokens_that_stay(tmp_path: Path) -> None:
    first, second = (open_store(f"file://{tmp_path}/{name}") for name in ("one", "two"))
    token = store_token(first)
    assert token != store_token(second)
    assert store_token(open_store(f"file://{tmp_path}/one")) == token


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"token": 5}', b"\xff"])
def test_a_damaged_token_is_refused_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    store = open_store(f"file://{tmp_path}/store")
    store.put_document_if_absent(effective.WORKER_DOCUMENT, content)
    with pytest.raises(StoreRefused, match="does not hold a token") as caught:
        store_token(store)
    assert caught.value.hint.startswith("remove it")


def test_a_hosts_own_worker_is_known_under_run_and_plain_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "web-1")
    config = load(write(tmp_path, {"receiver.socket": "run/s"}))
    mine, of_another_store = worker_id(config, "store"), worker_id(config, "other store")
    plain = ["web-1:3f2a", "web-1.example.org:3f2a"]
    others = ["web-2:3f2a", "web-1-2-0123456789ab", "web-10:1", "web-1", "xweb-1:1", "web-1-012345"]

    def ours() -> set[str]:
        return {name for name in (mine, of_another_store, *plain, *others) if is_own_worker(config, name)}

    assert ours() == {mine, of_another_store, *plain}, "the file is gone: rather too many"
    (tmp_path / "run").mkdir()
    write_effective(config, overrides(config, token="store"), tmp_path / "run")
    assert ours() == {mine, *plain}
    named = load(write(tmp_path, {"workerId": "mine"}))
    assert is_own_worker(named, "mine")
    assert not is_own_worker(named, mine)


def test_a_worker_id_of_the_users_own_is_kept(tmp_path: Path) -> None:
    assert "workerId" not in overrides(load(write(tmp_path, {"workerId": "mine"})))
    assert "workerId" in overrides(load(write(tmp_path)))
