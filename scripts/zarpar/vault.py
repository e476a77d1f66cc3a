"""The secrets of an environment: group_vars/all/vault.yml, encrypted by ansible-vault, and its password.

The password is in the file that ANSIBLE_VAULT_PASSWORD_FILE names, else in the inventory's own .vault-password,
which only its owner can read and Git passes over; `plan.child_environment` tells Ansible of it. Values come and go by
files and standard input only.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from zarpar.errors import BadData
from zarpar.plan import VAULT_PASSWORD

VAULT = Path("group_vars/all/vault.yml")
HEADER = "$ANSIBLE_VAULT;"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff]|[\ud800-\udfff]")
LARGEST = 100_000


def new_secret() -> str:
    """A value that nobody can guess."""
    return secrets.token_urlsafe(48)


def variable(app: str, name: str) -> str:
    """The vault's variable for a name in an app's environment: vault_shop_secret_key for shop's SECRET_KEY."""
    return f"vault_{app.replace('-', '_')}_{name.lower()}"


def reference(name: str) -> str:
    """What apps.yml says to mean a variable of the vault."""
    return "{{ " + name + " }}"


def password_file(inventory: Path, environment: Mapping[str, str]) -> Path:
    """The file with the vault's password, whether it is there or not."""
    named = environment.get("ANSIBLE_VAULT_PASSWORD_FILE")
    return Path(named).expanduser().absolute() if named else inventory / VAULT_PASSWORD


def make_password(inventory: Path, environment: Mapping[str, str]) -> Path:
    """The file with the vault's password, made when there is none. Raises BadData when a vault is there without it."""
    path = password_file(inventory, environment)
    if path.exists():
        return path
    if environment.get("ANSIBLE_VAULT_PASSWORD_FILE"):
        raise BadData(f"ANSIBLE_VAULT_PASSWORD_FILE names {path}, which is not there", hint="Make it, or unset it.")
    if is_encrypted(inventory / VAULT):
        raise BadData(
            f"{inventory / VAULT} is encrypted, and its password is not here",
            hint=f"Put the password into {path}, or name its file: export ANSIBLE_VAULT_PASSWORD_FILE=PATH",
        )
    inventory.mkdir(parents=True, exist_ok=True)
    ignored = inventory / ".gitignore"
    before = ignored.read_text() if ignored.exists() else ""
    if VAULT_PASSWORD not in before.splitlines():
        ignored.write_text(f"{before.rstrip()}\n{VAULT_PASSWORD}\n".lstrip())
    _create(path, secrets.token_urlsafe(32) + "\n")
    return path


def is_encrypted(path: Path) -> bool:
    """Whether a file is there and is ansible-vault's."""
    return path.is_file() and path.read_text(errors="replace").startswith(HEADER)


def read(inventory: Path, environment: Mapping[str, str]) -> str:
    """The vault's text; empty when there is none. Raises BadData when the password is missing or wrong."""
    path = inventory / VAULT
    if not path.is_file():
        return ""
    text = path.read_text()
    if not text.startswith(HEADER):
        return text
    from ansible.errors import AnsibleError
    from ansible.parsing.vault import VaultLib

    password = make_password(inventory, environment)  # raises, since the vault is there
    try:
        return str(VaultLib([("default", _secret(password))]).decrypt(text).decode())
    except AnsibleError as error:
        raise BadData(f"{path} cannot be opened with the password in {password}", detail=str(error)) from error


def write(inventory: Path, text: str, environment: Mapping[str, str]) -> Path:
    """Encrypt a text into the vault, in one step; the password is made when there is none yet."""
    from ansible.parsing.vault import VaultLib

    password = make_password(inventory, environment)
    path = inventory / VAULT
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = _secret(password)
    draft = path.with_name(f".{path.name}.{os.getpid()}")  # Ansible passes over hidden files
    _create(draft, VaultLib([("default", secret)]).encrypt(text, secret).decode())
    draft.replace(path)
    return path


def names(text: str) -> list[str]:
    """The names in a vault's text, sorted. Raises BadData when it is no mapping."""
    return sorted(_load(text))


def with_value(text: str, name: str, value: str) -> str:
    """A vault's text in which a name has a value; all else, comments too, stays as it is.

    Raises BadData for a wrong name or value, and when the text has a form that only a person should change.
    """
    if not NAME.fullmatch(name):
        raise BadData(f"{name[:60]!r} is not a variable's name", hint="Letters, digits and _, such as SECRET_KEY.")
    if CONTROLS.search(value) or len(value) > LARGEST:
        raise BadData(f"{name}: the value has a control character, or is longer than {LARGEST:,} characters")
    before = _load(text)
    written = _scalar(value)
    node = _value_node(text, name)
    if node is None:
        changed = f"{text.rstrip()}\n{name}: {written}\n".lstrip("\n")
    else:
        end = "\n" if text[: node.end_mark.index].endswith("\n") else ""
        changed = text[: node.start_mark.index] + written + end + text[node.end_mark.index :]
    try:
        same = _load(changed) == {**before, name: value}
    except BadData:
        same = False
    if not same:
        raise BadData(f"{name} cannot be put into this vault by itself", hint="Use an editor: zarpar secrets ENV edit")
    return changed


def _scalar(value: str) -> str:
    """A text in YAML. One that holds Jinja's marks is data all the same."""
    quoted = json.dumps(value, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return f"!unsafe {quoted}" if any(mark in value for mark in ("{{", "{%", "{#")) else quoted


class _Loader(yaml.SafeLoader):
    """Takes a tagged scalar (!unsafe, !vault) for its text; Ansible knows no other tag, and would show it."""


for _tag in ("!unsafe", "!vault", "!vault-encrypted"):
    _Loader.add_constructor(_tag, lambda _loader, node: getattr(node, "value", None))


def _load(text: str) -> dict[str, Any]:
    try:
        found = yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.YAMLError as error:  # its own words would quote the text
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise BadData(f"the vault is not valid YAML{where}", hint="Mend it: zarpar secrets ENV edit") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadData("the vault must be lines of NAME: value", hint="Mend it: zarpar secrets ENV edit")
    return {str(name): value for name, value in found.items()}


def _value_node(text: str, name: str) -> yaml.Node | None:
    root = yaml.compose(text, Loader=_Loader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    return next((value for key, value in pairs if key.value == name), None)


def _secret(password: Path) -> Any:
    """The password as Ansible reads it: a file's content, or what a program prints."""
    from ansible.errors import AnsibleError
    from ansible.parsing.dataloader import DataLoader
    from ansible.parsing.vault import get_file_vault_secret

    try:
        secret = get_file_vault_secret(filename=str(password), loader=DataLoader())
        secret.load()
    except AnsibleError as error:
        raise BadData(f"the vault's password cannot be read from {password}", detail=str(error)) from error
    return secret


def _create(path: Path, text: str) -> None:
    """A new file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
