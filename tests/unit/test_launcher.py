"""scripts/deploy and scripts/venv.sh, with a uv that only notes what is asked of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SYNC = "sync --quiet --frozen --inexact --compile-bytecode"
UV = """#!/bin/sh
if [ "$1" = --version ]; then exit; fi
echo "$UV_PROJECT_ENVIRONMENT $*" >>"$LOG"
mkdir -p "$UV_PROJECT_ENVIRONMENT/bin"
printf '#!/bin/sh\\necho "$PWD: $*"\\n' >"$UV_PROJECT_ENVIRONMENT/bin/python"
chmod +x "$UV_PROJECT_ENVIRONMENT/bin/python"
"""


class Checkout:
    """A checkout with the launchers and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "my checkout"
        self.log = folder / "log"
        self.tools = folder / "tools"
        self.tools.mkdir()
        (self.root / "scripts").mkdir(parents=True)
        for name in ("deploy", "venv.sh"):
            shutil.copy(SCRIPTS / name, self.root / "scripts")
        for name in ("uv.lock", "pyproject.toml"):
            (self.root / name).write_text(name)
        self.tool("uv", UV)

    def tool(self, name: str, text: str) -> None:
        """Put a program on the PATH."""
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def run(self, *argv: str | Path, here: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program with only these tools and the system's."""
        environment = {"PATH": f"{self.tools}:/usr/bin:/bin", "LOG": str(self.log), "VIRTUAL_ENV": "/another"}
        return subprocess.run(argv, cwd=here or self.root, env=environment, capture_output=True, text=True, check=False)

    def venv(self, *flags: str) -> None:
        """Run scripts/venv.sh, which must succeed."""
        done = self.run(self.root / "scripts" / "venv.sh", *flags)
        assert done.returncode == 0, done.stderr

    @property
    def calls(self) -> list[str]:
        """What was asked of uv."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_deploy_from_anywhere_and_through_a_link(checkout: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkout.root / "scripts" / "deploy")
    done = checkout.run(link, "prod", "--ref", "a b", here=tmp_path)
    assert done.stdout == f"{tmp_path}: -P -m zarpar deploy prod --ref a b\n"
    assert done.stderr == "zarpar: making .venv from uv.lock\n"
    assert checkout.calls == [f"{checkout.root}/.venv {SYNC} --no-dev --project {checkout.root}"]


def test_nothing_is_done_twice(checkout: Checkout) -> None:
    checkout.venv()
    checkout.venv()
    assert len(checkout.calls) == 1


@pytest.mark.parametrize("name", ["uv.lock", "pyproject.toml"])
def test_a_change_is_noticed(checkout: Checkout, name: str) -> None:
    checkout.venv()
    (checkout.root / name).write_text("another")
    checkout.venv()
    assert len(checkout.calls) == 2


def test_the_tools_for_tests_are_added_and_then_kept(checkout: Checkout) -> None:
    for flags in ((), ("--dev",), (), ("--dev",)):
        checkout.venv(*flags)
    assert [call.partition(" --project")[0].split()[-1] for call in checkout.calls] == ["--no-dev", "--dev"]


def test_a_moved_checkout_gets_a_new_environment(checkout: Checkout, tmp_path: Path) -> None:
    checkout.venv()
    (checkout.root / ".venv" / "old").touch()
    checkout.root = checkout.root.rename(tmp_path / "moved")
    checkout.venv()
    assert len(checkout.calls) == 2
    assert not (checkout.root / ".venv" / "old").exists()


def test_an_interpreter_that_is_gone_is_noticed(checkout: Checkout) -> None:
    checkout.venv()
    (checkout.root / ".venv" / "bin" / "python").unlink()
    checkout.venv()
    assert len(checkout.calls) == 2


def test_a_failure_is_not_taken_for_done(checkout: Checkout) -> None:
    checkout.tool("uv", UV + "exit 1\n")
    assert checkout.run(checkout.root / "scripts" / "deploy", "lab").returncode == 1
    checkout.tool("uv", UV)
    checkout.venv()
    assert len(checkout.calls) == 2


class TestWithoutUv:
    """uv is installed into .venv by pip; Python and its venv module may be missing as well."""

    @pytest.fixture
    def checkout(self, checkout: Checkout) -> Checkout:
        checkout.tool("uv", "#!/bin/sh\nexit 127\n")
        for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11"):
            checkout.tool(name, "#!/bin/sh\nexit 1\n")
        checkout.tool("id", "#!/bin/sh\necho 1000\n")
        return checkout

    def test_no_python_is_said_with_what_to_do(self, checkout: Checkout) -> None:
        done = checkout.run(checkout.root / "scripts" / "deploy", "lab")
        assert done.returncode == 2
        assert "error: Zarpar needs Python 3.11 to 3.14" in done.stderr
        assert "next: " in done.stderr

    def test_no_venv_module_is_said_with_what_to_do(self, checkout: Checkout) -> None:
        answer = f'case "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"'
        checkout.tool("python3.12", f"#!/bin/sh\n{answer}\n")
        done = checkout.run(checkout.root / "scripts" / "deploy", "lab")
        assert done.returncode == 2
        assert f"sudo apt-get install python3.{sys.version_info[1]}-venv" in done.stderr

    def test_uv_is_installed_by_pip(self, checkout: Checkout) -> None:
        make = f'mkdir -p "$3/bin"; cp {checkout.tools}/pip "$3/bin/python"'
        answer = f'if [ "$2" = venv ]; then {make}; exit; fi\nexec {sys.executable} "$@"'
        checkout.tool("python3.12", f"#!/bin/sh\n{answer}\n")
        uv = UV.replace("$", "\\$").replace("`", "\\`").replace("\\\\n", "\\n")
        pip = f'#!/bin/sh\necho "$*" >>"$LOG"\ncat >"${{0%python}}uv" <<EOF\n{uv}EOF\nchmod +x "${{0%python}}uv"\n'
        checkout.tool("pip", pip)
        checkout.venv()
        assert checkout.calls[0].startswith("-m pip install --quiet --disable-pip-version-check uv==")
        assert checkout.calls[1].startswith(f"{checkout.root}/.venv {SYNC} --no-dev")


def test_the_launchers_are_quick(checkout: Checkout) -> None:
    checkout.venv()
    script = str(checkout.root / "scripts" / "venv.sh")
    before = os.times()
    for _ in range(10):
        checkout.run(script)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert used / 10 < 0.1
