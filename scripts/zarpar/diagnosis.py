"""Why something failed, and what to do next, from what ssh, sudo, Ansible or a plugin said. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Failure:
    """Why a host, or the whole run (then `host` is empty), did not get there."""

    host: str
    where: str
    kind: str
    summary: str
    detail: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Known:
    """Well-known words and what they mean; {host} is the inventory's name, {address} what ssh connects to."""

    kind: str
    words: re.Pattern[str]
    summary: str
    hint: str


def _known(kind: str, words: str, summary: str, hint: str) -> Known:
    return Known(kind, re.compile(words, re.IGNORECASE), summary, hint)


# The first match counts. An empty summary keeps the program's own first line.
KNOWN = (
    _known(
        "unreachable",
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its SSH host key is not the one that is known",
        "If the server was rebuilt: ssh-keygen -R {address}, then ssh {address} and compare the fingerprint "
        "with the provider's console. If it was not, stop: somebody may be in between.",
    ),
    _known(
        "unreachable",
        r"Host key verification failed|No \S+ host key is known for",
        "its SSH host key is not known yet",
        "Connect once by hand and compare the fingerprint with the provider's console: ssh {address}",
    ),
    _known(
        "unreachable",
        r"Permission denied \((publickey|password|keyboard)|Too many authentication failures",
        "SSH login refused",
        "Check ansible_user and the key (one with a passphrase must be in the agent: ssh-add), then try: ssh {address}",
    ),
    _known(
        "unreachable",
        "Could not resolve hostname|Name or service not known",
        "its name does not resolve",
        "Check ansible_host of {host} in the inventory, and DNS: getent hosts {address}",
    ),
    _known(
        "unreachable",
        "Connection (refused|timed out)|No route to host|Network is unreachable|Operation timed out",
        "no SSH connection",
        "Check that the server is up, and its address, port and firewall: ssh {address}",
    ),
    _known(
        "no_sudo",
        r"sudo: a password is required|Missing sudo password|is not in the sudoers file|"
        r"is not allowed to (run sudo|execute)|Incorrect sudo password|sudo: (command )?not found",
        "no right to become root with sudo",
        "Let the login user use sudo without a password, or set ansible_become_password in a vault file.",
    ),
    _known(
        "failed",
        r"No download found for request: \S+-3\.\d",
        "uv has no such Python to install",
        'Ask for a version without its patch, which is its newest then: python: "3.12". What there is on {host}:'
        " uv python list --all-versions",
    ),
    _known(
        "bad_data",
        "no vault secrets found|vault password file .* was not found|Decryption failed",
        "",
        "Name the file that holds the vault password: export ANSIBLE_VAULT_PASSWORD_FILE=PATH",
    ),
    _known(
        "failed",
        r"zarpar-redis@\S+ failed[\s\S]*Could not create server TCP listening socket [^\n]*: Address already in use",
        "",
        "Another program of {host} has this port: give the app's Redis another one (redis_port, docs/APPS.md).",
    ),
    _known(
        "failed",
        r"zarpar-redis@\S+ failed[\s\S]*Could not create server TCP listening socket [^\n]*: Cannot assign requested",
        "",
        "{host} has no such address itself: set its zarpar_address to one that it has and the web hosts can reach.",
    ),
)
ADDRESS = re.compile(
    r"ssh-keygen [^\n]*-R ['\"]?([^\s'\"]+)"
    r"|(\S+@[^\s:]+): Permission denied"
    r"|(?:resolve hostname|connect to host) ([^\s:]+)"
    r"|to remote host \"([^\"]+)\""
)
PREFIXES = re.compile(
    r"^(?:(?:Task|Action|Module) failed: |Failed to connect to the host via ssh: |ssh: "
    r"|Data could not be sent to remote host \"[^\"]*\"\. Make sure this host can be reached over ssh: )+"
)
NO_MESSAGE = re.compile(r"(non-zero return code|MODULE FAILURE.*|All items completed)?")
OUTPUTS = ("stderr", "stdout", "module_stderr", "module_stdout")


def diagnose(host: str, where: str, result: Mapping[str, Any]) -> Failure:
    """Make the failure of a host out of the result of its task; plugins may say kind and hint themselves."""
    result = _failed_item(result)
    own = own_part(result)
    hint = str(own.get("hint") or "")
    message = plain(str(result.get("msg") or "")).removesuffix(hint).strip()
    outputs = [plain(str(result.get(name) or "")).strip() for name in OUTPUTS]
    everything = "\n".join(filter(None, [message, *outputs]))
    summary, _, detail = message.partition("\n")
    if NO_MESSAGE.fullmatch(summary):
        summary, detail = f"failed with exit code {result['rc']}" if "rc" in result else "failed", everything
    if "censored" in result:
        detail = "What it said is not shown, because it may hold a secret (no_log)."
    known = recognise(everything, host)
    told = own.get("error")
    if known and known.kind == "unreachable" and told not in (None, known.kind):
        known = None  # a plugin knows what failed: it was not ssh that said so, but a program on the host
    if known and known.summary:
        summary, detail = known.summary, PREFIXES.sub("", everything)
    kind = known.kind if known else "unreachable" if result.get("unreachable") else "failed"
    return Failure(
        host,
        where,
        kind=str(told or kind),
        summary=PREFIXES.sub("", summary),
        detail=detail,
        hint=hint or (known.hint if known else ""),
    )


def explain(said: str, kind: str) -> Failure:
    """Make the failure that no task told of (a playbook that does not load) out of what Ansible printed."""
    lines = said.splitlines()
    start = next((number for number, line in enumerate(lines) if "ERROR" in line), max(len(lines) - 15, 0))
    summary, _, detail = "\n".join(lines[start : start + 30]).strip().partition("\n")
    known = recognise(said, "")
    return Failure(
        host="",
        where="",
        kind=known.kind if known else kind,
        summary=re.sub(r"^\[?ERROR!?\]?: ", "", summary) or "ansible-playbook ended without a word",
        detail=detail.strip(),
        hint=known.hint if known else "",
    )


def recognise(text: str, host: str) -> Known | None:
    """Look for well-known words in what a program said, and put names into the hint."""
    for known in KNOWN:
        if known.words.search(text):
            address = _address(text) or host
            return replace(known, hint=known.hint.format(host=host, address=address))
    return None


def _address(text: str) -> str:
    """Return what ssh was told to connect to; the most telling mention counts, not the first."""
    mentions = [match.groups() for match in ADDRESS.finditer(text)]
    return next((name for names in zip(*mentions, strict=True) for name in names if name), "")


def own_part(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what one of Zarpar's plugins added to a result."""
    own = result.get("zarpar")
    return own if isinstance(own, Mapping) else {}


def plain(text: str) -> str:
    """Drop what a terminal would act on: colours, cursor moves and other controls."""
    text = ANSI.sub("", text.replace("\r\n", "\n"))
    return "".join(char for char in text if char in "\n\t" or char.isprintable())


def without_tags(text: str) -> str:
    """What Ansible says of a YAML file without the tag that it names: a password may begin with an exclamation mark."""
    return re.sub(r"(constructor for the tag ')[^\n]*(')", r"\1...\2", text)


def _failed_item(result: Mapping[str, Any]) -> Mapping[str, Any]:
    items = result.get("results")
    for item in items if isinstance(items, list) else []:
        if isinstance(item, Mapping) and (item.get("failed") or item.get("unreachable")):
            return item
    return result
