"""`chatapi tenant export` and `chatapi tenant import`, with servers of their own processes."""

import json
import shlex

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
