"""What ssh, sudo and Ansible say, and what a person is told to do about it."""

from __future__ import annotations

from typing import Any

import pytest

from zarpar.diagnosis import diagnose, explain, plain

CHANGED_KEY = """Failed to connect to the host via ssh: @@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
Offending ECDSA key in /home/me/.ssh/known_hosts:3
  remove with:
  ssh-keygen -f '/home/me/.ssh/known_hosts' -R '192.0.2.7'
Host key verification failed."""
PIPED = 'Data could not be sent to remote host "192.0.2.7". Make sure this host can be reached over ssh: '
SSH = "Task failed: Failed to connect to the host via ssh: "


@pytest.mark.parametrize(
    ("said", "kind", "summary", "hint"),
    [
        (CHANGED_KEY, "unreachable", "its SSH host key is not the one that is known", "ssh-keygen -R 192.0.2.7"),
        (
            f"{SSH}Host key verification failed.",
            "unreachable",
            "its SSH host key is not known yet",
            "provider's console: ssh web1",
        ),
        (
            f"{SSH}me@192.0.2.7: Permission denied (publickey).",
            "unreachable",
            "SSH login refused",
            "ssh me@192.0.2.7",
        ),
        (
            f"{SSH}ssh: Could not resolve hostname web.example.com: Name or service not known",
            "unreachable",
            "its name does not resolve",
            "getent hosts web.example.com",
        ),
        (
            f"{SSH}ssh: connect to host 192.0.2.7 port 22: Connection refused",
            "unreachable",
            "no SSH connection",
            "ssh 192.0.2.7",
        ),
        (
            f"{SSH}ssh: connect to host 192.0.2.7 port 22: Connection timed out",
            "unreachable",
            "no SSH connection",
            "firewall: ssh 192.0.2.7",
        ),
        (
            f"{PIPED}Host key verification failed.",
            "unreachable",
            "its SSH host key is not known yet",
            "provider's console: ssh 192.0.2.7",
        ),
        (
            f"{PIPED}me@192.0.2.7: Permission denied (publickey,password).",
            "unreachable",
            "SSH login refused",
            "ssh me@192.0.2.7",
        ),
        ("sudo: a password is required", "no_sudo", "no right to become root with sudo", "ansible_become_password"),
        ("Missing sudo password", "no_sudo", "no right to become root with sudo", "ansible_become_password"),
        (
            "unit zarpar-redis@shop.service: systemctl start zarpar-redis@shop.service failed\nx\n# Warning: Could not"
            " create server TCP listening socket 127.0.0.1:25107: bind: Address already in use\n# Failed listening",
            "failed",
            "unit zarpar-redis@shop.service: systemctl start zarpar-redis@shop.service failed",
            "redis_port",
        ),
        (
            "Attempting to decrypt but no vault secrets found.",
            "bad_data",
            "Attempting to decrypt but no vault secrets found.",
            "export ANSIBLE_VAULT_PASSWORD_FILE=",
        ),
    ],
)
def test_well_known_words(said: str, kind: str, summary: str, hint: str) -> None:
    failure = diagnose("web1", "Preflight: Check the host", {"msg": said})
    assert (failure.kind, failure.summary) == (kind, summary)
    assert hint in failure.hint


@pytest.mark.parametrize(
    ("result", "kind", "summary", "detail", "hint"),
    [
        ({"msg": "one\ntwo\nthree"}, "failed", "one", "two\nthree", ""),
        ({"msg": "gone", "unreachable": True}, "unreachable", "gone", "", ""),
        (
            {"msg": "shop: ill\nlog\nlook there", "zarpar": {"error": "unhealthy", "hint": "look there"}},
            "unhealthy",
            "shop: ill",
            "log",
            "look there",
        ),
        (
            {"msg": "non-zero return code", "rc": 3, "stderr": "boom", "stdout": "out"},
            "failed",
            "failed with exit code 3",
            "non-zero return code\nboom\nout",
            "",
        ),
        ({}, "failed", "failed", "", ""),
        ({"msg": None, "zarpar": "odd"}, "failed", "failed", "", ""),
        ({"results": [{"msg": "fine"}, {"failed": True, "msg": "the second"}]}, "failed", "the second", "", ""),
    ],
)
def test_results(result: dict[str, Any], kind: str, summary: str, detail: str, hint: str) -> None:
    failure = diagnose("web1", "nginx: Apply", result)
    assert (failure.kind, failure.summary, failure.detail, failure.hint) == (kind, summary, detail, hint)


def test_a_hidden_result_says_that_it_is_hidden() -> None:
    failure = diagnose("web1", "nginx: Apply", {"censored": "the output has been hidden"})
    assert failure.summary == "failed"
    assert "no_log" in failure.detail


@pytest.mark.parametrize(
    ("said", "summary", "detail"),
    [
        ("[WARNING]: odd\n[ERROR]: no such module\nOrigin: site.yml", "no such module", "Origin: site.yml"),
        ("ERROR: Ansible requires UTF-8", "Ansible requires UTF-8", ""),
        ("", "ansible-playbook ended without a word", ""),
    ],
)
def test_a_run_that_no_task_explains(said: str, summary: str, detail: str) -> None:
    failure = explain(said, "bad_data")
    assert (failure.summary, failure.detail, failure.kind) == (summary, detail, "bad_data")


def test_a_host_cannot_steer_the_terminal() -> None:
    said = "\x1b[2J\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07 a\r\nb\tc\u202e"
    assert plain(said) == "red ]0;title a\nb\tc"


def test_a_python_that_uv_cannot_get() -> None:
    said = "uv python install failed\nerror: No download found for request: cpython-3.12.77-linux-x86_64-gnu"
    failure = diagnose("web1", "python", {"msg": said})
    assert failure.summary == "uv has no such Python to install"
    assert "3.12.77" in failure.detail
    assert 'python: "3.12"' in failure.hint


def test_a_refused_connection_of_a_program_on_the_host_is_not_ssh_s() -> None:
    said = "shop: the app's dependencies could not be installed\ntcp connect error: Connection refused (os error 111)"
    result: dict[str, Any] = {"msg": said, "zarpar": {"error": "build", "hint": "Is the index up?"}}
    failure = diagnose("web1", "app_release: Prepare", result)
    assert (failure.kind, failure.hint) == ("build", "Is the index up?")
    assert failure.summary == "shop: the app's dependencies could not be installed"
    failure = diagnose("web1", "app_release: Prepare", {**result, "zarpar": {"error": "unreachable"}})
    assert (failure.kind, failure.summary) == ("unreachable", "no SSH connection")
