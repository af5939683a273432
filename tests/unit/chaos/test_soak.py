"""The soak's dice: the same seed is the same soak, and every soak meets every kind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.chaos.soak import agent, fast_paths, faults, kinds, load
from tests.chaos.soak.book import Book


def test_plan__is_the_same_for_a_seed_and_another_for_another():
    assert agent.plan(seed=1, seconds=600) == agent.plan(seed=1, seconds=600)
    assert agent.plan(seed=1, seconds=600) != agent.plan(seed=2, seconds=600)


@pytest.mark.parametrize(("seconds", "at_least"), [(60, 9), (1800, 250)])
def test_plan__has_enough_faults_in_order_and_within_the_time(seconds, at_least):
    for seed in range(50):
        moments = [planned.at for planned in agent.plan(seed=seed, seconds=seconds)]
        assert len(moments) >= at_least
        assert moments == sorted(moments)
        assert moments[-1] < seconds


def test_plan__every_kind_has_its_turn_before_any_comes_again():
    turns = [planned.kind for planned in agent.plan(seed=3, seconds=1800)]
    assert set(turns[: len(kinds.KINDS)]) == set(kinds.KINDS)


def test_mix__a_hand_holds_every_kind_and_half_of_it_writes():
    mix = load.Mix(7)
    dealt = [mix.deal() for _ in range(10 * sum(load.MIX.values()))]
    assert Counter(ticket.kind for ticket in dealt) == {k: 10 * n for k, n in load.MIX.items()}
    writing = sum(ticket.automation.startswith(load.WRITING) for ticket in dealt)
    assert 0.4 < writing / len(dealt) < 0.6
    assert len({ticket.key for ticket in dealt}) == len(dealt)


@pytest.mark.parametrize(
    ("shape", "values", "output"),
    [
        ("single", {"number": 2}, 7),
        ("strict", {"number": 2}, 22),
        ("line", {"number": 1}, (3**13 - 1) // 2),
        ("chain", {"number": 2}, 67),
        ("diamond", {"number": 2}, 44),
        ("fan", {"number": 2, "count": 4}, 22),
        ("fan", {"count": 0}, 0),
    ],
)
def test_expected__worked_out_by_hand(shape, values, output):
    assert load.expected(shape, **values) == output


@pytest.mark.parametrize(
    ("seconds", "times"), [(1800, 1000), (3600, 2000), (60, 34), (1, 10), (0, 10)]
)
def test_fast_paths__needed_in_proportion_and_never_nothing(seconds, times):
    assert fast_paths.needed(seconds) == times


def test_fast_paths__one_taken_too_seldom_is_named(tmp_path):
    folder = tmp_path / fast_paths.FOLDER
    folder.mkdir()
    for pid in (1, 2):
        lines = [path.value for path in fast_paths.FastPath] * 17
        (folder / f"{pid}.log").write_text("".join(f"{line}\n" for line in lines) + "hand-b")
    assert fast_paths.missed(tmp_path, seconds=60) == []
    (folder / "2.log").write_text("".join(f"{line}\n" for line in lines if line != "hand-backs"))
    assert fast_paths.missed(tmp_path, seconds=60) == ["hand-backs: 17, needed are 34"]
    for log in folder.iterdir():
        log.unlink()
    assert len(fast_paths.missed(tmp_path, seconds=1)) == len(fast_paths.FastPath)


def test_book__keeps_the_open_runs_below_its_bound():
    book = Book(load.Mix(1), most_open=2)
    first, second = book.draw("engine"), book.draw("engine")
    assert book.draw("engine") is None
    book.accept(first, run_id="a")
    assert book.draw("engine") is None
    book.note_state("a", "running")
    assert book.draw("engine") is None
    first.plan = ""
    book.note_state("a", "succeeded")
    third = book.draw("engine")
    assert third is not None
    assert book.unanswered == {second.key, third.key}


def test_book__a_state_that_may_not_be_the_end_keeps_the_run_open():
    book = Book(load.Mix(1), most_open=2)
    ticket = book.draw("engine")
    ticket.plan = ""
    book.accept(ticket, run_id="a")
    book.note_state("a", "failed")
    assert book.open_ids() == ["a"]


class Blow(faults.Fault):
    """A fault that lasts, misses at will, and is told apart from the real ones by nothing."""

    seconds = (5.0, 5.0)
    hits = True

    def choose(self, _dice):
        self.acts = []
        return "target"

    def strike(self):
        self.acts.append("strike")
        return self.hits

    def hold(self):
        self.acts.append("hold")

    def release(self):
        self.acts.append("release")

    def is_over(self):
        return "release" in self.acts


class Miss(Blow):
    hits = False


@pytest.fixture
def chaos(monkeypatch, tmp_path):
    monkeypatch.setattr(kinds, "KINDS", {"blow": Blow, "miss": Miss})
    hurt = SimpleNamespace(tend=lambda: None)
    return agent.Agent(hurt, seed=1, seconds=60, log=Path(tmp_path) / "faults.jsonl")


def test_agent__counts_only_what_has_hit_and_takes_back_all(chaos):
    chaos._strike(agent.Planned(0.0, "miss", 1))
    chaos._strike(agent.Planned(0.0, "blow", 1))
    chaos._strike(agent.Planned(0.0, "blow", 1))
    missed, hit, second = chaos.blows
    assert (missed.hit, hit.hit, second.hit) == (False, True, False)
    assert missed.fault.acts == ["strike", "release"]
    assert second.fault.acts == ["release"], "the same one lasts already"
    chaos._mind(last=True)
    chaos._looked_at = 0.0
    chaos._mind(last=True)
    assert hit.fault.acts == ["strike", "release"]
    assert hit.over is not None
    assert chaos.hits == [hit]
