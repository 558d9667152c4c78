"""The page in a browser: by keyboard, by mouse, in two windows, with the server gone for a while, and for screen readers."""

import contextlib
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from desks import A_FILE, CLASSES, make_desk, said, teach
from desks import until as plain_until
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from audiorep.label.app import make_app
from audiorep.label.desk import Desk
from audiorep.label.journal import answers_since
from audiorep.label.settle import current

FASTER = """
const interval = window.setInterval;
window.setInterval = (act, ms) => interval(act, ms / 20);
window.ticks = 0;
interval(() => { window.ticks += 1; }, 250);
const now = performance.now.bind(performance);
performance.now = () => 20 * now();
"""
"""Before the page's own script: it looks after the server every quarter of a second, not every five, and takes two answers
for one only where they come twenty times as fast."""

KEYS = {"up": "1", "down": "d", "flat": "f", "trill": "t"}


def until(true: Callable[[], Any]) -> Any:
    """As everywhere, over a page that draws itself anew while one looks at it."""

    def looked() -> Any:
        with contextlib.suppress(StaleElementReferenceException, StopIteration):
            return true()

    return plain_until(looked)


@pytest.fixture(scope="module")
def chrome() -> Iterator[webdriver.Chrome]:
    browser, driver = (
        shutil.which(name, path="/usr/bin:/usr/local/bin:/snap/bin") for name in ("chromium", "chromedriver")
    )
    if browser is None or driver is None:
        pytest.skip("Chromium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,900", "disable-gpu",
                 "autoplay-policy=no-user-gesture-required"):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield started
    started.quit()


class Server:
    """The page in a thread of this process, at a port that it has to itself."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk, self.folder = desk, folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        bound = socket.create_server(("127.0.0.1", self.port))
        app = make_app(self.desk, self.folder, self.folder / "out")
        config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [bound]})
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()

    @property
    def labels(self) -> dict[int, tuple[str, str, tuple[str, ...]]]:
        """{row: (annotator, kind, classes that are there)} as the store has it, in the order of the answers."""
        return {
            self.desk.row[one.clip]: (
                one.annotator,
                one.kind,
                tuple(name for name, there in one.labels.items() if there),
            )
            for one in current(self.desk.store)
        }


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def one(taught: int = 0, **changes: Any) -> Server:
        desk = make_desk(tmp_path, **changes)
        teach(desk, range(taught), "before")
        desk.open()
        started.append(Server(desk, tmp_path))
        return started[-1]

    yield one
    for server in started:
        if server.thread.is_alive():
            server.stop()
        server.desk.close()


class Page:
    """A window on the page."""

    def __init__(self, driver: webdriver.Chrome, server: Server, name: str | None = "ann") -> None:
        self.driver, self.server = driver, server
        driver.get(f"http://127.0.0.1:{server.port}/")
        self.window = driver.current_window_handle
        until(lambda: self.status)
        if name is not None:
            self("annotator").clear()
            self("annotator").send_keys(name, Keys.ENTER)
            until(lambda: self.row is not None)

    def __call__(self, id: str) -> WebElement:
        return self.driver.find_element(By.ID, id)

    @property
    def status(self) -> str:
        return self("status").text

    @property
    def row(self) -> int | None:
        """The clip that is shown."""
        found = re.match(r"(\d+)\.wav, ([\d.]+)", self("clip-title").text)
        return None if found is None else int(found[1]) * A_FILE + round(float(found[2]) * 2)

    def press(self, *keys: str) -> None:
        ActionChains(self.driver, duration=10).send_keys(*keys).perform()

    def at_ms(self, time: int) -> None:
        """From now on it is this time for the page, and stays it."""
        self.script(f"performance.now = () => {time}")

    def answer(self, key: str | None = None) -> int:
        """Press a key, the right class' by default, and wait for the next clip."""
        before = self.row
        assert before is not None
        self.press(key or KEYS[CLASSES[before % 4]])
        until(lambda: self.row not in (before, None))
        return before

    def button(self, text: str, within: str = "work") -> WebElement:
        found = self(within).find_elements(By.TAG_NAME, "button")
        return next(one for one in found if one.is_displayed() and one.text.startswith(text))

    def clips(self, within: str = "tiles") -> list[str]:
        """Of the tiles there, in one go: the page may be drawing them anew."""
        return self.script(
            "return [...document.getElementById(arguments[0]).querySelectorAll('.tile')]"
            ".filter(one => one.checkVisibility()).map(one => one.dataset.clip)", within
        )  # fmt: skip

    def settle(self) -> None:
        """Until the page has looked after the server once more."""
        before = self.script("return window.ticks")
        until(lambda: self.script("return window.ticks") > before + 2)

    def script(self, text: str, *given: Any) -> Any:
        return self.driver.execute_script(text, *given)


@pytest.fixture
def page(chrome: webdriver.Chrome) -> Iterator[Any]:
    """Opens windows; in the end there must be no error in the console, but for those that are `expected`."""
    faster = chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FASTER})
    chrome.get_log("browser")
    first = chrome.current_window_handle

    def one(server: Server, name: str | None = "ann", new: bool = False) -> Page:
        if new:
            chrome.switch_to.new_window("tab")
            chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FASTER})
        return Page(chrome, server, name)

    one.expected = ""  # type: ignore[attr-defined]
    yield one
    errors = []
    for window in chrome.window_handles:
        chrome.switch_to.window(window)
        errors += [entry["message"] for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        chrome.get("about:blank")
        if window != first:
            chrome.close()
    chrome.switch_to.window(first)
    chrome.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", faster)
    chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    expected = one.expected  # type: ignore[attr-defined]
    assert [error for error in errors if not (expected and re.search(expected, error))] == []


# ------------------------------------------------------------ ask


def test_twenty_clips_by_keyboard_two_undone_a_reload_and_nothing_is_lost(serve, page):
    server = serve(n=60)
    window = page(server, None)
    assert window.driver.switch_to.active_element.get_attribute("id") == "annotator"
    window.press("ann", Keys.ENTER)
    until(lambda: window.row is not None)
    answered = [window.answer() for _ in range(17)]
    for key in "uns":
        answered.append(window.answer(key))
    assert len(set(answered)) == 20
    for row in reversed(answered[-2:]):
        window.press("z")
        until(lambda row=row: window.row == row)
    kinds = {row: ("ann", "label", (CLASSES[row % 4],)) for row in answered[:17]} | {
        answered[17]: ("ann", "unknown", ())
    }
    assert server.labels == kinds
    until(lambda: server.desk.round.p is not None)
    window.driver.refresh()
    until(lambda: window.row is not None)
    assert window("annotator").get_attribute("value") == "ann"
    assert window.row in answered[-2:]  # what was taken back is asked again
    assert "18 of 60 clips answered" in until(lambda: window("progress").text)
    assert server.labels == kinds
    assert len(answers_since(server.desk.store)) == 22  # undo is an entry of its own


def test_a_key_pressed_twice_answers_one_clip_and_a_key_that_means_nothing_none(serve, page):
    server = serve()
    window = page(server)
    window.at_ms(1000)
    first = window.row
    window.press("1", "1", "1")
    until(lambda: window.row != first)
    window.press("1", "q", "9", "y", Keys.ESCAPE)  # the next clip is there, too early for anybody to have heard it
    window.settle()
    assert list(server.labels) == [first]
    assert len(answers_since(server.desk.store)) == 1
    second = window.row
    window.at_ms(1300)
    window.press("1")
    until(lambda: window.row != second)
    assert list(server.labels) == [first, second]
    window.answer("d")  # another answer is no second press
    assert len(server.labels) == 3


def test_a_button_clicked_twice_answers_one_clip(serve, page):
    server = serve()
    window = page(server)
    window.at_ms(1000)
    first = window.row
    window.button("up").click()
    until(lambda: window.row != first)
    window.button("up").click()
    window.settle()
    assert list(server.labels) == [first]


def test_keys_typed_into_a_field_are_text(serve, page):
    server = serve()
    window = page(server)
    window("class-name").click()
    window.press("hoot", Keys.ENTER)
    until(lambda: window.button("hoot"))
    assert server.labels == {}
    row = window.answer("h" if "h" in window.button("hoot").text[4:] else "2")
    assert server.labels[row] == ("ann", "label", ("hoot",))


def test_the_page_says_why_what_it_guesses_and_how_far_it_is(serve, page):
    server = serve(taught=12)
    window = page(server)
    assert re.match(r"Number 1 of 12 that margin wants to know, score ", window("why").text)
    assert len(window("guess").find_elements(By.CLASS_NAME, "bar")) == 3
    near = window("near").find_elements(By.TAG_NAME, "img")
    assert len(near) == 3 and until(lambda: all(one.get_property("naturalWidth") for one in near))
    assert "12 of 40 clips answered (before 12)" in window("progress").text
    for _ in range(20):
        window.answer()
    assert until(
        lambda: (
            "guesses right against answers learned from:"
            in window("curve").find_element(By.TAG_NAME, "svg").get_attribute("aria-label")
        )
    )


def test_the_picture_is_drawn_again_for_another_band_contrast_or_context_and_the_axes_follow(serve, page):
    window = page(serve())
    picture = window("picture")
    until(lambda: picture.get_property("naturalWidth") == 800)
    assert window("hz").text.split("\n")[-1] == "4 kHz"
    for id, value, part in (
        ("high", "2000", "high=2000"),
        ("low", "500", "low=500"),
        ("context", "0", "context=0&"),
        ("range", "80", "range=80"),
    ):
        window.script(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('change'))",
            id,
            value,
        )
        assert part in picture.get_attribute("src")
        until(lambda: picture.get_property("complete") and picture.get_property("naturalWidth") == 800)
    assert window("hz").text.split("\n")[0] in ("0.5 kHz", "0.50 kHz") and window("hz").text.split("\n")[-1] in (
        "2.0 kHz",
        "2.00 kHz",
    )
    box = window.script("const b = document.getElementById('box').style; return [b.left, b.right, b.top, b.bottom]")
    assert box == ["0%", "0%", "0%", "0%"]  # the clip fills the picture


def test_sound_is_played_at_its_own_speed_and_slowed(serve, page):
    window = page(serve())
    row = window.row
    played = min(0.5, row % A_FILE * 0.5) + 0.5 + min(0.5, (9 - row % A_FILE) * 0.5)
    for key, times in (("p", 1.0), ("l", 10.0)):
        window.press(key)
        assert until(lambda: window("audio").get_property("duration")) is not None
        until(lambda times=times: abs((window("audio").get_property("duration") or 0.0) - times * played) < 0.05)
    assert "not" not in window.status


def test_a_recording_that_cannot_be_read_any_more_is_said_and_skipped(serve, page):
    page.expected = "404"
    server = serve()
    bad = server.desk.round.questions[1].row
    good = server.desk.round.questions[0].row
    path = server.folder / server.desk.told.clips[bad].path
    for row in {row for row in range(40) if server.desk.told.clips[row].path == path.name} - {bad, good}:
        server.desk.spoil(row)
    content = path.read_bytes()
    window = page(server, None)
    path.write_bytes(b"no sound")
    window.press("ann", Keys.ENTER)
    while until(lambda: window.row is not None) and window.row != bad:
        window.answer("s")
    assert "not readable as audio" in until(lambda: window("problem").text)
    assert str(server.folder) not in window("problem").text
    window.answer("s")
    assert server.labels[bad] == ("ann", "skip", ())
    path.write_bytes(content)


def test_when_there_is_nothing_to_ask_the_page_looks_again_by_itself(serve, page):
    server = serve(n=3)
    held = server.desk.next("other", 3)
    window = page(server, None)
    window.press("ann", Keys.ENTER)
    until(lambda: window("clip-title").text == "Nothing to ask at the moment")
    window.press("1")  # answers nothing
    server.desk.leases.release(held[0].row, "other")
    until(lambda: window.row == held[0].row)
    assert server.labels == {}


# ------------------------------------------------------------ the box


def test_a_box_that_was_dragged_by_keyboard_is_stored(serve, page):
    server = serve()
    window = page(server)
    row, clip = window.row, server.desk.told.clips[window.row]
    t0, t1 = max(0.0, clip.start_s - 0.5), min(5.0, clip.end_s + 0.5)
    for grip, keys in (("start", [Keys.ARROW_RIGHT] * 6 + [Keys.ARROW_LEFT]), ("end", [Keys.ARROW_LEFT] * 4),
                       ("low", [Keys.ARROW_UP] * 10), ("high", [Keys.ARROW_DOWN] * 20)):  # fmt: skip
        window.script("arguments[0].focus()", window(f"grip-{grip}"))
        window.press(*keys)
    assert window("grip-low").get_attribute("aria-valuetext") == "400 Hz"
    window.answer()
    stored = answers_since(server.desk.store)[-1]
    step = (t1 - t0) / 200
    assert stored.clip == clip.id and stored.labels == {CLASSES[row % 4]: True}
    assert (stored.start_s, stored.end_s) == pytest.approx((clip.start_s + 5 * step, clip.end_s - 4 * step), abs=1e-6)
    assert (stored.low_hz, stored.high_hz) == pytest.approx((400.0, 3200.0))
    window.answer()
    assert answers_since(server.desk.store)[-1].start_s is None  # the next clip's box was not touched


def test_a_box_that_was_dragged_by_mouse_is_stored_and_one_that_was_put_back_is_not(serve, page):
    server = serve()
    window = page(server)
    clip = server.desk.told.clips[window.row]
    t0, t1 = max(0.0, clip.start_s - 0.5), min(5.0, clip.end_s + 0.5)
    stage = window.script(
        "const r = document.getElementById('stage').getBoundingClientRect(); return [r.left, r.top, r.width, r.height]"
    )

    def drag(grip: str, x: int, y: int) -> tuple[float, float]:
        middle = (
            "const r = arguments[0].getBoundingClientRect(); return [(r.left + r.right) / 2, (r.top + r.bottom) / 2]"
        )
        where = window.script(middle, window(f"grip-{grip}"))
        ActionChains(window.driver, duration=20).click_and_hold(window(f"grip-{grip}")).move_by_offset(
            x, y
        ).release().perform()
        return where[0] + x, where[1] + y

    x, _ = drag("start", 40, 0)
    start_s = t0 + (x - stage[0]) / stage[2] * (t1 - t0)
    _, y = drag("high", 0, 60)
    high_hz = 4000 * (1 - (y - stage[1]) / stage[3])
    window.answer()
    stored = answers_since(server.desk.store)[-1]
    pixel_s, pixel_hz = (t1 - t0) / stage[2], 4000 / stage[3]
    assert stored.start_s == pytest.approx(start_s, abs=2 * pixel_s) and stored.start_s > clip.start_s
    assert stored.high_hz == pytest.approx(high_hz, abs=2 * pixel_hz) and stored.high_hz < 4000
    assert (stored.end_s, stored.low_hz) == (clip.end_s, 0.0)
    drag("end", -30, 0)
    window("whole").click()
    window.answer()
    assert answers_since(server.desk.store)[-1].end_s is None


def test_a_box_cannot_be_dragged_out_of_the_picture_or_inside_out(serve, page):
    server = serve()
    window = page(server)
    clip = server.desk.told.clips[window.row]
    for grip, key in (("start", Keys.ARROW_RIGHT), ("low", Keys.ARROW_UP)):
        window.script("arguments[0].focus()", window(f"grip-{grip}"))
        window.press(*[key] * 150)
    window.script("arguments[0].focus()", window("grip-end"))
    window.press(*[Keys.ARROW_RIGHT] * 150)
    window.answer()
    stored = answers_since(server.desk.store)[-1]
    assert clip.start_s < stored.start_s < clip.end_s
    assert stored.end_s == pytest.approx(min(5.0, clip.end_s + 0.5))
    assert 0 < stored.low_hz < stored.high_hz == 4000


# ------------------------------------------------------------ several labels


def test_where_a_clip_may_have_several_labels_keys_tick_and_enter_sends(serve, page):
    server = serve(several=True)
    window = page(server)
    row = window.row
    window.press(Keys.ENTER)
    until(lambda: window.status == "Choose a class first.")
    window.press("1", "d", "f", "f")  # flat ticked, and not
    ActionChains(window.driver).key_down(Keys.SHIFT).send_keys("t").key_up(Keys.SHIFT).perform()
    pressed = {
        window.script("return arguments[0].firstChild.textContent", one): one.get_attribute("aria-pressed")
        for one in window("answers").find_elements(By.TAG_NAME, "button")
    }
    assert (pressed["up"], pressed["down"], pressed["flat"]) == ("true", "true", "false")
    assert window.row == row and server.labels == {}
    window.answer(Keys.ENTER)
    assert answers_since(server.desk.store)[-1].labels == {"up": True, "down": True, "trill": False}
    assert not window("answers").find_elements(By.CSS_SELECTOR, "[aria-pressed=true], .absent")
    window.answer("n")
    assert answers_since(server.desk.store)[-1].kind == "noise"


# ------------------------------------------------------------ review, discover, look-alikes, disagreements


def test_detections_are_accepted_corrected_and_rejected_worst_first(serve, page):
    server = serve(detected={4: ("up", 0.9), 9: ("up", 0.2), 14: ("flat", 0.5)})
    window = page(server)
    window("tab-review").send_keys(Keys.ENTER)
    until(lambda: window.row == 9)
    assert window("claim").text == "detected: up" and "score 0.2" in window("why").text
    assert window("tab-review").get_attribute("aria-selected") == "true"
    window.answer("d")  # corrected
    assert window.row == 14
    window.answer(Keys.ENTER)  # accepted
    assert window.row == 4
    window.press("n")  # rejected
    until(lambda: window("clip-title").text == "Nothing to review")
    assert server.labels == {9: ("ann", "label", ("down",)), 14: ("ann", "label", ("flat",)), 4: ("ann", "noise", ())}
    assert {one.query for one in answers_since(server.desk.store)} == {None}
    window.press("z")
    until(lambda: window.row == 4)
    assert 4 not in server.labels


def test_groups_are_opened_ticked_named_and_gone(serve, page):
    server = serve(taught=2)
    window = page(server)
    window("tab-discover").send_keys(Keys.ENTER)
    until(lambda: window.clips("group-list"))
    assert "groups" in window.status and not window("one").is_displayed()
    window.press("1", "u", "n")  # nothing is shown that these could mean
    group = window("group-list").find_element(By.CLASS_NAME, "group")
    group.find_element(By.XPATH, ".//button[.='Open and name']").send_keys(Keys.ENTER)
    clips = until(window.clips)
    assert 0 < len(clips) <= 8 and window("many-title").text.startswith("Group of")
    window("tiles").find_element(By.CLASS_NAME, "tile").send_keys(Keys.SPACE)  # all but this
    assert window("ticked").text == f"{len(clips) - 1} of {len(clips)} ticked"
    window("name-for").send_keys("trill")
    window("name-all").send_keys(Keys.ENTER)
    until(lambda: len(server.labels) == 2 + len(clips) - 1)
    named = {row for row, (who, _, labels) in server.labels.items() if who == "ann" and labels == ("trill",)}
    assert named == {server.desk.row[clip] for clip in clips[1:]}
    until(lambda: window.clips("group-list") and not set(clips[1:]) & set(window.clips("group-list")))


def test_look_alikes_answer_several_clips_at_once_and_back_leaves_all_as_it_was(serve, page):
    server = serve(taught=12)
    window = page(server)
    row = window.row
    window.press("g")
    clips = until(window.clips)
    assert window.driver.switch_to.active_element.get_attribute("id") == "many-title"
    assert len(clips) == 24 and server.desk.row[clips[0]] == row
    window.press(Keys.ESCAPE)
    until(lambda: window("one").is_displayed())
    assert window.row == row and len(server.labels) == 12
    window.press("g")
    assert until(window.clips) == clips
    for tile in window("tiles").find_elements(By.CLASS_NAME, "tile")[5:]:
        tile.click()
    window("name-for").send_keys(CLASSES[row % 4])
    window("name-all").click()
    until(lambda: window("one").is_displayed() and window.row not in (row, None))
    mine = {row: labels for row, (who, _, labels) in server.labels.items() if who == "ann"}
    assert mine == {server.desk.row[clip]: (CLASSES[row % 4],) for clip in clips[:5]}


def test_a_disagreement_is_shown_with_who_says_what_and_settled(serve, page):
    server = serve(overlap=2)
    server.desk.answer(said(server.desk, 0, "a"))
    server.desk.answer(said(server.desk, 0, "b", "noise"))
    window = page(server, "judge")
    until(lambda: window("tab-adjudicate").text == "Disagreements (1)")
    window("tab-adjudicate").click()
    until(lambda: window.row == 0)
    assert window("why").text == "a: up; b: noise"
    window.press("1")
    until(lambda: window("clip-title").text == "No disagreement")
    assert server.desk.record.settled[0].how == "adjudicated"
    until(lambda: window("tab-adjudicate").text == "Disagreements")


def test_agreement_and_exports_are_told_beside(serve, page):
    server = serve(taught=4, overlap=2)
    window = page(server)
    window("agreement").click()
    until(lambda: window("told").text == "One annotator so far.")
    server.desk.answer(said(server.desk, 0, "b"))
    window("agreement").click()
    until(lambda: "b/before: Cohen's kappa" in window("told").text)
    for format, file in (
        ("manifest", "labels.csv"),
        ("raven", "raven/000.Table.1.selections.txt"),
        ("audacity", "audacity/000.labels.txt"),
    ):
        window.driver.find_element(By.CSS_SELECTOR, f"[data-export={format}]").click()
        until(lambda file=file: file in window("told").text)
        assert (server.folder / "out" / file).exists()
        if format == "manifest":
            assert window("told").text == "labels.csv: 40 rows, 4 of them answered"


@pytest.mark.parametrize("width, height", [(1400, 1000), (1280, 657), (700, 600)])
def test_results_do_not_lie_under_the_line_at_the_bottom(serve, page, width, height):
    window = page(serve(taught=12))
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    window.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for css in ("#agreement", "[data-export=manifest]", "[data-export=raven]", "[data-export=audacity]"):
        seen = window.script(
            "const one = document.querySelector(arguments[0]), { left, right, top, bottom } = one.getBoundingClientRect();"
            "return one.contains(document.elementFromPoint((left + right) / 2, (top + bottom) / 2))", css
        )  # fmt: skip
        assert seen, css


def test_what_is_guessed_to_be_noise_is_shown_and_proposed_so(serve, page):
    server = serve()
    for row in range(40):
        if row % 4 < 3 or row < 12:
            server.desk.answer(said(server.desk, row, "before", "label" if row % 4 < 3 else "noise"))
    server.desk.learn()
    window = page(server)
    assert window.row is not None and window.row % 4 == 3
    until(lambda: window("guess").text.startswith("noise"))
    window.press("g")
    until(lambda: window.clips())
    assert window.script("return document.getElementById('name-for').selectedOptions[0].textContent") == "noise"
    window("name-all").click()
    until(lambda: [kind for _, kind, _ in server.labels.values()].count("noise") == 10)


# ------------------------------------------------------------ two at once, and none


def test_two_annotators_in_two_windows_never_see_the_same_clip_and_lose_nothing(serve, page):
    server = serve(n=60, batch=12)
    one, two = page(server, "anna"), page(server, "bert", new=True)
    seen: dict[str, list[int]] = {"anna": [], "bert": []}
    for i in range(14):
        window, name = ((one, "anna"), (two, "bert"))[i % 2]
        window.driver.switch_to.window(window.window)
        seen[name].append(window.answer())
    assert len(set(seen["anna"] + seen["bert"])) == 14
    rows = []
    for window, name in ((one, "anna"), (two, "bert")):
        window.driver.switch_to.window(window.window)
        window.driver.refresh()
        until(lambda window=window: window.row is not None)
        assert window("annotator").get_attribute("value") == name  # each window its own
        rows.append(window.row)
    assert rows[0] != rows[1] and not set(rows) & set(seen["anna"] + seen["bert"])
    assert {row: who for row, (who, _, _) in server.labels.items()} == {row: who for who in seen for row in seen[who]}


def test_answers_given_while_the_server_is_away_are_kept_over_a_failure_and_sent_once(serve, page):
    page.expected = "ERR_CONNECTION|ERR_EMPTY|ERR_SOCKET"
    server = serve()
    one, two = page(server, "anna"), page(server, "bert", new=True)
    given: dict[str, list[int]] = {"anna": [], "bert": []}
    server.stop()
    for window, name in ((two, "bert"), (one, "anna")):
        window.driver.switch_to.window(window.window)
        for _ in range(2):  # of the three that were sent ahead
            given[name].append(window.answer())
        until(lambda window=window: "Kept here until the server takes them: 2 answer(s)" in window.status)
    assert server.labels == {}
    last = one.row
    one.press("u")
    until(lambda: one.row is None)  # nothing is left to show
    until(lambda: "The server does not answer" in one.status)
    one.press("u", "n")  # answers nothing
    server.start()
    until(lambda: len(server.labels) == 5)
    until(lambda: one.row is not None)  # and the page goes on by itself
    until(lambda: not one.script("return Object.keys(localStorage).filter(name => name.includes('waiting')).length"))
    one.settle()
    assert len(answers_since(server.desk.store)) == 5
    kept = {row: who for row, (who, _, _) in server.labels.items()}
    assert kept == {row: who for who in given for row in given[who]} | {last: "anna"}
    assert one.row not in kept


def test_answers_that_a_closed_window_left_behind_are_sent_by_another(serve, page):
    server = serve()
    window = page(server)
    clip = server.desk.told.clips[7].id
    left = {"key": "left", "clip": clip, "annotator": "gone", "kind": "noise", "labels": {}}
    window.script(
        "const name = `audiorep-waiting-${Date.now() - 20000}-000000-other`;"
        "localStorage.setItem(name, JSON.stringify({path: '/api/answer', sent: arguments[0]}))",
        left,
    )
    until(lambda: server.labels.get(7) == ("gone", "noise", ()))


def test_an_answer_that_is_refused_is_said_and_the_clip_stays(serve, page):
    page.expected = "400|503"
    server = serve()
    window = page(server)
    row = window.row
    server.desk.row.pop(server.desk.told.clips[row].id)  # as if the corpus were another now
    window.press("1")
    until(lambda: "no clip" in window.status)
    assert window.row == row and server.labels == {}
    assert not window.script("return Object.keys(localStorage).filter(name => name.includes('waiting')).length")


# ------------------------------------------------------------ for everybody


CONTROLS = "button, input, select, textarea, a[href], [role=slider], [role=tab], [tabindex='0'], img, svg, [role=group]"


def test_every_control_has_a_name_for_those_who_do_not_see_it(serve, page):
    server = serve(taught=12, detected={20: ("up", 0.3)}, several=True)
    window = page(server)

    def nameless() -> list[str]:
        def looked() -> tuple[list[str], int]:
            shown = [one for one in window.driver.find_elements(By.CSS_SELECTOR, CONTROLS) if one.is_displayed()]
            return [one.get_attribute("outerHTML")[:100] for one in shown if not one.accessible_name.strip()], len(
                shown
            )

        found, count = until(looked)
        assert count > 10
        return found

    assert nameless() == []
    for id, then in (("tab-review", "claim"), ("tab-discover", "group-list")):
        window(id).click()
        until(lambda then=then: window(then).text)
        assert nameless() == []
    window.button("Open and name").click()
    until(window.clips)
    assert nameless() == []
    assert window.script("return document.documentElement.lang") == "en"
    ids = window.script("return [...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    for attribute in ("aria-labelledby", "aria-controls"):
        found = window.driver.find_elements(By.CSS_SELECTOR, f"[{attribute}]")
        assert found and {one.get_attribute(attribute) for one in found} <= set(ids)


def test_tab_reaches_the_answers_and_the_focus_stays_there_while_the_page_refreshes_itself(serve, page):
    server = serve()
    window = page(server)
    reached = []
    for _ in range(40):
        window.press(Keys.TAB)
        focused = window.driver.switch_to.active_element
        reached.append(
            focused.get_attribute("id") or window.script("return arguments[0].firstChild.textContent", focused)
        )
        if reached[-1] == "flat":
            break
    order = "grip-start grip-end grip-low grip-high play slow slower context range low high whole up down flat"
    assert reached == order.split()
    window.settle()
    assert window.driver.switch_to.active_element.text.startswith("flat")
    row = window.row
    window.press(Keys.SPACE)
    until(lambda: window.row != row)
    assert server.labels[row] == ("ann", "label", ("flat",))
    assert window.driver.switch_to.active_element.text.startswith("flat")  # so that the next answer is near


@pytest.mark.parametrize("width", [820, 600])
def test_on_a_tablet_nothing_has_to_be_scrolled_sideways(serve, page, width):
    server = serve(
        taught=12,
        detected={20: ("up", 0.3)},
        classes=[*CLASSES, "a class with a rather long name, and more of it", "x" * 60],
    )
    window = page(server)
    metrics = {"width": width, "height": 1180, "deviceScaleFactor": 1, "mobile": False}
    window.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def wide() -> list[str]:
        return window.script(
            "return [...document.querySelectorAll('body *')].filter(one => one.getBoundingClientRect().right > innerWidth + 1"
            " && !one.closest('#view')).map(one => one.outerHTML.slice(0, 80))"
        )

    for id, then in (("tab-ask", "clip-title"), ("tab-review", "claim"), ("tab-discover", "group-list")):
        window(id).click()
        until(lambda then=then: window(then).text)
        assert window.script("return document.documentElement.scrollWidth") <= width
        assert wide() == []
    window.button("Open and name").click()
    until(window.clips)
    assert window.script("return document.documentElement.scrollWidth") <= width and wide() == []


def test_a_class_whose_name_is_markup_is_shown_as_text(serve, page):
    name = "<img src=x onerror=alert(1)>"
    server = serve(classes=[*CLASSES, name])
    window = page(server)
    assert window.button(name)
    with contextlib.suppress(Exception):
        window.driver.switch_to.alert.dismiss()
        raise AssertionError("the name was run")
