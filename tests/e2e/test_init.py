"""What `init` writes in a checkout of each sample app is what `deploy` takes: no edits beyond host and domain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from support import samples
from support.samples import CHECKS, Sample
from support.world import LAB_SETTINGS, ROOT, World

HOST, ADDRESS = "inits", "10.77.0.193"
DEPLOYED = ("pens", "nested")  # without any edit; test_apps.py deploys all of them, side by side


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A bare host."""
    names = [f"{name}.inits.example.test" for name in CHECKS]
    world = World(
        tmp_path_factory.mktemp("inits"), HOST, {HOST: {"address": ADDRESS, "names": names}}, web=[HOST], db=[HOST]
    )
    world.write()
    world.up()
    yield world
    world.remove()


@pytest.fixture(scope="module")
def made(world: World) -> dict[str, Sample]:
    """Each app's checkout, in which `init` was run; the files that `init` wrote are not touched."""
    found = {name: samples.begin(world, name, ADDRESS, f"{name}.inits.example.test") for name in CHECKS}
    for sample in found.values():
        (sample.inventory / "group_vars/all/lab.yml").write_text(yaml.safe_dump(LAB_SETTINGS))
    return found


@pytest.mark.parametrize("name", CHECKS)
def test_it_leaves_nothing_to_fill_in(made: dict[str, Sample], name: str) -> None:
    said = made[name].said.err
    assert "next: zarpar doctor prod, then: zarpar deploy prod" in said, said
    assert "fill in" not in said, said
    carried = [line for line in said.splitlines() if line.startswith("not carried over:")]
    expected = ["not carried over: render.yaml: the service frontend (web, static)"] if name == "nested" else []
    assert carried == expected


@pytest.mark.parametrize("name", CHECKS)
def test_deploy_accepts_it(world: World, made: dict[str, Sample], name: str) -> None:
    """All data, the host and the release are judged; nothing is changed."""
    done = world.run(str(ROOT / "scripts" / "deploy"), str(made[name].inventory), "--check", "--yes")
    assert done.code == 0, str(done)
    assert "to be released" in done.err, str(done)
    assert not world.succeeds_on(HOST, "test", "-e", "/etc/zarpar"), "--check has changed the host"


@pytest.mark.parametrize("name", DEPLOYED)
def test_deploy_of_it_works(world: World, made: dict[str, Sample], name: str) -> None:
    """One inventory after the other: each host is then what that inventory says."""
    sample = made[name]
    done = world.run(str(ROOT / "scripts" / "deploy"), str(sample.inventory), "--yes")
    assert done.code == 0, str(done)
    release = world.live(HOST, sample.name)
    assert release.startswith(sample.commit)
    CHECKS[name](lambda path, post=None: world.visit(HOST, f"https://{sample.domain}{path}", post=post), release)
