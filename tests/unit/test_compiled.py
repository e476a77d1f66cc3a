"""Compiled templates are kept, and are the same as those that Ansible compiles anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible._internal._templating._jinja_bits import AnsibleEnvironment
from zarpar import compiled

count = 0
anew = AnsibleEnvironment.compile
def counted(self, *words, **options):
    global count
    count += 1
    return anew(self, *words, **options)
AnsibleEnvironment.compile = counted
if sys.argv[1] == "kept":
    compiled.remember()
    compiled.remember()

text = r'''a {{ "x\\n" }}
{% if true %}
{{ name | upper }}
{% endif %}
'''
for name in ("one", "two", "two"):
    templar = Templar(loader=DataLoader(), variables={"name": name})
    for options in ({}, {"escape_backslashes": False}, {"overrides": {"trim_blocks": False}}):
        print(repr(templar.template(trust_as_template(text), **options)))
    print(templar.template(trust_as_template("{{ name }}" + name)))
print(count, file=sys.stderr)
"""


def run(cache: Path, how: str) -> tuple[str, int]:
    """What is rendered, and how often something was compiled."""
    words = [sys.executable, "-c", SCRIPT, how]
    paths = ":".join(sys.path)
    environment = {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": paths, "PATH": "/usr/bin:/bin", "HOME": str(cache)}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return done.stdout, int(done.stderr.split()[-1])


def test_kept_templates_render_the_same(tmp_path: Path) -> None:
    anew, compiled_anew = run(tmp_path, "anew")
    first, compiled_first = run(tmp_path, "kept")
    second, compiled_second = run(tmp_path, "kept")
    assert anew == first == second
    assert len(set(anew.splitlines()[:3])) == 3, "the options make a difference"
    assert (compiled_anew, compiled_first, compiled_second) == (12, 5, 0)


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    run(tmp_path, "kept")
    folder = next((tmp_path / "zarpar").iterdir())
    assert folder.stat().st_mode & 0o077 == 0
    folder.chmod(0o777)
    assert run(tmp_path, "kept")[1] == 5
    folder.chmod(0o700)
    assert run(tmp_path, "kept")[1] == 0


def test_a_broken_file_is_compiled_again(tmp_path: Path) -> None:
    good, _ = run(tmp_path, "kept")
    for path in next((tmp_path / "zarpar").iterdir()).iterdir():
        path.write_bytes(path.read_bytes()[:30])
    again, compiled = run(tmp_path, "kept")
    assert (again, compiled) == (good, 5)
