"""The commands of everyday: init, secrets, env, logs, run, schedules, doctor. Registered with `cli.app`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from zarpar import plan
from zarpar.cli import EPILOG, Apps, AskVault, Env, Json, Limit, Yes, _find, app
from zarpar.diagnosis import plain
from zarpar.errors import BadData, Exit
from zarpar.ui import Ui

if TYPE_CHECKING:
    from zarpar.connection import Server
    from zarpar.remote import Wish

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


class Action(StrEnum):
    """What `zarpar secrets` is to do."""

    edit = "edit"
    set = "set"
    list = "list"


class Scheduled(StrEnum):
    """What `zarpar schedules` is to do."""

    list = "list"
    run = "run"
    log = "log"


@app.command(epilog=EPILOG)
def init(
    checkout: Annotated[
        str, typer.Argument(metavar="[APP_CHECKOUT]", help="The app's checkout.", show_default=False)
    ] = ".",
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The server's address.")] = "",
    domain: Annotated[str, typer.Option("--domain", metavar="DOMAIN", help="The app's domain.")] = "",
    env: Annotated[str, typer.Option("--env", metavar="NAME", help="The new environment's name.")] = "prod",
    user: Annotated[str, typer.Option("--user", metavar="USER", help="Who to log in as, by SSH key.")] = "root",
    name: Annotated[str, typer.Option("--app", metavar="NAME", help="The app's name; its folder's without.")] = "",
    yes: Yes = False,
) -> None:
    """Write an inventory for an app: what its checkout says becomes inventories/NAME of the current folder.

    Reads Procfile, pyproject.toml, requirements.txt, manage.py, render.yaml, app.json, docker-compose.yml and the code,
    and runs none of it. Says where each key comes from, and what cannot be carried over. Overwrites nothing.

    \b
    Examples:
      zarpar init
      zarpar init --host 203.0.113.10 --domain shop.example.com
      zarpar init ../shop --env staging --host 203.0.113.11 --domain staging.example.com --user deploy
    """
    from zarpar import discover
    from zarpar import init as making

    screen = Ui()
    found = discover.discover(Path(checkout))
    if name:
        found.name = name
    asking = sys.stdin.isatty() and not yes
    for line in [f"{found.folder}: an app, called {found.name}", *_told(found)]:
        screen.say(line)
    host = host or _demand("--host", "The server's address", asking)
    domain = (domain or _demand("--domain", "The app's domain", asking)).strip().rstrip(".").lower()
    wanted = making.Wanted(env, host.strip(), domain, user)
    inventory = Path.cwd() / "inventories" / env
    files, password = making.write(found, wanted, inventory, plan.find_checkout(), os.environ)
    screen.say("")
    for path in files:
        screen.say(f"wrote {_shown(path)}")
    screen.say(f"the vault's password is in {_shown(password)}: keep a copy, and never commit it", "bold")
    for text in found.left:
        screen.say(f"not carried over: {text}", "yellow")
    for text in found.warnings:
        screen.say(f"warning: {text}", "yellow")
    if found.unknown:
        names = ", ".join(sorted(found.unknown))
        screen.say(f"fill in what only you know, in {_shown(inventory / making.APPS)}: {names}")
    screen.say(f"next: zarpar doctor {env}, then: zarpar deploy {env}", "bold green")


@app.command(epilog=EPILOG)
def secrets(
    env: Env,
    action: Annotated[Action, typer.Argument(help="edit (in your editor), set NAME (from standard input), list.")],
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="For set: such as SECRET_KEY.", show_default=False)
    ] = "",
    only: Annotated[str, typer.Option("--app", metavar="NAME", help="For set: the app whose environment it is.")] = "",
) -> None:
    """Edit the vault of ENV, set a secret in it, or list the names in it. Values are never shown.

    `set` reads the value from standard input (a terminal asks, and shows nothing). NAME is a name in the app's
    environment, such as SECRET_KEY, or a variable of the vault, such as vault_shop_secret_key.

    \b
    Examples:
      zarpar secrets prod list
      zarpar secrets prod set MAIL_PASSWORD --app shop < password.txt
      zarpar secrets prod edit
    """
    from zarpar import connection, vault

    checkout, target = _find(env)
    environment = plan.child_environment(checkout, os.environ, target.inventory)
    os.environ.update(environment)  # before Ansible is imported
    screen = Ui()
    if action is Action.edit:
        raise typer.Exit(_edit_vault(target, environment))
    text = vault.read(target.inventory, environment)
    if action is Action.list:
        uses = _uses(connection.load(checkout, target)) if text else {}
        rows = [(each, ", ".join(uses.get(each, [])) or "nothing") for each in vault.names(text)]
        rows += [(each, f"{', '.join(where)}: is missing") for each, where in uses.items() if each not in dict(rows)]
        screen.table(("Name", "Used by"), rows)
        return
    if not name:
        raise BadData("which secret is to be set?", hint=f"zarpar secrets {env} set NAME < FILE")
    inventory = connection.load(checkout, target)
    variable, use = name, ""
    if not name.startswith("vault_"):
        owner = inventory.app(only)
        variable = vault.variable(owner, name)
        use = f'apps.{owner}.env: {name}: "{vault.reference(variable)}"'
    value = screen.secret(f"Value of {name}") if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
    if not value:
        raise BadData(f"{name}: the value is empty", hint=f"zarpar secrets {env} set {name} < FILE")
    path = vault.write(target.inventory, vault.with_value(text, variable, value), environment)
    screen.say(f"{variable} is set in {_shown(path)}")
    if use and variable not in _uses(inventory):
        screen.say(f"next: nothing uses it yet; in apps.yml: {use}", "bold")
    else:
        screen.say(f"next: zarpar deploy {env}", "bold")


@app.command("env", epilog=EPILOG)
def show_names(env: Env, apps: Apps = None, json: Json = False, ask_vault_pass: AskVault = False) -> None:
    """Show the names in each app's environment, and where their values come from. Never a value.

    \b
    Examples:
      zarpar env prod
      zarpar env prod --app shop --json
    """
    from zarpar import connection, environment

    checkout, target = _find(env)
    inventory = connection.load(checkout, target, ask_vault_pass=ask_vault_pass)
    wanted = [inventory.app(each) for each in apps or inventory.apps]
    found = {each: environment.names(inventory.apps[each]) for each in wanted}
    Ui().table(("App", "Name", "From"), [(each, key, its) for each in found for key, its in found[each].items()])
    if json:
        Ui().result({"command": "env", "environment": target.name, "apps": found})


@app.command(epilog=EPILOG)
def logs(
    env: Env,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="10m, 2h, yesterday, 2026-01-31 12:00 (UTC).")
    ] = "",
    apps: Apps = None,
    limit: Limit = "",
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", min=0, help="The newest N lines of a host.")
    ] = 100,
    process: Annotated[
        str, typer.Option("--process", metavar="NAME", help="Only of this process, such as web or worker.")
    ] = "",
    ask_vault_pass: AskVault = False,
) -> None:
    """Show what the apps logged, on all servers that run them, each line after its server's name. Times are UTC.

    \b
    Examples:
      zarpar logs prod
      zarpar logs prod -f --app shop
      zarpar logs prod --since 2h --limit web1
      zarpar logs prod --process worker
    """
    from zarpar import connection, remote

    checkout, target = _find(env)
    plan.Choices(limit=limit)  # checks it
    inventory = connection.load(checkout, target, limit=limit, ask_vault_pass=ask_vault_pass)
    wanted = tuple(inventory.app(each) for each in apps or inventory.apps)
    if not wanted:
        raise BadData(f"{target.inventory} has no app")
    files = tuple(each for each in wanted if _says(inventory.apps[each], "logs") == "file")
    _tell_logs(inventory.of_group("web", "worker"), remote.Wish(wanted, files, since, lines, follow, process))


def _tell_logs(web: Sequence[Server], wish: Wish) -> NoReturn:
    """Print the wanted lines of all servers, and exit with what that comes to."""
    from zarpar import remote

    try:
        problems = remote.logs(web, wish, typer.echo)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    for problem in problems:
        Ui().error(problem)
    raise typer.Exit(_together([problem.exit_code for problem in problems], len(web)))


@app.command(epilog=EPILOG)
def run(
    env: Env,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command and its words.")],
    only: Annotated[str, typer.Option("--app", metavar="NAME", help="In this app's release.")] = "",
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="On this server; the first web server without.")
    ] = "",
    ask_vault_pass: AskVault = False,
) -> None:
    """Run a one-off command in the live release: in its tree, with its environment, as its user.

    Standard input and output are yours, a terminal too; the exit code is the command's (125: it could not be tried,
    126: not a program, 127: no such program).

    \b
    Examples:
      zarpar run prod -- flask shell
      zarpar run prod --app shop -- python manage.py createsuperuser
      zarpar run prod --host web2 -- python -c 'import sys; print(sys.version)'
    """
    from zarpar import connection, remote
    from zarpar.actions import program

    checkout, target = _find(env)
    inventory = connection.load(checkout, target, ask_vault_pass=ask_vault_pass)
    there = inventory.of_group("web", "worker")
    chosen = next((server for server in there if server.name == host), None) if host else there[0]
    if chosen is None:
        known = ", ".join(one.name for one in there)
        raise BadData(f"--host: {host!r} is no server that runs apps", hint=f"There are: {known}")
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    owner = inventory.app(only)
    try:
        code = remote.run_command(chosen, program()[0], owner, command, terminal=terminal)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    raise typer.Exit(code if code >= 0 else 128 - code)


@app.command(epilog=EPILOG)
def schedules(
    env: Env,
    action: Annotated[Scheduled, typer.Argument(help="list, run NAME (now), log NAME.")] = Scheduled.list,
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="The schedule, for run and log.", show_default=False)
    ] = "",
    only: Annotated[str, typer.Option("--app", metavar="NAME", help="Of this app.")] = "",
    json: Json = False,
    ask_vault_pass: AskVault = False,
) -> None:
    """List the schedules of ENV: when each is next, and how the last run ended; run one now, or show its log.

    A schedule runs on one server, and never twice at once. `run` tells what the command says until it ends, and exits
    with its code; a run that goes on already is followed. Times are UTC.

    \b
    Examples:
      zarpar schedules prod
      zarpar schedules prod run cleanup
      zarpar schedules prod log cleanup --app shop
    """
    from zarpar import connection, remote
    from zarpar.actions import program

    checkout, target = _find(env)
    inventory = connection.load(checkout, target, ask_vault_pass=ask_vault_pass)
    wanted = [inventory.app(only)] if only else list(inventory.apps)
    there = inventory.of_group("web", "worker")
    if action is not Scheduled.list and not name:
        raise BadData("which schedule is meant?", hint=f"See which there are: zarpar schedules {env}")
    if action is Scheduled.log:
        owner = inventory.app(only)
        _tell_logs(there, remote.Wish((owner,), schedule=name))
    found = remote.schedules(there, program()[0], wanted)
    if action is Scheduled.run:
        meant = [(server, each) for server, each in found if each["name"] == name]
        if len(meant) != 1:
            known = ", ".join(f"{each['app']}: {each['name']}" for _, each in found) or "none"
            summary = f"several apps have a schedule {name!r}" if meant else f"there is no schedule {name[:40]!r}"
            raise BadData(summary, hint="Say --app NAME." if meant else f"In the live releases there are: {known}")
        server, each = meant[0]
        try:
            code = remote.run_schedule(server, program()[0], each["app"], name)
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
        raise typer.Exit(code if code >= 0 else 128 - code)
    keys = ("app", "name", "at", "next", "last", "outcome")
    screen = Ui()
    screen.table(
        ("Host", "App", "Schedule", "At", "Next", "Last", "Outcome"),
        [(server.name, *(plain(str(each[key])) for key in keys)) for server, each in found],
    )
    if json:
        told = [{"host": server.name, **each} for server, each in found]
        screen.result({"command": "schedules", "environment": target.name, "schedules": told})


@app.command(epilog=EPILOG)
def doctor(
    env: Env,
    limit: Limit = "",
    resolver: Annotated[str, typer.Option("--resolver", metavar="ADDRESS", help="Ask this name server.")] = "",
    json: Json = False,
    ask_vault_pass: AskVault = False,
) -> None:
    """Look at the servers of ENV and the way to them: what would stop a deploy, and what mends it. Changes nothing.

    SSH, sudo, system, memory, disk, clock, apt; DNS of each domain; port 80 with a random token, which the server
    shows for as long as this command runs.

    \b
    Examples:
      zarpar doctor prod
      zarpar doctor prod --limit web1 --resolver 1.1.1.1
    """
    from zarpar import connection, doctor

    checkout, target = _find(env)
    plan.Choices(limit=limit)  # checks it
    if resolver and not doctor.plain_address(resolver):
        raise BadData(f"--resolver: {resolver!r} is no address", hint="Such as 1.1.1.1")
    inventory = connection.load(checkout, target, limit=limit, ask_vault_pass=ask_vault_pass)
    screen = Ui()

    def tell(finding: doctor.Finding) -> None:
        line = f"{finding.level:<5} {finding.subject:<20} {finding.check:<9} {finding.seen}"
        screen.say(line, STYLES[finding.level])
        if finding.hint:
            screen.say(f"      next: {finding.hint.replace(' ENV', f' {env}')}")

    found = doctor.examine(inventory, resolver, tell)
    if json:
        told = [asdict(finding) for finding in found]
        screen.result({"command": "doctor", "environment": target.name, "findings": told})
    failed = [finding for finding in found if finding.level == "fail"]
    unreachable = {finding.subject for finding in failed if finding.check == "SSH"}
    if len(unreachable) == len(inventory.servers):
        raise typer.Exit(Exit.UNREACHABLE)
    raise typer.Exit(Exit.FAILED if failed else Exit.OK)


def _told(found: Any) -> list[str]:
    """One line per key that was found, with where."""
    return [f"  {key:<10} {_one(value)}  ({found.why[key]})" for key, value in found.keys.items()]


def _one(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {entry}" for key, entry in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _demand(flag: str, question: str, asking: bool) -> str:
    if not asking:
        raise BadData(f"{flag} is missing", hint="zarpar init --host ADDRESS --domain DOMAIN")
    return str(typer.prompt(question, err=True))


def _shown(path: Path) -> str:
    """A path as a person here would write it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _edit_vault(target: plan.Environment, environment: Mapping[str, str]) -> int:
    """Open the vault in the person's editor, by ansible-vault; a vault that is not there is made."""
    from zarpar import vault

    path = target.inventory / vault.VAULT
    if not vault.is_encrypted(path):
        vault.write(target.inventory, vault.read(target.inventory, environment) or "# NAME: value\n", environment)
    editor = {name: os.environ[name] for name in ("EDITOR", "VISUAL") if name in os.environ}
    password = {"ANSIBLE_VAULT_PASSWORD_FILE": str(vault.password_file(target.inventory, environment))}
    argv = [str(Path(sys.executable).with_name("ansible-vault")), "edit", str(path)]
    code = subprocess.run(argv, env={**environment, **editor, **password}, check=False).returncode  # noqa: S603
    if code == 0:
        vault.names(vault.read(target.inventory, environment))  # refuses what a deploy would
    return Exit.FAILED if code else Exit.OK


def _uses(inventory: Any) -> dict[str, list[str]]:
    """The vault's variables that the apps mean, and where."""
    from zarpar import environment

    return environment.vault_uses(inventory.apps)


def _says(entry: object, key: str) -> str:
    return str(entry.get(key, "")) if isinstance(entry, Mapping) else ""


def _together(codes: list[int], servers: int) -> int:
    """The exit code of a command that went to several servers."""
    if not codes:
        return Exit.OK
    if len(codes) < servers:
        return Exit.PARTIAL
    return Exit.UNREACHABLE if set(codes) == {Exit.UNREACHABLE} else Exit.FAILED
