"""HTTPS as browsers meet it: redirects, protocol versions, HTTP/2, certificates, and names that belong to nobody."""

from __future__ import annotations

import hashlib
import ssl
import time
from typing import Any

import pytest
from environment import App, Environment, Server
from on_host import Machine
from visitor import Visitor, unchecked

pytestmark = pytest.mark.on("web")

PATH = "/a%20path/?x=1&y=%C3%A9&x=2"
UNKNOWN = "nobody.zarpar-verify.test"


def test_http_leads_to_https(secure: App, visitor: Visitor) -> None:
    for domain in secure["domains"]:
        answer = visitor.ask(f"http://{domain}{PATH}")
        assert (answer.status, answer.header("Location")) == (308, f"https://{secure['canonical']}{PATH}"), str(answer)


def test_other_names_lead_to_the_canonical_one(app: App, site: str, visitor: Visitor) -> None:
    if len(app["domains"]) == 1:
        pytest.skip(f"{app['name']} has one domain")
    scheme = site.split(":")[0]
    for domain in app["domains"][1:]:
        answer = visitor.ask(f"{scheme}://{domain}{PATH}")
        assert (answer.status, answer.header("Location")) == (308, f"{site}{PATH}"), str(answer)


def test_a_posted_form_is_not_lost_in_the_redirect(secure: App, visitor: Visitor) -> None:
    """308 makes a browser send the same request again; 301 would turn a POST into a GET."""
    answer = visitor.ask(f"http://{secure['canonical']}/", method="POST", body=b"a=b")
    assert answer.status == 308, str(answer)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_current_tls_is_accepted(secure: App, visitor: Visitor, version: str) -> None:
    context = unchecked()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with visitor.handshake(secure["canonical"], context) as link:
        assert link.version() == version.replace("_", ".")
        cipher = link.cipher()
    assert cipher, "no cipher was agreed on"
    assert "GCM" in cipher[0] or "CHACHA20" in cipher[0], f"a weak cipher: {cipher}"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_tls_is_refused(secure: App, visitor: Visitor, version: str) -> None:
    if not getattr(ssl, f"HAS_{version}"):
        pytest.skip(f"this machine's OpenSSL cannot speak {version}")
    context = unchecked()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with pytest.raises(ssl.SSLError) as refused:
        visitor.handshake(secure["canonical"], context)
    assert "ALERT_PROTOCOL_VERSION" in str(refused.value.reason), f"not the server refused it: {refused.value}"


def test_keys_are_agreed_on_safe_from_quantum_computers(secure: App, machine: Machine) -> None:
    if machine.facts["version"] < 13:
        pytest.skip("Debian 12's OpenSSL does not know X25519MLKEM768")
    command = "openssl s_client -connect 127.0.0.1:443 -servername %s </dev/null 2>/dev/null"
    assert "X25519MLKEM768" in machine.check(command, secure["canonical"])


def test_http2(secure: App, visitor: Visitor) -> None:
    with visitor.handshake(secure["canonical"], unchecked("h2", "http/1.1")) as link:
        assert link.selected_alpn_protocol() == "h2"
        settings = bytes(3) + b"\x04" + bytes(5)  # an empty SETTINGS frame
        link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        frame = link.recv(9)
    assert frame[3:4] == b"\x04", f"HTTP/2 begins with SETTINGS, not with {frame!r}"


def test_http1_is_spoken_too(secure: App, visitor: Visitor) -> None:
    with visitor.handshake(secure["canonical"], unchecked("http/1.1")) as link:
        assert link.selected_alpn_protocol() == "http/1.1"


def test_certificate_is_trusted_for_every_name(
    environment: Environment, server: Server, secure: App, visitor: Visitor
) -> None:
    if server.settings["certbot_staging"]:
        pytest.skip("certbot_staging: nobody trusts these certificates, on purpose")
    context = ssl.create_default_context(cafile=environment.trust or None)
    for domain in secure["domains"]:
        try:
            visitor.handshake(domain, context).close()
        except ssl.SSLCertVerificationError as error:
            pytest.fail(f"{domain}: {error.verify_message}. Trusted: {environment.trust or 'what this system trusts'}")


def test_certificate_will_last(secure: App, machine: Machine) -> None:
    """certbot renews when a third of the lifetime is left: with less than a sixth, renewals fail."""
    shown = machine.check("openssl x509 -noout -dates -in %s", f"/etc/zarpar/tls/{secure['name']}/fullchain.pem")
    start, end = (ssl.cert_time_to_seconds(line.partition("=")[2]) for line in shown.splitlines())
    left = (end - time.time()) / (end - start)
    assert left > 1 / 6, f"{shown}\nLook at: journalctl -u certbot.service"


def test_certificate_on_disk_is_the_one_shown(secure: App, machine: Machine, visitor: Visitor) -> None:
    """A renewed certificate is of no use before nginx has loaded it."""
    chain = machine.check("cat %s", f"/etc/zarpar/tls/{secure['name']}/fullchain.pem")
    first = chain.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    for domain in secure["domains"]:
        assert fingerprint(ssl.PEM_cert_to_DER_cert(first)) == fingerprint(shown_to(visitor, domain)), domain


@pytest.mark.parametrize("name", [UNKNOWN, ""], ids=["unknown name", "no name"])
def test_unknown_name_gets_no_certificate(secure: App, visitor: Visitor, name: str) -> None:
    with pytest.raises(ssl.SSLError) as refused:
        visitor.handshake(name, unchecked())
    assert "UNRECOGNIZED_NAME" in str(refused.value.reason), refused.value


def test_unknown_name_gets_no_answer_by_http(visitor: Visitor) -> None:
    for host in (UNKNOWN, visitor.address):
        answer = visitor.raw(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert answer == b"", f"{host} is answered: {answer[:200]!r}"
    assert visitor.raw(b"GET / HTTP/1.0\r\n\r\n") == b"", "a request without a name is answered"


def test_name_of_the_handshake_does_not_open_other_names(secure: App, visitor: Visitor) -> None:
    request = f"GET / HTTP/1.1\r\nHost: {UNKNOWN}\r\n\r\n".encode()
    answer = visitor.raw(request, name=secure["canonical"])
    assert answer == b"" or b" 421 " in answer.splitlines()[0], answer[:200]


def fingerprint(certificate: bytes) -> str:
    return hashlib.sha256(certificate).hexdigest()


def shown_to(visitor: Visitor, name: str) -> bytes:
    with visitor.handshake(name, unchecked()) as link:
        certificate: Any = link.getpeercert(binary_form=True)
    assert certificate, f"{name}: no certificate is shown"
    return bytes(certificate)
