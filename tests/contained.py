"""Runs an image as a hardened container runtime would, without a daemon: read-only, no privileges, only /tmp to write to.

BENTOLENS_IMAGE names the image; then every server that a test starts is a container of it. It shares the network of the
tests, which tests/container_test.sh has taken down to loopback.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

IMAGE = os.environ.get("BENTOLENS_IMAGE")


@dataclass(frozen=True, slots=True)
class Image:
    """An image's files, and what it asks to be run."""

    root: Path
    user: str
    folder: str
    environment: dict[str, str]
    entrypoint: list[str]


@functools.cache
def image() -> Image:
    """The image under test, its files mounted until the tests end."""
    assert IMAGE
    config = json.loads(_buildah("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]
    container = _buildah("from", IMAGE)
    atexit.register(_buildah, "rm", container)
    return Image(
        root=Path(_buildah("mount", container)),
        user=config["User"],
        folder=config["WorkingDir"],
        environment=dict(pair.split("=", 1) for pair in config["Env"]),
        entrypoint=config["Entrypoint"],
    )


def _buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def contained(catalogue: Path | None, settings: dict[str, str], *arguments: str) -> list[str]:
    """The command that runs the image with these settings, a catalogue mounted over the one in it, and these arguments."""
    user, _, group = image().user.partition(":")
    bind = "--bind" if settings.get("LENS_WRITABLE") == "1" else "--ro-bind"
    mounts = [bind, str(catalogue), "/catalogue"] if catalogue else []
    variables = [word for pair in (image().environment | settings).items() for word in ("--setenv", *pair)]
    # Root prepares the place, and becomes the image's user in it for good: in a user namespace of bubblewrap's own, that
    # user would be root under another name, and be let at root's files.
    root = [word for one in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{one}")]
    become = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    return [
        *(
            "bwrap",
            "--die-with-parent",
            "--unshare-pid",
            "--unshare-ipc",
            "--as-pid-1",
            *root,
            "--clearenv",
            *variables,
        ),
        *("--ro-bind", str(image().root), "/", "--ro-bind", "/sys", "/sys", "--proc", "/proc", "--dev", "/dev"),
        *("--perms", "1777", "--tmpfs", "/tmp", *mounts, "--chdir", image().folder),
        *("--", *become, "--inh-caps=-all", *image().entrypoint, *arguments),
    ]
