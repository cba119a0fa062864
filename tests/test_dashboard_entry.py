"""The door of the dashboard: who gets in, what a POST must bring, what every answer says to browsers."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import httpx
import pytest
from dashboard_kit import ADMIN, CLIENT, KEYS, Visitor, login, secret, settings
from gateway_kit import StartGateway
from ledger_kit import query, until

from proxy.cli import main
from proxy.dashboard.fields import MOST_FIELDS
from proxy.dashboard.pages import PAGES
from proxy.dashboard.sessions import ATTEMPTS
from proxy.errors import RateLimited

GUARDED = [page for page in PAGES if not page.open and not page.bare]


def test_an_admin_key_opens_it_and_logging_out_closes_it(
    gateway: StartGateway, tmp_path: Path
) -> None:
    door = gateway("", settings(tmp_path))
    visitor = Visitor(door)
    asked = visitor.get()
    assert (asked.status_code, asked.headers["location"]) == (
        303,
        "/dashboard/login?next=/dashboard",
    )
    assert "boss" not in visitor.get("/login").text
    entered = visitor.login()
    assert (entered.status_code, entered.headers["location"]) == (303, "/dashboard")
    said = entered.headers["set-cookie"]
    assert "HttpOnly" in said
    assert "SameSite=Strict" in said
    assert "Max-Age=43200" in said
    assert "Secure" not in said  # it is not there over plain HTTP, or nobody could log in
    home = visitor.get()
    assert home.status_code == 200
    assert "boss" in home.text
    cookie = visitor.http.cookies["doorman_session"]
    kept = query(tmp_path, "SELECT * FROM doorman_sessions")
    assert [row["name"] for row in kept] == ["boss"]
    assert cookie not in str(kept)
    assert visitor.post("/logout").headers["location"] == "/dashboard/login"
    assert query(tmp_path, "SELECT * FROM doorman_sessions") == []
    visitor.http.cookies.set("doorman_session", cookie, path="/dashboard")
    assert visitor.get().status_code == 303


@pytest.mark.parametrize("key", ["", "wrong", "dm-" + "a" * 43, ADMIN + " x", CLIENT, "é" * 600])
def test_no_other_key_opens_it(gateway: StartGateway, tmp_path: Path, key: str) -> None:
    visitor = Visitor(gateway("", settings(tmp_path)))
    answer = visitor.login(key)
    assert answer.status_code == 403
    assert "doorman_session" not in visitor.http.cookies
    assert not key or key not in answer.text
    assert visitor.get().status_code == 303


def test_every_page_is_behind_the_login(gateway: StartGateway, tmp_path: Path) -> None:
    door = gateway("", settings(tmp_path))
    for guarded in GUARDED:
        path = guarded.path.replace("{", "").replace("}", "")
        for method in guarded.methods:
            answer = httpx.request(method, f"{door.url}{path}")
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/dashboard/login"), path
            assert "boss" not in answer.text


def test_the_end_of_a_key_ends_its_sessions(gateway: StartGateway, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(settings(tmp_path))
    door = gateway("", settings(tmp_path))
    visitor = login(door)
    made = visitor.post("/keys/create", of="/keys", name="second", admin="on")
    other = login(door, secret(made))
    assert "second" in other.get().text
    assert main(["keys", "revoke", "second", "-c", str(config)]) == 0  # by somebody else
    until(lambda: other.get().status_code == 303)
    assert visitor.get().status_code == 200


def test_a_session_ends_by_itself(gateway: StartGateway, tmp_path: Path) -> None:
    door = gateway("", settings(tmp_path, "dashboard: {session_hours: 1}"))
    visitor = login(door)
    assert visitor.get().status_code == 200
    desk = door.app.state.desk
    clock = desk.sessions._clock
    desk.sessions._clock = lambda: clock() + 3601
    assert visitor.get().status_code == 303
    assert visitor.get("", headers={"hx-request": "true"}).headers["hx-redirect"]


def test_logins_that_fail_are_counted(
    gateway: StartGateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    door = gateway("", settings(tmp_path))
    visitor = Visitor(door)
    token = visitor.token("/login")

    def attempt(key: str) -> httpx.Response:
        return visitor.http.post("/dashboard/login", data={"csrf": token, "key": key})

    with caplog.at_level(logging.INFO):
        answers = [attempt(f"guess-number-{n}") for n in range(ATTEMPTS)]
        assert {answer.status_code for answer in answers} == {403}
        refused = attempt(ADMIN)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "guess-number" not in caplog.text
    # A key that was made, not chosen, cannot be found by trying: its holder is not locked out.
    assert attempt(f"dm-{'x' * 43}").status_code == 403
    attempts = door.app.state.desk.attempts
    attempts.count("192.0.2.7")  # others may still try
    with pytest.raises(RateLimited):
        attempts.count("127.0.0.1")
    clock = attempts._clock
    attempts._clock = lambda: clock() + 61
    assert attempt(ADMIN).status_code == 303


def test_a_post_needs_the_token_of_its_own_session(gateway: StartGateway, tmp_path: Path) -> None:
    door = gateway("", settings(tmp_path))
    mine, other = login(door), login(door)
    form = {"name": "made", "csrf": ""}
    for token in ("", "x", other.token(), Visitor(door).token("/login")):
        answer = mine.http.post("/dashboard/keys/create", data={**form, "csrf": token})
        assert answer.status_code == 403, token
    asked = {**form, "csrf": mine.token()}
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ):
        answer = mine.http.post("/dashboard/keys/create", data=asked, headers=headers)
        assert answer.status_code == 403, headers
        assert "another site" in answer.text
    assert query(tmp_path, "SELECT name FROM doorman_keys") == []
    for headers in ({"sec-fetch-site": "same-origin"}, {"origin": door.url}, {}):
        assert mine.http.post("/dashboard/logout", data=asked, headers=headers).status_code == 303
        mine = login(door)
        asked = {"csrf": mine.token()}


def test_a_login_needs_a_token_too(gateway: StartGateway, tmp_path: Path) -> None:
    door = gateway("", settings(tmp_path))
    answer = httpx.post(f"{door.url}/dashboard/login", data={"key": ADMIN})
    assert answer.status_code == 403
    assert "doorman_session" not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {"content-type": "application/json"}, 415),
        (b"csrf=%zz%ff", {}, 400),
        (b"a=1&" * (MOST_FIELDS + 1), {}, 400),
        ("csrf=é".encode(), {}, 400),
        (b"key=" + b"a" * (1 << 20), {}, 413),
    ],
)
def test_odd_forms_are_refused(
    gateway: StartGateway, tmp_path: Path, body: bytes, headers: dict[str, str], status: int
) -> None:
    door = gateway("", settings(tmp_path))
    headers = {"content-type": "application/x-www-form-urlencoded", **headers}
    answer = httpx.post(f"{door.url}/dashboard/login", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "path", ["/login", "/nowhere", "/static/style.css", "/static/%2e%2e/kit.py", ""]
)
def test_headers_of_every_answer(gateway: StartGateway, tmp_path: Path, path: str) -> None:
    answer = Visitor(gateway("", settings(tmp_path))).get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    if "static" not in path:
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/%64ashboard", "/dashboard%2flogin", "/%64ashboard/login", "/dashboar%64/decisions/x"]
)
def test_a_page_has_one_spelling(gateway: StartGateway, tmp_path: Path, path: str) -> None:
    door = gateway("", settings(tmp_path))
    with socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2]))) as sock:
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
        )
        answer = sock.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 404"), answer[:200]


def test_static_files_are_named_by_their_content(gateway: StartGateway, tmp_path: Path) -> None:
    visitor = Visitor(gateway("", settings(tmp_path)))
    page = visitor.get("/login").text
    found = [part.split('"')[0] for part in page.split("/dashboard/static/")[1:]]
    assert any(name.startswith("vendor/htmx.min.js?v=") for name in found)
    for name in found:
        answer = visitor.get(f"/static/{name}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert visitor.get("/static/style.css?v=old").headers["cache-control"] == "no-cache"
    for name in ("nothing.js", "%2e%2e/kit.py", "vendor"):
        assert visitor.get(f"/static/{name}").status_code == 404


def test_the_cookie_is_secure_over_https(gateway: StartGateway, tmp_path: Path) -> None:
    visitor = Visitor(gateway("", settings(tmp_path)))
    fields = {"csrf": visitor.token("/login"), "key": ADMIN}
    headers = {"x-forwarded-proto": "https"}
    answer = visitor.http.post("/dashboard/login", data=fields, headers=headers)
    assert "; Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/v1/models", "/dashboard/../x", "/dashboard?x=1"],
)
def test_a_login_leads_nowhere_else(gateway: StartGateway, tmp_path: Path, target: str) -> None:
    visitor = Visitor(gateway("", settings(tmp_path)))
    answer = visitor.post("/login", of="/login", key=ADMIN, next=target)
    assert answer.headers["location"] == "/dashboard"


def test_without_keys_it_is_for_this_machine_alone(gateway: StartGateway, tmp_path: Path) -> None:
    door = gateway("", settings(tmp_path, keys=""))
    visitor = Visitor(door)
    assert visitor.get().status_code == 200
    port = door.url.rpartition(":")[2]
    for host in ("localhost", "127.0.0.1", "[::1]"):
        assert visitor.get("", headers={"host": f"{host}:{port}"}).status_code == 200
    for headers in (
        {"host": f"evil.example:{port}"},  # a name that was made to point here
        {"host": "127.0.0.1.evil.example"},
        {"host": "[not"},
        {"x-forwarded-for": "192.0.2.1"},  # a proxy on this machine
        {"forwarded": "for=192.0.2.1"},
    ):
        answer = visitor.get("", headers=headers)
        assert answer.status_code == 403, headers
        assert "doorman keys create" in answer.text
    assert visitor.post("/logout").headers["location"] == "/dashboard"
    assert visitor.http.post("/dashboard/logout", data={"csrf": ""}).status_code == 403


def test_keys_of_clients_alone_close_it(gateway: StartGateway, tmp_path: Path) -> None:
    visitor = Visitor(gateway("", settings(tmp_path, keys=f"keys: [{{name: a, key: {CLIENT}}}]")))
    for path in ("", "/login"):
        answer = visitor.get(path)
        assert answer.status_code == 403
        assert "doorman keys create NAME --admin" in answer.text


def test_without_a_database_sessions_are_kept_in_memory(gateway: StartGateway) -> None:
    visitor = login(gateway("", KEYS))
    assert "There is no ledger" in visitor.get().text
    answer = visitor.get("/decisions")
    assert answer.status_code == 503
    assert "ledger" in answer.text
    assert visitor.get("/playground").status_code == 200
    assert visitor.post("/logout", of="/keys").status_code == 303
    assert visitor.get().status_code == 303


def test_workers_without_a_database_share_no_logins(gateway: StartGateway) -> None:
    visitor = Visitor(gateway("", f"{KEYS}\nserver: {{workers: 2}}"))
    for path in ("", "/login"):
        answer = visitor.get(path)
        assert answer.status_code == 403
        assert "ledger.url" in answer.text


def test_it_can_be_switched_off(gateway: StartGateway) -> None:
    door = gateway("", "dashboard: {enabled: false}")
    assert httpx.get(f"{door.url}/dashboard").status_code == 404
