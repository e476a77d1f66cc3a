"""The images of the lab's hosts: built once per recipe, from Debian's mirrors or a registry's `debian`."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zarpar.lab import machine
from zarpar.lab.inventory import DEBIANS, LabError
from zarpar.lab.machine import Say, as_root, podman, run

_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_PREFIX = "localhost/zarpar-lab"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PKI_DEBIAN = 13


def host_image(debian: int) -> str:
    """Return the name of the image of a Debian host; its tag is a hash of all that goes into it."""
    ingredients = [*_files(machine.DATA / "host"), *_certificates()]
    return f"{_PREFIX}/debian{debian}:{_hash(ingredients, *_sources(debian))}"


def pki_image() -> str:
    """Return the name of the image of the certificate authority."""
    return f"{_PREFIX}/pki:{_hash(_files(machine.DATA / 'pki'), host_image(_PKI_DEBIAN))}"


def ensure(debians: Iterable[int], *, pki: bool, say: Say) -> None:
    """Build the images that are not there; those of two Debians at the same time."""
    pki = pki and not _exists(pki_image())
    wanted = {*debians, *([_PKI_DEBIAN] if pki else [])}
    missing = sorted(debian for debian in wanted if not _exists(host_image(debian)))
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda debian: _build_host(debian, say), missing))
    if pki:
        _build_pki(say)


def _build_host(debian: int, say: Say) -> None:
    start = time.monotonic()
    say(f"Building the image of Debian {debian} hosts (once; about a minute)")
    with tempfile.TemporaryDirectory(prefix="zarpar-lab-", dir="/var/tmp") as folder:
        context = Path(folder) / "context"
        shutil.copytree(machine.DATA / "host", context)
        (context / "certificates").mkdir()
        for certificate in _certificates():
            shutil.copy(certificate, context / "certificates")
        base = _base(debian, Path(folder))
        _build(host_image(debian), context, f"BASE={base}", "SOURCES=" + "\n".join(_sources(debian)))
    say(f"Built the image of Debian {debian} hosts in {time.monotonic() - start:.0f} s")


def _build_pki(say: Say) -> None:
    say("Building the image of the certificate authority (once)")
    _build(pki_image(), machine.DATA / "pki", f"BASE={host_image(_PKI_DEBIAN)}")


def _base(debian: int, folder: Path) -> str:
    """Make or fetch a minimal Debian and return its image's name."""
    if not machine.has_mmdebstrap():
        image = f"docker.io/library/debian:{debian}"
        run(podman("pull", "--quiet", image))
        return image
    archive, image = str(folder / "base.tar"), f"{_PREFIX}/base{debian}:latest"
    options = ["--quiet", "--variant=minbase", "--include=ca-certificates", "--format=tar"]
    run(as_root(["mmdebstrap", *options, DEBIANS[debian], archive, *_sources(debian)]))
    run(podman("import", "--quiet", archive, image))
    return image


def _build(image: str, context: Path, *arguments: str) -> None:
    named = [f"--build-arg={argument}" for argument in arguments]
    # The machine's own network: the lab's needs no host of its own for a build.
    run(podman("build", "--quiet", "--network=host", *named, f"--tag={image}", str(context)))
    _remove_older(image)


def _remove_older(image: str) -> None:
    """Remove the images of earlier recipes; podman keeps those that a host still uses."""
    name = image.rpartition(":")[0]
    listed = run(podman("images", "--format={{.Repository}}:{{.Tag}}", name)).stdout.split()
    for older in set(listed) - {image}:
        run(podman("rmi", older), check=False)


def _exists(image: str) -> bool:
    return run(podman("image", "exists", image), check=False).returncode == 0


def _sources(debian: int) -> list[str]:
    """Return the lines of apt's sources; a mirror of the user's own is named in the environment."""
    suite = DEBIANS[debian]
    mirror = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
    security = os.environ.get("DEBIAN_SECURITY_MIRROR", "http://deb.debian.org/debian-security")
    places = [(mirror, suite), (mirror, f"{suite}-updates"), (security, f"{suite}-security")]
    for address, _ in places:
        if not address.startswith(("http://", "https://")) or len(address.split()) != 1:
            raise LabError(f"DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR: {address!r} is not the address of a mirror")
    return [f"deb [signed-by={_KEYRING}] {address} {name} main" for address, name in places]


def _certificates() -> list[Path]:
    """Return the CA certificates that this machine was given: its network may intercept TLS."""
    return sorted(_CERTIFICATES.glob("*.crt")) if _CERTIFICATES.is_dir() else []


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _hash(files: Iterable[Path], *words: str) -> str:
    digest = hashlib.sha256("\0".join(words).encode())
    for path in files:
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
