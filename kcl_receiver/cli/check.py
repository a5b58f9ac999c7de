"""`kcl-receiver check`: what is wrong, before anything runs."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import click

from kcl_receiver.cli.options import output_option, properties_option
from kcl_receiver.cli.output import printable
from kcl_receiver.config import properties as properties_file
from kcl_receiver.config.properties import ReceiverConfig
from kcl_receiver.daemon.checks import problem_findings, settings_findings
from kcl_receiver.daemon.findings import ERROR, OK, WARNING, Finding, exit_code

_INDENT = " " * 11
_COLOURS = {OK: "green", WARNING: "yellow", ERROR: "red"}


@click.command()
@properties_option
@click.option("--java", metavar="PATH", help="The java executable, instead of the one that would be found.")
@click.option("--offline", is_flag=True, help="Do not ask AWS for the stream and its leases.")
@output_option
@click.pass_context
def check(ctx: click.Context, properties: str, java: str | None, offline: bool, output: str) -> None:
    """Say what is wrong with settings, machine, store or stream before anything runs.

    Nothing is changed. Each finding has its reason, and the line to write instead. If a receiver runs, what is wrong
    with it is told as well. The exit code is that of the first area with an error: 2 settings, 3 machine, 4 store,
    5 stream, 1 the receiver that runs; warnings alone exit with 0.

    \b
    Examples:
      kcl-receiver check --properties landing.properties
      kcl-receiver check --properties landing.properties --offline
      kcl-receiver check --properties landing.properties --output json | jq '.findings[].reason'
    """
    from kcl_receiver.daemon.probes import probe_running  # noqa: PLC0415 - boto3 and pyarrow: help does without them

    config, findings = examine(properties, java, offline=offline)
    if config is not None and not offline:
        findings += probe_running(config)
    if output == "json":
        click.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}, indent=2, ensure_ascii=False))
    else:
        show(findings)
    ctx.exit(exit_code(findings))


def examine(properties: str, java: str | None, *, offline: bool) -> tuple[ReceiverConfig | None, list[Finding]]:
    """Return the settings and everything that can be found; a file that cannot be understood is not looked at further.

    Raises:
        ConfigError: The file cannot be read.
    """
    from kcl_receiver.daemon import probes  # noqa: PLC0415 - boto3 and pyarrow: help has to do without them

    path = Path(os.path.abspath(properties))  # noqa: PTH100 - keeps links, as the daemon does
    config, problems = properties_file.inspect(path, properties_file.read(path))
    if config is None:
        return None, problem_findings(problems)
    findings = settings_findings(config, problems)
    findings += probes.probe_machine(config, java)
    findings += probes.probe_store(config)
    if not offline:
        findings += probes.probe_stream(config)
    return config, findings


def show(findings: list[Finding], *, err: bool = False) -> None:
    """Print findings for a reader, on stderr if `err`; colours only on a terminal."""
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    for area, group in groupby(findings, key=lambda finding: finding.area):
        click.secho(area, bold=True, err=err)
        for finding in group:
            mark = click.style(f"{finding.severity:<7}", fg=_COLOURS[finding.severity])
            text = printable(f"{finding.subject}: {finding.reason}")
            lines = textwrap.wrap(text, width - len(_INDENT), break_long_words=False, break_on_hyphens=False)
            click.echo(f"  {mark}  " + f"\n{_INDENT}".join(lines), err=err)
            if finding.instead:
                # Never wrapped: it is there to be copied.
                click.echo(f"{_INDENT}-> {click.style(printable(finding.instead), bold=True)}", err=err)
    counts = Counter(finding.severity for finding in findings)
    errors, warnings = counts[ERROR], counts[WARNING]
    click.echo(err=err)
    if errors or warnings:
        click.echo(f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}.", err=err)
    else:
        click.echo("All is well.", err=err)
