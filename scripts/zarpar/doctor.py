"""Looks at the servers of an environment and at the way to them before a deploy does; changes nothing.

`judge` and `judge_names` are pure: from what was found to one finding a line, each with the command that mends it.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import secrets
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zarpar.connection import Inventory, Server
from zarpar.remote import QUIET, SSH_FAILED, unreachable

SUPPORTED = ("12", "13")  # as zarpar_host.facts
DISK_MB, ROOMY_MB, INODES = 1024, 3072, 20_000
MEMORY_MB, COMFORTABLE_MB = 384, 900
CLOCK_SECONDS = 5.0
SERVE_SECONDS = 90
WAIT = 8.0  # seconds for one answer of DNS or of port 80
CHALLENGES = "/.well-known/acme-challenge/"

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """One line: how it is (ok, warn, fail), of which host or domain, what was looked at, what was seen, what helps."""

    level: str
    subject: str
    check: str
    seen: str
    hint: str = ""


@dataclass(frozen=True)
class Name:
    """What DNS says of a domain. problem: why it says nothing."""

    domain: str
    v4: tuple[str, ...] = ()
    v6: tuple[str, ...] = ()
    problem: str = ""


class Visit:
    """A host's checkup, which goes on (and serves its token) until it is ended."""

    def __init__(self, server: Server, token: str) -> None:
        """Begin it; `facts` waits for what it finds."""
        self.server = server
        self.sent = time.time()
        self.received = self.sent
        text = Path(__file__).with_name("checkup.py").read_text()
        words = shlex.join(["/usr/bin/python3", "-I", "-S", "-c", text])
        script = (
            "command -v /usr/bin/python3 >/dev/null || { echo no-python; exit 3; }; "
            f'if [ "$(id -u)" = 0 ]; then exec {words}; elif sudo -n true 2>/dev/null; then exec sudo -n -- {words}; '
            f"else exec {words}; fi"
        )
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            server.ssh(script, *QUIET, "-T"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        request = {"token": token, "path": CHALLENGES + token, "seconds": SERVE_SECONDS}
        self._request = json.dumps(request) + "\n"

    def facts(self) -> dict[str, Any] | Finding:
        """What the host is like; a finding instead when it cannot be asked."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError("both are pipes")
        self.sent = time.time()
        with suppress(BrokenPipeError):  # its end says why
            stdin.write(self._request)
            stdin.flush()
        for line in stdout:
            if line.startswith("{"):
                self.received = time.time()
                found: dict[str, Any] = json.loads(line)
                return found
            if line.startswith("no-python"):
                hint = f"ssh {self.server.address} apt-get install -y python3   (a deploy does it as well)"
                return Finding(WARN, self.server.name, "Python", "there is none, so nothing more can be asked", hint)
        code = self._process.wait()
        said = self._process.stderr.read() if self._process.stderr else ""
        if code == SSH_FAILED:
            error = unreachable(self.server, said)
            return Finding(FAIL, self.server.name, "SSH", error.summary.partition(": ")[2], error.hint)
        return Finding(FAIL, self.server.name, "checkup", said.strip()[-300:] or f"ended with {code}")

    def end(self) -> None:
        """Let the host take its token away; wait until it has."""
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.terminate()


def examine(inventory: Inventory, resolver: str, tell: Callable[[Finding], None]) -> list[Finding]:
    """Look at every host, then at every domain; tell each finding as soon as it is known, and return all."""
    told: list[Finding] = []

    def say(findings: Iterable[Finding]) -> None:
        for finding in findings:
            told.append(finding)
            tell(finding)

    token = secrets.token_urlsafe(24)
    visits = [Visit(server, token) for server in inventory.servers]
    answered: dict[str, dict[str, Any]] = {}
    try:
        with ThreadPoolExecutor(len(visits)) as pool:
            for visit, facts in zip(visits, pool.map(Visit.facts, visits), strict=True):
                if isinstance(facts, Finding):
                    say([facts])
                    continue
                answered[visit.server.name] = facts
                say(judge(visit.server, facts, visit.received, visit.received - visit.sent))
        web = [server for server in inventory.servers if "web" in server.groups]
        known = {server.name: addresses_of(server, answered.get(server.name, {})) for server in web}
        others = {server.name: addresses_of(server, {}) for server in inventory.rest if "web" in server.groups}
        for app, entry in inventory.apps.items():
            plain = isinstance(entry, Mapping) and str(entry.get("tls", "")) == "off"
            for domain in domains_of(entry):
                name = resolve(domain, resolver)
                say(judge_name(name, known | others, needed=not plain))
                here = _without(name, set().union(*others.values()))
                say(judge_port(here, token, [answered[s.name] for s in web if s.name in answered], app))
    finally:
        for visit in visits:
            visit.end()
    return told


def judge(server: Server, facts: Mapping[str, Any], received: float, took: float) -> list[Finding]:
    """What there is to say of a host that answered. received: this machine's time when the answer came."""
    name, login = server.name, f"ssh {server.user + '@' if server.user else ''}{server.address}"
    sudo = "" if server.user == "root" else "sudo "
    found = [Finding(OK, name, "SSH", f"{server.user or 'login'} at {server.address}, {took:.1f} s")]

    def add(level: str, check: str, seen: str, hint: str = "") -> None:
        found.append(Finding(level, name, check, seen, hint))

    if facts["root"]:
        add(OK, "sudo", "may become root")
    else:
        rule = f"echo '{server.user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/90-{server.user}"
        add(FAIL, "sudo", f"{server.user} may not become root without a password",
            f"as root on the host: {rule}; or give the password with --ask-become-pass")  # fmt: skip
    system = facts["system"]
    pretty = system.get("PRETTY_NAME", "an unknown system")
    known = system.get("ID") == "debian" and system.get("VERSION_ID") in SUPPORTED and facts["systemd"]
    add(OK if known else FAIL, "system", pretty if facts["systemd"] else f"{pretty} without systemd",
        "" if known else "reinstall the server with Debian 13 (or 12), in the provider's console")  # fmt: skip
    total, swap = facts["memory_mb"], facts["swap_mb"]
    level = FAIL if total + swap < MEMORY_MB else WARN if total + swap < COMFORTABLE_MB else OK
    add(level, "memory", f"{total} MB, swap {swap} MB",
        "" if level == OK else "take a larger server; a swap file is made when base_swap_mb is set")  # fmt: skip
    free, inodes = facts["disk_free_mb"], facts["inodes_free"]
    few = inodes is not None and inodes < INODES
    level = FAIL if free < DISK_MB or few else WARN if free < ROOMY_MB else OK
    add(level, "disk", f"{free / 1024:.1f} GB free" + (f", {inodes} inodes" if few else ""),
        "" if level == OK else f"{login} '{sudo}journalctl --vacuum-size=100M; {sudo}apt-get clean'")  # fmt: skip
    ahead = facts["clock"] - received
    level = WARN if abs(ahead) > CLOCK_SECONDS else OK
    seen = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    add(level, "clock", seen, "" if level == OK else f"{login} '{sudo}timedatectl set-ntp true; date -u'; date -u")
    found.append(_apt(name, facts, login, sudo))
    return found


def _apt(name: str, facts: Mapping[str, Any], login: str, sudo: str) -> Finding:
    if facts["lock"]:
        hint = f"a deploy waits up to 10 minutes; who it is: {login} 'ps aux | grep -E \"apt|dpkg|unattended\"'"
        return Finding(WARN, name, "apt", f"{facts['lock']} holds its lock", hint)
    if facts["booting"]:
        return Finding(WARN, name, "apt", "cloud-init still works", f"{login} '{sudo}cloud-init status --wait'")
    if facts["broken_dpkg"]:
        hint = f"a deploy mends it; by hand: {login} '{sudo}dpkg --configure -a'"
        return Finding(WARN, name, "apt", "an installation was cut", hint)
    return Finding(OK, name, "apt", "its lock is free")


def domains_of(entry: object) -> list[str]:
    """The domains of an app as the inventory says them; what is no text is passed over (a deploy refuses it)."""
    domains = entry.get("domains") if isinstance(entry, Mapping) else None
    return [str(name) for name in domains if isinstance(name, str)] if isinstance(domains, list) else []


def addresses_of(server: Server, facts: Mapping[str, Any]) -> set[str]:
    """Every address by which visitors may reach a host: the inventory's, and its own."""
    found = {plain_address(text) for text in facts.get("addresses", [])}
    for name in filter(None, (server.others_reach, server.address)):
        try:
            found |= {plain_address(str(info[4][0])) for info in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)}
        except OSError:
            continue
    return found - {""}


def plain_address(text: str) -> str:
    """An address in its one usual form; empty when it is none."""
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return ""


def resolve(domain: str, resolver: str = "") -> Name:
    """Ask DNS for a domain's A and AAAA records; resolver: a name server's address, else the system's."""
    import dns.exception
    import dns.resolver

    asks = dns.resolver.Resolver(configure=not resolver)
    asks.lifetime = WAIT
    if resolver:
        asks.nameservers = [resolver]
    found: dict[str, tuple[str, ...]] = {}
    for kind in ("A", "AAAA"):
        try:
            found[kind] = tuple(sorted(plain_address(str(record)) for record in asks.resolve(domain, kind)))
        except dns.resolver.NoAnswer:
            found[kind] = ()
        except dns.resolver.NXDOMAIN:
            if kind == "A":
                return Name(domain, problem="there is no such name")
            found[kind] = ()  # some name servers say so where only the kind is missing
        except dns.exception.DNSException as error:
            if kind == "A":
                return Name(domain, problem=f"no answer from DNS: {str(error).splitlines()[0][:200]}")
            found[kind] = ()
    return Name(domain, found["A"], found["AAAA"])


def _without(name: Name, addresses: set[str]) -> Name:
    """A domain without the addresses of hosts that are not looked at now."""
    v4, v6 = ([each for each in those if each not in addresses] for those in (name.v4, name.v6))
    return replace(name, v4=tuple(v4), v6=tuple(v6))


def judge_name(name: Name, hosts: Mapping[str, set[str]], *, needed: bool) -> list[Finding]:
    """Whether a domain's records lead to the web hosts; needed: a certificate depends on it."""
    bad = FAIL if needed else WARN
    all_addresses = set().union(*hosts.values()) if hosts else set()
    v4 = sorted(address for address in all_addresses if ":" not in address)
    v6 = sorted(address for address in all_addresses if ":" in address)
    mend = f"at your DNS provider: {name.domain}. A {_best(v4) or 'THE-ADDRESS'}"
    if name.problem:
        return [Finding(bad, name.domain, "DNS A", name.problem, f"{mend}; then: dig +short {name.domain}")]
    wrong4 = [address for address in name.v4 if address not in all_addresses]
    found = []
    if not name.v4:
        level, hint = (WARN, "") if name.v6 else (bad, mend)
        found.append(Finding(level, name.domain, "DNS A", "no A record", hint or mend))
    elif wrong4:
        seen = f"{', '.join(wrong4)} is none of the hosts' addresses ({', '.join(v4) or 'none is known'})"
        found.append(Finding(bad, name.domain, "DNS A", seen, f"{mend}; then: dig +short {name.domain}"))
    else:
        found.append(Finding(OK, name.domain, "DNS A", ", ".join(name.v4)))
    wrong6 = [address for address in name.v6 if address not in all_addresses]
    if wrong6:
        seen = f"{', '.join(wrong6)} is none of the hosts' addresses, and Let's Encrypt asks there first"
        right = f"or set it to {_best(v6)}" if v6 else "the host has no IPv6 address"
        hint = f"at your DNS provider: remove the AAAA record of {name.domain} ({right})"
        found.append(Finding(bad, name.domain, "DNS AAAA", seen, hint))
    else:
        found.append(Finding(OK, name.domain, "DNS AAAA", ", ".join(name.v6) or "no AAAA record"))
    return found


def _best(addresses: Sequence[str]) -> str:
    """The address to put into DNS: a public one, when there is one."""
    public = [address for address in addresses if ipaddress.ip_address(address).is_global]
    return next(iter([*public, *addresses]), "")


def judge_port(name: Name, token: str, hosts: Sequence[Mapping[str, Any]], app: str) -> list[Finding]:
    """Whether a visitor of a domain reaches port 80 of a host that was just given the token."""
    others = sorted({str(host["port_80"]) for host in hosts if host["port_80"] not in ("", "nginx")})
    if others:
        hint = f"on the host: systemctl disable --now {others[0]}" if others[0] != "?" else "on the host: ss -ltnp"
        return [Finding(FAIL, name.domain, "port 80", f"{others[0]} listens on it, and nginx must", hint)]
    if not any(host["serves"] for host in hosts):
        seen = "could not be tried: the host serves nothing yet, and nothing could be served"
        return [Finding(WARN, name.domain, "port 80", seen, "see the lines above first")]
    addresses = [*name.v4, *name.v6]
    if not addresses:
        return [
            Finding(WARN, name.domain, "port 80", "could not be tried without an address here", "see the line above")
        ]
    return [_port(name.domain, address, token, hosts, app) for address in addresses]


def _port(domain: str, address: str, token: str, hosts: Sequence[Mapping[str, Any]], app: str) -> Finding:
    status, body, problem = fetch(domain, address, CHALLENGES + token)
    where = f"{address} port 80"
    if problem:
        hint = f"open port 80 in the provider's firewall, and on the host (ufw allow 80/tcp); then: curl -v http://{address}/"
        return Finding(FAIL, domain, "port 80", f"{where}: {problem}", hint)
    if status == 200 and body == token:
        return Finding(OK, domain, "port 80", f"{where} answers with this run's token")
    nginx = any(host["port_80"] == "nginx" for host in hosts)
    if nginx and status in (301, 302, 307, 308, 404):
        hint = f"a deploy makes it: zarpar deploy ENV --app {app}"
        return Finding(
            WARN, domain, "port 80", f"{where}: nginx answers {status}, it has no site for this name yet", hint
        )
    hint = f"something else answers there, a proxy or another server: curl -v http://{domain}/"
    return Finding(FAIL, domain, "port 80", f"{where} answers {status}, and not with this run's token", hint)


def fetch(domain: str, address: str, path: str) -> tuple[int, str, str]:
    """Ask an address for a page of a domain over HTTP: status, body, and why there is none."""
    link = http.client.HTTPConnection(address, 80, timeout=WAIT)
    try:
        link.request("GET", path, headers={"Host": domain, "Connection": "close"})
        answer = link.getresponse()
        return answer.status, answer.read(1000).decode(errors="replace").strip(), ""
    except (OSError, http.client.HTTPException) as error:
        return 0, "", str(error) or type(error).__name__
    finally:
        link.close()
