"""What real compilers, build tools and loaders say, and the Debian package that helps."""

from __future__ import annotations

import pytest

from zarpar_host import hints


@pytest.mark.parametrize(
    ("said", "packages"),
    [
        ("Error: pg_config executable not found.\n\npg_config is required to build psycopg2 from source.", "libpq-dev"),
        ("/bin/sh: 1: mysql_config: not found", "default-libmysqlclient-dev"),
        ("Exception: Can not find valid pkg-config name.\nSpecify MYSQLCLIENT_CFLAGS", "default-libmysqlclient-dev"),
        ("error: command 'gcc' failed: No such file or directory", "build-essential"),
        ("error: command 'cc' failed: No such file or directory", "build-essential"),
        ("error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory", "build-essential"),
        ("unable to execute 'x86_64-linux-gnu-gcc': No such file or directory", "build-essential"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'gcc'", "build-essential"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'git'", "git"),
        ("ERROR: Unknown compiler(s): [['cc'], ['gcc'], ['clang']]", "build-essential"),
        ("ERROR: Unknown compiler(s): [['gfortran'], ['flang']]", "gfortran"),
        ("src/greenlet.c:9:10: fatal error: Python.h: No such file or directory", "python3-dev"),
        ("c/_cffi_backend.c:15:10: fatal error: ffi.h: No such file or directory", "libffi-dev"),
        ("fatal error: 'openssl/ssl.h' file not found", "libssl-dev"),
        ("build/x.c:1:10: fatal error: openssl/opensslv.h: No such file or directory", "libssl-dev"),
        ("./psycopg/psycopg.h:36:10: fatal error: libpq-fe.h: No such file or directory", "libpq-dev"),
        ("Modules/ldap.h:2:10: fatal error: lber.h: No such file or directory", "libldap-dev"),
        ("Error: Please make sure the libxml2 and libxslt development packages are installed.", "libxslt1-dev"),
        ("pkgconfig.pkgconfig.PackageNotFoundError: xmlsec1 not found", "libxmlsec1-dev"),
        ("Package 'libffi', required by 'virtual:world', not found", ""),
        ("No package 'libffi' found", "libffi-dev"),
        ("Package cairo was not found in the pkg-config search path.", "libcairo2-dev"),
        ('../cairo/meson.build:31:12: ERROR: Dependency "cairo" not found, tried pkgconfig', "libcairo2-dev"),
        ("Run-time dependency openblas found: NO (tried pkgconfig)", "libopenblas-dev"),
        ("The headers or library files could not be found for jpeg,\na required dependency", "libjpeg-dev"),
        ("The headers or library files could not be found for zlib,\na required dependency", "zlib1g-dev"),
        ("error: can't find Rust compiler", "rustc"),
        ("Cargo, the Rust package manager, is not installed or is not on PATH.", "cargo"),
        ("Rust not found, installing into a temporary directory", "rustc"),
        ("CMake must be installed to build dlib", "cmake"),
        ("scikit_build_core: Could not find CMake with version >=3.15", "cmake"),
        ("/usr/bin/ld: cannot find -lpq: No such file or directory", "libpq-dev"),
        ("CommandError: Can't find msgfmt. msgfmt: not found", "gettext"),
        ("configure: error: C compiler cannot create executables", "build-essential"),
    ],
)
def test_a_failed_build_names_the_package(said: str, packages: str) -> None:
    hint = hints.of_build(f"  x Failed to build `thing==1.0`\n{said}\nhint: this is a build backend issue")
    if packages:
        assert "system_packages: [" in hint
    assert packages in hint


@pytest.mark.parametrize(
    "said",
    [
        "error: command '/usr/bin/gcc' failed with exit code 1",  # it is there: the code is at fault
        "Because there is no version of nothere and you require nothere, your requirements are unsatisfiable.",
        "HTTP status 404: page not found",
        "Because mariadb was not found in the package registry and you require mariadb, your requirements fail.",
        "",
    ],
)
def test_nothing_is_guessed(said: str) -> None:
    assert hints.of_build(said) == ""


def test_packages_with_wheels() -> None:
    said = "Error: pg_config executable not found.\nFailed to build `psycopg2==2.9.9`"
    assert hints.of_build(said) == (
        "Add to the app in apps.yml: system_packages: [libpq-dev, build-essential]"
        " Or depend on psycopg2-binary or psycopg[binary], which bring what they need."
    )


def test_a_header_that_is_in_no_table() -> None:
    hint = hints.of_build("x.c:1:10: fatal error: odd/thing.h: No such file or directory")
    assert "apt-file search odd/thing.h" in hint
    assert "system_packages" in hint


def test_a_python_that_is_not_there() -> None:
    said = "error: No interpreter found for Python 3.12 in managed installations or search path"
    assert hints.of_build(said).startswith("Python 3.12 is not on this host")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("ImportError: libGL.so.1: cannot open shared object file: No such file", "[libgl1]"),
        ("ImportError: libgthread-2.0.so.0: cannot open shared object file: No such file", "[libglib2.0-0]"),
        ("OSError: cannot load library 'gobject-2.0-0': gobject-2.0-0: cannot open shared", "libpango-1.0-0"),
        (
            "OSError: cannot load library 'libgobject-2.0-0': libgobject-2.0-0: cannot open shared object file",
            "libpango-1.0-0",
        ),
        ("ImportError: failed to find libmagic.  Check your installation", "[libmagic1]"),
        (
            "libpq.so.5: cannot open shared object file\nImportError: libGL.so.1: cannot open shared object file",
            "[libpq5, libgl1]",
        ),
        ("ImportError: libodd.so.3: cannot open shared object file", "apt-file search libodd.so.3"),
        ("ModuleNotFoundError: No module named 'gevent'", "Is gevent among the app's dependencies"),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", "max_connections"),
        ("FATAL:  sorry, too many clients already", "raise postgres_max_connections"),
        ("RuntimeError: the database is not there", ""),
        ("git: not found", ""),
    ],
)
def test_a_failed_start(said: str, expected: str) -> None:
    hint = hints.of_start(f"Traceback (most recent call last):\n{said}\n")
    assert expected in hint
    assert bool(hint) is bool(expected)


def test_names_are_debian_packages() -> None:
    """Every name in the tables has a form that `system_packages` takes."""
    from zarpar.config import App

    tables = (hints.PROGRAMS, hints.HEADERS, hints.MODULES, hints.LIBRARIES, hints.LINKED)
    names = sorted({name for table in tables for names in table.values() for name in names})
    app = App.model_validate({"domains": ["shop.example.com"], "source": {"path": "x"}, "system_packages": names[:100]})
    assert app.system_packages == names[:100]
    assert len(names) <= 100
