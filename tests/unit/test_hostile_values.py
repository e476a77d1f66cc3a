"""Hundreds of hostile texts through everything that a person can give: refused by name, or stored literally.

The keys are found by walking the model, the roles' argument_specs, the own variables and the command line, so a new
one cannot be forgotten: without a sample here its test fails.
"""

from __future__ import annotations

import copy
import http.client
import json
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import typer.main
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import trust_as_template
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins" / "action"))

from preflight import ActionModule as Preflight
from support import hostile, rendered
from support.rendered import INVENTORY, ROOT, Renderer, skeleton

from zarpar import cli, config, connection, init, plan, release_plan, remote, services, source, variables, vault
from zarpar.errors import BadData, ZarparError
from zarpar_host import envfile, postgres, releases, schema
from zarpar_host.errors import HostError
from zarpar_host.health import Check
from zarpar_host.run import Completed
from zarpar_host.state import Places

Path_ = tuple[str | int, ...]
# A right value for every key of the apps model. Keys of the model that are not there (yet) are left out.
SAMPLE: dict[str, Any] = {
    "domains": ["shop.example.com", "www.shop.example.com"],
    "source": {"repo": "git@example.com:me/shop.git", "ref": "main", "folder": "backend"},
    "tls": "letsencrypt",
    "wsgi": "wsgi:app",
    "asgi": "asgi:app",
    "python": "3.12",
    "database": "postgres",
    "database_password": "a-password",
    "redis": "cache",
    "redis_memory": "128M",
    "redis_password": "another-password",
    "redis_port": "auto",
    "system_packages": ["libpq-dev"],
    "processes": {"worker": {"command": "celery -A app worker", "count": 2, "stop": 600}},
    "schedules": {"cleanup": {"command": "flask cleanup", "at": "daily"}},
    "migrate": "flask db upgrade",
    "migration": {"timeout": 3600, "lock_timeout": 5, "statement_timeout": 900, "dump": True},
    "build": ["flask translate compile"],
    "health": {"path": "/health", "status": 200, "host": "shop.example.com", "body": "fine", "timeout": 9, "passes": 2},
    "static": {"/static/": "app/static"},
    "uploads": {"/uploads/": "uploads"},
    "env": {"MAIL_SERVER": "smtp.example.com"},
    "server": "gunicorn",
    "gunicorn": {
        "workers": "auto",
        "threads": 2,
        "worker_class": "gthread",
        "timeout": 120,
        "graceful_timeout": 30,
        "max_requests": 1000,
        "max_requests_jitter": 50,
        "preload": False,
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        "log_level": "info",
        "access_log": True,
    },
    "client_max_body_size": "16M",
    "logs": "file",
    "drain": 30,
    "watch": 30,
    "limits": {"memory": "512M", "tasks": 512, "files": 8192},
    "hsts": 63_072_000,
    "keep": 5,
}
HASHED = {("redis_password",)}  # templates write its hash only
OTHERS = {("source", "path"): "../shop"}  # keys that exclude one of the sample's
EXCLUDED = {("source", "path"): ("source", "repo")}


# -- the model, walked -----------------------------------------------------------------------------------------


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in models_in(part)]


def is_a(annotation: Any, kind: type) -> bool:
    """Whether an annotation allows a list (or dict)."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return is_a(get_args(annotation)[0], kind)
    if origin in (Union, types.UnionType):
        return any(is_a(part, kind) for part in get_args(annotation))
    return annotation is kind or origin is kind


def fitting(model: type[BaseModel], sample: Mapping[str, Any], where: str = "apps") -> dict[str, Any]:
    """The part of a sample that this model has keys for. Fails when a key of the model has no sample."""
    found = {}
    for name, field in model.model_fields.items():
        if (where.removeprefix("apps").strip("."), name) in OTHERS:
            continue
        assert name in sample, f"{where}.{name} has no sample: add one to SAMPLE, so that hostile texts go through it"
        value = sample[name]
        inner = models_in(field.annotation)
        if inner and isinstance(value, dict):
            path = f"{where}.{name}"
            if is_a(field.annotation, dict):
                value = {key: fitting(inner[0], entry, path) for key, entry in value.items()}
            else:
                value = fitting(inner[0], value, path)
        found[name] = value
    return found


APP = fitting(config.App, SAMPLE)


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any, bool]]:
    """Every place of a sample where a text can stand: (path, right value, whether it is a key)."""
    if isinstance(value, dict):
        for key, entry in value.items():
            declared = path == () or path[-1] in ("source", "health", "gunicorn", "limits", "migration")
            if not declared and not (len(path) == 2 and path[0] in ("processes", "schedules")):
                yield (*path, key), key, True
            yield from leaves(entry, (*path, key))
    elif isinstance(value, list):
        yield from leaves(value[0], (*path, 0))
    else:
        yield path, value, False


LEAVES = [*leaves(APP), *((path, value, False) for path, value in OTHERS.items())]


def with_text(path: Path_, text: str, *, is_key: bool) -> dict[str, Any]:
    """The sample with a text at a place."""
    app = copy.deepcopy(APP)
    if path in EXCLUDED:
        *_, name = EXCLUDED[path]
        del app["source"][name]
    place: Any = app
    for part in path[:-1]:
        place = place[part]
    if is_key:
        place[text] = place.pop(path[-1])
    else:
        place[path[-1]] = text
    return app


def loaded(raw: object) -> dict[str, config.App]:
    """By the action plugins' way: raw values, then literal ones, then the model."""
    return config.load_apps(variables.literal("apps", raw, Renderer.reference.__get__(RENDERER)))


RENDERER = Renderer({"known": "x"})


def shown(error: ZarparError) -> str:
    """What a person sees of a refusal: one line, with nothing that a terminal would act on."""
    assert error.summary.isprintable(), ascii(error.summary)
    return f"{error.summary} {error.detail}"


def accepted_at(path: Path_, sample: Any, *, is_key: bool) -> list[str]:
    """The hostile texts that a place takes, as they come back; all others were refused by the place's name."""
    found = []
    for text in hostile.strings(str(sample)):
        try:
            app = loaded({"shop": with_text(path, text, is_key=is_key)})["shop"]
        except BadData as error:
            assert "apps.shop" in shown(error), shown(error)
            assert str(path[0]) in shown(error), shown(error)
            continue
        place: Any = app.model_dump()
        for part in path[:-1]:
            place = place[part]
        assert (text in place) if is_key else (place[path[-1]] == text), f"{path}: {text!r} came back as another"
        found.append(text)
    return found


@pytest.fixture(scope="module")
def accepted() -> dict[tuple[Path_, bool], list[str]]:
    """Place to the hostile texts that it takes."""
    return {(path, is_key): accepted_at(path, sample, is_key=is_key) for path, sample, is_key in LEAVES}


@pytest.fixture(autouse=True)
def no_canary() -> Iterator[None]:
    yield
    assert not Path(hostile.CANARY).exists(), "one of the texts was run"


def test_enough_texts_for_every_place() -> None:
    for path, sample, _ in LEAVES:
        assert len(hostile.strings(str(sample))) >= hostile.LEAST, path
    assert {path[0] for path, _, _ in LEAVES} == set(config.App.model_fields)


def test_templates_are_refused_everywhere() -> None:
    """What YAML gives is a template to Ansible; only a whole reference passes, and this one has no value."""
    texts = [text for text in hostile.ATOMS if variables.has_jinja(text)]
    for path, _, is_key in LEAVES:
        for text in texts:
            raw = with_text(path, trust_as_template(text), is_key=is_key)
            with pytest.raises(BadData) as caught:
                loaded({"shop": raw})
            assert shown(caught.value).startswith("apps"), caught.value.summary
            assert str(path[0]) in shown(caught.value)


def test_a_secret_that_is_a_template_is_refused() -> None:
    for text in (text for text in hostile.ATOMS if variables.has_jinja(text)):
        values = {"vault_key": trust_as_template(text)}
        if variables.REFERENCE.fullmatch(text.strip()):
            continue
        action = Renderer(values)
        with pytest.raises(BadData, match="vault_key"):
            variables.literal("apps.shop.env.KEY", trust_as_template("{{ vault_key }}"), action.reference)
        literal = Renderer({"vault_key": text})
        found = variables.literal("apps.shop.env.KEY", trust_as_template("{{ vault_key }}"), literal.reference)
        assert found == text


def test_name_of_an_app() -> None:
    for text in hostile.strings("shop"):
        problem = config.name_problem(text)
        if problem:
            with pytest.raises(BadData) as caught:
                loaded({text: APP})
            assert shown(caught.value).startswith("apps")
        else:
            assert re.fullmatch(r"[a-z][a-z0-9-]*", text), text


# -- what is taken, where it is written --------------------------------------------------------------------------


def test_what_is_taken_changes_no_skeleton(accepted: dict[tuple[Path_, bool], list[str]]) -> None:
    """Rendered by the roles, each taken text gives as many lines, directives and words as a harmless one."""
    plain = {role: rendered.rendered({"shop": config.App(**APP)}, roles=[role]) for role in rendered.ROLES}
    reached = set()
    for (path, is_key), texts in accepted.items():
        apps = {text: config.App(**with_text(path, text, is_key=is_key)) for text in texts if text}  # "" means none
        few = list(apps.values())[:3]
        for role, expected in plain.items():
            if all(rendered.rendered({"shop": app}, roles=[role]) == expected for app in few):
                continue  # no template of this role uses the key
            reached.add(path[0])
            for text, app in list(apps.items())[: 3 if path in HASHED else None]:
                items = rendered.rendered({"shop": app}, roles=[role])
                assert skeleton(items) == skeleton(expected), f"{role}, {path}: {text!r}"
    assert reached >= {"domains", "static", "uploads"}


def test_the_skeletons_show_what_is_injected() -> None:
    """The counter-check: each reader sees a line, a directive or a statement more."""
    plain = rendered.rendered({"shop": config.App(**APP)})
    seen = set()
    for item in plain:
        reader = next((pattern for pattern in rendered.READERS if rendered.fnmatch(item.get("file", ""), pattern)), "")
        if not reader or not item["content"].strip():
            continue
        seen.add(reader)
        for addition in ("\nx = 1 y\n", "\nevil on;\n", "\n[Service]\nExecStart=/bin/x\n"):
            changed = {**item, "content": item["content"] + addition}
            try:
                different = skeleton([changed]) != skeleton([item])
            except (ValueError, SyntaxError):
                different = True
            assert different, item["file"]
    assert len(seen) >= 7, seen


def test_two_apps_never_share_a_name_on_a_host() -> None:
    """Names of apps that were made to collide with another app's, or with Zarpar's own names in nginx."""
    names = ["shop", "shop-now", "now", "hsts", "connection", "upload-policy", "frame-options", "live", "blue"]
    apps = {name: config.App(**{**APP, "domains": [f"{name}.example.com"]}) for name in names}
    items = rendered.rendered(apps)
    text = "\n".join(item["content"] for item in items if str(item.get("file", "")).startswith("/etc/nginx/"))
    made = re.findall(r"^(upstream \S+|map \S+ \$\S+|map \"[^\"]*\" \$\S+)", text, re.M)
    assert sum(words.startswith("upstream ") for words in made) == len(names)
    assert len(made) > len(names)
    defined = [words.split()[-1].lower() for words in made]
    assert len(set(defined)) == len(defined)
    files = [item["file"] for item in items if "file" in item]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("name", ["ssl-cert", "lxd", "docker", "kvm", "shadow", "disk", "www-data", "zarpar"])
def test_an_app_gets_no_group_of_the_system(name: str) -> None:
    assert "belongs to the system" in config.name_problem(name)


# -- the environment ---------------------------------------------------------------------------------------------

RELEASE = {"id": "00000000-000000", "wsgi": "wsgi:app", "worker_class": "gthread"}


def environment_of(env: Mapping[str, str]) -> dict[str, str]:
    app = config.App(**{**APP, "env": dict(env)}).for_host("shop", "postgresql://shop@/shop")
    request = json.loads(json.dumps(app))  # as it travels
    return releases.environment(Places("shop"), request, RELEASE, Path("/srv/shop/venvs/x"))


def read_as_systemd(text: str) -> dict[str, str]:
    """systemd's EnvironmentFile (parse_env_file_internal of 252 to 257), for what may be in one of ours."""
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        if text[position] in "\n\r \t":
            position += 1
            continue
        if text[position] in "#;":
            position = text.index("\n", position) + 1
            continue
        end = text.index("=", position)
        key, position, value, quoted = text[position:end].strip(), end + 1, "", ""
        while quoted or text[position] not in "\n\r":
            char = text[position]
            if char == "\\" and quoted != "'":
                position += 1
                escaped = text[position]
                if quoted and escaped not in '"\\`$\n':
                    value += "\\"
                value += "" if escaped == "\n" else escaped
            elif quoted:
                quoted, value = ("", value) if char == quoted else (quoted, value + char)
            elif char in "\"'":
                quoted = char
            else:
                value += char
            position += 1
        found[key] = value
    return found


@pytest.fixture(scope="module")
def hostile_environment(accepted: dict[tuple[Path_, bool], list[str]]) -> dict[str, str]:
    texts = accepted[("env", "MAIL_SERVER"), False]
    assert len(texts) > 400, "nearly every text is a right value in an environment"
    return {f"HOSTILE_{number}": text for number, text in enumerate(texts)}


def test_environment_file_gives_every_value_back(hostile_environment: dict[str, str]) -> None:
    values = environment_of(hostile_environment)
    text = envfile.dump(values)
    for read in (envfile.parse, read_as_systemd):
        assert read(text) == values
    assert text.encode().decode() == text


def test_environment_file_gives_every_value_back_to_a_shell(
    hostile_environment: dict[str, str], tmp_path: Path
) -> None:
    """A second reader that is not ours, and that would run what is not quoted."""
    values = {name: value for name, value in environment_of(hostile_environment).items() if name.startswith("HOSTILE_")}
    file = tmp_path / "env"
    file.write_bytes(envfile.dump(values).encode())
    script = f"set -a; . {file}; exec env -0"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, cwd=tmp_path)
    found = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line.startswith("HOSTILE_"))
    assert found == values
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


def test_what_systemd_would_refuse_is_refused_before() -> None:
    """A unit does not start with half characters or non-characters in its environment file."""
    for text in ("\ud800", "\udfff", "\ufffe", "\uffff", "\ufdd0", "\U0001ffff", "\x01", "\x7f", "\r", "x" * 100_001):
        with pytest.raises(BadData, match=r"env\.KEY"):
            loaded({"shop": {**APP, "env": {"KEY": f"a{text}b"}}})
    with pytest.raises(BadData, match="env: all values together"):
        loaded({"shop": {**APP, "env": {f"KEY{number}": "x" * 90_000 for number in range(12)}}})
    with pytest.raises(BadData, match=r"env\.KEY: the number"):
        loaded({"shop": {**APP, "env": {"KEY": 10**5000}}})
    assert loaded({"shop": {**APP, "env": {"KEY": "\U0001f6a2" * 25_000}}})


# -- commands, addresses, passwords ------------------------------------------------------------------------------


def test_commands_of_an_app_are_words_and_never_a_shell_s(
    accepted: dict[tuple[Path_, bool], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[list[str]] = []
    (tmp_path / "flask").write_text("#!/bin/sh\n")
    (tmp_path / "flask").chmod(0o755)

    def record(argv: list[str], **_options: Any) -> Completed:
        ran.append(argv)
        return Completed(0, "", "")

    monkeypatch.setattr(releases, "run", record)
    texts = {*accepted[("migrate",), False], *accepted[("build", 0), False]}
    assert len(texts) > 300
    for text in texts:
        before = len(ran)
        try:
            releases.command_run(text, "nobody", tmp_path, {"PATH": str(tmp_path)}, 5, "build")
        except HostError as error:
            assert error.kind == "build", error.summary
            continue
        argv = ran[before]
        assert Path(argv[0]).parent == tmp_path or Path(argv[0]).is_absolute()
        # without quotes and escapes a shell's signs stay where they are
        if not set("'\"\\") & set(text):
            assert argv[1:] == re.split("[ \t]+", text.strip(" \t"))[1:]
    assert len(ran) > 100


def test_source_path_and_ref_are_refused_by_git_at_the_latest(
    accepted: dict[tuple[Path_, bool], list[str]], tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.com"]
    for words in (["init", "-q", "-b", "trunk"], ["commit", "-q", "--allow-empty", "-m", "First"]):
        subprocess.run(["git", *identity, "-C", str(repo), *words], check=True)
    for text in accepted[("source", "path"), False]:
        app = config.App(**with_text(("source", "path"), text, is_key=False))
        with pytest.raises(BadData, match=r"apps\.shop\.source\.path"):
            source.resolve("shop", app, tmp_path)
    refs = accepted[("source", "ref"), False]
    for text in refs:
        app = config.App(**{**APP, "source": {"path": str(repo), "ref": text}})
        with pytest.raises(BadData, match=r"apps\.shop\.source\.ref"):
            source.resolve("shop", app, tmp_path)
    assert refs


def test_git_gets_an_address_as_one_word_behind_the_options(
    accepted: dict[tuple[Path_, bool], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >{log}\nexit 128\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    texts = accepted[("source", "repo"), False]
    for text in texts:
        app = config.App(**with_text(("source", "repo"), text, is_key=False))
        with pytest.raises(BadData, match=r"apps\.shop\.source\.repo"):
            source.resolve("shop", app, tmp_path)
        words = log.read_text().split("\0")[:-1]
        assert words[2:7] == ["clone", "--quiet", "--mirror", "--", text]
        assert "::" not in text
        assert not re.search(r"(^|://|@)-", text)
    assert texts


@pytest.mark.parametrize(
    "repo",
    [
        "https://user:S3CRET@example.com/x.git",
        "https://S3CRET@example.com/x.git",
        "https://x-access-token:S3CRET@github.com/x/y.git",
        "http://S3CRET@example.com/x.git",
        "ssh://git:S3CRET@example.com/x.git",
        "https://user:S3CRET!@example.com/x.git",
        "https://user:S3CRET @example.com/x.git",
    ],
)
def test_a_login_in_a_repository_s_address_is_refused_and_not_shown(repo: str) -> None:
    with pytest.raises(BadData) as caught:
        loaded({"shop": {**APP, "source": {"repo": repo}}})
    assert "apps.shop.source" in shown(caught.value)
    assert "S3CRET" not in shown(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    "repo", ["git@example.com:me/shop.git", "ssh://git@example.com/x.git", "https://example.com/x"]
)
def test_an_address_without_a_secret_is_taken(repo: str) -> None:
    assert loaded({"shop": {**APP, "source": {"repo": repo}}})


def test_passwords_stay_one_part_of_the_address_and_one_literal_of_sql(
    accepted: dict[tuple[Path_, bool], list[str]],
) -> None:
    plain = schema.connection(config.database_url("shop", "x", "192.0.2.2"))
    texts = accepted[("database_password",), False]
    assert len(texts) > 200
    for text in texts:
        url = config.database_url("shop", text, "192.0.2.2")
        assert schema.connection(url) == {**plain, "PGPASSWORD": text} if text else "PGPASSWORD" not in url
        assert envfile.parse(envfile.dump({"DATABASE_URL": url})) == {"DATABASE_URL": url}
    known = {"roles": {"shop": None}, "databases": {"shop": False}}
    for text in texts[::40]:
        statements = postgres._statements({"name": "shop", "password": text}, known)
        assert len(statements) == (1 if text else 0)
        assert all(re.fullmatch(r"ALTER ROLE \"shop\" PASSWORD '[^']*'", statement) for statement in statements)


def test_names_and_literals_of_sql() -> None:
    for text in hostile.ATOMS:
        for quoted, sign in ((postgres.quote_name(text), '"'), (postgres.quote_text(text), "'")):
            assert quoted[0] == quoted[-1] == sign
            assert quoted[1:-1].replace(sign * 2, "").count(sign) == 0


def test_health_check_is_one_line_of_a_request(accepted: dict[tuple[Path_, bool], list[str]]) -> None:
    for text in accepted[("health", "path"), False]:
        connection_ = http.client.HTTPConnection("localhost")
        connection_.putrequest("GET", text)  # refuses what would be a second line
        assert b"\r\n".join(connection_._buffer).count(b"\r\n") == 1 + 1  # type: ignore[attr-defined]
    for text in accepted[("health", "body"), False]:
        check = Check.of({**APP["health"], "body": text})
        assert check.body == text


# -- variables of roles ------------------------------------------------------------------------------------------

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1vbGVjdWxl alice@example.com"
ROLE_SAMPLES: dict[str, Any] = {
    "base_timezone": "Europe/Madrid",
    "base_journal_max": "500M",
    "base_swap": "512",
    "base_users": [{"name": "alice", "keys": [KEY], "sudo": True}],
    "base_unattended_upgrades": "true",
    "certbot_email": "ops@example.com",
    "certbot_server": "https://acme.example.com/directory",
    "certbot_staging": "false",
    "certbot_ca_file": str(ROOT / "LICENSE"),
    "python_index_url": "https://user:password@pypi.example.com/simple/",
    "python_mirror": "https://mirror.example.com/python",
    "postgres_max_connections": "100",
    "app_release_rollout": ["25%"],
    "app_release_soak": "60",
    "app_release_max_errors": "5",
    "app_release_on_failure": "stop",
}
SPECS = variables.RoleVariables(ROOT / "roles")


class Checker(Renderer, Preflight):  # type: ignore[misc]
    """The preflight, without a task."""


def check_role(role: str, values: Mapping[str, Any]) -> None:
    """What the preflight does with a role's variables. Raises BadData."""
    roles = copy.copy(SPECS)
    roles.specs = {role: SPECS.specs[role]}
    roles.check(values, CHECKER.reference)
    CHECKER._forms(roles, {**INVENTORY, **values})


CHECKER = Checker(INVENTORY)


def role_leaves() -> Iterator[tuple[str, str, Path_, Any]]:
    """Role, variable, path in its sample, right value."""
    for role, spec in SPECS.specs.items():
        for name, option in spec.items():
            assert name in ROLE_SAMPLES, f"{name} has no sample: add one, so that hostile texts go through it"
            for path, value, is_key in leaves({name: ROLE_SAMPLES[name]}):
                if not is_key:
                    yield role, name, path, value
            if "options" in option:
                assert set(option["options"]) == set(ROLE_SAMPLES[name][0]), f"{name}: a part of it has no sample"


ROLE_LEAVES = list(role_leaves())


@pytest.mark.parametrize(("role", "name", "path", "sample"), ROLE_LEAVES, ids=lambda value: str(value)[:40])
def test_variable_of_a_role(role: str, name: str, path: Path_, sample: Any) -> None:
    values = {name: ROLE_SAMPLES[name]}
    apps = {"shop": config.App(**APP)}
    roles = [role] if role in rendered.ROLES else []
    check_role(role, values)
    plain = skeleton(rendered.rendered(apps, values, roles))
    lines = []
    for text in hostile.strings(str(sample)):
        changed = copy.deepcopy(values)
        place: Any = changed
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = text
        try:
            check_role(role, changed)
        except BadData as error:
            assert name in shown(error) or role in shown(error), shown(error)
            continue
        if path[-2:] == ("keys", 0):
            lines.append(text)
            continue
        found = skeleton(rendered.rendered(apps, changed, roles))
        if re.fullmatch(r"\s*", text) or type(sample) is bool or sample in ("true", "false", "512"):
            continue  # a value that turns something off has fewer items; the forms left no other
        assert found == plain, f"{name}: {text!r}"
    if lines:
        everyone = {"base_users": [{"name": "alice", "keys": lines, "sudo": True}]}
        (file,) = (
            item for item in rendered.rendered(apps, everyone, roles) if "authorized_keys" in str(item.get("file"))
        )
        assert file["content"].split("\n")[1:-1] == [text.strip() for text in lines]


def test_templates_are_refused_in_variables_of_roles() -> None:
    texts = [text for text in hostile.ATOMS if variables.has_jinja(text)]
    for role, name, path, _ in ROLE_LEAVES:
        for text in texts:
            changed = copy.deepcopy({name: ROLE_SAMPLES[name]})
            place: Any = changed
            for part in path[:-1]:
                place = place[part]
            place[path[-1]] = trust_as_template(text)
            with pytest.raises(BadData) as caught:
                check_role(role, changed)
            assert name in shown(caught.value)


@pytest.mark.parametrize("word", ["no", "off", "false", "0", "No", "False"])
def test_a_no_in_quotes_is_no_sudo(word: str) -> None:
    values = {"base_users": [{"name": "alice", "keys": [KEY], "sudo": word}]}
    check_role("base", values)
    items = rendered.rendered({}, values, ["base"])
    assert not any(str(item.get("file", "")).startswith("/etc/sudoers.d/") for item in items)


# -- own variables and names of the inventory --------------------------------------------------------------------

OWN_SAMPLES = {
    "zarpar_apps": "shop",
    "zarpar_ref": "main",
    "zarpar_wait_lock": "60",
    "zarpar_release": "3f2a9c1d-a1b2c3",
    "zarpar_force": "yes",
    "zarpar_deploy": "0a1b2c3d4e5f",
    "zarpar_address": "192.0.2.7",
}


@pytest.mark.parametrize("name", sorted(variables.OWN_VARIABLES))
def test_own_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = OWN_SAMPLES[name]
    variables.check_own({name: sample}, CHECKER.reference)
    taken = []
    for text in hostile.strings(sample):
        for value in (text, trust_as_template(text), *([[text]] if name == "zarpar_apps" else [])):
            try:
                variables.check_own({name: value}, CHECKER.reference)
            except BadData as error:
                assert name in shown(error), shown(error)
                continue
            taken.append(text)
    assert all(re.fullmatch(r"[A-Za-z0-9./@^~+:, -]*", text, re.ASCII) for text in taken)
    assert not any(text.startswith("-") for text in taken if name in ("zarpar_ref", "zarpar_release", "zarpar_address"))
    if name == "zarpar_apps":
        apps = {"shop": config.App(**APP)}
        for text in taken:
            try:
                assert set(release_plan.selected(apps, text)) == {"shop"}
            except BadData as error:
                assert shown(error).startswith("zarpar_apps")
    if name == "zarpar_address":
        monkeypatch.setattr(services, "_resolve", lambda _name: [])  # nobody is asked for these names
        for text in dict.fromkeys(taken):
            _check_address(text)


def _check_address(text: str) -> None:
    """An address in DATABASE_URL and in PostgreSQL's files."""
    hostvars = {"one": {"zarpar_address": text}, "two": {"zarpar_address": text}}
    task_vars = {**INVENTORY, "inventory_hostname": "one", "hostvars": hostvars}
    app = config.App(**APP)
    url = variables.database_url("shop", app, task_vars)
    plain = variables.database_url("shop", app, {**INVENTORY, "inventory_hostname": "one"})
    assert url.count("/") == plain.count("/")
    assert url.count("?") == plain.count("?")
    assert url.count("@") == plain.count("@")
    mine = {"hostvars": hostvars, **({"zarpar_address": text} if text else {})}
    try:
        items = rendered.rendered({"shop": app}, mine, ["postgres", "firewall", "redis"])
    except BadData as error:
        assert "is no address by which other hosts" in shown(error)
        return
    expected = rendered.rendered({"shop": app}, {"zarpar_address": "192.0.2.2"}, ["postgres", "firewall", "redis"])
    assert skeleton(items) == skeleton(expected), text


@pytest.mark.parametrize("value", [["a"], {"a": 1}, [["a"]], 5.5])
def test_own_variable_of_another_type(value: object) -> None:
    for name in sorted(set(variables.OWN_VARIABLES) - {"zarpar_apps"}):
        if value == 5.5 and name in ("zarpar_ref", "zarpar_address"):
            continue
        with pytest.raises(BadData, match=name):
            variables.check_own({name: value}, CHECKER.reference)


def test_names_of_hosts_and_groups() -> None:
    app = config.App(**APP)
    plain = rendered.rendered({"shop": app}, roles=["postgres", "firewall"])
    taken = 0
    for number, text in enumerate(hostile.strings("web1")):
        groups = {**INVENTORY["groups"], text: ["one"], "web": ["one"]}
        if text not in ("web", "db", "all") and number % 30 == 0:  # nothing is made of other groups' names
            assert rendered.rendered({"shop": app}, {"groups": groups}, ["postgres", "firewall"]) == plain
        try:
            variables.check_host_name(text)
        except BadData as error:
            assert shown(error).startswith("inventory")
            continue
        taken += 1
        inventory = {
            "groups": {"all": [text, "two"], "web": [text], "db": ["two"], "redis": ["two"]},
            "hostvars": {text: {"ansible_host": "192.0.2.1"}, "two": {"ansible_host": "192.0.2.2"}},
        }
        assert skeleton(rendered.rendered({"shop": app}, inventory, ["postgres", "firewall"])) == skeleton(plain), text
    assert taken


@pytest.mark.parametrize("name", ["web1", "web-1.example.com", "192.0.2.1", "fd00::1", "_x", "WEB"])
def test_names_that_hosts_have(name: str) -> None:
    variables.check_host_name(name)


# -- the command line --------------------------------------------------------------------------------------------


def _environment(text: str) -> object:
    return plan.find_environment(text, ROOT, ROOT / "tests")


def _release_of(text: str) -> object:
    return plan.Choices(release=text or "-")


def _value_of_a_secret(text: str) -> object:
    written = vault.with_value("", "vault_x", text)
    assert vault._load(written) == {"vault_x": text}
    return written


def _since(text: str) -> None:
    script = remote.logs_script(remote.Wish(("shop",), since=text))
    words = shlex.split(script.partition("; then exec ")[2].partition(";")[0])
    assert words[0] == "journalctl"
    assert not text or [word for word in words if word.startswith("--since=")] == [f"--since={remote._since(text)}"]


def _in(**fields: str) -> Callable[[str], object]:
    wanted = {"environment": "prod", "host": "192.0.2.1", "domain": "shop.example.com", "user": "root"}
    (name,) = fields
    return lambda text: init.Wanted(**{**wanted, name: text})


SERVER = connection.Server("one", "192.0.2.1", "root", frozenset({"web"}), "ssh", (), "")
HAVING = connection.Inventory((SERVER,), (), {"shop": {}})
HOST_OPTION = "compared with the inventory's names only"
WORDS_OPTION = "test_words_of_a_command_reach_the_host_as_they_are"
# (parameter of a command) -> what it goes through first, or where it is tested
ARGUMENTS: dict[str, Callable[[str], object] | str] = {
    "env": _environment,
    "init env": _in(environment=""),
    "init host": _in(host=""),
    "init domain": _in(domain=""),
    "init user": _in(user=""),
    "init name": lambda text: config.load_apps({text or "-": APP}),
    "init checkout": "a folder that is read; test_discover",
    "ref": lambda text: plan.Choices(ref=text),
    "apps": lambda text: plan.Choices(apps=(text,)),
    "logs apps": lambda text: HAVING.app(text or "-"),
    "env apps": lambda text: HAVING.app(text or "-"),
    "limit": lambda text: plan.Choices(limit=text),
    "to": _release_of,
    "since": _since,
    "process": lambda text: remote.Wish(("shop",), process=text),
    "schedules name": lambda text: remote.Wish(("shop",), schedule=text),
    "only": lambda text: HAVING.app(text or "-"),
    "run host": HOST_OPTION,
    "ssh host": HOST_OPTION,
    "run command": WORDS_OPTION,
    "secrets name": lambda text: vault.with_value("", text, "x"),
    "doctor resolver": "doctor.plain_address, which takes addresses only",
    "resolver": "doctor.plain_address, which takes addresses only",
}


def parameters() -> Iterator[tuple[str, str]]:
    """Command and parameter for each text that the command line takes."""

    def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from commands(command, f"{name} ")
            else:
                yield name, command

    for name, command in commands(typer.main.get_command(cli.app)):
        for parameter in command.params:
            if parameter.type.name in ("text", "str"):
                yield name, parameter.name


@pytest.mark.parametrize(("command", "parameter"), sorted(set(parameters())))
def test_argument_of_the_wrapper(command: str, parameter: str) -> None:
    check = ARGUMENTS.get(f"{command} {parameter}", ARGUMENTS.get(parameter))
    assert check, f"zarpar {command}: {parameter} is in no test here: add it to ARGUMENTS"
    if isinstance(check, str):
        return
    samples = {"env": "prod", "apps": "shop", "since": "2h", "to": "3f2a9c1d-a1b2c3", "limit": "web1", "ref": "main"}
    for text in hostile.strings(samples.get(parameter, "x")):
        try:
            check(text)
        except BadData as error:
            assert error.summary.isprintable(), ascii(error.summary)
            continue
        assert parameter == "since" or not text.startswith(("-", "@")), f"{text!r} could be an option"
        assert text.isprintable() or check is _environment, f"{text!r} is taken"


def test_extra_variables_are_json_of_plain_texts() -> None:
    for text in hostile.strings("main"):
        try:
            choices = plan.Choices(apps=("shop",), ref=text, limit="web1")
        except BadData:
            continue
        given = plan.extra_vars(choices)
        assert not any(variables.has_jinja(value) for value in given.values())
        assert json.loads(json.dumps(given)) == given


def test_words_of_a_command_reach_the_host_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Through the very shells: the one that sshd starts, ours, and the one around sudo."""
    library = tmp_path / "library"
    (library / "v1").mkdir(parents=True)
    (library / "v1" / "__main__.py").write_text(
        "import os, sys\nsys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))\n"
    )
    root = tmp_path / "bin"
    root.mkdir()
    (root / "id").write_text("#!/bin/sh\necho 0\n")
    (root / "id").chmod(0o755)
    monkeypatch.setattr(remote, "LIBRARY", str(library))
    monkeypatch.setattr(remote, "PYTHON", sys.executable)
    given = [
        text for text in hostile.strings("flask shell") if "\x00" not in text and not re.search("[\ud800-\udfff]", text)
    ]
    assert len(given) >= hostile.LEAST
    *_, command = SERVER.ssh(remote.exec_script("v1", "shop", given, ask=False))
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{root}:{os.environ['PATH']}"},
    )
    assert [os.fsdecode(word) for word in done.stdout.split(b"\0")] == ["exec", "shop", "--", *given]


def test_secrets_that_are_set_come_back_from_ansible(tmp_path: Path) -> None:
    text, values = "", {}
    for number, value in enumerate(hostile.strings("a-secret")):
        try:
            text = vault.with_value(text, f"vault_{number}", value) if number < 40 else text
            line = vault.with_value("", f"vault_{number}", value)
        except BadData as error:
            assert f"vault_{number}" in shown(error)
            continue
        values[f"vault_{number}"] = value
        text += line if number >= 40 else ""
    assert len(values) > 400
    file = tmp_path / "vault.yml"
    file.write_text(text)
    found = DataLoader().load_from_file(str(file), trusted_as_template=True)
    assert {name: str(value) for name, value in found.items()} == values
    assert not any(variables.is_template(value) for value in found.values())


# -- what is told ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["!S3cret", "!!S3cret"])
def test_a_password_that_looks_like_a_tag_is_not_shown(tag: str) -> None:
    with pytest.raises(BadData) as caught:
        vault.names(f"vault_x: {tag}\n")
    assert "S3cret" not in shown(caught.value) + caught.value.hint


def test_release_of_a_request_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "srv/shop").mkdir(parents=True)
    (tmp_path / "srv/evil").mkdir(parents=True)
    (tmp_path / "srv/evil/release.json").write_text("{}")
    places = Places("shop", tmp_path)
    for text in ("../../evil", "../../../srv/evil", str(tmp_path / "srv/evil"), ".", ".."):
        with pytest.raises(HostError, match="is not on this host"):
            releases.settings_of(places, text)


def test_ansible_error_is_a_refusal() -> None:
    """The counter-check of `check_role`: a wrong form is Ansible's own error, told by its hint."""
    with pytest.raises(BadData, match="base_timezone: not the name of a time zone"):
        check_role("base", {"base_timezone": "a; b"})
    with pytest.raises(AnsibleError):
        CHECKER.render(trust_as_template("{{ undef(hint='x') }}"), {})
