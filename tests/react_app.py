"""Pages of React that tests build with vite, and that Chromium opens at a server's own address."""

import json
import mimetypes
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote, urlsplit

from npm import install_packages
from playwright.sync_api import BrowserContext, Route

HERE = Path(__file__).parent / "react"
HTML = """<!doctype html><html lang="en"><title>chat</title><link rel="icon" href="data:,">
<div id="root"></div><script type="module" src="/{}"></script></html>"""
SDK = HERE.parent.parent / "chatapi" / "web" / "sdk"


def make_project(folder: Path, packages: Path = HERE) -> None:
    """With the packages, and with the SDK as one of them."""
    install_packages(packages)
    modules = folder / "node_modules"
    modules.mkdir(parents=True)
    for package in (packages / "node_modules").iterdir():
        if not package.name.startswith("."):
            (modules / package.name).symlink_to(package)
    shutil.copytree(SDK, modules / "chatapi-js")


def build(folder: Path, *pages: str) -> Path:
    """Its `dist`. Each page is a module of the folder. React is in its development mode: StrictMode runs each effect
    twice."""
    for page in pages:
        (folder / f"{Path(page).stem}.html").write_text(HTML.format(page))
    inputs = [f"{Path(page).stem}.html" for page in pages]
    options = {"base": "/app/", "build": {"minify": False, "rollupOptions": {"input": inputs}}}
    (folder / "vite.config.js").write_text(f"export default {json.dumps(options)};")
    command = [HERE / "node_modules" / ".bin" / "vite", "build", "--mode", "development"]
    environment = {**os.environ, "NODE_ENV": "development"}
    built = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "dist"


def serve(context: BrowserContext, dist: Path) -> None:
    """`/app/page.html` of any server is the page of that name."""

    def answer(route: Route) -> None:
        file = dist / urlsplit(route.request.url).path.removeprefix("/app/")
        route.fulfill(body=file.read_bytes(), content_type=mimetypes.guess_type(file.name)[0])

    context.route("**/app/**", answer)


def address(page: str, **given: object) -> str:
    """The path of a page that is given this."""
    return f"/app/{page}.html#{quote(json.dumps(given))}"
