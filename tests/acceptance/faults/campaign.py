"""Kills, freezes, fills and cuts off a real receiver on the embedded AWS, and judges what is left: `scripts/faults`.

One round is one fault and its recovery while records keep coming. Prints a line for each round and a report at the end;
exits with 1, and keeps everything, when something that must hold does not.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from faults import disks
from faults.broken import Broken
from faults.kinds import KINDS
from faults.plan import Round, Scene, make_plan
from faults.report import Campaign, line_of, machine, report_of, versions
from faults.theatre import Theatre
from kcl_receiver.errors import ReceiverError

SHORT_ROUNDS = len(KINDS)
"""Every kind once."""


def main(arguments: Sequence[str] | None = None, *, refusal: str | None = None) -> int:
    """Run a campaign; return the exit code.

    Args:
        arguments: The command line, by default this process's.
        refusal: Why nothing can be mounted here, None if it can.
    """
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    impossible = disks.impossible_without_mounts() if refusal is not None else []
    kinds = [kind for kind in options.kinds if kind not in impossible]
    if not kinds:
        _say(f"nothing can be mounted here ({refusal}), and {', '.join(options.kinds)} needs that")
        return 2
    make_disk = disks.choose_disk(refusal)
    campaign = Campaign(options.seed, _command(options), make_disk.means_full, make_disk.means_locked)
    if refusal is not None:
        _say(f"nothing can be mounted here ({refusal}): a full disk is {make_disk.means_full}")
    for kind in set(options.kinds) - set(kinds):
        campaign.left_out.append(f"`{kind}` was left out: nothing can be mounted here, and nothing else stops root.")
        _say(campaign.left_out[-1])
    scenes = make_plan(options.seed, options.rounds, kinds)
    if options.round is not None:
        scenes = _only(scenes, options.round)
    base = _base(options.keep)
    total = sum(len(one.rounds) for one in scenes)
    _say(f"seed {options.seed}, {total} rounds, on {machine()}; {versions()}; everything is in {base}")
    began = time.monotonic()
    good = False
    try:
        for number, scene in enumerate(scenes, 1):
            _play(base / str(number), scene, campaign, make_disk, keep=options.keep is not None, total=options.rounds)
        good = True
    except Broken as broken:
        _say(f"BROKEN: {broken}")
    except KeyboardInterrupt:
        _say("interrupted")
    except ReceiverError as error:
        _say(str(error))
    except Exception:  # noqa: BLE001 - told, and everything is kept
        _say(traceback.format_exc())
    campaign.seconds = time.monotonic() - began
    if not good:
        _say(f"play it again: {campaign.command}\nlogs and stores are kept in {base}")
        return 1
    report = report_of(campaign)
    _say("\n" + report)
    if options.report is not None:
        options.report.write_text(report, encoding="utf-8")
    if options.keep is None:
        shutil.rmtree(base)
    return 0


def _play(base: Path, scene: Scene, campaign: Campaign, make_disk: type[disks.Disk], *, keep: bool, total: int) -> None:
    """Play one theatre; its rounds and its end go into the campaign."""
    theatre = Theatre(base, campaign.seed, scene, make_disk)
    number = 0
    good = False
    try:
        theatre.begin()
        for one in scene.rounds:
            number = one.number
            played = theatre.play(one)
            campaign.played.append(played)
            _say(line_of(played, total))
        ending = theatre.end()
        campaign.endings.append(ending)
        verdict = ending.judgement.verdict
        _say(
            f"{time.strftime('%H:%M:%S')} the end of a theatre with {scene.hosts} host(s): put {verdict.put:,}, "
            f"stored {verdict.stored:,} in {verdict.blocks:,} blocks, lost 0, read {ending.reading.records:,} once each"
        )
        good = True
    except Broken as broken:
        raise Broken(f"{_where(scene, number)}: {broken}") from broken
    finally:
        theatre.close(keep=keep or not good)


def _where(scene: Scene, number: int) -> str:
    kind = next((one.kind for one in scene.rounds if one.number == number), "the start")
    return f"round {number} ({kind}; scripts/faults --round {number} plays it alone)"


def _only(scenes: Sequence[Scene], number: int) -> list[Scene]:
    """Return a campaign of one round."""
    for scene in scenes:
        for one in scene.rounds:
            if one.number == number:
                return [Scene(scene.hosts, (Round(one.number, one.kind),))]
    raise SystemExit(f"there is no round {number}")


def _base(keep: Path | None) -> Path:
    """Return the directory for everything. A socket's path must be short, so that it is not below the project."""
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="faults-"))
    base = keep.absolute()
    base.mkdir(parents=True, exist_ok=True)
    if any(base.iterdir()):
        raise SystemExit(f"{base} is not empty")
    return base


def _command(options: argparse.Namespace) -> str:
    words = ["scripts/faults", f"--rounds {options.rounds}", f"--seed {options.seed}"]
    if list(options.kinds) != list(KINDS):
        words.append(f"--kinds {','.join(options.kinds)}")
    return " ".join(words)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100, help="how many faults (default 100)")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_ROUNDS} rounds: every kind once")
    parser.add_argument("--seed", type=int, default=None, help="decides what happens when (default: by the clock)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of faults: " + ", ".join(KINDS))
    parser.add_argument("--round", type=int, default=None, help="only this round of the campaign, alone")
    parser.add_argument("--keep", type=Path, default=None, help="keep logs and stores in this directory")
    parser.add_argument("--report", type=Path, default=None, help="write the report to this file, as Markdown")
    options = parser.parse_args(arguments)
    options.kinds = options.kinds.split(",")
    if unknown := [kind for kind in options.kinds if kind not in KINDS]:
        parser.error(f"no such kind: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    if options.short:
        options.rounds = len(options.kinds)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.seed is None:
        options.seed = int(time.time()) % 1_000_000
    return options


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
