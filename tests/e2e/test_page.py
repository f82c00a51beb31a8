"""The report in a browser: it draws, it can be used without a mouse, it fetches nothing, and nothing hostile runs in it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find_chromium
from page_runs import HOSTILE, stored

from harness.waiting import wait_until

LINE = "document.querySelector('details.promise[open] figure.time-line')"
READY = f"{LINE}?.dataset.awake === 'ready'"
SHOWN = f"{LINE}.querySelector('.shown').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip(
            "this needs Chromium, and none was found: on Debian, apt-get install chromium; .ci/chromium does it"
        )
    made = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("run"))


@pytest.fixture
def loss(browser: Browser, run: Path) -> Iterator[Browser]:
    """The promise whose time-line has a loss, open and drawn. At the end nobody may have complained."""
    browser.resize(1280, 900)
    browser.prefer("light")
    browser.open(run / "index.html", at="failover.kill")
    browser.until(READY)
    yield browser
    assert browser.complaints == []
    assert browser.fetched == [(run / "index.html").as_uri()]


def colours(browser: Browser) -> dict[str, int]:
    """How many pixels of the canvas are of the colours that matter."""
    script = """(() => {
      const drawn = LINE.querySelector('canvas'), canvas = document.createElement('canvas');
      canvas.width = drawn.width; canvas.height = drawn.height;
      const pen = canvas.getContext('2d', { willReadFrequently: true });
      pen.drawImage(drawn, 0, 0);
      const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
      const found = { painted: 0, red: 0, light: 0 };
      for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] < 40) continue;
        found.painted += 1;
        found.light += data[at] + data[at + 1] + data[at + 2];
        if (data[at] > 150 && data[at] > 1.6 * data[at + 1] && data[at] > 1.6 * data[at + 2]) found.red += 1;
      }
      return found;
    })()""".replace("LINE", LINE)
    found = browser.run(script)
    assert isinstance(found, dict)
    return found


def choose(browser: Browser, name: str, value: str) -> None:
    browser.run(
        f"(() => {{ const s = {LINE}.querySelector('select[data-filter={name}]'); s.value = '{value}';"
        "s.dispatchEvent(new Event('change')); })()"
    )


def test_it_draws_every_request(loss: Browser) -> None:
    """Lanes, windows, the gap and the axis are text; the requests are on the canvas, those that failed in red."""
    assert loss.run(SHOWN) == "821 of 821 requests, 20 not ok"
    words = loss.run(f"[...{LINE}.querySelectorAll('.stage svg text')].map((each) => each.firstChild.data).join('|')")
    for word in (
        "app-1",
        "app-2",
        "down",
        "no answer",
        "longest gap 420 ms",
        "app-1 was killed, 4.50 s",
        "10 ms",
        "0 s",
    ):
        assert word in words.split("|"), words
    found = colours(loss)
    assert found["painted"] > 3000
    assert found["red"] > 200


def test_requests_are_chosen(loss: Browser) -> None:
    """By outcome, instance and connection, also together; what is shown is counted."""
    before = colours(loss)
    choose(loss, "outcome", "not ok")
    assert loss.run(SHOWN).startswith("20 of 821")
    assert 0 < colours(loss)["painted"] < before["painted"] / 3
    choose(loss, "outcome", "ok")
    assert colours(loss)["red"] == 0
    choose(loss, "outcome", "")
    choose(loss, "instance", "app-2")
    choose(loss, "connection", "fresh")
    number = int(loss.run(SHOWN).split()[0])
    assert 100 < number < 200


def test_dragging_zooms_and_a_double_click_shows_the_whole(loss: Browser) -> None:
    """All lanes at once: there is one clock."""
    box = loss.run(
        f"(() => {{ const b = {LINE}.querySelector('.stage').getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; }})()"
    )
    left, top, width, height = box
    loss.run(f"{LINE}.scrollIntoView({{block: 'center'}})")
    top = loss.run(f"{LINE}.querySelector('.stage').getBoundingClientRect().top")
    y = top + height / 2
    loss.mouse("Pressed", left + width * 0.3, y, held=True)
    loss.mouse("Moved", left + width * 0.4, y, held=True)
    loss.mouse("Moved", left + width * 0.5, y, held=True)
    loss.mouse("Released", left + width * 0.5, y)
    shown = int(loss.run(SHOWN).split()[0])
    assert 100 < shown < 300
    loss.run(f"{LINE}.querySelector('.stage').dispatchEvent(new MouseEvent('dblclick', {{bubbles: true}}))")
    assert loss.run(SHOWN).startswith("821 ")


def test_pointing_tells_the_request_and_moves_the_logs(loss: Browser) -> None:
    """The nearest one, with all that was recorded of it; the log line of that moment is marked."""
    loss.run(f"{LINE}.querySelector('.stage').scrollIntoView({{block: 'center'}})")
    left, top, width, height = loss.run(
        f"(() => {{ const b = {LINE}.querySelector('.stage').getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; }})()"
    )
    # The median is about 8 ms: somewhere on that height a request lies under the pointer.
    for share in range(30, 100, 3):
        loss.mouse("Moved", left + width * 0.7, top + height * share / 100)
        if not loss.run(f"{LINE}.querySelector('.tip').hidden"):
            break
    told = loss.run(f"{LINE}.querySelector('.tip').textContent")
    for word in ("GET", "outcome", "instance", "visitor", "connection", "due", "sent", "answered", "tried"):
        assert word in told
    marked = loss.run(f"{LINE}.querySelector('.logs .now')?.textContent")
    assert re.search(r"line \d+ of app-\d", marked)


def test_it_can_be_used_without_a_mouse(loss: Browser) -> None:
    """Open with Enter, zoom, move, go to what failed and hear it, and back to the whole."""
    loss.run("document.querySelector('#failover\\\\.kill > summary').focus()")
    loss.press("Enter")
    assert not loss.run("document.querySelector('#failover\\\\.kill').open")
    loss.press("Enter")
    assert loss.run("document.querySelector('#failover\\\\.kill').open")
    stage = f"{LINE}.querySelector('.stage')"
    loss.run(f"{stage}.focus()")
    assert loss.run(f"document.activeElement === {stage}")
    loss.press("+", "+")
    near = int(loss.run(SHOWN).split()[0])
    assert 0 < near < 300
    loss.press("ArrowLeft", "0")
    assert loss.run(SHOWN).startswith("821 ")
    loss.press("f")
    said = f"{LINE}.querySelector('[aria-live=polite].hidden').textContent"
    first = loss.run(said)
    assert "unknown: timeout" in first
    assert "bad gateway" in first
    loss.press("f", "f", "f")
    assert "http-502" in loss.run(said)
    loss.press("Escape")
    assert loss.run(f"{LINE}.querySelector('.tip').hidden")


def test_every_picture_has_a_table(loss: Browser) -> None:
    """What was done, what each node was, numbers over time, and the requests in view, what broke first."""
    loss.run(f"{LINE}.querySelectorAll('details').forEach((each) => {{ each.open = true; }})")
    loss.until(f"[...{LINE}.querySelectorAll('details')].every((each) => each.querySelector('tbody tr'))")
    tables = loss.run(f"[...{LINE}.querySelectorAll('details')].map((each) => each.innerText)")
    assert len(tables) == 4
    assert "kill: in effect (seen)" in tables[0]
    assert re.search(r"app-1\s+down", tables[1])
    assert "95 %" in tables[2]
    assert loss.run(f"{LINE}.querySelectorAll('details')[3].querySelector('tbody tr').classList.contains('bad')")
    # The setup is told in words; bars and matrices are tables themselves.
    assert "which asks" in loss.run("document.querySelector('.setting svg').getAttribute('aria-label')")


def test_promises_are_chosen_by_verdict(loss: Browser) -> None:
    """The counts are the choice."""
    loss.run("document.querySelector('.counts [data-word=pass]').click()")
    shown = loss.run(
        "[...document.querySelectorAll('details.promise')].filter((each) => !each.hidden).map((each) => each.id)"
    )
    assert sorted(shown) == ["distribution.share", "rollout.rolling", "session.survives-instance-loss"]
    loss.run("document.querySelector('.counts [data-word=\"\"]').click()")
    assert loss.run("document.querySelectorAll('details.promise[hidden]').length") == 0


def test_light_and_dark(loss: Browser) -> None:
    """As the system is, also when that changes; both can be read."""

    def contrast() -> float:
        told = loss.run("['color', 'backgroundColor'].map((each) => getComputedStyle(document.documentElement)[each])")
        light = [sum(map(float, re.findall(r"[\d.]+", each)[:3])) / 765 for each in told]
        return light[1] - light[0]

    assert contrast() > 0.8
    before = colours(loss)
    loss.prefer("dark")
    loss.until("matchMedia('(prefers-color-scheme: dark)').matches")
    assert contrast() < -0.7
    wait_until(
        lambda: colours(loss)["light"] > before["light"] * 1.1,
        within_seconds=20,
        because="what is drawn should be light on dark",
    )
    assert colours(loss)["red"] > 100


def test_it_prints_to_two_pages(loss: Browser) -> None:
    """With the broken promise open and its time-line on it, on white; afterwards the screen is as it was."""
    loss.prefer("dark")
    printed = loss.printed()
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 2, "pages"
    assert len(zlib.compress(printed)) > 20_000
    loss.until("!document.documentElement.classList.contains('on-paper')")
    assert loss.run(f"{LINE}.querySelector('canvas').getBoundingClientRect().width") > 900


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_is_wider_than_the_window(loss: Browser, width: int) -> None:
    """A telephone scrolls down only."""
    loss.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    loss.resize(width, 800)
    loss.until(f"Math.abs({LINE}.querySelector('canvas').getBoundingClientRect().width - {LINE}.clientWidth) < 2")
    assert loss.run("document.documentElement.scrollWidth") <= width


def test_nothing_hostile_runs(browser: Browser, tmp_path: Path) -> None:
    """Whatever was said, everything is opened, pointed at and listed: it is all text."""
    page = stored(tmp_path, say=HOSTILE) / "index.html"
    browser.resize(1280, 900)
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    browser.until("[...document.querySelectorAll('figure.time-line')].every((each) => each.dataset.awake === 'ready')")
    browser.run("document.querySelectorAll('figure details').forEach((each) => { each.open = true; })")
    browser.run(f"{LINE}.querySelector('.stage').focus()")
    browser.press("f", "n", "p", "f")
    browser.until(f"!{LINE}.querySelector('.tip').hidden")
    assert "window.hacked=1" in browser.run(f"{LINE}.querySelector('.tip').textContent")
    assert browser.run("typeof window.hacked") == "undefined"
    assert browser.run("document.querySelectorAll('img, main script, iframe').length") == 0
    assert browser.complaints == []
    assert browser.fetched == [page.as_uri()]


def test_what_is_put_into_the_page_later_does_not_run_either(loss: Browser) -> None:
    """The last wall: the page's own policy."""
    loss.run(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=1\"><i onclick=1></i>')"
    )
    loss.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked=1'}))")
    loss.run("new Promise((done) => setTimeout(done, 100))")
    assert loss.run("typeof window.hacked") == "undefined"
    assert any("Content Security Policy" in each for each in loss.complaints)
    loss.complaints.clear()
    assert loss.fetched.pop().endswith("/x"), "which the policy refused as well"
