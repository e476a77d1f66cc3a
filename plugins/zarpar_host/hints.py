"""What mends an app that is not built or does not start, mostly a Debian package, from what its tools say. Pure.

Looked at where apps are built and started (venv, releases, switch), so that every way to run a deploy shows it.
"""

from __future__ import annotations

import re

COMPILER = ("build-essential",)
# What is missing, as messages name it, and the packages that have it. Names that hold on Debian 12 and 13.
PROGRAMS = {
    "pg_config": ("libpq-dev", *COMPILER),
    "mysql_config": ("default-libmysqlclient-dev", "pkg-config", *COMPILER),
    "mariadb_config": ("libmariadb-dev", *COMPILER),
    "xml2-config": ("libxml2-dev", "libxslt1-dev", *COMPILER),
    "xslt-config": ("libxml2-dev", "libxslt1-dev", *COMPILER),
    "curl-config": ("libcurl4-openssl-dev", "libssl-dev", *COMPILER),
    "gdal-config": ("libgdal-dev", *COMPILER),
    "geos-config": ("libgeos-dev", *COMPILER),
    "krb5-config": ("libkrb5-dev", *COMPILER),
    "nc-config": ("libnetcdf-dev", *COMPILER),
    "h5cc": ("libhdf5-dev", *COMPILER),
    "swig": ("swig", *COMPILER),
    "cmake": ("cmake", *COMPILER),
    "ninja": ("ninja-build",),
    "make": COMPILER,
    "gfortran": ("gfortran", *COMPILER),
    "pkg-config": ("pkg-config",),
    "pkgconf": ("pkg-config",),
    "git": ("git",),
    "cargo": ("cargo", "rustc"),
    "rustc": ("cargo", "rustc"),
    "rust": ("cargo", "rustc"),
    "node": ("nodejs", "npm"),
    "npm": ("npm",),
    "ffmpeg": ("ffmpeg",),
    "gettext": ("gettext",),
    "msgfmt": ("gettext",),
    "gcc": COMPILER,
    "cc": COMPILER,
    "c++": COMPILER,
    "g++": COMPILER,
    "clang": COMPILER,
    "x86_64-linux-gnu-gcc": COMPILER,
    "aarch64-linux-gnu-gcc": COMPILER,
}
HEADERS = {
    "Python.h": ("python3-dev", *COMPILER),
    "libpq-fe.h": ("libpq-dev", *COMPILER),
    "mysql.h": ("default-libmysqlclient-dev", "pkg-config", *COMPILER),
    "ffi.h": ("libffi-dev", *COMPILER),
    "openssl/ssl.h": ("libssl-dev", *COMPILER),
    "openssl/opensslv.h": ("libssl-dev", *COMPILER),
    "libxml/xmlversion.h": ("libxml2-dev", "libxslt1-dev", *COMPILER),
    "libxml/xpath.h": ("libxml2-dev", "libxslt1-dev", *COMPILER),
    "libxslt/xslt.h": ("libxml2-dev", "libxslt1-dev", *COMPILER),
    "xmlsec/xmlsec.h": ("libxmlsec1-dev", "pkg-config", *COMPILER),
    "zlib.h": ("zlib1g-dev", *COMPILER),
    "jpeglib.h": ("libjpeg-dev", *COMPILER),
    "ft2build.h": ("libfreetype-dev", *COMPILER),
    "bzlib.h": ("libbz2-dev", *COMPILER),
    "lzma.h": ("liblzma-dev", *COMPILER),
    "sqlite3.h": ("libsqlite3-dev", *COMPILER),
    "yaml.h": ("libyaml-dev", *COMPILER),
    "ldap.h": ("libldap-dev", "libsasl2-dev", *COMPILER),
    "lber.h": ("libldap-dev", "libsasl2-dev", *COMPILER),
    "sasl/sasl.h": ("libsasl2-dev", *COMPILER),
    "gssapi/gssapi.h": ("libkrb5-dev", *COMPILER),
    "krb5.h": ("libkrb5-dev", *COMPILER),
    "sql.h": ("unixodbc-dev", *COMPILER),
    "curl/curl.h": ("libcurl4-openssl-dev", "libssl-dev", *COMPILER),
    "cairo.h": ("libcairo2-dev", "pkg-config", *COMPILER),
    "magic.h": ("libmagic-dev", *COMPILER),
    "snappy-c.h": ("libsnappy-dev", *COMPILER),
    "snappy.h": ("libsnappy-dev", *COMPILER),
    "librdkafka/rdkafka.h": ("librdkafka-dev", *COMPILER),
    "portaudio.h": ("portaudio19-dev", *COMPILER),
    "sodium.h": ("libsodium-dev", *COMPILER),
    "gmp.h": ("libgmp-dev", *COMPILER),
    "mpfr.h": ("libmpfr-dev", *COMPILER),
    "cblas.h": ("libopenblas-dev", *COMPILER),
    "hdf5.h": ("libhdf5-dev", *COMPILER),
    "graphviz/cgraph.h": ("libgraphviz-dev", *COMPILER),
    "pcre.h": ("libpcre2-dev", *COMPILER),
    "systemd/sd-journal.h": ("libsystemd-dev", "pkg-config", *COMPILER),
    "dbus/dbus.h": ("libdbus-1-dev", "pkg-config", *COMPILER),
    "gdal.h": ("libgdal-dev", *COMPILER),
    "geos_c.h": ("libgeos-dev", *COMPILER),
    "proj.h": ("libproj-dev", *COMPILER),
    "uuid/uuid.h": ("uuid-dev", *COMPILER),
}
# Of pkg-config (its modules) and of setup scripts that look for a library by themselves.
MODULES = {
    "mysqlclient": ("default-libmysqlclient-dev", "pkg-config", *COMPILER),
    "libmariadb": ("default-libmysqlclient-dev", "pkg-config", *COMPILER),
    "mariadb": ("libmariadb-dev", "pkg-config", *COMPILER),
    "libpq": ("libpq-dev", "pkg-config", *COMPILER),
    "libffi": ("libffi-dev", "pkg-config", *COMPILER),
    "openssl": ("libssl-dev", "pkg-config", *COMPILER),
    "libxml-2.0": ("libxml2-dev", "libxslt1-dev", "pkg-config", *COMPILER),
    "libxslt": ("libxml2-dev", "libxslt1-dev", "pkg-config", *COMPILER),
    "xmlsec1": ("libxmlsec1-dev", "pkg-config", *COMPILER),
    "cairo": ("libcairo2-dev", "pkg-config", *COMPILER),
    "libsystemd": ("libsystemd-dev", "pkg-config", *COMPILER),
    "dbus-1": ("libdbus-1-dev", "pkg-config", *COMPILER),
    "libvirt": ("libvirt-dev", "pkg-config", *COMPILER),
    "gobject-introspection-1.0": ("libgirepository1.0-dev", "pkg-config", *COMPILER),
    "libavformat": ("libavformat-dev", "libavdevice-dev", "libavfilter-dev", "pkg-config", *COMPILER),
    "hdf5": ("libhdf5-dev", "pkg-config", *COMPILER),
    "openblas": ("libopenblas-dev", "pkg-config", "gfortran", *COMPILER),
    "jpeg": ("libjpeg-dev", "zlib1g-dev", *COMPILER),
    "zlib": ("zlib1g-dev", "libjpeg-dev", *COMPILER),
}
LINKED = {
    "pq": ("libpq-dev",),
    "ssl": ("libssl-dev",),
    "crypto": ("libssl-dev",),
    "z": ("zlib1g-dev",),
    "ffi": ("libffi-dev",),
    "xml2": ("libxml2-dev",),
    "mysqlclient": ("default-libmysqlclient-dev",),
    "mariadb": ("libmariadb-dev",),
}
# Shared objects, without what follows ".so".
LIBRARIES = {
    "libGL": ("libgl1",),
    "libEGL": ("libegl1",),
    "libglib-2.0": ("libglib2.0-0",),
    "libgthread-2.0": ("libglib2.0-0",),
    "libgobject-2.0": ("libpango-1.0-0", "libpangoft2-1.0-0"),
    "libpango-1.0": ("libpango-1.0-0", "libpangoft2-1.0-0"),
    "libpangocairo-1.0": ("libpangocairo-1.0-0",),
    "libcairo": ("libcairo2",),
    "libSM": ("libsm6", "libxext6"),
    "libXext": ("libxext6",),
    "libXrender": ("libxrender1",),
    "libX11": ("libx11-6",),
    "libpq": ("libpq5",),
    "libmariadb": ("libmariadb3",),
    "libmysqlclient": ("libmariadb3",),
    "libxml2": ("libxml2",),
    "libxslt": ("libxslt1.1",),
    "libxmlsec1": ("libxmlsec1-openssl",),
    "libmagic": ("libmagic1",),
    "libgomp": ("libgomp1",),
    "libjpeg": ("libjpeg62-turbo",),
    "libopenblas": ("libopenblas0",),
    "libsndfile": ("libsndfile1",),
    "libzbar": ("libzbar0",),
    "libodbc": ("unixodbc",),
    "libstdc++": ("libstdc++6",),
    "libcurl": ("libcurl4",),
    "libgdal": ("gdal-bin",),
    "libgeos_c": ("libgeos-c1v5",),
    "libsodium": ("libsodium23",),
    "libldap": ("libldap-dev",),
    "libatomic": ("libatomic1",),
}
# (what to look for, the tables that know its group)
BUILD = (
    (re.compile(r"fatal error: '?([\w./+-]+\.(?:h|hpp|hh|H))\b"), (HEADERS,)),
    (
        re.compile(
            r"['\"`]?\b([\w.+-]+)['\"`]?:?(?: was| executable| command)? not found\b(?! in the package registry)"
        ),
        (PROGRAMS, MODULES),
    ),
    (re.compile(r"command '(?:/\S*/)?([\w.+-]+)' failed: No such file or directory"), (PROGRAMS,)),
    (re.compile(r"unable to execute '(?:/\S*/)?([\w.+-]+)': No such file or directory"), (PROGRAMS,)),
    (re.compile(r"No such file or directory: '(?:/\S*/)?([\w.+-]+)'"), (PROGRAMS,)),
    (re.compile(r"Unknown compiler\(s\):.*?\b(gfortran|clang|gcc|cc)\b"), (PROGRAMS,)),
    (re.compile(r"No package '([\w.+-]+)' found"), (MODULES,)),
    (re.compile(r"Run-time dependency ([\w.+-]+) found: NO"), (MODULES,)),
    (re.compile(r"headers or library files could not be found for (\w+)"), (MODULES,)),
    (re.compile(r"\bcannot find -l(\w+)"), (LINKED,)),
)
WORDS = (
    (re.compile(r"Can not find valid pkg-config name|Specify MYSQLCLIENT_CFLAGS"), PROGRAMS["mysql_config"]),
    (re.compile(r"libxml2 and libxslt development packages are installed"), PROGRAMS["xslt-config"]),
    (re.compile(r"can't find Rust compiler|Cargo, the Rust package manager, is not installed"), PROGRAMS["cargo"]),
    (
        re.compile(r"CMake must be installed|Could not find CMake|Problem with the CMake installation"),
        PROGRAMS["cmake"],
    ),
    (re.compile(r"C compiler cannot create executables|No CMAKE_C(?:XX)?_COMPILER could be found"), COMPILER),
    (re.compile(r"Could not find the G(?:DAL|EOS) library"), ("gdal-bin", "libgeos-dev")),
)
LOADED = re.compile(r"\b(lib[\w+.-]+?)\.so[\w.]*'?: cannot open shared object file")
OTHERWISE = (
    (re.compile(r"failed to find libmagic"), ("libmagic1",)),
    (re.compile(r"Unable to find zbar shared library"), LIBRARIES["libzbar"]),
    (re.compile(r"cannot load library '(?:lib)?gobject-2\.0"), LIBRARIES["libgobject-2.0"]),
)
CONNECTIONS = re.compile(r"remaining connection slots are reserved|sorry, too many clients already")
# Well-known packages whose wheels need no compiler.
WHEELS = (
    (
        re.compile(r"\bpsycopg2\b(?!-binary)|pg_config"),
        "Or depend on psycopg2-binary or psycopg[binary], which bring what they need.",
    ),
    (re.compile(r"\bmysqlclient\b|mysql_config"), "Or depend on PyMySQL, which needs no compiler."),
)
PYTHON = re.compile(r"No interpreter found for Python (\d[\w.]*\w)")
MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


def of_build(text: str) -> str:
    """What to do about a failed installation or build of an app; empty when its output tells nothing known."""
    packages = _packages(text)
    if packages:
        wheel = next((f" {words}" for pattern, words in WHEELS if pattern.search(text)), "")
        return f"Add to the app in apps.yml: system_packages: [{', '.join(packages)}]{wheel}"
    header = BUILD[0][0].search(text)
    if header:
        return _search_for(header.group(1))
    python = PYTHON.search(text)
    if python:
        return f"Python {python.group(1)} is not on this host: run the whole deploy, whose role python installs it."
    return of_start(text)


def of_start(text: str) -> str:
    """What to do about an app that does not start, from its log; empty when that tells nothing known."""
    names = [name for pattern, names in OTHERWISE if pattern.search(text) for name in names]
    unknown = ""
    for found in LOADED.finditer(text):
        names += LIBRARIES.get(found.group(1), ())
        unknown = unknown or found.group(0).partition(":")[0].strip("'")
    if names:
        return f"Add to the app in apps.yml: system_packages: [{', '.join(dict.fromkeys(names))}]"
    if unknown:
        return _search_for(unknown)
    if CONNECTIONS.search(text):
        return "PostgreSQL has no connection left: raise postgres_max_connections (100 without it) in the inventory."
    module = MODULE.search(text)
    return f"Is {module.group(1)} among the app's dependencies, and in its lock file?" if module else ""


def _search_for(name: str) -> str:
    return (
        f"A Debian package that has {name} is missing. Find it with `apt-file search {name}`"
        " (or on packages.debian.org), and add it to the app's system_packages."
    )


def _packages(text: str) -> list[str]:
    """The Debian packages that a build's output asks for, each once."""
    names = [name for pattern, packages in WORDS if pattern.search(text) for name in packages]
    for pattern, tables in BUILD:
        for found in pattern.finditer(text):
            what = found.group(1)
            spellings = (what, what.rpartition("/")[2], what.lower())
            names += next((table[word] for table in tables for word in spellings if word in table), ())
    return list(dict.fromkeys(names))
