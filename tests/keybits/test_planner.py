"""What PL/pgSQL has planned for few rows costs many no more each; `tests/catalog/test_looked_up.py` has more."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from keybits.changes import TABLE

READ = f"SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = '{TABLE}'"  # noqa: S608 - our own name
RECORD = f"INSERT INTO {TABLE} (scope) SELECT 'page:' || number FROM generate_series(1, %s) AS number"  # noqa: S608 - as above


@pytest.mark.stack("server")
@pytest.mark.django_db(transaction=True)
def test_a_commit_does_not_read_its_whole_record_for_each_row_of_it() -> None:
    connection.close()  # others have planned on it what is to be planned here
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {TABLE}")
        cursor.execute(RECORD, [10])  # after a few times PostgreSQL keeps the plan
        with transaction.atomic():
            cursor.execute(RECORD, [1_000])
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(READ)
            assert cursor.fetchone()[0] < 10_000
            transaction.set_rollback(True)
