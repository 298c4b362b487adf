"""The contrastive step is the same whole, in chunks and over processes; stage 2's teacher ends."""

from __future__ import annotations

import multiprocessing
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.models.tiny_contrastive import GATED, TEXT, UNET, VIT, batch, config, model
from uvlm.errors import ConfigError
from uvlm.evaluation.retrieval import retrieval_measures
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.contrastive_config import ConsistencyConfig
from uvlm.training.tasks.contrastive import ContrastiveTask

BATCH = 24
CHUNK = 4
LONG = replace(VIT, shape=(8, 32, 32))
"""256 patches: activations outweigh weights, as in the paper's size."""


def gradients(network: ContrastiveModel) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def step(task: ContrastiveTask, given: dict[str, Any]) -> tuple[float, dict[str, Tensor]]:
    task.train()
    task.zero_grad()
    losses = task(given)
    losses["loss"].backward()
    return losses["loss"].item(), gradients(task.model)


def long_batch() -> dict[str, Any]:
    torch.manual_seed(3)
    return batch(BATCH) | {"image": torch.randn(BATCH, 1, *LONG.shape)}


# Gradient caching


@pytest.mark.parametrize("encoder", [VIT, GATED, UNET], ids=["plain", "gated", "unet"])
@pytest.mark.parametrize("chunk", [1, 5, CHUNK, BATCH + 1])
def test_a_step_in_chunks_has_the_gradients_of_the_whole_batch(encoder, chunk: int):
    given = batch(BATCH, slices=encoder is GATED)
    network = model(config(encoder))
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # draws over a chunk are others than over the batch
    loss, expected = step(ContrastiveTask(network), given)
    found_loss, found = step(ContrastiveTask(network, chunk=chunk), given)
    assert found_loss == pytest.approx(loss, rel=1e-6)
    assert found.keys() == expected.keys() == dict(network.named_parameters()).keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5)


def test_a_chunk_that_is_computed_again_draws_the_same_dropout():
    """Else the gradient is of another function than the loss."""
    given, network = batch(4, slices=True), model(config(GATED)).train()
    seen: list[Tensor] = []
    gate = network.encoder.gate.dropout
    gate.register_forward_hook(lambda _, __, result: seen.append(result.detach().clone()))
    step(ContrastiveTask(network, chunk=2), given)
    first, second, *again = seen
    assert len(again) == 2
    torch.testing.assert_close(again[1], first)
    torch.testing.assert_close(again[0], second)


class Live(TorchDispatchMode):
    """Bytes of the tensors that operations made and nobody has let go of; and their largest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if torch.is_tensor(tensor) and id(tensor.untyped_storage()) not in given:
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: Any) -> None:
        if storage in self.known:
            return
        size = storage.nbytes()
        self.known.add(storage)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.bytes -= size


def peak(task: ContrastiveTask, given: dict[str, Any]) -> int:
    task.train()
    with Live() as live:
        task(given)["loss"].backward()
    return live.peak


def test_a_step_in_chunks_needs_at_most_two_fifths_of_the_memory():
    network, given = model(config(LONG)), long_batch()
    whole = peak(ContrastiveTask(network), given)
    parts = peak(ContrastiveTask(network, chunk=CHUNK), given)
    assert whole > 5e6  # activations, not weights
    assert parts <= 0.4 * whole


def test_a_negative_chunk_is_refused():
    with pytest.raises(ConfigError, match="chunk must be 0"):
        ContrastiveTask(model(config()), chunk=-1)


# Processes


def both(rank: int | None) -> tuple[ContrastiveTask, dict[str, Any]]:
    """The task with a teacher, and all eight studies or a process's half; a report lies in both."""
    teacher, given = model(config(), seed=9), batch(8)
    given["group"] = torch.tensor([0, 1, 2, 3, 0, 5, 6, 1])
    if rank is not None:
        given = {key: value[4 * rank :][:4] for key, value in given.items()}
    return ContrastiveTask(model(config()), chunk=3, teacher=teacher), given


def child(rank: int, meeting: str, sender: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    task, given = both(rank)
    wrapped = torch.nn.parallel.DistributedDataParallel(task)
    losses = wrapped(given, {"pairs": 4.0})
    losses["loss"].backward()
    found = {name: gradient.numpy() for name, gradient in gradients(task.model).items()}
    sender.send(({name: value.item() for name, value in losses.items()}, found))
    dist.barrier()
    dist.destroy_process_group()


def in_two_processes(folder: Path) -> list[tuple[dict[str, float], dict[str, Any]]]:
    context = multiprocessing.get_context("forkserver")
    children, receivers = [], []
    for rank in range(2):
        receiver, sender = context.Pipe(duplex=False)
        meeting = f"file://{folder / 'meeting'}"
        children.append(context.Process(target=child, args=(rank, meeting, sender)))
        children[-1].start()
        sender.close()
        receivers.append(receiver)
    try:
        return [receiver.recv() if receiver.poll(120) else None for receiver in receivers]
    finally:
        for process in children:
            process.join(10)
            process.kill()


def test_two_processes_have_loss_and_gradients_of_one_with_twice_the_batch(tmp_path: Path):
    (first, gradient), (second, other) = in_two_processes(tmp_path)
    task, given = both(None)
    losses = task(given)
    losses["loss"].backward()
    assert losses.keys() == first.keys() == {"loss", "contrastive", "consistency"}
    for name, value in losses.items():
        assert (first[name] + second[name]) / 2 == pytest.approx(value.item(), rel=1e-5)
    expected = gradients(task.model)
    assert gradient.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(gradient[name], other[name])
        np.testing.assert_allclose(gradient[name], value.numpy(), rtol=1e-5, atol=1e-6)


def test_rounds_of_accumulation_divide_by_all_pairs():
    task, given = ContrastiveTask(model(config())), batch(4)
    alone = task(given)["loss"]
    torch.testing.assert_close(task(given, {"pairs": 8.0})["loss"], alone / 2)
    assert task.counts(given) == {"pairs": 4.0}


def test_identical_reports_may_count_as_negatives():
    given = batch(4)
    given["group"][:] = 7
    assert ContrastiveTask(model(config()))(given)["loss"].item() == pytest.approx(0, abs=1e-6)
    plain = ContrastiveTask(model(config(duplicates="negatives")))
    assert plain(given)["loss"] > 0.1


# The teacher


class Counted(ContrastiveModel):
    calls = 0

    def embed_image(self, x: Any) -> Tensor:
        self.calls += 1
        assert not self.training
        assert isinstance(x, Tensor) or not self.config.encoder.gated
        return super().embed_image(x)


def with_teacher(**fields: Any) -> tuple[ContrastiveTask, Counted]:
    torch.manual_seed(9)
    teacher = Counted(config())
    accumulate = fields.pop("accumulate", 1)
    task = ContrastiveTask(
        model(config(GATED)),
        teacher=teacher,
        consistency=ConsistencyConfig(**{"steps": 3} | fields),
        accumulate=accumulate,
    )
    return task.train(), teacher


def test_the_teacher_is_not_called_once_its_weight_is_0():
    task, teacher = with_teacher()
    given, terms = batch(4, slices=True), []
    for _ in range(5):
        losses = task(given)
        terms.append("consistency" in losses)
        losses["loss"].backward()
    assert terms == [True, True, True, False, False]
    assert teacher.calls == 3


def test_the_weight_falls_step_by_step_however_many_rounds_a_step_has():
    task, _ = with_teacher(accumulate=2, weight=0.3)
    given, weights = batch(4, slices=True), []
    for _ in range(6):
        found = task(given)
        share = (found["loss"] - found["contrastive"]) / found["consistency"]
        weights.append(share.item())
    assert weights == pytest.approx([0.3, 0.3, 0.2, 0.2, 0.1, 0.1], rel=1e-3)


def test_the_schedule_goes_on_where_a_run_resumes():
    task, teacher = with_teacher(accumulate=2)
    task.resume(4)
    assert "consistency" not in task(batch(4, slices=True))
    again, _ = with_teacher(accumulate=2)
    again.load_state_dict(task.state_dict())
    assert again.rounds == task.rounds == 7
    assert teacher.calls == 0


def test_the_teacher_is_frozen_and_no_part_of_the_weights():
    task, teacher = with_teacher()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    task(batch(4, slices=True))["loss"].backward()
    assert set(task.state_dict()) == {"rounds", *(f"model.{n}" for n in task.model.state_dict())}
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_every_weight_of_the_student_learns_beside_its_teacher():
    task, _ = with_teacher()
    _, found = step(task, batch(4, slices=True))
    assert found.keys() == dict(task.model.named_parameters()).keys()


@pytest.mark.parametrize(("scale", "factor"), [("own", 5.0), ("student", 1 / 0.07)])
def test_the_teachers_cosines_have_its_own_temperature_or_the_students(scale, factor: float):
    task, teacher = with_teacher(scale=scale)
    for module in task.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    teacher.scale.data.fill_(np.log(5.0))
    given = batch(4, slices=True)
    found = task(given)["consistency"]
    with torch.no_grad():
        image, text = task._embed(task.model, given)
        image0, text0 = task._embed(teacher, given)
        difference = task.model.logit_scale() * image @ text.T - factor * image0 @ text0.T
    torch.testing.assert_close(found.detach(), difference.square().mean())


def test_validation_asks_no_teacher_and_counts_no_step():
    task, teacher = with_teacher()
    task.eval()
    assert "consistency" not in task(batch(4, slices=True))
    task.evaluate([batch(4, slices=True)])
    assert (teacher.calls, int(task.rounds)) == (0, 0)


def test_a_teacher_with_another_vocabulary_is_refused():
    other = model(config(text=replace(TEXT, vocab_size=41)))
    with pytest.raises(ConfigError, match=r"vocabulary of 41 .*, the model one of 40"):
        ContrastiveTask(model(config()), teacher=other)


# Validation


def test_validation_is_retrieval_over_all_studies():
    task = ContrastiveTask(model(config())).eval()
    parts = [batch(9, seed=seed) for seed in range(2)]
    parts[1]["group"] += 8
    found = task.evaluate(parts)
    images, texts = zip(*(task._embed(task.model, part) for part in parts), strict=True)
    image, text = (torch.cat(each).detach().numpy() for each in (images, texts))
    groups = torch.cat([part["group"] for part in parts]).tolist()
    (recall, _) = retrieval_measures(image, text, groups)
    expected = dict(zip(recall.names, recall.score(np.ones((1, 18)))[0], strict=True))
    for way in ("i2t", "t2i"):
        for ours, theirs in (("r@1", "R@1"), ("r@5", "R@5"), ("r@10", "R@10"), ("mrr", "MRR")):
            assert found[f"{way}/{ours}"] == pytest.approx(expected[f"{way} {theirs}"])
    assert found["mrr"] == pytest.approx((found["i2t/mrr"] + found["t2i/mrr"]) / 2)
    assert task.best_by[0] in found


def test_the_validated_loss_is_that_of_one_batch_of_all_studies():
    task, given = ContrastiveTask(model(config())).eval(), batch(12)
    halves = [{key: value[rows] for key, value in given.items()} for rows in HALVES]
    assert task.evaluate(halves)["loss"] == pytest.approx(task(given)["loss"].item(), rel=1e-5)


HALVES = (slice(0, 6), slice(6, 12))


def test_a_gallery_of_one_and_broken_weights_have_no_recall():
    task = ContrastiveTask(model(config())).eval()
    assert np.isnan(task.evaluate([batch(1)])["mrr"])
    task.model.image_projection.bias.data.fill_(float("nan"))
    assert np.isnan(task.evaluate([batch(12)])["mrr"])


def test_a_model_that_says_the_same_of_all_finds_nothing():
    task = ContrastiveTask(model(config())).eval()
    task.model.image_projection.weight.data.zero_()
    found = task.evaluate([batch(12)])
    assert found["r@5"] < 0.5


def test_studies_that_can_be_told_apart_are_learned():
    torch.manual_seed(0)
    task, given = ContrastiveTask(model(config()), chunk=4).train(), batch(12)
    optimizer = torch.optim.AdamW(task.parameters(), 1e-2)
    for _ in range(90):
        optimizer.zero_grad()
        task(given)["loss"].backward()
        optimizer.step()
    found = task.eval().evaluate([given])
    assert found["r@1"] > 0.8
    assert found["loss"] < 0.5
