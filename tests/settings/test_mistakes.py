"""Mistakes in settings: one line, exit status 2, the setting and the cure named, nothing left behind."""

import pytest

MISTAKES = {  # flags → what the message names
    "--prioor x": ["prioor", "Did you mean 'prior'"],
    "--prior gausian": ["Did you mean 'gaussian'", "file.py:Class"],
    "--prior mean_field": ["no Prior called 'mean_field'"],
    "--prior guides.Point": ["guides.Point is not a Prior", "pyro_dwp.Prior"],
    "--prior no_such.Prior": ["no_such.Prior cannot be imported"],
    "--prior nowhere.py:Mine": ["no file", "nowhere.py"],
    "--prior mine.py": ["mine.py:MyClass"],
    "--prior mine.py:Mne": ["no class 'Mne'", "Did you mean 'Mine'"],
    "--prior mine.py:Sampled": ["distribution(self, site)"],
    "--prior mine.py:Unset": ["mine.py:Unset cannot be built", "super().__init__"],
    "--prior mine.py:Raises": ["RuntimeError: out of luck"],
    "--prior mine.py:Stranger": ["is not a Prior"],
    "--prior mine.py:none": ["is not a class"],
    "--prior null": ["prior takes a class"],
    "--prior {gain:1}": ["prior"],
    "--prior.scal 3": ["prior.scal", "Did you mean 'scale'"],
    "--prior mine.py:Mine --prior.scal 3": ["prior.scal", "Did you mean 'scale'"],
    "--prior.scale nan": ["prior.scale is 'nan'"],
    "--prior.scale .nan": ["prior.scale is nan", "finite"],
    "--prior.scale .inf": ["prior.scale is inf", "finite"],
    "--prior.scale -1": ["prior.scale is -1", "greater than 0"],
    "--prior.scale a": ["prior.scale is 'a'", "number"],
    "--prior pretrained": ["prior.path is missing", "--prior.path"],
    "--prior assigned --prior.rules 3": ["prior.rules is a list", "3"],
    "--prior assigned --prior.rules [{prior:gausian}]": ["prior.rules.0"],
    "--prior assigned --prior.rules [{nme:x}]": ["prior.rules.0"],
    "--guide.guide point": ["guide.guide: there is no such setting"],
    "--guide ensemble --guide.guide pont": ["guide.guide", "Did you mean 'point'"],
    "--guide ensemble --guide.members 0": ["guide.members is 0"],
    "--guide low_rank --guide.rank 1000000000": ["guide.rank is 1000000000"],
    "--guide point --guide.foo 1": ["guide.foo: there is no such setting"],
    "--length.epochs 0": ["length.epochs is 0", "greater than 0"],
    "--length.epochs 3.5": ["length.epochs is 3.5", "integer"],
    "--length.epochs true": ["length.epochs is True", "integer"],
    "--length 3": ["length"],
    "--epochs 3": ["epochs: there is no such setting", "length.epochs"],
    "--grid 64": ["grid is 64", "[INT, INT, INT]", "'[1, 1, 1]'"],
    "--grid [64,64]": ["grid"],
    "--grid 64,64,x": ["grid.2 is 'x'"],
    "--label_map 1:1": ["label_map is '1:1'", "'{1: 1}'"],
    "--label_map {1.5:1}": ["label_map"],
    "--start pior": ["start is 'pior'", "Did you mean 'prior'"],
    "--seed 1e3": ["seed is 1000.0", "integer"],
    "--seed": ["seed is True"],
    "--name": ["name is True"],
    "--resume 3": ["resume is 3"],
    "x y": ["'y' is neither a flag", "FIRST"],
    "--seed 1 x": ["'x' is neither a flag", "a,b", "FIRST"],
    "--config": ["--config needs a YAML file"],
    "--config othr": ["no config othr", "Did you mean 'other'"],
    "--config method/loud": ["no config method/loud", "Did you mean 'methods/loud'"],
    "--seed.help x": ["seed takes no class"],
    "--prior.help": ["needs the name of a class"],
    "--prior.help foo": ["no Prior called 'foo'"],
}
CONFIGS = {  # text of a config → what the message names besides the file
    "seed: [": ["not readable as YAML", "line"],
    "- 1": ["must hold settings"],
    "1: 2": ["must hold settings"],
    "seed: 1\nseed: 2": ["'seed' is given twice"],
    "prior: gaussian\nlabel_map: {1: 1, 1: 2}": ["1 is given twice"],
    "prior: {class: gaussian, scal: 1}": ["prior.scal", "Did you mean 'scale'"],
    "prior: {class: gausian}": ["Did you mean 'gaussian'"],
    "prior: {scale: 1}": ["prior needs the name of a class"],
    "sed: 1": ["sed", "Did you mean 'seed'"],
    "seed: one": ["seed is 'one'"],
    "label_map: {1.5: 1}": ["label_map"],
    "label_map: {true: 1}": ["label_map"],
    "length: {epochs: 1.0e+400}": ["length.epochs is inf"],
    "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]": ["aliases"],
    "a: &a [*a]": ["aliases"],
    "a: " + "[" * 100_000: ["nested"],
    "a: " + "{b: " * 100_000: ["nested"],
    "seed: 1 # " + "x" * 2**20: ["bytes"],
    "note: \x00": ["not readable as YAML"],
    "seed: \xff": [],  # is no UTF-8
    None: [],  # is a folder
}


@pytest.mark.parametrize("flags", MISTAKES)
def test_a_mistake_in_a_flag_is_named_with_its_cure(refused, mine, flags):
    error = refused(*flags.split(" "))
    assert [part for part in MISTAKES[flags] if part not in error] == []


@pytest.mark.parametrize("text", CONFIGS, ids=lambda text: str(text)[:40].encode("unicode_escape").decode())
def test_a_mistake_in_a_config_is_named_with_the_file(refused, tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.mkdir() if text is None else path.write_text(text, "latin-1")
    error = refused("--config", "bad.yaml")
    assert [part for part in ["bad.yaml", *CONFIGS[text]] if part not in error] == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("import no_such", "line 1, ModuleNotFoundError"),
        ("1 +", "SyntaxError"),
        ("exit(3)", "SystemExit"),
        ("1 / 0", "line 1"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_line_and_exception(refused, tmp_path, text, part):
    (tmp_path / "broken.py").write_text(text + "\n")
    error = refused("--prior", "broken.py:Mine")
    assert str(tmp_path / "broken.py") in error
    assert part in error


def test_help_has_one_line_for_each_setting_with_type_default_and_choices(call, capsys):
    assert call("--help") == 0
    lines = {line.split(" ")[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("--")}
    assert all(part in lines["--length.epochs"] for part in ("default 3", "INT", "passes over the data"))
    assert all(part in lines["--prior"] for part in ("gaussian, laplace", "default gaussian"))
    assert {"--name", "--resume", "--device", "--label_map", "--config"} <= lines.keys()
    assert "--call" not in lines


def test_help_of_a_class_explains_its_settings(call, mine, capsys):
    for key, name in (("prior", "student_t"), ("guide", "guides.LowRank"), ("prior", f"{mine}:Mine")):
        assert call(f"--{key}.help", name) == 0
    text = capsys.readouterr().out
    for flag in ("--prior.degrees_of_freedom FLOAT", "--guide.rank INT", "--prior.path TEXT"):
        assert flag in text
    assert "--guide.sites" not in text
