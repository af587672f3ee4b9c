"""What each process of torchrun runs in the test of groups: many, one after the other, as a trainer's fits are."""

from __future__ import annotations

from trainer.fit.training import joined


def main() -> None:
    for number in range(40):
        with joined("cpu") as place:
            assert place.summed([number]) == [2 * number]


if __name__ == "__main__":
    main()
