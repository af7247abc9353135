"""The configuration: what is read, what a mistake is answered with, and which plans a task gets."""

import dataclasses
import operator
from pathlib import Path

import pytest
import yaml

from heatcrop.cli import config as config_module
from heatcrop.cli.config import Config, cores, merge
from heatcrop.cli.config_file import dump_config, format_list, read_config
from heatcrop.data.tasks import FASHIONAI, Task, resolve
from heatcrop.errors import UsageError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

RICH = """
name: rich
seed: 5
data:
  source: files
  roots: [a, b]
  tasks:
  - {name: beak, classes: [hooked, "3/4", Länge], kind: length}
  splits: {val: test}
  limit_per_class: 7
network: {backbone: resnet18_v2, weights: none, input_px: 64, frozen_blocks: -1, fit: stretch}
cam: {training: {schedule: step, steps: [7, 12], average: 0.99}, test: {scales: [1, 1.0714], flip: false}}
crop: {rule: {threshold: 0.2, by: area}}
length: {crop: {rule: {margin: 0.3}}}
tasks: {beak: {crop: {rule: {together: 0.5}}, cam: {views: 9}}}
runtime: {engine: onnx, threads: 1}
"""


@pytest.fixture
def read(tmp_path):
    def write_and_read(text, settings=()):
        path = tmp_path / "my.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_config(path, settings)

    return write_and_read


def refused(read, text, settings=()):
    with pytest.raises(UsageError) as caught:
        read(text, settings)
    return str(caught.value)


@pytest.mark.parametrize("text", ["", "name: x", RICH])
def test_a_written_configuration_is_read_back(read, text):
    config = read(text)
    again = read(dump_config(config))
    assert again == config
    assert dump_config(again) == dump_config(config)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_the_supplied_configurations_are_valid(read, path):
    config = read_config(path)
    assert read(dump_config(config)) == config
    for task in FASHIONAI:
        config.plans(task)


def test_an_empty_file_gives_the_defaults(read):
    assert read("") == Config()
    assert read("# only a comment\n") == Config()


def test_a_byte_order_mark_and_windows_line_ends_are_read(read):
    assert read("\ufeffname: x\r\nseed: 3\r\n").seed == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nmae: x", ["nmae", "no such setting", "mean name?"]),
        ("network: {input: 64}", ["network.input", "no such setting"]),
        ("crop: {rule: {treshold: 0.3}}", ["crop.rule.treshold", "no such setting", "mean threshold?"]),
        ("cam: {training: {epoch: 3}}", ["cam.training.epoch", "no such setting"]),
        ("design: {crop: {rule: {treshold: 0.3}}}", ["design.crop.rule.treshold", "no such setting"]),
        ("length: {cam: {augment: {flipp: 1}}}", ["length.cam.augment.flipp", "no such setting"]),
        ("length: {stage1: {views: 1}}", ["length.stage1", "no such setting"]),
        ("tasks: {neck: {finetune: {view: 1}}}", ["tasks.neck.finetune.view", "no such setting"]),
        ("tasks: {nekc: {cam: {views: 1}}}", ["tasks.nekc", "'nekc'", "neckline"]),
        ("cam: {training: {epochs: many}}", ["cam.training.epochs", "integer", "'many'"]),
        ("seed: -1", ["seed", "-1"]),
        ("network: 3", ["network", "3", "a section, as key: value"]),
        ("data: {tasks: [neck, coat]}", ["data.tasks", "'neck' without its classes", "infer", "--task"]),
        ("data: {tasks: 3}", ["data.tasks", "3", "'fashionai' or 'infer'", "a list, as [a, b]"]),
        ("data: {tasks: {neck: [a, b]}}", ["data.tasks", "'neck'", "a list, as [a, b]"]),
        ("data: {tasks: [{name: ab, classes: {x: 0}}]}", ["data.tasks.0.classes", "a list, as [a, b]"]),
        ("data: {splits: 3}", ["data.splits", "3", "a section, as key: value"]),
        ("data: {splits: {a: off}}", ["data.splits.a", "False", "in quotes"]),
        ("cam: null", ["cam", "None"]),
        ("network: {input_px: 100}", ["network", "input_px is 100", "multiple of 32"]),
        ("network: {backbone: resnet19_v2}", ["network.backbone", "'resnet19_v2'", "resnet18_v2", "lite0"]),
        ("network: {fit: crop}", ["network.fit", "'stretch' or 'pad'", "'crop'"]),
        ("name: ../up", ["name", "'../up'"]),
        ("name: 2024", ["name", "2024"]),
        ("data: {val_share: 0.6, test_share: 0.5}", ["data", "val_share 0.6", "test_share 0.5"]),
        ("data: {splits: {val: tests}}", ["data.splits.val", "'tests'"]),
        ("data: {tasks: [{name: a/b, classes: [x, y]}]}", ["data.tasks.0", "'a/b'"]),
        ("data: {tasks: [{name: ab, classes: [x]}]}", ["data.tasks.0", "1 class; at least two"]),
        ("data: {tasks: [{name: ab, classes: [x, x]}]}", ["data.tasks.0", "twice"]),
        ("data: {tasks: [{name: ab, classes: [yes, x]}]}", ["data.tasks.0.classes.0", "True", "in quotes"]),
        ("data: {tasks: [{name: ab, classes: [x, off]}]}", ["data.tasks.0.classes.1", "False", "in quotes"]),
        ("data: {tasks: [{name: ab, classes: [x, 001]}]}", ["data.tasks.0.classes.1", "1", "in quotes"]),
        ("data: {tasks: [{name: ab, classes: [x, 1.5]}]}", ["data.tasks.0.classes.1", "1.5", "in quotes"]),
        ("data: {tasks: [{name: ab, classes: [x, null]}]}", ["data.tasks.0.classes.1", "in quotes"]),
        ("data: {tasks: [{name: ab, classes: [x, 2020-01-01]}]}", ["classes.1", "2020", "in quotes"]),
        ("data: {tasks: [{name: 001, classes: [x, y]}]}", ["data.tasks.0.name", "1", "in quotes"]),
        ("crop: {rule: {threshold: .nan}}", ["crop.rule.threshold", "nan"]),
        ("tasks: {skirt: {cam: {folds: 0}}}", ["tasks.skirt.cam.folds", "0"]),
        ("crop: {rule: {zoom: 2}}", ["crop", "rule.zoom is 2", "crop.zoom"]),
        ("crop: {zoom: 0.5}", ["crop", "zoom is 0.5", "0, or 1 and more"]),
        ("heatmap: {method: gradcam}", ["heatmap.method", "'gradcam'", "'grad_cam'"]),
        ("heatmap: {methods: cam}", ["heatmap.methods", "no such setting"]),
        ("heatmap: {method: layer_cam, layer: -1}", ["heatmap.layer", "-1", "at least 0"]),
        ("heatmap: {layer: 2}", ["heatmap.layer", "2", "last map", "grad_cam"]),
        (
            "heatmap: {method: grad_cam}\nruntime: {engine: onnx}",
            ["heatmap.method", "backward", "runtime.engine"],
        ),
        ("finetune: {test: {scales: []}}", ["finetune.test.scales"]),
        ("cam: {training: {head_rate: 1.0e+308}}", ["cam.training.head_rate", "1e+308", "at most 1,000,000"]),
        (f"cam: {{training: {{epochs: {'9' * 41}}}}}", ["cam.training.epochs", "at most 100,000"]),
        ("data: {tasks: []}", ["data.tasks", "names no task", "fashionai", "infer"]),
        (
            "data: {tasks: [{name: ab, classes: [x, y]}, {name: ab, classes: [x, z]}]}",
            ["data.tasks", "lists the task 'ab' twice; keep one"],
        ),
        ("data: {roots: [birds, '']}", ["data.roots", "an empty path"]),
        ("data: {excluded: ['']}", ["data.excluded", "an empty path"]),
        ("- a\n- b", ["expected sections", "list"]),
        ("just text", ["expected sections", "str"]),
        ("a: [1, 2", ["not valid YAML"]),
        ("a: b: c", ["not valid YAML"]),
        ("a: !!python/object/apply:os.system ['touch hacked']", ["not valid YAML"]),
        (b"name: \xff\xfe", ["not UTF-8"]),
        ("[" * 600, ["YAML"]),
    ],
)
def test_mistakes_are_reported_with_file_key_and_finding(read, tmp_path, text, words):
    message = refused(read, text)
    for line in message.splitlines():
        assert line.startswith(f"{tmp_path / 'my.yaml'}: ")
    assert [word for word in words if word not in message] == []
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nseed: 1\nname: b", ":3: the key 'name' is already in line 1; keep one"),
        (
            "cam:\n  views: 2\n  training: {epochs: 3}\n  views: 2",
            ":4: the key 'views' is already in line 2",
        ),
        ("{name: a, 'name': b}", ":1: the key 'name' is already in this line"),
    ],
)
def test_a_repeated_key_is_reported_with_its_line(read, tmp_path, text, words):
    assert f"{tmp_path / 'my.yaml'}{words}" in refused(read, text)


def test_merged_keys_may_be_set_again(read):
    config = read(
        "cam: &c {views: 2, folds: 5, heatmap: plain}\ndesign: {cam: {<<: *c, folds: 4, <<: {views: 3}}}"
    )
    assert config.cam.views == 2
    assert config.plans(resolve("neck"))[0].folds == 4
    assert config.plans(resolve("neck"))[0].heatmap == "plain"


@pytest.mark.parametrize("rule", ["rule", "first"])
def test_a_spread_besides_heatmaps_of_the_predicted_class_is_refused(read, rule):
    text = f"tasks: {{neck: {{cam: {{heatmap: plain}}, crop: {{{rule}: {{spread: true}}}}}}}}"
    assert f"tasks.neck.crop.{rule}.spread: stage 1 makes such heatmaps" in refused(read, text)
    assert getattr(read(text.replace("plain", "evidence")).plans(resolve("neck"))[1], rule).spread


def test_all_mistakes_are_reported_at_once(read):
    assert len(refused(read, "nmae: x\nseed: -1\nnetwork: {fit: crop}").splitlines()) == 3


def test_a_missing_file_or_a_folder_is_named(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UsageError, match=f"^{path}: cannot be read.*--config"):
            read_config(path)


# --- --set


@pytest.mark.parametrize(
    ("settings", "key", "value"),
    [
        (["crop.rule.threshold=0.9"], "crop.rule.threshold", 0.9),
        (["crop.rule.threshold=0.9"], "crop.rule.by", "area"),  # other keys of the section stay
        (["cam.training.steps=[1, 2]"], "cam.training.steps", (1, 2)),
        (["data.roots=[]"], "data.roots", ()),
        (["seed=1", "seed=2"], "seed", 2),
        (["network.weights=a=b.params"], "network.weights", "a=b.params"),
    ],
)
def test_settings_change_what_the_file_sets(read, settings, key, value):
    assert operator.attrgetter(key)(read(RICH, settings)) == value


ODD_TEXTS = (
    "a, b",
    "[x]",
    "no",
    "'\"",
    "ä",
    "\U0001f426",
    "\udce9",
    "a\nb",
    "\u2028",
    "\x85",
    " x ",
    "#1: x",
    "x " * 99,
)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_list_may_hold_any_text(read, text):
    assert read("", [f"data.roots={format_list([text, 'b'])}"]).data.roots == (text, "b")


@pytest.mark.parametrize(
    ("setting", "splits"), [("data.splits={}", {}), ("data.splits.val=train", {"val": "train"})]
)
def test_an_empty_mapping_empties_what_the_file_sets(read, setting, splits):
    assert read(RICH, [setting]).data.splits == splits


def test_an_emptied_section_leaves_the_others(read):
    config = read(RICH, ["crop.rule={}"])
    assert (config.crop.rule.threshold, config.network.input_px) == (0.45, 64)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("crop.rule.threshold", ["--set crop.rule.threshold", "key=value"]),
        ("=3", ["--set =3", "key=value"]),
        (".=3", ["--set .=3", "key=value"]),
        ("crop..zoom=3", ["--set crop..zoom=3", "key=value"]),
        ("seed=[1", ["--set seed=[1", "not valid YAML"]),
        ("crop.rule.treshold=0.3", ["crop.rule.treshold", "no such setting"]),
        ("network=3", ["network", "3"]),
        ("seed.deep=3", ["seed", "{'deep': 3}"]),
        (f"seed={'[' * 600}", ["--set seed=[[[", "nested too deeply"]),
        (f"{'seed.' * 3000}x=1", ["--set seed.seed.", "nested too deeply"]),
        ("cam={views: 1, views: 2}", ["--set cam={views", "'views' is already"]),
        ("", ["key=value"]),
    ],
)
def test_a_bad_setting_is_refused(read, setting, words):
    message = refused(read, "", [setting])
    assert all(word in message for word in words)
    assert len(message) < 300


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["crop.rule.threshold=0.7", "crop=5"], "--set crop=5: is 5; expected a section"),
        (["tasks.neck.crop.rule.threshold=0.7", "tasks=1"], "--set tasks=1: is 1; expected a section"),
        (["cam.folds=abc"], "--set cam.folds=abc: is 'abc'; expected a valid integer"),
        (["cam.fold=3"], "--set cam.fold=3: no such setting; docs/settings.md lists them"),
        (["name=x y"], "--set name=x y: the name becomes a folder"),
        (["cam={fold: 3}"], "--set cam={fold: 3}: cam.fold: no such setting"),
        (
            ["tasks.beak.cam.fold=3"],
            "--set tasks.beak.cam.fold=3: no such setting",
        ),
        (["cam.folds=0", "cam.folds=-1"], "--set cam.folds=-1: is -1; expected at least 1"),
        (
            ["network.fit=pad", "network.input_px=100"],
            "my.yaml --set network.fit=pad --set network.input_px=100: network: input_px is 100",
        ),
        (["runtime.jobs=0"], "--set runtime.jobs=0: is 0; expected at least 1"),
    ],
)
def test_a_mistake_of_a_setting_is_not_attributed_to_the_file(read, settings, message):
    assert message in refused(read, RICH, settings)


@pytest.mark.parametrize("setting", ["cam=3", "cam.folds=abc"])
def test_a_mistake_of_a_setting_is_reported_once(read, setting):
    lines = refused(read, "design: {cam: {views: 2}}\nlength: {cam: {views: 3}}", [setting]).splitlines()
    assert len(lines) == 1


def test_a_mistake_of_the_file_stays_the_files_beside_a_setting(read, tmp_path):
    message = refused(read, "cam: {fold: 3}", ["cam.views=2"])
    assert message.startswith(f"{tmp_path / 'my.yaml'}: cam.fold: no such setting")


def test_merge_keeps_unchanged_keys_and_both_arguments():
    base, change = {"a": {"x": 1, "y": {"z": 2}}, "b": 3}, {"a": {"y": {"w": 4}}, "c": 5}
    assert merge(base, change) == {"a": {"x": 1, "y": {"z": 2, "w": 4}}, "b": 3, "c": 5}
    assert base == {"a": {"x": 1, "y": {"z": 2}}, "b": 3}
    assert change == {"a": {"y": {"w": 4}}, "c": 5}
    assert merge({"a": {"x": 1}}, {"a": 2}) == {"a": 2}


# --- plans


LAYERED = """
crop: {rule: {threshold: 0.1, margin: 0.11, least_side: 0.12}}
cam: {training: {epochs: 3}}
design: {crop: {rule: {threshold: 0.2}}, cam: {augment: {flip: 0.25}}}
length: {crop: {rule: {threshold: 0.3}}, finetune: {training: {epochs: 8}}}
tasks:
  neck: {crop: {rule: {threshold: 0.4}}, cam: {training: {epochs: 5}}}
  skirt_length_labels: {crop: {rule: {margin: 0.5}}}
"""


@pytest.mark.parametrize(
    ("task", "threshold", "margin", "epochs", "tuned", "flip"),
    [
        ("collar", 0.2, 0.11, 3, 10, 0.25),
        ("neck", 0.4, 0.11, 5, 10, 0.25),
        ("neckline", 0.2, 0.11, 3, 10, 0.25),
        ("pant", 0.3, 0.11, 3, 8, 0.5),
        ("skirt", 0.3, 0.5, 3, 8, 0.5),
    ],
)
def test_overrides_reach_the_plans_of_their_tasks_only(read, task, threshold, margin, epochs, tuned, flip):
    cam, crop, finetune = read(LAYERED).plans(resolve(task))
    assert (crop.rule.threshold, crop.rule.margin, crop.rule.least_side) == (threshold, margin, 0.12)
    assert (cam.training.epochs, finetune.training.epochs, cam.augment.flip) == (epochs, tuned, flip)


@pytest.mark.parametrize("task", ["collar", "neck", "pant", "skirt"])
def test_the_command_line_wins_over_the_files_regimes_and_tasks(read, task):
    config = read(LAYERED, ["crop.rule.threshold=0.9", "cam.training.epochs=2"])
    cam, crop, _ = config.plans(resolve(task))
    assert (crop.rule.threshold, cam.training.epochs) == (0.9, 2)
    assert crop.rule.margin == (0.5 if task == "skirt" else 0.11)


@pytest.mark.parametrize(
    ("setting", "task", "threshold"),
    [
        ("tasks.neck.crop.rule.threshold=0.4", "neck", 0.4),
        ("length.crop.rule.threshold=0.35", "pant", 0.35),
        ("design.crop.rule.threshold=0.8", "collar", 0.8),
    ],
)
def test_a_setting_may_reach_into_an_override(read, setting, task, threshold):
    config = read(LAYERED, ["crop.rule.threshold=0.9", setting])
    assert config.plans(resolve(task))[1].rule.threshold == threshold


# --- tasks


def test_a_users_tasks_keep_their_order_and_kind(read):
    assert read(RICH).known_tasks() == (Task("beak", ("hooked", "3/4", "Länge"), "length"),)
    assert read("").known_tasks() == FASHIONAI


def test_inferred_tasks_are_listed(read):
    config = read("data: {tasks: infer}\ntasks: {beak: {cam: {views: 2}}}")
    assert config.known_tasks() is None
    named = config.with_tasks((Task("beak", ("a", "b"), "length"),))
    again = read(dump_config(named))
    assert again.known_tasks() == (Task("beak", ("a", "b"), "length"),)
    assert read("").with_tasks(()) == read("")


def test_a_dumped_configuration_is_complete_and_plain(read):
    values = yaml.safe_load(dump_config(read(RICH)))
    assert values["crop"]["rule"]["threshold"] == 0.2
    assert values["finetune"]["training"]["epochs"] == 10  # a default, written out
    fields = {f.name for f in dataclasses.fields(read(RICH).cam)}
    assert set(values["cam"]) == fields


@pytest.mark.parametrize(
    ("settings", "searched"),
    [
        (["crop.quality=90"], 400),
        (["crop.rule.threshold=0.5"], 0),
        (["crop={rule: {threshold: 0.5}}"], 0),
        (["crop.rule.threshold=0.5", "crop.search.pictures=99"], 99),
    ],
)
def test_a_rule_from_the_command_line_is_not_searched_again(read, settings, searched):
    assert read("", settings).crop.search.pictures == searched


def test_a_rule_of_one_task_from_the_command_line_is_not_searched_again(read):
    config = read("", ["tasks.neck.crop.rule.threshold=0.5"])
    searched = {task.short: config.plans(task)[1].search.pictures for task in config.known_tasks()}
    assert (searched["neck"], searched["collar"]) == (0, 400)


@pytest.mark.parametrize(("usable", "threads"), [(3, 3), (64, config_module.MOST_THREADS)])
def test_threads_default_to_the_usable_cores(monkeypatch, usable, threads):
    monkeypatch.setattr(config_module, "cores", lambda: usable)
    assert config_module.RuntimeConfig().threads == threads
    assert Config.model_validate({"runtime": {"threads": 12}}).runtime.threads == 12


def test_this_machine_has_usable_cores():
    assert cores() >= 1
