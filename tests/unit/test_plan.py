"""What would be run: exact argument lists, the exact environment, and what is refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from zarpar import config, plan
from zarpar.errors import BadData
from zarpar.plan import Choices, Environment

CHECKOUT = Path("/opt/zarpar")
TARGET = Environment("prod", Path("/srv/inventories/prod"))
PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))


@pytest.mark.parametrize(
    ("choices", "flags"),
    [
        (Choices(), []),
        (Choices(limit="web1"), ["--limit", "web1"]),
        (Choices(limit="web:!web3"), ["--limit", "web:!web3"]),
        (Choices(ref="v1.4"), ["-e", '{"zarpar_ref":"v1.4"}']),
        (Choices(apps=("shop",)), ["-e", '{"zarpar_apps":"shop"}']),
        (
            Choices(apps=("shop", "blog"), ref="feature/x@3", limit="web"),
            ["--limit", "web", "-e", '{"zarpar_apps":"shop,blog","zarpar_ref":"feature/x@3"}'],
        ),
        (Choices(check=True), ["--check", "--diff"]),
        (Choices(verbose=True), ["-v"]),
        (Choices(ask_vault_pass=True), ["--ask-vault-pass"]),
        (Choices(ask_become_pass=True), ["--ask-become-pass"]),
    ],
)
def test_playbook_arguments(choices: Choices, flags: list[str]) -> None:
    planned = plan.playbook(CHECKOUT, "site.yml", TARGET, choices, {})
    assert list(planned.argv) == [PLAYBOOK, "-i", "/srv/inventories/prod", *flags, "/opt/zarpar/site.yml"]
    assert planned.directory == CHECKOUT


@pytest.mark.parametrize(
    ("choices", "asked"),
    [
        (Choices(), []),
        (Choices(ask_vault_pass=True), [("Vault password", "Vault password: ")]),
        (
            Choices(ask_become_pass=True),
            [("sudo password on the hosts", "BECOME password[defaults to SSH password]: ")],
        ),
    ],
)
def test_prompts(choices: Choices, asked: list[tuple[str, str]]) -> None:
    prompts = plan.playbook(CHECKOUT, "site.yml", TARGET, choices, {}).prompts
    assert [prompt.question for prompt in prompts] == [question for question, _ in asked]
    assert all(re.search(prompt.pattern, said, re.M) for prompt, (_, said) in zip(prompts, asked, strict=True))


def test_suite_arguments() -> None:
    planned = plan.suite(CHECKOUT, TARGET, Choices(verbose=True), {})
    expected = [sys.executable, "-m", "pytest", "tests/host", "--zarpar-env", "/srv/inventories/prod", "-v"]
    assert list(planned.argv) == expected


@pytest.mark.parametrize(
    "ref",
    [
        "-x",
        "--upload-pack=x",
        "a..b",
        "a b",
        "a\n",
        "{{ x }}",
        "a{{x}}",
        "main;id",
        "$(id)",
        "a'b",
        'a"b',
        "é",
        "/x",
        "a\x00",
    ],
)
def test_bad_ref_is_refused(ref: str) -> None:
    with pytest.raises(BadData) as refused:
        Choices(ref=ref)
    assert refused.value.summary.startswith("--ref")
    assert refused.value.hint


@pytest.mark.parametrize(
    "name", ["", "Shop", "-shop", "1shop", "shop\n", "shop{{x}}", "{{ lookup('pipe', 'id') }}", "../shop", "a" * 31]
)
def test_bad_app_is_refused(name: str) -> None:
    with pytest.raises(BadData, match="--app"):
        Choices(apps=("good", name))


@pytest.mark.parametrize("limit", ["-l", "@hosts", "~web.*", "web 1", "web\n", "{{ x }}", "/etc/passwd", "web;id"])
def test_bad_limit_is_refused(limit: str) -> None:
    with pytest.raises(BadData, match="--limit"):
        Choices(limit=limit)


def test_the_patterns_are_those_of_the_apps_model() -> None:
    assert f"^{plan.REF.pattern}\\Z" == config.REF
    assert f"^{plan.APP_NAME.pattern}\\Z" == config.APP_NAME


def test_the_operators_environment_stays_behind() -> None:
    parent = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C.UTF-8",
        "https_proxy": "http://proxy:3128",
        "SSH_AUTH_SOCK": "/run/agent",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "ANSIBLE_VAULT_PASSWORD_FILE": "/home/me/vault",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "GITHUB_TOKEN": "s3cret",
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_CONFIG": "/evil.cfg",
        "ANSIBLE_STDOUT_CALLBACK": "json",
        "PYTHONPATH": "/evil",
        "AWX_LIB_DIRECTORY": "/evil",
        "LD_PRELOAD": "/evil.so",
    }
    dropped = ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "ANSIBLE_STDOUT_CALLBACK", "PYTHONPATH", "AWX_LIB_DIRECTORY"]
    kept = {name: value for name, value in parent.items() if name not in [*dropped, "LD_PRELOAD"]}
    assert plan.child_environment(CHECKOUT, parent) == {
        **kept,
        "ANSIBLE_CONFIG": "/opt/zarpar/ansible.cfg",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_NOCOLOR": "1",
    }


@pytest.fixture
def inventories(tmp_path: Path) -> Path:
    for folder in ("checkout/inventories/lab", "checkout/inventories/prod", "project/inventories/prod"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "hosts.yml").write_text("web: {hosts: {web1: }}\n")
    (tmp_path / "checkout/inventories/notes").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("given", "here", "name", "found"),
    [
        ("lab", "checkout", "lab", "checkout/inventories/lab"),
        ("lab", "project", "lab", "checkout/inventories/lab"),
        ("prod", "checkout", "prod", "checkout/inventories/prod"),
        ("prod", "project", "prod", "project/inventories/prod"),
        ("./inventories/prod", "project", "prod", "project/inventories/prod"),
        ("inventories/prod/", "project", "prod", "project/inventories/prod"),
        ("../checkout/inventories/prod", "project", "prod", "checkout/inventories/prod"),
    ],
)
def test_environments_are_found(inventories: Path, given: str, here: str, name: str, found: str) -> None:
    target = plan.find_environment(given, inventories / "checkout", inventories / here)
    assert target == Environment(name, (inventories / found).resolve())


@pytest.mark.parametrize("given", ["prood", "notes", "", ".", "..", "-i", "{{ x }}", "lab\n"])
def test_an_unknown_environment_is_answered_with_the_known_ones(inventories: Path, given: str) -> None:
    with pytest.raises(BadData) as refused:
        plan.find_environment(given, inventories / "checkout", inventories / "project")
    assert "lab, prod" in refused.value.detail


def test_a_path_without_an_inventory_is_refused(inventories: Path) -> None:
    with pytest.raises(BadData, match="no inventory folder"):
        plan.find_environment("inventories/none", inventories / "checkout", inventories / "project")


def test_the_checkout_is_the_one_around_the_package() -> None:
    assert (plan.find_checkout() / "scripts" / "zarpar" / "plan.py").samefile(plan.__file__)


def test_every_variable_of_the_wrapper_is_known_to_the_preflight() -> None:
    from zarpar.variables import OWN_VARIABLES

    choices = Choices(("shop",), "main", wait_lock=5, release="3f2a9c1d-a1b2c3", force=True, deploy="d1")
    given = plan.extra_vars(choices)
    assert len(given) == 6
    assert set(given) <= set(OWN_VARIABLES)
