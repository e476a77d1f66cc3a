"""The command line: what is measured, and where the results go."""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from bench import machine
from bench.bars import judge
from bench.contenders import CONTENDERS
from bench.fleet import Fleet
from bench.lab import NAME, Lab
from bench.phases import Bench
from bench.plot import draw
from bench.process import CommandFailed
from bench.results import Results
from bench.served import METHODS_HOST, SERVED_HOST, Served
from bench.table import bar_table, phase_tables, problems, served_table
from zarpar.errors import ZarparError

PHASES = (
    "fresh",
    "nothing",
    "release",
    "dependencies",
    "rollback",
    "wrapper",
    "served",
    "switch",
    "fleet",
    "growth",
)
DELAYS = (0, 40)
VISITED = (SERVED_HOST, METHODS_HOST)
LONG = ("fresh", "dependencies", "rollback", "fleet", "growth")  # measured a third as often


def bench(
    phase: Annotated[list[str] | None, typer.Option(help=f"Only this phase, of {', '.join(PHASES)}.")] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often each contender has its turn; in the longest phases a third as often.")
    ] = 5,
    delay: Annotated[list[int] | None, typer.Option(help="Added milliseconds of a round trip (0 and 40).")] = None,
    contender: Annotated[list[str] | None, typer.Option(help=f"Only this one, of {', '.join(CONTENDERS)}.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all samples to this file.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the plot to this file.")] = None,
) -> None:
    """Measure Zarpar beside other ways to deploy the same app, on throw-away hosts of this machine.

    --phase, --delay and --contender may be given several times. The machine must be quiet.
    """
    _known("--phase", phase or [], PHASES)
    _known("--contender", contender or [], CONTENDERS)
    about = machine.describe()
    typer.echo("\n".join(f"{name}: {value}" for name, value in about.items()) + "\n")
    results = Results()
    try:
        with _alone(), Lab() as lab:
            names = contender or list(CONTENDERS)
            contenders = [CONTENDERS[name](lab, f"{NAME}{list(CONTENDERS).index(name) + 1}") for name in names]
            run = Bench(lab, contenders, rounds, delay or DELAYS, typer.echo, results)
            served = Served(lab, rounds, typer.echo, results)
            fleet = Fleet(lab, rounds, typer.echo, results)
            steps: dict[str, Callable[[], None]] = {
                "fresh": run.fresh,
                "nothing": run.nothing,
                "release": run.release,
                "dependencies": run.dependencies,
                "rollback": run.rollback,
                "wrapper": run.wrapper,
                "served": served.served,
                "switch": served.switch,
                "fleet": fleet.fleet,
                "growth": fleet.growth,
            }
            for name in phase or PHASES:
                # Idle hosts take part of the machine, and a fleet takes their names.
                kept = VISITED if name in ("served", "switch") else ()
                if kept or name in ("fleet", "growth"):
                    lab.remove([host for host in lab.hosts() if host not in kept])
                run.rounds = fleet.rounds = max(1, rounds // 3) if name in LONG else rounds
                steps[name]()
    except (CommandFailed, ZarparError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted: the hosts are removed", err=True)
        raise typer.Exit(130) from error
    finally:  # what was measured until a failure or Ctrl-C counts
        _report(results, about, json_file, svg)


def main() -> None:
    """Run the program."""
    signal.signal(signal.SIGTERM, _interrupt)
    typer.run(bench)


def _report(results: Results, about: dict[str, str], json_file: Path | None, svg: Path | None) -> None:
    verdicts = judge(results)
    parts = [phase_tables(results), served_table(results.served) if results.served else "", bar_table(verdicts)]
    typer.echo("\n" + "\n\n".join(part for part in parts if part))
    for line in [*results.notes, *problems(results)]:
        typer.echo(f"note: {line}")
    if json_file:
        bars = [verdict.plain() for verdict in verdicts]
        json_file.write_text(json.dumps({"machine": about, "bars": bars, **results.plain()}, indent=1) + "\n")
    if svg:
        where = f"{about['cores']} cores, {about['memory']}, {about['system']}, {about['date']}"
        svg.write_text(draw(results, where))


def _known(flag: str, given: list[str], known: tuple[str, ...] | dict[str, type]) -> None:
    for name in given:
        if name not in known:
            raise typer.BadParameter(f"{name} is none of {', '.join(known)}", param_hint=flag)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End like Ctrl-C, so that the hosts are removed."""
    raise KeyboardInterrupt


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the benchmark's hosts: a second run on the same machine waits."""
    with (Path(tempfile.gettempdir()) / "zarpar-bench.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
