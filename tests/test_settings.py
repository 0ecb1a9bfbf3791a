"""Settings come from the environment, each checked, with defaults for the cores that may be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from settings import Settings, SettingsError, read_settings, unknown_settings, usable_cores


def test_variables_are_read_and_an_empty_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"LENS_K": "7", "LENS_DEMO": "0", "LENS_EF": "", "LENS_CATALOGUE": "~/x"}.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("LENS_MAX_PIXELS", "250000000")
    monkeypatch.setenv("LENS_ROOT_PATH", "/lens/")
    settings = read_settings()
    assert (settings.k, settings.demo, settings.ef) == (7, False, 128)
    assert (settings.max_pixels, settings.root_path) == (250_000_000, "/lens")
    assert settings.catalogue is not None
    assert "~" not in str(settings.catalogue)


@pytest.mark.parametrize(
    ("name", "text"),
    [("LENS_K", "x"), ("LENS_K", "0"), ("LENS_MAX_BATCH", "1"), ("LENS_ENGINE", "abacus"), ("LENS_CACHE", "-1")],
)
def test_a_value_that_cannot_be_is_named_with_its_variable(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError, match=f"^{name}='{text}' cannot be used: "):
        read_settings()


@pytest.mark.parametrize(
    ("told", "cores"), [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("9900000 100000", None)]
)
def test_a_containers_limit_counts_as_its_cores(told: str, cores: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(told + "\n")
    every = len(os.sched_getaffinity(0))
    assert usable_cores(tmp_path / "cpu.max") == (cores or every)
    assert usable_cores(tmp_path / "none") == every


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("url_hosts", "https://example.com", "https://example.com is not a host"),
        ("url_hosts", "example.com/a", "example.com/a is not a host"),
        ("traces", "collector:4318", "write the collector's URL"),
        ("max_queue_seconds", "0", "greater than 0"),
        ("log", "xml", "'text' or 'json'"),
        ("allow_anonymous", "perhaps", "valid boolean"),
        ("recall_share", "2", "less than or equal to 1"),
        ("root_path", "lens", "write a path such as /lens"),
        ("root_path", "//evil.example", "write a path such as /lens"),
        ("cors_origins", "shop.example", "shop.example is not an origin"),
        ("cors_origins", "https://shop.example/", "is not an origin"),
        ("keep_alive_seconds", "0", "greater than or equal to 1"),
    ],
)
def test_what_a_setting_cannot_be_is_said(name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LENS_{name.upper()}", value)
    with pytest.raises(SettingsError) as raised:
        read_settings()
    assert f"LENS_{name.upper()}='{value}'" in str(raised.value)
    assert told in str(raised.value)


def test_hosts_are_read() -> None:
    assert Settings(url_hosts="example.com, *.example.org:8443,*").url_hosts


def test_a_setting_that_does_not_exist_is_named_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LENS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LENS_K", "3")
    assert unknown_settings() == []
    monkeypatch.setenv("LENS_MAX_IMAGE", "3")
    monkeypatch.setenv("LENS_XYZZY", "3")
    assert unknown_settings() == [
        "LENS_MAX_IMAGE is no setting, and is ignored; did you mean LENS_MAX_IMAGES?",
        "LENS_XYZZY is no setting, and is ignored; docs/configuration.md lists them all",
    ]
