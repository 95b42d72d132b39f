"""`vfmerge demo`, from the model's folder to the last request."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from vfmerge import signals

from . import gate, opening
from .album import Album
from .server import listen
from .service import Service
from .turns import Turns

WAITING, PATIENCE = 8, 60.0  # requests that wait for their turn, and seconds; chosen here


def show(path: str | Path, *, host: str, port: int, tasks: Sequence[str], device: str, in_browser: bool) -> None:
    """Serve the page until a signal asks to stop.

    path: of a run or a merged model, or its id on the hub. Raises InputError for a folder, task, device or address that
    cannot be used.
    """
    exhibition = opening.open_all(path, tasks=tasks, device=device)
    turns = Turns(waiting=WAITING, patience=PATIENCE)
    server = listen(Service(exhibition, pictures=Album(), turns=turns), turns, host=host, port=port)
    where = gate.address(host, server.port, token=server.gate.token)
    with signals.watch() as request:
        print(f"{exhibition.name} is at {where}\nCtrl-C ends it", flush=True)
        if in_browser:
            webbrowser.open(where)
        server.serve(until=lambda: request.name)
