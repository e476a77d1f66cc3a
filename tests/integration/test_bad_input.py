"""Bad data is refused by name, by plain ansible-playbook too, before any connection is tried.

The host of these inventories has an address that answers nobody: a run that got as far as connecting would end
with "unreachable" (and take its time).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
HOSTS = """
all:
  vars: {ansible_user: nobody, ansible_ssh_common_args: "-o ConnectTimeout=2 -o BatchMode=yes"}
  children:
    web: {hosts: {one: {ansible_host: 192.0.2.1}}}
    db: {hosts: {%s: {ansible_host: 192.0.2.2}}}
"""
APP = """
apps:
  shop:
    domains: [shop.example.com]
    source: {path: repo}
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "wsgi.py").write_text("app = 1\n")
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.com"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "First"]):
        subprocess.run(["git", *identity, "-C", str(repo), *words], check=True)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts.yml").write_text(HOSTS % "one")
    return tmp_path


def play(inventory: Path, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    (inventory / "group_vars" / "all.yml").write_text(text)
    return subprocess.run(
        [str(PLAYBOOK), "-i", str(inventory / "hosts.yml"), str(ROOT / "site.yml"), *words],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


CASES = {
    "unknown key": (APP + "    domain: x\n", "apps.shop.domain: unknown key"),
    "unknown nested key": (APP + "    gunicorn: {worker: 3}\n", "apps.shop.gunicorn.worker: unknown key"),
    "wrong type": (APP + '    gunicorn: {workers: "3"}\n', "apps.shop.gunicorn.workers: must be"),
    "domain with Jinja": (APP.replace("shop.example.com", "\"{{ lookup('pipe', 'id') }}\""), "apps.shop.domains[0]"),
    "domain with newline": (APP.replace("shop.example.com", '"a.example.com\\nb"'), "apps.shop.domains[0]"),
    "domain with quote": (APP.replace("shop.example.com", "'a\".example.com'"), "apps.shop.domains[0]"),
    "domain with path": (APP.replace("shop.example.com", "../a.example.com"), "apps.shop.domains[0]"),
    "domain with dash": (APP.replace("shop.example.com", "-a.example.com"), "apps.shop.domains[0]"),
    "name with Jinja": (APP.replace("shop:", '"{{ x }}":'), "apps: a key holds Jinja"),
    "name with newline": (APP.replace("shop:", '"shop\\n":'), "is not an app's name"),
    "name with quote": (APP.replace("shop:", "'sh\"op':"), "is not an app's name"),
    "name with path": (APP.replace("shop:", '"../shop":'), "is not an app's name"),
    "name with dash": (APP.replace("shop:", '"-shop":'), "is not an app's name"),
    "duplicate domain": (
        APP + "  two:\n    domains: [shop.example.com]\n    source: {path: repo}\n",
        "shop.example.com is a domain of apps.shop already",
    ),
    "Jinja in env": (APP + '    env: {A: "x{{ 1 + 1 }}"}\n', "apps.shop.env.A: Jinja is not allowed"),
    "missing vault value": (
        APP + '    env: {SECRET_KEY: "{{ vault_shop_key }}"}\n',
        "apps.shop.env.SECRET_KEY: the variable vault_shop_key has no value",
    ),
    "no checkout": (APP.replace("path: repo", "path: group_vars"), "is not in a Git checkout"),
    "no folder": (APP.replace("path: repo", "path: nowhere"), "apps.shop.source.path: there is no folder"),
    "no such ref": (APP.replace("path: repo", "path: repo, ref: nope"), "apps.shop.source.ref: nope"),
    "unknown role variable": (APP + "certbot_mail: a@example.com\n", "certbot_mail: role certbot has no such variable"),
    "unknown own variable": (APP + "zarpar_app: shop\n", "zarpar_app: there is no such variable"),
    "Jinja in a role variable": (APP + "base_timezone: \"{{ lookup('pipe', 'id') }}\"\n", "base_timezone: Jinja"),
    "wrong role variable": (APP + "certbot_staging: [1]\n", "certbot"),
    "time zone's form": (APP + "base_timezone: 'a; b'\n", "base_timezone: not the name of a time zone"),
    "server's form": (APP + "certbot_server: ftp://x\n", "certbot_server: not an https address"),
    "Redis and a URL of its own": (APP + '    redis: cache\n    env: {REDIS_URL: "x"}\n', "env.REDIS_URL"),
    "no such variable of role redis": (APP + "redis_maxmemory: 1G\n", "redis_maxmemory: role redis has no such"),
    "swap's form": (APP + "base_swap: lots\n", "base_swap: give auto, off or a size"),
    "user's name": (APP + "base_users: [{name: root, keys: []}]\n", "base_users"),
    "user's key in two lines": (
        APP + 'base_users: [{name: al, keys: ["ssh-ed25519 AAAAC3 a\\nssh-rsa AAAAB3"]}]\n',
        "base_users: a key is one line",
    ),
    "no such CA file": (APP + "certbot_ca_file: nowhere.pem\n", "certbot_ca_file: there is no such file"),
    "index with a variable": (APP + "python_index_url: 'https://x/${HOME}'\n", "python_index_url: not an http"),
    "sizes of batches": (APP + "app_release_rollout: [1, lots]\n", "app_release_rollout: give numbers"),
    "waiting": (APP + "zarpar_wait_lock: soon\n", "zarpar_wait_lock: 'soon' has a form"),
    "Jinja in an own variable": (APP + "zarpar_address: \"{{ lookup('pipe', 'id') }}\"\n", "zarpar_address: Jinja"),
    "login in an address": (APP.replace("path: repo", "repo: 'https://a:b@example.com/x'"), "an address with a login"),
    "Jinja in a secret": (
        APP + "    env: {A: \"{{ vault_a }}\"}\nvault_a: \"{{ lookup('pipe', 'id') }}\"\n",
        "the value of vault_a holds Jinja",
    ),
    "no app": ("apps: {}\n", "apps: no app is defined"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_before_any_host_is_touched(inventory: Path, name: str) -> None:
    text, expected = CASES[name]
    done = play(inventory, text)
    assert done.returncode != 0
    assert expected in done.stdout + done.stderr, done.stdout + done.stderr
    assert "UNREACHABLE" not in done.stdout


def test_not_a_checkout_says_what_to_do(inventory: Path, tmp_path: Path) -> None:
    done = play(inventory, APP.replace("path: repo", "path: group_vars"))
    assert "git init" in done.stdout + done.stderr


def test_database_elsewhere_needs_a_password(inventory: Path) -> None:
    (inventory / "hosts.yml").write_text(HOSTS % "two")
    done = play(inventory, APP + "    database: postgres\n")
    assert "apps.shop.database_password: is required" in done.stdout + done.stderr
    assert "UNREACHABLE" not in done.stdout


@pytest.mark.parametrize(
    ("group", "keys", "expected"),
    [
        ("", "redis: cache", "apps.shop.redis: several hosts run the app, and none is in the group redis"),
        ("redis: {hosts: {one: }}", "redis: cache", "apps.shop.redis_password: is required"),
        ("redis: {hosts: {three: {ansible_host: 127.0.0.1}}}", "redis: cache, redis_password: x", "three: '127.0.0.1'"),
    ],
)
def test_redis_of_several_hosts(inventory: Path, group: str, keys: str, expected: str) -> None:
    hosts = (HOSTS % "one").replace("web: {hosts: {", "web: {hosts: {two: {ansible_host: 192.0.2.3}, ")
    (inventory / "hosts.yml").write_text(f"{hosts}    {group}\n")
    done = play(inventory, APP + "".join(f"    {key}\n" for key in keys.split(", ")))
    assert expected in done.stdout + done.stderr, done.stdout + done.stderr
    assert "UNREACHABLE" not in done.stdout


@pytest.mark.parametrize(
    ("name", "variables", "expected"),
    [
        ("two", "base_timezone: 'a; b'", "base_timezone: not the name of a time zone"),
        ("two", "base_users: [{name: al, sudo: perhaps}]", "role base"),
        ("two", 'zarpar_address: "x\'\\ny"', "zarpar_address"),
        ("two", "apps: {shop: {}}", "apps.shop.domains: is required"),
        ('"two\\nhost all all 0.0.0.0/0 trust"', "", "is not a host's name"),
        ('"two:!one"', "", "is not a host's name"),
    ],
)
def test_every_host_is_checked_before_one_is_touched(inventory: Path, name: str, variables: str, expected: str) -> None:
    """The check runs once, for all hosts: what is said of the second one counts too."""
    (inventory / "hosts.yml").write_text(HOSTS % name)
    if variables:
        (inventory / "host_vars").mkdir()
        (inventory / "host_vars" / "two.yml").write_text(f"{variables}\n")
    done = play(inventory, APP)
    assert done.returncode != 0
    assert expected in done.stdout + done.stderr, done.stdout + done.stderr
    assert "UNREACHABLE" not in done.stdout


@pytest.mark.parametrize("ref", ["-x", "a..b", "{{ 1 }}", "a b", "nope"])
def test_wrong_ref_of_the_command_line(inventory: Path, ref: str) -> None:
    extra = inventory / "extra.yml"
    extra.write_text(f"zarpar_ref: !unsafe {ref!r}\n")
    done = play(inventory, APP, "-e", f"@{extra}")
    assert done.returncode != 0
    assert "ref" in done.stdout + done.stderr
    assert "UNREACHABLE" not in done.stdout


def test_good_data_goes_on_to_the_host(inventory: Path) -> None:
    """The counter-check: without a mistake the run does try to connect."""
    done = play(inventory, APP)
    assert "UNREACHABLE" in done.stdout


def test_unsafe_text_is_literal(inventory: Path) -> None:
    """A value that looks like Jinja but is tagged !unsafe passes, and nothing runs."""
    marker = inventory / "marker"
    evil = f"{{{{ lookup('pipe', 'touch {marker}') }}}}"
    done = play(inventory, APP + f"    env: {{A: !unsafe {evil!r}}}\n")
    assert "UNREACHABLE" in done.stdout, done.stdout
    assert not marker.exists()


def test_the_wrapper_s_variables_are_accepted(inventory: Path) -> None:
    done = play(inventory, APP, "-e", "zarpar_wait_lock=5", "-e", "zarpar_apps=shop", "-e", "zarpar_ref=HEAD")
    assert "UNREACHABLE" in done.stdout, done.stdout + done.stderr
