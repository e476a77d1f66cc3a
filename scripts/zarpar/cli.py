"""The commands of `zarpar`. Each is a list of steps; the work is in the layers below."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from zarpar import plan, runner
from zarpar.errors import EXIT_CODES, Exit, Interrupted, ZarparError
from zarpar.plan import Choices, Environment, Plan
from zarpar.runlog import open_log
from zarpar.story import Moment, Story
from zarpar.ui import Ui

EPILOG = f"\b\nExit codes:\n{EXIT_CODES}"

app = typer.Typer(
    name="zarpar",
    help="Takes a Python web app from a Git checkout to HTTPS on your own servers.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
lab_app = typer.Typer(
    help="Throw-away servers on this machine, to try and to rehearse.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(lab_app, name="lab")

Env = Annotated[str, typer.Argument(metavar="ENV", help="A folder under inventories/, by name, or a path to one.")]
Ref = Annotated[str, typer.Option(metavar="REF", help="Release this branch, tag or commit.")]
Apps = Annotated[list[str] | None, typer.Option("--app", metavar="NAME", help="Only this app; may be repeated.")]
Limit = Annotated[str, typer.Option(metavar="HOSTS", help="Only these hosts or groups.")]
Check = Annotated[bool, typer.Option("--check", help="Change nothing; tell what would be changed.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Each change, and Ansible's own output.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")]
WaitLock = Annotated[
    int, typer.Option("--wait-lock", metavar="SECONDS", min=0, help="Wait so long for another deploy to end.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
LabEnv = Annotated[str, typer.Argument(metavar="[ENV]", help="The lab's inventory.", show_default=False)]
AskVault = Annotated[bool, typer.Option("--ask-vault-pass", "-J", help="Ask for the vault password.")]
AskBecome = Annotated[bool, typer.Option("--ask-become-pass", "-K", help="Ask for the sudo password.")]


def main() -> None:
    """Run `zarpar`; the exit code says how it went."""
    try:
        app(prog_name="zarpar")
    except ZarparError as error:
        Ui(verbose="-v" in sys.argv or "--verbose" in sys.argv).error(error)
        sys.exit(error.exit_code)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"zarpar {installed('zarpar')}")
        raise typer.Exit


@app.command(epilog=EPILOG)
def deploy(
    env: Env,
    ref: Ref = "",
    apps: Apps = None,
    limit: Limit = "",
    check: Check = False,
    verbose: Verbose = False,
    json: Json = False,
    yes: Yes = False,
    wait_lock: WaitLock = 0,
    ask_vault_pass: AskVault = False,
    ask_become_pass: AskBecome = False,
) -> None:
    """Bring the servers of ENV into shape, then release, server after server.

    Running it again is safe, and does nothing when there is nothing to do.

    \b
    Examples:
      zarpar deploy lab
      zarpar deploy prod
      zarpar deploy prod --app shop --ref v1.4
      zarpar deploy prod --limit web1 --check
    """
    choices = Choices(tuple(apps or ()), ref, limit, check, verbose, ask_vault_pass, ask_become_pass, wait_lock)
    _play("deploy", "site.yml", env, choices, json=json, ask=not yes)


@app.command(epilog=EPILOG)
def provision(
    env: Env,
    limit: Limit = "",
    check: Check = False,
    verbose: Verbose = False,
    json: Json = False,
    yes: Yes = False,
    ask_vault_pass: AskVault = False,
    ask_become_pass: AskBecome = False,
) -> None:
    """Bring the servers of ENV into shape, and release nothing.

    \b
    Examples:
      zarpar provision lab
      zarpar provision prod --check --verbose
      zarpar provision prod --limit web2
    """
    choices = Choices((), "", limit, check, verbose, ask_vault_pass, ask_become_pass)
    _play("provision", "playbooks/provision.yml", env, choices, json=json, ask=not yes)


@app.command(epilog=EPILOG)
def rollback(
    env: Env,
    to: Annotated[str, typer.Option("--to", metavar="ID", help="Go back to this release.")] = "",
    apps: Apps = None,
    limit: Limit = "",
    force: Annotated[bool, typer.Option("--force", help="Even to code that does not know the schema.")] = False,
    verbose: Verbose = False,
    json: Json = False,
    yes: Yes = False,
    ask_vault_pass: AskVault = False,
    ask_become_pass: AskBecome = False,
) -> None:
    """Go back to the newest good release that every server has, through the same health gate.

    The release that is left counts as bad, so that doing it again walks further back. Refused when the older code
    does not know the database's schema.

    \b
    Examples:
      zarpar rollback prod
      zarpar rollback prod --app shop
      zarpar rollback prod --to 3f2a9c1d-a1b2c3
    """
    choices = Choices(
        tuple(apps or ()), "", limit, False, verbose, ask_vault_pass, ask_become_pass, release=to, force=force
    )
    _play("rollback", "playbooks/rollback.yml", env, choices, json=json, ask=not yes)


@app.command(epilog=EPILOG)
def releases(
    env: Env,
    apps: Apps = None,
    limit: Limit = "",
    verbose: Verbose = False,
    json: Json = False,
    ask_vault_pass: AskVault = False,
    ask_become_pass: AskBecome = False,
) -> None:
    """Show the releases of every server, the newest first: what, who, when, and how it went.

    \b
    Examples:
      zarpar releases prod
      zarpar releases prod --app shop --json
    """
    choices = Choices(tuple(apps or ()), "", limit, False, verbose, ask_vault_pass, ask_become_pass)
    _ask("releases", env, choices, json, Ui.history)


@app.command(epilog=EPILOG)
def status(
    env: Env,
    apps: Apps = None,
    limit: Limit = "",
    verbose: Verbose = False,
    json: Json = False,
    ask_vault_pass: AskVault = False,
    ask_become_pass: AskBecome = False,
) -> None:
    """Show which release serves, per host and app. Changes nothing.

    \b
    Examples:
      zarpar status prod
      zarpar status prod --app shop --json
    """
    choices = Choices(tuple(apps or ()), "", limit, False, verbose, ask_vault_pass, ask_become_pass)
    _ask("status", env, choices, json, Ui.statuses)


@app.command(epilog=EPILOG)
def verify(env: Env, verbose: Verbose = False) -> None:
    """Test the servers of ENV from outside and inside. Changes nothing.

    \b
    Examples:
      zarpar verify lab
      zarpar verify prod --verbose
    """
    checkout, target = _find(env)
    code = runner.run_plainly(plan.suite(checkout, target, Choices(verbose=verbose), os.environ))
    raise typer.Exit({0: Exit.OK, 2: Exit.INTERRUPTED, 4: Exit.REFUSED}.get(code, Exit.FAILED))


@lab_app.command("up")
def lab_up(env: LabEnv = "lab") -> None:
    """Start the lab's servers; the first time this builds their image.

    \b
    Example:
      zarpar lab up
    """
    _start_lab(_find(env)[1], Ui())


@lab_app.command("down")
def lab_down(
    env: LabEnv = "lab",
    everything: Annotated[bool, typer.Option("--all", help="The servers of every inventory on this machine.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="The images and keys as well.")] = False,
) -> None:
    """Remove the lab's servers; nothing of them runs afterwards.

    \b
    Examples:
      zarpar lab down
      zarpar lab down --all --purge
    """
    from zarpar import lab

    inventory = None if everything else _find(env)[1].inventory
    lab.down(inventory, say=Ui().say, purge=purge)


@lab_app.command("status")
def lab_status() -> None:
    """Show the lab's servers on this machine.

    \b
    Example:
      zarpar lab status
    """
    from zarpar import lab

    rows = [
        (one.name, one.image, one.address, "runs" if one.running else "stopped", "yes" if one.ssh else "no")
        for one in lab.status()
    ]
    Ui().table(("Host", "Image", "Address", "State", "SSH"), rows)


@lab_app.command("ssh")
def lab_ssh(
    host: Annotated[str, typer.Argument(metavar="HOST", help="A host of the inventory, such as web1.")],
    env: Annotated[str, typer.Option("--env", metavar="ENV", help="The lab's inventory.")] = "lab",
) -> None:
    """Log in to one of the lab's servers.

    \b
    Example:
      zarpar lab ssh web1
    """
    from zarpar import lab

    _, target = _find(env)
    runner.become(lab.ssh_command(target.inventory, host))


def _play(command: str, playbook: str, env: str, choices: Choices, *, json: bool, ask: bool) -> None:
    """Run a playbook that changes hosts, tell its story, and exit with what it comes to."""
    checkout, target = _find(env)
    log = open_log(checkout, command, target.name)
    screen = Ui(verbose=choices.verbose, check=choices.check, log=log)
    start = time.monotonic()
    is_lab = _is_lab(target)
    if is_lab and not choices.check:
        _start_lab(target, screen)
    if ask and not (is_lab or choices.check) and sys.stdin.isatty():
        _confirm(f"{command} {target.name} ({target.inventory})?", screen)
    story = _run(plan.playbook(checkout, playbook, target, choices, os.environ), screen)
    seconds = time.monotonic() - start
    if story.wants_undo:
        _undo(checkout, target, choices, story, screen)
    screen.summary(story, seconds)
    if json:
        screen.result(_facts(command, target, story) | {"check": choices.check, "seconds": round(seconds, 1)})
    raise typer.Exit(story.exit_code())


def _undo(checkout: Path, target: Environment, choices: Choices, story: Story, screen: Ui) -> None:
    """Take a failed deploy back on the servers that it had switched (app_release_on_failure: undo)."""
    screen.say("Undoing what this deploy switched")
    wanted = replace(choices, deploy=story.undo, limit="", ref="")
    story.undone(_run(plan.playbook(checkout, "playbooks/undo.yml", target, wanted, os.environ), screen))


def _ask(command: str, env: str, choices: Choices, json: bool, show: Callable[[Ui, Story], None]) -> None:
    """Ask every web server for its status and show it; changes nothing."""
    checkout, target = _find(env)
    screen = Ui(verbose=choices.verbose)
    planned = plan.playbook(checkout, "playbooks/status.yml", target, choices, os.environ)
    story = _run(planned, screen, tell=screen.trouble)
    show(screen, story)
    if json:
        screen.result({**_facts(command, target, story), "status": story.statuses})
    raise typer.Exit(story.exit_code())


def _run(planned: Plan, screen: Ui, tell: Callable[[Moment], None] | None = None) -> Story:
    """Run ansible-playbook and return the story; `tell` gets what happens, as it happens."""
    tell = tell or screen.moment
    story = Story()
    secrets = {prompt.pattern: screen.secret(prompt.question) for prompt in planned.prompts}

    def listen(event: Mapping[str, Any]) -> None:
        for moment in story.feed(event):
            tell(moment)

    with screen.pulse(story.doing):
        finished = runner.run(planned, listen, secrets)
    for moment in story.close(finished.return_code, interrupted=finished.interrupted):
        tell(moment)
    return story


def _find(env: str) -> tuple[Path, Environment]:
    checkout = plan.find_checkout()
    return checkout, plan.find_environment(env, checkout, Path.cwd())


def _is_lab(target: Environment) -> bool:
    if not plan.mentions_lab(target):
        return False
    from zarpar import lab

    return lab.has_hosts(target.inventory)


def _start_lab(target: Environment, screen: Ui) -> None:
    from zarpar import lab

    with screen.pulse(lambda: "starting the lab"):
        lab.up(target.inventory, say=screen.say)


def _confirm(question: str, screen: Ui) -> None:
    if not screen.confirm(question):
        raise Interrupted("not confirmed: nothing was done", hint="--yes does not ask.")


def _facts(command: str, target: Environment, story: Story) -> dict[str, Any]:
    return {
        "command": command,
        "environment": target.name,
        "exit_code": int(story.exit_code()),
        **story.as_dict(),
    }


from zarpar import commands  # noqa: E402, F401 - adds its commands to `app`, and needs what is above
