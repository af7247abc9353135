"""One training on several machines: who a process is, and the commands that start them all."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Sequence

from learning.team import role, serve, team
from program.config import Config
from program.errors import UsageError
from runfolder.folder import RunFolder

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


@contextlib.contextmanager
def joined(config: Config, folder: RunFolder, wanted: Sequence[str], scheduler: str | None) -> Iterator[bool]:
    """Take this process's place in a team, if it has one; give whether that is all there is to do.

    The team's scheduler and servers do what they are there for and end; workers other than the first train
    along. The first worker has the block to do, as a process without a team has, and lets the others go
    after it.
    """
    own = role()
    if own is None:
        yield False
        return
    if scheduler is not None:
        raise UsageError("--scheduler spreads tasks, DMLC_ROLE one training: use one of the two at a time")
    if own != "worker":
        serve()
    together = team()
    assert together is not None
    if together.rank:
        from program.run import train_along

        train_along(config, folder, wanted)
        together.part()
        yield True
        return
    yield False
    together.tell(None)
    together.part()


def host_commands(hosts: str, port: int, servers: int, words: Sequence[str]) -> list[str]:
    """Write the command of each host, a comment above it.

    Parameters
    ----------
    hosts : str
        ``a,b,c``; the first one leads: it also runs the scheduler and the servers, and writes.
    port : int
    servers : int
    words : sequence of str
        The command to run, such as ``run --all``.

    Raises
    ------
    UsageError
    """
    names = [name.strip() for name in hosts.split(",")]
    wrong = [name for name in names if not _HOST.fullmatch(name)]
    if wrong:
        raise UsageError(f"--hosts {hosts}: {wrong[0]!r} is no host's name or address; expected a,b,c")
    if len(names) < 2:
        raise UsageError(f"--hosts {hosts}: one host needs no cluster; expected two or more: a,b,c")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--hosts {hosts}: {twice[0]} stands twice; expected hosts that differ: a,b,c")
    if not words or words[0] not in ("run", "stage"):
        raise UsageError("say what to run, after the options: cluster --hosts a,b,c run --all")
    if ("--all" in words) == any(word.split("=")[0] == "--task" for word in words):
        raise UsageError(
            f"{words[0]}: say which tasks, either --all, or --task NAME: cluster --hosts {hosts} run --all"
        )
    place = (f"export DMLC_PS_ROOT_URI={names[0]} DMLC_PS_ROOT_PORT={port} "
             f"DMLC_NUM_SERVER={servers} DMLC_NUM_WORKER={len(names)}")  # fmt: skip
    command = f"python pipeline.py {shlex.join(words)}"
    lines = []
    for number, name in enumerate(names):
        helpers = ["scheduler", *["server"] * servers] if number == 0 else []
        parts = [f"(DMLC_ROLE={kind} {command} &)" for kind in helpers]
        lines += [f"# on {name}", f"({'; '.join([place, *parts, f'DMLC_ROLE=worker {command}'])})"]
    return lines
