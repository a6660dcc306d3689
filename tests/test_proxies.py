"""What docs/operations.md has in front of the server, on a throw-away machine: nginx, Caddy, or nothing."""

import base64
import json
import re

import pytest
from examples import example
from haproxy import OPERATORS_PATHS
from installation import Installation

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]

NGINX = example("docs/operations.md", "nginx", "upstream")
CADDY = example("docs/operations.md", "caddyfile")
HAPROXY = example("docs/operations.md", "haproxy")
HAPROXY_START = example("docs/operations.md", "sh", "haproxy -c")
TWO_MORE = example("docs/operations.md", "sh", "chatapi@")
SECOND_TENANT = example("docs/operations.md", "sh", "tenant route")
SOCKET_UNIT = example("docs/operations.md", "ini", "socket.conf")
SOCKET_SETTINGS = example("docs/operations.md", "toml", "unix_socket")
PORT_UNIT = example("docs/operations.md", "ini", "port.conf")
ORIGINS = example("docs/operations.md", "toml", 'allowed_origins = ["https://app.example.com", "http')

PUBLIC = "https://chat.example.com"
SOCKET = "unix:/run/chatapi/chatapi.sock"
CERTIFICATE = """
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=chat.example.com \
    -keyout /etc/ssl/chat.example.com.key -out /etc/ssl/chat.example.com.pem 2>/dev/null
"""
RESOLVE = ("-k", "--resolve", "chat.example.com:443:127.0.0.1")
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


def start_nginx(installed: Installation, configuration: str) -> None:
    assert installed.run("command -v nginx || true"), "this takes nginx"
    installed.run("rm -f /etc/nginx/sites-enabled/*; systemctl stop nginx caddy || true" + CERTIFICATE)
    installed.machine.write("/etc/nginx/conf.d/chatapi.conf", configuration)
    installed.run("nginx -t; systemctl restart nginx")


def start_caddy(installed: Installation, configuration: str) -> None:
    """Its certificates are its own: nobody outside can be asked for one here."""
    assert installed.run("command -v caddy || true"), "this takes Caddy"
    installed.machine.write("/etc/caddy/Caddyfile", "{\n\tlocal_certs\n\tskip_install_trust\n}\n" + configuration)
    installed.run("caddy fmt --diff /etc/caddy/Caddyfile; systemctl stop nginx caddy || true; systemctl start caddy")


def use_socket(installed: Installation) -> None:
    installed.write(SOCKET_UNIT)
    [path] = re.findall(r"unix_socket = .*", SOCKET_SETTINGS)
    settings = installed.run("cat /etc/chatapi/chatapi.toml").replace("[server]\n", f"[server]\n{path}\n")
    installed.machine.write("/etc/chatapi/chatapi.toml", settings)
    installed.restart()


def check_proxy(installed: Installation) -> None:
    """A message there and back, a WebSocket, the operator's routes, and who is believed to have called."""

    def call(path: str, *options: str) -> str:
        return installed.curl(path, *RESOLVE, *options, url=PUBLIC)

    made = json.loads(call("/rooms", "-d", """'{"type": "group"}'"""))["data"]
    sent = call(f"/rooms/{made['room_id']}/messages", "-d", """'{"content": "Hello"}'""")
    assert json.loads(sent)["data"]["content"] == "Hello"
    for path in OPERATORS_PATHS:
        assert call(path, "--path-as-is", "-o", "/dev/null", "-w", "'%{http_code}'") == "404", path
    assert handshake(installed) == "101"
    assert handshake(installed, PUBLIC) == "101", "the server's own pages"
    assert handshake(installed, "https://app.example.com") == "101", "one of allowed_origins"
    assert handshake(installed, "https://elsewhere.example") == "403"
    wrong = " ".join(["-s", *RESOLVE, "-H X-API-Key:sk_wrong -H X-User-Id:alice -o /dev/null -w '%{http_code}\n'"])
    guess = f"curl {wrong} -H 'X-Forwarded-For: 192.0.2.'$n {PUBLIC}/rooms"
    # More than the 20 at once, since some are forgiven while a slow machine guesses.
    statuses = installed.run(
        f"for n in $(seq 200); do {guess} | tee /tmp/status; grep -q 429 /tmp/status && break; done"
    )
    assert statuses.split()[-2:] == ["401", "429"], "what a client says of its own address is not believed"


def handshake(installed: Installation, origin: str | None = None) -> str:
    """The status of its answer. curl waits for more after a 101."""
    headers = HANDSHAKE if origin is None else {**HANDSHAKE, "Origin": origin}
    options = [f"-H '{name}: {value}'" for name, value in headers.items()]
    options += ["--http1.1", "--max-time 2", "-o /dev/null", "-w '%{http_code}'", *RESOLVE]
    return installed.run(
        f"curl -s -H 'X-API-Key: {installed.key}' -H 'X-User-Id: alice' {' '.join(options)} {PUBLIC}/ws || true"
    )


def test_nginx(installed: Installation) -> None:
    start_nginx(installed, NGINX)
    check_proxy(installed)
    log = installed.run("cat /var/log/nginx/chatapi.log")
    assert '"GET /ws" 101' in log
    assert "?" not in log


def test_nginx_on_a_unix_socket(installed: Installation) -> None:
    use_socket(installed)
    start_nginx(installed, NGINX.replace("server 127.0.0.1:8080;", f"server {SOCKET};"))
    assert installed.run("ps -o user= -C nginx | sort -u").split() == ["root", "www-data"]
    check_proxy(installed)
    installed.run("systemctl kill --signal=KILL chatapi; sleep 1; systemctl start chatapi")
    assert handshake(installed) == "101", "after a crash, too"
    assert installed.tenant_id in installed.run("chatapi tenant list")
    installed.run(f"runuser -u nobody -- curl --silent --unix-socket {SOCKET[5:]} http://chat/livez", status=7)


def test_caddy(installed: Installation) -> None:
    start_caddy(installed, CADDY)
    check_proxy(installed)


def test_caddy_on_a_unix_socket(installed: Installation) -> None:
    use_socket(installed)
    start_caddy(installed, CADDY.replace("127.0.0.1:8080", f"unix/{SOCKET.removeprefix('unix:')}"))
    assert installed.run("ps -o user= -C caddy").split() == ["caddy"]
    check_proxy(installed)


def test_without_a_proxy_on_port_443(installed: Installation) -> None:
    installed.run(
        "systemctl stop nginx caddy || true" + CERTIFICATE + "chgrp chatapi /etc/ssl/chat.example.com.key; chmod 640 $_"
    )
    installed.write(PORT_UNIT)
    tls = 'port = 443\ntls_cert = "/etc/ssl/chat.example.com.pem"\ntls_key = "/etc/ssl/chat.example.com.key"\n'
    settings = installed.run("cat /etc/chatapi/chatapi.toml").replace("[server]\n", f"[server]\n{tls}")
    installed.machine.write("/etc/chatapi/chatapi.toml", settings)
    installed.restart()
    assert "livez" not in installed.curl("/livez", *RESOLVE, url=PUBLIC)
    assert handshake(installed) == "101"


def test_the_host_that_a_proxy_makes_up(installed: Installation) -> None:
    """Pages of the server itself, behind a proxy that passes its own name on: `public_url` says whose they are."""
    start_nginx(installed, NGINX.replace("proxy_set_header Host $http_host;", ""))
    assert handshake(installed, PUBLIC) == "101"
    settings = installed.run("cat /etc/chatapi/chatapi.toml")
    installed.machine.write("/etc/chatapi/chatapi.toml", re.sub("(?m)^public_url.*$", "", settings))
    installed.restart()
    assert handshake(installed, PUBLIC) == "403"
    installed.machine.write(
        "/etc/chatapi/chatapi.toml", re.sub("(?m)^allowed_origins.*$", ORIGINS.splitlines()[1], settings)
    )
    installed.restart()
    assert handshake(installed, "http://localhost:5173") == "101"


def test_from_one_server_to_three_behind_haproxy(installed: Installation) -> None:
    """As docs/operations.md grows beyond one machine, with a client that calls the first tenant all the time."""
    installed.run("systemctl stop nginx caddy || true" + CERTIFICATE)
    # Tests may have fewer descriptors than a machine.
    installed.machine.write("/etc/haproxy/haproxy.cfg", HAPROXY.replace("maxconn 20000", "maxconn 2000"))
    installed.run(HAPROXY_START)
    headers = f"-H 'X-API-Key: {installed.key}' -H 'X-User-Id: alice'"
    call = f"curl -s -o /dev/null -w '%{{http_code}}\n' {headers} {' '.join(RESOLVE)} {PUBLIC}/rooms"
    installed.run(
        f"(until [ -e /tmp/enough ]; do {call}; sleep 0.05; done) > /tmp/statuses 2>&1 & echo $! > /tmp/client"
    )
    installed.run(TWO_MORE)
    create, route = SECOND_TENANT.splitlines()
    made = installed.run(f"cd /; {create}")
    tenant_id = re.search(r"^tenant_id +(\S+)", made, re.MULTILINE)[1]
    installed.run(f"cd /; {route.replace('tenant_1', tenant_id)}; systemctl reload haproxy")
    assert installed.run("cat /etc/haproxy/chatapi-tenants.map").split() == [tenant_id, "b"]
    check_proxy(installed)
    first, installed.key = installed.key, re.search(r"^api_key +(sk_\S+)", made, re.MULTILINE)[1]
    try:
        # The first tenant's server must be back before HAProxy takes it for down, which depends on the machine.
        installed.run("touch /tmp/enough; while kill -0 $(cat /tmp/client); do sleep 0.1; done; systemctl stop chatapi")
        assert handshake(installed) == "101", "the second tenant needs the second server alone"
        installed.run("systemctl start chatapi")
    finally:
        installed.key = first
    assert "https://b.chat.example.com" in installed.run("cat /etc/chatapi/b.toml")
    assert "https://app.example.com" in installed.run("cat /etc/chatapi/b.toml")
    statuses = installed.run("cat /tmp/statuses").split()
    assert statuses
    assert set(statuses) == {"200"}
