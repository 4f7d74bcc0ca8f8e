"""Makes page.png, the picture of the page in docs/app.md: python docs/app/make.py

It needs the packages gradio and playwright, and chromium on the PATH.
"""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import PIL.Image
from playwright.sync_api import sync_playwright

from stylegan_invert import pretrained

HERE = Path(__file__).parent
BEGINS = "text => document.querySelector('#status textarea')?.value.startsWith(text)"


def main() -> None:
    server = subprocess.Popen([sys.executable, "-m", "stylegan_invert", "app"], stderr=subprocess.PIPE, text=True)
    try:
        address = server.stderr.readline().split()[4]
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1200, "height": 840})
            page.set_default_timeout(300_000)
            page.goto(address)
            page.wait_for_function(BEGINS, arg="The network is ready")
            page.locator("#photograph input[type=file]").set_input_files(pretrained.path(pretrained.DEMO_PICTURE))
            page.wait_for_function(BEGINS, arg=pretrained.DEMO_PICTURE)
            page.click("#project")
            page.wait_for_function(BEGINS, arg="Done in")
            page.get_by_role("slider", name="lighter fur").focus()
            for _ in range(10):
                page.keyboard.press("ArrowRight")
                page.wait_for_timeout(300)
            page.wait_for_timeout(3000)
            picture = PIL.Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            browser.close()
    finally:
        server.terminate()
        server.wait()
    picture.quantize(256, method=PIL.Image.Quantize.MEDIANCUT).save(HERE / "page.png", optimize=True)


if __name__ == "__main__":
    main()
