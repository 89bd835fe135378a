"""The table of the study's flags names settings and options that exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from sentikit.classifiers.encoder import EncoderOptions, HeadOptions
from sentikit.cli import sentikit
from sentikit.datasets.opening import DatasetOptions
from sentikit.registry import default_registry
from sentikit.training.recipe import TrainRecipe
from sentikit.training.settings import TrainingSettings

PAGE = Path(__file__).parents[1] / "docs" / "reproducing-the-study.md"
#: All of `argparse`'s in the study's finetune.py.
FLAGS = """
    dataset eval_dataset eval_split sample_percent chunk_size label_dict numeric_dict label_template
    pos_label weights_name pooling finetune_bert finetune_layers freeze_bert num_layers hidden_dim
    hidden_activation dropout_rate batch_size accumulation_steps epochs lr lr_decay optimizer
    use_zero
    l2_strength optimizer_kwargs scheduler scheduler_kwargs max_grad_norm random_seed interactive
    show_progress checkpoint_dir checkpoint_interval resume_from_checkpoint early_stop
    n_iter_no_change tol target_score val_percent use_val_split wandb wandb_project wandb_run
    wandb_alerts threshold model_name save_data save_model save_pickle save_hf save_preds save_plots
    save_dir data_file model_file use_saved_params predict predict_file device gpus num_threads
    num_workers prefetch empty_cache port debug mem_interval decimal color_theme
""".split()


def table() -> dict[str, str]:
    section = PAGE.read_text().split("## The flags of finetune.py")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `--(\w+)` \| (.+) \|$", section, re.MULTILINE))


def settings_of(section: str) -> set[str]:
    """Return the keys that a section of a recipe may have."""
    hooks = {"dataset": "datasets", "encoder": "encoders", "head": "heads", "engine": "engines"}
    core: dict[str, type[BaseModel]] = {
        "dataset": DatasetOptions,
        "encoder": EncoderOptions,
        "head": HeadOptions,
        "training": TrainingSettings,
    }
    known = set(core[section].model_fields) if section in core else set()
    if section in hooks:
        registry, hook = default_registry(), f"register_{hooks[section]}"
        for name in registry.names(hook):
            known |= set(registry.load(hook, name).Settings.model_fields) | {"name"}
    return known


def test_every_flag_of_the_study_has_exactly_one_row() -> None:
    assert list(table()) == FLAGS


@pytest.mark.parametrize("flag", FLAGS)
def test_settings_named_for_the_studys_flags_exist(flag: str) -> None:
    words = re.findall(r"`([^`]+)`", table()[flag])
    assert words or table()[flag].startswith("nothing")
    for word in words:
        path = re.split(r"[=, ]", word)[0].split(".")
        if path[0] in TrainRecipe.model_fields and len(path) > 1:
            assert path[1] in settings_of(path[0]), word
            inner = TrainingSettings.model_fields.get(path[1])
            if len(path) > 2:
                assert path[2] in getattr(inner.annotation, "model_fields", {}), word  # type: ignore[union-attr]
        if word.startswith("sentikit ") and not word.startswith("sentikit --"):
            command = sentikit.get_command(click.Context(sentikit), word.split()[1])
            assert command is not None, word
            options = {name for parameter in command.params for name in parameter.opts}
            assert {w for w in word.split() if w.startswith("--")} <= options, word
