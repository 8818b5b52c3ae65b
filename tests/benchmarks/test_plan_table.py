"""The tables of nodes: every line fits, and more nodes train more tokens a second."""

import pytest


def test_a_table_has_a_line_for_every_machine_and_each_fits(capsys: pytest.CaptureFixture[str]) -> None:
    import plan_table

    assert plan_table.main(["--gpu", "h100-80"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " node" in line]
    assert len(lines) == len(plan_table.MODELS) * len(plan_table.NODES)
    rates = [int(line.split("|")[5].replace(",", "")) for line in lines]
    assert all(float(line.split("|")[3]) * 1.05 + 1 <= 78.6 for line in lines)
    for first in range(0, len(rates), len(plan_table.NODES)):
        of_model = rates[first : first + len(plan_table.NODES)]
        assert of_model == sorted(of_model)


def test_what_does_not_fit_is_said() -> None:
    import plan_table

    assert "| 1 node | nothing fits | | | | |" in plan_table.table("32B", "rtx4090")
