from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kcl_receiver import __version__
from kcl_receiver.cli import main as module
from kcl_receiver.cli.main import COMMANDS, cli, run_cli
from kcl_receiver.errors import EnvironmentProblem

WRITTEN = [name for name in COMMANDS if importlib.util.find_spec(f"kcl_receiver.cli.{name}")]


def command_named(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", WRITTEN)
def test_every_command_has_help_and_examples(name: str) -> None:
    help_text = command_named(name).help or ""
    assert len(help_text) > 80
    examples = help_text.partition("Examples:")[2]
    assert f"kcl-receiver {name}" in examples


@pytest.mark.parametrize("name", WRITTEN)
def test_every_option_has_help(name: str) -> None:
    for parameter in command_named(name).params:
        assert isinstance(parameter, click.Option), f"{parameter.name}: only options, no bare arguments"
        assert parameter.help or parameter.hidden, parameter.name


@pytest.mark.parametrize("name", WRITTEN)
def test_the_list_of_commands_says_what_the_command_itself_says(name: str) -> None:
    assert " ".join((command_named(name).help or "").partition("\n\n")[0].split()) == COMMANDS[name]


def test_help_lists_every_command_without_importing_one() -> None:
    code = (
        "import sys\nfrom kcl_receiver.cli.main import run_cli\nrun_cli(['-h'])\n"
        "imported = [name for name in sys.modules if name.startswith(('kcl_receiver.', 'boto', 'pyarrow'))]\n"
        "print(imported, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    assert done.stderr.strip() == (
        "['kcl_receiver.cli', 'kcl_receiver.cli.output', 'kcl_receiver.errors', 'kcl_receiver.cli.main']"
    )


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["--version"]) == 0
    assert capsys.readouterr().out == f"kcl-receiver, version {__version__}\n"


def test_a_mistyped_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["chek"]) == 2
    assert "did you mean 'check'?" in capsys.readouterr().err


def raising(error: BaseException) -> click.Command:
    def callback() -> None:
        raise error

    return click.Command("check", callback=callback)


def test_an_error_is_printed_on_stderr_with_its_hint_and_exits_with_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = EnvironmentProblem("no Java", "install one")
    monkeypatch.setattr(module.LazyGroup, "get_command", lambda *_: raising(error))
    assert run_cli(["check"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "EnvironmentProblem: no Java\nHint: install one\n"


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module.LazyGroup, "get_command", lambda *_: raising(KeyboardInterrupt()))
    assert run_cli(["check"]) == 130


def test_an_exit_code_of_the_command_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def callback() -> None:
        click.get_current_context().exit(5)

    monkeypatch.setattr(module.LazyGroup, "get_command", lambda *_: click.Command("check", callback=callback))
    assert run_cli(["check"]) == 5


def test_output_that_nobody_reads_any_more_is_no_traceback() -> None:
    code = "import sys; from kcl_receiver.cli.main import main; sys.argv[1:] = ['-h']; main()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert b"Traceback" not in err
    assert process.returncode == 1


@pytest.mark.parametrize(("value", "coloured"), [(None, True), ("", True), ("1", False)])
def test_no_color_takes_colours_away_from_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, coloured: bool
) -> None:
    file = tmp_path / "x.properties"
    file.write_text("applicationName = a\n")
    result = CliRunner().invoke(cli, ["check", "-p", str(file), "--offline"], color=True, env={"NO_COLOR": value})
    assert "streamName" in result.output
    assert ("\x1b[" in result.output) is coloured
