"""The pages are true: the protocol's, and every command, option, key, link and path that any page names."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from array import array
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import msgspec
import pytest
from memory_formula import BASE_BYTES, MIB, RECORD_BYTES, generator_bytes

from kcl_receiver import errors
from kcl_receiver.cli.main import COMMANDS, cli
from kcl_receiver.config import kcl_keys
from kcl_receiver.config.properties import RECEIVER_KEYS
from kcl_receiver.daemon.checks import SUGGESTED_GRACE_MILLIS
from kcl_receiver.daemon.supervision import HOPELESS, KILL_MARGIN_SECONDS
from kcl_receiver.generator.runtime import STORE_THREADS
from kcl_receiver.generator.session_registry import HELLO_SECONDS, MAX_TEXT
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.processor.core import RECONNECT_SECONDS
from kcl_receiver.status.live import Condition, Live, Problem, ShardLive
from kcl_receiver.status.report import GeneratorState, LeaseState, ShardState, StreamState, Trouble
from kcl_receiver.store.blocks.encode import ROW_GROUP_BYTES
from kcl_receiver.store.o_direct import LEAST_BYTES, PIECE_BYTES
from kcl_receiver.wire import messages
from kcl_receiver.wire.columns import Columns, VarColumn, checksum
from kcl_receiver.wire.frames import BATCH_BYTES, MAX_MESSAGE, MAX_PAYLOAD, batch_lengths, encode
from kcl_receiver.wire.messages import CODES, PROTOCOL_VERSION, Admitted, Flush, Long, Message, Number

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
PROTOCOL = TEXTS["docs/protocol.md"]
OPERATIONS = TEXTS["docs/operations.md"]

KINDS = sorted(CODES, key=lambda kind: CODES[kind])


# ---------------------------------------------------------------------- docs/protocol.md


def section(page: str, title: str) -> str:
    """Return what stands below a heading, up to the next heading of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}\n", page, re.MULTILINE)
    assert found is not None, f"no heading {title!r}"
    rest = page[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_is_on_the_page_with_its_code_its_sender_and_its_fields(kind: type[Message]) -> None:
    name = kind.__name__
    sender = "processor" if CODES[kind] < 64 else "generator"
    row = re.search(rf"^\| {CODES[kind]} \| \[`{name}`\]\(#{name.lower()}\) \| (\w+) \|", PROTOCOL, re.MULTILINE)
    assert row is not None
    assert row[1] in (sender, "anybody")
    fields = msgspec.structs.fields(kind)
    table = section(PROTOCOL, name).partition("| field | type | meaning |\n")[2].partition("\n\n")[0]
    written = re.findall(r"^\| `(\w+)` \| (\w+)", table, re.MULTILINE)
    assert [field for field, _ in written] == [field.name for field in fields]
    for (field, of), about in zip(written, fields, strict=True):
        annotation = str(about.type)
        expected = "integer" if about.type in (Long, Number) else "array" if "tuple" in annotation else "string"
        assert of == expected, field
    if not fields:
        assert "No fields." in section(PROTOCOL, name)


def test_no_message_is_on_the_page_that_is_not_in_the_code() -> None:
    assert [(int(code), name) for code, name in re.findall(r"^\| (\d+) \| \[`(\w+)`\]", PROTOCOL, re.MULTILINE)] == [
        (CODES[kind], kind.__name__) for kind in KINDS
    ]


def test_the_bounds_of_the_page_are_those_of_the_code() -> None:
    assert f"of version {PROTOCOL_VERSION}." in PROTOCOL
    assert f"version of the protocol: {PROTOCOL_VERSION}\n" in PROTOCOL
    assert f"| a message | {MAX_MESSAGE:,} bytes |" in PROTOCOL
    assert f"| the payload of `Batch` and of `Status` | {MAX_PAYLOAD:,} bytes |" in PROTOCOL
    assert f"{BATCH_BYTES:,}, or the window or a block" in PROTOCOL
    assert PROTOCOL.count(f"at most {MAX_TEXT:,} characters") == 4
    assert f"says nothing for {HELLO_SECONDS:.0f} s is closed" in PROTOCOL
    assert f"{RECONNECT_SECONDS[0] * 1000:.0f} ms at first, then up to {RECONNECT_SECONDS[1]:.0f} s" in PROTOCOL


def indented(text: str) -> Iterator[bytes]:
    """Yield the bytes of each indented line of hexadecimal digits."""
    for line in re.findall(r"^    ((?:[0-9a-f]{2,} *)+)$", text, re.MULTILINE):
        yield bytes.fromhex(line.replace(" ", ""))


def test_the_example_frames_are_true() -> None:
    first, second = indented(section(PROTOCOL, "Frames"))
    assert [first, second] == [bytes(encode(message)[0]) for message in (Flush(), Admitted(1))]


def test_the_example_batch_is_that_of_the_checksum() -> None:
    key = "kéy-日".encode()
    columns = Columns(
        count=2,
        sequence=VarColumn.of([b"49", b"50"]),
        sub=array("q", [0, 1]),
        key=VarColumn.of([b"a", key]),
        arrival=array("q", [1795353301000, -1]),
        data=VarColumn.of([b"", b"\x00\xff"]),
    )
    assert checksum(columns) in TEXTS["docs/format.md"]
    assert f"`{list(batch_lengths(columns))}`" in PROTOCOL
    payload = b"".join(memoryview(part).cast("B") for part in columns.buffers())
    assert b"".join(indented(section(PROTOCOL, "Batch"))) == payload


def test_every_error_of_the_page_is_one_of_ours() -> None:
    named = re.findall(r"^\| `(\w+)` \|", section(PROTOCOL, "Refused").partition("| error |")[2], re.MULTILINE)
    assert len(named) > 5
    for name in named:
        assert issubclass(getattr(errors, name), errors.ReceiverError)


def test_the_code_of_each_message_is_on_one_side_of_64() -> None:
    assert {kind.__name__ for kind in KINDS if CODES[kind] < 64} == {
        *("Hello", "Batch", "Flush", "Progress", "ShardEnd", "Leave", "StatusRequest")
    }
    assert set(KINDS) == {
        kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, Message)
    } - {Message}


# ---------------------------------------------------------------------- docs/operations.md


def rows(table_head: str) -> list[list[str]]:
    """Return the cells of the table of operations.md that begins with this line."""
    table = OPERATIONS.partition(f"\n{table_head}\n")[2].partition("\n\n")[0]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")[1:]]
    assert found, table_head
    return found


def test_the_exit_codes_are_those_of_the_errors() -> None:
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert [int(cells[0]) for cells in rows("| code | meaning | for `run` |")] == sorted(codes)


def test_the_policy_is_json_and_allows_what_the_code_asks_for() -> None:
    policy = json.loads(re.findall(r"```json\n(.*?)```", OPERATIONS, re.DOTALL)[0])
    allowed = {
        action
        for statement in policy["Statement"]
        for action in (statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])
    }
    asked = {
        action for text in string_constants() for action in re.findall(r"\b(?:kinesis|dynamodb):[A-Z][a-z]\w+", text)
    }
    assert "dynamodb:Scan" in asked
    assert asked <= allowed


def test_a_service_manager_waits_longer_than_a_stop_may_take() -> None:
    units = re.findall(r"```ini\n(.*?)```", OPERATIONS, re.DOTALL)
    waits = [int(wait) for unit in units for wait in re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)]
    assert len(waits) == len(units) == 2
    # Once past the grace time, and once more for the generator after the daemon has ended.
    assert min(waits) > SUGGESTED_GRACE_MILLIS / 1000 + 2 * KILL_MARGIN_SECONDS
    restarts = re.search(r"^RestartPreventExitStatus=(.*)$", units[0], re.MULTILINE)
    assert restarts is not None
    assert {int(code) for code in restarts[1].split()} == HOPELESS


def test_every_member_of_the_status_is_on_the_page() -> None:
    text = section(OPERATIONS, "Status")
    whole, _, rest = text.partition("| member of `generator` | meaning |")
    general, _, of_a_shard = rest.partition("| member of a shard | meaning |")
    for struct, page in (
        (Live, whole),
        (Problem, whole),
        (ShardLive, whole),
        (GeneratorState, general),
        (Trouble, general),
        (StreamState, general),
        (ShardState, of_a_shard),
        (LeaseState, of_a_shard),
    ):
        for member in struct.__struct_fields__:
            assert f"`{member}`" in page, member
    for condition in Condition:
        assert f"`{condition.value}`" in whole, condition


def test_the_lines_of_the_log_are_those_of_the_code() -> None:
    constants = "\n".join(string_constants())
    lines = [re.findall(r"`([^`]+)`", cells[0]) for cells in rows("| line | meaning |")]
    assert all(lines)
    for line in (line for cell in lines for line in cell):
        longest = max(line.split("…"), key=len)
        assert longest in re.sub(r"%[sd]", "…", constants), line


@pytest.mark.parametrize(
    "message",
    [
        "first start: the first record comes in {} to {} s, because KCL waits a random 1 to 30 s for another worker to",
        "stopping: draining for {} s at most; a second signal ends it at once",
        "stopped cleanly; the next start resumes from the checkpoints",
        "; it would fail again, so everything stops",
        " did not end in time and is killed",
        "nothing is being read: ",
        "resolved after ",
        "KCL waits 1 to 30 s",
        "KCL has made the leases",
        " exited unexpectedly (",
        "; restarting in ",
        "nothing was stored for {} s during ",
        "no generator answered for {} s during ",
        "free room on this file system; until then nothing is lost, KCL waits",
        "try again; if it stays, it is the service's or the endpoint's trouble",
        "its hash does not fit its content",
        ") already runs this application, with ",
        "lies outside of the shard's sequence numbers",
        "the first range follows a position, and nothing up to it is stored",
        "reading resumed at a checkpoint past what is stored",
        "reading began again at a starting point, and did not meet what is stored",
        "not read within the stream's retention",
        "give each application a store of its own: change receiver.store or applicationName",
        "copy the jars of a complete amazon_kclpy 3.1.x to ",
    ],
)
def test_a_message_of_the_bad_days_is_one_of_the_code(message: str) -> None:
    on_the_page = re.escape(message).replace(re.escape("{}"), r"\d+").replace("\\ ", r"\s+")
    assert re.search(on_the_page, OPERATIONS), "the page does not show it"
    in_the_code = re.escape(message).replace(re.escape("{}"), "…")
    assert re.search(in_the_code, "\n".join(string_constants())), "the code does not say it"


def test_the_table_of_memory_is_that_of_the_formula() -> None:
    settings = GeneratorSettings("landing")
    page = section(OPERATIONS, "Memory")
    assert f"`receiver.windowBytes` ({settings.window_bytes // MIB} MiB)" in page
    assert f"`receiver.blockMaxBytes` ({settings.block_max_bytes // MIB} MiB)" in page
    assert f"min(S x W, {settings.max_in_flight + 1} x K)" in page
    assert f"min(S x W, {settings.max_in_flight} x K)" in page
    assert f"{STORE_THREADS} x (min(K, S x W) + {(3 * ROW_GROUP_BYTES + PIECE_BYTES) // MIB} MiB)" in page
    assert f"Blocks of {LEAST_BYTES // 1024} KiB and more do not go through the page cache" in page
    table = rows("| shards | base | received | admitted | encoded | in work | at most |")
    assert len(table) == 3
    for cells in table:
        shards, *parts, total = map(int, cells)
        assert sum(parts) == total
        assert parts[0] * MIB == BASE_BYTES
        assert parts[1] * MIB == shards * RECORD_BYTES
        assert total * MIB == BASE_BYTES + generator_bytes(shards, settings)


# ---------------------------------------------------------------------- every page


@cache
def string_constants() -> tuple[str, ...]:
    """Return every text in the package's code; what a format fills in stands there as an ellipsis."""
    found = []
    for path in (ROOT / "kcl_receiver").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values))
    return tuple(found)


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    without_code = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_lines(page: str) -> Iterator[str]:
    """Yield each line of a code block, and each piece of code within text."""
    for block in re.findall(r"^```\w*\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").split("\n")
    yield from (span for span in inline_code(page))


def inline_code(page: str) -> list[str]:
    without_blocks = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", without_blocks)]


@cache
def options(command: str) -> frozenset[str]:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None, f"there is no command {command}"
    below = found.commands.values() if isinstance(found, click.Group) else ()
    params = (parameter for one in (found, *below) for parameter in one.params)
    own = {name for parameter in params for name in (*parameter.opts, *parameter.secondary_opts)}
    return frozenset(own | {"-h", "--help"})


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_command_and_option_on_a_page_exists(name: str) -> None:
    for line in code_lines(TEXTS[name]):
        for command, rest in re.findall(r"\bkcl-receiver ([a-z][a-z-]+)\b([^|#;)]*)", line):
            assert command in COMMANDS, line
            assert set(re.findall(r"(?<=\s)--?[a-z][\w-]*", rest)) <= options(command), line
        for rest in re.findall(r"\bkcl-receiver-processor\b([^|#;)]*)", line):
            assert set(re.findall(r"(?<=\s)--?[a-z][\w-]*", rest)) <= {"-p", "--properties"}, line
    ours = {option for command in COMMANDS for option in options(command)} | {"--version"}
    for span in inline_code(TEXTS[name]):
        if re.match(r"--[a-z]", span):
            assert span.split()[0] in ours, span


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_key_on_a_page_exists(name: str) -> None:
    for key in re.findall(r"\breceiver\.[a-z]\w*", "\n".join(code_lines(TEXTS[name]))):
        assert key in RECEIVER_KEYS, key
    for line in code_lines(TEXTS[name]):
        assignment = re.match(r"([a-z]+[A-Z]\w*) ?= ?\S", line)
        if assignment is not None:
            assert kcl_keys.find(assignment[1]) is not None, line


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_link_on_a_page_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_path_of_this_project_on_a_page_exists(name: str) -> None:
    for span in inline_code(TEXTS[name]):
        if re.fullmatch(r"(tests|kcl_receiver|docs|scripts|properties)/[\w./-]+", span):
            assert (ROOT / span).exists(), span


def test_every_page_that_the_code_names_exists_with_its_anchor() -> None:
    texts = [*string_constants(), *(path.read_text("latin-1") for path in (ROOT / "properties").iterdir())]
    named = {found for text in texts for found in re.findall(r"docs/([\w.-]+\.md)(?:#([\w-]+))?", text)}
    assert ("operations.md", "permissions") in named
    for page, anchor in named:
        assert not anchor or anchor in anchors(TEXTS[f"docs/{page}"]), f"{page}#{anchor}"
        assert f"docs/{page}" in TEXTS


def test_the_command_line_says_the_exit_codes_of_the_page() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "kcl_receiver.cli.main", "--help"], capture_output=True, text=True, check=True
    ).stdout
    said = shown.partition("Exit codes:")[2]
    for cells in rows("| code | meaning | for `run` |"):
        assert re.search(rf"\b{cells[0]}\s", said), cells[0]
