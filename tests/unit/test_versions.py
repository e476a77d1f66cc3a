"""Versions and markers, compared with the library that pip uses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from zarpar_host import versions

LINUX = {
    "python_version": "3.11",
    "python_full_version": "3.11.2",
    "implementation_name": "cpython",
    "implementation_version": "3.11.2",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "6.1.0-18-amd64",
    "platform_system": "Linux",
    "platform_version": "#1 SMP",
    "sys_platform": "linux",
    "extra": "",
}
RELEASES = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
ENDS = st.sampled_from(["", "a1", "b2", "rc1", ".post1", ".dev3", "a1.dev2", "rc2.post1", "+local.1"])
ANY_VERSION = st.tuples(RELEASES, ENDS).map("".join)


@given(ANY_VERSION, ANY_VERSION)
def test_order(one: str, other: str) -> None:
    public = Version(one).public, Version(other).public  # a local part does not count here
    mine, its = versions.key(one), versions.key(other)
    assert mine is not None
    assert its is not None
    assert (mine < its) == (Version(public[0]) < Version(public[1]))
    assert (mine == its) == (Version(public[0]) == Version(public[1]))


@given(RELEASES, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), RELEASES)
def test_one_clause(version: str, operator: str, bound: str) -> None:
    assert versions.satisfies(version, operator + bound) == SpecifierSet(operator + bound).contains(version)


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("3.13.5", "*", True),
        ("3.13.5", "", True),
        ("3.13.5", ">=3.9,<4", True),
        ("3.13.5", ">=3.9, <3.13", False),
        ("3.13.5", ">= 3.14 || ~3.13", True),
        ("3.13.5", "^3.9", True),
        ("4.0", "^3.9", False),
        ("0.4.0", "^0.3", False),
        ("0.0.4", "^0.0.3", False),
        ("1.9", "^1.2.3", True),
        ("1.2.9", "~1.2.3", True),
        ("1.3", "~1.2", False),
        ("1.9", "~1", True),
        ("1.4.9", "~=1.4.2", True),
        ("1.5", "~=1.4.2", False),
        ("1.9", "~=1.4", True),
        ("3.12.1", "==3.12.*", True),
        ("3.13.1", "!=3.12.*", True),
        ("3.12.1", "3.12.*", True),
        ("1.2.3", "1.2.3", True),
        ("1.2.4", "1.2.3", False),
    ],
)
def test_ranges(version: str, wanted: str, expected: bool) -> None:
    assert versions.satisfies(version, wanted) is expected


@pytest.mark.parametrize("wanted", [">=x", "<<3", "latest and greatest!"])
def test_what_is_no_range_is_refused(wanted: str) -> None:
    with pytest.raises(ValueError, match=r"range|compared|version"):
        versions.satisfies("3.12", wanted)


@pytest.mark.parametrize(
    "marker",
    [
        'python_version < "3.10"',
        "python_version >= '3.10'",
        "'3.10' <= python_version",
        'python_full_version < "3.11.3"',
        'python_version in "3.10 3.11"',
        'python_version not in "3.10, 3.12"',
        'sys_platform == "win32" or sys_platform == "linux" and python_version > "3.12"',
        '(sys_platform == "win32" or sys_platform == "linux") and python_version < "3.12"',
        "sys_platform in 'linux darwin'",
        "'lin' in sys_platform",
        'platform_python_implementation != "PyPy" and extra == "standard"',
        'platform_machine == "aarch64" or (platform_machine == "ppc64le" or platform_machine == "x86_64")',
        'implementation_name == "cpython"',
        'python_version == "3.11.*"',
        'python_version ~= "3.9"',
        'os_name == "nt"',
    ],
)
def test_markers_as_the_library_sees_them(marker: str) -> None:
    assert versions.holds(marker, LINUX) == Marker(marker).evaluate(dict(LINUX))


def test_extra() -> None:
    assert versions.holds('extra == "redis"', {**LINUX, "extra": "redis"})
    assert not versions.holds('extra == "redis"', LINUX)
    assert versions.holds("", LINUX)


@pytest.mark.parametrize(
    "marker",
    ["python_version", "sys_platform ==", "(os_name == 'nt'", "weather == 'sunny'", "os_name == 'nt' 'x'", "$"],
)
def test_what_is_no_marker_is_refused(marker: str) -> None:
    with pytest.raises(ValueError, match=r"marker"):
        versions.holds(marker, LINUX)
