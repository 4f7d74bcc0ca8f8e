"""How long an edit takes on the page of ``stylegan-invert app``: python benchmarks/app.py [--page] [--network NET]

Without --page it measures what the server computes for one move of a slider, as a session does it: the edited code, and its
picture as PNG. With --page it also starts the server, opens the page in Chromium, and measures from a slider's event to the
new picture; that needs the packages gradio and playwright, and chromium on the PATH.
"""

import argparse
import io
import shutil
import statistics
import subprocess
import sys
import time

from stylegan_invert.app.offer import Offer
from stylegan_invert.app.session import Edit, Session
from stylegan_invert.media.pictures import to_pil

EDITS = 50
MOVE = """async count => {
    const times = [], slider = document.querySelector("input[type=range]");
    const picture = () => document.querySelector("#edited img");
    for (let i = 0; i < count; i++) {
        const before = picture().src, began = performance.now();
        slider.value = (i % 40) / 10 - 2;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        while (picture().src === before || !picture().complete) await new Promise(done => setTimeout(done, 2));
        times.push((performance.now() - began) / 1000);
    }
    return times;
}"""


def of_session(network: str) -> list[float]:
    """Seconds of each edit, computed by a session."""
    session = Session(Offer([network]))
    try:
        (name,) = session.offer.names()
        session.choose(name)
        session.draw(1)
        for _ in session.find_directions():
            pass
        times = []
        for i in range(EDITS):
            began = time.perf_counter()
            picture = session.edit(Edit(strengths=((i % 40) / 10 - 2,), truncation_psi=0.9))
            to_pil(picture).save(io.BytesIO(), "PNG")
            times.append(time.perf_counter() - began)
        return times
    finally:
        session.close()


def of_page(network: str) -> list[float]:
    """Seconds of each edit, from the event of the slider to the picture in the browser."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "stylegan_invert", "app", "-n", network]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = server.stderr.readline().split()[4]
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(address)
            page.wait_for_function(
                "document.querySelector('#status textarea')?.value.startsWith('The network is ready')"
            )
            page.get_by_text("Without a photograph").click()
            page.click("#draw")
            page.locator("#edited img").wait_for()
            times = page.evaluate(MOVE, EDITS)
            browser.close()
        return times
    finally:
        server.terminate()
        server.wait()


def said(what: str, times: list[float]) -> str:
    """The times in milliseconds, in words."""
    times = sorted(times)
    median, late = statistics.median(times), times[int(0.95 * (len(times) - 1))]
    return f"{what}: median {1000 * median:.0f} ms, 95 of 100 below {1000 * late:.0f} ms ({len(times)} edits)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", "-n", default="cats64-de")
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    print(said("computed", of_session(args.network)))
    if args.page:
        print(said("in the browser", of_page(args.network)))


if __name__ == "__main__":
    main()
