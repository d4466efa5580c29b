"""Results on their way to a receiver, while it and the sender are killed: none is lost or late."""

from pathlib import Path

from killed_feed import feed


def test_no_result_is_lost_or_out_of_order_however_both_ends_are_killed(tmp_path: Path) -> None:
    report = feed(tmp_path, results=160, kills=6, every_s=(1.0, 4.0), seed=3)
    assert min(report.kills.values()) > 0, "both ends were killed"
    assert report.lost == 0
    assert report.out_of_order == 0
    assert report.changed_repeats == 0
    assert report.parked == 0
