"""The lab's decisions: which hosts, which commands, which refusals. No container is touched."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml

from zarpar import lab
from zarpar.lab import access, hosts, images, inventory, machine
from zarpar.lab.hosts import Container
from zarpar.lab.inventory import Inventory, LabError, LabHost

CHECKOUT = Path(__file__).parents[2]
WEB1 = {"ansible_host": "10.77.0.101", "lab": {"debian": 13, "names": ["shop.example.test"]}}
HOST = LabHost("web1", IPv4Address("10.77.0.101"), 13, ("shop.example.test",))

WriteInventory = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteInventory:
    """Write an inventory with these hosts and return its folder."""

    def write(**found: Any) -> Path:
        folder = tmp_path / "inventories" / "trial"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"web": {"hosts": found}}}}))
        return folder

    return write


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Collect the commands that would run, each of which succeeds and says nothing."""
    seen: list[list[str]] = []

    def run(argv: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(list(argv))
        return subprocess.CompletedProcess(list(argv), 0, "", "")

    for module in (machine, hosts, images, access):
        monkeypatch.setattr(module, "run", run)
    return seen


def container(**changed: Any) -> Container:
    usual: dict[str, Any] = {
        "name": "web1",
        "image": "",
        "state": "running",
        "pid": 4711,
        "address": "10.77.0.101",
        "plugged": "10.77.0.101",
        "names": frozenset(HOST.names),
        "debian": 13,
        "inventory": "/here/hosts.yml",
    }
    return Container(**(usual | changed))


class TestInventory:
    def test_the_labs_own_inventory(self) -> None:
        found = inventory.read(CHECKOUT / "inventories" / "lab")
        assert [(host.name, host.debian) for host in found.hosts] == [("web1", 13)]
        assert found.folder == CHECKOUT / ".lab"

    def test_its_ssh_options_are_the_labs(self) -> None:
        variables = yaml.safe_load((CHECKOUT / "inventories" / "lab" / "hosts.yml").read_text())["all"]["vars"]
        assert variables["ansible_user"] == access.USER
        assert "StrictHostKeyChecking=yes" in variables["ansible_ssh_common_args"]
        assert variables["ansible_ssh_private_key_file"].endswith("/../../.lab/key")

    def test_a_file_does_as_well_as_its_folder(self, write: WriteInventory) -> None:
        folder = write(web1=WEB1)
        assert inventory.read(folder / "hosts.yml") == inventory.read(folder)

    def test_variables_from_several_places_are_one_host(self, write: WriteInventory) -> None:
        folder = write()
        groups = {"web": {"hosts": {"web1": WEB1}}, "db": {"hosts": {"web1": None}}}
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
        assert inventory.read(folder).hosts == (HOST,)

    def test_hosts_without_lab_are_not_ours(self, write: WriteInventory) -> None:
        folder = write(web1=WEB1, real={"ansible_host": "192.0.2.10"})
        assert [host.name for host in inventory.read(folder).hosts] == ["web1"]

    def test_has_hosts(self, write: WriteInventory, tmp_path: Path) -> None:
        assert lab.has_hosts(write(web1=WEB1))
        assert not lab.has_hosts(write(real={"ansible_host": "192.0.2.10"}))
        assert not lab.has_hosts(tmp_path)

    def test_a_vault_value_does_not_matter(self, write: WriteInventory) -> None:
        folder = write(web1=WEB1)
        with (folder / "hosts.yml").open("a") as file:
            file.write("other:\n  vars:\n    secret: !vault |\n      $ANSIBLE_VAULT;1.1;AES256\n")
        assert inventory.read(folder).hosts == (HOST,)

    def test_select(self) -> None:
        found = Inventory(Path("/here/hosts.yml"), (HOST,))
        assert found.select(None) == found.select(["web1", "web1"]) == (HOST,)
        with pytest.raises(LabError) as error:
            found.select(["web9"])
        assert error.value.hint == "It has: web1."

    @pytest.mark.parametrize(
        ("name", "variables", "said"),
        [
            ("pki", {}, "cannot have this name"),
            ("-web", {}, "cannot have this name"),
            ("web1\n", {}, "cannot have this name"),
            ("WEB", {}, "cannot have this name"),
            ("web1", {"lab": True}, "lab: must be like"),
            ("web1", {"lab": {"debian": 13, "alias": []}}, "lab: must be like"),
            ("web1", {"lab": {"debian": 11}}, "lab.debian: must be 12 or 13, not 11"),
            ("web1", {"lab": {"debian": "13"}}, "lab.debian: must be"),
            ("web1", {"ansible_host": "10.78.0.101"}, "ansible_host: must be from"),
            ("web1", {"ansible_host": "10.77.0.2"}, "ansible_host: must be from"),
            ("web1", {"ansible_host": "10.77.0.255"}, "ansible_host: must be from"),
            ("web1", {"ansible_host": None}, "ansible_host: must be from"),
            ("web1", {"lab": {"debian": 13, "names": "shop.example.test"}}, "lab.names: must be a list"),
            ("web1", {"lab": {"debian": 13, "names": ["--privileged"]}}, "is not a DNS name"),
            ("web1", {"lab": {"debian": 13, "names": ["a.test\n"]}}, "is not a DNS name"),
            ("web1", {"lab": {"debian": 13, "names": [5]}}, "is not a DNS name"),
        ],
    )
    def test_refused(self, write: WriteInventory, name: str, variables: dict[str, Any], said: str) -> None:
        with pytest.raises(LabError, match=said):
            inventory.read(write(**{name: WEB1 | variables}))

    def test_no_lab_host_at_all(self, write: WriteInventory) -> None:
        with pytest.raises(LabError, match="describes no lab host"):
            inventory.read(write())

    def test_two_hosts_with_one_address(self, write: WriteInventory) -> None:
        twin = {"ansible_host": "10.77.0.101", "lab": {"debian": 12}}
        with pytest.raises(LabError, match=r"10\.77\.0\.101 belongs to both web1 and web2"):
            inventory.read(write(web1=WEB1, web2=twin))

    def test_broken_yaml_and_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "hosts.yml").write_text("a: [")
        with pytest.raises(LabError, match="not valid YAML"):
            inventory.read(tmp_path)
        with pytest.raises(LabError, match="cannot read"):
            inventory.read(tmp_path / "other.yml")


class TestMachine:
    @pytest.mark.parametrize(
        ("routes", "addresses", "found"),
        [
            ([{"dst": "default", "dev": "eth0"}], [("eth0", "192.0.2.2", 24)], ""),
            ([{"dst": "10.77.0.0/24", "dev": "zarparlab0"}], [("zarparlab0", "10.77.0.1", 24)], ""),
            ([{"dst": "10.0.0.0/8", "dev": "tun0"}], [("tun0", "10.8.0.1", 8)], ""),
            ([{"dst": "10.77.0.0/16", "dev": "tun0"}], [], "tun0 10.77.0.0/16"),
            ([{"dst": "10.77.0.9", "dev": "wg0"}], [], "wg0 10.77.0.9"),
            ([], [("br0", "10.77.0.1", 24)], "br0 10.77.0.1/24"),
            ([{"type": "unreachable", "dst": "nonsense"}], [], ""),
        ],
    )
    def test_overlap(self, routes: list[dict[str, Any]], addresses: list[tuple[str, str, int]], found: str) -> None:
        links = [{"ifname": n, "addr_info": [{"local": a, "prefixlen": p}]} for n, a, p in addresses]
        assert machine.overlap(routes, links) == found

    def test_a_hybrid_cgroup_tree_is_left_by_a_namespace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        monkeypatch.setattr(machine, "_is_pure_cgroup_v2", lambda: False)
        assert machine.podman("ps")[:2] == ["sudo", "nsenter"]
        monkeypatch.setattr(machine, "_is_pure_cgroup_v2", lambda: True)
        assert machine.podman("ps")[:2] == ["sudo", "env"]

    def test_podman_sees_only_the_lab(self) -> None:
        settings = "CONTAINERS_STORAGE_CONF=/run/zarpar-lab/storage.conf"
        assert settings in machine.podman("ps")
        storage = (machine.DATA / "storage.conf").read_text()
        assert str(machine.RUN) in storage
        assert str(machine.STATE) in storage
        assert f'default_network = "{machine.NETWORK}"' in (machine.DATA / "containers.conf").read_text()

    def test_missing_packages_are_installed(self, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "_is_there", lambda thing: thing != "runc")
        monkeypatch.setattr("shutil.which", lambda name, **_: f"/usr/bin/{name}")
        said: list[str] = []
        machine._install_packages(said.append)
        assert said == ["Installing runc with apt-get"]
        assert commands[-1][-3:] == ["install", "--no-install-recommends", "runc"]

    def test_elsewhere_they_are_named(self, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "_is_there", lambda thing: thing not in {"runc", "mmdebstrap"})
        monkeypatch.setattr("shutil.which", lambda name, **_: name if name == "dnf" else None)
        with pytest.raises(LabError, match=r"needs these packages: runc$") as error:
            machine._install_packages(print)
        assert error.value.hint == "Run: sudo dnf install runc"
        assert commands == []

    def test_without_root_and_sudo(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        monkeypatch.setattr("shutil.which", lambda *_, **__: None)
        with pytest.raises(LabError, match="needs root"):
            machine.prepare(print)

    def test_a_failure_quotes_the_program(self) -> None:
        with pytest.raises(LabError, match="could not run: sh -c") as error:
            machine.run(["sh", "-c", "echo out of luck >&2; exit 3"])
        assert error.value.detail == "out of luck"
        with pytest.raises(LabError, match="waited"):
            machine.run(["sleep", "5"], timeout=0.1)

    def test_wait_until_gives_up(self) -> None:
        answers = iter([False, True])
        assert machine.wait_until(lambda: next(answers), 5)
        assert not machine.wait_until(lambda: False, 0)


class TestImages:
    def test_the_tag_follows_the_recipe(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        usual = images.host_image(13)
        assert images.host_image(13) == usual
        monkeypatch.setattr(images, "_CERTIFICATES", tmp_path)
        without = images.host_image(13)
        (tmp_path / "company.crt").write_text("a certificate")
        assert len({images.host_image(13), without, images.host_image(12)}) == 3
        pki = images.pki_image()
        monkeypatch.setenv("DEBIAN_MIRROR", "https://mirror.example.com/debian")
        assert images.host_image(13) != without
        assert images.pki_image() != pki

    def test_mirrors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DEBIAN_MIRROR", "https://mirror.example.com/debian")
        lines = images._sources(12)
        assert lines[0].endswith(" https://mirror.example.com/debian bookworm main")
        assert lines[2].endswith(" http://deb.debian.org/debian-security bookworm-security main")

    @pytest.mark.parametrize("mirror", ["", "mirror.example.com", "http://a/ main\ndeb http://b/"])
    def test_a_strange_mirror(self, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
        monkeypatch.setenv("DEBIAN_MIRROR", mirror)
        with pytest.raises(LabError, match="is not the address of a mirror"):
            images.host_image(13)

    @pytest.mark.parametrize(("mirrors", "base"), [(True, "base13:latest"), (False, "docker.io/library/debian:13")])
    def test_the_base(
        self, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, mirrors: bool, base: str
    ) -> None:
        monkeypatch.setattr(machine, "has_mmdebstrap", lambda: mirrors)
        monkeypatch.setattr(images, "_exists", lambda _: False)
        images.ensure([13], pki=False, say=lambda _: None)
        programs = [word for argv in commands for word in argv if word in {"mmdebstrap", "pull"}]
        assert programs == (["mmdebstrap"] if mirrors else ["pull"])
        build = next(argv for argv in commands if "build" in argv)
        assert any(word.startswith("--build-arg=BASE=") and word.endswith(base) for word in build)

    def test_what_is_there_is_not_built(self, commands: list[list[str]]) -> None:
        images.ensure([12, 13], pki=True, say=lambda _: pytest.fail("nothing to say"))
        assert not any("build" in argv for argv in commands)


class TestHosts:
    def test_a_host_is_never_privileged(self, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hosts, "get", lambda _: container())
        hosts.make(HOST, "/here/hosts.yml")
        argv = next(argv for argv in commands if "run" in argv)
        assert "--privileged" not in argv
        assert "--cap-add=SYS_ADMIN,NET_ADMIN,NET_RAW,SYS_PTRACE" in argv
        assert {"--ip=10.77.0.101", "--network=zarparlab", "--network-alias=shop.example.test"} <= set(argv)
        assert "--mac-address=02:7a:0a:4d:00:65" in argv

    def test_a_wrong_address_is_not_kept(self, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hosts, "get", lambda _: container(plugged="10.88.0.3"))
        with pytest.raises(LabError, match=r"the address 10\.88\.0\.3 instead of 10\.77\.0\.101"):
            hosts.make(HOST, "/here/hosts.yml")
        assert "rm" in commands[-1]

    @pytest.mark.parametrize(
        ("cables", "done"),
        [
            ([{"ifindex": 7, "ifname": "veth3"}], True),
            ([{"ifindex": 7, "ifname": "eth0"}], False),
            ([{"ifindex": 8, "ifname": "veth3"}], False),
            ([], False),
        ],
    )
    def test_only_the_labs_own_cables_are_cut(
        self, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, cables: list[dict[str, Any]], done: bool
    ) -> None:
        monkeypatch.setattr(hosts, "get", lambda _: container())
        monkeypatch.setattr(hosts, "show_json", lambda argv: [{"link_index": 7}] if "eth0" in argv else cables)
        if done:
            hosts.cut_network("web1")
            assert commands[-1][-5:] == ["ip", "link", "set", "veth3", "down"]
        else:
            with pytest.raises(LabError, match="nothing was touched"):
                hosts.cut_network("web1")
            assert commands == []

    def test_states(self) -> None:
        assert container(state="created").half_made
        assert not container(state="exited").half_made
        assert container(state="lost").lost
        assert not container(state="lost").running
        assert container().fits(HOST)
        assert not container(debian=12).fits(HOST)


class TestAccess:
    def test_ssh_accepts_only_the_known_key(self) -> None:
        argv = access.ssh_command(Inventory(Path("/a 100% b/inventories/lab/hosts.yml"), (HOST,)), HOST)
        assert argv[-1] == "deploy@10.77.0.101"
        assert "StrictHostKeyChecking=yes" in argv
        assert 'UserKnownHostsFile="/a 100%% b/.lab/known_hosts"' in argv
        assert 'IdentityFile="/a 100%% b/.lab/key"' in argv

    def test_known_hosts(self, tmp_path: Path) -> None:
        found = Inventory(tmp_path / "inventories" / "lab" / "hosts.yml", (HOST,))
        found.folder.mkdir()
        known = found.folder / "known_hosts"
        known.write_text("10.77.0.102,web2 ssh-ed25519 BBBB\n10.77.0.101,web1 ssh-ed25519 OLD\n")
        access._learn(found, HOST, "ssh-ed25519 NEW root@web1\n")
        assert known.read_text() == "10.77.0.102,web2 ssh-ed25519 BBBB\n10.77.0.101,web1 ssh-ed25519 NEW\n"
        access.forget(found)
        assert known.read_text() == "10.77.0.102,web2 ssh-ed25519 BBBB\n"


class TestClashes:
    WANTED = Inventory(Path("/here/hosts.yml"), (HOST,))

    @pytest.mark.parametrize(
        "found",
        [
            container(),
            container(inventory="/there/hosts.yml"),
            container(debian=12),
            container(name="web2", address="10.77.0.102", names=frozenset({"other.example.test"})),
        ],
        ids=["mine", "the same in another checkout", "mine, to be made anew", "a stranger"],
    )
    def test_fine(self, found: Container) -> None:
        lab._refuse_a_clash(HOST, self.WANTED, [found])

    @pytest.mark.parametrize(
        ("found", "what"),
        [
            (container(inventory="/there/hosts.yml", debian=12), "the name web1"),
            (container(name="web2", inventory="/there/hosts.yml", names=frozenset()), r"10\.77\.0\.101"),
            (container(name="web2", address="10.77.0.102"), r"shop\.example\.test"),
        ],
    )
    def test_refused(self, found: Container, what: str) -> None:
        with pytest.raises(LabError, match=f"another host of the lab has {what}"):
            lab._refuse_a_clash(HOST, self.WANTED, [found])


def test_down_takes_what_the_inventory_once_listed() -> None:
    wanted = TestClashes.WANTED
    assert lab._belongs(container(name="web7", address="10.77.0.107"), wanted)
    assert lab._belongs(container(inventory="/there/hosts.yml"), wanted)
    assert not lab._belongs(container(inventory="/there/hosts.yml", debian=12), wanted)
