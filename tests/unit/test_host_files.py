"""Durable writes and the transaction of a manifest."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from pathlib import Path

import pytest

from zarpar_host import apply as apply_module
from zarpar_host import envfile, items, packages
from zarpar_host.context import Context
from zarpar_host.errors import HostError
from zarpar_host.files import Transaction, make_directory, write_atomic
from zarpar_host.postgres import scram_matches, scram_verifier
from zarpar_host.run import run


def test_write_atomic_sets_mode_before_the_name_exists(tmp_path: Path) -> None:
    target = tmp_path / "secret"
    write_atomic(target, b"x", mode=0o600)
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_undo_puts_back_files_links_and_absence(tmp_path: Path) -> None:
    undo = tmp_path / "undo"
    old, link, new = tmp_path / "old", tmp_path / "link", tmp_path / "new"
    old.write_text("before")
    old.chmod(0o640)
    link.symlink_to("old")
    transaction = Transaction(undo)
    for path in (old, link, new):
        transaction.remember(path)
    write_atomic(old, b"after", mode=0o644)
    link.unlink()
    link.symlink_to("new")
    new.write_text("made")
    # another process, after a kill: it knows only what is on disk
    assert sorted(Transaction(undo).undo()) == sorted(map(str, (old, link, new)))
    assert old.read_text() == "before"
    assert old.stat().st_mode & 0o777 == 0o640
    assert str(link.readlink()) == "old"
    assert not new.exists()
    assert not undo.exists()


def test_commit_forgets(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("a")
    transaction = Transaction(tmp_path / "undo")
    transaction.remember(target)
    target.write_text("b")
    transaction.commit()
    assert Transaction(tmp_path / "undo").undo() == []
    assert target.read_text() == "b"


def make_context(tmp_path: Path, check: bool = False) -> Context:
    return Context(check=check, transaction=Transaction(tmp_path / "undo"))


def me() -> dict[str, str]:
    import getpass
    import grp
    import os

    return {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}


def test_file_item_is_idempotent_and_honest_in_check_mode(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    item = {"file": str(path), "content": "a\n", "mode": "0644", **me()}
    assert items.file(make_context(tmp_path, check=True), item) is True
    assert not path.exists()
    assert items.file(make_context(tmp_path), item) is True
    assert items.file(make_context(tmp_path), item) is False
    path.chmod(0o600)
    assert items.file(make_context(tmp_path), item) is True


def test_secret_is_never_in_a_diff(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    items.file(context, {"file": str(tmp_path / "s"), "content": "CANARY", "secret": True, **me()})
    assert context.diff is not None
    assert "CANARY" not in str(context.diff)


def test_failed_validation_puts_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply_module, "Transaction", lambda: Transaction(tmp_path / "undo"))
    path = tmp_path / "conf"
    path.write_text("good")
    request = {
        "items": [
            {"file": str(path), "content": "broken", **me()},
            {"file": str(tmp_path / "more"), "content": "x", **me()},
            {"validate": ["false"]},
        ]
    }
    with pytest.raises(HostError, match="refused the new configuration"):
        apply_module.apply(request)
    assert path.read_text() == "good"
    assert not (tmp_path / "more").exists()


def test_unknown_kind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply_module, "Transaction", lambda: Transaction(tmp_path / "undo"))
    with pytest.raises(HostError, match="flie"):
        apply_module.apply({"items": [{"flie": "/x"}]})


@pytest.mark.parametrize(
    "value",
    ["", "plain", "two words", 'quo"te', "back\\slash", "$HOME `id` %n", "line\nbreak\n", "tab\t", "é🚢", "a=b#c;'"],
)
def test_environment_file_round_trip(value: str) -> None:
    values = {"A": "first", "B": value, "C": "last"}
    assert envfile.parse(envfile.dump(values)) == values


def test_scram_verifier_is_recognised() -> None:
    verifier = scram_verifier("pässword")
    assert scram_matches(verifier, "pässword")
    assert not scram_matches(verifier, "other")
    assert not scram_matches("md5abc", "other")
    # the example of RFC 7677, as PostgreSQL stores it
    known = scram_verifier("pencil", __import__("base64").b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    assert known.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert known.endswith(":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")


def test_item_names_hold_no_secret() -> None:
    item = {"postgres": [{"name": "notes", "password": "CANARY"}]}
    assert apply_module._name(item) == "postgres notes"
    assert apply_module._name({"command": ["a", "b"]}) == "command a b"
    assert apply_module._name({"wait_for_boot": True}) == "wait_for_boot"


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="not a Debian")
def test_a_package_that_another_one_provides_is_not_missing() -> None:
    assert packages.missing(["dpkg", "nosuchpackage"]) == ["nosuchpackage"]
    provided = run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Provides}\n"]).out
    virtual = next(line.split()[1].rstrip(",") for line in provided.splitlines() if len(line.split()) > 1)
    assert packages.missing([virtual]) == []


@pytest.mark.parametrize(
    ("wanted", "check", "installed"),
    [(["new"], False, [["new", "later"]]), (["there"], False, []), (["new"], True, [])],
)
def test_what_later_roles_begin_with_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: list[str], check: bool, installed: list[list[str]]
) -> None:
    """Only when apt runs anyway."""
    done: list[list[str]] = []
    monkeypatch.setattr(packages, "install", done.append)
    monkeypatch.setattr(packages, "missing", lambda names: [name for name in names if name != "there"])
    context = make_context(tmp_path, check)
    read = tmp_path / "read-when-it-is-installed"
    owned = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name, "mode": "0644"}
    context.ahead = [{"file": str(read), "content": "x", **owned}, {"packages": ["later", "there", "new"]}]
    assert packages.packages(context, {"packages": wanted}) == (wanted == ["new"])
    assert done == installed
    assert read.exists() == bool(installed)
    context.transaction.undo()
    assert not read.exists()


def test_a_directory_is_not_made_through_a_user_s_link(tmp_path: Path) -> None:
    """Below `shared`, which the app owns, a link could lead root anywhere."""
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    make_directory(shared / "uploads" / "pictures", 0o750, os.getuid(), os.getgid())
    assert (shared / "uploads" / "pictures").stat().st_mode & 0o777 == 0o750
    elsewhere.mkdir()
    (shared / "planted").symlink_to(elsewhere)
    if os.getuid() == 0:
        os.chown(shared, 65534, 65534)
    for path in (shared / "planted", shared / "planted" / "pictures"):
        with pytest.raises(HostError, match="planted is not a directory"):
            make_directory(path, 0o777, os.getuid(), os.getgid())
    assert list(elsewhere.iterdir()) == []
    assert elsewhere.stat().st_mode & 0o777 != 0o777
