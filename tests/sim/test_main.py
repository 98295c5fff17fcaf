"""The runner of long simulations: each seed once, each kind as long as the others, failures told and survived."""

from __future__ import annotations

import time

from tests.sim.__main__ import Kind, Runner, kinds


class Played:
    def __init__(self, *, fails: tuple[int, ...] = (), tries: int = 1) -> None:
        self.seeds: list[int] = []
        self.fails = fails
        self.tries = tries

    def __call__(self, seed: int) -> int:
        self.seeds.append(seed)
        assert seed not in self.fails, f"a breach in {seed}"
        return self.tries


def runner(*played: Played, seed: int = 100, runs: int | None = 5, minutes: float = 1, failures: int = 3) -> Runner:
    chosen = [Kind(f"kind{number}", "stories", play) for number, play in enumerate(played)]
    end_s = time.monotonic() + minutes * 60
    return Runner(chosen, seed, end_s=end_s, seeds_max=runs, failures_max=failures, every_s=3_600)


def test_each_kind_plays_each_seed_once():
    first, second = Played(), Played()
    runner(first, second).run()
    assert first.seeds == second.seeds == [100, 101, 102, 103, 104]


def test_failures_are_told_with_their_seed_and_the_run_goes_on(capsys):
    play = Played(fails=(101, 103), tries=7)
    run = runner(play)
    run.run()
    run.tell("in all")
    output = capsys.readouterr().out
    assert play.seeds == [100, 101, 102, 103, 104]
    assert "a breach in 101" in output
    assert "FAILED kind0 seed 103: make sim KIND=kind0 SEED=103 RUNS=1" in output
    assert "kind0    21 stories" in output
    assert "seeds 100 to 104; 2 FAILED: [101, 103]" in output


def test_who_fails_again_and_again_is_left():
    broken, sound = Played(fails=tuple(range(200))), Played()
    runner(broken, sound, failures=2).run()
    assert (broken.seeds, len(sound.seeds)) == ([100, 101], 5)


def test_it_ends_in_time():
    play = Played()
    runner(play, runs=None, minutes=0).run()
    assert play.seeds == []


def test_the_kind_that_had_least_time_is_next():
    fast, slow = Played(), Played()
    run = runner(fast, slow)
    run.kinds[1].seconds = 1_000.0
    run.seeds_max = 3
    while (kind := run._next()) is run.kinds[0]:
        run._play(kind)
    assert (len(fast.seeds), len(slow.seeds)) == (3, 0)


def test_a_real_story_of_the_short_kinds():
    for kind in kinds():
        if kind.name in ("group", "broker"):
            assert kind.play(3) == 1
