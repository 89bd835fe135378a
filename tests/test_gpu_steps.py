"""Training steps without a wait of the GPU: mask, half-precision weights, recorded passes."""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sentikit.classifiers.batches import TokenizedTexts
from sentikit.classifiers.torch_model import (
    _PADDING_ONLY,
    SentimentModel,
    additive_mask,
    takes_ready_mask,
)
from sentikit.extension import ParameterGroup, StepPlan
from sentikit.registry import default_registry
from sentikit.training.checkpoints import CheckpointFolder, TrainingState
from sentikit.training.data import Labelled, MicroBatch, pinned
from sentikit.training.engine import out_of_memory
from sentikit.training.evaluation import CrossEntropy
from sentikit.training.reporting import SilentJournal
from sentikit.training.settings import SGD, Adagrad, AdamW, Optimizer, TrainingSettings
from sentikit.training.trainer import Trainer, dropout_seed, seed_dropout

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "embedding_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
IDS = torch.randint(3, 40, (5, 13), generator=torch.Generator().manual_seed(1))
MASK = (torch.arange(13) < torch.tensor([13, 9, 9, 4, 1])[:, None]).long()
OBJECTIVE = CrossEntropy(np.array([0, 1, 2, 0, 1]), np.ones(3, np.float32), 0.0)


class Operations(TorchDispatchMode):
    """Counts the operations that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def backbone(kind: str = "electra", dropout: float = 0.0) -> Any:
    from transformers import AutoConfig, AutoModel

    sizes = SIZES | {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    sizes |= {"dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 2}  # DistilBERT's names
    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.for_model(kind, **sizes))


@pytest.mark.parametrize("kind", sorted(_PADDING_ONLY))
def test_a_precomputed_mask_gives_the_same_states_without_a_device_sync(kind: str) -> None:
    encoder = backbone(kind).eval()
    ready = additive_mask(MASK, torch.float32)
    assert all(stride % 8 == 0 for stride in ready.stride()[:-1])
    with torch.no_grad():
        with Operations() as asking:
            expected = encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
        with Operations() as silent:
            found = encoder(input_ids=IDS, attention_mask=ready).last_hidden_state
    words = MASK.bool()
    torch.testing.assert_close(found[words], expected[words], rtol=1e-5, atol=1e-6)
    assert asking.counts["_local_scalar_dense"] == 1
    assert silent.counts["_local_scalar_dense"] == 0


def test_a_decoder_masks_more_than_padding() -> None:
    encoder = backbone("bert")
    assert takes_ready_mask(encoder)
    encoder.config.is_decoder = True
    assert not takes_ready_mask(encoder)


def engine_of(
    model: nn.Module, precision: str, halves: bool, device: str = "cpu", **settings: Any
) -> Any:
    engine_class = default_registry().load("register_engines", "torch")
    engine = engine_class(engine_class.Settings(**settings))
    type(engine).keeps_half_weights = halves
    engine.start(device)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    plan = StepPlan(AdamW(), 0.5, precision, 5, 5)
    engine.prepare(model, [ParameterGroup("all", parameters, 1e-2, 0.01)], plan)
    return engine


def model_with_a_shared_activation_and_a_frozen_layer() -> SentimentModel:
    head_class = default_registry().load("register_heads", "mlp")
    encoder = backbone()
    encoder.encoder.layer[0].requires_grad_(False)
    head = head_class(head_class.Settings(width=16, dropout=0.0)).build(32, 3)
    return SentimentModel(encoder, head, "mean")


def take_steps(engine: Any, count: int, start: int = 0) -> Counter[str]:
    """Take steps of two micro-batches each; return the operations of the last one."""
    operations = Operations()
    engine.training_mode(True)
    for number in range(start, start + count):
        operations = Operations()
        seed_dropout(dropout_seed(1, number, 0), engine.device)
        # Looked at on a CPU alone: recording a graph has its own ways.
        with operations if engine.device.type == "cpu" else nullcontext():
            for rows in (np.array([0, 1, 2]), np.array([3, 4])):
                piece = MicroBatch(rows, np.ones(len(rows), np.float32))
                with engine.micro_step(last=rows[0] == 3):
                    inputs = pinned((IDS[rows], MASK[rows]), engine.device)
                    logits = engine.forward(*inputs)
                    engine.backward(OBJECTIVE.loss(logits, piece, 5.0))
            engine.step((1e-2 / (number + 1),))
    return operations.counts


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    engine_class = default_registry().load("register_engines", "torch")
    monkeypatch.setattr(engine_class, "keeps_half_weights", True)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_cached_half_precision_weights_equal_autocast_to_the_bit(
    precision: str,
) -> None:
    casting = engine_of(model_with_a_shared_activation_and_a_frozen_layer(), precision, False)
    keeping = engine_of(model_with_a_shared_activation_and_a_frozen_layer(), precision, True)
    casts = take_steps(casting, 3)["_to_copy"]
    fewer = take_steps(keeping, 3)["_to_copy"]
    assert_same(keeping.weights(), casting.weights())
    assert_same(keeping.optimizer_state(), casting.optimizer_state())
    assert {tensor.dtype for tensor in keeping.weights().values()} == {torch.float32}
    # Two passes over 25 linear layers: weights and biases forward, gradients back.
    assert casts - fewer > 150


def test_training_in_half_precision_resumes_to_the_bit() -> None:
    whole = engine_of(model_with_a_shared_activation_and_a_frozen_layer(), "bf16", True)
    take_steps(whole, 2)
    weights, optimizer = whole.weights(), whole.optimizer_state()
    resumed = engine_of(model_with_a_shared_activation_and_a_frozen_layer(), "bf16", True)
    resumed.load_weights(weights)
    resumed.load_optimizer_state(optimizer)
    take_steps(whole, 2)
    take_steps(resumed, 2)
    assert_same(resumed.weights(), whole.weights())


def test_a_training_step_syncs_with_the_device_only_for_padding() -> None:
    engine = engine_of(model_with_a_shared_activation_and_a_frozen_layer(), "bf16", True)
    counts = take_steps(engine, 2)
    assert counts["_local_scalar_dense"] == 2  # one for each micro-batch


def test_the_loop_reads_numbers_from_the_device_only_for_padding_and_log_lines() -> None:
    settings = TrainingSettings(batch_size=5, epochs=1, log_every=4, precision="fp32")
    lengths = np.tile([3, 5, 4, 9, 6], 8)
    pieces = np.random.default_rng(0).integers(3, 40, lengths.sum(), dtype=np.int32)
    texts = TokenizedTexts(pieces, np.concatenate([[0], np.cumsum(lengths)]), 0)
    gold = np.arange(40) % 3
    model = model_with_a_shared_activation_and_a_frozen_layer()
    engine = engine_of(model, "fp32", True)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    trainer = Trainer(
        engine=engine,
        groups=[ParameterGroup("all", trained, 1e-3, 0.01)],
        plan=StepPlan(AdamW(), 1.0, "fp32", 5, 5),
        settings=settings,
        train=Labelled(texts, gold),
        validation=Labelled(texts, gold),
        classes=("a", "b", "c"),
        objective=CrossEntropy(gold, np.ones(3, np.float32), 0.0),
        checkpoints=CheckpointFolder(Path("unused"), 1),
        journal=SilentJournal(),
        stop_requested=lambda: False,
    )
    with Operations() as counted:
        trainer.train_epoch(TrainingState(""))
    padding, gradient_norms = 8, 2
    assert counted.counts["_local_scalar_dense"] == padding + gradient_norms


def test_dropout_of_a_step_depends_only_on_its_seed() -> None:
    seed_dropout(dropout_seed(42, 7, 1), torch.device("cpu"))
    found = torch.rand(4)
    torch.rand(3)
    seed_dropout(dropout_seed(42, 7, 1), torch.device("cpu"))
    assert torch.equal(torch.rand(4), found)
    seeds = {
        dropout_seed(seed, step, rank) for seed in (1, 2) for step in (0, 1) for rank in (0, 1)
    }
    assert len(seeds) == 8


class WaitingHead(nn.Module):
    """A head that reads a number from the device in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 3)

    def forward(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.layer(pooled)
        return logits if float(logits.detach().sum()) < 1e9 else logits * 0


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recorded_cuda_graphs_take_the_same_steps_without_waiting(precision: str) -> None:
    usual = engine_of(dropping_model(), precision, True, "cuda", graphs=False)
    recorded = engine_of(dropping_model(), precision, True, "cuda")
    take_steps(usual, 6)
    take_steps(recorded, 3)
    assert len(recorded._graphs._graphs) == 2
    torch.cuda.set_sync_debug_mode("error")
    try:
        take_steps(recorded, 3, start=3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name, tensor in usual.weights().items():
        torch.testing.assert_close(recorded.weights()[name], tensor, rtol=1e-4, atol=1e-5)


@needs_gpu
def test_a_model_that_syncs_with_the_gpu_is_trained_without_recording() -> None:
    torch.manual_seed(0)
    model = SentimentModel(backbone(dropout=0.1), WaitingHead(), "mean")
    twin = copy.deepcopy(model)
    recorded = engine_of(model, "bf16", True, "cuda")
    take_steps(recorded, 4)
    assert not recorded._graphs._graphs
    usual = engine_of(twin, "bf16", True, "cuda", graphs=False)
    take_steps(usual, 4)
    for name, tensor in usual.weights().items():
        torch.testing.assert_close(recorded.weights()[name], tensor, rtol=1e-4, atol=1e-5)


@needs_gpu
def test_on_a_gpu_short_texts_get_the_logits_of_the_cpu() -> None:
    model = model_with_a_shared_activation_and_a_frozen_layer().eval()
    with torch.no_grad():
        expected = model(IDS, MASK)
        found = model.cuda()(IDS.cuda(), MASK.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)


def dropping_model() -> SentimentModel:
    torch.manual_seed(0)
    return SentimentModel(backbone(dropout=0.1), nn.Linear(32, 3), "mean")


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    unequal = [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)]
    assert unequal == []


def test_a_larger_shape_is_recorded_only_if_memory_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from plugins.torch_engine.graphs import PassGraphs

    free = [100, 30, 100]
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free.pop(0), 200))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 50)
    graphs = object.__new__(PassGraphs)
    vars(graphs).update(_possible=True, _graphs={}, _wholes=[], _device=torch.device("cpu"))
    vars(graphs).update(_largest=0, _too_large=2**63)

    def may_record(rows: int) -> bool:
        return graphs._may_record([torch.zeros(rows, 4)])

    assert may_record(10)
    graphs._largest = 40
    assert may_record(10)  # in the memory that is there
    assert not may_record(20)
    assert not may_record(20)
    assert not may_record(30)
    assert may_record(15)
    assert free == []


def test_an_out_of_memory_error_names_the_recorded_graphs() -> None:
    error = out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert "engine.graphs=false" in str(error)
    assert "engine.graphs" not in str(out_of_memory(MemoryError()))


@pytest.mark.parametrize("optimizer", [AdamW(), SGD(), SGD(momentum=0.9), Adagrad()], ids=repr)
@pytest.mark.parametrize("clip", [0.01, 1000.0])
def test_gradients_clipped_within_the_optimizer_are_those_clipped_before(
    optimizer: Optimizer, clip: float
) -> None:
    torch.manual_seed(0)
    start = nn.Linear(6, 3)
    fused, plain = nn.Linear(6, 3), nn.Linear(6, 3)
    for model in (fused, plain):
        model.load_state_dict(start.state_dict())
    engine_class = default_registry().load("register_engines", "torch")
    engine = engine_class(engine_class.Settings())
    engine.start("cpu")
    groups = [ParameterGroup("all", dict(fused.named_parameters()), 0.1, 0.0)]
    engine.prepare(fused, groups, StepPlan(optimizer, clip, "fp32", 4, 4))
    arguments = optimizer.model_dump(exclude={"name"})
    group = {"params": list(plain.parameters()), "lr": 0.1, "weight_decay": 0.0}
    reference = getattr(torch.optim, type(optimizer).__name__)([group], **arguments)
    for seed in range(3):
        inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
        engine.backward(engine.forward(inputs).square().sum())
        norm = engine.step([0.1])
        plain(inputs).square().sum().backward()
        wanted = torch.nn.utils.clip_grad_norm_(plain.parameters(), clip)
        reference.step()
        reference.zero_grad()
        assert float(norm) == pytest.approx(float(wanted), rel=1e-4)
        for own, other in zip(fused.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)
