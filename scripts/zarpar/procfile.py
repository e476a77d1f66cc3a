"""What an app runs beside its web server: the Procfile's lines, changed by `processes` of the apps model. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from zarpar.config import NOT_IN_A_LINE, PROCESS, STOP, App
from zarpar.errors import BadData

LINE = re.compile(rf"({PROCESS})[ \t]*:[ \t]*(\S.*)", re.ASCII)
CONTROL = re.compile(f"[{NOT_IN_A_LINE}]")
COMMAND_LIMIT = 4096
APART = ("web", "release")  # what gunicorn and `migrate` are for
# A scheduler that runs twice sends every task twice.
ALONE = frozenset({"beat", "celerybeat", "celery-beat", "celery_beat", "clock", "scheduler"})
SCHEDULERS = frozenset({"rqscheduler", "rqscheduler.py"})
WITH_VALUE = frozenset({"-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir"})
BEAT_FILE = ' --schedule "$ZARPAR_SHARED/celerybeat-schedule"'
# A variable with a password among a command's arguments; before a command (NAME=$SECRET program) it is none of them.
SECRET = re.compile(r"\$\{?((?:DATABASE|REDIS)_URL|\w*(?:PASSWORD|SECRET|TOKEN|KEY))\b", re.ASCII)
GIVEN = re.compile(r"(^|[;&|(])\s*(?:\w+=(?:\"[^\"]*\"|[^\s\"])*\s+)+", re.ASCII)
WORD = re.compile(r"[^\s;&|()]+|[;&|()]+")


def parse(text: str) -> dict[str, str]:
    """The processes of a Procfile: `name: command` lines, blank ones and comments. Raises BadData, naming the line."""
    found: dict[str, str] = {}
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff")), 1):
        line = line.strip(" \t")
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        problem = _problem(match.group(2)) if match else "is not `name: command`"
        if match and match.group(1) in found:
            problem = f"names {match.group(1)} a second time"
        if problem or not match:
            raise BadData(
                f"Procfile, line {number}: {problem}",
                detail=repr(line[:100]),
                hint="One process a line, such as: worker: celery -A app worker",
            )
        found[match.group(1)] = match.group(2)
    return found


def _problem(command: str) -> str:
    if CONTROL.search(command.replace("\t", " ")):
        return "holds a control character"
    if len(command) > COMMAND_LIMIT:
        return f"is longer than {COMMAND_LIMIT} characters"
    try:
        shlex.split(command, comments=True)
    except ValueError as error:
        return f"cannot be split into words: {error}"
    return ""


def processes(name: str, app: App, lines: dict[str, str]) -> list[dict[str, Any]]:
    """What is to run beside web, by name: {name, command, count, stop, single}. lines: the Procfile's.

    single: a scheduler, which runs once, on one host. Raises BadData for a process that nothing says how to run, and
    for a scheduler that is to run more than once.
    """
    found = []
    for each in sorted({*lines, *app.processes} - set(APART)):
        wanted = app.processes.get(each)
        command = (wanted.command if wanted else "") or lines.get(each, "")
        key = f"apps.{name}.processes.{each}"
        if not command:
            known = ", ".join(line for line in lines if line not in APART) or "none"
            raise BadData(
                f"{key}: neither the Procfile nor `command` says what it runs",
                hint=f"Processes of the Procfile: {known}. Or: {each}: {{command: ...}}",
            )
        count = wanted.count if wanted else 1
        single = is_single(each, command)
        if single and count > 1:
            raise BadData(
                f"{key}: it is a scheduler, and must not run {count} times",
                hint="Give it count 1. A Celery worker with -B: leave -B out, and add a process beat: celery beat.",
            )
        if count:
            stop = wanted.stop if wanted else STOP
            found.append({"name": each, "command": runnable(command), "count": count, "stop": stop, "single": single})
    return found


def schedules(app: App) -> list[dict[str, str]]:
    """The app's schedules, by name: {name, command, at}."""
    return [{"name": name, "command": each.command, "at": each.at} for name, each in sorted(app.schedules.items())]


def note(commands: Mapping[str, str]) -> str:
    """A warning of the processes, schedules and release commands (name to command) that show a secret to `ps`."""
    shown = []
    for name, command in commands.items():
        found = SECRET.search(GIVEN.sub(r"\1", command))
        if found:
            shown.append(f"{name} has ${found.group(1)} among its arguments")
    if not shown:
        return ""
    return (
        f"{', '.join(shown)}: everybody on the server who lists processes reads it there. Give it by the environment,"
        " as in RQ_REDIS_URL=$REDIS_URL rq worker"
    )


def is_single(name: str, command: str) -> bool:
    """Whether a process is a scheduler, by its name or by what it runs."""
    words = [word.rpartition("/")[2] for word in command.split()]
    return name.lower() in ALONE or bool(SCHEDULERS & set(words)) or _beat(command) is not None


def runnable(command: str) -> str:
    """The command, with Celery's beat keeping its schedule where it may write: the release's tree is read-only."""
    beat = _beat(command)
    if beat is None:
        return command
    place, options = beat
    told = any(word == "-s" or word.startswith("--schedule") or re.match(r"-s[^-]", word) for word in options)
    return command if told else command[:place] + BEAT_FILE + command[place:]


def _beat(command: str) -> tuple[int, list[str]] | None:
    """Where the words `celery ... beat`, or `celery ... worker` with -B, end, and the words after; None without.

    The words are not those of a shell, which is enough: an option of Celery's own has no blanks in it.
    """
    words = list(WORD.finditer(command))
    for index, word in enumerate(words):
        if word.group().rpartition("/")[2] != "celery":
            continue
        rest = iter(words[index + 1 :])
        for each in rest:
            if each.group() in WITH_VALUE:
                next(rest, None)
            elif not each.group().startswith("-"):
                options = _until_next_command([word.group() for word in rest])
                if each.group() == "beat" or (each.group() == "worker" and {"-B", "--beat"} & set(options)):
                    return each.end(), options
                break
    return None


def _until_next_command(words: list[str]) -> list[str]:
    end = next((index for index, word in enumerate(words) if word[0] in ";&|()"), len(words))
    return words[:end]
