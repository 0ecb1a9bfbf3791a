"""Every setting, stated once: environment variables that begin with LENS_."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

EngineName = Literal["openvino", "torch"]
PREFIX = "LENS_"
MODEL_NAME = "bentolens_catalogue"  # of a packed catalogue in BentoML's model store


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use: those it may run on, and no more than a container's limit pays for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none
    try:
        limit, period = quota.read_text().split()
        return min(cores, max(1, round(int(limit) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": there is no limit
        return cores


CORES = usable_cores()
ROOT_PATH = re.compile(r"(?:/[\w~-][\w.~-]*)+", re.ASCII)  # of plain segments: it goes into redirects and the page
Positive = Annotated[int, Field(ge=1)]


def split_list(text: str | None) -> list[str]:
    """Split a setting that lists several things, with commas or blanks between them."""
    return (text or "").replace(",", " ").split()


class SettingsError(Exception):
    """A LENS_ variable has a value that it cannot have."""


class Settings(BaseModel):
    """The settings of the service and the command line; docs/configuration.md is generated from this class."""

    model_config = ConfigDict(frozen=True)

    catalogue: Path | None = Field(
        None, description="the catalogue folder to serve", json_schema_extra={"default_text": "the one in the bento"}
    )
    writable: bool = Field(False, description="take changes of the catalogue: /items/add, /items/remove, /items/update")
    merge_items: int = Field(
        5000,
        ge=0,
        description="changes beyond which a writable service merges them into the index by itself; 0 for never",
    )
    k: Positive = Field(10, description="hits for each query when the request names no k")
    max_k: Positive = Field(1000, description="the largest k a request may ask for")
    ef: Positive = Field(128, description="how widely the graph is searched: more is truer and slower")
    max_images: Positive = Field(64, description="pictures, queries or ids in one request")
    max_job_images: Positive = Field(1000, description="pictures in one /items/add?wait=false")
    max_request_bytes: Positive = Field(256 * 1024**2, description="bytes of one request's body")
    max_bytes: Positive = Field(64 * 1024**2, description="bytes of one picture, as sent")
    max_pixels: Positive = Field(
        100_000_000, description="pixels of one picture that are decoded: of a large JPEG a fraction of what it has"
    )
    engine: EngineName = Field("openvino", description="what runs the network: openvino (CPU), or torch (GPU)")
    workers: Positive = Field(
        max(1, CORES // 4),
        description="processes that take requests",
        json_schema_extra={"default_text": "one for every 4 cores"},
    )
    extractor_workers: int | None = Field(
        None,
        ge=0,
        description="processes that run the network and nothing else; 0: the one that takes requests runs it",
        json_schema_extra={"default_text": "0 where one process takes requests, on a CPU; else 1"},
    )
    threads: Positive = Field(
        CORES,
        description="threads that the network computes with, in all processes together",
        json_schema_extra={"default_text": "one for each core"},
    )
    decode_threads: Positive = Field(
        CORES,
        description="threads that decode pictures, in each process",
        json_schema_extra={"default_text": "one for each core"},
    )
    max_batch: int = Field(32, ge=2, description="pictures in one batch of the network")
    cache: int = Field(4096, ge=0, description="recent pictures whose embeddings each process keeps; 0 for none")
    timeout: Positive = Field(60, description="seconds after which a request is cancelled (503)")
    shutdown_seconds: int = Field(
        6, ge=0, description="seconds for which a service that shuts down still answers what it has taken"
    )
    keys: str | None = Field(
        None, description="API keys, separated by semicolons: NAME SCOPES KEY [PICTURES_PER_SECOND]"
    )
    keys_file: Path | None = Field(None, description="a file of API keys, one a line; read again whenever it changes")
    allow_anonymous: bool = Field(False, description="answer everyone without a key; else only this machine")
    max_queue_seconds: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds of work ahead of a request beyond which it is refused (429)",
    )
    max_held_bytes: Positive = Field(
        512 * 1024**2, description="bytes of all requests' bodies in memory at once, in all workers together"
    )
    url_hosts: str | None = Field(None, description="hosts whose URLs may be queries: example.com,*.example.org or *")
    url_seconds: float = Field(5.0, gt=0, description="seconds that fetching a URL may take")
    recall_share: float = Field(0.01, ge=0, le=1, description="share of queries that are answered again, exactly")
    root_path: str | None = Field(
        None,
        description="the path under which a proxy serves this, such as /lens; else what it sends as X-Forwarded-Prefix",
    )
    cors_origins: str | None = Field(
        None,
        description="sites whose pages may call the API from a browser: https://example.com,https://example.org or *",
    )
    keep_alive_seconds: Positive = Field(
        75, description="seconds for which an idle connection is kept; a load balancer should close its own before"
    )
    log: Literal["text", "json"] = Field("text", description="how log lines are written: text, or json")
    traces: str | None = Field(None, description="where traces go, by OTLP over HTTP: http://collector:4318/v1/traces")
    trace_share: float = Field(
        0.1, ge=0, le=1, description="share of the requests that are traced, besides those whose callers ask for it"
    )
    demo: bool = Field(True, description="serve the page at /demo")

    @property
    def extractor_processes(self) -> int:
        """Processes that run the network and nothing else; 0 where the one that takes requests runs it."""
        if self.extractor_workers is None:
            return int(self.workers > 1 or self.engine == "torch")
        return self.extractor_workers

    def for_jobs(self) -> Settings:
        """Return these for a request whose pictures are added later, of which there may be more."""
        return self.model_copy(update={"max_images": max(self.max_images, self.max_job_images)})

    @field_validator("catalogue", "keys_file")
    @classmethod
    def _is_seen_from_where_the_user_is(cls, path: Path | None) -> Path | None:
        # BentoML imports the service of a bento from inside the bento's folder; the shell's PWD is still the user's.
        if path is None or (path := path.expanduser()).exists():
            return path
        return Path(os.environ.get("PWD", ".")) / path

    @field_validator("url_hosts")
    @classmethod
    def _are_hosts(cls, hosts: str | None) -> str | None:
        for entry in split_list(hosts):
            if not re.fullmatch(r"(\*|(\*\.)?[\w-]+(\.[\w-]+)*)(:\d{1,5})?", entry):
                raise ValueError(f"{entry} is not a host; write example.com, *.example.org, example.com:8443 or *")
        return hosts

    @field_validator("root_path")
    @classmethod
    def _is_a_path(cls, path: str | None) -> str | None:
        path = (path or "").rstrip("/")
        if path and not ROOT_PATH.fullmatch(path):
            raise ValueError("write a path such as /lens")
        return path or None

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: str | None) -> str | None:
        for origin in split_list(origins):
            if origin != "*" and not re.fullmatch(r"https?://[^/\s?#@*]+", origin):
                raise ValueError(f"{origin} is not an origin; write https://example.com, http://localhost:8080 or *")
        return origins

    @field_validator("traces")
    @classmethod
    def _is_a_url(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("write the collector's URL, such as http://collector:4318/v1/traces")
        return url


def read_settings() -> Settings:
    """Read the settings from the environment. Raises SettingsError, which names the variable and what it takes."""
    # pydantic-settings would do this too, and take a tenth of a second of every process's start to be imported.
    given = {name: os.environ.get(PREFIX + name.upper()) for name in Settings.model_fields}
    try:
        return Settings.model_validate({name: value for name, value in given.items() if value})
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        why = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name}={first['input']!r} cannot be used: {why[0].lower()}{why[1:]}") from None


def unknown_settings() -> list[str]:
    """Return a line on each variable of the environment that begins like a setting and is none, with what may be meant."""
    names = [name.upper() for name in Settings.model_fields]
    lines = []
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and (rest := name.removeprefix(PREFIX)) not in names:
            near = difflib.get_close_matches(rest.upper(), names, 1)
            meant = f"did you mean {PREFIX}{near[0]}?" if near else "docs/configuration.md lists them all"
            lines.append(f"{name} is no setting, and is ignored; {meant}")
    return lines
