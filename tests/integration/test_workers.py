"""Which host is asked for what, and in which order, when workers have hosts of their own: plain ansible-playbook.

`ssh` is a program of this test's that notes each call to zarpar-host, and answers as a host without a release does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
SSH = """\
#!{python}
import fcntl, json, pathlib, re, sys
folder = pathlib.Path({folder!r})
host = next(word for word in sys.argv if word.startswith("192.0.2."))
verb = re.search(r"python3 -I -S /usr/local/lib/zarpar/[0-9a-f]+ ([a-z]+)", sys.argv[-1]).group(1)
asked = json.loads(sys.stdin.buffer.readline() or "null")
name = json.loads((folder / "names.json").read_text())[host]
facts = {{}}
if verb == "look":
    facts = {{"part": asked["part"], "roles": list(asked["manifests"])}}
if verb == "apply":
    facts = {{"items": [str(next(iter(item.values()))) for item in asked["items"]]}}
with (folder / "calls").open("a") as calls:
    fcntl.flock(calls, fcntl.LOCK_EX)
    calls.write(json.dumps([name, verb, facts]) + "\\n")
answers = json.loads((folder / "answers.json").read_text())
print(json.dumps(answers.get(name + " " + verb, answers.get(verb, {{}}))))
"""
FACTS = {
    "distribution": "debian", "version": 13, "codename": "trixie", "arch": "x86_64", "cpus": 2, "memory_mb": 2048,
    "swap_mb": 0, "disk_free_mb": 9999, "inodes_free": 99_999, "python": "3.13", "python_full": "3.13.5",
    "hostname": "x", "container": False, "ipv6": True, "postgres_version": 17,
}  # fmt: skip
RELEASE = "0123abcd-0123ab"
STATUS = {
    "apps": {"shop": {"live": {"release": "11111111-111111"}, "releases": [{"release": RELEASE, "status": "good"}]}}
}
ANSWERS: dict[str, Any] = {
    "facts": FACTS,
    "look": {"differs": "base", "releases": {"shop": {"served": False, "here": True}}},
    "apply": {"changed": False, "items": [], "facts": FACTS},
    "prepare": {"outcome": "prepared", "changed": True, "well": True},
    "migrate": {"outcome": "migrated", "changed": True},
    "activate": {"outcome": "active", "changed": True, "token": "t"},
    "confirm": {"outcome": "active", "changed": True},
    "rollback": {"outcome": "active", "changed": True, "release": RELEASE},
    "undo": {"outcome": "active", "changed": True, "release": RELEASE},
    "traffic": {"mark": 0, "requests": 0, "errors": 0},
    "status": STATUS,
}
REFUSAL = {"failed": True, "msg": "worker-1 ended at once", "kind": "not_activated"}


class Fleet:
    """An inventory whose hosts are the program above."""

    def __init__(self, folder: Path, **groups: list[str]) -> None:
        self.folder = folder
        names = list(dict.fromkeys(name for members in groups.values() for name in members))
        address = {name: f"192.0.2.{number}" for number, name in enumerate(names, 1)}
        ssh = folder / "ssh"
        ssh.write_text(SSH.format(python=sys.executable, folder=str(folder)))
        ssh.chmod(0o755)
        (folder / "names.json").write_text(json.dumps({its: name for name, its in address.items()}))
        children = {
            group: {"hosts": {name: {"ansible_host": address[name]} for name in members}}
            for group, members in groups.items()
        }
        shared = {"ansible_user": "root", "ansible_ssh_executable": str(ssh)}
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": shared, "children": children}}))
        repo = folder / "repo"
        repo.mkdir()
        (repo / "wsgi.py").write_text("app = 1\n")
        (repo / "Procfile").write_text("worker: python work.py\n")
        identity = ["-c", "user.name=T", "-c", "user.email=t@example.com"]
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "First"]):
            subprocess.run(["git", *identity, "-C", str(repo), *words], check=True)
        app = {"domains": ["shop.example.com"], "source": {"path": "repo"}}
        (folder / "group_vars").mkdir()
        (folder / "group_vars" / "all.yml").write_text(yaml.safe_dump({"apps": {"shop": app}}))

    def play(self, playbook: str, *words: str, **answers: Any) -> subprocess.CompletedProcess[str]:
        told = {**ANSWERS, **{name.replace("_", " "): answer for name, answer in answers.items()}}
        (self.folder / "answers.json").write_text(json.dumps(told))
        (self.folder / "calls").unlink(missing_ok=True)
        return subprocess.run(
            [str(PLAYBOOK), "-i", str(self.folder / "hosts.yml"), str(ROOT / playbook), *words],
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def calls(self, *verbs: str) -> list[tuple[str, str, dict[str, Any]]]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [(name, verb, facts) for name, verb, facts in map(json.loads, lines) if verb in verbs]

    def order(self, *verbs: str) -> list[str]:
        return [f"{name} {verb}" for name, verb, _ in self.calls(*verbs)]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Two web hosts, the second with processes too, and two workers."""
    return Fleet(tmp_path, web=["w1", "w2"], worker=["k1", "k2", "w2"])


def test_workers_are_there_before_any_web_host_is_switched(fleet: Fleet) -> None:
    done = fleet.play("site.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    looks = {name: facts for name, _, facts in fleet.calls("look")}
    assert {name: its["part"] for name, its in looks.items()} == {
        "w1": "web",
        "w2": "",
        "k1": "processes",
        "k2": "processes",
    }
    assert looks["k1"]["roles"] == ["base", "firewall", "python", "gunicorn_systemd"]
    assert looks["w2"]["roles"] == ["base", "firewall", "redis", "python", "gunicorn_systemd", "nginx", "certbot"]
    order = fleet.order("prepare", "migrate", "activate", "confirm")
    assert set(order[:4]) == {f"{name} prepare" for name in ("k1", "k2", "w1", "w2")}
    assert order[4:5] == ["w1 migrate"]
    switched = ("k2", "k1", "w2", "w1")  # k1 has the scheduler
    assert order[5:] == [f"{name} {verb}" for name in switched for verb in ("activate", "confirm")]


def test_worker_host_gets_no_nginx_and_no_certificate(fleet: Fleet) -> None:
    fleet.play("playbooks/provision.yml")
    told: dict[str, str] = {}
    for name, _, facts in fleet.calls("apply"):
        told[name] = "\n".join([told.get(name, ""), *facts["items"]])
    for of_the_web in ("/etc/nginx/", "certbot", "/etc/zarpar/tls"):
        assert {name for name, text in told.items() if of_the_web in text} == {"w1", "w2"}, of_the_web
    for of_an_app in ("/etc/systemd/system/zarpar-shop.blue@.service", "/etc/zarpar/uv.env", "/srv/shop/releases"):
        assert {name for name, text in told.items() if of_an_app in text} == {"w1", "w2", "k1", "k2"}


def test_worker_that_fails_leaves_the_web_hosts_as_they_are(fleet: Fleet) -> None:
    done = fleet.play("playbooks/release.yml", k2_activate=REFUSAL)
    assert done.returncode != 0
    assert fleet.order("activate", "confirm") == ["k2 activate"]


def test_soak_asks_only_those_that_have_visitors(fleet: Fleet) -> None:
    done = fleet.play("playbooks/release.yml", "-e", '{"app_release_soak": 1}')
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name for name, *_ in fleet.calls("traffic")} == {"w2"}, "and w1 is the last"


def test_going_back_the_web_hosts_are_first(fleet: Fleet) -> None:
    done = fleet.play("playbooks/rollback.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name for name, *_ in fleet.calls("status")} == {"w1", "w2", "k1", "k2"}
    assert fleet.order("rollback") == [f"{name} rollback" for name in ("w1", "w2", "k1", "k2")]
    done = fleet.play("playbooks/undo.yml", "-e", "zarpar_deploy=0123")
    assert done.returncode == 0, done.stdout + done.stderr
    order = fleet.order("undo")
    assert (set(order[:2]), set(order[2:])) == ({"w1 undo", "w2 undo"}, {"k1 undo", "k2 undo"})


def test_rollback_finds_what_the_workers_have_too(fleet: Fleet) -> None:
    done = fleet.play("playbooks/rollback.yml", k2_status={"apps": {"shop": {"live": None, "releases": []}}})
    assert done.returncode != 0
    assert "there is no earlier good release that all hosts have" in done.stdout
    assert fleet.order("rollback") == []


@pytest.mark.parametrize("groups", [{"web": ["w1", "w2"]}, {"web": ["w1", "w2"], "worker": []}])
def test_without_workers_nothing_is_added(tmp_path: Path, groups: dict[str, list[str]]) -> None:
    fleet = Fleet(tmp_path, **groups)
    done = fleet.play("playbooks/release.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "host pattern" not in done.stderr, "Ansible warns of a group that is not there"
    assert {facts["part"] for *_, facts in fleet.calls("look")} == {""}
    tasks = re.findall(r"TASK \[(?:app_release : )?(\w+)", done.stdout)
    assert tasks == ["Check", "Check", "Prepare", "Migrate", "Put", "Activate"], "a second batch has no heading"
    assert fleet.order("activate") == ["w1 activate", "w2 activate"]
