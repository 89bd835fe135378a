"""The registry: every name has an owner, and no plugin can break anything but itself."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from plugin_writing import PART_MODULE, SitePackages

import sentikit
from sentikit.errors import InputError, SentikitError
from sentikit.hookspecs import KINDS
from sentikit.plugin_sources import installed_plugins
from sentikit.registry import Registry, build_registry, default_registry

SOUND = """
from sentikit import hookimpl

@hookimpl
def register_datasets(register):
    register("film-reviews", f"{__name__}_parts:Reviews", summary="two reviews")
"""


def hook(body: str, name: str = "register_datasets", parameters: str = "register") -> str:
    return f"from sentikit import hookimpl\n@hookimpl\ndef {name}({parameters}):\n    {body}\n"


def registered(name: str, target: str = "'a.b:C'") -> str:
    return hook(f"register({name!r}, {target})")


class TestDiscovery:
    def test_discovery_finds_the_same_plugins_as_importlib_metadata(self) -> None:
        ours = {(s.name, s.distribution, s.version, s.location) for s in installed_plugins()}
        theirs = {
            (e.name, e.dist.name, e.dist.version, e.value)
            for e in importlib.metadata.entry_points(group="sentikit")
            if e.dist is not None
        }
        assert ours == theirs

    def test_bundled_plugins_use_the_same_entry_points_and_come_first(
        self, site: SitePackages
    ) -> None:
        site.add_plugin("aardvark", SOUND)
        first, *_, last = build_registry({}).reports()
        assert first.distribution == "sentikit"
        assert (last.name, last.distribution, last.version) == ("aardvark", "aardvark", "1.0")

    def test_a_plugin_has_its_distributions_name_and_version(self, site: SitePackages) -> None:
        site.add_plugin("film", SOUND, distribution="sentikit-film-club")
        report = site.report("film")
        assert (report.distribution, report.version) == ("sentikit-film-club", "1.0")
        assert report.location == "film"

    def test_the_first_distribution_on_the_path_hides_later_ones(
        self, site: SitePackages, tmp_path: Path
    ) -> None:
        site.add_plugin("film", SOUND)
        older = SitePackages(tmp_path / "older")
        older.add_distribution("film", {"film": "no_such_module"}, version="0.9")
        path = [str(site.folder), str(older.folder)]
        assert [source.version for source in installed_plugins(path)] == ["1.0"]

    def test_other_entry_point_groups_and_comments_are_ignored(self, site: SitePackages) -> None:
        site.add_module("film", SOUND)
        site.add_metadata(
            "film",
            "[console_scripts]\nfilm = film:main\n\n"
            "[ sentikit ]\n"
            "[sentikit]\n# a comment\nfilm = film [extra]\n[other]\nx = y\n",
        )
        assert [report.name for report in site.registry().reports()] == ["film"]
        assert site.report("film").state == "loaded"

    def test_a_damaged_entry_points_file_affects_no_other_plugin(self, site: SitePackages) -> None:
        site.add_plugin("film", SOUND)
        site.add_metadata("damaged", "[sentikit]\nnot an entry point\n")
        site.add_metadata("binary", "[sentikit]\n\x00\x01 = \x02\n")
        states = {report.distribution: report.state for report in site.registry().reports()}
        assert states == {"film": "loaded", "damaged": "failed", "binary": "failed"}

    def test_an_entry_point_may_name_an_object_a_class_or_a_submodule(
        self, site: SitePackages
    ) -> None:
        class_with_hook = """
        from sentikit import hookimpl

        class Plugin:
            @hookimpl
            def register_datasets(self, register):
                register(type(self).__name__.lower() + "-reviews", "film.parts:Reviews")

        class Nested(Plugin):
            pass

        class Holder:
            nested = Nested()
        """
        site.add_module("film.plugin", class_with_hook)
        site.add_distribution("film", {"a": "film.plugin:Plugin", "b": "film.plugin:Holder.nested"})
        assert site.registry().names("register_datasets") == ["nested-reviews", "plugin-reviews"]

    def test_a_plugin_with_odd_comparison_affects_no_other_plugin(self, site: SitePackages) -> None:
        site.add_plugin(
            "strange",
            """
            from dataclasses import dataclass
            from sentikit import hookimpl

            @dataclass
            class Plugin:  # equality without a hash
                options: tuple = ()

                @hookimpl
                def register_datasets(self, register):
                    register("strange-reviews", "strange:Reviews")

                def __getattr__(self, name):
                    raise RuntimeError(name)

            plugin = Plugin()
            """,
        )
        site.add_distribution("strange-too", {"strange-object": "strange:plugin"})
        site.add_plugin("film", SOUND)
        assert "film-reviews" in site.registry().names("register_datasets")


class TestFailures:
    """Whatever a plugin does wrong, it is listed as failed with its reason; the others work."""

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'."),
            ("def register_datasets(:", "SyntaxError"),
            ("raise ValueError('two\\nlines')", "ValueError: two lines."),
            ("import sys; sys.exit('bye')", "SystemExit: bye."),
            ("class Odd(BaseException): pass\nraise Odd()", "Odd: no message."),
            (
                hook("pass", "register_dataset"),
                "there is no hook 'register_dataset'. Did you mean 'register_datasets'",
            ),
            (
                hook("pass", parameters="registry"),
                "register_datasets(registry): missing a required argument: 'registry'. "
                "Write def register_datasets(register).",
            ),
            (hook("pass", parameters=""), "Write def register_datasets(register)."),
            (hook("pass", parameters="register, more"), "missing a required argument: 'more'"),
            ("def register_heads(register): pass", "register_heads needs the decorator"),
            ("x = 1", "it implements no hook. Decorate one with @sentikit.hookimpl"),
            (
                hook("raise OSError('no disk')"),
                "register_datasets: broken.py line 4: OSError: no disk.",
            ),
            (
                hook("raise SystemExit"),
                "s: broken.py line 4: SystemExit: no message.",
            ),
            (hook("return ['film']"), "register_datasets: TypeError: a hook calls register(...)"),
            (hook("yield"), "without async and yield"),
            (hook("pass").replace("def ", "async def "), "without async and yield"),
            (hook("yield").replace("impl\ndef", "impl(wrapper=True)\ndef"), "hook wrappers"),
            (registered("Film Reviews"), "dataset name 'Film Reviews' must be lower-case"),
            (registered(""), "must be lower-case"),
            (registered(3), "dataset name 3 must be"),
            (registered("film", "'film.Reviews'"), "must be of the form 'package.module:Name'"),
            (registered("film", "42"), "target 42 of dataset 'film' must be a class"),
            (registered("film", "None"), "must be a class"),
            (hook("register('a', 'a:B'); register('a', 'a:B')"), "'a' is registered twice"),
            (hook("register('a', 'a:B', summary=3)"), "summary of dataset 'a' must be a string"),
            (hook("register('a')"), "missing 1 required positional argument: 'target'"),
            (hook("register('a', 'x.txt')", "register_recipes"), "must be the path of a .yaml"),
            (hook("register('a', print)", "register_commands"), "must be a click command"),
        ],
    )
    def test_a_failed_plugin_is_listed_with_its_reason(
        self, site: SitePackages, code: str, reason: str
    ) -> None:
        site.add_plugin("broken", code)
        site.add_plugin("film", SOUND)
        report = site.report("broken")
        assert report.state == "failed"
        assert reason in " ".join(report.problems)
        assert report.registrations == ()
        assert site.registry().names("register_datasets") == ["film-reviews"]

    def test_all_misspelt_hooks_are_named(self, site: SitePackages) -> None:
        site.add_plugin("broken", hook("pass", "register_head") + hook("pass", "register_engine"))
        assert len(site.report("broken").problems) == 2

    def test_a_hook_of_a_later_version_may_be_marked_optional(self, site: SitePackages) -> None:
        later = hook("pass", "register_later").replace("@hookimpl", "@hookimpl(optionalhook=True)")
        site.add_plugin("film", SOUND + later)
        assert site.report("film").state == "loaded"

    def test_a_failing_hook_leaves_the_plugins_other_hooks(self, site: SitePackages) -> None:
        failing = hook("register('a', 'a:B'); raise ValueError('no')", "register_heads")
        site.add_plugin("film", SOUND + failing)
        report = site.report("film")
        assert report.state == "failed"
        assert report.problems == ("register_heads: film.py line 10: ValueError: no.",)
        assert [r.name for r in report.registrations] == ["film-reviews"]

    def test_calling_register_later_is_refused(self, site: SitePackages) -> None:
        site.add_plugin("film", "kept = []\n" + hook("kept.append(register)"))
        registry = site.registry()
        assert registry.registrations("register_datasets") == ()
        import film

        with pytest.raises(InputError, match="after register_datasets had returned"):
            film.kept[0]("late", "a:B")

    def test_a_second_entry_point_at_one_module_fails(self, site: SitePackages) -> None:
        site.add_module("film", SOUND)
        site.add_distribution("film", {"one": "film", "two": "film"})
        assert [report.state for report in site.registry().reports()] == ["loaded", "failed"]

    def test_output_of_loading_plugins_goes_to_standard_error(
        self, site: SitePackages, capsys: pytest.CaptureFixture[str]
    ) -> None:
        site.add_plugin("film", "print('importing')\n" + hook("print('asked')"))
        site.registry().reports()
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err == "importing\nasked\n"

    def test_ctrl_c_while_loading_plugins_is_passed_on(self, site: SitePackages) -> None:
        site.add_plugin("film", "raise KeyboardInterrupt")
        with pytest.raises(KeyboardInterrupt):
            site.registry()

    def test_unknown_names_mention_plugins_that_failed(self, site: SitePackages) -> None:
        site.add_plugin("broken", "import no_such_module")
        site.add_plugin("film", SOUND)
        with pytest.raises(InputError) as caught:
            site.registry().find("register_datasets", "film-review")
        assert caught.value.message == (
            "There is no dataset named 'film-review'. Did you mean 'film-reviews'? "
            "Plugins that failed: broken (sentikit plugins list)."
        )


class TestLoading:
    def test_a_component_is_imported_on_first_use(self, site: SitePackages) -> None:
        site.add_plugin("film", SOUND)
        registry = site.registry()
        (registration,) = registry.registrations("register_datasets")
        assert (registration.kind, registration.summary) == ("dataset", "two reviews")
        site.add_module("film_parts", PART_MODULE)
        assert issubclass(
            registry.load("register_datasets", "film-reviews"), sentikit.extension.DatasetLoader
        )

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            (None, "ModuleNotFoundError: No module named 'film_parts'."),
            ("import no_such_module", "No module named 'no_such_module'."),
            ("raise SystemExit(3)", "SystemExit: 3."),
            ("class Review: pass", "film_parts has no 'Reviews'. Did you mean 'Review'?"),
            ("class Reviews: pass", "must be a subclass of sentikit.extension.Data"),
            (
                "def Reviews(settings): pass",
                "must be a subclass of sentikit.extension.Data",
            ),
            (
                "from sentikit.extension import DatasetLoader\nclass Reviews(DatasetLoader): pass",
                "does not implement load, splits.",
            ),
        ],
    )
    def test_a_broken_target_is_reported_in_one_sentence(
        self, site: SitePackages, code: str | None, reason: str
    ) -> None:
        site.add_plugin("film", SOUND)
        if code is not None:
            site.add_module("film_parts", code)
        with pytest.raises(SentikitError) as caught:
            site.registry().load("register_datasets", "film-reviews")
        message = caught.value.message
        assert caught.value.exit_code == 1
        assert message.startswith("The dataset 'film-reviews' of plugin 'film' ")
        assert reason in message
        assert message.endswith("switch it off with SENTIKIT_DISABLE_PLUGINS=film.")
        assert "\n" not in message

    def test_a_target_may_be_a_class(self, site: SitePackages) -> None:
        site.add_plugin(
            "film",
            PART_MODULE + "\n" + registered("film-reviews", "Reviews"),
        )
        assert site.registry().load("register_datasets", "film-reviews").__name__ == "Reviews"

    def test_a_hook_may_be_implemented_under_another_function_name(
        self, site: SitePackages
    ) -> None:
        code = hook("register('film-reviews', 'a:B')", "mine")
        code = code.replace("@hookimpl", "@hookimpl(specname='register_datasets')")
        site.add_plugin("film", code)
        site.add_plugin("other", registered("other-reviews"))
        owners = {r.name: r.plugin for r in site.registry().registrations("register_datasets")}
        assert owners == {"film-reviews": "film", "other-reviews": "other"}


class TestNames:
    @pytest.fixture
    def rivals(self, site: SitePackages) -> SitePackages:
        site.add_plugin("film", registered("reviews", "'film:A'"), distribution="film-dist")
        site.add_plugin("food", registered("reviews", "'food:B'"), distribution="food-dist")
        return site

    def test_a_name_claimed_twice_names_both_owners(self, rivals: SitePackages) -> None:
        with pytest.raises(InputError) as caught:
            rivals.registry().find("register_datasets", "reviews")
        assert caught.value.message == (
            "The dataset name 'reviews' is claimed by the plugins 'film' (film-dist) and "
            "'food' (food-dist). Write film/reviews or food/reviews, or switch one off with "
            "SENTIKIT_DISABLE_PLUGINS."
        )

    def test_the_qualified_name_always_resolves(self, rivals: SitePackages) -> None:
        registry = rivals.registry()
        assert registry.find("register_datasets", "food/reviews").target == "food:B"
        assert registry.names("register_datasets") == ["film/reviews", "food/reviews"]

    def test_every_bundled_component_resolves_by_its_plugin_and_name(self) -> None:
        registry = default_registry()
        for hook in KINDS:
            for registration in registry.registrations(hook):
                assert registry.find(hook, registration.qualified_name) == registration

    def test_a_name_of_a_merged_plugin_is_answered_with_the_name_to_write(self) -> None:
        with pytest.raises(InputError, match=r"Did you mean 'electra-base' or 'electra-large'\?"):
            default_registry().find("register_encoders", "electra/electra-base")

    def test_components_with_a_clashing_name_are_both_listed(self, rivals: SitePackages) -> None:
        for report in rivals.registry().reports():
            assert report.state == "loaded"
            assert len(report.problems) == 1
            assert "the dataset name 'reviews' is also claimed by" in report.problems[0]

    def test_disabling_one_plugin_resolves_a_clash(self, rivals: SitePackages) -> None:
        registry = rivals.registry("film")
        assert registry.find("register_datasets", "reviews").plugin == "food"
        assert [r.state for r in registry.reports()] == ["disabled", "loaded"]

    def test_the_same_name_for_different_kinds_is_no_clash(self, site: SitePackages) -> None:
        site.add_plugin(
            "film", registered("film") + hook("register('film', 'a:B')", "register_heads")
        )
        assert site.report("film").problems == ()

    def test_two_entry_points_with_one_name_are_reported(self, site: SitePackages) -> None:
        site.add_module("film_one", registered("one"))
        site.add_module("film_two", registered("two"))
        site.add_distribution("dist-a", {"film": "film_one"})
        site.add_distribution("dist-b", {"film": "film_two"})
        registry = site.registry()
        assert registry.names("register_datasets") == ["one", "two"]
        second = registry.reports()[1]
        assert (second.name, second.state) == ("dist-b:film", "loaded")
        assert second.problems == ("the plugin name 'film' is taken",)
        assert registry.find("register_datasets", "dist-b:film/two").target == "a.b:C"
        assert [r.state for r in site.registry("dist-b:film").reports()] == ["loaded", "disabled"]


class TestDisabling:
    def test_the_environment_variable_disables_plugins(self, site: SitePackages) -> None:
        site.add_plugin("film", "raise SystemExit('never imported')")
        registry = build_registry({"SENTIKIT_DISABLE_PLUGINS": " film , demo,"})
        disabled = {r.name: r.problems for r in registry.reports() if r.state == "disabled"}
        assert disabled == dict.fromkeys(
            ["demo", "film"], ("switched off by SENTIKIT_DISABLE_PLUGINS",)
        )
        with pytest.raises(
            InputError, match="Switched off by SENTIKIT_DISABLE_PLUGINS: demo, film"
        ):
            registry.find("register_datasets", "demo")

    def test_unknown_names_of_disabled_plugins_are_reported(self) -> None:
        registry = build_registry({"SENTIKIT_DISABLE_PLUGINS": "demoo,sst"})
        assert registry.unknown_disabled() == ["demoo"]

    def test_every_bundled_plugin_can_be_disabled(self) -> None:
        names = [source.name for source in installed_plugins() if source.distribution == "sentikit"]
        registry = build_registry({"SENTIKIT_DISABLE_PLUGINS": ",".join(names)})
        for kind in KINDS:
            assert not [r for r in registry.registrations(kind) if r.distribution == "sentikit"]


def test_all_bundled_plugins_load() -> None:
    for report in build_registry({}).reports():
        if report.distribution == "sentikit":
            assert (report.state, report.problems) == ("loaded", ()), report


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(InputError, match=r"There is no head named 'mlp'\. There are none\."):
        Registry([]).find("register_heads", "mlp")
