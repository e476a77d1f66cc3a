"""Certificates: a self-signed placeholder, so that nginx always starts, and the real one by certbot (webroot).

/etc/zarpar/tls/<app> is a link to the folder with fullchain.pem and privkey.pem that nginx reads: the
placeholder's, then certbot's. So there is no first run without port 443, and no order to get wrong.
"""

from __future__ import annotations

import http.client
import re
import secrets
import socket
import ssl
import time
from pathlib import Path

from zarpar_host.context import Context, Item
from zarpar_host.errors import HostError
from zarpar_host.files import replace_link
from zarpar_host.run import run

LINKS = Path("/etc/zarpar/tls")
PLACEHOLDERS = Path("/var/lib/zarpar/tls")
LETSENCRYPT = Path("/etc/letsencrypt")


def placeholder(context: Context, item: Item) -> bool:
    """A self-signed certificate for an app that has none; one that is there stays, whoever made it."""
    name = item["placeholder_certificate"]
    link = LINKS / name
    if (link / "fullchain.pem").is_file() and (link / "privkey.pem").is_file():
        return False
    context.will_change(link)
    if context.check:
        return True
    folder = PLACEHOLDERS / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    LINKS.mkdir(mode=0o755, parents=True, exist_ok=True)
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    argv += ["-days", "3650", "-subj", "/CN=placeholder", "-addext", f"subjectAltName=DNS:{item['domain']}"]
    run([*argv, "-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")])
    (folder / "privkey.pem").chmod(0o600)
    replace_link(link, str(folder))
    return True


def certificate(context: Context, item: Item) -> bool:
    """A certificate for exactly these domains from this ACME server, and nginx's link on it.

    Whether nginx must reload is asked of nginx itself: the certificate that it shows against the one on disk.
    """
    name = item["certificate"]
    live = LETSENCRYPT / "live" / name
    link = LINKS / name
    wanted = _is_as_wanted(live, item)
    linked = link.is_symlink() and str(link.readlink()) == str(live)
    if context.check:
        if not (wanted and linked):
            context.changed_paths.append(link)
        return not (wanted and linked)
    if not wanted:
        _issue(item)
    if not linked:  # not part of the transaction: what is issued stays, whatever fails after it
        context.changed_paths.append(link)
        LINKS.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_link(link, str(live))
    if _shown_differs(item["domains"][0], live / "fullchain.pem") and link not in context.changed_paths:
        context.changed_paths.append(link)
    return not (wanted and linked)


def names_of(certificate_file: Path) -> set[str]:
    """The DNS names in a certificate."""
    done = run(["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(certificate_file)], check=False)
    return set(re.findall(r"DNS:([^,\s]+)", done.out))


def expires_within(certificate_file: Path, seconds: int) -> bool:
    """Whether a certificate ends in less than this time."""
    argv = ["openssl", "x509", "-noout", "-checkend", str(seconds), "-in", str(certificate_file)]
    return run(argv, check=False).code != 0


def _is_as_wanted(live: Path, item: Item) -> bool:
    chain = live / "fullchain.pem"
    if not chain.is_file() or not (live / "privkey.pem").is_file():
        return False
    return (
        _server_of(live.name) == item["server"]
        and names_of(chain) == set(item["domains"])
        and not expires_within(chain, 0)
    )


def _server_of(name: str) -> str:
    settings = LETSENCRYPT / "renewal" / f"{name}.conf"
    found = re.search(r"^server = (\S+)", settings.read_text(), re.M) if settings.is_file() else None
    return found.group(1) if found else ""


def _issue(item: Item) -> None:
    name, domains = item["certificate"], list(item["domains"])
    known = _server_of(name)
    argv = ["certbot", "certonly", "--non-interactive", "--agree-tos", "--server", item["server"]]
    argv += ["-m", item["email"]] if item.get("email") else ["--register-unsafely-without-email"]
    argv += ["--webroot", "-w", item["webroot"], "--cert-name", name, "--renew-with-new-domains"]
    argv += ["--force-renewal"] if known and known != item["server"] else ["--keep-until-expiring"]
    for domain in domains:
        argv += ["-d", domain]
    environment = {"REQUESTS_CA_BUNDLE": item["ca_bundle"]} if item.get("ca_bundle") else {}
    done = run(argv, check=False, timeout=300, env=environment)
    if done.code == 0:
        return
    reasons = [reason for domain in domains for reason in diagnose(domain, Path(item["webroot"]))]
    raise HostError(
        f"no certificate for {', '.join(domains)}",
        detail="\n".join([*reasons, _problem(done.out + done.err)]),
        hint="Mend the DNS record or the firewall named above and run again; until then the app can be served"
        " without HTTPS by `tls: 'off'`.",
        kind="certificate",
    )


def _problem(output: str) -> str:
    """The part of certbot's output that says what the ACME server saw."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    marked = [line for line in lines if re.match(r"(Domain|Type|Detail|Hint|An unexpected error|\S*Error)\b", line)]
    return "\n".join(marked or lines[-8:])


def diagnose(domain: str, webroot: Path) -> list[str]:
    """Say in plain words why an ACME server cannot reach this host under a name; empty when it can.

    A random token is served on port 80 and fetched back from every address of the name: only this very host
    can answer it.
    """
    try:
        found = socket.getaddrinfo(domain, 80, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return [f"{domain} has no address in the DNS: add an A record that points to this server."]
    token = secrets.token_hex(16)
    challenge = webroot / ".well-known" / "acme-challenge" / f"zarpar-{token}"
    challenge.parent.mkdir(parents=True, exist_ok=True)
    challenge.write_text(token)
    challenge.chmod(0o644)
    try:
        addresses = sorted({str(entry[4][0]) for entry in found})
        return [reason for address in addresses if (reason := _probe(domain, address, challenge.name, token))]
    finally:
        challenge.unlink(missing_ok=True)


def _probe(domain: str, address: str, name: str, token: str) -> str:
    record = "AAAA" if ":" in address else "A"
    connection = http.client.HTTPConnection(address, 80, timeout=5)
    try:
        connection.request("GET", f"/.well-known/acme-challenge/{name}", headers={"Host": domain})
        response = connection.getresponse()
        body = response.read(200).decode(errors="replace")
    except OSError as error:
        return f"{domain}: port 80 of {address} (its {record} record) does not answer ({error}): is a firewall closed?"
    finally:
        connection.close()
    if body.strip() != token:
        return f"{domain}: its {record} record points to {address}, which is another server (HTTP {response.status})."
    return ""


def _shown_differs(domain: str, chain: Path) -> bool:
    """Whether nginx, asked for this name on port 443, shows another certificate than the file's first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only compared with the file, byte by byte
    try:
        with (
            socket.create_connection(("127.0.0.1", 443), timeout=3) as raw,
            context.wrap_socket(raw, server_hostname=domain) as connection,
        ):
            shown = connection.getpeercert(binary_form=True)
    except OSError:
        return True
    first = chain.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    return shown != ssl.PEM_cert_to_DER_cert(first)


def days_left(certificate_file: Path) -> int | None:
    """Whole days until a certificate ends; None when it cannot be read."""
    done = run(["openssl", "x509", "-noout", "-enddate", "-in", str(certificate_file)], check=False)
    _, _, end = done.out.strip().partition("=")
    return int((ssl.cert_time_to_seconds(end) - time.time()) // 86_400) if end else None
