"""What both servers share: a free port, one line of addresses, counters, and an end with standard input."""

import json
import logging
import os
import sys
import threading

from werkzeug.serving import make_server

# Both servers have these clients. The id and the secret of `odd:client` must be form-encoded before Basic
# (RFC 6749, section 2.3.1). The secret of `spaced` has a space, which Authlib decodes from "%20" but not from "+".
CLIENTS = {
    "plain": "plain-secret",
    "odd:client": "s3cr%t+/:?&=",
    "spaced": "a secret with spaces",
    "post": "post-secret+ %&=",
}
SCOPES = ["read", "write"]
TOKEN_SECONDS = 600

logging.getLogger("werkzeug").setLevel(logging.ERROR)


class Stats:
    """Counts what arrives at the token endpoint, before the framework sees it."""

    def __init__(self, app, token_path, more):
        self.app = app
        self.more = more
        self.token_path = token_path
        self.token_calls = 0
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/stats":
            body = json.dumps({"token_calls": self.token_calls, **self.more()}).encode()
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
            return [body]
        if path == self.token_path and environ["REQUEST_METHOD"] == "POST":
            with self.lock:
                self.token_calls += 1
        return self.app(environ, start_response)


def serve(app, token_path, introspection_path, more=dict):
    """Serves until standard input ends. A killed test closes it, so no server is left behind."""
    server = make_server("127.0.0.1", 0, Stats(app, token_path, more), threaded=True)
    base = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    addresses = {
        "issuer": base,
        "token_endpoint": base + token_path,
        "introspection_endpoint": base + introspection_path,
        "stats_endpoint": base + "/stats",
    }
    print(json.dumps(addresses), flush=True)
    sys.stdin.read()
    os._exit(0)
