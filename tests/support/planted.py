"""Secrets that are planted on purpose, in many shapes, and the search for them in all the forms that they can take."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, quote_plus

CONTROL = "CONTROL"
SHAPES = {
    "SECRET_KEY": "{}",
    "HEX_TOKEN": "0x{}ff",
    "BASE64_KEY": "dGhpcyBpcw+{}/AA==",
    "QUOTED_SECRET": "it's \"{}\" 'so'",
    "PRIVATE_KEY": "-----BEGIN PRIVATE KEY-----\n{}\nlast line\n-----END PRIVATE KEY-----\n",
    "UNICODE_PASSWORD": "ñ€🚢{}é\u0301",
    "DOLLAR_TOKEN": "${}$HOME`x`",
    "BACKSLASH_TOKEN": "\\{}\\n\\",
    "PERCENT_TOKEN": "%s%{}%%20",
    "JSON_CREDENTIALS": '{{"type": "account", "private_key": "{}", "list": [1, "é"]}}',
    "BROKER_URL": "amqp://user:{}@queue.example.test:5671/app?x=1",
    "SENTRY_DSN": "https://{}@errors.example.test/1",
    "SPACED_SECRET": "  two words\tand {} more  ",
    "DASHED_TOKEN": "--{}",
    "TAGGED_SECRET": "!{} #x",
    "TEMPLATE_SECRET": "{{{{ {} }}}}",
    "SHELL_SECRET": "$(echo {})`; rm x",
    "LONG_SECRET": "{}" + "x" * 2000,
    "YAML_SECRET": "key: {}: [a, *b, &c",
    "XML_SECRET": "<a b='{}'>&amp;</a>",
    "AT_SECRET": "@{}",
    "MIXED_SALT": "a\n\t{}\n'\"\\",
    # not in the app's environment; each has a place of its own
    "DATABASE_PASSWORD": "db {}'\"%/@:x",
    "VAULT_PASSWORD": "open-{}-sesame",
    "INDEX_LOGIN": "login-{}",
}
ELSEWHERE = ("DATABASE_PASSWORD", "VAULT_PASSWORD", "INDEX_LOGIN")


def plant() -> tuple[dict[str, str], dict[str, str]]:
    """25 new secrets and the control: values by names, and the unguessable core of each."""
    cores = {name: f"zp{secrets.token_hex(12)}" for name in (*SHAPES, CONTROL)}
    values = {name: SHAPES.get(name, "{}").format(core) for name, core in cores.items()}
    return values, cores


class Finder:
    """Looks for secrets in bytes: as they are, and as addresses, JSON, Python, base64 and hex write them."""

    def __init__(self, values: Mapping[str, str], cores: Mapping[str, str]) -> None:
        self.forms = {name: _forms(values[name], cores[name]) for name in values}

    def find(self, data: bytes | str) -> set[str]:
        """The names of the secrets in it."""
        raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
        return {name for name, forms in self.forms.items() if any(form in raw for form in forms)}

    def patterns(self) -> str:
        """All forms that are one line, for grep -F -f -."""
        lines = {form.decode() for forms in self.forms.values() for form in forms if b"\n" not in form}
        return "\n".join(sorted(lines)) + "\n"

    def name_of(self, form: str) -> str:
        """Whose form it is that grep found."""
        return next(iter(self.find(form)), "")


def _forms(value: str, core: str) -> frozenset[bytes]:
    found = {core.encode(), value.encode()}
    for text in (value, core):
        found |= {quote(text).encode(), quote(text, safe="").encode(), quote_plus(text).encode()}
        found |= {json.dumps(text)[1:-1].encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode()}
        found |= {repr(text)[1:-1].encode(), text.encode().hex().encode(), text.encode().hex().upper().encode()}
        found |= {base64.b64encode(text.encode()), base64.urlsafe_b64encode(text.encode())}
    for offset in range(3):  # in the middle of something that was encoded as a whole
        encoded = base64.b64encode(b"\0" * offset + core.encode())
        found.add(encoded[(offset * 8 + 5) // 6 : (offset + len(core)) * 8 // 6])
    return frozenset(found)


class Watch:
    """Looks at all processes of this machine, and at files that ansible-runner and Ansible keep while they run."""

    def __init__(self, finder: Finder, folders: Sequence[Path] = ()) -> None:
        self.finder = finder
        self.folders = folders or (Path(tempfile.gettempdir()), Path.home() / ".ansible" / "tmp")
        self.arguments: dict[str, str] = {}
        self.environments: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self.looks = 0
        self._over = threading.Event()
        self._own = Path("/proc/self/ns/mnt").readlink()
        self._seen: set[tuple[str, float, int]] = set()
        self._clean: set[bytes] = set()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        last = False
        while not last:
            last = self._over.wait(0.03)  # what is there at the end is looked at once more
            self.looks += 1
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit():
                    with contextlib.suppress(OSError):
                        self._process(folder)
            for top in self.folders:
                for folder in (*top.glob("zarpar-*"), *top.glob("ansible-*")):
                    with contextlib.suppress(OSError):
                        self._folder(folder)

    def _process(self, folder: Path) -> None:
        words = (folder / "cmdline").read_bytes()
        for name in self._find(words):
            self.arguments[name] = repr(words[:300])
        inside = (folder / "ns/mnt").readlink() != self._own  # of a lab host, where the app has them
        if not inside:
            for name in self._find((folder / "environ").read_bytes()):
                self.environments[name] = repr(words[:300])

    def _find(self, data: bytes) -> set[str]:
        """What `find` says; data without a secret is searched once only, so that a look takes milliseconds."""
        if data in self._clean:
            return set()
        found = self.finder.find(data)
        if not found:
            self._clean.add(data)
        return found

    def _folder(self, folder: Path) -> None:
        for path in folder.rglob("*") if folder.is_dir() else [folder]:
            with contextlib.suppress(OSError):
                facts = path.lstat()
                key = (str(path), facts.st_mtime, facts.st_size)
                if key in self._seen or not path.is_file() or path.is_symlink():
                    continue
                self._seen.add(key)
                for name in self.finder.find(path.read_bytes()):
                    self.files[name] = str(path)


# Runs on a host: arguments of all processes, and environments of root's. Patterns come over standard input.
ON_HOST = r"""
import json, os, sys, time
forms = {name: [bytes.fromhex(form) for form in its] for name, its in json.loads(sys.stdin.readline()).items()}
found = {"arguments": {}, "environments": {}, "looks": 0}
clean = set()
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[1])
last = False
while not last:
    last = time.monotonic() > end or os.path.exists(sys.argv[2])
    found["looks"] += 1
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read()
            root = os.stat(f"/proc/{pid}").st_uid == 0
            environment = open(f"/proc/{pid}/environ", "rb").read() if root else b""
        except OSError:
            continue
        for kind, data in (("arguments", words), ("environments", environment)):
            names = [] if data in clean else [name for name in forms if any(form in data for form in forms[name])]
            for name in names:
                found[kind][name] = repr(words[:300])
            if not names:
                clean.add(data)
    time.sleep(0.02)
print(json.dumps(found), flush=True)
"""


class HostWatch:
    """The same inside a host, by a program of its own. `prefix`: the argument list that runs something there."""

    def __init__(self, finder: Finder, prefix: Sequence[str], stop: str, limit: float = 1800) -> None:
        self._argv = [*prefix, "python3", "-I", "-c", ON_HOST, str(limit), stop]
        self._order = json.dumps({name: [form.hex() for form in forms] for name, forms in finder.forms.items()})
        self.arguments: dict[str, str] = {}
        self.environments: dict[str, str] = {}
        self.looks = 0

    def start(self) -> None:
        self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not (self._process.stdin and self._process.stdout):
            raise AssertionError("no pipes")
        self._process.stdin.write(self._order + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == "ready"

    def result(self) -> None:
        """Read what it saw; its file `stop` must be there by now."""
        out, _ = self._process.communicate(timeout=60)
        found = json.loads(out)
        self.arguments, self.environments, self.looks = found["arguments"], found["environments"], found["looks"]


def process_that_shows(text: str, until: str, prefix: Sequence[str] = (sys.executable,)) -> subprocess.Popen[bytes]:
    """A process with a text among its arguments and in its environment: what a watch has to find.

    It ends when there is a file `until` where it runs, or after half an hour: a watch may take its time for a look.
    """
    wait = "import os, sys, time\nfor _ in range(18000):\n os.path.exists(sys.argv[2]) and sys.exit()\n time.sleep(0.1)"
    code = f"import os, sys; os.execve(sys.executable, [sys.executable, '-Ic', {wait!r}, *sys.argv[1:]], "
    code += "{'X': sys.argv[1]})"
    return subprocess.Popen([*prefix, "-I", "-c", code, text, until])
