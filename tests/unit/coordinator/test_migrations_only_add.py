"""Expand, then contract: a migration may only add, for the older release still leads beside it.

What a release no longer uses may go in a release after it, and such a migration says so by name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, inspect

from coordinator.adapters import migrations

FOLDER = Path(migrations.__file__).parent
VERSIONS = sorted((FOLDER / "versions").glob("r*.py"))
# Of alembic's operations those that an older release does not notice.
ADDS = frozenset({"create_table", "add_column", "create_index", "f", "get_context"})
# SQL by hand: what it makes is new, and a right is taken only of a table that is new as well.
STATEMENTS = ("CREATE ", "REVOKE ")
# Removals that were due, by file, each with the release that had stopped to use what goes.
CONTRACTS: dict[str, str] = {}


def operations(path: Path) -> Iterator[tuple[str, str]]:
    """Calls of `op` outside of downgrade(): name, and the beginning of a statement in SQL."""
    functions = (n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef))
    for function in functions:
        if function.name != "downgrade":
            yield from _calls(function)


def _calls(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in ("op", "batch", "batch_op")
        ):
            yield node.func.attr, _beginning(node.args[0]) if node.args else ""


def _beginning(argument: ast.expr) -> str:
    first = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
    return str(first.value) if isinstance(first, ast.Constant) else ""


def more_than_adds(path: Path) -> list[str]:
    return [
        name
        for name, beginning in operations(path)
        if name not in ADDS and not (name == "execute" and beginning.startswith(STATEMENTS))
    ]


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_a_migration_only_adds(path: Path) -> None:
    if path.stem in CONTRACTS:
        return
    found = more_than_adds(path)
    assert found == [], f"{path.name} does more than add: {found}"


@pytest.mark.parametrize(
    "line",
    [
        "op.drop_column('sites', 'state')",
        "op.alter_column('sites', 'state', nullable=False)",
        "op.execute('DELETE FROM sites')",
        "op.execute(f'UPDATE {table} SET state = 1')",
        "op.execute(made_elsewhere)",
    ],
)
def test_a_migration_that_does_more_is_seen(line: str, tmp_path: Path) -> None:
    planted = tmp_path / "r9999_planted.py"
    planted.write_text(f"def upgrade():\n    _help()\n\ndef _help():\n    {line}\n")
    assert more_than_adds(planted) != []


def at_revision(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_what_an_older_release_inserts_is_still_taken_by_the_newest_tables(tmp_path: Path) -> None:
    """A column that came later may be left out: it has a default, or may be empty."""
    engine = create_engine(f"sqlite:///{tmp_path / 'test.sqlite'}")
    revisions = [path.stem.split("_")[0].removeprefix("r") for path in VERSIONS]
    known: dict[str, set[str]] = {}
    for revision in revisions:
        at_revision(engine, revision)
        look = inspect(engine)
        for table in look.get_table_names():
            columns = {column["name"]: column for column in look.get_columns(table)}
            for name in set(columns) - known.get(table, set(columns)):
                column = columns[name]
                assert column["nullable"] or column["default"] is not None, (
                    f"revision {revision}: {table}.{name} is required of those who do not know it"
                )
            assert known.get(table, set()) <= set(columns), f"revision {revision}: {table} lost one"
            known[table] = set(columns)
    engine.dispose()
