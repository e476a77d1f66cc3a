"""The contenders, by name, in the order of their turns."""

from bench.contenders.ansible import Ansible, AnsibleTuned, Mitogen
from bench.contenders.base import Contender
from bench.contenders.fujin import Fujin
from bench.contenders.pyinfra import Pyinfra
from bench.contenders.shell import Shell
from bench.contenders.zarpar import Zarpar, ZarparAnsible, ZarparRelease

EVERY: tuple[type[Contender], ...] = (
    Shell,
    ZarparAnsible,
    Zarpar,
    ZarparRelease,
    Ansible,
    AnsibleTuned,
    Pyinfra,
    Mitogen,
    Fujin,
)
CONTENDERS: dict[str, type[Contender]] = {each.name: each for each in EVERY}
