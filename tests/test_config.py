"""The one configuration: three spellings, one result, and faults that say where and what instead."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from fwdproxy import config
from fwdproxy.config import SETTINGS, RecipeTable, RuleTable, Settings
from fwdproxy.errors import ConfigError
from fwdproxy.values import (
    Duration,
    Endpoint,
    FieldName,
    HostPattern,
    Limit,
    Network,
    ParamGlob,
    Pseudonym,
    Share,
    Size,
    Timeout,
)


def load_text(folder: Path, text: str, flags: dict[str, object] | None = None) -> Settings:
    file = folder / "fwdproxy.toml"
    file.write_text(text)
    return config.load(file, flags)


# --- Values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        ("10GB", 10_000_000_000),
        ("512MiB", 512 * 1024 * 1024),
        ("1.5 MB", 1_500_000),
        ("1000kB", 1_000_000),
        ("2tib", 2 * 1024**4),
        ("9000000TB", 9 * 10**18),
        ("4000000B", 4_000_000),
        ("4000000", 4_000_000),
        (4_000_000, 4_000_000),
    ],
)
def test_size(raw: object, size: int) -> None:
    assert Size.parse(raw) == size


@pytest.mark.parametrize("raw", ["", "GB", "10 potatoes", "-1GB", "1e9", "10 GB GB", "1,5GB", True, [], -5, 1e30])
def test_no_size(raw: object) -> None:
    with pytest.raises(ValueError, match="is not a size; write"):
        Size.parse(raw)


@pytest.mark.parametrize("raw", ["0", "1", 0.2, "999999", "0.9MB"])
def test_a_size_is_no_slip(raw: object) -> None:
    with pytest.raises(ValueError, match='is too small; write at least "1MB"'):
        Size.parse(raw)


@pytest.mark.parametrize("raw", ["99999999999999999999TB", "9000001TB", 2**63, "9" * 5000])
def test_a_size_is_one_that_can_be_counted(raw: object) -> None:
    with pytest.raises(ValueError, match='is too large; write at most "9000000TB"'):
        Size.parse(raw)


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 B"), (10**10, "10 GB"), (1536, "1.536 kB"), (5 * 10**12, "5 TB"), (10**6, "1 MB")]
)
def test_size_is_shown_in_powers_of_1000(size: int, text: str) -> None:
    assert str(Size(size)) == text


@pytest.mark.parametrize(
    ("raw", "limit", "text"),
    [
        ("0", 0, "0 B"),
        (0, 0, "0 B"),
        ("64KiB", 65536, "65.54 kB"),
        ("1MiB", 2**20, "1 MiB"),
        ("16MB", 16 * 10**6, "16 MB"),
    ],
)
def test_a_limit_may_be_small(raw: object, limit: int, text: str) -> None:
    assert Limit.parse(raw) == limit
    assert str(Limit(limit)) == text


@pytest.mark.parametrize(
    ("raw", "complaint"), [("-1", "is not a size"), ("some", "is not a size"), (2**63, "is too large")]
)
def test_no_limit(raw: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Limit.parse(raw)


@pytest.mark.parametrize(("raw", "share"), [("50%", 0.5), ("0%", 0), ("100 %", 1), ("12.5%", 0.125)])
def test_share(raw: object, share: float) -> None:
    assert Share.parse(raw) == share
    assert Share.parse(str(Share(share))) == share


@pytest.mark.parametrize("raw", ["50", "101%", "100.1%", "-1%", "half", 0.5, "9" * 5000 + "%"])
def test_no_share(raw: object) -> None:
    with pytest.raises(ValueError, match="is not a percentage; write one"):
        Share.parse(raw)


def test_names_of_fields_and_parameters() -> None:
    assert FieldName.parse("CDN-Cache-Control") == "cdn-cache-control"
    assert [ParamGlob.parse(raw) for raw in ("utm_*", "a[]", "%C3%A4")] == ["utm_*", "a[]", "%C3%A4"]


@pytest.mark.parametrize("raw", ["", "a b", "a:", 'a"b', 3])
def test_no_field_name(raw: object) -> None:
    with pytest.raises(ValueError, match="is not the name of a field"):
        FieldName.parse(raw)


@pytest.mark.parametrize("raw", ["", "a=b", "a&b", "?a", "#a", "a b", "a\n", 3])
def test_no_parameter(raw: object) -> None:
    with pytest.raises(ValueError, match="is not the name of a query parameter"):
        ParamGlob.parse(raw)


@pytest.mark.parametrize(
    ("raw", "seconds"), [("30s", 30), ("500ms", 0.5), ("5m", 300), ("2 h", 7200), ("1d", 86400), ("7", 7), (7, 7)]
)
def test_duration(raw: object, seconds: float) -> None:
    assert Duration.parse(raw) == seconds


def test_a_timeout_is_above_zero() -> None:
    assert Duration.parse("0s") == Duration(0)
    with pytest.raises(ValueError, match="too short"):
        Timeout.parse("0s")


def test_a_duration_ends() -> None:
    assert Duration.parse("36500d") == Duration(36500 * 86400)
    for raw in ("36501d", "9" * 5000):
        with pytest.raises(ValueError, match='is too long; write at most "36500d"'):
            Duration.parse(raw)


@pytest.mark.parametrize(
    ("raw", "host", "port", "loopback"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("127.9.9.9:1", "127.9.9.9", 1, True),
        ("[::1]:8080", "::1", 8080, True),
        ("localhost:0", "localhost", 0, True),
        ("0.0.0.0:3128", "0.0.0.0", 3128, False),
        ("[::]:65535", "::", 65535, False),
        ("[2001:DB8::1]:80", "2001:db8::1", 80, False),
    ],
)
def test_endpoint(raw: str, host: str, port: int, loopback: bool) -> None:
    endpoint = Endpoint.parse(raw)
    assert (endpoint.host, endpoint.port, endpoint.loopback) == (host, port, loopback)
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "raw",
    [
        "8080",
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:" + "9" * 5000,
        "127.0.0.1:-1",
        "127.0.0.1:٣",
        "256.0.0.1:80",
        "[127.0.0.1]:80",
        "::1:8080",
        "[::1]",
        "example.com:80",
        80,
    ],
)
def test_no_endpoint(raw: object) -> None:
    with pytest.raises(ValueError, match="is not an address and a port"):
        Endpoint.parse(raw)


@pytest.mark.parametrize(
    ("network", "address", "within"),
    [
        ("10.0.0.0/8", "10.200.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("10.0.0.7", "10.0.0.7", True),
        ("10.0.0.7", "10.0.0.8", False),
        ("fd00::/8", "fd12::1", True),
        ("fd00::/8", "10.0.0.1", False),
        ("fe80::/10", "fe80::1%eth0", True),
    ],
)
def test_network(network: str, address: str, within: bool) -> None:
    assert (address in Network.parse(network)) is within


@pytest.mark.parametrize("raw", ["", "10.0.0.0/33", "example.com", "10.0.0.0-10.0.0.9", 10, "10.1.2.3/8", "fd12::1/8"])
def test_no_network(raw: object) -> None:
    with pytest.raises(ValueError, match="is not a network|has bits beyond its prefix"):
        Network.parse(raw)


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("bank.example", "bank.example", True),
        ("bank.example", "BANK.example.", True),
        ("Bank.Example.", "bank.example", True),
        ("bank.example", "www.bank.example", False),
        ("bank.example", "bankXexample", False),
        (".bank.example", "bank.example", True),
        (".bank.example", "a.b.bank.example", True),
        (".bank.example", "evilbank.example", False),
        ("*.bank.example", "www.bank.example", True),
        ("*.bank.example", "bank.example", False),
        ("api-*.example", "api-7.example", True),
        ("*", "anything.example", True),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("[2001:db8::1]", "2001:db8::1", True),
    ],
)
def test_host_pattern(pattern: str, host: str, matches: bool) -> None:
    assert HostPattern.parse(pattern).matches(host) is matches


@pytest.mark.parametrize("raw", ["", ".", "..a", "a:443", "https://a.example/", "a b", "a/b", 3])
def test_no_host_pattern(raw: object) -> None:
    with pytest.raises(ValueError, match="is not a host pattern"):
        HostPattern.parse(raw)


@pytest.mark.parametrize(("raw", "name"), [("fwdproxy", "fwdproxy"), ("off", None), (False, None)])
def test_pseudonym(raw: object, name: str | None) -> None:
    assert Pseudonym.parse(raw).name == name


@pytest.mark.parametrize("raw", ["", "two words", "a(b)", True, 3])
def test_no_pseudonym(raw: object) -> None:
    with pytest.raises(ValueError, match="is not a name for Via"):
        Pseudonym.parse(raw)


# --- Sources ----------------------------------------------------------------------------------------------------

# Every setting: its raw value in a file, as a flag or option, and the value that both give.
EVERY: list[tuple[str, Any, Any, object]] = [
    ("listen", "[::1]:9000", "[::1]:9000", Endpoint("::1", 9000)),
    ("data_dir", "/srv/data", "/srv/data", Path("/srv/data")),
    ("certs", "/srv/ca", "/srv/ca", Path("/srv/ca")),
    ("allow_client", ["10.0.0.0/8"], ["10.0.0.0/8"], (Network.parse("10.0.0.0/8"),)),
    ("allow_destination", ["127.0.0.0/8"], ["127.0.0.0/8"], (Network.parse("127.0.0.0/8"),)),
    ("bypass", ["a.example", "b"], ["a.example", "b"], (HostPattern("a.example"), HostPattern("b"))),
    ("via", "shop", "shop", Pseudonym("shop")),
    ("access_log", False, False, False),
    ("forward_validators", True, True, True),
    ("cache.size", "1GiB", "1GiB", Size(1024**3)),
    ("cache.grace", "1h", "1h", Duration(3600)),
    ("cache.heuristic", "a.b:C", "a.b:C", "a.b:C"),
    ("cache.collapse_timeout", 0, "0", Duration(0)),
    ("cache.finish_share", "75%", "75%", Share(0.75)),
    ("cache.finish_rest", "64KiB", "64KiB", Limit(65536)),
    ("cache.range_limit", 0, "0", Limit(0)),
    ("cache.targets", ["CDN-Cache-Control"], ["CDN-Cache-Control"], ("cdn-cache-control",)),
    ("cache.no_vary_search", True, True, True),
    ("cache.ignore_tracking", True, True, True),
    ("cache.ignore_params", ["utm_*", "a[]"], ["utm_*", "a[]"], ("utm_*", "a[]")),
    ("cache.offline", True, True, True),
    ("cache.memory", True, True, True),
    ("cache.memory_size", "1GB", "1GB", Size(10**9)),
    ("cache.retention", "30d", "30d", Duration(30 * 86400)),
    ("origin.ca", [__file__, config.__file__], [__file__, config.__file__], (Path(__file__), Path(config.__file__))),
    ("origin.connect_timeout", 3, "3s", Timeout(3)),
    ("origin.head_timeout", "1.5s", "1.5s", Timeout(1.5)),
    ("origin.idle_timeout", "2m", "2m", Timeout(120)),
]  # fmt: skip


def value_of(settings: Settings, key: str) -> object:
    value: object = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def test_the_table_has_every_setting() -> None:
    assert [row[0] for row in EVERY] == [setting.key for setting in SETTINGS]


@pytest.mark.parametrize(("key", "in_file", "as_flag", "expected"), EVERY)
def test_every_setting_from_file_flag_and_option(
    tmp_path: Path, key: str, in_file: Any, as_flag: Any, expected: object
) -> None:
    table, _, name = key.rpartition(".")
    header = f"[{table}]\n" if table else ""
    shown = str(in_file).lower() if isinstance(in_file, bool) else repr(in_file)
    assert value_of(load_text(tmp_path, f"{header}{name} = {shown}\n"), key) == expected
    assert value_of(config.load(None, {key: as_flag}), key) == expected
    [setting] = [setting for setting in SETTINGS if setting.key == key]
    if setting.for_mitmproxy:
        assert value_of(config.from_options({setting.option: as_flag}), key) == expected


def test_what_is_not_given_keeps_its_default(tmp_path: Path) -> None:
    nothing_given = {setting.key: () if setting.repeatable else None for setting in SETTINGS}
    assert config.load(None, nothing_given) == Settings()
    assert load_text(tmp_path, "") == Settings()
    assert config.from_options({"fwd_cache_size": None, "fwd_bypass": [], "listen_port": 8080}) == Settings()


def test_a_flag_wins_over_the_file_and_leaves_the_rest(tmp_path: Path) -> None:
    text = 'bypass = ["a.example"]\n[cache]\nsize = "1GB"\ngrace = "5s"\n'
    settings = load_text(tmp_path, text, {"cache.size": "2GB", "bypass": ["b.example"]})
    assert settings.cache.size == Size(2 * 10**9)
    assert settings.cache.grace == Duration(5)
    assert settings.bypass == (HostPattern("b.example"),)


def test_paths_start_at_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "root.pem").touch()
    settings = load_text(tmp_path, 'certs = "~/ca"\n[origin]\nca = ["root.pem"]\n', {"data_dir": "data"})
    assert settings.origin.ca == (tmp_path / "root.pem",)
    assert settings.certs == tmp_path / "home" / "ca"
    assert settings.data_dir == elsewhere / "data"


def test_the_ca_lies_in_the_data_folder_unless_named() -> None:
    assert config.load(None, {"data_dir": "/srv"}).certs == Path("/srv/certs")
    assert config.load(None, {"data_dir": "/srv", "certs": "/ca"}).certs == Path("/ca")
    assert config.load(None, {"data_dir": "/srv"}).cache_dir == Path("/srv/cache")


@pytest.mark.parametrize(
    ("platform", "xdg", "expected"),
    [
        ("linux", "", "/home/u/.local/share/fwdproxy"),
        ("linux", "/xdg", "/xdg/fwdproxy"),
        ("linux", "relative", "/home/u/.local/share/fwdproxy"),
        ("darwin", "/xdg", "/home/u/Library/Application Support/fwdproxy"),
    ],
)
def test_default_data_folder(monkeypatch: pytest.MonkeyPatch, platform: str, xdg: str, expected: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.setenv("XDG_DATA_HOME", xdg)
    assert config.default_data_dir() == Path(expected)


RULES = """
[[rules]]
host = [".example.com"]
path = ["/images/*"]
type = ["image/*", "font/woff2"]
min_lifetime = "5m"
max_lifetime = "1d"
retention = "30d"

[[rules]]
bypass = false
ignore_reload = true
share_authorized = false

[[recipes]]
pattern = '(https)://mirror\\d\\.example/(.*)'
key = '\\1://mirrors.internal/\\2'
"""


def test_rules_and_recipes_of_a_file(tmp_path: Path) -> None:
    settings = load_text(tmp_path, RULES)
    assert settings.rules == (
        RuleTable(
            host=(HostPattern(".example.com"),),
            path=("/images/*",),
            type=("image/*", "font/woff2"),
            min_lifetime=Duration(300),
            max_lifetime=Duration(86400),
            retention=Timeout(30 * 86400),
        ),
        RuleTable(bypass=False, ignore_reload=True, share_authorized=False),
    )
    assert settings.recipes == (
        RecipeTable(pattern=r"(https)://mirror\d\.example/(.*)", key=r"\1://mirrors.internal/\2"),
    )
    assert config.warnings(settings) == ()


def test_sharing_despite_authorization_is_said_aloud(tmp_path: Path) -> None:
    text = '[[rules]]\nbypass = true\n[[rules]]\nhost = ["a.example", "*.b.example"]\nshare_authorized = true\n'
    [said] = config.warnings(load_text(tmp_path, text))
    assert said.startswith("rule 2 shares responses to requests with Authorization between all clients: a.example, *.b")


def test_options_win_over_the_file_that_one_of_them_names(tmp_path: Path) -> None:
    file = tmp_path / "fwdproxy.toml"
    file.write_text('data_dir = "data"\n[cache]\nsize = "1GB"\ngrace = "5s"\n' + RULES)
    settings = config.from_options({"fwd_config": str(file), "fwd_cache_size": "2GB", "fwd_via": None})
    assert (settings.cache.size, settings.cache.grace) == (Size(2 * 10**9), Duration(5))
    assert settings.data_dir == tmp_path / "data"
    assert len(settings.rules) == 2


def test_a_recipe_that_cannot_be_used_is_named_with_its_file(tmp_path: Path) -> None:
    """What makes a recipe is known above the configuration; whoever loads one hands it down."""
    tried = []

    def check(pattern: str, key: str) -> None:
        tried.append((pattern, key))
        if pattern == "(":
            raise ConfigError("the pattern '(' can't be used; write another")

    file = tmp_path / "c.toml"
    file.write_text("[[recipes]]\npattern = 'a'\nkey = 'b'\n[[recipes]]\npattern = '('\nkey = 'c'\n")
    complaint = f"^{re.escape(str(file))}: recipe 2: the pattern '\\(' can't be used; write another$"
    with pytest.raises(ConfigError, match=complaint):
        config.load(file, check_recipe=check)
    with pytest.raises(ConfigError, match=complaint):
        config.from_options({"fwd_config": str(file)}, check_recipe=check)
    assert tried == [("a", "b"), ("(", "c")] * 2


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (
            "nowhere.toml",
            r"nowhere.toml: can't be read \(No such file or directory\); name a readable file with fwd_config",
        ),
        (3, "fwd_config = 3 is not a path"),
    ],
)
def test_a_file_that_an_option_names_badly(given: object, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        config.from_options({"fwd_config": given})


# --- Faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[cache]\nsize = "10 potatoes"', 'cache.size = "10 potatoes" is not a size; write a number and a unit'),
        ("[cache]\nsize = true", "cache.size = true is not a size; write"),
        ("[origin]\nca = [3]", "origin.ca = 3 is not a path; write"),
        (
            '[origin]\nca = ["no.pem"]',
            'origin.ca = "no.pem" can\'t be read (No such file or directory); name a readable',
        ),
        ('data_dir = "~nobody-here/x"', 'data_dir = "~nobody-here/x" names a home folder that doesn\'t exist; write'),
        ('bypass = "a.example"', 'bypass = "a.example" is not a list; write it in brackets'),
        ("cache = 3", "cache = 3 is not a table; write its settings below a line such as [cache]"),
        ('access_log = "yes"', 'access_log = "yes" is not a switch; write true or false'),
        ("[cache]\nheuristic = 3", "cache.heuristic = 3 is not text; write it in quotation marks"),
        ("[cache]\nsizee = 3", "cache.sizee is not a setting; did you mean cache.size?"),
        ("lissten = 3", "lissten is not a setting; did you mean listen?"),
        ("[qqq]\nx = 3", "qqq is not a setting; the settings are listen, data_dir"),
        ("listen = 8080", 'listen = 8080 is not an address and a port; write "127.0.0.1:8080"'),
        ('allow_client = ["10.1.2.3/8"]', 'allow_client = "10.1.2.3/8" has bits beyond its prefix; write "10.0.0.0/8"'),
        ("[origin]\nconnect_timeout = 0", "origin.connect_timeout = 0 is too short; write"),
        ("[[rules]]", "rule 1: changes nothing; state one of bypass, min_lifetime, max_lifetime"),
        ('[[rules]]\nhost = ["a"]', "rule 1: changes nothing; state one of"),
        ("[[rules]]\nbypas = true", "rule 1: bypas is not part of a rule; did you mean bypass?"),
        ("[[rules]]\nzzz = true", "rule 1: zzz is not part of a rule; its parts are host, path, type, bypass"),
        ("[[rules]]\nbypass = true\n[[rules]]\nbypass = 1", "rule 2: bypass = 1 is not a switch; write true or false"),
        ('[[rules]]\nmin_lifetime = "x"', 'rule 1: min_lifetime = "x" is not a duration; write'),
        ('[[rules]]\nhost = ["a b"]\nbypass = true', 'rule 1: host = "a b" is not a host pattern; write'),
        ("[[rules]]\nhost = []\nbypass = true", "rule 1: host = [] matches nothing; name some, or leave host out"),
        ('[[rules]]\npath = ["images"]\nbypass = true', 'rule 1: path = "images" is not a glob over the path of a URI'),
        ('[[rules]]\ntype = ["a/b/c"]\nbypass = true', 'rule 1: type = "a/b/c" is not a glob over media types; write'),
        (
            '[[rules]]\ntype = ["a/b"]\noffline = true',
            'rule 1: type = ["a/b"] can\'t go with offline, which is decided',
        ),
        ('[[rules]]\ntype = ["a/b"]\nmemory = false', 'rule 1: type = ["a/b"] can\'t go with memory, which is decided'),
        (
            '[[rules]]\nmin_lifetime = "2h"\nmax_lifetime = "1h"',
            'rule 1: min_lifetime = "2h" is more than max_lifetime = "1h"; swap them',
        ),
        (
            "[[rules]]\nshare_authorized = true",
            "rule 1: share_authorized = true gives one user's responses to all; say",
        ),
        (
            '[[rules]]\nhost = ["a", "*"]\nshare_authorized = true',
            "rule 1: share_authorized = true gives one user's responses to all; say for which hosts",
        ),
        (
            "[rules]\nbypass = true",
            'rules = {"bypass": true} is not a list of tables; write each below a line [[rules]]',
        ),
        ("rules = [3]", "rule 1 = 3 is not a list of tables; write each below a line [[rules]]"),
        ("[[rule]]\nbypass = true", "rule is not a setting; did you mean rules?"),
        ('[[recipes]]\npattern = "a"', 'recipe 1 has no key; write one, such as key = "…"'),
        ("[[recipes]]\npattern = 3", "recipe 1: pattern = 3 is not text; write it in quotation marks"),
        ('[[recipes]]\npattern = "a"\nkey = "b"\nfor = "c"', "recipe 1: for is not part of a recipe; its parts are"),
        ("listen = ", "is not valid TOML: "),
        ("listen = " + "9" * 5000, "is not valid TOML: Exceeds the limit"),
        ("listen = " + "[" * 5000, "nests brackets too deeply; no setting needs more than a list of texts"),
        (
            '"cache.size" = "1GB"',
            '"cache.size" is one name to TOML, dot included; write cache.size = … without quotation marks, or size = …',
        ),
        ('[cache]\n"cache.size" = "1GB"', "cache.cache.size is not a setting; did you mean cache.size?"),
        ('"a\\nb" = 1', '"a\\nb" is not a setting; the settings are listen'),
        (f'listen = "{"x" * 10_000}"', f'listen = "{"x" * 199}… is not an address'),
    ],
)
def test_a_fault_in_a_file_names_file_key_value_and_remedy(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'fwdproxy.toml'}: {complaint}")
    assert "\n" not in str(caught.value)


def test_a_fault_in_a_flag_or_option_is_named_in_its_spelling() -> None:
    with pytest.raises(ConfigError, match='^--cache-size = "x" is not a size'):
        config.load(None, {"cache.size": "x"})
    with pytest.raises(ConfigError, match='^fwd_origin_ca = "" is not a path'):
        config.from_options({"fwd_origin_ca": [""]})


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere.toml: can't be read .No such file"):
        config.load(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b'via = "\xe9"')
    with pytest.raises(ConfigError, match="latin.toml: is not UTF-8 text"):
        config.load(tmp_path / "latin.toml")


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_is_not_a_file_is_refused_without_reading_it(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    why = "it is a folder" if kind == "folder" else "it is not a regular file"
    with pytest.raises(ConfigError, match=f"{kind}: can't be read .{why}.; name a readable file with --config"):
        config.load(tmp_path / kind)
    with pytest.raises(ConfigError, match=f"--origin-ca = .*{kind}\" can't be read .{why}.; name a readable file"):
        config.load(None, {"origin.ca": [str(tmp_path / kind)]})


def test_a_file_too_large_for_a_configuration(tmp_path: Path) -> None:
    assert load_text(tmp_path, "#" * 1024 * 1024) == Settings()
    with pytest.raises(ConfigError, match="fwdproxy.toml: is larger than 1 MiB; a configuration is"):
        load_text(tmp_path, "#" * (1024 * 1024 + 1))


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"])
def test_listening_beyond_loopback_needs_allowed_clients(listen: str) -> None:
    with pytest.raises(ConfigError, match="--allow-client 192.168.0.0/16"):
        config.load(None, {"listen": listen})
    assert config.load(None, {"listen": listen, "allow_client": ["192.0.2.0/24"]}).listen == Endpoint.parse(listen)


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.1.1.1", True),
        ("::ffff:10.1.1.1", True),
        ("11.1.1.1", False),
        ("2001:db8::1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_clients_admitted(address: str, admitted: bool) -> None:
    assert config.load(None, {"allow_client": ["10.0.0.0/8"]}).admits(address) is admitted
