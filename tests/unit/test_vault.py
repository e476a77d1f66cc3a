"""What setting a value does to a vault's text."""

from __future__ import annotations

import pytest
import yaml

from zarpar import vault
from zarpar.errors import BadData

TEXT = """\
# the mail server's
vault_mail: 'old'  # since May
vault_key: |
  line 1
  line 2

vault_last: !unsafe "{{ x }}"
"""
VALUES = [
    "new",
    "",
    "yes",
    "12",
    "a: b",
    "a\nb\n",
    "'\"",
    "\\",
    "{{ x }}",
    "{% x",
    "é🦀",
    "\u2028",
    "- x",
    "#",
    "!vault x",
]


@pytest.mark.parametrize("name", ["vault_mail", "vault_key", "vault_last", "vault_new"])
@pytest.mark.parametrize("value", VALUES)
def test_the_value_and_nothing_else_changes(name: str, value: str) -> None:
    changed = vault.with_value(TEXT, name, value)
    found = yaml.load(changed, Loader=vault._Loader)  # noqa: S506 - it is a SafeLoader
    before = yaml.load(TEXT, Loader=vault._Loader)  # noqa: S506 - it is a SafeLoader
    assert found == {**before, name: value}
    assert "# the mail server's\n" in changed
    line = next(line for line in changed.splitlines() if line.startswith(f"{name}:"))
    assert ("!unsafe" in line) == (value[:2] in ("{{", "{%"))


@pytest.mark.parametrize("text", ["", "---\n", "# only a comment\n"])
def test_the_first_value(text: str) -> None:
    assert yaml.safe_load(vault.with_value(text, "a", "b")) == {"a": "b"}


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("- a\n", "a", "b"),
        ("a: [\n", "a", "b"),
        ("{a: b}\n", "c", "d"),
        ("a: b\n", "a b", "c"),
        ("a: b\n", "a", "\x00"),
        ("a: b\n", "a", "\x1b[2J"),
        ("a: b\n", "a", "\ud800"),
        ("a: b\n", "a", "x" * 100_001),
    ],
)
def test_what_is_refused(text: str, name: str, value: str) -> None:
    with pytest.raises(BadData) as refused:
        vault.with_value(text, name, value)
    assert "\x1b" not in str(refused.value)


def test_a_broken_vault_is_not_quoted() -> None:
    with pytest.raises(BadData) as refused:
        vault.names("a: 'hush\nb: [\n")
    assert "hush" not in refused.value.summary + refused.value.detail


def test_variables() -> None:
    assert vault.variable("my-shop", "SECRET_KEY") == "vault_my_shop_secret_key"
    assert vault.reference("vault_x") == "{{ vault_x }}"
