"""Who may use the page: on the loopback address everybody on this machine, elsewhere who knows the token; and nobody's
page may write through somebody's browser."""

import hmac
import ipaddress
from urllib.parse import parse_qs, quote, unquote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audiorep.errors import AudiorepError

COOKIE = "audiorep_token"
SAFE = ("GET", "HEAD")
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'"
)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(host: str, token: str | None) -> None:
    """Refuse to be reachable for others without a token.

    Raises:
        AudiorepError: names what to say.
    """
    if not is_loopback(host) and not token:
        raise AudiorepError(
            f"host={host}: other machines could reach the page: set token=... (a long random one), and put a server that "
            "speaks TLS in front; or leave host=127.0.0.1"
        )
    if token is not None and len(token) < 16:
        raise AudiorepError("token= is too short to be a secret: 16 characters or more")


class Guard:
    """Refuses requests without the token, for a foreign host name, and writes that come from another site's page.

    The token comes once as ``?token=...`` and stays as a cookie for this page only; or with each request as
    ``Authorization: Bearer ...``. A write must be JSON and, where a browser says where it comes from, from this page:
    another site can send neither without being asked for leave first.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = {
                    "content-security-policy": POLICY,
                    "x-content-type-options": "nosniff",
                    "referrer-policy": "no-referrer",
                }
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in more.items())]
            await send(message)

        await (self.refusal(scope, Headers(scope=scope)) or self.app)(scope, receive, guarded)

    def refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that is not let through."""
        if self.token is None and not is_loopback(host_of(f"//{headers.get('host', '')}")):
            return said(403, "this page answers to 127.0.0.1 and localhost only")
        if self.token is not None:
            asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if asked and same(asked, self.token) and scope["method"] in SAFE:
                answer = RedirectResponse("/" + scope["path"].lstrip("/\\"), 303)
                secure = scope["scheme"] == "https"
                answer.set_cookie(COOKIE, quote(self.token), httponly=True, samesite="strict", secure=secure)
                return answer
            kept = unquote(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))
            bearer = headers.get("authorization", "").removeprefix("Bearer ")
            if not same(kept, self.token) and not same(bearer, self.token):
                return said(401, "open the page with the address that audiorep label printed: it holds the token")
        if scope["method"] not in SAFE:
            if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
                return said(415, "answers are sent as application/json")
            origin = headers.get("origin")
            if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
                return said(403, "another site's page may not answer here")
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return said(403, "another site's page may not answer here")
        return None


def host_of(address: str) -> str:
    """The host of an address; "" where it is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def same(a: str, b: str) -> bool:
    """Whether two secrets are alike, without telling by the time it takes how far they are."""
    return hmac.compare_digest(a.encode(), b.encode())


def said(status: int, message: str) -> Response:
    """A refusal in one line."""
    return JSONResponse({"error": message}, status)
