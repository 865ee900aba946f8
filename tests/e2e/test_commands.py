"""The commands beside `fwdproxy run`, on a running proxy (also inside mitmdump) and on a stopped one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import curl
from tests.e2e.programs import Program, fwdproxy_command, run_to_end
from tests.e2e.waiting import until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.e2e.conftest import Start
    from tests.e2e.origin import Call, Origin

FRESH = ("Cache-Control", "max-age=600")


def command(program: Program, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command about the cache of ``program``."""
    done = run_to_end([*fwdproxy_command(*arguments), "--data-dir", str(program.data_dir)], program.data_dir)
    assert "Traceback" not in done.stderr
    return done


def said(program: Program, *arguments: str) -> str:
    """What a command prints that must succeed."""
    done = command(program, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def site(origin: Origin) -> str:
    """The beginning of URLs that the origin answers: what ends in ``private`` may not be stored."""
    prefix = origin.unique("commands") + "/"

    async def handle(call: Call) -> None:
        control = ("Cache-Control", "no-store") if call.seen.path.endswith("private") else FRESH
        await call.respond(b"page " * 20_000, control, ("Cache-Tag", "pages"))

    origin.on_prefix(prefix, handle)
    return origin.url(prefix)


@pytest.mark.parametrize("kind", ["fwdproxy", "mitmdump"])
def test_a_cache_is_filled_looked_at_and_purged(start: Start, site: str, kind: str) -> None:
    program = start(kind)
    # mitmdump listens before it has loaded the script.
    until(lambda: any(program.data_dir.glob("control/*.sock")))
    urls = [f"{site}{number}" for number in range(3)]
    (program.data_dir / "urls.txt").write_text("\n".join([*urls, f"{site}private", "", "# a remark", urls[0]]))
    warmed = said(program, "cache", "warm", str(program.data_dir / "urls.txt"))
    assert warmed.splitlines()[-1] == "4 URLs: 3 stored, 1 not to be stored"
    assert curl(program, urls[0], "-H", "Accept-Encoding: gzip").hit
    while_running = said(program, "cache", "ls", "--prefix", site)
    assert sorted(line.split()[-1] for line in while_running.splitlines()) == urls
    assert said(program, "cache", "verify").endswith("none broken\n")
    assert json.loads(said(program, "cache", "stats", "--json"))["objects"] == 3
    assert said(program, "cache", "purge", "--url", urls[0]) == f"purged: url {urls[0]}\n"
    assert command(program, "cache", "purge", "--group", "a").returncode == 1
    assert curl(program, urls[0]).fwd == "uri-miss"
    program.stop()
    assert command(program, "cache", "show", urls[1]).returncode == 0
    assert said(program, "cache", "forget", "localhost").endswith("nothing of it is left\n")
    assert command(program, "cache", "show", urls[1]).returncode == 1
    assert said(program, "cache", "verify").endswith("none broken\n")
    again = start(kind, folder=program.data_dir.parent)
    assert curl(again, urls[1]).fwd == "uri-miss"


def test_a_sitemap_is_read_through_the_proxy(start: Start, origin: Origin, site: str) -> None:
    program = start("fwdproxy")
    pages = "".join(f"<url><loc>{site}{number}</loc></url>" for number in range(3))
    path = origin.page(f"<urlset>{pages}</urlset>".encode(), stem="sitemap")
    index = program.data_dir / "index.xml"
    index.write_text(f"<sitemapindex><sitemap><loc>{origin.url(path)}</loc></sitemap></sitemapindex>")
    assert said(program, "cache", "warm", str(index)).splitlines()[-1] == "3 URLs: 3 stored"


def test_an_answer_is_explained(start: Start, site: str) -> None:
    program = start("fwdproxy", config='[[rules]]\npath = ["*/ruled"]\nmax_lifetime = "5m"\n')
    told = said(program, "explain", f"{site}private")
    assert "the origin forbids storing (no-store, RFC 9111 §5.2.2.5)" in told
    assert "→ the origin would have to" in told
    missed = json.loads(said(program, "explain", f"{site}ruled", "--json"))
    assert (missed["source"], missed["kept"], missed["lifetime"]) == ("origin", True, 300)
    assert missed["rule"] == ["max_lifetime: fresh for at most 5m"]
    assert "from the cache" in said(program, "explain", f"{site}ruled")
    program.stop()
    assert f"key           {site}ruled" in said(program, "explain", f"{site}ruled", "--dry-run")
    done = command(program, "explain", f"{site}ruled")
    assert (done.returncode, done.stdout) == (1, "")
    assert "only a running one fetches; start it with: fwdproxy run --data-dir" in done.stderr


def test_mitmdump_reads_the_file_that_an_option_names(start: Start, site: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('via = "off"\naccess_log = false\n[[rules]]\nhost = ["localhost"]\nbypass = true\n')
    program = start("mitmdump", options={"fwd_config": str(file), "fwd_via": "shop"})
    until(lambda: any(program.data_dir.glob("control/*.sock")))
    response = curl(program, f"{site}1")
    assert (response.fwd, response.stored) == ("bypass", False)
    assert response.value("via") == "1.1 shop"
    assert "fwd=bypass" not in program.text()
