"""Versions and markers of Python packages (PEP 440, PEP 508, and Poetry's ^ and ~), without a library. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

Key = tuple[int, tuple[int, ...], tuple[int, int], int, float]

VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[._-]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[._-]?(?P<pre_number>\d*))?"
    r"(?:[._-]?(?P<post>post|rev|r)[._-]?(?P<post_number>\d*)|-(?P<bare_post>\d+))?"
    r"(?:[._-]?(?P<dev>dev)[._-]?(?P<dev_number>\d*))?(?:\+[a-z0-9._-]+)?",
    re.IGNORECASE,
)
STAGES = {"a": -3, "alpha": -3, "b": -2, "beta": -2}  # the others (rc and its like): -1
CLAUSE = re.compile(r"(===|==|~=|!=|<=|>=|<|>|\^|~|=)?\s*([^\s,|<>=!~^]+)")
TOKEN = re.compile(r"\s*(?:(\(|\)|===|==|~=|!=|<=|>=|<|>)|'([^']*)'|\"([^\"]*)\"|([A-Za-z_][A-Za-z0-9_.]*))")
OF_VERSIONS = frozenset({"python_version", "python_full_version", "implementation_version"})


def key(text: str) -> Key | None:
    """What orders versions; None for a text that is no version."""
    found = VERSION.fullmatch(text.strip())
    if not found:
        return None
    release = tuple(int(part) for part in found["release"].split("."))
    while len(release) > 1 and release[-1] == 0:
        release = release[:-1]
    post = -1
    if found["post"] or found["bare_post"]:
        post = int(found["post_number"] or found["bare_post"] or 0)
    stage = (0, 0)
    if found["pre"]:
        stage = (STAGES.get(found["pre"].lower(), -1), int(found["pre_number"] or 0))
    elif found["dev"] and post < 0:
        stage = (-4, 0)
    dev = float(found["dev_number"] or 0) if found["dev"] else float("inf")
    return int(found["epoch"] or 0), release, stage, post, dev


def satisfies(version: str, wanted: str) -> bool:
    """Whether a version is among those wanted: ">=3.9,<4", "^3.1", "~3.1", "3.12.*", "*" or some of these by "||".

    Raises ValueError for a text that cannot be understood.
    """
    found = [_all(version, part) for part in re.split(r"\|\|?", wanted)]  # each, so that a wrong one is always told
    return any(found)


def _all(version: str, wanted: str) -> bool:
    left = CLAUSE.sub("", wanted)
    if left.strip(" ,"):
        raise ValueError(f"{wanted!r} is not a range of versions")
    found = [_one(version, operator or "==", bound) for operator, bound in CLAUSE.findall(wanted)]
    return all(found)


def _one(version: str, operator: str, bound: str) -> bool:
    if bound == "*":
        return True
    if operator == "===":
        return version == bound
    mine = key(version)
    if bound.endswith(".*"):
        prefix = _release(bound[:-2])
        inside = mine is not None and _padded(mine[1], len(prefix)) == prefix
        return not inside if operator == "!=" else inside
    other = key(bound)
    if mine is None or other is None:
        raise ValueError(f"{version!r} and {bound!r} cannot be compared")
    if operator in ("^", "~", "~="):
        return mine >= other and mine[1] < _end(operator, bound)
    if operator in ("==", "=", "!="):
        return (mine == other) is (operator != "!=")
    return {"<": mine < other, "<=": mine <= other, ">": mine > other, ">=": mine >= other}[operator]


def _release(text: str) -> tuple[int, ...]:
    found = VERSION.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a version")
    return tuple(int(part) for part in found["release"].split("."))


def _padded(release: tuple[int, ...], length: int) -> tuple[int, ...]:
    return (release + (0,) * length)[:length]


def _end(operator: str, bound: str) -> tuple[int, ...]:
    """The first release that a ^, ~ or ~= does not mean any more."""
    release = _release(bound)
    if operator == "^":
        place = next((number for number, part in enumerate(release) if part), len(release) - 1)
    elif operator == "~=":
        place = max(len(release) - 2, 0)
    else:
        place = min(1, len(release) - 1)
    return (*release[:place], release[place] + 1)


def holds(marker: str, environment: Mapping[str, str]) -> bool:
    """Whether a marker holds in an environment (of marker names); "" does. Raises ValueError for another grammar."""
    if not marker.strip():
        return True
    tokens = _tokens(marker)
    found = _either(tokens, environment)
    if tokens:
        raise ValueError(f"the marker {marker!r} is not understood")
    return found


def _tokens(marker: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    while at < len(marker.rstrip()):
        found = TOKEN.match(marker, at)
        if not found:
            raise ValueError(f"the marker {marker!r} is not understood")
        operator, single, double, word = found.groups()
        if operator or word in ("and", "or", "in", "not"):
            tokens.append(("operator", operator or word))
        elif word:
            tokens.append(("name", word))
        else:
            tokens.append(("text", single if single is not None else double))
        at = found.end()
    return tokens


def _next(tokens: list[tuple[str, str]], *operators: str) -> str:
    """Take the next token when it is one of these operators."""
    if tokens and tokens[0][0] == "operator" and tokens[0][1] in operators:
        return tokens.pop(0)[1]
    return ""


def _either(tokens: list[tuple[str, str]], environment: Mapping[str, str]) -> bool:
    found = _both(tokens, environment)
    while _next(tokens, "or"):
        found = _both(tokens, environment) or found
    return found


def _both(tokens: list[tuple[str, str]], environment: Mapping[str, str]) -> bool:
    found = _term(tokens, environment)
    while _next(tokens, "and"):
        found = _term(tokens, environment) and found
    return found


def _term(tokens: list[tuple[str, str]], environment: Mapping[str, str]) -> bool:
    if _next(tokens, "("):
        found = _either(tokens, environment)
        if not _next(tokens, ")"):
            raise ValueError("a marker's bracket is not closed")
        return found
    left, left_name = _value(tokens, environment)
    operator = _next(tokens, "===", "==", "~=", "!=", "<=", ">=", "<", ">", "in")
    if not operator and _next(tokens, "not") and _next(tokens, "in"):
        operator = "not in"
    right, right_name = _value(tokens, environment)
    return _compare(left, operator, right, {left_name, right_name} & OF_VERSIONS)


def _value(tokens: list[tuple[str, str]], environment: Mapping[str, str]) -> tuple[str, str]:
    if not tokens or tokens[0][0] == "operator":
        raise ValueError("a marker's comparison lacks a side")
    kind, text = tokens.pop(0)
    if kind == "text":
        return text, ""
    if text != "extra" and text not in environment:
        raise ValueError(f"the marker name {text!r} is not known")
    return environment.get(text, ""), text


def _compare(left: str, operator: str, right: str, of_versions: set[str]) -> bool:
    if operator in ("in", "not in"):
        inside = left in (re.split(r"[\s,]+", right) if of_versions else right)
        return inside is (operator == "in")
    if of_versions:
        try:
            return _one(left, operator, right)
        except ValueError:
            pass  # not versions after all: texts, as PEP 508 says
    orders = {"==": left == right, "===": left == right, "!=": left != right, "<": left < right, ">": left > right}
    orders |= {"<=": left <= right, ">=": left >= right}
    if operator not in orders:
        raise ValueError(f"a marker cannot compare {left!r} and {right!r} by {operator!r}")
    return orders[operator]
