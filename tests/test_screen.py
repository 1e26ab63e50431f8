"""What a person reads."""

from sweeper_digits.screen import counted


def test_one_is_no_plural() -> None:
    assert [counted(number, "epoch") for number in (0, 1, 2000)] == ["0 epochs", "1 epoch", "2,000 epochs"]
    assert counted(2, "body", "bodies") == "2 bodies"
