"""What a command will run: exact arguments and the exact environment, decided before anything runs.

Nothing is executed or printed here; the file system is only looked at to find an inventory.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zarpar.errors import BadData

# Extra variables are templates to Ansible, so what may be in one is narrow: no braces, no blanks, no leading
# dash. The same patterns as in `config`, which is not imported because it costs a fifth of a second.
REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@^~+-]{0,199}", re.ASCII)
APP_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}", re.ASCII)
RELEASE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{6}", re.ASCII)
LIMIT = re.compile(r"[A-Za-z0-9_*!&][A-Za-z0-9_.:,*!&\[\]-]*", re.ASCII)
ENVIRONMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)

# All that a run gets of the operator's environment: a token in the shell stays there.
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
CA_BUNDLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
KEPT = {"PATH", "HOME", "USER", "LANG", "SSH_AUTH_SOCK", "TERM", *CA_BUNDLES, *PROXIES}
KEPT |= {name.upper() for name in PROXIES}
KEPT_PREFIXES = ("LC_", "ANSIBLE_VAULT_")
# An inventory's own vault password, which counts where the operator names no other.
VAULT_PASSWORD = ".vault-password"  # noqa: S105 - a file's name
VAULT_NAMES = ("ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST")


@dataclass(frozen=True)
class Environment:
    """An inventory folder and the name it goes by."""

    name: str
    inventory: Path


@dataclass(frozen=True)
class Choices:
    """What a person asked for with flags; checked on creation."""

    apps: tuple[str, ...] = ()
    ref: str = ""
    limit: str = ""
    check: bool = False
    verbose: bool = False
    ask_vault_pass: bool = False
    ask_become_pass: bool = False
    wait_lock: int = 0
    release: str = ""
    force: bool = False
    deploy: str = ""

    def __post_init__(self) -> None:
        for app in self.apps:
            _demand(APP_NAME, app, "--app", "an app's name: small letters, digits and dashes, such as shop")
        if self.ref:
            _demand(REF, self.ref, "--ref", "a branch, tag or commit, such as main, v1.2 or 3f2a9c1d")
        if self.release:
            _demand(
                RELEASE, self.release, "--to", "a release's id as `zarpar releases` shows it, such as 3f2a9c1d-a1b2c3"
            )
        if ".." in self.ref:
            raise BadData(f"--ref: {self.ref!r} is a range", hint="Name one branch, tag or commit.")
        if self.limit:
            _demand(LIMIT, self.limit, "--limit", "hosts or groups of the inventory, such as web1 or web:!web3")


@dataclass(frozen=True)
class Prompt:
    """A question that the run will ask on its terminal (`pattern`), and the words to put it to a person."""

    question: str
    pattern: str


@dataclass(frozen=True)
class Plan:
    """One run of a program."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    prompts: tuple[Prompt, ...] = ()


def playbook(checkout: Path, name: str, target: Environment, choices: Choices, parent: Mapping[str, str]) -> Plan:
    """Plan a run of the playbook `name` of the checkout against the target's hosts."""
    argv = [_beside_python("ansible-playbook"), "-i", str(target.inventory)]
    if choices.limit:
        argv += ["--limit", choices.limit]
    variables = extra_vars(choices)
    if variables:
        argv += ["-e", json.dumps(variables, separators=(",", ":"), sort_keys=True)]
    if choices.check:
        argv += ["--check", "--diff"]
    if choices.verbose:
        argv.append("-v")
    prompts = []
    if choices.ask_vault_pass:
        argv.append("--ask-vault-pass")
        prompts.append(Prompt("Vault password", r"Vault password: ?$"))
    if choices.ask_become_pass:
        argv.append("--ask-become-pass")
        prompts.append(Prompt("sudo password on the hosts", r"BECOME password[^\n]*: ?$"))
    argv.append(str(checkout / name))
    return Plan(tuple(argv), child_environment(checkout, parent, target.inventory), checkout, tuple(prompts))


def suite(checkout: Path, target: Environment, choices: Choices, parent: Mapping[str, str]) -> Plan:
    """Plan a run of the host suite, which only reads, against the target's hosts."""
    argv = [sys.executable, "-m", "pytest", "tests/host", "--zarpar-env", str(target.inventory)]
    if choices.verbose:
        argv.append("-v")
    return Plan(tuple(argv), child_environment(checkout, parent, target.inventory), checkout)


def extra_vars(choices: Choices) -> dict[str, str]:
    """Return the variables a run is given; only values that passed the patterns above."""
    pairs = {
        "zarpar_apps": ",".join(choices.apps),
        "zarpar_ref": choices.ref,
        "zarpar_release": choices.release,
        "zarpar_deploy": choices.deploy,
        "zarpar_wait_lock": str(choices.wait_lock or ""),
        "zarpar_force": "yes" if choices.force else "",
    }
    return {name: value for name, value in pairs.items() if value}


def child_environment(checkout: Path, parent: Mapping[str, str], inventory: Path | None = None) -> dict[str, str]:
    """Return the whole environment of a run: a short list of the operator's variables, and Zarpar's own.

    With an inventory that has a vault password of its own, Ansible is told of that file, unless it is told of another.
    """
    kept = {name: value for name, value in parent.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    own = inventory / VAULT_PASSWORD if inventory else None
    if own and own.is_file() and not any(kept.get(name) for name in VAULT_NAMES):
        kept["ANSIBLE_VAULT_PASSWORD_FILE"] = str(own)
    return kept | {
        "ANSIBLE_CONFIG": str(checkout / "ansible.cfg"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",  # ansible-runner turns it off for whoever does not say so
        "ANSIBLE_NOCOLOR": "1",
    }


def find_checkout() -> Path:
    """Return the folder that holds the playbooks this package belongs to."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "site.yml").is_file():
        raise BadData(
            f"no playbooks beside the package: {checkout} has no site.yml",
            hint="Run scripts/deploy of a checkout of Zarpar, or install it with: pip install -e CHECKOUT",
        )
    return checkout


def find_environment(given: str, checkout: Path, here: Path) -> Environment:
    """Find the inventory folder that a person means: a name, or a path to a folder.

    A name is looked for in `inventories/` of the current folder first, so that a project of its own wins.
    """
    if "/" in given:
        folder = here / given
        if not _is_inventory(folder):
            raise BadData(f"{given!r} is no inventory folder", hint="An inventory folder holds a hosts.yml.")
        folder = folder.resolve()
        return Environment(folder.name, folder)
    folders = [parent / "inventories" for parent in dict.fromkeys((here, checkout))]
    if ENVIRONMENT.fullmatch(given):
        for folder in folders:
            if _is_inventory(folder / given):
                return Environment(given, (folder / given).resolve())
    known = sorted({entry.name for folder in folders for entry in _inventories(folder)})
    raise BadData(
        f"no environment is called {given!r}",
        detail=f"Known: {', '.join(known) or 'none'}. Looked in: {', '.join(map(str, folders))}.",
        hint="An environment is a folder with a hosts.yml under inventories/, or a path to such a folder.",
    )


def mentions_lab(target: Environment) -> bool:
    """Tell, without reading YAML, whether the inventory may have hosts of the lab; `lab.has_hosts` knows."""
    return any("lab:" in path.read_text() for path in target.inventory.glob("hosts.y*ml"))


def _inventories(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if _is_inventory(entry)] if folder.is_dir() else []


def _is_inventory(folder: Path) -> bool:
    # os.path knows no error: what cannot be a path is no file
    return any(os.path.isfile(folder / name) for name in ("hosts.yml", "hosts.yaml", "hosts.ini", "hosts"))  # noqa: PTH113


def _demand(pattern: re.Pattern[str], value: str, flag: str, wanted: str) -> None:
    if not pattern.fullmatch(value):
        raise BadData(f"{flag}: {value!r} is not allowed", hint=f"Give {wanted}.")


def _beside_python(program: str) -> str:
    return str(Path(sys.executable).with_name(program))
