"""dashboard: optuna-dashboard on the storage, with hpsearch's panels and notes, behind a guard."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import read_settings
from hpsearch.config.secret_files import read_secret
from hpsearch.errors import ConfigError

if TYPE_CHECKING:
    from hpsearch.dashboard.guard import Rules
    from hpsearch.dashboard.server import Server

TOKEN_VARIABLE = "HPSEARCH_DASHBOARD_TOKEN"
TOKEN_FILE_VARIABLE = f"{TOKEN_VARIABLE}_FILE"
MIN_TOKEN = 16  # characters
SWITCH_SECONDS = 0.0005  # a short request waits so long for a thread that computes, again after each SQL statement
POLL_SECONDS = 0.1  # longest wait between a signal and the end


@with_groups
def dashboard(
    storage: Storage,
    output: Output,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")] = (
        "127.0.0.1"
    ),
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name that the dashboard is reached by. Repeatable."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"File with the token that visitors need; or set {TOKEN_VARIABLE}, or {TOKEN_FILE_VARIABLE}.",
        ),
    ] = None,
    writable: Annotated[
        bool, typer.Option("--writable", help="Allow visitors to change, tell, upload and delete.")
    ] = False,
    panels: Annotated[bool, typer.Option(help="Keep hpsearch's figures and notes up to date.")] = True,
) -> None:
    """Show the studies in a browser: optuna-dashboard with our figures and verdicts, for this machine only.

    From elsewhere: `ssh -L 8080:localhost:8080 HOST`, or --host with a token.

    Example: `hpsearch dashboard --port 8080`
    """
    token = _token(token_file, os.environ.get(TOKEN_FILE_VARIABLE), os.environ.pop(TOKEN_VARIABLE, None))
    settings = read_settings(storage=storage.storage)
    # A handler that raised could do so inside a destructor, where Python drops the exception: it only takes note.
    received: list[int] = []
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda signum, _frame: received.append(signum))

    from hpsearch.dashboard.server import Server
    from hpsearch.storage import open_database

    db = open_database(settings.run.storage)
    rules, made = _rules(host, allow_host or [], token, writable)
    with Server(host, port) as server:  # before the heavy imports, to fail at once where it fails
        from hpsearch.dashboard.app import dashboard_app
        from hpsearch.dashboard.panels import keep_fresh

        one_at_a_time = threading.Lock()
        server.set_app(dashboard_app(db, rules, Path(settings.run.artifact_dir), one_at_a_time))
        _announce(server, host, made, output)
        if panels:
            threading.Thread(target=keep_fresh, args=(db, threading.Event(), one_at_a_time), daemon=True).start()
        sys.setswitchinterval(SWITCH_SECONDS)
        server.timeout = POLL_SECONDS
        while not received:
            server.handle_request()
    raise typer.Exit(128 + received[0])


def _token(flag: Path | None, file: str | None, from_environment: str | None) -> str | None:
    """The token that was given, in whichever way; None without one."""
    if flag is not None:
        where, text = f"--token-file {flag}", read_secret(flag, "--token-file", "the token")
    elif file is not None and from_environment is not None:
        raise ConfigError(f"{TOKEN_VARIABLE} and {TOKEN_FILE_VARIABLE} are both given.\nAllowed: one of them.")
    elif file is not None:
        where, text = f"{TOKEN_FILE_VARIABLE} {file}", read_secret(file, TOKEN_FILE_VARIABLE, "the token")
    elif from_environment is not None:
        where, text = TOKEN_VARIABLE, from_environment
    else:
        return None
    token = text.strip()
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{where} holds no token that could be used ({len(token)} characters).\n"
            f"Allowed: at least {MIN_TOKEN} printable ASCII characters without spaces."
        )
    return token


def _rules(host: str, allow_host: list[str], token: str | None, writable: bool) -> tuple[Rules, str | None]:
    """The rules for a host to listen on, and the token to show once if it had to be made."""
    import secrets

    from hpsearch.dashboard.guard import LOOPBACK_NAMES, Rules
    from hpsearch.dashboard.server import is_loopback, is_wildcard, resolve

    address = resolve(host)[1]
    made = None
    if token is None and not is_loopback(address):
        token = made = secrets.token_urlsafe(32)
    names = LOOPBACK_NAMES | {name.lower() for name in (host, address, *allow_host)}
    if is_wildcard(address):
        names |= {socket.gethostname().lower()}
    return Rules(names, is_wildcard(address), token, writable), made


def _announce(server: Server, host: str, made: str | None, output: Output) -> None:
    from hpsearch.dashboard.server import is_loopback, is_wildcard

    address = str(server.server_address[0])
    name = socket.gethostname() if is_wildcard(address) else f"[{host}]" if ":" in host else host
    url = f"http://{name}:{server.server_port}/"
    if output.as_json:
        typer.echo(json.dumps({"url": url, "token": made}))
        return
    typer.echo(f"dashboard {url}" + (f"?token={made}" if made else ""))
    if not output.quiet and not is_loopback(address):
        typer.echo("note: the connection is not encrypted; an ssh tunnel to a loopback dashboard is", err=True)
    if not output.quiet:
        typer.echo("Ctrl-C ends it", err=True)
