"""The apps model: what a user may say about an app, checked whole before any host is touched.

Used by the action plugins (so plain `ansible-playbook` checks the same) and by nothing that prints. Pure data:
no Ansible here. `load_apps` takes what the inventory says; `App.for_host` gives what templates get.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from zarpar.errors import BadData

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = rf"^(?=.{{4,253}}$)({LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]\Z"
APP_NAME = r"^[a-z][a-z0-9-]{0,29}\Z"
URL_PREFIX = r"^/([A-Za-z0-9_][A-Za-z0-9._-]*/)+\Z"
TREE_PATH = r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*\Z"
REF = r"^[A-Za-z0-9][A-Za-z0-9._/@^~+-]{0,199}\Z"
DEBIAN_PACKAGE = r"^[a-z0-9][a-z0-9+.-]{0,98}[a-z0-9+]\Z"  # apt removes what is named with a - at its end
DOTTED = r"[A-Za-z_][A-Za-z0-9_.]*"
ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,99}\Z")
# Where the Redis of an app listens unless it is said: below the ports that a Linux host takes for its own connections.
REDIS_PORTS = range(20_000, 30_000)
REDIS_LEAST_MB = 8  # an empty one needs about 1
# No control characters (C1 too: a terminal takes them for escapes), no line ends of Unicode, no marks that turn the
# direction of reading, no half surrogates and non-characters, which UTF-8 or systemd refuse.
NOT_IN_A_LINE = (
    r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufeff\ufffe\uffff"
)
ONE_LINE = rf"^[^{NOT_IN_A_LINE}]*\Z"
# An environment may hold any text that systemd takes: lines and tabs, and no other control character.
NOT_IN_ENV = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufdd0-\ufdef]")
PASSWORD = r"^[ -~]*\Z"  # noqa: S105 - PostgreSQL's clients write other characters in another way (SASLprep)
LARGEST_VALUE, LARGEST_ENV = 100_000, 1_000_000  # bytes; the kernel takes 128 KiB for one, and 2 MB for all
PROCESS = r"[A-Za-z][A-Za-z0-9_-]{0,29}"  # a process or a schedule: also a file's name and part of a unit's
STOP = 300  # seconds

# Names of accounts, services and folders that exist on a Debian host: an app may not take them over.
RESERVED_NAMES = frozenset(
    """
    root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc nobody sshd messagebus
    systemd-network systemd-resolve systemd-timesync systemd-journal systemd-coredump postgres redis valkey
    nginx certbot zarpar deploy admin sudo adm staff users shadow utmp video audio disk tty dialout docker ssl-cert
    crontab ssh polkitd uuidd tcpdump fail2ban debian-exim operator src ftp kmem tape fax voice cdrom floppy dip sasl
    plugdev nogroup kvm render input sgx netdev lxd incus libvirt wheel mysql systemd-oom
    """.split()  # noqa: SIM905 - easier to read and to extend
)
# Set by Zarpar for every app, or able to change what the start of an app means.
RESERVED_ENV = frozenset(
    """
    PATH HOME USER LOGNAME SHELL LD_PRELOAD LD_LIBRARY_PATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV
    GUNICORN_CMD_ARGS NOTIFY_SOCKET LISTEN_FDS RUNTIME_DIRECTORY DATABASE_URL UPLOADS_DIR
    """.split()  # noqa: SIM905 - easier to read and to extend
)

# systemd.time(7), but for dates that no calendar has: systemd itself judges those, on the host.
_NUMBERS = r"(\*|\d{1,4}(\.\.\d{1,4})?)(/\d{1,4})?"
_LIST = rf"{_NUMBERS}(,{_NUMBERS})*"
_DAY = r"(mon|tues?|wed|thur?s?|fri|sat|sun|monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
CALENDAR = re.compile(
    r"(minutely|hourly|daily|weekly|monthly|quarterly|semi-?annually|(bi-?)?annually|yearly"
    rf"|(?=\S)({_DAY}((\.\.|,|-){_DAY})*( |\Z))?(({_LIST}-)?{_LIST}[-~]{_LIST}( |\Z))?"
    rf"({_LIST}:{_LIST}(:{_LIST}(\.\d+)?)?)?)"
    r"( ?(utc|[a-z]+(/[a-z_+-]+[0-9]*)+))?",
    re.IGNORECASE | re.ASCII,
)

Text = Annotated[str, StringConstraints(pattern=ONE_LINE, max_length=4096)]
Domain = Annotated[str, StringConstraints(pattern=DOMAIN)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Password = Annotated[str, StringConstraints(pattern=PASSWORD, max_length=500), Field(repr=False)]


class Referred(str):
    """A text that was said by a reference to another variable: it may be a secret, and is never shown."""


class Model(BaseModel):
    """Strict: an unknown key or another type than the declared one is refused by name."""

    # python-re for look-ahead; every pattern ends in \Z, because $ also matches before a final newline
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, regex_engine="python-re")


class Source(Model):
    """Where the code is: a Git repository's address, or a checkout on the controller."""

    repo: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9@:/._~+%-]{2,499}\Z")] = ""
    path: Annotated[str, StringConstraints(pattern=rf"^[A-Za-z0-9._/~][^{NOT_IN_A_LINE}]{{0,499}}\Z")] = ""
    folder: Annotated[str, StringConstraints(pattern=TREE_PATH, max_length=200)] | Literal[""] = ""
    ref: Annotated[str, StringConstraints(pattern=REF)] = "HEAD"

    @model_validator(mode="after")
    def _one_of_both(self) -> Source:
        if bool(self.repo) == bool(self.path):
            raise ValueError("give either `repo` (an address that git can clone) or `path` (a local checkout)")
        if self.folder and self.path:
            raise ValueError("folder: is for `repo`; a `path` may lead to a subfolder itself")
        if ".." in self.folder.split("/"):
            raise ValueError("folder: leads out of the repository")
        if ".." in self.ref:
            raise ValueError("ref: a range of commits is not a release")
        if "::" in self.repo:
            raise ValueError("repo: git's helper protocols (name::address) are not allowed")
        if re.search(r"(://|@)-", self.repo):
            raise ValueError("repo: a host's name does not begin with a dash")
        login = re.match(r"([a-z+]+)://([^/@]*)@", self.repo)
        if login and (login.group(1).startswith("http") or ":" in login.group(2)):
            raise ValueError(
                "repo: an address with a login in it would be shown in process lists and messages; use an SSH key"
                " (git@host:me/app.git), or leave the login out and let git ask its own credential helper"
            )
        return self


class Health(Model):
    """When a release counts as healthy: `passes` answers in a row within `timeout` seconds."""

    path: Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._~/?=&%-]{0,199}\Z")] = "/health"
    status: Annotated[int, Field(ge=100, le=599)] = 200
    host: Domain | Literal[""] = ""
    body: Text = ""
    timeout: Seconds = 60
    passes: Annotated[int, Field(ge=1, le=20)] = 2


class Gunicorn(Model):
    """gunicorn's settings, by gunicorn's names; workers "auto" is 2 x CPUs + 1, bounded by memory.

    preload: what is imported once and shared by all workers: well-known libraries, the whole app (true), or nothing.
    """

    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = "auto"
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    worker_class: Literal[
        "", "sync", "gthread", "gevent", "uvicorn.workers.UvicornWorker", "uvicorn_worker.UvicornWorker", "asgi"
    ] = ""
    timeout: Seconds = 120
    graceful_timeout: Seconds = 30
    max_requests: Annotated[int, Field(ge=0)] = 1000
    max_requests_jitter: Annotated[int, Field(ge=0)] = 50
    preload: bool | Literal["libraries"] = "libraries"
    limit_request_line: Annotated[int, Field(ge=0, le=8190)] = 8190
    limit_request_fields: Annotated[int, Field(ge=1, le=32768)] = 100
    limit_request_field_size: Annotated[int, Field(ge=0)] = 8190
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    access_log: bool = True


class Limits(Model):
    """What one slot of the app may use; memory as systemd writes it ("512M"), empty for no limit."""

    memory: Annotated[str, StringConstraints(pattern=r"^([1-9][0-9]{0,6}[MG])?\Z")] = ""
    tasks: Annotated[int, Field(ge=16, le=65_536)] = 512
    files: Annotated[int, Field(ge=256, le=1_048_576)] = 8192


class Migration(Model):
    """Limits of a migration, in seconds, and whether the database is dumped before one that changes it."""

    timeout: Seconds = 3600
    lock_timeout: Seconds = 5
    statement_timeout: Seconds = 900
    dump: bool = True


def _counted(value: object) -> object:
    """`worker: 2` is short for `worker: {count: 2}`."""
    return {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value


class Process(Model):
    """A process beside web: how many of it on each host, and how many seconds its last task may take to end.

    command: what the Procfile does not say.
    """

    command: Text = ""
    count: Annotated[int, Field(ge=0, le=64)] = 1
    stop: Seconds = STOP


def _calendar(text: str) -> str:
    if not re.fullmatch(CALENDAR, text):
        raise ValueError("is no time that systemd knows, such as daily, Mon..Fri 04:00 or *:0/15 (man systemd.time)")
    return text


class Schedule(Model):
    """A command that runs again and again; at: when, as systemd's OnCalendar has it."""

    command: Annotated[Text, StringConstraints(min_length=1)]
    at: Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_calendar)]


ProcessName = Annotated[str, StringConstraints(pattern=rf"^{PROCESS}\Z")]


class App(Model):
    """One app, as the inventory says it. Keys and defaults are the reference; docs/APPS.md explains them."""

    domains: Annotated[list[Domain], Field(min_length=1, max_length=100)]
    source: Source
    tls: Literal["letsencrypt", "off"] = "letsencrypt"
    wsgi: Annotated[str, StringConstraints(pattern=rf"^({DOTTED}:{DOTTED}(\(\))?)?\Z")] = ""
    python: Annotated[str, StringConstraints(pattern=r"^(3\.[0-9]{1,2}(\.[0-9]{1,2})?)?\Z")] = ""
    system_packages: Annotated[
        list[Annotated[str, StringConstraints(pattern=DEBIAN_PACKAGE)]], Field(max_length=100)
    ] = []
    database: Literal["", "postgres"] = ""
    database_password: Password = ""
    redis: Literal["", "cache", "broker"] = ""
    redis_memory: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}[MG]\Z")] = "128M"
    redis_password: Password = ""
    redis_port: Annotated[int, Field(ge=1024, le=65_535)] | Literal["auto"] = "auto"
    migrate: Text = ""
    migration: Migration = Migration()
    build: Annotated[list[Text], Field(max_length=50)] = []
    health: Health = Health()
    static: dict[
        Annotated[str, StringConstraints(pattern=URL_PREFIX)],
        Annotated[str, StringConstraints(pattern=TREE_PATH)],
    ] = {}
    uploads: dict[
        Annotated[str, StringConstraints(pattern=URL_PREFIX)],
        Annotated[str, StringConstraints(pattern=TREE_PATH)],
    ] = {}
    env: Annotated[dict[str, str | int], Field(repr=False)] = {}
    server: Literal["", "gunicorn", "granian"] = ""
    gunicorn: Gunicorn = Gunicorn()
    processes: dict[ProcessName, Annotated[Process, BeforeValidator(_counted)]] = {}
    schedules: Annotated[dict[ProcessName, Schedule], Field(max_length=100)] = {}
    client_max_body_size: Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,5}[kKmMgG])\Z")] = "16M"
    logs: Literal["journal", "file"] = "journal"
    drain: Seconds = 30
    watch: Annotated[int, Field(ge=0, le=3600)] = 30
    limits: Limits = Limits()
    hsts: Annotated[int, Field(ge=0, le=63_072_000)] = 63_072_000
    keep: Annotated[int, Field(ge=2, le=100)] = 5

    @model_validator(mode="after")
    def _agree(self) -> App:
        if len(set(self.domains)) != len(self.domains):
            raise ValueError("domains: a domain is named twice")
        both = set(self.static) & set(self.uploads)
        if both:
            raise ValueError(f"uploads: {min(both)} is served as static already")
        for url in [*self.static, *self.uploads]:
            if ".." in url or url.startswith(("/.well-known/", "/zarpar-")):
                raise ValueError(f"static, uploads: {url} cannot be served")
        for path in [*self.static.values(), *self.uploads.values()]:
            if ".." in path.split("/"):
                raise ValueError(f"static, uploads: {path} leads out of the app")
        for name, key in (("web", "gunicorn"), ("release", "migrate")):
            if name in self.processes:
                raise ValueError(f"processes.{name}: what is said of it is said by `{key}`")
        for name, value in self.env.items():
            _check_env(name, value)
        if self.server == "granian" and self.gunicorn.worker_class == "gevent":
            raise ValueError("gunicorn.worker_class: gevent is gunicorn's; with `server: granian` leave it out")
        if self.redis and "REDIS_URL" in self.env:
            raise ValueError("env.REDIS_URL: this name is set by Zarpar, because the app has redis")
        if self.redis_memory.endswith("M") and int(self.redis_memory[:-1]) < REDIS_LEAST_MB:
            raise ValueError(f"redis_memory: {self.redis_memory} is too little; at least {REDIS_LEAST_MB}M")
        if sum(len(name) + len(str(value).encode()) + 2 for name, value in self.env.items()) > LARGEST_ENV:
            raise ValueError(f"env: all values together are longer than {LARGEST_ENV:,} bytes")
        return self

    def port_of_redis(self, name: str) -> int:
        """Where the app's Redis listens: as it is said, else made of the app's name, so that it never changes."""
        if self.redis_port != "auto":
            return self.redis_port
        return REDIS_PORTS[int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % len(REDIS_PORTS)]

    def for_host(self, name: str, database_url: str, redis_url: str = "") -> dict[str, Any]:
        """What templates and zarpar-host get: defaults filled in, lists where order matters, all texts plain."""
        plain = self.model_dump()
        plain |= {
            "name": name,
            "canonical": self.domains[0],
            "upstream": "zarpar_" + name.replace("-", "_"),
            "static": [{"url": url, "path": path} for url, path in sorted(self.static.items())],
            "uploads": [{"url": url, "path": path} for url, path in sorted(self.uploads.items())],
            "env": {key: str(value) for key, value in sorted(self.env.items())},
            "database_url": database_url,
            "redis_url": redis_url,
            "redis_port": self.port_of_redis(name),
            "longest_stop": max([STOP, *(process.stop for process in self.processes.values())]),
        }
        plain["gunicorn"]["workers"] = 0 if self.gunicorn.workers == "auto" else self.gunicorn.workers
        plain["health"]["host"] = self.health.host or self.domains[0]
        return plain


def _check_env(name: str, value: str | int) -> None:
    if not ENV_NAME.fullmatch(name):
        raise ValueError("env: a name may have letters, digits and _, and may not begin with a digit")
    if name in RESERVED_ENV or name.startswith("ZARPAR_"):
        raise ValueError(f"env.{name}: this name is set by Zarpar")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"env.{name}: the number is too large; write it in quotes")
    if isinstance(value, str) and (NOT_IN_ENV.search(value) or any(ord(char) & 0xFFFE == 0xFFFE for char in value)):
        raise ValueError(f"env.{name}: the value has a control character, or one that is not a character of Unicode")
    if isinstance(value, str) and len(value.encode()) > LARGEST_VALUE:
        raise ValueError(f"env.{name}: the value is longer than {LARGEST_VALUE:,} bytes")


def load_apps(raw: object) -> dict[str, App]:
    """Check the whole of `apps`. Raises BadData, naming each wrong key by its path; no value is shown."""
    if not isinstance(raw, Mapping) or not raw:
        raise BadData("apps: no app is defined", hint="Begin with the example in inventories/prod/group_vars.")
    problems: list[str] = []
    apps: dict[str, App] = {}
    for name, entry in raw.items():
        problem = name_problem(name)
        if problem:
            problems.append(problem)
            continue
        try:
            apps[name] = App.model_validate(entry)
        except ValidationError as error:
            said = [_say(f"apps.{name}", dict(item)) for item in error.errors()]
            problems += list({line.split(": ")[0]: line for line in reversed(said)}.values())[::-1]
    problems += [*_shared_domains(apps), *_shared_ports(apps)]
    if problems:
        raise BadData(problems[0], detail="\n".join(problems[1:]), hint="All keys: docs/APPS.md.")
    return dict(sorted(apps.items()))


def name_problem(name: object) -> str:
    """Why this cannot be the name of an app; empty when it can."""
    if not isinstance(name, str) or not re.fullmatch(APP_NAME, name):
        return f"apps: {str(name)[:40]!r} is not an app's name (a-z, 0-9 and -, first a letter, at most 30)"
    if name in RESERVED_NAMES:
        return f"apps.{name}: this name belongs to the system; choose another"
    return ""


def _shared_domains(apps: Mapping[str, App]) -> list[str]:
    owners: dict[str, str] = {}
    problems = []
    for name, app in apps.items():
        for domain in app.domains:
            if owners.setdefault(domain, name) != name:
                problems.append(f"apps.{name}.domains: {domain} is a domain of apps.{owners[domain]} already")
    return problems


def _shared_ports(apps: Mapping[str, App]) -> Iterator[str]:
    owners: dict[int, str] = {}
    for name, app in apps.items():
        port = app.port_of_redis(name)
        if app.redis and owners.setdefault(port, name) != name:
            yield f"apps.{name}.redis_port: {port} is the port of apps.{owners[port]}'s Redis already; choose another"


WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "is required",
    "string_type": "must be a text (in quotes, when it looks like a number)",
    "string_pattern_mismatch": "has a form that is not allowed here",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
}


def _say(where: str, error: dict[str, Any]) -> str:
    """One line for one pydantic error: the path of the key and what is wrong with it; a secret is never shown."""
    path = where
    # an address may hold a login, which is one of the reasons to refuse it
    secret = error["loc"][:1] == ("env",) or any(re.search("password|repo", str(part)) for part in error["loc"])
    for part in error["loc"][:2] if secret else error["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z_][\w-]*|/[\w./-]*", str(part)) and not str(part).startswith("constrained-"):
            path += f".{part}"
    words = WORDS.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
    secret = secret or isinstance(error["input"], Referred)
    shown = "" if secret or not isinstance(error["input"], str | int | float) else f" {str(error['input'])[:60]!r}"
    return f"{path}:{shown if error['type'] == 'string_pattern_mismatch' else ''} {words}"


def database_url(app: str, password: str, host: str) -> str:
    """Where an app finds its database: over the socket by peer login (host empty), else by scram over TLS."""
    if not host:
        return f"postgresql://{app}@/{app}?host=/run/postgresql"
    where = f"[{host}]" if ":" in host else host
    return f"postgresql://{app}:{quote(password, safe='')}@{where}:5432/{app}?sslmode=require"


def redis_url(app: str, password: str, port: int, host: str) -> str:
    """Where an app finds its Redis: on its own host (host empty), else over TLS on another.

    A form that every client knows: Celery's and redis-py's for a socket exclude each other. Without a password it is
    the host's own that belongs here; zarpar-host puts it in.
    """
    login = f"{app}:{quote(password, safe='')}"
    if not host:
        return f"redis://{login}@127.0.0.1:{port}/0"
    where = f"[{host}]" if ":" in host else host
    return f"rediss://{login}@{where}:{port}/0?ssl_cert_reqs=none"
