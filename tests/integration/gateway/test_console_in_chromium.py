"""The auditors' console in a real browser: by keyboard, in light and dark, on a narrow screen, with and without scripts."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import update

import campaigns
from blindgate_gateway.identity import StaffRole, revoke_api_key
from blindgate_gateway.opening import open_database
from blindgate_gateway.tables import events
from blindgate_protocol.keys import KeyState
from blindgate_protocol.logged import LogView
from brokerage import (
    Brokerage,
    GatewayProcess,
    Keys,
    Publisher,
    Tenant,
    Worker,
    http_client,
    make_settings,
    random_bytes,
)
from chromium import Chromium, find_chromium

CONTRAST = """
(() => {
    const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = element => {
        for (; element; element = element.parentElement) {
            const colour = parse(getComputedStyle(element).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const poor = [];
    for (const element of document.body.querySelectorAll("*")) {
        if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) poor.push([element.outerHTML.slice(0, 80), contrast]);
    }
    return poor;
})()
"""
"""Texts with too little contrast to what they stand on: WCAG 2.2, 1.4.3."""
FOCUSABLE = """[...document.querySelectorAll("a[href], button, input, select, summary, pre[tabindex]")]
    .filter(element => element.checkVisibility())"""
WIDTHS = "[document.scrollingElement.scrollWidth, document.scrollingElement.clientWidth]"
MOST_STOPS = 200
HERE = "document.activeElement"


@dataclass
class Shown:
    """A gateway with a key, jobs and a log, and a browser in front of it."""

    brokerage: Brokerage
    gateway: GatewayProcess
    chromium: Chromium
    key: str
    job: str
    auditor: str

    def go(self, path: str) -> None:
        """Load a page of the console."""
        self.chromium.go(f"{self.gateway.url}/console{path}")

    @property
    def path(self) -> str:
        """Where the browser is."""
        return str(self.chromium.evaluate("location.pathname + location.search"))

    def pages(self) -> dict[str, str]:
        """Every page, by a name."""
        return {
            "overview": "/",
            "keys": "/keys",
            "key": f"/keys/{self.key}",
            "jobs": "/jobs",
            "job": f"/jobs/{self.job}",
            "log": "/log",
            "entry": "/log/9",
            "exports": "/exports",
            "names": "/names",
            "problem": "/log/123456",
        }


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """One for all tests here."""
    program = find_chromium()
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Chromium is not installed (Debian: chromium)")
    folder, keys = tmp_path_factory.mktemp("console"), Keys()
    settings = make_settings(folder / "gateway", keys, checkpoint=50)
    brokerage = Brokerage(settings, keys)
    gateway = GatewayProcess(settings)
    gateway.start()
    try:
        key, job = _fill(brokerage, gateway)
        auditor = brokerage.staff_key(StaffRole.AUDITOR, "Ada Auditor")
        chromium = Chromium(folder, program)
        try:
            yield Shown(brokerage, gateway, chromium, key, job, auditor)
        finally:
            chromium.close()
    finally:
        if gateway.running:
            gateway.stop()


@pytest.fixture
def inside(shown: Shown) -> Shown:
    """Signed in, with a wide light screen and scripts, and nothing complained of yet."""
    shown.chromium.look()
    shown.chromium.send("Network.clearBrowserCookies")
    shown.go("/sign-in")
    shown.chromium.evaluate("document.getElementById('key').focus()")
    shown.chromium.write(shown.auditor)
    shown.chromium.during(lambda: shown.chromium.press("Enter"))
    assert shown.path == "/console/"
    shown.chromium.problems.clear()
    return shown


def _fill(brokerage: Brokerage, gateway: GatewayProcess) -> tuple[str, str]:
    with http_client(gateway.url) as http, http_client(gateway.url) as second:
        Publisher(http, brokerage.api_key("models", publish=True)).publish(brokerage.manifest())
        tenant = Tenant(http, brokerage.api_key("st-marys-hospital"), name="st-marys-hospital", keys=brokerage.keys)
        worker = Worker(second, brokerage)
        manifest = brokerage.manifest(name="keyed", evaluation_key=True)
        Publisher(http, brokerage.api_key("models", publish=True)).publish(manifest)
        blob = tenant.upload(random_bytes(200))
        first = tenant.statement(blob, KeyState.REGISTERED)
        active = tenant.statement(blob, KeyState.ACTIVE, first)
        for statement in (first, active):
            assert tenant.state(statement).is_success
        job = ""
        for _ in range(3):
            order = tenant.order(manifest, tenant.upload(random_bytes(64)), evaluation_key=blob.digest)
            job = tenant.submit(order).job
            lease = worker.lease()
            assert lease is not None
            assert worker.command(lease, "GET", f"blobs/{blob.digest}").is_success
            worker.finish(lease, random_bytes(20))
        assert tenant.state(tenant.statement(blob, KeyState.SUSPENDED, active)).is_success
        while LogView.model_validate_json(http.get("/v1/log").content).pending:
            pass
    return blob.digest, job


def test_an_auditor_signs_in_and_out_by_keyboard_alone(shown: Shown) -> None:
    """From the first page that is asked for; no script can read the cookie."""
    browser = shown.chromium
    browser.look()
    browser.send("Network.clearBrowserCookies")
    shown.go("/keys")
    assert shown.path == "/console/sign-in"
    browser.press("Tab")
    assert browser.evaluate(f"{HERE}.textContent") == "Skip to the content"
    browser.press("Tab")
    assert browser.evaluate(f"{HERE}.id") == "key"
    browser.write("bs_0000000000000000.wrong")
    browser.during(lambda: browser.press("Enter"))
    assert browser.evaluate("document.querySelector('[role=alert]').textContent").startswith("This is not a valid")
    browser.evaluate("document.getElementById('key').focus()")
    browser.write(shown.auditor)
    browser.during(lambda: browser.press("Enter"))
    assert shown.path == "/console/"
    assert "Signed in as Ada Auditor" in browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.cookie") == ""
    assert browser.evaluate("JSON.stringify(localStorage)") == "{}", "no page is kept"
    browser.evaluate("document.querySelector('.leave button').focus()")
    browser.during(lambda: browser.press("Space"))
    assert shown.path == "/console/sign-in"
    shown.go("/")
    assert shown.path == "/console/sign-in"


def test_no_page_asks_for_what_its_policy_forbids(inside: Shown) -> None:
    """Neither the console's own files nor htmx make the browser complain."""
    for path in inside.pages().values():
        if path != "/log/123456":
            inside.go(path)
            assert inside.chromium.evaluate("typeof htmx") == "object"
    assert inside.chromium.problems == []
    blocked = inside.chromium.evaluate(
        "new Promise(done => { document.addEventListener('securitypolicyviolation', e => done(e.violatedDirective));"
        " const made = document.createElement('script'); made.textContent = 'window.ran = 1'; document.body.append(made); })"
    )
    assert blocked.startswith("script-src")
    assert inside.chromium.evaluate("window.ran") is None


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_page_is_readable_in_light_and_dark_and_at_320_pixels(inside: Shown, tmp_path: Path, dark: bool) -> None:
    """Enough contrast, nothing wider than the screen; tables stay tables for assistive technology."""
    for name, path in inside.pages().items():
        for width in (1280, 320):
            inside.chromium.look(width=width, dark=dark)
            inside.go(path)
            if campaigns.CAMPAIGN > 1:  # for people to look at
                inside.chromium.shoot(tmp_path / f"{name}-{width}.png")
            wide, seen = inside.chromium.evaluate(WIDTHS)
            assert wide <= seen <= width, (name, width)
            assert inside.chromium.evaluate(CONTRAST) == [], (name, width)
        if inside.chromium.evaluate("document.querySelector('table') !== null"):
            roles = {role for role, _ in inside.chromium.accessible()}
            assert roles >= {"table", "row", "columnheader", "rowheader", "cell"}, name


def test_everything_is_reached_by_keyboard_and_seen_to_be(inside: Shown) -> None:
    """Each link, button and field in turn, with an outline, and out at the end; each has a name, each page its landmarks."""
    browser = inside.chromium
    for name, path in inside.pages().items():
        inside.go(path)
        count = browser.evaluate(f"{FOCUSABLE}.map((element, number) => element.dataset.number = number).length")
        reached: list[int] = []
        while len(reached) < MOST_STOPS:
            browser.press("Tab")
            stop = int(browser.evaluate(f"{HERE}.dataset.number ?? -1"))
            if stop < 0 or (stop == 0 and reached):
                break  # out at the end
            reached.append(stop)
            seen = browser.evaluate(f"getComputedStyle({HERE}).outlineStyle")
            assert seen == "solid", (name, browser.evaluate(f"{HERE}.outerHTML"))
        assert list(dict.fromkeys(reached)) == list(range(count)), name
        told = browser.accessible()
        roles = {role for role, _ in told}
        assert roles >= {"banner", "main", "navigation"}, name
        for role, text in told:
            assert text or role not in {"link", "button", "textbox", "combobox", "columnheader", "region"}, (name, role)
        assert browser.evaluate("document.querySelectorAll('h1').length") == 1
        assert browser.evaluate("document.title").endswith("Blindgate console")


def test_the_skip_link_leads_to_the_content(inside: Shown) -> None:
    """The next stop is behind the navigation."""
    browser = inside.chromium
    inside.go("/log")
    browser.press("Tab")
    assert browser.evaluate(f"{HERE}.getBoundingClientRect().top") >= 0
    browser.press("Enter")
    browser.press("Tab")
    assert browser.evaluate(f"{HERE}.id") == "object"


def test_a_check_is_made_anew_in_place(inside: Shown) -> None:
    """By a button; and it sees what was altered since the page was made."""
    browser = inside.chromium
    for path in ("/log/9", f"/jobs/{inside.job}"):
        inside.go(path)
        index = int(browser.evaluate("document.querySelector('#check .result').textContent.match(/[0-9]+/)[0]"))
        browser.evaluate("window.stays = true, document.querySelector('#check').dataset.old = 1")
        browser.evaluate("document.querySelector('#check .result').remove()")
        browser.evaluate("document.querySelector('[hx-target=\"#check\"] button').focus()")
        browser.press("Enter")
        browser.until("document.querySelector('#check .result.good')")
        assert browser.evaluate("document.querySelector('#check').getAttribute('aria-live')") == "polite"
        _alter(inside, index, "success", "failure")
        browser.press("Enter")
        browser.until("document.querySelector('#check .result.bad')")
        _alter(inside, index, "failure", "success")
        browser.press("Enter")
        browser.until("document.querySelector('#check .result.good')")
        assert browser.evaluate("window.stays") is True
    assert browser.problems == []


def test_a_list_is_filtered_in_place_and_a_wrong_filter_is_said(inside: Shown) -> None:
    """The address says what is shown, the browser's way back works, and a refusal stands where the page was."""
    browser = inside.chromium
    inside.go("/log")
    browser.evaluate("window.stays = true, document.getElementById('object').focus()")
    browser.write(f"job:{inside.job}")
    browser.press("Enter")
    browser.until("location.search.includes('object=job')")
    browser.until("document.querySelectorAll('#results tbody tr').length === 3")
    assert browser.evaluate("window.stays") is True
    browser.evaluate("document.getElementById('object').focus()")
    browser.write("<b>")
    browser.press("Enter")
    browser.until("document.querySelector('[role=alert]')")
    assert "object must be a kind and an id" in browser.evaluate("document.querySelector('main').innerText")
    for expected in ("=== 3", "> 3"):
        browser.during(lambda: browser.evaluate("history.back()"))
        browser.until(f"document.querySelectorAll('#results tbody tr').length {expected}")


def test_the_console_works_without_scripts(inside: Shown) -> None:
    """As pages, by forms and links."""
    browser = inside.chromium
    browser.look(scripts=False)
    inside.go("/log/9")
    browser.evaluate("document.querySelector('[hx-target=\"#check\"] button').focus()")
    browser.during(lambda: browser.press("Enter"))
    assert inside.path.startswith("/console/log/9")
    assert browser.evaluate("document.querySelector('#check .result.good') !== null")
    inside.go("/keys")
    browser.evaluate("document.getElementById('digest').focus()")
    browser.write(inside.key[:20])
    browser.during(lambda: browser.press("Enter"))
    assert browser.evaluate("document.querySelectorAll('#results tbody tr').length") == 1
    assert browser.evaluate("typeof htmx") == "undefined"


def test_a_session_that_ended_leads_to_the_form(inside: Shown) -> None:
    """Also where only a part of a page was asked for."""
    browser = inside.chromium
    inside.go("/log/9")
    database = open_database(inside.brokerage.settings)
    try:
        revoke_api_key(database, inside.auditor.partition(".")[0], staff=True)
    finally:
        database.close()
    inside.auditor = inside.brokerage.staff_key(StaffRole.AUDITOR, "Ada Auditor")
    browser.evaluate("document.querySelector('[hx-target=\"#check\"] button').focus()")
    browser.during(lambda: browser.press("Enter"))
    assert inside.path == "/console/sign-in"


def _alter(inside: Shown, index: int, before: str, after: str) -> None:
    database = open_database(inside.brokerage.settings)
    try:
        with database.write() as connection:
            this = events.c.position == index
            body = connection.execute(events.select().where(this)).one().body
            connection.execute(update(events).where(this).values(body=body.replace(f'"{before}"', f'"{after}"')))
    finally:
        database.close()
