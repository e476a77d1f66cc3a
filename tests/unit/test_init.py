"""`zarpar init`, `secrets` and `env` as from a shell, on real files and with the real ansible-vault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from zarpar import init as making
from zarpar.errors import BadData

ZARPAR = Path(sys.executable).with_name("zarpar")
CHECKOUT = Path(__file__).resolve().parents[2]
GIVEN = ("--host", "203.0.113.10", "--domain", "Shop.example.com")


def zarpar(folder: Path, *words: str, stdin: str = "", code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with no terminal; its exit code is checked."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment = {**kept, "NO_COLOR": "1", **more}
    argv = [str(ZARPAR), *words]
    done = subprocess.run(argv, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An app's checkout, in which `init` was run."""
    folder = tmp_path_factory.mktemp("apps") / "shop"
    folder.mkdir()
    (folder / "requirements.txt").write_text("flask==3.0\ngunicorn==25.1\npsycopg==3.2\n")
    (folder / "app.py").write_text(
        "import os\nfrom flask import Flask\napp = Flask(__name__)\nos.environ['MAIL_KEY']\n"
    )
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    said = zarpar(folder, "init", *GIVEN).stderr
    assert "next: zarpar doctor prod, then: zarpar deploy prod" in said
    assert "inventories/prod/.vault-password: keep a copy" in said
    assert "fill in what only you know, in inventories/prod/group_vars/all/apps.yml: MAIL_KEY" in said
    return folder


@pytest.fixture(scope="module")
def prod(shop: Path) -> Path:
    return shop / "inventories" / "prod"


def test_what_is_written(prod: Path) -> None:
    apps = yaml.safe_load((prod / making.APPS).read_text())["apps"]
    assert apps["shop"]["domains"] == ["shop.example.com"]
    assert apps["shop"]["source"] == {"path": "../.."}
    assert apps["shop"]["env"] == {"SECRET_KEY": "{{ vault_shop_secret_key }}"}
    assert not (prod / making.COMMON).is_symlink(), "a link out of the app's checkout would not survive a release"
    assert (prod / making.COMMON).read_text() == (CHECKOUT / "group_vars" / "all.yml").read_text()


def test_the_password_is_private_and_git_passes_it_over(shop: Path, prod: Path) -> None:
    assert (prod / ".vault-password").stat().st_mode & 0o777 == 0o600
    assert (prod / "group_vars/all/vault.yml").stat().st_mode & 0o077 == 0
    subprocess.run(["git", "add", "-A"], cwd=shop, check=True)
    listed = subprocess.run(["git", "ls-files"], cwd=shop, check=True, capture_output=True, text=True).stdout
    assert "inventories/prod/group_vars/all/vault.yml" in listed
    assert ".vault-password" not in listed


def test_the_vault_is_ansible_s(prod: Path) -> None:
    vault = prod / "group_vars/all/vault.yml"
    assert vault.read_text().startswith("$ANSIBLE_VAULT;1.1;AES256\n")
    argv = [str(ZARPAR.with_name("ansible-vault")), "view", "--vault-password-file", str(prod / ".vault-password")]
    shown = subprocess.run([*argv, str(vault)], check=True, capture_output=True, text=True).stdout
    assert len(yaml.safe_load(shown)["vault_shop_secret_key"]) >= 48


def test_ansible_reads_it_as_a_deploy_does(shop: Path, prod: Path) -> None:
    """All but the host: the playbook's own check of the inventory, run by the wrapper's environment."""
    from zarpar import plan

    environment = plan.child_environment(CHECKOUT, os.environ, prod)
    assert environment["ANSIBLE_VAULT_PASSWORD_FILE"] == str(prod / ".vault-password")
    argv = [str(ZARPAR.with_name("ansible-inventory")), "-i", str(prod), "--host", "web1"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment)
    assert '"ansible_host": "203.0.113.10"' in done.stdout
    assert "vault_shop_secret_key" in done.stdout


def test_nothing_is_overwritten(shop: Path, prod: Path) -> None:
    before = {path: path.read_bytes() for path in prod.rglob("*") if path.is_file()}
    said = zarpar(shop, "init", *GIVEN, code=2).stderr
    assert "is there already, and is not overwritten" in said
    assert {path: path.read_bytes() for path in prod.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("left", [making.APPS, making.COMMON, "group_vars/all/vault.yml"])
def test_not_even_one_file_is_overwritten(shop: Path, left: str) -> None:
    folder = shop / "inventories" / f"partly-{Path(left).stem}"
    (folder / left).parent.mkdir(parents=True)
    (folder / left).write_text("mine\n")
    zarpar(shop, "init", *GIVEN, "--env", folder.name, code=2)
    assert (folder / left).read_text() == "mine\n"
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / left]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--domain", "shop.example.com"], "--host is missing"),
        (["--host", "203.0.113.10"], "--domain is missing"),
        (["--host", "a b", "--domain", "shop.example.com"], "--host: 'a b' is no address"),
        (["--host", "h", "--domain", "x y"], "--domain: 'x y' is no domain"),
        (["--host", "h", "--domain", "{{ x }}.com"], "is no domain"),
        ([*GIVEN, "--user", "x;y"], "--user: 'x;y' is not a user's name"),
        ([*GIVEN, "--env", "../x"], "--env: '../x' is not a name"),
        ([*GIVEN, "--env", "new", "--app", "redis"], "apps.redis: this name belongs to the system"),
        (["there/is/none", *GIVEN], "there is no folder"),
    ],
)
def test_bad_input(shop: Path, words: list[str], said: str) -> None:
    done = zarpar(shop, "init", *words, code=2)
    assert said in done.stderr
    assert "next: " in done.stderr or "there is no folder" in said
    assert not (shop / "inventories" / "new").exists()


def test_inside_zarpar_s_own_checkout_the_shared_values_are_a_link(tmp_path: Path, shop: Path) -> None:
    from zarpar import discover

    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("a: 1\n")
    wanted = making.Wanted("staging", "203.0.113.10", "shop.example.com")
    inventory = tmp_path / "inventories" / "staging"
    making.write(discover.discover(shop), wanted, inventory, tmp_path, {})
    assert (inventory / making.COMMON).is_symlink()
    assert (inventory / making.COMMON).read_text() == "a: 1\n"


def test_a_password_that_the_operator_names_is_used(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    more = {"ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / "password")}
    zarpar(shop, "init", *GIVEN, "--env", "named", **more)
    assert not (shop / "inventories/named/.vault-password").exists()
    assert "vault_shop_secret_key" in zarpar(shop, "secrets", "named", "list", **more).stderr
    said = zarpar(shop, "secrets", "named", "list", code=2).stderr
    assert "its password is not here" in said


class TestSecrets:
    """The vault's values are set and changed, and never shown."""

    def test_set_then_list_and_env(self, shop: Path) -> None:
        said = zarpar(shop, "secrets", "prod", "set", "MAIL_KEY", stdin="hush {{ x }}\n").stderr
        assert 'in apps.yml: apps.shop.env: MAIL_KEY: "{{ vault_shop_mail_key }}"' in said
        done = zarpar(shop, "secrets", "prod", "list")
        assert "vault_shop_secret_key  apps.shop.env.SECRET_KEY" in done.stderr
        assert "hush" not in said + done.stderr + done.stdout
        done = zarpar(shop, "env", "prod", "--json")
        assert '"SECRET_KEY": "vault_shop_secret_key"' in done.stdout
        assert '"DATABASE_URL": "Zarpar"' in done.stdout

    def test_a_missing_one_is_listed(self, shop: Path, prod: Path) -> None:
        apps = prod / making.APPS
        before = apps.read_text()
        apps.write_text(before.replace("    env:\n", '    env:\n      OTHER: "{{ vault_shop_other }}"\n'))
        try:
            assert "apps.shop.env.OTHER: is missing" in zarpar(shop, "secrets", "prod", "list").stderr
        finally:
            apps.write_text(before)

    def test_edit_opens_the_person_s_editor(self, shop: Path, tmp_path: Path) -> None:
        editor = tmp_path / "editor"
        editor.write_text('#!/bin/sh\necho "vault_by_hand: x" >> "$1"\n')
        editor.chmod(0o755)
        zarpar(shop, "secrets", "prod", "edit", EDITOR=str(editor))
        assert "vault_by_hand" in zarpar(shop, "secrets", "prod", "list").stderr

    @pytest.mark.parametrize(
        ("words", "stdin", "said"),
        [
            (["set"], "x", "which secret is to be set?"),
            (["set", "MAIL_KEY"], "", "the value is empty"),
            (["set", "a-b"], "x", "is not a variable's name"),
            (["set", "A", "--app", "none"], "x", "there is no app 'none'"),
            (["set", "A"], "a\x1b[2Jb", "has a control character"),
            (["nonsense"], "", "is not one of"),
        ],
    )
    def test_bad_input(self, shop: Path, words: list[str], stdin: str, said: str) -> None:
        assert said in zarpar(shop, "secrets", "prod", *words, stdin=stdin, code=2).stderr


def test_an_address_may_be_v6() -> None:
    making.Wanted("prod", "2001:db8::1", "shop.example.com")
    with pytest.raises(BadData):
        making.Wanted("prod", "2001:db8::x", "shop.example.com")
