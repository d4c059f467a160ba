"""`rlgen plot`: figures and tables of runs."""

import csv
import functools
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statistics_of_seeds
from matplotlib.backends.backend_agg import FigureCanvasAgg
from processes import anew, forked

import rlgen
from rlgen.command import RunArguments
from rlgen.commands import bc, gail
from rlgen.commands import plot as plot_command
from rlgen.commands.plot import labels, setting
from rlgen.errors import UsageError
from rlgen.report import table
from rlgen.report.figure import Line, Panel, band, draw, entry, looks, meaning
from rlgen.report.runs import Run, binned, curves
from rlgen.report.table import row
from rlgen.run_log import plain


def plot(*arguments, cwd, start=forked):
    return start("plot.py", *arguments, cwd=cwd)


@pytest.fixture
def runs(tmp_path):
    """Three runs: two seeds of one setting, and one that is under way, its last row cut."""
    for name, slope, seed in (
        ("Hopper-v4__gail-trpo__0__a", 1, 0),
        ("Hopper-v4__gail-trpo__1__b", 3, 1),
        ("Ant", 2, 0),
    ):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        env_id = "Ant-v4" if name == "Ant" else "Hopper-v4"
        arguments = plain(gail.Arguments(env=env_id, n_trajectories=5, run=RunArguments(seed=seed, run_dir=folder)))
        config = {"command": "rlgen gail", "arguments": arguments, "env_id": env_id}
        (folder / "config.json").write_text(json.dumps(config))
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["iteration", "env_steps", "return_mean"])
            writer.writerows([i, 100 * i, slope * i if i % 2 else "nan"] for i in range(1, 101))
            if "Ant" in name:
                file.write("101,10")
        if "Ant" not in name:
            (folder / "summary.json").write_text(json.dumps({"env_id": "Hopper-v4", "seed": 0, "return_mean": 7.5}))
    return tmp_path


def test_curves_are_drawn(runs):
    folders = sorted(str(path) for path in (runs / "runs").iterdir())
    done = plot(*folders, "--output", "a.png", cwd=runs, start=anew)
    assert done.returncode == 0, done.stderr
    assert (runs / "a.png").read_bytes().startswith(b"\x89PNG")
    wrong = plot(*folders, "--metric", "reward", cwd=runs)
    assert wrong.returncode == 2
    assert "has no column reward; it has iteration, env_steps, return_mean" in wrong.stderr


def test_a_bin_is_the_mean_of_its_rows_and_an_empty_one_has_none():
    run = pd.DataFrame({"steps": [10, 20, 40], "value": [1.0, 3.0, 8.0]})
    np.testing.assert_array_equal(binned(run, np.array([20.0, 30.0, 40.0])), [2, np.nan, 8])


def test_no_value_is_drawn_that_was_not_measured():
    """Eight parts of ten steps: one run has nothing in the fourth, the other begins in the third."""
    whole = pd.DataFrame({"steps": [5, 15, 25, 45, 55, 65, 75, 80], "value": np.arange(8.0)})
    late = pd.DataFrame({"steps": [25, 35, 45, 55, 65, 75, 85], "value": np.arange(7.0)})
    steps, values = curves([whole, late], 8)
    np.testing.assert_array_equal(steps, [40, 60, 80])
    np.testing.assert_array_equal(values, [[2, 3.5, 6], [0.5, 2.5, 4.5]])
    steps, values = curves([whole], 16)
    assert len(steps) == 4


def test_seeds_of_one_setting_go_together_and_others_do_not(runs):
    found = [Run.read(path) for path in (runs / "runs").iterdir()]
    assert {(run.task, *setting(run).items()) for run in found} == {
        ("Hopper-v4", ("", "gail"), ("n-trajectories", "5")),
        ("Ant-v4", ("", "gail"), ("n-trajectories", "5")),
    }


def test_a_label_is_what_differs_in_the_same_task():
    settings = [
        {"": "gail", "gamma": "0.9"},
        {"": "gail", "gamma": "0.9", "reward-model": "airl"},
        {"": "gail", "gamma": "0.5"},
    ]
    assert list(labels(settings[:2], ["a", "a"])) == ["gail", "gail, reward-model airl"]
    # Steps and data of another task are no difference between methods.
    assert list(labels(settings[::2], ["a", "b"])) == ["gail", "gail"]
    assert list(labels(settings, ["a", "a", "a"])) == [
        "gail, gamma 0.9",
        "gail, gamma 0.9, reward-model airl",
        "gail, gamma 0.5",
    ]


def test_settings_of_one_name_are_told_apart_by_their_part():
    run, other = a_run(), a_run()
    run.config["settings"] = {"learner": {"learning_rate": 0.1}, "gail": {"learning_rate": 0.5}}
    other.config["settings"] = {"learner": {"learning_rate": 0.2}, "gail": {"learning_rate": 0.5}}
    assert list(labels([setting(run), setting(other)], ["a", "a"])) == [
        "GAIL, learner.learning-rate 0.1",
        "GAIL, learner.learning-rate 0.2",
    ]


def test_an_environment_made_by_other_arguments_is_another_task(runs):
    folder = runs / "runs" / "Ant"
    change(folder / "config.json", env_kwargs={"xml_file": "./heavy.xml"})
    assert Run.read(folder).task == "Ant-v4 xml_file=./heavy.xml"


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def a_run(returns=(), status="done", seed=0, **summary):
    """A run of 100 steps an iteration and a second each."""
    metrics = pd.DataFrame({"iteration": range(1, len(returns) + 1)}, dtype=int)
    metrics = metrics.assign(env_steps=metrics["iteration"] * 100, return_mean=list(returns))
    metrics = metrics.assign(wall_seconds=metrics["iteration"].astype(float))
    config = {"env_id": "X-v0", "agent": {"kind": "GAIL", "arguments": {"seed": seed}}, "settings": {"gamma": 0.9}}
    told = {"status": status, "random_return_mean": 0.0, "expert_return_mean": 10.0, **summary} if status else {}
    return Run(Path(f"run_{seed}"), config, told, metrics)


def test_a_template_takes_fields_of_summary_and_config():
    run = a_run(algorithm="gail-trpo", return_mean=2.5)
    assert run.labelled("{algorithm} {settings.gamma:.2f} {gamma} {run}, {{return}} {return_mean:.0f}") == (
        "gail-trpo 0.90 0.9 run_0, {return} 2"
    )
    assert a_run(algorithm="\x1b[2J").labelled("{algorithm}") == "\\x1b[2J"
    for template, message in (
        ("{algoritm}", "run_0 has no field algoritm; perhaps algorithm. There are algorithm, env_id, "),
        ("{", "Single '{' encountered"),
        ("{algorithm.__class__}", "no field algorithm.__class__"),
        ("{0}", "no field 0"),
        ("{settings.gamma:x}", "Unknown format code 'x'"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            run.labelled(template)
    run.config["other"] = {"gamma": 0.5}
    with pytest.raises(UsageError, match=re.escape("gamma is several fields: settings.gamma, other.gamma")):
        run.labelled("{gamma}")


def test_the_band_of_few_is_lowest_to_highest_and_of_many_the_benchmarks_interval():
    values = np.random.default_rng(0).normal(size=(12, 2))
    low, high = band(values[:3])
    np.testing.assert_array_equal([low, high], [values[:3].min(0), values[:3].max(0)])
    low, high = band(values)
    assert (low[1], high[1]) == statistics_of_seeds.interval(values[:, 1], draws=2000)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([1], "one seed"),
        ([1, 1], "one seed each"),
        ([3, 3], "line: interquartile mean of 3 seeds; band: lowest to highest seed"),
        ([1, 10], "line: interquartile mean of seeds; band: 95% bootstrap interval"),
        ([10], "line: interquartile mean of 10 seeds; band: 95% bootstrap interval"),
        (
            [3, 12],
            "line: interquartile mean of seeds; "
            "band: lowest to highest seed, 95% bootstrap interval (10 seeds or more)",
        ),
    ],
)
def test_the_legend_says_what_line_and_band_are(counts, words):
    assert meaning([a_line("GAIL", n) for n in counts]) == words


def a_line(label, n_runs=1, n_points=4, **options):
    return Line(label, np.arange(1.0, n_points + 1), np.arange(n_runs)[:, None] + np.ones(n_points), **options)


def test_an_entry_tells_the_number_of_seeds_where_it_differs():
    assert entry("GAIL", [a_line("GAIL", 3)], everywhere=True) == "GAIL"
    assert entry("GAIL", [a_line("GAIL", 5), a_line("GAIL", 3)], everywhere=False) == "GAIL (3 to 5 seeds)"
    assert entry("GAIL", [a_line("GAIL", 1, n_failed=2)], everywhere=False) == "GAIL (1 seed, 2 failed)"


def figure(panels, **options):
    """Drawn as it would be saved; the texts of its legend."""
    with looks():
        drawn = draw(panels, "return", **options)
        FigureCanvasAgg(drawn).draw()
    (legend,) = drawn.legends
    return drawn, [text.get_text() for text in legend.get_texts()]


def overlaps(figure):
    """Texts and axes that lie over another or beyond the figure's edge."""
    renderer = figure.canvas.get_renderer()
    boxes = [legend.get_window_extent(renderer) for legend in figure.legends]
    boxes += [axes.get_tightbbox(renderer) for axes in figure.axes if axes.get_visible()]
    width, height = figure.bbox.size
    outside = [box for box in boxes if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1]
    return outside + [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]


LONG = "GAIL with a gradient penalty of ten and spectral normalisation of all layers"


@pytest.mark.parametrize("width", [3.3, 6.75])
@pytest.mark.parametrize("n_panels", [1, 2, 4, 5])
@pytest.mark.parametrize("names", [["GAIL"], ["_A_", "$x_1$", LONG], [f"method {i}" for i in range(12)]])
def test_nothing_overlaps_or_is_cut_at_the_widths_of_a_paper(names, n_panels, width):
    lines = [a_line(name, 1 + i % 3, n_points=1 + i % 4) for i, name in enumerate(names)]
    panels = [Panel(f"package/AnEnvironmentOfSomeone-v{i}", lines, {"expert": [4.0]}) for i in range(n_panels)]
    drawn, texts = figure(panels, size=(width, 9))
    assert not overlaps(drawn)
    assert len(texts) == len(names) + 1
    assert [re.sub(r" \(.*", "", " ".join(text.split())) for text in texts[:-1]] == names


def test_without_a_size_it_is_as_high_as_panels_and_legend_take():
    for n_panels in (1, 4, 6):
        drawn, _ = figure([Panel(f"X-v{i}", [a_line(LONG), a_line("b")], {}) for i in range(n_panels)])
        assert not overlaps(drawn)
    with pytest.raises(UsageError, match=r"--size 3.3 2: panels and legend take a height of \d\.\d at this width"):
        figure([Panel("X-v0", [a_line(f"method {i}") for i in range(12)], {})], size=(3.3, 2))


def test_a_method_looks_alike_in_all_panels_and_unlike_any_other():
    lines = [a_line(f"method {i}") for i in range(12)]
    drawn, _ = figure([Panel("X-v0", lines, {}), Panel("Y-v0", lines[5:], {})])
    first, second = ([(line.get_color(), line._dash_pattern) for line in axes.lines] for axes in drawn.axes)
    assert len({str(look) for look in first}) == 12
    assert first[5:] == second


def test_a_row_is_of_the_runs_that_are_done():
    runs = [a_run([1, 9.4, 9.6, 9.5], return_mean=float(i), seed=i, normalised_score=i / 10) for i in range(5)]
    runs += [a_run([9.9], "failed", return_mean=99.0), a_run([1], "interrupted", return_mean=-99.0), a_run([1], "")]
    found = row("X-v0", "GAIL", runs)
    assert found == {
        "environment": "X-v0",
        "method": "GAIL",
        "seeds": 5,
        "failed": 1,
        "unfinished": 2,
        "return": 2.0,
        "low": 0.0,
        "high": 4.0,
        "worst seed": 0.0,
        "best seed": 4.0,
        "steps to 95%": 300.0,
        "seconds to 95%": 3.0,
    }
    scores = row("X-v0", "GAIL", runs[:3], normalise=True)
    assert (scores["score"], scores["low"], scores["worst seed"]) == (pytest.approx(0.1), None, 0.0)


def test_the_time_to_the_expert_is_the_median_seeds_the_later_of_two():
    at_once, never = a_run([9.6, 0]), a_run([9.4, 9.4])
    assert row("", "", [at_once, at_once, never])["steps to 95%"] == 100
    assert row("", "", [at_once, never])["steps to 95%"] == "not reached"
    assert row("", "", [a_run([9.6], expert_return_mean=None)])["steps to 95%"] is None


ROWS = [
    {"environment": "X_1-v0", "method": "A & B|*", "seeds": 5, "failed": 1, "unfinished": 0, "return": -1234.5}
    | {"low": -2000.0, "high": 0.5, "worst seed": -2000.0, "best seed": 0.5}
    | {"steps to 95%": 12000.0, "seconds to 95%": "not reached"},
    {"environment": "X_1-v0", "method": "=1+1", "seeds": 1, "failed": 0, "unfinished": 0, "return": 7.25}
    | {"low": None, "high": None, "worst seed": None, "best seed": None, "steps to 95%": None, "seconds to 95%": None},
]


def test_text_fits_the_width_and_wraps_no_row():
    assert table.text(ROWS, 80).splitlines()[:5] == [
        "           seeds  failed  return       interval   worst   steps      seconds",
        "                                                   seed  to 95%       to 95%",
        "X_1-v0",
        "  A & B|*      5       1  -1,234  -2,000 to 0.5  -2,000  12,000  not reached",
        "  =1+1         1            7.25",
    ]
    long = [ROWS[0] | {"method": f"{LONG} {i}", "environment": "E" * 99} for i in range(2)]
    for width in (20, 40, 80, 200):
        lines = table.text(long, width).splitlines()
        assert max(map(len, lines)) <= width
    assert table.shortened("gail, reward-model airl", 12) == "gail, … airl"
    assert "interval, worst seed, steps to 95%, seconds to 95%: no room" in " ".join(table.text(ROWS, 40).split())


def test_few_seeds_have_a_range_that_is_called_so():
    rows = [ROWS[1] | {"seeds": 3, "worst seed": 5.0, "best seed": 9.5}, ROWS[0]]
    (_, _, *_), body = table.cells(rows)
    assert [line[5] for line in body] == ["range 5 to 9.5", "-2,000 to 0.5"]
    begin = "range: lowest to highest of fewer than 5 seeds, which is no interval"
    assert any(note.startswith(begin) for note in table.notes(rows))
    assert not any(note.startswith("range") for note in table.notes(ROWS))
    found = next(csv.DictReader(table.csv(rows).splitlines()))
    assert (found["low"], found["best seed"]) == ("", "9.5")


def test_csv_has_numbers_in_full_and_no_formulas():
    lines = list(csv.reader(table.csv(ROWS).splitlines()))
    assert lines[0] == list(ROWS[0])
    assert lines[1][5:] == ["-1234.5", "-2000.0", "0.5", "-2000.0", "0.5", "12000.0", "not reached"]
    assert (lines[2][1], lines[2][6]) == ("'=1+1", "")


def test_markdown_and_latex_escape():
    header, rule, first, second, *_ = table.markdown(ROWS).splitlines()
    assert header == (
        "| environment | method | seeds | failed | return | interval | worst seed | steps to 95% | seconds to 95% |"
    )
    assert rule.count("|") == header.count("|") == second.count("|") == 10
    assert first.startswith(r"| X\_1-v0 | A \& B\|\* | 5 | 1 | -1,234 |")
    lines = table.latex(ROWS).splitlines()
    at = lines.index(r"\midrule")
    assert lines[at + 1].startswith(r"X\_1-v0 & A \& B\textbar{}* & 5 & 1 & $-$1,234 & $-$2,000 to 0.5 &")
    assert lines[at - 1].endswith(r"steps to 95\% & seconds to 95\% \\")
    assert all(line.startswith("%") for line in lines[: lines.index(r"\begin{tabular}{llrrrrrrr}")])


def test_the_table_has_a_row_a_setting(runs):
    folders = sorted(str(path.relative_to(runs)) for path in (runs / "runs").iterdir())
    done = plot(*folders, "--table", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:5] == [
        "        seeds  unfinished  return          interval  worst",
        "                                                      seed",
        "Ant-v4",
        "  gail      0           1",
        "Hopper-v4",
    ]
    assert not list(runs.rglob("*.csv")) or {path.name for path in runs.rglob("*.csv")} == {"metrics.csv"}
    done = plot(*folders, "--table", "--output", "t.csv", cwd=runs)
    assert (done.returncode, done.stdout) == (0, "t.csv: 2 rows\n")
    found = pd.read_csv(runs / "t.csv").set_index("environment")
    assert found.loc["Hopper-v4", "return"] == 7.5
    assert found.loc["Ant-v4", "unfinished"] == 1
    for name, begin in (("t.tex", "% needs"), ("t.MD", "| environment |"), ("t.txt", "  ")):
        assert plot(*folders, "--table", "--output", name, cwd=runs).returncode == 0
        assert (runs / name).read_text().startswith(begin)


def test_runs_without_a_value_are_counted_apart(runs):
    (runs / "runs" / "Ant" / "metrics.csv").write_text("iteration,env_steps,return_mean\n1,100,nan\n")
    done = plot(*(runs / "runs").iterdir(), "--output", "a.png", cwd=runs)
    assert (done.returncode, done.stdout) == (
        0,
        "a.png: 2 runs\ngail, Ant-v4: 1 without return_mean so far, left out\n",
    ), done.stderr


def test_no_folder_is_a_wrong_use(tmp_path):
    done = plot(cwd=tmp_path)
    assert (done.returncode, "give the folders of runs" in done.stderr) == (2, True)


def test_a_folder_that_is_no_run_is_told(tmp_path):
    done = plot(str(tmp_path), cwd=tmp_path)
    assert done.returncode == 4
    assert "no folder of a run" in done.stderr


@pytest.mark.parametrize(("name", "begin"), [("a.pdf", b"%PDF"), ("a.SVG", b"<?xml"), ("a.png", b"\x89PNG")])
def test_the_format_is_the_one_of_the_name(runs, name, begin):
    done = plot(*(runs / "runs").iterdir(), "--output", name, cwd=runs)
    assert done.returncode == 0, done.stderr
    assert (runs / name).read_bytes().startswith(begin)


def test_another_format_is_refused(runs):
    done = plot(*(runs / "runs").iterdir(), "--output", "a.bmp", cwd=runs)
    assert (done.returncode, "must end in .png, .pdf or .svg" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--labels", "A", "B"], "--labels: 2 names for 1 settings: gail"),
        (["--labels", "A", "B"], "NAME=PATTERN names the runs whose folder matches"),
        (["--labels", "A=*gail*", "B=*airl*"], "runs/Ant matches none of the patterns"),
        (["--labels", "A=*", "B=*__1__*"], "Hopper-v4__gail-trpo__1__b is of A, B; "),
        (["--label", "{nothing}"], "has no field nothing"),
        (["--label", "a", "--labels", "b"], "leave out one"),
        (["--style", "glot"], "matplotlib has no style of this name; it has "),
        (["--table", "--size", "3", "3"], "--size has no effect with --table"),
        (["--table", "--output", "a.png"], "the name of a table must end in .txt, .csv, .md or .tex"),
        (["--output", "a.csv"], "a table takes --table too"),
        (["--table-format", "csv"], "--table-format has no effect without --table"),
        (["--normalise", "--metric", "kl"], "--normalise is of returns"),
        (["--size", "3.3", "0.5"], "panels and legend take a height of"),
        (["--size", "3.3", "-1"], "--size must be above 0; got -1"),
    ],
)
def test_mistakes_are_one_clear_line(runs, flags, message):
    done = plot(*(runs / "runs").iterdir(), *flags, cwd=runs)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not (runs / "runs" / "plot.png").exists()


def test_labels_by_folder_know_no_order(runs):
    folders = [str(path.relative_to(runs)) for path in sorted((runs / "runs").iterdir())]
    for order in (folders, folders[::-1]):
        done = plot(*order, "--table", "--labels", "one=*__0__*", "two=runs/Hop*__1__b", "Ant=Ant", cwd=runs)
        rows = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
        assert (done.returncode, {"one", "two", "Ant"} <= rows) == (0, True), done
    for seed, path in enumerate(folders[1:]):
        (runs / path).rename(runs / "runs" / "Ant" / f"seed_{seed}")
    done = plot("runs/Ant", "--table", "--labels", "all=runs/A*/", cwd=runs)
    assert "  all " in done.stdout, done


def test_a_failed_run_is_left_out_and_counted(runs):
    change(runs / "runs" / "Hopper-v4__gail-trpo__1__b" / "summary.json", status="failed", error="ValueError: \x1b")
    (runs / "runs" / "Hopper-v4__gail-trpo__1__b" / "metrics.csv").write_text("iteration,env_steps,return_mean\n")
    done = plot(*(runs / "runs").glob("Hop*"), "--output", "a.svg", "--labels", "GAIL", cwd=runs)
    assert (done.returncode, done.stdout) == (
        0,
        "a.svg: 1 run\nGAIL, Hopper-v4: 1 failed, left out\n",
    ), done.stderr
    assert done.stderr == "GAIL: gail\n"
    done = plot(*(runs / "runs").glob("Hop*"), "--table", cwd=runs)
    assert "\x1b" not in done.stdout + done.stderr
    assert "Hopper-v4__gail-trpo__1__b: ValueError: \\x1b" in done.stderr


def test_a_line_ends_with_its_shortest_run(runs):
    path = runs / "runs" / "Hopper-v4__gail-trpo__0__a" / "metrics.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:51]) + "\n")
    done = plot(*(runs / "runs").glob("Hop*"), "--output", "a.png", cwd=runs)
    assert done.stdout.endswith("ends at 5,000 steps with its shortest run; the longest has 10,000\n")


def test_scores_need_what_was_measured(runs):
    done = plot(*(runs / "runs").iterdir(), "--normalise", "--output", "a.png", cwd=runs)
    assert (done.returncode, "there is no normalised return_mean to draw" in done.stderr) == (4, True)
    change(
        runs / "runs" / "Hopper-v4__gail-trpo__0__a" / "summary.json", random_return_mean=0, expert_return_mean=100.0
    )
    done = plot(*(runs / "runs").iterdir(), "--normalise", "--output", "a.png", cwd=runs)
    assert done.stdout.startswith("a.png: 1 run\n")
    change(runs / "runs" / "Hopper-v4__gail-trpo__0__a" / "summary.json", random_return_mean="0")
    done = plot(*(runs / "runs").iterdir(), "--output", "a.png", cwd=runs)
    assert (done.returncode, "field random_return_mean: must be a number" in done.stderr) == (4, True)


def test_a_seed_twice_and_other_settings_in_a_line_are_told(runs):
    for path in (runs / "runs").glob("Hop*"):
        change(path / "config.json", agent={"arguments": {"seed": 3}})
    done = plot(*(runs / "runs").glob("Hop*"), "--output", "a.png", cwd=runs)
    assert "warning: gail in Hopper-v4 has a seed twice; its seeds are 3, 3" in done.stderr
    config = json.loads((path / "config.json").read_text())
    change(path / "config.json", arguments=config["arguments"] | {"n_trajectories": 7})
    done = plot(*(runs / "runs").glob("Hop*"), "--output", "a.png", "--label", "{env_id}", cwd=runs)
    assert "warning: Hopper-v4 in Hopper-v4 has runs of several settings" in done.stderr


def test_words_of_a_run_command_neither_terminal_nor_spreadsheet(runs):
    folder = runs / "runs" / "Hopper-v4__gail-trpo__0__a"
    change(folder / "summary.json", algorithm="\x1b]0;title\x07", status="failed", error="\x1b[2J")
    change(folder / "config.json", env_id="=cmd()")
    for flags in ([], ["--table-format", "csv"], ["--table-format", "latex"], ["--table-format", "markdown"]):
        done = plot(folder, "--table", "--label", "{algorithm}", *flags, cwd=runs)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        if flags == ["--table-format", "csv"]:
            (found,) = csv.DictReader(done.stdout.splitlines())
            assert (found["environment"], found["method"]) == ("'=cmd()", "\\x1b]0;title\\x07")


@pytest.mark.parametrize(
    "content", ["", "a", "iteration,env_steps,return_mean\n1,2\n", "iteration,env_steps,return_mean\nx,2,3\n"]
)
def test_a_metrics_file_that_is_none_is_told(runs, content):
    folder = runs / "runs" / "Ant"
    (folder / "metrics.csv").write_text(content)
    done = plot(folder, cwd=runs)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


def test_runs_from_python_and_saved_agents_are_drawn_by_their_settings(tmp_path):
    small = {"n_envs": 2, "n_steps": 64, "n_threads": 1, "device": "cpu"}
    for name, gravity, seed in (("a", 9.8, 0), ("b", 9.8, 1), ("c", 5.0, 0)):
        make = functools.partial(rlgen.PPO, "CartPole-v1", seed=seed, gamma=0.9, **small)
        kwargs = {} if gravity == 9.8 else {"env_kwargs": {"sutton_barto_reward": True}}
        make(**kwargs).learn(256, run_dir=tmp_path / "runs" / name, eval_episodes=1, progress=False)
    make().learn(256, progress=False).save(tmp_path / "runs" / "saved")
    found = [Run.read(tmp_path / "runs" / name) for name in ("a", "b", "c", "saved")]
    settings = [setting(run) for run in found]
    assert settings[0] == settings[1] == settings[2] == settings[3]
    assert settings[0][""] == "PPO"
    assert found[0].task == found[1].task == found[3].task == "CartPole-v1"
    assert found[2].task == "CartPole-v1 sutton_barto_reward=True"
    done = plot(*(tmp_path / "runs").iterdir(), "--output", "a.png", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "a.png: 4 runs\n"), done.stderr
    assert "PPO in CartPole-v1 has a seed twice; its seeds are 0, 0, 1" in done.stderr


def test_the_folder_of_several_seeds_stands_for_its_runs(runs):
    for seed, path in enumerate(sorted((runs / "runs").glob("Hopper*"))):
        path.rename(runs / "runs" / "Ant" / f"seed_{seed}")
    done = plot("runs/Ant", "--output", "a.png", cwd=runs)
    assert (done.returncode, done.stdout) == (0, "a.png: 2 runs\n"), done.stderr
    done = plot("runs/Ant", "--table", "--label", "{run}", cwd=runs)
    assert "Ant/seed_1" in done.stdout


def test_seeds_that_have_no_step_in_common_have_no_curve(runs):
    for slope, path in enumerate(sorted((runs / "runs").glob("Hopper*"))):
        first, then = ("1,100,5.0", "2,900,nan") if slope else ("1,100,nan", "2,900,5.0")
        (path / "metrics.csv").write_text(f"iteration,env_steps,return_mean\n{first}\n{then}\n")
    done = plot(*(runs / "runs").iterdir(), "--output", "a.png", cwd=runs)
    assert done.returncode == 0, done.stderr


def test_behaviour_cloning_is_a_level_beside_the_others_and_alone_a_loss(runs):
    folder = runs / "runs" / "bc"
    folder.mkdir()
    config = {"command": "rlgen bc", "arguments": plain(bc.Arguments(env="Hopper-v4")), "env_id": "Hopper-v4"}
    (folder / "config.json").write_text(json.dumps(config))
    rows = [
        "iteration,env_steps,return_mean,gradient_steps,validation_loss",
        *(f"{i},0,,{100 * i},{i}" for i in (1, 2)),
    ]
    (folder / "metrics.csv").write_text("\n".join([*rows, ""]))
    (folder / "summary.json").write_text(json.dumps({"stochastic_return_mean": 40.0, "return_mean": 50.0}))
    arguments = plot_command.Arguments(runs=(folder,))
    read = Run.read(folder)
    line, _ = plot_command._level("bc", [read], arguments, 1e4)
    assert (line.steps.tolist(), line.values.tolist()) == ([0, 1e4], [[40, 40]])
    both = plot(*(str(path) for path in (folder, runs / "runs" / "Ant")), "--output", "a.png", cwd=runs)
    assert "it has no return over steps" in both.stdout  # a panel of its own has nothing to be a level of
    beside = plot(*map(str, sorted((runs / "runs").glob("[Hb]*"))), "--output", "a.png", cwd=runs)
    assert beside.returncode == 0, beside.stderr
    assert (
        "bc, Hopper-v4: steps no environment: the line is the sampling policy's return in the final evaluation"
        in beside.stdout
    )
    loss = read.curve("validation_loss")
    assert (loss["steps"].tolist(), loss["value"].tolist()) == ([100, 200], [1, 2])
    alone = plot(str(folder), cwd=runs)
    assert (alone.returncode, "--metric validation_loss draws its loss" in alone.stderr) == (4, True)
