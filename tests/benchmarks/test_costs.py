"""The constants of the preview beside a run that was made."""

from benchmarks.costs import Row, main, rows_of, table
from pipeline.preview import unit_counts
from pipeline.store.location import Store
from tests.conftest import settings_for


def test_every_stage_of_a_run_stands_beside_what_was_expected(built, capsys):
    rows = [row for row in rows_of(Store(built.url)) if row.version == built.version]
    names = [row.name for row in rows]
    assert set(names) > {f"{stage}, s" for stage in unit_counts(settings_for(built.url))}
    assert "degrees of freedom a month" in names
    assert all(row.predicted > 0 for row in rows)
    main([built.url])
    assert "median ratio" in capsys.readouterr().out


def test_the_median_is_over_runs():
    rows = [Row("a", "x", 2.0, 2.0), Row("b", "x", 2.0, 6.0), Row("c", "x", 2.0, 4.0)]
    assert table(rows)[-1].split() == ["x", "2.00"]
