"""`kcl-receiver command`: the daemon's command line, to be run by hand or by a service manager."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import click

from kcl_receiver.cli.options import properties_option
from kcl_receiver.config.properties import load
from kcl_receiver.daemon.checks import check_settings
from kcl_receiver.daemon.command import daemon_command, refuse_latest
from kcl_receiver.daemon.findings import ERROR, WARNING
from kcl_receiver.daemon.jars import find_jars
from kcl_receiver.daemon.java import find_java
from kcl_receiver.daemon.tuning import tune
from kcl_receiver.errors import ConfigError


@click.command()
@properties_option
@click.option("--java", metavar="PATH", help="The java executable, instead of the one that would be found.")
@click.option("--log-configuration", metavar="FILE", help="A logback file, instead of the one of this package.")
def command(properties: str, java: str | None, log_configuration: str | None) -> None:
    """Print the command line of the java daemon.

    One line, quoted for a shell, with absolute paths only. Started by it, the daemon starts the processors, and the
    first processor starts the generator; nothing else needs to run. A starting position that loses data is refused;
    other settings that break a promise are told on stderr.

    \b
    Examples:
      kcl-receiver command --properties landing.properties
      eval "exec $(kcl-receiver command --properties landing.properties)"
      kcl-receiver command -p landing.properties --java /opt/jre/bin/java --log-configuration logback.xml
    """
    config = load(properties)
    refuse_latest(config, int(time.time() * 1000))
    for finding in check_settings(config):
        if finding.severity == ERROR or finding.subject == "executableName":
            click.echo(f"{WARNING}: {finding.subject}: {finding.reason}", err=True)
    logback = None if log_configuration is None else Path(log_configuration)
    if logback is not None and not logback.is_file():
        raise ConfigError(f"--log-configuration {logback}: there is no such file", "name a logback configuration")
    found = find_java(java, config.java)
    tuning = tune(config, found).options
    line = daemon_command(config, found.path, find_jars(config.jars), log_configuration=logback, tuning=tuning)
    click.echo(shlex.join(line))
