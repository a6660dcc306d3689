"""`chatapi tenant export` and `chatapi tenant import`, with servers of their own processes."""

import json
import shlex
import shutil
import subprocess
import sys
import time

import pytest
from examples import example
from sample_database import query
from server_process import ServerProcess

from chatapi.cli import main

COMMANDS = example("docs/operations.md", "sh", "chatapi tenant export")


@pytest.mark.slow
def test_a_tenant_goes_from_one_server_to_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()

    def options_of(server):
        return ("--url", server.url, "--master-key", server.master_key)

    def run(action, file, server):
        options = options_of(server)
        tenant = () if action == "import" else (tenant_id,)
        status = main(["tenant", action, *tenant, file, *options])
        return status, *capsys.readouterr()

    with ServerProcess(tmp_path / "one") as one, ServerProcess(tmp_path / "two") as two:
        api_key = one.create_tenant("Acme")
        [(tenant_id,)] = query(tmp_path / "one" / "chatapi.db", "SELECT tenant_id FROM tenants WHERE name = 'Acme'")
        status, out, err = run("export", "acme.db", one)
        assert (status, out.startswith("acme.db: ")) == (0, True), err
        assert (tmp_path / "acme.db").stat().st_mode & 0o777 == 0o600
        assert main(["check", "--db", "acme.db"]) == 0
        capsys.readouterr()
        assert main(["tenant", "export", tenant_id, "acme.jsonl", "--json", *options_of(one)]) == 0
        capsys.readouterr()
        lines = (tmp_path / "acme.jsonl").read_text().splitlines()
        assert (json.loads(lines[0])["tenant_id"], lines[-1]) == (tenant_id, '{"type":"end"}')
        assert (tmp_path / "acme.jsonl").stat().st_mode & 0o777 == 0o600
        assert run("export", "acme.db", one)[2] == "chatapi: acme.db: exists already\n"
        status, out, err = run("import", "acme.db", two)
        assert (status, out) == (0, f"{tenant_id}: imported\n"), err
        assert "is here already" in run("import", "acme.db", two)[2]
        (tmp_path / "notes.txt").write_text("no database" * 1000)
        assert "cannot be imported: file is not a database" in run("import", "notes.txt", two)[2]
        two.create_tenant("other")
        for line in COMMANDS.replace("https://other.example.com", two.url).splitlines():
            words = [tenant_id if word == "tenant_1" else word for word in shlex.split(line, comments=True)[1:]]
            if words[1] == "export":
                words += ["--url", one.url]
            if words[0] == "tenant":
                words += ["--master-key", one.master_key]
            assert main(words) == int(words[1] == "import"), capsys.readouterr()  # it is there already
        capsys.readouterr()
        one.kill()
        status, out, err = run("export", "other.db", one)
        assert (status, out) == (1, "")
        assert "is the server running?" in err
    assert api_key.startswith("sk_")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "acme.db",
        "acme.jsonl",
        "notes.txt",
        "one",
        "tenant_1.db",
        "two",
    ]


MESSAGES = 20_000
COUNT = "SELECT count(*) FROM messages"


def wait_for(is_done, process):
    deadline_s = time.monotonic() + 60
    while not is_done():
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_nothing_half(tmp_path):
    (tmp_path / "one").mkdir()
    database, large, log = tmp_path / "one" / "chatapi.db", tmp_path / "large.db", tmp_path / "commands.log"
    subprocess.run([sys.executable, "-m", "chatapi.store.prefill", large, str(MESSAGES)], check=True)
    [(tenant_id,)] = query(large, "SELECT tenant_id FROM tenants")
    with ServerProcess(tmp_path / "one") as one:

        def start(*words):
            command = [sys.executable, "-m", "chatapi", "tenant", *words, "--url", one.url]
            with log.open("a") as out:
                return subprocess.Popen([*command, "--master-key", one.master_key], stdout=out, stderr=out)

        importing = start("import", large)
        wait_for(lambda: query(database, COUNT) != [(0,)], importing)
        one.kill()
        assert importing.wait(60) == 1
        [(stored,)] = query(database, COUNT)
        assert 0 < stored < MESSAGES
        one.start()
        assert tenant_id not in {row[0] for row in query(database, "SELECT tenant_id FROM tenants")}
        assert not list(database.parent.glob("*.import-*"))
        again = start("import", large)  # once the rows of the first one are gone
        assert again.wait(200) == 0, log.read_text()
        assert query(database, COUNT) == [(MESSAGES,)]

        exporting = start("export", tenant_id, tmp_path / "tenant.db")
        wait_for(lambda: list(database.parent.glob("*.export-*")), exporting)
        one.kill()
        assert exporting.wait(60) == 1
        assert not list(tmp_path.glob("tenant.db*"))
        one.start()
        assert not list(database.parent.glob("*.export-*"))
        again = start("export", tenant_id, tmp_path / "tenant.db")
        assert again.wait(200) == 0, log.read_text()
        one.stop()
    for path in (database, tmp_path / "tenant.db"):
        assert main(["check", "--db", str(path)]) == 0
    assert query(tmp_path / "tenant.db", COUNT) == [(MESSAGES,)]


@pytest.mark.slow
def test_a_file_that_does_not_fit_is_refused_and_removed(tmp_path, capsys):
    database, large = tmp_path / "chatapi.db", tmp_path / "large.db"
    subprocess.run([sys.executable, "-m", "chatapi.store.prefill", database, str(MESSAGES)], check=True)
    [(tenant_id,)] = query(database, "SELECT tenant_id FROM tenants")
    shutil.copy(database, large)
    # No file may have more than 2 MB, as on a disk that is nearly full.
    limited = ("sh", "-c", 'ulimit -f 4000 && exec "$@"', "sh", sys.executable, "-m", "chatapi")
    with ServerProcess(tmp_path, command=limited) as server:
        options = ("--url", server.url, "--master-key", server.master_key)
        for words, expected in (
            (("export", tenant_id, str(tmp_path / "tenant.db")), "The export could not be made"),
            (("import", str(large)), "The file could not be stored: File too large"),
        ):
            assert main(["tenant", *words, *options]) == 1
            assert expected in capsys.readouterr().err
            assert not [
                path for path in tmp_path.iterdir() if "port-" in path.name or path.name.startswith("tenant.db")
            ]
        server.create_tenant("another")  # it can write
        server.stop()
