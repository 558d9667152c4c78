"""Who gets in, and what another site's page can do through somebody's browser: nothing."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from audiorep.errors import AudiorepError
from audiorep.label.guard import COOKIE, Guard, check_address, is_loopback

TOKEN = "a long & random 'one' =/;ü"
HERE = "http://127.0.0.1:8765"
JSON = {"content-type": "application/json"}


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse("let in")


def client(token: str | None = None, base: str = HERE) -> TestClient:
    routes = [Route(path, echo, methods=["GET", "POST", "DELETE"]) for path in ("/", "/api/answer")]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, token=token)])
    return TestClient(app, base_url=base, follow_redirects=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.9.1", "::1"])
def test_loopback_needs_no_token(host):
    assert is_loopback(host)
    check_address(host, None)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "192.168.1.4", "::", "example.org", "", "127.0.0.1.example.org", "localhost."]
)
def test_an_address_that_others_can_reach_is_refused_without_a_token(host):
    with pytest.raises(AudiorepError, match="set token=.*TLS") as refused:
        check_address(host, None)
    assert "\n" not in str(refused.value)
    check_address(host, TOKEN)


@pytest.mark.parametrize("token", ["", "secret", "x" * 15])
def test_a_short_token_is_refused_wherever(token):
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(AudiorepError, match="token"):
            check_address(host, token)


@pytest.mark.parametrize(
    "host",
    ["evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "", "[::1", "a@b@c", "[fe80::1]"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_a_token_a_foreign_host_name_is_refused(host, method):
    """DNS rebinding: a name of the attacker's that has come to mean 127.0.0.1."""
    answer = client().request(method, "/api/answer", headers={"host": host, **JSON})
    assert answer.status_code == 403 and "127.0.0.1 and localhost only" in answer.json()["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost", "LOCALHOST:80", "[::1]:8765"])
def test_without_a_token_this_machine_gets_in(host):
    assert client().get("/", headers={"host": host}).text == "let in"
    assert client().post("/api/answer", headers={"host": host, **JSON}).text == "let in"


def test_a_token_comes_by_address_once_and_stays_as_a_cookie_that_scripts_cannot_read():
    page = client(TOKEN, "http://192.168.1.4:8765")
    assert page.get("/").status_code == 401
    answer = page.get("/", params={"token": TOKEN})
    assert answer.status_code == 303 and answer.headers["location"] == "/"  # without the token
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "secure" not in cookie
    assert COOKIE in page.cookies
    assert page.get("/").text == "let in"
    assert page.post("/api/answer", headers=JSON).text == "let in"


def test_behind_tls_the_cookie_never_goes_without():
    answer = client(TOKEN, "https://labels.example").get("/", params={"token": TOKEN})
    assert "secure" in answer.headers["set-cookie"].lower()


def test_the_token_does_not_send_anybody_to_another_site():
    page = client(TOKEN)
    for path in ("//evil.example/", "/\\evil.example"):
        answer = page.get(HERE + path, params={"token": TOKEN})
        assert answer.headers["location"] in ("/evil.example/", "/evil.example")


def test_a_token_comes_by_header_for_programs():
    bearer = {"authorization": "Bearer " + "t" * 20}
    assert client("t" * 20).get("/", headers=bearer).text == "let in"
    assert client("t" * 20).post("/api/answer", headers=bearer | JSON).text == "let in"


@pytest.mark.parametrize("wrong", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper()])
def test_a_wrong_token_is_refused_however_it_comes(wrong):
    page = client(TOKEN)
    assert page.get("/", params={"token": wrong}).status_code == 401
    assert page.get("/", headers={"authorization": f"Bearer {wrong}".encode()}).status_code == 401
    assert page.get("/", headers={"cookie": f"{COOKIE}={wrong}".encode()}).status_code == 401
    assert page.get("/").status_code == 401


def test_a_token_in_the_address_of_a_write_does_not_let_it_in():
    assert client(TOKEN).post("/api/answer", params={"token": TOKEN}, headers=JSON).status_code == 401


def test_cookies_of_other_programs_on_this_machine_do_not_hide_ours():
    page = client("t" * 20)
    kept = page.get("/", params={"token": "t" * 20}).headers["set-cookie"].split(";")[0]
    page.cookies.clear()
    for others in ('layout={"a": [1, 2]}', "_xsrf=2|8|9", "odd", 'q="unclosed'):
        assert page.get("/", headers={"cookie": f"{others}; {kept}; last=1"}).text == "let in", others


@pytest.mark.parametrize("token", [None, "t" * 20])
@pytest.mark.parametrize(
    "headers, status",
    [({"origin": "http://evil.example"}, 403), ({"origin": "null"}, 403), ({"origin": "http://127.0.0.1:9999"}, 403),
     ({"origin": ""}, 403), ({"origin": "http://[::1"}, 403), ({"origin": "http://127.0.0.1:8765.evil.example"}, 403),
     ({"sec-fetch-site": "cross-site"}, 403), ({"sec-fetch-site": "same-site"}, 403),
     ({"content-type": "application/x-www-form-urlencoded"}, 415), ({"content-type": "text/plain"}, 415),
     ({"content-type": "multipart/form-data; boundary=x"}, 415), ({"content-type": ""}, 415),
     ({"content-type": "application/jsonp"}, 415)],
)  # fmt: skip
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_write_that_another_sites_page_could_send_is_refused(token, headers, status, method):
    """Even with the cookie: a browser would send it along."""
    page = client(token)
    if token:
        page.get("/", params={"token": token})
    answer = page.request(method, "/api/answer", headers=JSON | headers)
    assert answer.status_code == status and "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": HERE}, {"sec-fetch-site": "same-origin"}, {"content-type": "application/json; charset=utf-8"}],
)
def test_a_write_of_our_own_page_is_let_in(headers):
    assert client().post("/api/answer", headers=JSON | headers).text == "let in"


def test_looking_is_not_refused_for_coming_from_elsewhere():
    assert client().get("/", headers={"sec-fetch-site": "cross-site"}).text == "let in"  # a link in a mail


@pytest.mark.parametrize("token, path", [(None, "/"), (None, "/nowhere"), (TOKEN, "/"), (TOKEN, "/?token=" + "t" * 20)])
def test_every_answer_also_a_refusal_says_what_a_browser_may_do_with_it(token, path):
    headers = client(token).get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
