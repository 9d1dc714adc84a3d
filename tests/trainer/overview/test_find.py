"""Which folders are runs, and in what runs differ.

pytest tests/trainer/overview/test_find.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.overview import write_config, write_finished, write_metrics, write_results
from trainer.errors import ConfigError
from trainer.overview.find import find_runs, options_that_differ


def names(*folders: Path) -> list[str]:
    return [run.name for run in find_runs(folders)[0]]


def test_runs_of_all_depths_are_found_and_other_folders_named(tmp_path: Path) -> None:
    for name in ("b", "a", "group/c", "group/deep/d"):
        write_finished(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "a-seeds.json").write_text("{}")
    (tmp_path / ".hidden").mkdir()
    runs, others = find_runs([tmp_path])
    assert [run.name for run in runs] == ["a", "b", "group/c", "group/deep/d"]
    assert others == [tmp_path / "notes"]


def test_folder_of_a_model_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    assert find_runs([tmp_path]) == ([], [tmp_path / "bert"])


def test_what_lies_within_a_run_is_no_run_of_its_own(tmp_path: Path) -> None:
    write_finished(tmp_path / "a")
    write_config(tmp_path / "a" / "model")
    write_metrics(tmp_path / "a" / "model", [])
    assert names(tmp_path) == ["a"]


def test_links_in_a_circle_and_a_run_that_is_given_twice_are_listed_once(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_finished(runs / "group" / "a")
    (runs / "group" / "up").symlink_to(runs)
    (runs / "again").symlink_to(runs / "group" / "a")
    assert names(runs) == ["group/a"]
    assert len(names(runs, runs / "group" / "a")) == 1


def test_a_run_is_listed_where_it_lies_and_not_by_a_link_before_it(tmp_path: Path) -> None:
    write_finished(tmp_path / "runs" / "plain")
    (tmp_path / "runs" / "all").symlink_to(tmp_path / "runs")
    assert names(tmp_path / "runs") == ["plain"]
    assert find_runs([tmp_path / "runs"])[1] == []


def test_single_runs_and_several_folders_have_names_that_tell_them_apart(tmp_path: Path) -> None:
    one, other = write_finished(tmp_path / "x" / "a"), write_finished(tmp_path / "y" / "a")
    assert names(one) == ["a"]
    assert names(tmp_path / "x", tmp_path / "y") == [str(one), str(other)]


def test_name_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere is not there\. Name a folder"):
        find_runs([tmp_path / "nowhere"])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file is a file"):
        find_runs([tmp_path / "file"])


def differing(folder: Path) -> list[str]:
    return options_that_differ(find_runs([folder])[0])


def test_runs_differ_in_what_was_chosen_and_not_in_where_they_lie(tmp_path: Path) -> None:
    write_finished(tmp_path / "a", lr=1e-3, seed=1)
    write_finished(tmp_path / "b", lr=2e-3, seed=1)
    assert differing(tmp_path) == ["optim.lr"]


def test_option_that_only_follows_the_preset_is_told_by_the_preset(tmp_path: Path) -> None:
    """demo and timit differ in batch size, speeds, model and corpus, none of which anybody chose."""
    write_finished(tmp_path / "a", preset="demo", lr=1e-3)
    write_finished(tmp_path / "b", preset="timit", lr=1e-3)
    assert differing(tmp_path) == ["preset"]
    write_finished(tmp_path / "c", preset="timit", lr=5e-4)
    assert differing(tmp_path) == ["preset", "optim.lr"]


def test_run_whose_options_are_not_known_says_nothing_about_differences(tmp_path: Path) -> None:
    write_finished(tmp_path / "a")
    (tmp_path / "b").mkdir()
    write_results(tmp_path / "b")
    assert names(tmp_path) == ["a", "b"]
    assert differing(tmp_path) == []
